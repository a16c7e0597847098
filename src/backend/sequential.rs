//! [`Sequential`]: one request at a time.

use super::Backend;
use crate::job::Job;

/// Runs each request on the serving thread, and accepts the next one when it has ended.
///
/// * Costs nothing per request beyond its own I/O; an idle connection costs everything, since nobody else is served.
/// * Wrong as soon as two clients come at a time and one of them is slow.
/// * As CPython's plain `TCPServer` and `UDPServer`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequential;

impl Backend for Sequential {
    fn process_request(&mut self, job: Job) {
        job.run();
    }
}
