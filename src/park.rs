//! [`Context`]: who runs, and waits when a call cannot go on: its thread blocks, or its coroutine is suspended.
//!
//! Everything that waits does so in a loop that tries again: a park may end early, for no reason that concerns it.

mod home;
mod offload;
mod parker;

use std::cell::{Cell, OnceCell};
use std::io;
use std::os::fd::AsFd;
use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::deadline::{deadline, earlier, has_passed};
use crate::live::{Activity, CutFlag, Live, Parent};
use crate::readiness::Readiness;

pub use offload::offload;

pub(crate) use home::{Home, Sibling, Source, TaskId, Unparker, Work};
#[cfg(test)]
pub(crate) use home::{Listening, Told};
pub(crate) use parker::{Interest, Parker, TaskParker, poll, poll_flags};

/// I/O calls that succeed without waiting before the others of the thread get their turn. (tokio's number.)
const BUDGET: usize = 128;

/// Bytes that cost as much as a call: without this, one peer that sends much at a time would have the loop for itself for a
/// millisecond.
const BYTES_PER_CALL: usize = 1024;

thread_local! {
    /// What runs on this thread now: a request, a sibling of one, or (`None`) something else. A coroutine takes it away when it
    /// is suspended, and brings it back when it is resumed.
    static CURRENT: Cell<Option<Rc<Context>>> = const { Cell::new(None) };
}

/// What runs: where it waits, and which request it belongs to.
pub(crate) struct Context {
    pub(crate) parker: Parker,
    /// The request; set once it has begun. None on a thread that runs none. It does not keep the request's socket open.
    live: OnceCell<Weak<Live>>,
    /// Whether that has been cut off, for what it has spawned. None if this is the request itself, whose socket is the parker's own.
    parent_cut: OnceCell<CutFlag>,
    /// Its loop ends, and cuts off whatever is left there.
    cut: Cell<bool>,
    /// How the request's socket may be ready: a direction is taken out when the kernel had no more, and back in by a wait.
    pub(crate) ready: Cell<Readiness>,
    /// I/O calls that may still succeed without waiting before the others have their turn; long ones cost as much as several.
    budget: Cell<usize>,
}

/// The context of the caller. On a thread that runs no request, one that blocks it.
pub(crate) fn current() -> Rc<Context> {
    let current = replace_current(None).unwrap_or_else(|| Context::new(Parker::for_thread(None)));
    replace_current(Some(current.clone()));
    current
}

/// Runs `others`, who are in contexts of their own, in the middle of the caller's. A loop does so around its coroutines, and a coroutine
/// around its suspension: so neither ever sees the other's context, even where a loop runs in a coroutine of another loop.
#[inline]
pub(crate) fn step_aside<T>(others: impl FnOnce() -> T) -> T {
    let _mine = Restore(replace_current(None));
    others()
}

/// Brings a context back, also where a coroutine is unwound.
struct Restore(Option<Rc<Context>>);

impl Drop for Restore {
    fn drop(&mut self) {
        replace_current(self.0.take());
    }
}

/// Says who runs on this thread now, and returns who did before.
#[inline]
fn replace_current(context: Option<Rc<Context>>) -> Option<Rc<Context>> {
    // While a thread ends, its own may be gone already.
    CURRENT.try_with(|current| current.replace(context)).ok().flatten()
}

/// Waits for `duration`, wherever it is called: parks the coroutine, or blocks the thread. `Duration::ZERO` lets the other requests of
/// an event loop have their turn, as a long computation should now and then.
///
/// A handler that has its request at hand calls [`Request::sleep`](crate::Request::sleep), which heeds the request's deadline, too.
///
/// # Errors
///
/// `ConnectionAborted` if the caller's request is cut off meanwhile.
///
/// # Examples
///
/// ```
/// use std::io::{self, Write};
/// use std::time::Duration;
/// use socketserver::{EventLoopTcpServer, Request};
///
/// /// Sends a dot each second, while the handler waits for the answer.
/// fn patient(request: &mut Request) -> io::Result<()> {
///     let mut peer = request.sender()?;
///     let dots = socketserver::spawn(move || -> io::Result<()> {
///         loop {
///             socketserver::sleep(Duration::from_secs(1))?;
///             peer.write_all(b".")?;
///         }
///     })?;
///     // ..
/// #   drop(dots);
///     Ok(())
/// }
/// # let _ = EventLoopTcpServer::bind("127.0.0.1:0", patient)?;
/// # Ok::<(), io::Error>(())
/// ```
pub fn sleep(duration: Duration) -> io::Result<()> {
    let context = current();
    let until = deadline(Some(duration));
    if duration.is_zero() {
        context.yield_now();
    }
    context.wait_out(Activity::Sleeping, until)
}

impl Context {
    pub(crate) fn new(parker: Parker) -> Rc<Context> {
        Rc::new(Context {
            parker,
            live: OnceCell::new(),
            parent_cut: OnceCell::new(),
            cut: Cell::new(false),
            ready: Cell::new(Readiness::READ.with(Readiness::WRITE)),
            budget: Cell::new(BUDGET),
        })
    }

    /// Runs `call` in this context.
    pub(crate) fn enter<T>(self: &Rc<Context>, call: impl FnOnce() -> T) -> T {
        let _outer = Restore(replace_current(Some(self.clone())));
        call()
    }

