//! [`Parker`]: how a thread waits, and how a coroutine does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::home::{Home, Sibling, Source, TaskId, Unparker, Work};
use crate::coroutine::{Pause, Suspender};
use crate::map_entries::MapEntries;
use crate::readiness::Readiness;
use crate::waker::{LateWaker, Waker};

/// A socket, and what is waited for there.
pub(crate) type Interest<'a> = (BorrowedFd<'a>, Readiness);

/// Where a request waits.
pub(crate) enum Parker {
    Thread(Arc<ThreadHome>),
    Task(TaskParker),
}

impl Parker {
    /// A parker for the calling thread. With a `waker`, ringing that ends every park.
    pub(crate) fn for_thread(waker: Option<Arc<Waker>>) -> Parker {
        let home = ThreadHome { thread: thread::current(), waker: LateWaker::default() };
        if let Some(waker) = waker {
            home.waker.set(waker);
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

    /// Waits until one of the sockets is ready, until the deadline, or until unparked. Returns how the request's `own` socket is
    /// known to be ready, which may be not at all. A coroutine does not watch the `other`; it is resumed a little faster if it says what it
    /// `uses` then.
    #[inline]
    pub(super) fn park(
        &self,
        own: Option<Interest<'_>>,
        other: Option<Interest<'_>>,
        until: Option<Instant>,
        uses: [*const (); 2],
    ) -> io::Result<Readiness> {
        match self {
            Parker::Thread(home) => home.park(own, other, until),
            Parker::Task(task) => {
                let interest = own.map_or(Readiness::NONE, |(_, interest)| interest);
                task.suspend(Pause::Park { interest, until }, uses)
            }
        }
    }

    /// Lets the others of this thread run, where there are others.
    pub(super) fn yield_now(&self) -> io::Result<Readiness> {
        match self {
            Parker::Thread(_) => Ok(Readiness::NONE),
            Parker::Task(task) => task.suspend(Pause::Yield, [ptr::null(); 2]),
        }
    }

    /// Makes sure that [`Unparker::unpark`] ends a park that waits for a socket, too. What it is to be unparked for must be looked at
    /// afterwards.
    pub(crate) fn watch_unpark(&self) -> io::Result<()> {
        if let Parker::Thread(home) = self {
            if home.waker.get().is_none() {
                home.waker.set(Arc::new(Waker::new()?));
            }
        }
        Ok(())
    }

    /// Runs `work` where it may block: here on a thread, on the loop's pool for a coroutine. There it returns at once, and
    /// the work unparks this request when it is done.
    pub(crate) fn offload(&self, work: Work) -> io::Result<()> {
        match self {
            Parker::Thread(home) => home.offload(work),
            Parker::Task(task) => task.home.offload(work),
        }
    }

    /// Wakes whoever parks here.
    pub(crate) fn unparker(&self) -> Unparker {
        match self {
            Parker::Thread(home) => Unparker::new(home.clone(), TaskId(0)),
            Parker::Task(task) => Unparker::new(Arc::clone(&task.home), task.id),
        }
    }
}

/// The parker of a coroutine.
pub(crate) struct TaskParker {
    pub(crate) suspender: Suspender,
    /// Shared by all tasks of a loop, each of which has but a thin pointer to it.
    pub(crate) home: Rc<Arc<dyn Home>>,
    pub(crate) id: TaskId,
}

impl TaskParker {
    /// Suspends the coroutine, while others of its thread run in contexts of their own. Then it `uses` what is at these places, and this.
    #[inline]
    fn suspend(&self, pause: Pause, uses: [*const (); 2]) -> io::Result<Readiness> {
        let [first, second] = uses;
        super::step_aside(|| self.suspender.suspend(pause, [first, (&raw const *self).cast(), second]))
    }
}

/// The parker of a thread that runs one request.
pub(crate) struct ThreadHome {
    thread: Thread,
    /// Set once parks must be interruptible while they wait for a socket; it then takes part in every wait.
    waker: LateWaker,
}

impl ThreadHome {
    fn park(
        &self,
        own: Option<Interest<'_>>,
        other: Option<Interest<'_>>,
        until: Option<Instant>,
    ) -> io::Result<Readiness> {
        let waker = self.waker.get();
        if own.is_none() && other.is_none() && waker.is_none() {
            match until {
                Some(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
            return Ok(Readiness::NONE);
        }
        // What is not there is polled for nothing, on a descriptor that is.
        let Some(any) = own.or(other).map(|(fd, _)| fd).or(waker.map(|waker| waker.as_fd())) else {
            return Ok(Readiness::NONE);
        };
        let ring = waker.map(|waker| (waker.as_fd(), Readiness::READ));
        let mut fds = [own, other, ring].map(|socket| {
            let (fd, interest) = socket.unwrap_or((any, Readiness::NONE));
            PollFd::from_borrowed_fd(fd, poll_flags(interest))
        });
        poll(&mut fds, until)?;
        if let Some(waker) = waker.filter(|_| !fds[2].revents().is_empty()) {
            waker.reset();
        }
        // Poll tells of the end of a descriptor also where nothing is asked.
        Ok(own.map_or(Readiness::NONE, |_| readiness(&fds[0])))
    }
}

impl Home for ThreadHome {
    fn unpark(&self, _: TaskId) {
        if !self.waker.ring() {
            self.thread.unpark();
        }
    }

    fn offload(&self, work: Work) -> io::Result<()> {
        work();
        Ok(())
    }

    fn spawn(&self, sibling: Box<dyn Sibling>) -> io::Result<()> {
        let entries = MapEntries::take(MapEntries::OF_THREAD)?;
        thread::Builder::new().name("sibling".to_string()).spawn(move || {
            let _entries = entries;
            sibling.run(Parker::for_thread(None));
        })?;
        Ok(())
    }

    fn watch(&self, _: BorrowedFd<'_>, _: &Arc<Source>) -> io::Result<Option<usize>> {
        Ok(None)
    }

    fn forget(&self, _: BorrowedFd<'_>, _: usize) {}
}

pub(crate) fn poll_flags(interest: Readiness) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, interest.has(Readiness::READ));
    flags.set(PollFlags::OUT, interest.has(Readiness::WRITE));
    flags
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Or each of its messages would cost a read more, that finds nothing, from then on.
    #[test]
    fn the_end_of_another_socket_is_not_that_of_the_requests_own() {
        let (other, _) = UnixStream::pair().unwrap();
        let parker = Parker::for_thread(None);
        let seen = parker.park(None, Some((other.as_fd(), Readiness::READ)), None, [ptr::null(); 2]).unwrap();
        assert_eq!(seen, Readiness::NONE);
    }
}
