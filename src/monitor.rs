//! [`Monitor`]: looks at a server while it serves.

use std::fmt;
use std::sync::Arc;

use crate::limits::Limits;
use crate::live::{LiveRequest, LiveSet};
use crate::stats::{Counters, Stats};

/// Looks at a server from any thread, while it serves: from [`Server::monitor`](crate::Server::monitor).
///
/// ```
/// use socketserver::{Request, ThreadingTcpServer};
///
/// let server = ThreadingTcpServer::bind("127.0.0.1:0", |_: &mut Request| Ok(()))?;
/// let monitor = server.monitor();
/// std::thread::spawn(move || {
///     println!("{} requests served", monitor.stats().completed);
///     for request in monitor.dump() {
///         println!("{request}");
///     }
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Monitor {
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
    pub(crate) live: Arc<LiveSet>,
}

impl Monitor {
    /// The counters, as they are now.
    pub fn stats(&self) -> Stats {
        self.counters.snapshot(self.limits.live())
    }

    /// The requests in progress, in no particular order. No request begins or ends while this looks.
    pub fn dump(&self) -> Vec<LiveRequest> {
        self.live.describe()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
