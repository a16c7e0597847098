//! What both directions and both kinds of request share: the deadlines, and the one place where I/O waits.
//!
//! Every message passes through here. After each system call the processor has to fetch this code again, so the path of a message is
//! kept short, here and further on (`stream`, `park`, `coroutine`): what is on it is `#[inline]`, what is off it is `#[cold]`. Without
//! that, an echo of 64 bytes costs 4 % more.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::{deadline, earlier};
use crate::live::{Activity, Live, Socket};
use crate::park::Context;
use crate::readiness::Readiness;
use crate::socket::Blocking;

pub(super) struct Core {
    pub(super) live: Arc<Live>,
    context: Rc<Context>,
    pub(super) read_timeout: Cell<Option<Duration>>,
    pub(super) write_timeout: Cell<Option<Duration>>,
    /// The timeout of a read that begins between two messages, if that is another one.
    pub(super) idle_timeout: Cell<Option<Duration>>,
    /// The deadline of the whole request.
    pub(super) deadline: Cell<Option<Instant>>,
    /// The handler has read something that it has not answered: a drain waits for it.
    pub(super) busy: Cell<bool>,
    /// The handler has said that it is busy, and has not written since: it stays busy even while it waits for a frame.
    pub(super) held_busy: Cell<bool>,
    /// The peer has ended its direction.
    pub(super) at_end: Cell<bool>,
    /// The handler has asked for the descriptor, of which it may have made a copy.
    pub(super) lent: Cell<bool>,
}

impl Core {
    pub(super) fn new(live: Arc<Live>, context: Rc<Context>) -> Core {
        Core {
            live,
            context,
            read_timeout: Cell::new(None),
            write_timeout: Cell::new(None),
            idle_timeout: Cell::new(None),
            deadline: Cell::new(None),
            busy: Cell::new(false),
            held_busy: Cell::new(false),
            at_end: Cell::new(false),
            lent: Cell::new(false),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.live.socket.as_fd()
    }

    /// The handler is between two messages: it has said so, or has written.
    #[inline]
    pub(super) fn set_idle(&self) {
        self.busy.set(false);
        self.held_busy.set(false);
    }

    /// The handler has said that it is in the middle of a message.
    pub(super) fn set_busy(&self) {
        self.busy.set(true);
        self.held_busy.set(true);
    }

    /// The handler reads frames, and waits for one (`between`) or has begun one. A message may be several.
    pub(super) fn set_between_frames(&self, between: bool) {
        self.busy.set(!between || self.held_busy.get());
    }

    /// Says whether this thread may block at a message boundary. One that parks sees a drain by itself.
    pub(super) fn say_idle(&self, idle: bool) {
        if self.context.parker.may_block() {
            self.live.set_idle(idle);
        }
    }

    /// Forgets that the kernel had no more: the next attempt asks.
    pub(super) fn expect_ready(&self, direction: Readiness) {
        self.context.ready.set(self.context.ready.get().with(direction));
    }

    /// Remembers that the kernel has no more: the next attempt waits first.
    fn exhausted(&self, direction: Readiness) {
        self.context.ready.set(self.context.ready.get().without(direction));
    }

    /// Begins a read or a write, which may take several attempts.
    #[inline]
    pub(super) fn attempt(&self, direction: Readiness) -> Attempt<'_> {
        let timeout = match direction {
            Readiness::READ if !self.busy.get() => self.idle_timeout.get().or(self.read_timeout.get()),
            Readiness::READ => self.read_timeout.get(),
            _ => self.write_timeout.get(),
        };
        Attempt { core: self, direction, timeout, until: None }
    }

    /// Lets others write to the peer while the handler waits.
    pub(super) fn open_outbox(&self) -> io::Result<()> {
        if let Socket::Connection(_) = self.live.socket {
            self.context.parker.watch_unpark()?;
            self.live.open_outbox();
        }
        Ok(())
    }

    pub(super) fn sleep(&self, duration: Duration) -> io::Result<()> {
        let wake_at = deadline(Some(duration));
        if duration.is_zero() {
            self.context.yield_now();
        }
        self.wait_out(Activity::Sleeping, wake_at)
    }

    /// Waits for a moment to come, which fails at the request's deadline if that is earlier.
    pub(super) fn wait_out(&self, activity: Activity, until: Option<Instant>) -> io::Result<()> {
        loop {
            self.check()?;
            let now = Instant::now();
            if until.is_some_and(|until| now >= until) {
                return Ok(());
            }
            self.check_deadline(now)?;
            self.park(activity, Readiness::NONE, earlier(until, self.deadline.get()))?;
        }
    }

