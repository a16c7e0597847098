//! [`ForkingStyle`]: a fixed number of workers.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::threads::Threads;
use super::{Backend, Sources};
use crate::catch::catch;
use crate::job::Job;
use crate::waker::Waker;

/// Runs requests on worker threads that are started when the server is activated: as many at a time as there are workers.
///
/// * Costs a hand-over per request, a few microseconds, and no thread start; an idle connection holds a worker.
/// * Wrong for connections that stay open: the 41st client waits in the kernel's queue until one of the first 40 has gone, which the log
///   says on level `info`.
/// * As CPython's `ForkingMixIn`, with its names and its limit of 40, on threads: what runs at a time is bounded. But they are no
///   processes: handlers share memory, environment and working directory, and one that ends the process ends the server. A worker
///   outlives whatever its handlers do, panics included, so that there are no children to collect.
#[doc(alias = "ForkingMixIn")]
pub struct ForkingStyle {
    max_children: usize,
    workers: Threads,
    /// The jobs, of which there are never more than workers: so it needs no bound, for which memory would be taken at once. `None` until
    /// activated.
    jobs: Option<(Sender<Job>, Receiver<Job>)>,
    active: Arc<AtomicUsize>,
}

impl Default for ForkingStyle {
    fn default() -> ForkingStyle {
        ForkingStyle::new(40)
    }
}

impl ForkingStyle {
    /// A pool of `max_children` workers, at least one. The default is 40.
    pub fn new(max_children: usize) -> ForkingStyle {
        ForkingStyle {
            max_children: max_children.max(1),
            workers: Threads::new("worker", None),
            jobs: None,
            active: Arc::default(),
        }
    }

    /// Bytes of a worker's stack: std's default, 2 MiB, unless set.
    pub fn stack_size(mut self, bytes: usize) -> ForkingStyle {
        self.workers = Threads::new("worker", Some(bytes));
        self
    }

    /// The number of workers.
    pub fn max_children(&self) -> usize {
        self.max_children
    }

    /// The number of workers that run a request.
    pub fn active_children(&self) -> usize {
        self.active.load(SeqCst)
    }
}

impl Backend for ForkingStyle {
    fn activate(&mut self, sources: &Sources<'_>) -> io::Result<()> {
        let (_, jobs) = self.jobs.get_or_insert_with(unbounded);
        while self.workers.len() < self.max_children {
            let worker = Worker {
                jobs: jobs.clone(),
                active: self.active.clone(),
                max: self.max_children,
                waker: sources.waker().clone(),
            };
            self.workers.spawn(move || worker.run())?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.active_children() < self.max_children
    }

    fn process_request(&mut self, job: Job) {
        let Some((jobs, _)) = &self.jobs else { return };
        self.active.fetch_add(1, SeqCst);
        // There is a free worker (`has_room`), and the channel is never full, so this neither waits nor fails.
        if jobs.try_send(job).is_err() {
            self.active.fetch_sub(1, SeqCst);
        }
    }

    fn server_close(&mut self, until: Option<Instant>) -> usize {
        // The workers end when nobody can send them a job.
        self.jobs = None;
        self.workers.join(until)
    }
}

impl fmt::Debug for ForkingStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForkingStyle")
            .field("max_children", &self.max_children)
            .field("active_children", &self.active_children())
            .finish_non_exhaustive()
    }
}

struct Worker {
    jobs: Receiver<Job>,
    active: Arc<AtomicUsize>,
    max: usize,
    waker: Arc<Waker>,
}

impl Worker {
    fn run(self) {
        for job in &self.jobs {
            // What a job leaves to panic is the program's logger. That costs neither the worker nor its place.
            let _ = catch(|| job.run());
            if self.active.fetch_sub(1, SeqCst) == self.max {
                // There was no room, and the server may be waiting for some.
                self.waker.wake();
            }
        }
    }
}
