//! [`Reactor`]: one loop, a turn repeated: wait, take the inbox, fire timers, resume what is ready, serve datagrams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::answers::Answers;
use super::datagrams::Datagrams;
use super::inbox::{Inbox, Message, SOURCES};
use super::task::{Kind, Task, id};
use super::timers::Timers;
use crate::catch::{Failed, catch};
use crate::coroutine::{Coroutine, Pause, Stack, Stacks, this_thread};
use crate::episode::Episode;
use crate::job::Job;
use crate::park::{self, Context, Home, Parker, Sibling, TaskParker};
use crate::readiness::Readiness;

/// Tokens that no task has: a task's is its slot.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// What a request wants to know of its connection: urgent data, too, where the system tells of that.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ALL: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const ALL: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Events taken from the kernel in one turn.
const EVENTS: usize = 1024;

/// What belongs to one loop and never leaves its thread.
pub(super) struct Reactor {
    poll: Poll,
    events: Events,
    tasks: Slab<Task>,
    /// Slots of the tasks to resume, in the order in which they became ready. Each is in here once at the most.
    ready: Vec<usize>,
    timers: Timers,
    stacks: Stacks,
    /// Of stacks, for what runs beside requests.
    shortage: Episode,
    datagrams: Datagrams,
    /// Replies to datagrams, left by the coroutines of their requests for the loop to send.
    answers: Rc<Answers>,
    inbox: Arc<Inbox>,
    /// The inbox as its tasks see it.
    home: Rc<Arc<dyn Home>>,
    messages: Receiver<Message>,
    /// How many of the tasks are requests, which a loop sees to their end.
    requests: usize,
    /// Tasks started so far, which tells one from others in its slot.
    started: u32,
    /// The inbox asks it to end when its last request has ended.
    stopping: bool,
    /// The inbox asks it to end now.
    ending: bool,
}

