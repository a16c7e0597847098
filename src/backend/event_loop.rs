//! [`EventLoop`]: a coroutine for each request.

mod answers;
mod datagrams;
#[cfg(feature = "hot-parts")]
pub mod hot_parts;
mod inbox;
mod offload;
mod pulse;
mod reactor;
mod task;
mod timers;
mod watchdog;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use self::inbox::Inbox;
use self::offload::Offload;
use self::reactor::Reactor;
use self::watchdog::Watchdog;
use super::threads::Threads;
use super::{Backend, Sources};
use crate::coroutine::Pinned;
use crate::job::Job;
use crate::waker::Waker;

/// Runs each request on a coroutine: where a call would block the thread, the coroutine is parked, and others run.
///
/// The thread that serves is itself a loop; with more loops, each further one has a thread of its own, and a new connection goes
/// to the loop that has the fewest. It stays there: a started coroutine never changes its thread. Datagrams are served by the
/// loop that receives them. After a turn in which 16 or more came, those of the next, up to 64, are received before the first of them is
/// served, and their replies leave together, which costs less: one system call for up to 64. A reply then waits for handlers that run
/// after its own, none of which begins more than 100 µs after its own did.
///
/// * Costs about what a hand-written epoll loop does: one read, one write and a share of one `epoll_wait` per message. An idle
///   connection costs one page of stack, typically, and a few hundred bytes.
/// * Wrong for handlers that compute for long or call what blocks outside [`offload`](crate::Request::offload): they hold up every
///   request of their loop.
/// * As gevent's `StreamServer`; the handler is the same as on every other backend.
///
/// # Rules for handlers
///
/// The same handler runs here and on threads, if it knows these:
///
/// **What parks.** Reads, writes, [`sleep`](crate::Request::sleep) and [`offload`](crate::Request::offload) of a request, and the
/// functions [`sleep`](crate::sleep()) and [`offload`](crate::offload()); the sockets in [`net`](crate::net); the locks and channels in
/// [`sync`](crate::sync); [`JoinHandle::join`](crate::JoinHandle::join).
/// Each of them may let other requests of the loop run, even if it has nothing to wait for: after 128 reads, writes or connects, of a
/// socket or a channel, that did not have to wait, or fewer of more than a kilobyte, a request yields, so that a peer that floods it does
/// not starve the rest.
///
/// **What blocks.** Everything else: files, std's sockets and sleep, DNS, a database's client, a long computation. Put it into
/// [`offload`](crate::Request::offload). Whatever blocks for 200 ms is warned of, and what blocks for 100 ms may be (see
/// [`watchdog`](EventLoop::watchdog)). The serving thread's loop also accepts connections and ends the server: while a handler holds up
/// that one, connections of all loops wait to be accepted, and a drain tells nobody and cuts nobody off. Another loop that is held up gets
/// no new connections, once the watchdog has seen that.
///
/// **Locks.** Hold no [`std::sync::Mutex`] across anything that parks. Another request that wants it would block the thread on which
/// the first has to go on, and that is the end of this loop. For short sections without I/O, std's mutex is right; across I/O, use
/// [`sync::Mutex`](crate::sync::Mutex).
///
/// **Thread-locals.** All requests of a loop share them. Set one, park, and another request may have set it meanwhile. There is one
/// soundness caveat that Rust's type system does not cover, and that all stackful coroutines in Rust share: code that lends out a
/// *reference* to a thread-local for the time of a call (a scoped thread-local, such as the `scoped-tls` crate's) assumes that such
/// calls end in the order in which they began. Two coroutines that park inside could end them in another order. Do no I/O in such a
/// call.
///
/// **Threads.** A started request stays on its thread, so what it keeps on its stack need not be `Send`.
///
/// **Panics.** A panic ends its own request. While it unwinds, nothing parks: a destructor that does I/O which would have to wait gets
/// an error. With `panic = "abort"` a panic ends the process, as everywhere.
///
/// **The end.** A request that is cut off is not unwound: its I/O fails from then on, so that it leaves through `?`. One that ignores
/// errors and never ends is unwound when its loop goes, that of the serving thread with the serving, each other one when the server is
/// closed: its destructors run, a [`sync::Mutex`](crate::sync::Mutex) that it holds is poisoned, and it is reported as cut off, not as a
/// panic. With `panic = "abort"` it is leaked.
///
/// **The stack.** A coroutine's stack is 256 KiB of address space ([`stack_size`](EventLoop::stack_size)) with a guard page below. An
/// overflow ends the process with a line that says so. Only pages that have been touched take memory, 4 KiB each; of the stacks that lie
/// idle, all but 64 of each loop give theirs back. What a handler has touched when it waits for its next line, measured on x86-64:
///
/// | handler | release | debug |
/// |---|---|---|
/// | waits for its first byte | 4 KiB | 8 KiB |
/// | echo; `read_line` and `writeln!`; `io::copy` | 4 KiB | 8 KiB |
/// | JSON to a `serde_json::Value` and back; a line logged by `env_logger` | 4 KiB | 12 KiB |
/// | a panic, caught, and its backtrace formatted | 12 KiB | 12 KiB |
///
/// Beside its stack, an idle connection takes some 400 bytes.
///
/// # Platform-specific behavior
///
/// Activating the first event loop of a process installs a handler for `SIGSEGV` and `SIGBUS`, which names a stack overflow and passes
/// on every other fault to the handler that was there before. On Linux since 6.13 guard pages take none of the kernel's map entries;
/// elsewhere two for each stack, so that on Linux there may be some 28,000 connections unless `vm.max_map_count` is raised. When there
/// are no more stacks, connections are refused and counted.
pub struct EventLoop {
    loops: Option<usize>,
    stack_size: usize,
    offload: Arc<Offload>,
    /// The serving thread's loop, while one serves.
    local: Option<Pinned<Reactor>>,
    /// The other loops, each on a thread of its own.
    others: Vec<Arc<Inbox>>,
    threads: Threads,
    watchdog: Option<Watchdog>,
}

