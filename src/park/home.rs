//! [`Home`]: what runs those who park, and how they are woken.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use super::Parker;
use crate::lock::lock;
use crate::readiness::Readiness;

/// Ends the park of one request, from anywhere. If it is not parked, its next park ends early; if it is over, nothing
/// happens.
#[derive(Clone)]
pub(crate) struct Unparker {
    home: Arc<dyn Home>,
    task: TaskId,
}

impl Unparker {
    pub(crate) fn new(home: Arc<dyn Home>, task: TaskId) -> Unparker {
        Unparker { home, task }
    }

    pub(crate) fn unpark(&self) {
        self.home.unpark(self.task);
    }

    pub(crate) fn home(&self) -> &Arc<dyn Home> {
        &self.home
    }
}

impl PartialEq for Unparker {
    fn eq(&self, other: &Unparker) -> bool {
        Arc::ptr_eq(&self.home, &other.home) && self.task == other.task
    }
}

/// What runs parked requests: a thread that runs one, or a loop that runs many.
pub(crate) trait Home: Send + Sync {
    /// Ends the park of `task`, if that still exists.
    fn unpark(&self, task: TaskId);

    /// Runs `work` on a thread that may block.
    fn offload(&self, work: Work) -> io::Result<()>;

    /// Runs `sibling` beside the caller: on a thread of its own, or on a coroutine of the same loop.
    fn spawn(&self, sibling: Box<dyn Sibling>) -> io::Result<()>;

    /// Tells whoever waits on `source` when `socket` becomes ready, until [`forget`](Home::forget) is given the key. A thread
    /// waits for sockets by itself: it needs no telling, and gives no key.
    fn watch(&self, socket: BorrowedFd<'_>, source: &Arc<Source>) -> io::Result<Option<usize>>;

    /// Takes back a [`watch`](Home::watch).
    fn forget(&self, socket: BorrowedFd<'_>, key: usize);
}

/// Work that may block, for a thread.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// What runs beside a request.
pub(crate) trait Sibling: Send {
    /// Runs it where `parker` waits. (A closure in a box would keep the box until it returns.)
    fn run(self: Box<Self>, parker: Parker);
}

/// A socket beside a request's own, as a loop tells of it: whom to unpark when it becomes ready.
#[derive(Default)]
pub(crate) struct Source {
    waiting: Mutex<Vec<(Readiness, Unparker)>>,
}

impl Source {
    /// Unparks `unparker` whenever the socket becomes ready as `interest` says, until what this returns is dropped.
    pub(crate) fn wait(&self, interest: Readiness, unparker: Unparker) -> Waits<'_> {
        lock(&self.waiting).push((interest, unparker.clone()));
        Waits { source: self, unparker }
    }

    /// The socket has become ready.
    pub(crate) fn wake(&self, seen: Readiness) {
        for (_, unparker) in lock(&self.waiting).iter().filter(|(interest, _)| interest.has(seen)) {
            unparker.unpark();
        }
    }
}

/// Somebody who waits for a [`Source`], also if that ends by being unwound.
pub(crate) struct Waits<'a> {
    source: &'a Source,
    unparker: Unparker,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.source.waiting);
        if let Some(index) = waiting.iter().position(|(_, other)| *other == self.unparker) {
            waiting.swap_remove(index);
        }
    }
}

/// A coroutine's name within its loop. It is given again after four billion others at the earliest; a task that is woken by mistake
/// tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId(pub(crate) u64);

/// A home for tests, which passes on what it is told.
#[cfg(test)]
pub(crate) struct Listening<F>(pub(crate) F);

#[cfg(test)]
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    Unpark,
    Watch,
    Forget(usize),
}

#[cfg(test)]
impl<F: Fn(Told) + Send + Sync> Home for Listening<F> {
    fn unpark(&self, _: TaskId) {
        (self.0)(Told::Unpark);
    }

    fn offload(&self, _: Work) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn spawn(&self, _: Box<dyn Sibling>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn watch(&self, _: BorrowedFd<'_>, _: &Arc<Source>) -> io::Result<Option<usize>> {
        (self.0)(Told::Watch);
        Ok(Some(7))
    }

    fn forget(&self, _: BorrowedFd<'_>, key: usize) {
        (self.0)(Told::Forget(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_no_longer_waits_is_forgotten() {
        let (source, unparker) = (Source::default(), Parker::for_thread(None).unparker());
        let waits = source.wait(Readiness::READ, unparker.clone());
        source.wake(Readiness::READ);
        assert_eq!(lock(&source.waiting).len(), 1);
        drop(waits);
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _waits = source.wait(Readiness::READ, unparker);
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(unwound.is_err() && lock(&source.waiting).is_empty());
    }
}