impl Reactor {
    /// A loop for the calling thread, which watches its inbox's waker and, on the serving thread, the server's listener.
    pub(super) fn new(
        inbox: Arc<Inbox>,
        messages: Receiver<Message>,
        stack_size: usize,
        listener: Option<BorrowedFd<'_>>,
    ) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&inbox.waker.as_fd().as_raw_fd()), WAKER, Interest::READABLE)?;
        if let Some(listener) = listener {
            poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
        }
        inbox.thread.get_or_init(this_thread);
        let registry = poll.registry().try_clone()?;
        inbox.registry.get_or_init(|| registry);
        Ok(Reactor {
            poll,
            events: Events::with_capacity(EVENTS),
            tasks: Slab::new(),
            ready: Vec::new(),
            timers: Timers::default(),
            stacks: Stacks::new(stack_size),
            shortage: Episode::default(),
            datagrams: Datagrams::default(),
            answers: Rc::default(),
            home: Rc::new(inbox.clone()),
            inbox,
            messages,
            requests: 0,
            started: 0,
            stopping: false,
            ending: false,
        })
    }

    /// Turns until it is asked to stop and its last request has ended, or it is asked to end.
    pub(super) fn run(&mut self) {
        while !self.ending && (!self.stopping || self.has_requests()) {
            if let Err(error) = self.turn(None) {
                // Nothing that a request does leads here. Without a pause this could spin.
                log::error!("an event loop cannot wait: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Waits for events, for `timeout` at the most, and resumes the tasks that they concern; `true` if the listener had one.
    pub(super) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let listener = self.wait(timeout)?;
        park::step_aside(|| {
            self.take_inbox();
            self.fire_timers();
            self.resume_ready();
            self.serve_datagrams();
        });
        Ok(listener)
    }

    /// Watches the listener no longer.
    pub(super) fn forget(&self, listener: BorrowedFd<'_>) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&listener.as_raw_fd()));
    }

    /// Takes a request that has come to this loop. A datagram may wait for others: until the next turn, or
    /// [`serve_datagrams`](Reactor::serve_datagrams).
    pub(super) fn take(&mut self, job: Job) {
        if job.connection().is_some() {
            self.start(job);
        } else if let Some(job) = self.datagrams.add(job) {
            self.start(job);
            self.send_answers();
        }
    }

    /// Starts the datagrams that have come, and sends what their handlers have replied.
    pub(super) fn serve_datagrams(&mut self) {
        while let Some(job) = self.datagrams.next() {
            self.start(job);
        }
        self.send_answers();
    }

    /// Sends the replies of datagrams whose handlers have ended.
    fn send_answers(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        for answer in self.answers.send() {
            // It waits for room, or finds out what is wrong, on a coroutine of its own.
            match self.stacks.acquire() {
                Ok(stack) => self.run_task(stack, Kind::Request, |parker| answer.send_in(&Context::new(parker))),
                Err(error) => answer.fail(error),
            }
        }
    }

    /// Starts a request: it runs until it first waits.
    fn start(&mut self, job: Job) {
        let now = Instant::now();
        if self.answers.are_due(now) {
            self.send_answers();
        }
        // What fails here drops the job, which refuses the request.
        let stack = match self.stacks.acquire() {
            Ok(stack) => stack,
            Err(error) => return log::debug!("no stack for a coroutine: {error}"),
        };
        if let Some(socket) = job.connection() {
            let token = Token(self.tasks.vacant_key());
            if let Err(error) = self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, ALL) {
                self.stacks.release(stack);
                return log::debug!("cannot watch a connection: {error}");
            }
        }
        let answers = self.answers.clone();
        self.run_task(stack, Kind::Request, move |parker| {
            if let Some(answer) = job.run_in(&Context::new(parker), now) {
                answers.push(answer);
            }
        });
    }

    /// Starts what runs beside a request. If there is no stack for it, it is dropped, and whoever joins it hears of that.
    fn start_sibling(&mut self, sibling: Box<dyn Sibling>) {
        match self.stacks.acquire() {
            Ok(stack) => self.run_task(stack, Kind::Sibling, |parker| sibling.run(parker)),
            Err(error) => {
                if self.shortage.trouble() {
                    log::warn!("no stack for what a request has spawned, and whatever follows: {error}");
                }
                log::debug!("no stack for a coroutine: {error}");
                discard(sibling);
            }
        }
    }

    /// Puts `body` on a stack, in the next free slot, and runs it until it first waits.
    fn run_task(&mut self, stack: Stack, kind: Kind, body: impl FnOnce(Parker) + 'static) {
        let slot = self.tasks.vacant_key();
        let number = self.started;
        let id = id(slot, number);
        self.started = number.wrapping_add(1);
        let home = self.home.clone();
        let coroutine = Coroutine::new(stack, move |suspender| {
            // A handler's panics are caught further in. What is left is the program's logger, which must not cost the loop.
            let _ = catch(|| body(Parker::Task(TaskParker { suspender, home, id })));
        });
        let none = Readiness::NONE;
        self.tasks.insert(Task { coroutine, kind, number, interest: none, seen: none, queued: false });
        // Room for all, and for all once more while those are resumed: so no message allocates.
        self.ready.reserve((2 * self.tasks.len()).saturating_sub(self.ready.len()));
        self.requests += usize::from(kind == Kind::Request);
        self.inbox.tasks.store(self.tasks.len(), Relaxed);
        park::step_aside(|| self.resume(slot));
    }

    /// Whether a request is in progress or about to start, or a reply still to be sent. What requests have spawned ends with the loop at
    /// the latest.
    pub(super) fn has_requests(&self) -> bool {
        self.requests > 0 || !self.datagrams.is_empty() || !self.answers.is_empty()
    }

    pub(super) fn load(&self) -> usize {
        self.inbox.load()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let idle =
            self.ready.is_empty() && self.messages.is_empty() && self.datagrams.is_empty() && self.answers.is_empty();
        let timeout = if idle {
            let next = self.timers.next().map(|at| at.saturating_duration_since(Instant::now()));
            [timeout, next].into_iter().flatten().min()
        } else {
            Some(Duration::ZERO)
        };
        self.datagrams.begin_turn();
        self.inbox.pulse.rest();
        let polled = self.poll.poll(&mut self.events, timeout);
        // Before anything runs, be it a request that is accepted after this turn.
        if let Some(watchdog) = self.inbox.watchdog.get() {
            watchdog.wake(&self.inbox.pulse);
        }
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            result => result?,
        }
        let mut listener = false;
        for event in &self.events {
            match event.token() {
                LISTENER => listener = true,
                WAKER => {
                    // In this order, and before the inbox is looked into: a sender that finds it rung has its message taken in
                    // this turn, and one that finds it cleared rings again.
                    self.inbox.waker.reset();
                    self.inbox.rung.store(false, SeqCst);
                }
                Token(token) if token >= SOURCES => {
                    // Those who wait for it are unparked, by way of the inbox.
                    if let Some(source) = self.inbox.source(token - SOURCES) {
                        source.wake(readiness(event));
                    }
                }
                Token(slot) => {
                    let seen = readiness(event);
                    // An event may be late, and concern a task that has had the slot before. That is harmless: a task that is
                    // resumed tries again.
                    if let Some(task) = self.tasks.get_mut(slot) {
                        task.seen = task.seen.with(seen);
                        if task.interest.has(seen) {
                            task.enqueue(slot, &mut self.ready);
                        }
                    }
                }
            }
        }
        Ok(listener)
    }

    fn take_inbox(&mut self) {
        // What comes meanwhile waits for the next turn, or those who send without end would hold up the others.
        for _ in 0..self.messages.len() {
            let Ok(message) = self.messages.try_recv() else { break };
            match message {
                Message::Run(job) => {
                    // Before it runs: who hears of it must not find it counted twice.
                    self.inbox.handed.fetch_sub(1, SeqCst);
                    self.start(*job);
                }
                Message::Unpark(id) => {
                    let slot = id.0 as u32 as usize;
                    if let Some(task) = self.tasks.get_mut(slot).filter(|task| task.id(slot) == id) {
                        task.enqueue(slot, &mut self.ready);
                    }
                }
                Message::Spawn(sibling) => {
                    self.inbox.handed.fetch_sub(1, SeqCst);
                    self.start_sibling(sibling);
                }
                Message::Stop => self.stopping = true,
                Message::End => self.ending = true,
            }
        }
    }

    fn fire_timers(&mut self) {
        if self.timers.next().is_none() {
            return;
        }
        let now = Instant::now();
        while let Some(slot) = self.timers.pop_due(now) {
            self.tasks[slot].enqueue(slot, &mut self.ready);
        }
    }

    /// Resumes each task that is ready now; one that becomes ready meanwhile has its turn in the next turn.
    fn resume_ready(&mut self) {
        let count = self.ready.len();
        for index in 0..count {
            if !self.answers.is_empty() && self.answers.are_due(Instant::now()) {
                self.send_answers();
            }
            self.fetch_ahead(index);
            self.resume(self.ready[index]);
        }
        self.ready.drain(..count);
    }

    /// Asks the processor for what the next tasks that are ready begin with: for the pages of many at once, for the rest while the one before
    /// runs. (An echo on one of 1,000 connections then costs 16 % less.)
    #[inline]
    fn fetch_ahead(&self, index: usize) {
        /// With 32, that echo costs 1 to 2 % more.
        const MANY: usize = 128;
        if index % MANY == 0 {
            let coming = self.ready[index..].iter().take(MANY).filter_map(|slot| self.tasks.get(*slot));
            coming.for_each(|task| task.coroutine.find_pages());
        }
        if let Some(next) = self.ready.get(index + 1).and_then(|slot| self.tasks.get(*slot)) {
            next.coroutine.prefetch();
        }
    }

    fn resume(&mut self, slot: usize) {
        let task = &mut self.tasks[slot];
        task.queued = false;
        let seen = std::mem::replace(&mut task.seen, Readiness::NONE);
        self.inbox.pulse.begin(task.id(slot));
        let pause = task.coroutine.resume(seen);
        self.inbox.pulse.end();
        match pause {
            Some(Pause::Park { interest, until }) => {
                task.interest = interest;
                self.timers.set(slot, until);
            }
            Some(Pause::Yield) => task.enqueue(slot, &mut self.ready),
            None => {
                self.timers.cancel(slot);
                let task = self.tasks.remove(slot);
                self.requests -= usize::from(task.kind == Kind::Request);
                if let Some(stack) = task.coroutine.into_stack() {
                    self.stacks.release(stack);
                }
                self.inbox.tasks.store(self.tasks.len(), Relaxed);
            }
        }
    }
}

