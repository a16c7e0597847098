//! [`Rival`]: another server to compare with.

use std::fmt;
use std::sync::Arc;

use crate::server::Launch;
use crate::transport::Transport;

/// A program that serves the cases as the crate's backends do. Its first line of output must say where it listens:
/// `listening on tcp://IP:PORT` (or `udp`, or `unix` with a path).
#[derive(Clone)]
pub struct Rival {
    name: String,
    launch: Arc<dyn Fn(Transport) -> Result<Launch, String>>,
}

impl Rival {
    /// `launch` says how to start it for a transport; or why it cannot serve that, or is not installed.
    pub fn new(name: impl Into<String>, launch: impl Fn(Transport) -> Result<Launch, String> + 'static) -> Self {
        Self { name: name.into(), launch: Arc::new(launch) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn launch(&self, transport: Transport) -> Result<Launch, String> {
        (self.launch)(transport)
    }
}

impl fmt::Debug for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rival").field("name", &self.name).finish_non_exhaustive()
    }
}
