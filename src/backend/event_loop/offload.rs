//! [`Offload`]: threads for work that may block.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::backend::threads::Threads;
use crate::catch::{Failed, catch};
use crate::lock::lock;
use crate::park::Work;

/// A bounded pool of threads, each started when work comes and none of the others is idle.
pub(super) struct Offload {
    max: usize,
    threads: Mutex<Threads>,
    /// The work, of which each request has one piece at the most. `None` once closed.
    queue: Mutex<Option<Sender<Work>>>,
    waiting: Receiver<Work>,
    /// Pieces of work that are queued or being done.
    pending: Arc<AtomicUsize>,
}

impl Offload {
    pub(super) fn new(max: usize) -> Offload {
        let (queue, waiting) = unbounded();
        Offload {
            max,
            threads: Mutex::new(Threads::new("offload", None)),
            queue: Mutex::new(Some(queue)),
            waiting,
            pending: Arc::default(),
        }
    }

    /// Runs `work` on a thread of the pool, as soon as one is free.
    ///
    /// # Errors
    ///
    /// The system's, if there is no thread yet and none can be started; `BrokenPipe` once the pool is closed.
    pub(super) fn submit(&self, work: Work) -> io::Result<()> {
        self.start_thread()?;
        let queue = lock(&self.queue);
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "the server is closed");
        queue.as_ref().ok_or_else(closed)?.send(work).map_err(|_| closed())
    }

    /// Lets the threads end when the queue is empty, waits for that until then, and says how many are still busy.
    pub(super) fn close(&self, until: Option<Instant>) -> usize {
        *lock(&self.queue) = None;
        lock(&self.threads).join(until)
    }

    /// Counts a piece of work in, and starts a thread for it if none is idle and there may be another. (Looking for idle threads
    /// instead would miss that one is about to take what was queued just before, and this would wait behind that.)
    fn start_thread(&self) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        let pending = self.pending.fetch_add(1, SeqCst) + 1;
        if pending <= threads.len() || threads.len() >= self.max {
            return Ok(());
        }
        let (waiting, pending) = (self.waiting.clone(), self.pending.clone());
        let started = threads.spawn(move || {
            for work in &waiting {
                // It catches the work's own panics, but nobody may be left to take its result, and then that is dropped here.
                if let Err(Failed { error, .. }) = catch(work) {
                    log::error!("the result of offloaded work panicked when it was dropped: {error}");
                }
                pending.fetch_sub(1, SeqCst);
            }
        });
        match started {
            Err(error) if threads.len() == 0 => {
                self.pending.fetch_sub(1, SeqCst);
                Err(error)
            }
            // Without a thread of its own, the threads that there are will come to it.
            _ => Ok(()),
        }
    }
}
