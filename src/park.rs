//! [`Parker`]: where a request waits when a call cannot go on: its thread blocks, or its coroutine is suspended.
//!
//! Everything that waits does so in a loop that tries again: a park may end early, for no reason that concerns it.

use std::cell::{Cell, OnceCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::coroutine::{Pause, Suspender};
use crate::live::Live;
use crate::readiness::Readiness;
use crate::waker::Waker;

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
    /// Whether this is the request itself, whose socket is the parker's own, and not what it has spawned.
    owner: Cell<bool>,
    /// How the request's socket may be ready: a direction is taken out when the kernel had no more, and back in by a wait.
    pub(crate) ready: Cell<Readiness>,
}

/// The context of the caller. On a thread that runs no request, one that blocks it.
pub(crate) fn current() -> Rc<Context> {
    let current = CURRENT.take().unwrap_or_else(|| Context::new(Parker::for_thread(None)));
    CURRENT.set(Some(current.clone()));
    current
}

/// Runs work where it may block, and waits for its result: in place on a thread, on the loop's pool for a coroutine. If the work
/// panics, so does this.
///
/// # Errors
///
/// `ConnectionAborted` if the request is cut off meanwhile; the system's, if there is no thread to be had.
pub(crate) fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let context = current();
    let result = context.begin_offload(work)?;
    loop {
        if let Some(value) = result.take()? {
            return Ok(value);
        }
        context.check()?;
        context.park(None)?;
    }
}

/// The result of offloaded work, once there is one.
pub(crate) struct Offloaded<T>(crossbeam_channel::Receiver<thread::Result<T>>);

impl<T> Offloaded<T> {
    /// The result; `None` if the work is not done.
    pub(crate) fn take(&self) -> io::Result<Option<T>> {
        match self.0.try_recv() {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(crossbeam_channel::TryRecvError::Empty) => Ok(None),
            Err(crossbeam_channel::TryRecvError::Disconnected) => {
                Err(io::Error::other("the offloaded work was dropped: its server is closing"))
            }
        }
    }
}

impl Context {
    pub(crate) fn new(parker: Parker) -> Rc<Context> {
        let (live, owner) = (OnceCell::new(), Cell::new(false));
        Rc::new(Context { parker, live, owner, ready: Cell::new(Readiness::READ.with(Readiness::WRITE)) })
    }

    /// Runs `call` in this context.
    pub(crate) fn enter<T>(self: &Rc<Context>, call: impl FnOnce() -> T) -> T {
        let outer = CURRENT.replace(Some(self.clone()));
        let result = call();
        CURRENT.set(outer);
        result
    }

    /// Says that this is a request.
    pub(crate) fn begin(&self, live: &Arc<Live>) {
        self.owner.set(true);
        self.live.get_or_init(|| Arc::downgrade(live));
    }

    /// Says that this belongs to a request.
    pub(crate) fn belong_to(&self, live: &Weak<Live>) {
        self.live.get_or_init(|| live.clone());
    }

