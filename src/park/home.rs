//! [`Home`]: what runs those who park, and how they are woken.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Parker;
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
    /// Unparks `unparker` when the socket becomes ready as `interest` says, once.
    pub(crate) fn wait(&self, interest: Readiness, unparker: Unparker) {
        let mut waiting = self.lock();
        waiting.retain(|(_, other)| *other != unparker);
        waiting.push((interest, unparker));
    }

    /// The socket has become ready.
    pub(crate) fn wake(&self, seen: Readiness) {
        self.lock().retain(|(interest, unparker)| {
            let concerned = interest.has(seen);
            if concerned {
                unparker.unpark();
            }
            !concerned
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Readiness, Unparker)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A coroutine's name within its loop. It is never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId(pub(crate) u64);