    pub(super) fn offload<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        self.check()?;
        // Also where the work runs in place, so that nothing below would wait and check.
        if self.deadline.get().is_some() {
            self.check_deadline(Instant::now())?;
        }
        let result = self.context.begin_offload(work)?;
        loop {
            if let Some(value) = result.take()? {
                return Ok(value);
            }
            self.live.check()?;
            self.check_deadline(Instant::now())?;
            self.park(Activity::Offloading, Readiness::NONE, self.deadline.get())?;
        }
    }

    /// Passes on the result of a call that the handler made. A failure costs as much as a success: otherwise a handler that ignores
    /// errors and tries again would never let the others run, and could not be unwound.
    pub(super) fn or_spend<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|_| self.spend(0))
    }

    /// The one place where a request waits for its own socket or its own time. Returns early for any reason; the caller tries
    /// again.
    #[inline]
    fn park(&self, activity: Activity, interest: Readiness, until: Option<Instant>) -> io::Result<()> {
        let mut interest = interest;
        if self.live.has_output() {
            interest = interest.with(self.live.flush_outbox()?);
            if !self.live.has_output() {
                // All of it is out. No event would tell a caller that waits for just that.
                return Ok(());
            }
        }
        self.live.set_activity(activity);
        let waited = self.context.wait_as(Some(&self.live), interest, None, until);
        self.live.set_activity(Activity::Running);
        waited
    }

    /// Fails once the request has been cut off, which the end of its server may do here.
    pub(super) fn check(&self) -> io::Result<()> {
        self.context.heed_end(&self.live);
        self.live.check()
    }

    fn check_deadline(&self, now: Instant) -> io::Result<()> {
        match self.deadline.get() {
            Some(deadline) if now >= deadline => Err(timed_out("the request's deadline has passed")),
            _ => Ok(()),
        }
    }

    /// Counts a call that did not have to wait.
    pub(super) fn spend(&self, bytes: usize) {
        self.context.spend(bytes);
    }
}

/// One read or write of the handler: tries, and between two tries waits until the call's timeout or the request's deadline.
pub(super) struct Attempt<'a> {
    core: &'a Core,
    direction: Readiness,
    timeout: Option<Duration>,
    /// When to give up, once that is known: a call that need not wait need not ask for the time.
    until: Option<Option<Instant>>,
}

impl Attempt<'_> {
    /// Gives the attempt `timeout`, if its call has none.
    pub(super) fn or_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = self.timeout.or(Some(timeout));
        self
    }

    /// Gives the attempt `timeout` from now on, whatever its call's timeout is.
    pub(super) fn limit(&mut self, timeout: Duration) {
        self.until = Some(deadline(Some(timeout)));
    }

    /// How the next system call may be made; `None` if it would have to wait, as far as is known. Blocking in the call itself is the
    /// cheapest way to wait, where nothing else is waited for.
    #[inline]
    pub(super) fn next_call(&self) -> Option<Blocking> {
        let core = self.core;
        // A drain wants to know for sure: what has arrived is served, even if its event has not.
        let draining = core.live.is_draining();
        if draining {
            core.context.heed_end(&core.live);
        }
        let bounded = self.timeout.is_some() || core.deadline.get().is_some() || draining;
        if !bounded && core.context.parker.may_block() {
            return Some(Blocking::Yes);
        }
        (draining || core.context.ready.get().has(self.direction)).then_some(Blocking::No)
    }

    /// Makes one system call of the attempt. `None` if it would have to wait. A result shorter than `wanted` means that the
    /// kernel has no more for now.
    #[inline]
    pub(super) fn call(
        &mut self,
        wanted: usize,
        blocking: Blocking,
        operation: impl FnOnce(BorrowedFd<'_>, Blocking) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        let core = self.core;
        core.live.check()?;
        if blocking == Blocking::Yes {
            core.live.set_activity(self.activity());
        }
        let result = operation(core.fd(), blocking);
        if blocking == Blocking::Yes {
            core.live.set_activity(Activity::Running);
        }
        match result {
            Ok(done) => {
                // After the peer's end no event announces what is still to read, so that must be tried to the end.
                if done < wanted && !core.context.ready.get().has(Readiness::CLOSED) {
                    core.exhausted(self.direction);
                }
                core.spend(done);
                Ok(Some(done))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                core.exhausted(self.direction);
                Ok(None)
            }
            Err(error) => core.live.unless_cut(Err(error)),
        }
    }

    /// Waits for the next try.
    ///
    /// # Errors
    ///
    /// `TimedOut` when the time is over; `ConnectionAborted` when the request was cut off.
    #[inline]
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let first = self.until.is_none();
        let until = match self.check() {
            Err(error) if first => return self.try_without_waiting(error),
            until => until?,
        };
        self.core.park(self.activity(), self.direction, until)?;
        self.core.live.check()
    }

    /// There never was time to wait. But no event tells of what has come since the kernel had no more, so it is asked once: what need not
    /// wait does not fail.
    #[cold]
    fn try_without_waiting(&self, error: io::Error) -> io::Result<()> {
        if error.kind() != io::ErrorKind::TimedOut {
            return Err(error);
        }
        self.core.expect_ready(self.direction);
        Ok(())
    }

    fn activity(&self) -> Activity {
        if self.direction == Readiness::READ { Activity::Reading } else { Activity::Writing }
    }

    /// Fails if the attempt is to be given up, and says when it will be.
    #[inline]
    pub(super) fn check(&mut self) -> io::Result<Option<Instant>> {
        let until = match self.until {
            Some(until) => until,
            None => *self.until.insert(earlier(deadline(self.timeout), self.core.deadline.get())),
        };
        self.core.live.check()?;
        if let Some(until) = until {
            self.check_time(until)?;
        }
        Ok(until)
    }

    /// Fails if it is later than `until`.
    fn check_time(&self, until: Instant) -> io::Result<()> {
        let now = Instant::now();
        if now < until {
            return Ok(());
        }
        self.core.check_deadline(now)?;
        let timeout = match self.direction {
            Readiness::READ if !self.core.busy.get() && self.core.idle_timeout.get().is_some() => "idle",
            Readiness::READ => "read",
            _ => "write",
        };
        Err(timed_out(&format!("the {timeout} timeout has passed")))
    }
}

#[cold]
fn timed_out(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, message)
}