impl Default for EventLoop {
    fn default() -> EventLoop {
        EventLoop {
            loops: None,
            stack_size: 256 * 1024,
            offload: Arc::new(Offload::new(16)),
            local: None,
            others: Vec::new(),
            threads: Threads::new("event-loop", None),
            watchdog: Some(Watchdog::new(Duration::from_millis(100))),
        }
    }
}

impl EventLoop {
    /// `loops` loops, at least one; [`EventLoop::default`] has one for each core that the process may use.
    pub fn new(loops: usize) -> EventLoop {
        let mut backend = EventLoop::default();
        backend.loops = Some(loops.max(1));
        backend
    }

    /// Bytes of address space for a coroutine's stack: 256 KiB by default, at least 16 KiB. Only what is touched becomes
    /// resident, so a larger one costs little; a debug build needs several times the depth of a release build.
    pub fn stack_size(mut self, bytes: usize) -> EventLoop {
        self.stack_size = bytes;
        self
    }

    /// How many threads [`offload`](crate::Request::offload) uses at the most: 16 by default, at least one. They are started when
    /// they are first needed.
    pub fn offload_threads(mut self, threads: usize) -> EventLoop {
        self.offload = Arc::new(Offload::new(threads.max(1)));
        self
    }

    /// How long one handler may hold up its loop, without a wait in which others run, before a warning says who it is and
    /// [`Stats::held`](crate::Stats::held) counts it: 100 ms by default, at least 1 ms; `None` is never. Another line says when it has let
    /// go, and after about how long. The watch is kept by a thread of its own, which sleeps while the loops do, and otherwise looks at them
    /// once in that time: a hold of less than twice as long may go unseen. It warns of one that never lets go, too.
    ///
    /// In a program that has no other thread it costs up to 3 % of an echo of 64 bytes: with a second one, Linux counts the uses of a
    /// descriptor in each system call.
    pub fn watchdog(mut self, limit: Option<Duration>) -> EventLoop {
        self.watchdog = limit.map(Watchdog::new);
        self
    }

