//! [`Parker`]: where a request waits when a call cannot go on: its thread blocks, or its coroutine is suspended.
//!
//! Everything that waits does so in a loop that tries again: a park may end early, for no reason that concerns it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::coroutine::{Pause, Suspender};
use crate::readiness::Readiness;
use crate::waker::Waker;

/// Where a request waits.
pub(crate) enum Parker {
    Thread(Arc<ThreadHome>),
    Task(TaskParker),
}

impl Parker {
    /// A parker for the calling thread. With a `waker`, ringing that ends every park.
    pub(crate) fn for_thread(waker: Option<Arc<Waker>>) -> Parker {
        let home = ThreadHome { thread: thread::current(), waker: OnceLock::new() };
        if let Some(waker) = waker {
            home.waker.get_or_init(|| waker);
        }
        Parker::Thread(Arc::new(home))
    }

    /// Whether a system call may block, being the cheaper way to wait where nothing else is waited for.
    pub(crate) fn may_block(&self) -> bool {
        match self {
            Parker::Thread(home) => home.waker.get().is_none(),
            Parker::Task(_) => false,
        }
    }

    /// Waits until `socket` is ready as `interest` says, until the deadline, or until unparked. Without a socket, for the
    /// latter two. Returns what is known to be ready, which may be nothing.
    pub(crate) fn park(
        &self,
        socket: Option<BorrowedFd<'_>>,
        interest: Readiness,
        until: Option<Instant>,
    ) -> io::Result<Readiness> {
        match self {
            Parker::Thread(home) => home.park(socket, interest, until),
            Parker::Task(task) => {
                let interest = if socket.is_some() { interest } else { Readiness::NONE };
                task.suspender.suspend(Pause::Park { interest, until })
            }
        }
    }

    /// Lets the others of this thread run, where there are others.
    pub(crate) fn yield_now(&self) -> io::Result<Readiness> {
        match self {
            Parker::Thread(_) => Ok(Readiness::NONE),
            Parker::Task(task) => task.suspender.suspend(Pause::Yield),
        }
    }

    /// Makes sure that [`Unparker::unpark`] ends a park that waits for a socket, too.
    pub(crate) fn watch_unpark(&self) -> io::Result<()> {
        if let Parker::Thread(home) = self {
            if home.waker.get().is_none() {
                let waker = Arc::new(Waker::new()?);
                home.waker.get_or_init(|| waker);
            }
        }
        Ok(())
    }

    /// Runs `work` where it may block: here on a thread, on the loop's pool for a coroutine. There it returns at once, and
    /// the work unparks this request when it is done.
    pub(crate) fn offload(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        match self {
            Parker::Thread(_) => work(),
            Parker::Task(task) => task.home.offload(work)?,
        }
        Ok(())
    }

    pub(crate) fn unparker(&self) -> Unparker {
        match self {
            Parker::Thread(home) => Unparker { home: home.clone(), task: TaskId(0) },
            Parker::Task(task) => Unparker { home: task.home.clone(), task: task.id },
        }
    }
}

/// Ends the park of one request, from anywhere. If it is not parked, its next park ends early; if it is over, nothing
/// happens.
#[derive(Clone)]
pub(crate) struct Unparker {
    home: Arc<dyn Home>,
    task: TaskId,
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        self.home.unpark(self.task);
    }
}

/// What runs parked requests: a thread that runs one, or a loop that runs many.
pub(crate) trait Home: Send + Sync {
    /// Ends the park of `task`, if that still exists.
    fn unpark(&self, task: TaskId);

    /// Runs `work` on a thread that may block.
    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;
}

/// A coroutine's name within its loop. It is never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId(pub(crate) u64);

/// The parker of a coroutine.
pub(crate) struct TaskParker {
    pub(crate) suspender: Suspender,
    pub(crate) home: Arc<dyn Home>,
    pub(crate) id: TaskId,
}

/// The parker of a thread that runs one request.
pub(crate) struct ThreadHome {
    thread: Thread,
    /// Set once parks must be interruptible while they wait for a socket; it then takes part in every wait.
    waker: OnceLock<Arc<Waker>>,
}

impl ThreadHome {
    fn park(
        &self,
        socket: Option<BorrowedFd<'_>>,
        interest: Readiness,
        until: Option<Instant>,
    ) -> io::Result<Readiness> {
        let waker = self.waker.get();
        match (socket, waker) {
            (None, None) => {
                match until {
                    Some(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
                    None => thread::park(),
                }
                Ok(Readiness::NONE)
            }
            (Some(socket), None) => {
                let mut fds = [poll_fd(&socket, interest)];
                poll(&mut fds, until)?;
                Ok(readiness(&fds[0]))
            }
            (None, Some(waker)) => {
                poll(&mut [PollFd::new(waker, PollFlags::IN)], until)?;
                waker.reset();
                Ok(Readiness::NONE)
            }
            (Some(socket), Some(waker)) => {
                let mut fds = [poll_fd(&socket, interest), PollFd::new(waker, PollFlags::IN)];
                poll(&mut fds, until)?;
                if !fds[1].revents().is_empty() {
                    waker.reset();
                }
                Ok(readiness(&fds[0]))
            }
        }
    }
}

impl Home for ThreadHome {
    fn unpark(&self, _: TaskId) {
        match self.waker.get() {
            Some(waker) => waker.wake(),
            None => self.thread.unpark(),
        }
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        work();
        Ok(())
    }
}

fn poll_fd<'a>(socket: &'a BorrowedFd<'_>, interest: Readiness) -> PollFd<'a> {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, interest.has(Readiness::READ));
    flags.set(PollFlags::OUT, interest.has(Readiness::WRITE));
    PollFd::new(socket, flags)
}

/// Waits until one of `fds` is ready or the deadline has passed.
pub(crate) fn poll(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    // A deadline beyond what poll can say is none.
    let timeout = until.and_then(|until| Timespec::try_from(until.saturating_duration_since(Instant::now())).ok());
    match rustix::event::poll(fds, timeout.as_ref()) {
        // An interrupted wait ends early, as any may.
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn readiness(fd: &PollFd<'_>) -> Readiness {
    let seen = fd.revents();
    let mut readiness = Readiness::NONE;
    if seen.intersects(PollFlags::IN) {
        readiness = readiness.with(Readiness::READ);
    }
    if seen.intersects(PollFlags::OUT) {
        readiness = readiness.with(Readiness::WRITE);
    }
    if seen.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
        readiness = readiness.with(Readiness::READ).with(Readiness::WRITE).with(Readiness::CLOSED);
    }
    readiness
}

/// The moment `timeout` from now; `None` if that is never, or beyond what the clock can say.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    let timeout = timeout?;
    Instant::now().checked_add(timeout)
}

/// The earlier of two deadlines, of which none is the latest.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
