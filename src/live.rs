//! [`Live`]: a request in progress, as the rest of the program may touch it: end it, wake it, write to its peer.

mod live_request;
mod live_set;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, fence};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

use slab::Slab;

use crate::addr::Addr;
use crate::deadline::has_passed;
use crate::lock::lock;
use crate::outbox::Outbox;
use crate::park::Unparker;
use crate::readiness::Readiness;
use crate::shutdown::{Control, Phase};
use crate::socket;

pub use live_request::{Activity, LiveRequest};
pub(crate) use live_set::LiveSet;

/// A request in progress. The handler's side owns it; the server's [`LiveSet`] and `Sender`s refer to it.
pub(crate) struct Live {
    pub(crate) socket: Socket,
    pub(crate) peer: Addr,
    pub(crate) control: Arc<Control>,
    /// The handler's thread blocks in a read at a message boundary, so that a drain may end the request. Written by that thread.
    idle: AtomicBool,
    /// The server has cut the request off, or a `Sender` has closed it. Never taken back.
    cut: AtomicBool,
    unparker: Unparker,
    pub(crate) began: Instant,
    /// What the handler does: an [`Activity`]. Written, like the next two, by the handler's side.
    activity: AtomicU8,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    /// What runs beside the handler, and is cut off with it.
    siblings: Mutex<Siblings>,
    /// What others have written to the peer; there once somebody could, which is rare.
    outbox: OnceLock<Box<Outbox>>,
}

#[derive(Default)]
struct Siblings {
    running: Slab<Unparker>,
    /// Whether the request has been cut off, for those who outlive it; there once it has spawned something.
    cut: Option<CutFlag>,
}

/// The request that something was spawned by, and which may be over before that.
pub(crate) struct Parent {
    pub(crate) live: Weak<Live>,
    pub(crate) cut: CutFlag,
}

/// Whether a request has been cut off, for those who may outlive it.
#[derive(Clone)]
pub(crate) struct CutFlag(Arc<AtomicBool>);

impl CutFlag {
    /// Fails once the request has been cut off.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.0.load(SeqCst) { Err(cut_off()) } else { Ok(()) }
    }
}

/// What a request is read from and answered through.
pub(crate) enum Socket {
    /// A connection's own.
    Connection(OwnedFd),
    /// The server's, for a datagram. `mapped` says that it is an IPv6 socket with IPv4 peers.
    Datagram { fd: Arc<OwnedFd>, mapped: bool },
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Connection(fd) => fd.as_fd(),
            Socket::Datagram { fd, .. } => fd.as_fd(),
        }
    }
}

impl Live {
    pub(crate) fn new(socket: Socket, peer: Addr, control: Arc<Control>, unparker: Unparker, began: Instant) -> Live {
        let (idle, cut) = (AtomicBool::new(false), AtomicBool::new(false));
        Live {
            socket,
            peer,
            control,
            idle,
            cut,
            unparker,
            began,
            activity: AtomicU8::new(Activity::Running as u8),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            siblings: Mutex::default(),
            outbox: OnceLock::new(),
        }
    }