    /// Starts the loops beside the serving thread's, unless they run already.
    fn start_others(&mut self, sources: &Sources<'_>) -> io::Result<()> {
        let loops = self.loops.unwrap_or_else(|| thread::available_parallelism().map_or(1, |cores| cores.get()));
        while self.others.len() + 1 < loops {
            let waker = Arc::new(Waker::new()?);
            let (inbox, messages) = Inbox::new(waker, self.offload.clone());
            let stack_size = self.stack_size;
            let (started, ready) = crossbeam_channel::bounded(1);
            let its_inbox = inbox.clone();
            self.threads.spawn(move || match Reactor::new(its_inbox, messages, stack_size, None) {
                Ok(mut reactor) => {
                    let _ = started.send(Ok(()));
                    reactor.run();
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })?;
            ready.recv().map_err(io::Error::other)??;
            self.others.push(inbox.clone());
            self.watch(&inbox, sources)?;
        }
        Ok(())
    }

    fn watch(&mut self, inbox: &Arc<Inbox>, sources: &Sources<'_>) -> io::Result<()> {
        self.watchdog.as_mut().map_or(Ok(()), |watchdog| watchdog.watch(inbox, sources.service))
    }
}

impl Backend for EventLoop {
    fn activate(&mut self, sources: &Sources<'_>) -> io::Result<()> {
        self.start_others(sources)?;
        let (inbox, messages) = Inbox::new(sources.waker().clone(), self.offload.clone());
        self.watch(&inbox, sources)?;
        if let Some(watchdog) = inbox.watchdog.get() {
            // It may start a request before it first waits.
            watchdog.wake(&inbox.pulse);
        }
        let reactor = Reactor::new(inbox, messages, self.stack_size, Some(sources.listener))?;
        self.local = Some(Pinned::new(reactor));
        Ok(())
    }

    fn process_request(&mut self, job: Job) {
        let Some(local) = self.local.as_mut().and_then(Pinned::get_mut) else { return };
        let emptiest = self.others.iter().filter(|inbox| !inbox.pulse.is_held()).min_by_key(|inbox| inbox.load());
        match emptiest {
            Some(other) if job.connection().is_some() && other.load() < local.load() => other.run(job),
            _ => local.take(job),
        }
    }

    fn wait(&mut self, sources: &Sources<'_>, accepting: bool, timeout: Option<Duration>) -> io::Result<bool> {
        match self.local.as_mut().and_then(Pinned::get_mut) {
            // The listener is watched at all times, edge-triggered: an event that comes while the server does not accept is kept
            // by it.
            Some(local) => local.turn(timeout),
            None => sources.wait(accepting, timeout),
        }
    }

    fn forget_listener(&mut self, listener: BorrowedFd<'_>) {
        if let Some(local) = self.local.as_mut().and_then(Pinned::get_mut) {
            local.forget(listener);
        }
    }

    fn service_actions(&mut self) {
        if let Some(local) = self.local.as_mut().and_then(Pinned::get_mut) {
            local.serve_datagrams();
        }
    }

    fn needs_thread(&self) -> bool {
        self.local.as_ref().and_then(Pinned::get).is_some_and(Reactor::has_requests)
    }

    fn deactivate(&mut self) {
        self.local = None;
    }

    fn server_close(&mut self, until: Option<Instant>) -> usize {
        self.others.drain(..).for_each(|inbox| inbox.end());
        let watchdog = self.watchdog.as_mut().map_or(0, |watchdog| watchdog.close(until));
        self.threads.join(until) + self.offload.close(until) + watchdog
    }
}

impl Drop for EventLoop {
    /// The other loops end by themselves when their last request has ended.
    fn drop(&mut self) {
        self.others.iter().for_each(|inbox| inbox.stop());
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("loops", &self.loops)
            .field("stack_size", &self.stack_size)
            .finish_non_exhaustive()
    }
}