    /// The request that this is, or belongs to; `None` also if that is over.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.get()?.upgrade()
    }

    /// Fails once the request has been cut off.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.live().map_or(Ok(()), |live| live.check())
    }

    /// Begins to run work where it may block. When it is done, it unparks this.
    pub(crate) fn begin_offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Offloaded<T>> {
        let (give, result) = crossbeam_channel::bounded(1);
        let unparker = self.parker.unparker();
        self.parker.offload(Box::new(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // Nobody listens if the request was cut off meanwhile.
            let _ = give.send(outcome);
            unparker.unpark();
        }))?;
        Ok(Offloaded(result))
    }

    /// Waits until unparked or until the deadline, or for less.
    pub(crate) fn park(&self, until: Option<Instant>) -> io::Result<()> {
        self.wait(None, until)
    }

    /// Waits until `other` is ready, until unparked or until the deadline, or for less. On a loop, which watches the request's own
    /// socket alone, `other` has to be a [`Source`] that unparks this.
    pub(crate) fn wait(&self, other: Option<Interest<'_>>, until: Option<Instant>) -> io::Result<()> {
        let live = self.live().filter(|_| self.owner.get());
        self.wait_as(live.as_deref(), Readiness::NONE, other, until)
    }

    /// Waits as the request itself, if there is one: also until its own socket is ready as `own` says. Whatever it waits for, what
    /// others have written to its peer goes out meanwhile.
    pub(crate) fn wait_as(
        &self,
        live: Option<&Live>,
        own: Readiness,
        other: Option<Interest<'_>>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        let pending = live.map_or(Ok(false), Live::flush_outbox)?;
        let own = if pending { own.with(Readiness::WRITE) } else { own };
        let own = live.filter(|_| own != Readiness::NONE).map(|live| (live.socket.as_fd(), own));
        let cut_at = live.and_then(Live::cut_at);
        let seen = self.parker.park(own, other, earlier(until, cut_at))?;
        self.learn(seen);
        if let (Some(live), Some(cut_at)) = (live, cut_at) {
            if Instant::now() >= cut_at {
                // The server's own thread does this, unless it is the one that waits here.
                live.cut_at_end();
            }
        }
        Ok(())
    }

    /// Lets the others of this thread run, where there are others.
    pub(crate) fn yield_now(&self) -> io::Result<()> {
        self.learn(self.parker.yield_now()?);
        Ok(())
    }

    /// Takes in what happened meanwhile.
    fn learn(&self, seen: Readiness) {
        self.ready.set(self.ready.get().with(seen));
        if seen.has(Readiness::CUT) {
            if let Some(live) = self.live() {
                live.cut();
            }
        }
    }
}

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

    /// Waits until one of the sockets is ready, until the deadline, or until unparked. Returns how the request's `own` socket is
    /// known to be ready, which may be not at all. A coroutine does not watch the `other`.
    fn park(
        &self,
        own: Option<Interest<'_>>,
        other: Option<Interest<'_>>,
        until: Option<Instant>,
    ) -> io::Result<Readiness> {
        match self {
            Parker::Thread(home) => home.park(own, other, until),
            Parker::Task(task) => {
                let interest = own.map_or(Readiness::NONE, |(_, interest)| interest);
                task.suspend(Pause::Park { interest, until })
            }
        }
    }

    fn yield_now(&self) -> io::Result<Readiness> {
        match self {
            Parker::Thread(_) => Ok(Readiness::NONE),
            Parker::Task(task) => task.suspend(Pause::Yield),
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
    pub(crate) fn offload(&self, work: Work) -> io::Result<()> {
        match self {
            Parker::Thread(_) => work(),
            Parker::Task(task) => task.home.offload(work)?,
        }
        Ok(())
    }

    pub(crate) fn unparker(&self) -> Unparker {
        match self {
            Parker::Thread(home) => Unparker::new(home.clone(), TaskId(0)),
            Parker::Task(task) => Unparker::new(task.home.clone(), task.id),
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
    fn spawn(&self, sibling: Sibling) -> io::Result<()>;

    /// Tells whoever waits on `source` when `socket` becomes ready, until [`forget`](Home::forget) is given the key. A thread
    /// waits for sockets by itself: it needs no telling, and gives no key.
    fn watch(&self, socket: BorrowedFd<'_>, source: &Arc<Source>) -> io::Result<Option<usize>>;

    /// Takes back a [`watch`](Home::watch).
    fn forget(&self, socket: BorrowedFd<'_>, key: usize);
}

/// Work that may block, for a thread.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// What runs beside a request; it is told where it waits.
pub(crate) type Sibling = Box<dyn FnOnce(Parker) + Send>;

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

/// The parker of a coroutine.
pub(crate) struct TaskParker {
    pub(crate) suspender: Suspender,
    pub(crate) home: Arc<dyn Home>,
    pub(crate) id: TaskId,
}

impl TaskParker {
    /// Suspends the coroutine, while others of its thread run in contexts of their own.
    fn suspend(&self, pause: Pause) -> io::Result<Readiness> {
        let mine = CURRENT.take();
        let seen = self.suspender.suspend(pause);
        CURRENT.set(mine);
        seen
    }
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
        Ok(readiness(&fds[0]))
    }
}

impl Home for ThreadHome {
    fn unpark(&self, _: TaskId) {
        match self.waker.get() {
            Some(waker) => waker.wake(),
            None => self.thread.unpark(),
        }
    }

    fn offload(&self, work: Work) -> io::Result<()> {
        work();
        Ok(())
    }

    fn spawn(&self, sibling: Sibling) -> io::Result<()> {
        thread::Builder::new().name("sibling".to_string()).spawn(move || sibling(Parker::for_thread(None)))?;
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