    /// Fails once the request has been cut off.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_cut() { Err(cut_off()) } else { Ok(()) }
    }

    /// Cuts the request off if its server's end leaves it no more time.
    #[cold]
    pub(crate) fn cut_if_late(&self) {
        if has_passed(self.cut_at()) {
            self.cut_at_end();
        }
    }

    /// The result of a call on the socket. What fails because the request was cut off meanwhile fails as everything does then.
    pub(crate) fn unless_cut<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.or_else(|error| self.check().and(Err(error)))
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(SeqCst)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.control.phase() != Phase::Serving
    }

    /// Says whether the handler's thread is about to block at a message boundary. Whoever says yes must check for a drain
    /// afterwards. A drain checks this after it has begun, so one of the two sees the other.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.store(idle, if idle { SeqCst } else { Relaxed });
    }

    /// Cuts the request off because the server's end leaves it no more time, and counts that.
    pub(crate) fn cut_at_end(&self) {
        {
            // The serving thread may do this, and the request, and what it has spawned: it is counted once, and before any of them sees it
            // and ends, or the serving could be over by then.
            let _siblings = lock(&self.siblings);
            if !self.is_cut() {
                self.control.count_cut();
                self.cut.store(true, SeqCst);
            }
        }
        self.cut();
    }

    /// Cuts the request off: all its I/O fails from now on, and what waits does so at once.
    pub(crate) fn cut(&self) {
        self.cut.store(true, SeqCst);
        if let Socket::Connection(fd) = &self.socket {
            socket::shutdown_both(fd.as_fd());
        }
        self.unparker.unpark();
        lock(&self.siblings).cut_off();
        // The cut before the look for an outbox: either this sees it, or who waits for room there sees the cut.
        fence(SeqCst);
        if let Some(outbox) = self.outbox() {
            outbox.wake_writers();
        }
    }

    /// For something that is to be cut off with the request, also when that is over.
    pub(crate) fn parent(self: &Arc<Live>) -> Parent {
        let mut siblings = lock(&self.siblings);
        let cut = siblings.cut.get_or_insert_with(|| CutFlag(Arc::new(AtomicBool::new(self.is_cut()))));
        Parent { live: Arc::downgrade(self), cut: cut.clone() }
    }

    /// Adds something that is to be woken when the request is cut off, and returns its key.
    pub(crate) fn add_sibling(&self, sibling: Unparker) -> usize {
        lock(&self.siblings).running.insert(sibling)
    }

    pub(crate) fn remove_sibling(&self, key: usize) {
        lock(&self.siblings).running.try_remove(key);
    }

    /// Tells the request of the drain, so that it ends if it is idle: the handler then reads the end of the stream. `true` if its
    /// thread seems to block in the read itself, and does not hear that.
    fn drain(&self) -> bool {
        self.unparker.unpark();
        self.is_idle()
    }

    /// Whether the handler's thread blocks at a message boundary. One that has something to read is about to wake up, and sees a drain
    /// before it waits again.
    fn is_idle(&self) -> bool {
        match &self.socket {
            Socket::Connection(fd) => self.idle.load(SeqCst) && !socket::has_input(fd.as_fd()),
            Socket::Datagram { .. } => false,
        }
    }

    /// Ends the read in which the handler's thread blocks, if it still does.
    fn end_read(&self) {
        if self.is_idle() {
            socket::shutdown_read(self.socket.as_fd());
        }
    }

    /// Says what the handler does from now on.
    pub(crate) fn set_activity(&self, activity: Activity) {
        self.activity.store(activity as u8, Relaxed);
    }

    /// Says that the handler does `activity` for as long as `call` takes.
    pub(crate) fn during<T>(&self, activity: Activity, call: impl FnOnce() -> T) -> T {
        // What is offloaded in place may wait in turn.
        let before = self.activity.load(Relaxed);
        self.set_activity(activity);
        let result = call();
        self.activity.store(before, Relaxed);
        result
    }

    /// Counts bytes that the handler has read. Only its side counts, so that no exchange between threads is needed.
    pub(crate) fn count_read(&self, bytes: usize) {
        self.bytes_read.store(self.bytes_read.load(Relaxed) + bytes as u64, Relaxed);
    }

    /// Counts bytes that the handler has written.
    pub(crate) fn count_written(&self, bytes: usize) {
        self.bytes_written.store(self.bytes_written.load(Relaxed) + bytes as u64, Relaxed);
    }

    fn describe(&self) -> LiveRequest {
        LiveRequest {
            peer: self.peer.clone(),
            age: self.began.elapsed(),
            activity: Activity::of(self.activity.load(Relaxed)),
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_written: self.bytes_written.load(Relaxed) + self.outbox().map_or(0, Outbox::sent),
        }
    }

    pub(crate) fn unpark(&self) {
        self.unparker.unpark();
    }

    /// What others have written, if anybody could.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        self.outbox.get().map(|outbox| &**outbox)
    }

    /// When a drain that runs will cut this request off, if that has not happened.
    #[inline]
    pub(crate) fn cut_at(&self) -> Option<Instant> {
        if self.is_draining() && !self.is_cut() { self.control.cut_at() } else { None }
    }

    /// Whether others have written what is not sent yet.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.outbox().is_some_and(Outbox::is_pending)
    }

    /// Sends what others have written, without waiting. Says what to wait for, too, because of what is left.
    pub(crate) fn flush_outbox(&self) -> io::Result<Readiness> {
        let left = match self.outbox() {
            Some(outbox) if outbox.is_pending() => self.unless_cut(outbox.flush(self.socket.as_fd()))?,
            _ => false,
        };
        Ok(if left { Readiness::WRITE } else { Readiness::NONE })
    }

    /// Lets others write; the handler's side must watch for it (`Parker::watch_unpark`).
    pub(crate) fn open_outbox(&self) {
        self.outbox.get_or_init(Box::default);
        // See `cut`.
        fence(SeqCst);
    }
}

impl Siblings {
    fn cut_off(&self) {
        if let Some(CutFlag(cut)) = &self.cut {
            cut.store(true, SeqCst);
        }
        self.running.iter().for_each(|(_, sibling)| sibling.unpark());
    }
}

impl Drop for Live {
    /// Nothing will be sent any more: tells those who wait for room.
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.get() {
            outbox.wake_writers();
        }
    }
}

#[cold]
fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "this request has been cut off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::UnixName;
    use crate::park::{Listening, Parker, TaskId};

    /// The handler may be the one who hears of it, and the last one that its serving waits for.
    #[test]
    fn a_cut_is_counted_once_and_before_it_is_told() {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let (control, counted) = (Arc::new(Control::new()), crossbeam_channel::unbounded());
        let its_control = control.clone();
        let counts = Listening(move |_| counted.0.send(its_control.take_cuts()).unwrap());
        let (peer, unparker) = (Addr::Unix(UnixName::Unnamed), Unparker::new(Arc::new(counts), TaskId(0)));
        let live = Live::new(Socket::Connection(socket.into()), peer, control, unparker, Instant::now());
        live.cut_at_end();
        live.cut_at_end();
        assert_eq!(counted.1.try_iter().collect::<Vec<_>>(), [1, 0]);
    }

    /// It has been cut off before it spawns for the first time, and ends before what it spawns.
    #[test]
    fn who_is_spawned_after_the_cut_is_cut_off() {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let (control, unparker) = (Arc::new(Control::new()), Parker::for_thread(None).unparker());
        let peer = Addr::Unix(UnixName::Unnamed);
        let live = Arc::new(Live::new(Socket::Connection(socket.into()), peer, control, unparker, Instant::now()));
        live.cut();
        let parent = live.parent();
        drop(live);
        assert!(parent.cut.check().is_err());
    }
}
