//! [`Backend`]: where requests run.
//!
//! The duties of a backend are to run every [`Job`] that it is given exactly once, or to drop it, which refuses the request; to
//! say when it has no room for another; and to end what it has started. It knows nothing of where jobs come from.
//!
//! # Which server when
//!
//! | backend | a request runs on | right for | wrong for |
//! |---|---|---|---|
//! | [`Sequential`] | the serving thread, one at a time | tests, tools, datagrams with short replies | a client that takes its time: all others wait |
//! | [`Threading`] | a thread of its own | hundreds of connections, handlers that block or compute | tens of thousands: each thread costs memory and switches |
//! | [`ForkingStyle`] | one of a fixed number of threads | bounding what runs at a time; short connections | connections that stay open: each holds a worker |
//! | [`EventLoop`] | a coroutine on a loop | many connections, most of them waiting | handlers that compute long, or block outside [`offload`](crate::Request::offload) |
//!
//! What each costs depends on what the handler does and on how many clients there are. The same handlers on each, on one core of a virtual
//! x86-64 machine (the whole run is in `benches/results/backends`; the README has its tables and charts, and the command that measures it
//! elsewhere); times are the server's processor time per exchange, but for the latencies:
//!
//! | load | threads | pool of 40 | event loop | one at a time |
//! |---|---|---|---|---|
//! | one connection, echo of 64 bytes | 26 µs | 26 µs | 28 µs | 26 µs |
//! | 100 connections | 5.9 µs | too many | 3.3 µs | too many |
//! | 10,000 connections | 17 µs | too many | 6.8 µs | too many |
//! | an idle connection | 14 KiB | too many | 4.4 KiB | too many |
//! | a new connection for each echo, 10 at a time | 38 µs | 28 µs | 16 µs | 30 µs |
//! | a datagram of 64 bytes, 100 clients | 37 µs | 3.3 µs | 2.6 µs | 2.6 µs |
//! | computing for 100 µs, 100 connections | 126 µs, p99 25 ms | too many | 122 µs, p99 13 ms | too many |
//! | waiting for 10 ms, 1,000 connections | 33 µs | too many | 5.5 µs | too many |
//! | blocking for 1 ms, 100 connections | 64,000 a second | too many | 900 a second | too many |
//! | the same in `offload` | 58,000 a second | too many | 14,500 a second, on 16 threads | too many |
//!
//! So:
//!
//! * **With one client at a time all cost the same**: going to sleep and waking up is most of it. Take what is simplest.
//! * **The event loop is for many connections.** It needs no thread to wake for each message, and each connection takes a third of the
//!   memory. It gains the most where handlers wait: for peers, for time, for other servers. A wait for time is rounded up to a millisecond.
//! * **Threads are for handlers that block** in what is not of this crate, some hundreds of them at a time. In a handler on an event loop, one
//!   blocking call stops all of its requests. [`offload`](crate::Request::offload) helps where that is the exception: each call goes to
//!   another thread and back, and no more run at a time than there are threads in its pool.
//! * **Computing costs the same everywhere.** On threads, the system shares the core out in slices, so a short request may come before a long
//!   one; on the event loop requests run in the order in which they come, which keeps the longest latency short if all take about as long.
//! * **A thread for each connection or datagram is expensive if they are short.** The pool has its threads already. For datagrams, even one
//!   at a time is better. The event loop, which sends the replies to many with one call, costs the same as that, and a handler that waits
//!   holds up nobody.
//! * **Datagrams keep their order one at a time.** On threads and in the pool, two of one peer may be served at once, and change places; on
//!   the event loop, their handlers begin in order.
//! * **The pool is a limit**: never more than so many handlers, whatever comes. Connections that stay open occupy it.
//! * **More loops are for more cores.** On one core, several loops mostly cost more than one does, and take turns in slices of
//!   milliseconds: for an echo over TCP, four of them cost 14 % more on 10 connections, 5 % on 100, and 11 % less on 1,000.

mod event_loop;
mod forking_style;
mod sequential;
mod threading;
mod threads;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::deadline::deadline;
use crate::job::{Job, Service};
use crate::park::poll;
use crate::waker::Waker;