    /// Says that this is a request.
    pub(crate) fn begin(&self, live: &Arc<Live>) {
        self.live.get_or_init(|| Arc::downgrade(live));
    }

    /// Says that this was spawned by a request, or by what that has spawned.
    pub(crate) fn belong_to(&self, Parent { live, cut }: Parent) {
        self.live.get_or_init(|| live);
        self.parent_cut.get_or_init(|| cut);
    }

    /// Whether this is a request, or was spawned by one: only then it may be cut off.
    pub(crate) fn belongs_to_request(&self) -> bool {
        self.live.get().is_some()
    }

    /// The request, for what is spawned here.
    pub(crate) fn parent(&self) -> Option<Parent> {
        match (self.live.get(), self.parent_cut.get()) {
            (Some(live), Some(cut)) => Some(Parent { live: live.clone(), cut: cut.clone() }),
            _ => self.live().map(|live| live.parent()),
        }
    }

    /// The request that this is, or belongs to; `None` also if that is over.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.get()?.upgrade()
    }

    /// Fails once the request, or its loop, has been cut off. A failure counts as a call: a caller that tries again all the same lets
    /// the others run.
    pub(crate) fn check(&self) -> io::Result<()> {
        let checked = match self.live() {
            Some(live) => {
                self.heed_end(&live);
                live.check()
            }
            None if self.cut.get() => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the event loop ends")),
            // It may be over, and have been cut off before.
            None => self.parent_cut.get().map_or(Ok(()), CutFlag::check),
        };
        checked.inspect_err(|_| self.spend(0))
    }

    /// Cuts the request off if its server's end leaves it no more time. The serving thread does that, unless it is busy with this very
    /// request: then a handler that never has to wait would go on for ever. (On a loop it lets the others run, and the server.)
    #[inline]
    pub(crate) fn heed_end(&self, live: &Live) {
        if live.is_draining() && matches!(self.parker, Parker::Thread(_)) {
            live.cut_if_late();
        }
    }

    /// Waits until unparked or until the deadline, or for less. If this is a request, `activity` is what it does meanwhile.
    pub(crate) fn park(&self, activity: Activity, until: Option<Instant>) -> io::Result<()> {
        self.wait(activity, None, until)
    }

    /// Waits for a moment to come.
    pub(crate) fn wait_out(&self, activity: Activity, until: Option<Instant>) -> io::Result<()> {
        loop {
            self.check()?;
            if has_passed(until) {
                return Ok(());
            }
            self.park(activity, until)?;
        }
    }

    /// Waits until `other` is ready, until unparked or until the deadline, or for less. On a loop, which watches the request's own
    /// socket alone, `other` has to be a [`Source`] that unparks this.
    pub(crate) fn wait(
        &self,
        activity: Activity,
        other: Option<Interest<'_>>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        let Some(live) = self.own_live() else {
            return self.wait_as(None, Readiness::NONE, other, until);
        };
        // A peer that is gone fails the request's own calls, but not those that wait for somebody else.
        let pending = live.flush_outbox().unwrap_or(Readiness::NONE);
        live.during(activity, || self.wait_as(Some(&live), pending, other, until))
    }

    /// The request, if this is one itself and not what it has spawned.
    fn own_live(&self) -> Option<Arc<Live>> {
        self.live().filter(|_| self.parent_cut.get().is_none())
    }

    /// Waits as the request itself, if there is one: also until its own socket is ready as `own` says. Whatever it waits for, what
    /// others have written to its peer goes out meanwhile, if the caller has flushed its outbox and waits for the rest.
    #[inline]
    pub(crate) fn wait_as(
        &self,
        live: Option<&Arc<Live>>,
        own: Readiness,
        other: Option<Interest<'_>>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        let own = live.filter(|_| own != Readiness::NONE).map(|live| (live.socket.as_fd(), own));
        let cut_at = live.and_then(|live| live.cut_at());
        // A request keeps its reference beside what else it needs.
        let uses = live.map_or([ptr::null(); 2], |live| [Arc::as_ptr(live).cast(), (&raw const *live).cast()]);
        let seen = self.parker.park(own, other, earlier(until, cut_at), uses)?;
        self.budget.set(BUDGET);
        self.learn(seen);
        if let Some(live) = live.filter(|_| cut_at.is_some()) {
            // The server's own thread does this, unless it is the one that waits here.
            live.cut_if_late();
        }
        Ok(())
    }

    /// Counts an I/O call that did not have to wait, and after many of them, or many bytes, lets the others of this thread run,
    /// where there are others.
    #[inline]
    pub(crate) fn spend(&self, bytes: usize) {
        match self.budget.get().checked_sub(1 + bytes / BYTES_PER_CALL) {
            Some(left) => self.budget.set(left),
            None => {
                self.budget.set(BUDGET);
                self.yield_now();
            }
        }
    }

    /// Lets the others of this thread run, where there are others.
    pub(crate) fn yield_now(&self) {
        // It fails while panicking: then the caller just goes on.
        if let Ok(seen) = self.parker.yield_now() {
            self.learn(seen);
        }
    }

    /// Takes in what happened meanwhile.
    #[inline]
    fn learn(&self, seen: Readiness) {
        self.ready.set(self.ready.get().with(seen));
        if seen.has(Readiness::CUT) {
            self.cut.set(true);
            if let Some(live) = self.live() {
                live.cut();
            }
        }
    }
}
