//! [`spawn`]: runs something beside a request.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::hooks::catch;
use crate::park::{self, Context, Unparker};

/// Runs `work` beside the caller: on a thread of its own, or, called on an event loop, on a coroutine of the same loop. So a handler
/// can read and write at the same time, as a proxy does (see [`net`](crate::net)).
///
/// What it does belongs to the caller's request: if that is cut off, so are its waits. It goes on if it is not joined; on the
/// event loop only for as long as the server serves.
///
/// # Errors
///
/// The system's, if there is no thread to be had.
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
    let shared = Arc::new(Shared { state: Mutex::new(State { outcome: None, over: false, waiting: None }) });
    let end = End { shared: shared.clone() };
    let here = park::current();
    let live = here.live().map(|live| Arc::downgrade(&live));
    here.parker.unparker().home().spawn(Box::new(move |parker| {
        let context = Context::new(parker);
        if let Some(live) = &live {
            context.belong_to(live);
        }
        let key = context.live().map(|live| live.add_sibling(context.parker.unparker()));
        let outcome = context.enter(|| catch_unwind(AssertUnwindSafe(work)));
        if let (Some(live), Some(key)) = (context.live(), key) {
            live.remove_sibling(key);
        }
        end.shared.lock().outcome = Some(outcome);
        // Dropping `end` tells whoever joins, also if this never ran. If nobody does, the outcome goes with it, and that is a
        // user's value, whose destructor may panic.
        if let Err(panic) = catch(|| drop(end)) {
            log::error!("what a sibling left behind panicked when it was dropped: {panic}");
        }
    }))?;
    Ok(JoinHandle { shared })
}

/// Waits for what was started with [`spawn`].
pub struct JoinHandle<T> {
    shared: Arc<Shared<T>>,
}

impl<T> JoinHandle<T> {
    /// Waits until it has ended and returns its result: parks the coroutine, or blocks the thread. If it has panicked, so does
    /// this.
    ///
    /// # Errors
    ///
    /// `ConnectionAborted` if the request is cut off meanwhile; `Other` if the sibling could not be run, for lack of a stack.
    pub fn join(self) -> io::Result<T> {
        let context = park::current();
        loop {
            {
                let mut state = self.shared.lock();
                match state.outcome.take() {
                    Some(Ok(value)) => return Ok(value),
                    Some(Err(panic)) => {
                        drop(state);
                        resume_unwind(panic);
                    }
                    None if state.over => {
                        return Err(io::Error::other("it could not be run: there was no stack for it"));
                    }
                    None => state.waiting = Some(context.parker.unparker()),
                }
            }
            context.check()?;
            context.park(None)?;
        }
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.shared.lock().over
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

struct State<T> {
    outcome: Option<thread::Result<T>>,
    /// It has ended, or will never run.
    over: bool,
    /// Who joins.
    waiting: Option<Unparker>,
}

impl<T> Shared<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a sibling, announced when this is dropped.
struct End<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.shared.lock();
            state.over = true;
            state.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.unpark();
        }
    }
}
