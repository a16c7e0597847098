//! [`Threads`]: the threads that a backend has started, and the one place where they are joined.

use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use slab::Slab;

use crate::map_entries::MapEntries;

/// Threads that have been started and not been joined yet.
pub(super) struct Threads {
    /// What they are called, as debuggers and `top -H` show it; a number follows.
    name: &'static str,
    /// Bytes of their stacks; `None` is std's default, 2 MiB.
    stack_size: Option<usize>,
    started: usize,
    handles: Slab<JoinHandle<()>>,
    /// Each thread sends its key when it ends. Holds no more than there are threads.
    ended: (Sender<usize>, Receiver<usize>),
}

impl Threads {
    pub(super) fn new(name: &'static str, stack_size: Option<usize>) -> Threads {
        Threads { name, stack_size, started: 0, handles: Slab::new(), ended: unbounded() }
    }

    /// Threads that run, as far as is known.
    pub(super) fn len(&self) -> usize {
        self.handles.len()
    }

    /// Starts a thread, after joining those that have ended: so they do not pile up where nobody takes turns and reaps.
    ///
    /// # Errors
    ///
    /// The system's, if it has no room for another, and `OutOfMemory` if it would have none next; `body` is dropped then.
    pub(super) fn spawn(&mut self, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.reap();
        let entries = MapEntries::take(MapEntries::OF_THREAD)?;
        let entry = self.handles.vacant_entry();
        let (key, ended) = (entry.key(), self.ended.0.clone());
        let mut builder = Builder::new().name(format!("{}-{}", self.name, self.started));
        if let Some(size) = self.stack_size {
            builder = builder.stack_size(size);
        }
        let handle = builder.spawn(move || {
            let (_end, _entries) = (End { key, ended }, entries);
            body();
        })?;
        entry.insert(handle);
        self.started += 1;
        Ok(())
    }

    /// Joins the threads that have ended.
    pub(super) fn reap(&mut self) {
        while let Ok(key) = self.ended.1.try_recv() {
            self.join_one(key);
        }
    }

    /// Joins the threads as they end, until all have or the time is over; `None` is never. Says how many are left.
    pub(super) fn join(&mut self, until: Option<Instant>) -> usize {
        while !self.handles.is_empty() {
            let ended = match until {
                Some(until) => self.ended.1.recv_deadline(until),
                None => self.ended.1.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match ended {
                Ok(key) => self.join_one(key),
                Err(_) => break,
            }
        }
        self.handles.len()
    }

    fn join_one(&mut self, key: usize) {
        if let Some(handle) = self.handles.try_remove(key) {
            // A panic has been reported where it happened.
            let _ = handle.join();
        }
    }
}

/// Announces the end of its thread, also if that panics.
struct End {
    key: usize,
    ended: Sender<usize>,
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.ended.send(self.key);
    }
}