pub use event_loop::EventLoop;
#[cfg(feature = "hot-parts")]
#[doc(hidden)]
pub use event_loop::hot_parts;
pub use forking_style::ForkingStyle;
pub use sequential::Sequential;
pub use threading::Threading;

/// Where requests run. Write your own to run them elsewhere: all that it must have is
/// [`process_request`](Backend::process_request).
///
/// All methods are called by the serving thread, or by the one that closes the server.
///
/// ```
/// use socketserver::{Backend, Job, Request, Server, listener};
///
/// /// Runs every request on a thread that nobody waits for.
/// struct Detached;
///
/// impl Backend for Detached {
///     fn process_request(&mut self, job: Job) {
///         std::thread::spawn(move || job.run());
///     }
/// }
///
/// let listener = listener::bind("tcp://127.0.0.1:0")?;
/// let server = Server::new(listener, Detached, |_: &mut Request| Ok(()));
/// # drop(server);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Backend: Send {
    /// Prepares for requests: threads and polls are made here, not when the backend is. Called on the serving thread at the
    /// beginning of every serving, and by [`Server::activate`](crate::Server::activate).
    ///
    /// # Errors
    ///
    /// Whatever keeps it from running requests; serving fails with that.
    fn activate(&mut self, sources: &Sources<'_>) -> io::Result<()> {
        let _ = sources;
        Ok(())
    }

    /// Whether it can run one more request. Asked before each is got; while it says no, the kernel's queue holds the rest. A
    /// backend that has room again rings the [`Waker`] of its sources. The end of a job alone is not enough: the server asks then, but
    /// maybe before [`Job::run`] has returned and the backend knows.
    fn has_room(&self) -> bool {
        true
    }

    /// Runs a request, now or soon. While this call runs, the server accepts nothing.
    fn process_request(&mut self, job: Job);

    /// Waits until there is a request to get (if `accepting`; returns `true`), the waker is rung or the timeout has passed. It may return
    /// earlier. A backend that runs requests on the serving thread overrides this to do it here.
    ///
    /// # Errors
    ///
    /// The system's, if it cannot wait; serving ends with that.
    fn wait(&mut self, sources: &Sources<'_>, accepting: bool, timeout: Option<Duration>) -> io::Result<bool> {
        sources.wait(accepting, timeout)
    }

    /// No more requests are got from the listener until the next [`activate`](Backend::activate). A backend that polls it by itself ends
    /// that: the socket may live on in another process, and would go on waking this one.
    fn forget_listener(&mut self, listener: BorrowedFd<'_>) {
        let _ = listener;
    }

    /// Does what is due in every turn: reaps threads that have ended, for instance. Called now and then beside that, too: at the end of
    /// serving, and when a peer seems to have too many requests, some of which may only wait for this.
    fn service_actions(&mut self) {}

    /// [`handle_request`](crate::Server::handle_request) has waited for its timeout.
    fn handle_timeout(&mut self) {}

    /// Whether requests are in progress that only go on while the serving thread calls [`wait`](Backend::wait).
    fn needs_thread(&self) -> bool {
        false
    }

    /// The serving thread is about to return to its caller, and may be another one next time.
    fn deactivate(&mut self) {}

    /// Whether the end of serving is also the end of the requests in progress: they are drained, and cut off at the deadline.
    fn block_on_close(&self) -> bool {
        true
    }

    /// Ends what the backend has started, waiting until then at the most (for `None`, without a limit), and says how many threads have
    /// not ended. If [`block_on_close`](Backend::block_on_close), all requests have ended or been cut off before. Jobs that are still
    /// queued are to be dropped, which refuses them. Only [`Server::close`](crate::Server::close) calls this: a server that is dropped
    /// drops its backend, which must not wait.
    fn server_close(&mut self, until: Option<Instant>) -> usize {
        let _ = until;
        0
    }
}

/// What a serving thread waits for: its listener, and the waker of its server.
pub struct Sources<'a> {
    pub(crate) listener: BorrowedFd<'a>,
    pub(crate) waker: &'a Arc<Waker>,
    /// The requests that come from there.
    pub(crate) service: &'a Arc<Service>,
}

