//! [`Threading`]: a thread for each request.

use std::fmt;
use std::time::Instant;

use super::Backend;
use super::threads::Threads;
use crate::job::Job;

/// Runs each request on a thread of its own.
///
/// * Costs a thread per request, some 15 to 30 microseconds to start; an idle connection costs a thread with its stack, of
///   which some 10 to 20 KiB are resident; up to 64 KiB more, the thread's read buffer, once as much has come in at a time.
/// * Wrong for tens of thousands of connections; [`max_connections`](crate::Server::max_connections) sets a bound. On Linux there may be
///   some 14,000 threads unless `vm.max_map_count` is raised, and whoever comes then is refused.
/// * As CPython's `ThreadingMixIn`.
#[doc(alias = "ThreadingMixIn")]
pub struct Threading {
    threads: Threads,
    block_on_close: bool,
    daemon_threads: bool,
}

impl Default for Threading {
    fn default() -> Threading {
        Threading { threads: Threads::new("request", None), block_on_close: true, daemon_threads: false }
    }
}

impl Threading {
    /// The backend, with the default of every option.
    pub fn new() -> Threading {
        Threading::default()
    }

    /// Bytes of a thread's stack: std's default, 2 MiB, unless set. Only what is touched becomes resident.
    pub fn stack_size(mut self, bytes: usize) -> Threading {
        self.threads = Threads::new("request", Some(bytes));
        self
    }

    /// Whether the end of serving, and closing the server, drain the requests in progress and wait for them: yes by default. If
    /// not, they go on by themselves, and [`is_draining`](crate::Request::is_draining) stays `false`.
    pub fn block_on_close(mut self, block: bool) -> Threading {
        self.block_on_close = block;
        self
    }

    /// Whether requests are on their own from the start: no by default. In Rust no thread keeps the process alive, so that this
    /// is the same as `block_on_close(false)`; it is there for those who know it by this name.
    pub fn daemon_threads(mut self, daemon: bool) -> Threading {
        self.daemon_threads = daemon;
        self
    }
}

impl Backend for Threading {
    fn process_request(&mut self, job: Job) {
        // Without a thread, the job is dropped, which refuses the request.
        if let Err(error) = self.threads.spawn(move || job.run()) {
            log::debug!("cannot start a thread: {error}");
        }
    }

    fn service_actions(&mut self) {
        self.threads.reap();
    }

    fn block_on_close(&self) -> bool {
        self.block_on_close && !self.daemon_threads
    }

    fn server_close(&mut self, until: Option<Instant>) -> usize {
        self.threads.reap();
        if Backend::block_on_close(self) { self.threads.join(until) } else { self.threads.len() }
    }
}

impl fmt::Debug for Threading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threading").field("block_on_close", &Backend::block_on_close(self)).finish_non_exhaustive()
    }
}
