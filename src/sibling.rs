//! [`spawn`]: runs something beside a request.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::catch::{Failed, catch};
use crate::coroutine::Unwound;
use crate::live::{Activity, Parent};
use crate::lock::lock;
use crate::park::{self, Context, Parker, Sibling, Unparker};

/// Runs `work` beside the caller: on a thread of its own, or, called on an event loop, on a coroutine of the same loop. So a handler
/// can read and write at the same time, as a proxy does (see [`net`](crate::net)).
///
/// What it does belongs to the caller's request: if that is cut off, so are its waits, also when it is over. It goes on if it is not
/// joined; on the event loop only for as long as its loop runs: that of the serving thread ends with the serving, each other one with the
/// server. If it waits for what may never come, such as a datagram, the handler ends it by cutting its own request off as the last thing
/// that it does: `request.sender()?.close()`. To a datagram no reply is sent then. A panic is for who joins it; if nobody does, only the
/// panic hook tells of it.
///
/// # Errors
///
/// The system's, if no thread can be started.
///
/// # Examples
///
/// ```
/// use std::io::{self, Write};
/// use socketserver::{EventLoopTcpServer, Request, net::TcpStream};
///
/// /// Asks two servers at the same time.
/// fn both(request: &mut Request) -> io::Result<()> {
///     let ask = |addr: &'static str| move || io::read_to_string(TcpStream::connect(addr)?);
///     let other = socketserver::spawn(ask("127.0.0.1:13"))?;
///     let first = ask("127.0.0.2:13")()?;
///     write!(request, "{first}{}", other.join()??)
/// }
/// # let _ = EventLoopTcpServer::bind("127.0.0.1:0", both)?;
/// # Ok::<(), io::Error>(())
/// ```
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    let shared = Arc::new(Shared { state: Mutex::new(State::Running(None)) });
    let here = park::current();
    let parent = here.parent();
    let end = End(shared.clone());
    here.parker.unparker().home().spawn(Box::new(Beside { parent, work, end }))?;
    Ok(JoinHandle { shared })
}

/// What [`spawn`] runs.
struct Beside<F, T> {
    parent: Option<Parent>,
    work: F,
    /// Last: if this never runs, who joins learns that after the work is gone.
    end: End<T>,
}

impl<T: Send, F: FnOnce() -> T + Send> Sibling for Beside<F, T> {
    fn run(self: Box<Self>, parker: Parker) {
        // To its own stack, where there is room. In the braces it is a temporary value: the box is gone after this line, and not
        // only when the work is done.
        let Beside { parent, work, end } = *{ self };
        let context = Context::new(parker);
        if let Some(parent) = parent {
            context.belong_to(parent);
        }
        let key = context.live().map(|live| live.add_sibling(context.parker.unparker()));
        let outcome = context.enter(|| catch_unwind(AssertUnwindSafe(work)));
        if let (Some(live), Some(key)) = (context.live(), key) {
            live.remove_sibling(key);
        }
        // If nobody joins, the outcome goes with `end`, and that is a user's value, whose destructor may panic.
        end.0.end(Some(outcome));
        if let Err(Failed { error, .. }) = catch(|| drop(end)) {
            log::error!("what a sibling left behind panicked when it was dropped: {error}");
        }
    }
}

/// Waits for what was started with [`spawn`]. Dropping it waits for nothing, and ends nothing.
pub struct JoinHandle<T> {
    shared: Arc<Shared<T>>,
}

impl<T> JoinHandle<T> {
    /// Waits until it has ended and returns its result: parks the coroutine, or blocks the thread. If it has panicked, so does
    /// this.
    ///
    /// # Errors
    ///
    /// `ConnectionAborted` if the request is cut off meanwhile, or the sibling was unwound because its loop is gone; `Other` if it could
    /// not be run, for lack of a stack or because its loop has ended before.
    pub fn join(self) -> io::Result<T> {
        let context = park::current();
        loop {
            {
                let mut state = lock(&self.shared.state);
                match &mut *state {
                    State::Running(waiting) => *waiting = Some(context.parker.unparker()),
                    State::Ended(outcome) => {
                        return match outcome.take() {
                            Some(Ok(value)) => Ok(value),
                            Some(Err(payload)) if payload.is::<Unwound>() => Err(io::Error::new(
                                io::ErrorKind::ConnectionAborted,
                                "it was unwound: its loop is gone",
                            )),
                            Some(Err(panic)) => resume_unwind(panic),
                            None => Err(io::Error::other(
                                "it could not be run: there was no stack for it, or its loop has ended",
                            )),
                        };
                    }
                }
            }
            context.check()?;
            context.park(Activity::Waiting, None)?;
        }
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.shared.is_ended()
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    /// It has not ended; who joins.
    Running(Option<Unparker>),
    /// Its outcome; none if it never ran.
    Ended(Option<thread::Result<T>>),
}

impl<T> Shared<T> {
    /// Says that it has ended, and wakes who joins.
    fn end(&self, outcome: Option<thread::Result<T>>) {
        let before = std::mem::replace(&mut *lock(&self.state), State::Ended(outcome));
        if let State::Running(Some(waiting)) = before {
            waiting.unpark();
        }
    }

    fn is_ended(&self) -> bool {
        matches!(*lock(&self.state), State::Ended(_))
    }
}

/// The end of a sibling, told when this is dropped if it has not been told: it never ran.
struct End<T>(Arc<Shared<T>>);

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        if !self.0.is_ended() {
            self.0.end(None);
        }
    }
}