impl Drop for Reactor {
    /// Ends the requests that are left, when a loop goes before them: each is resumed with a cut, in turns, so that its I/O fails and its
    /// handler returns. One that goes on regardless is unwound when its coroutine is dropped.
    fn drop(&mut self) {
        /// A handler may try again some times before it gives up, or wait for a lock that another one holds.
        const ROUNDS: usize = 1000;
        if thread::panicking() {
            return;
        }
        park::step_aside(|| {
            for _ in 0..ROUNDS {
                self.tasks.retain(|_, task| task.coroutine.resume(Readiness::CUT).is_some());
                if self.tasks.is_empty() {
                    break;
                }
            }
            self.tasks.clear();
        });
        self.messages.try_iter().for_each(discard);
        while let Some(job) = self.datagrams.next() {
            discard(job);
        }
        for answer in self.answers.send() {
            answer.fail(io::ErrorKind::ConnectionAborted.into());
        }
    }
}

/// How an event says that its socket is ready.
#[inline]
fn readiness(event: &Event) -> Readiness {
    let mut seen = Readiness::NONE;
    if event.is_readable() {
        seen = seen.with(Readiness::READ);
    }
    if event.is_writable() {
        seen = seen.with(Readiness::WRITE);
    }
    if event.is_priority() {
        // A read ends in front of urgent data, although there is more behind it.
        seen = seen.with(Readiness::CLOSED);
    }
    if event.is_read_closed() || event.is_write_closed() || event.is_error() {
        seen = seen.with(Readiness::READ).with(Readiness::WRITE).with(Readiness::CLOSED);
    }
    seen
}

/// Drops what was to run on a loop and never will. In it are a user's values, whose destructors may panic.
fn discard<T>(never_run: T) {
    if let Err(Failed { error, .. }) = catch(|| drop(never_run)) {
        log::error!("what was never run panicked when it was dropped: {error}");
    }
}
