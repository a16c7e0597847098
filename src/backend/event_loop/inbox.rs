//! [`Inbox`]: what others hold of a loop, and tell it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::offload::Offload;
use super::pulse::Pulse;
use super::watchdog;
use crate::coroutine::this_thread;
use crate::job::Job;
use crate::lock::lock;
use crate::park::{Home, Sibling, Source, TaskId, Work};
use crate::waker::Waker;

/// From here on, tokens of sockets beside the requests' own: their key is added.
pub(super) const SOURCES: usize = usize::MAX / 2;

/// What other threads, and the requests of the loop itself, have to tell a loop.
pub(super) enum Message {
    /// Start this request. In a box, because the other messages are small, and may be many.
    Run(Box<Job>),
    /// Start this beside the requests.
    Spawn(Box<dyn Sibling>),
    /// Resume this task, if it is parked.
    Unpark(TaskId),
    /// End when the last request has ended.
    Stop,
    /// End, whoever is left: all requests have been cut off.
    End,
}

/// The end of a loop that others hold.
pub(super) struct Inbox {
    messages: Sender<Message>,
    pub(super) waker: Arc<Waker>,
    /// The waker has been rung, and the loop has not heard it since. Cleared only where it is heard: a ring may come after its
    /// message has been taken.
    pub(super) rung: AtomicBool,
    /// Requests that were handed over to the loop, and what they have spawned, that it has not started yet.
    pub(super) handed: AtomicUsize,
    /// Those that it runs. Written by the loop alone, so that a plain store is enough for each of them.
    pub(super) tasks: AtomicUsize,
    /// The loop's thread, which need not be woken by itself.
    pub(super) thread: OnceLock<ThreadId>,
    /// The loop's poll, for sockets beside the requests' own. Set, like the thread, when the loop is made.
    pub(super) registry: OnceLock<Registry>,
    /// Those sockets. Locked when one is made, dropped, or has an event.
    sources: Mutex<Slab<Arc<Source>>>,
    offload: Arc<Offload>,
    /// What the loop does now.
    pub(super) pulse: Pulse,
    /// Who looks at that, if somebody does.
    pub(super) watchdog: OnceLock<Arc<watchdog::Shared>>,
}

impl Inbox {
    pub(super) fn new(waker: Arc<Waker>, offload: Arc<Offload>) -> (Arc<Inbox>, Receiver<Message>) {
        // As many messages as there are requests to run, which limits bound, and wakes: of one request, one for each message that somebody
        // queues for its peer.
        let (messages, receiver) = unbounded();
        let inbox = Inbox {
            messages,
            waker,
            rung: AtomicBool::new(false),
            handed: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            thread: OnceLock::new(),
            registry: OnceLock::new(),
            sources: Mutex::default(),
            offload,
            pulse: Pulse::default(),
            watchdog: OnceLock::new(),
        };
        (Arc::new(inbox), receiver)
    }

    /// Hands a request over to this loop.
    pub(super) fn run(&self, job: Job) {
        self.handed.fetch_add(1, SeqCst);
        self.send(Message::Run(Box::new(job)));
    }

    pub(super) fn set_watchdog(&self, watchdog: Arc<watchdog::Shared>) {
        self.watchdog.get_or_init(|| watchdog);
    }

    pub(super) fn stop(&self) {
        self.send(Message::Stop);
    }

    pub(super) fn end(&self) {
        self.send(Message::End);
    }

    /// Requests, and what they have spawned, that the loop runs or is going to run.
    pub(super) fn load(&self) -> usize {
        self.handed.load(SeqCst) + self.tasks.load(Relaxed)
    }

    pub(super) fn source(&self, key: usize) -> Option<Arc<Source>> {
        lock(&self.sources).get(key).cloned()
    }

    fn send(&self, message: Message) {
        // A loop that is gone needs no message; a job in it is dropped, which refuses the request.
        let delivered = self.messages.send(message).is_ok();
        let here = self.thread.get() == Some(&this_thread());
        if delivered && !here && !self.rung.swap(true, SeqCst) {
            self.waker.wake();
        }
    }
}

impl Home for Inbox {
    fn unpark(&self, task: TaskId) {
        self.send(Message::Unpark(task));
    }

    fn offload(&self, work: Work) -> io::Result<()> {
        self.offload.submit(work)
    }

    fn spawn(&self, sibling: Box<dyn Sibling>) -> io::Result<()> {
        self.handed.fetch_add(1, SeqCst);
        self.send(Message::Spawn(sibling));
        Ok(())
    }

    fn watch(&self, socket: BorrowedFd<'_>, source: &Arc<Source>) -> io::Result<Option<usize>> {
        let registry = self.registry.get().ok_or(io::ErrorKind::NotConnected)?;
        let mut sources = lock(&self.sources);
        let entry = sources.vacant_entry();
        let (key, both) = (entry.key(), Interest::READABLE | Interest::WRITABLE);
        registry.register(&mut SourceFd(&socket.as_raw_fd()), Token(SOURCES + key), both)?;
        entry.insert(source.clone());
        Ok(Some(key))
    }

    fn forget(&self, socket: BorrowedFd<'_>, key: usize) {
        if let Some(registry) = self.registry.get() {
            let _ = registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
        lock(&self.sources).try_remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_socket_that_is_forgotten_leaves_nothing() {
        let (inbox, _messages) = Inbox::new(Arc::new(Waker::new().unwrap()), Arc::new(Offload::new(1)));
        let poll = mio::Poll::new().unwrap();
        inbox.registry.get_or_init(|| poll.registry().try_clone().unwrap());
        let (socket, source) = (std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), Arc::default());
        // Twice: the system allows that only to one that it has forgotten.
        for _ in 0..2 {
            let key = inbox.watch(socket.as_fd(), &source).unwrap().unwrap();
            inbox.forget(socket.as_fd(), key);
            assert_eq!(Arc::strong_count(&source), 1);
        }
    }
}