impl Sources<'_> {
    /// The waker, which ends the serving thread's wait from any thread.
    pub fn waker(&self) -> &Arc<Waker> {
        self.waker
    }

    /// Waits until there is a request to get (if `accepting`), the waker is rung or the timeout has passed; `true` for the
    /// first. May return early.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn wait(&self, accepting: bool, timeout: Option<Duration>) -> io::Result<bool> {
        let until = deadline(timeout);
        let mut fds = [PollFd::new(self.waker, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        let watched = if accepting { &mut fds[..] } else { &mut fds[..1] };
        poll(watched, until)?;
        if !fds[0].revents().is_empty() {
            self.waker.reset();
        }
        Ok(!fds[1].revents().is_empty())
    }
}

impl fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// The listener, for a backend that polls by itself: it, and the [`waker`](Sources::waker).
impl AsFd for Sources<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener
    }
}

impl Backend for Box<dyn Backend> {
    fn activate(&mut self, sources: &Sources<'_>) -> io::Result<()> {
        (**self).activate(sources)
    }

    fn has_room(&self) -> bool {
        (**self).has_room()
    }

    fn process_request(&mut self, job: Job) {
        (**self).process_request(job)
    }

    fn wait(&mut self, sources: &Sources<'_>, accepting: bool, timeout: Option<Duration>) -> io::Result<bool> {
        (**self).wait(sources, accepting, timeout)
    }

    fn forget_listener(&mut self, listener: BorrowedFd<'_>) {
        (**self).forget_listener(listener)
    }

    fn service_actions(&mut self) {
        (**self).service_actions()
    }

    fn handle_timeout(&mut self) {
        (**self).handle_timeout()
    }

    fn needs_thread(&self) -> bool {
        (**self).needs_thread()
    }

    fn deactivate(&mut self) {
        (**self).deactivate()
    }

    fn block_on_close(&self) -> bool {
        (**self).block_on_close()
    }

    fn server_close(&mut self, until: Option<Instant>) -> usize {
        (**self).server_close(until)
    }
}

/// The name of a backend, for a choice at run time: `sequential`, `threading`, `forking-style` or `event-loop`.
///
/// ```
/// use socketserver::backend::BackendName;
///
/// let name: BackendName = "event-loop".parse()?;
/// let backend = name.backend();
/// assert!("fork".parse::<BackendName>().unwrap_err().to_string().contains("forking-style"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendName {
    /// [`Sequential`]
    Sequential,
    /// [`Threading`]
    Threading,
    /// [`ForkingStyle`]
    ForkingStyle,
    /// [`EventLoop`]
    EventLoop,
}

impl BackendName {
    /// All of them.
    pub const ALL: [BackendName; 4] =
        [BackendName::Sequential, BackendName::Threading, BackendName::ForkingStyle, BackendName::EventLoop];

    /// The name as text.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendName::Sequential => "sequential",
            BackendName::Threading => "threading",
            BackendName::ForkingStyle => "forking-style",
            BackendName::EventLoop => "event-loop",
        }
    }

    /// The backend, with the default of every option.
    pub fn backend(self) -> Box<dyn Backend> {
        match self {
            BackendName::Sequential => Box::new(Sequential),
            BackendName::Threading => Box::new(Threading::default()),
            BackendName::ForkingStyle => Box::new(ForkingStyle::default()),
            BackendName::EventLoop => Box::new(EventLoop::default()),
        }
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for BackendName {
    type Err = io::Error;

    /// # Errors
    ///
    /// `InvalidInput` lists the names.
    fn from_str(text: &str) -> io::Result<BackendName> {
        BackendName::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
            let names = BackendName::ALL.map(BackendName::as_str).join(", ");
            io::Error::new(io::ErrorKind::InvalidInput, format!("unknown server {text:?}: expected one of {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_names_is_as_wide_as_asked_for() {
        let lines = BackendName::ALL.map(|name| format!("{name:14}|{name:>14}"));
        assert_eq!(lines[1], "threading     |     threading");
        assert!(lines.iter().all(|line| line.len() == 29), "{lines:?}");
    }
}
