//! [`Live`]: a request in progress, as the rest of the program may touch it: end it, wake it, write to its peer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use slab::Slab;

use crate::addr::Addr;
use crate::outbox::Outbox;
use crate::park::Unparker;
use crate::shutdown::{Control, Phase};
use crate::socket;

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
    /// What others have written to the peer; there once somebody could.
    outbox: OnceLock<Outbox>,
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
    pub(crate) fn new(socket: Socket, peer: Addr, control: Arc<Control>, unparker: Unparker) -> Live {
        let (idle, cut) = (AtomicBool::new(false), AtomicBool::new(false));
        Live { socket, peer, control, idle, cut, unparker, outbox: OnceLock::new() }
    }

    /// Fails once the request has been cut off.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_cut() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server has cut this request off"));
        }
        Ok(())
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(SeqCst)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.control.phase() != Phase::Serving
    }

    /// Says whether the handler's thread is about to block at a message boundary. Whoever says yes must look at the drain
    /// afterwards, as a drain looks at this after it has begun: so one of the two sees the other.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.store(idle, if idle { SeqCst } else { Relaxed });
    }

    /// Cuts the request off: all its I/O fails from now on, and what waits does so at once.
    pub(crate) fn cut(&self) {
        self.cut.store(true, SeqCst);
        if let Socket::Connection(fd) = &self.socket {
            socket::shutdown_both(fd.as_fd());
        }
        self.unparker.unpark();
    }

    /// Tells the request of the drain, so that it ends if it is idle: the handler then reads the end of the stream. A thread
    /// that blocks in the read itself does not hear that; its read is ended instead.
    fn drain(&self) {
        if self.idle.load(SeqCst) {
            if let Socket::Connection(fd) = &self.socket {
                socket::shutdown_read(fd.as_fd());
            }
        }
        self.unparker.unpark();
    }

    pub(crate) fn unpark(&self) {
        self.unparker.unpark();
    }

    /// What others have written, if anybody could.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        self.outbox.get()
    }

    /// Lets others write; the handler's side must watch for it (`Parker::watch_unpark`).
    pub(crate) fn open_outbox(&self) {
        self.outbox.get_or_init(Outbox::default);
    }
}

/// All requests in progress of one server.
#[derive(Default)]
pub(crate) struct LiveSet {
    requests: Mutex<Slab<Arc<Live>>>,
}

impl LiveSet {
    /// Adds a request that begins, and returns its key. It is cut off if all are.
    pub(crate) fn insert(&self, live: Arc<Live>) -> usize {
        let key = self.lock().insert(live.clone());
        if live.control.phase() == Phase::Cut {
            live.cut();
        }
        key
    }

    pub(crate) fn remove(&self, key: usize) {
        self.lock().try_remove(key);
    }

    /// Ends the idle requests.
    pub(crate) fn drain(&self) {
        self.lock().iter().for_each(|(_, live)| live.drain());
    }

    /// Cuts all requests off and says how many.
    pub(crate) fn cut(&self) -> usize {
        let requests = self.lock();
        requests.iter().for_each(|(_, live)| live.cut());
        requests.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slab<Arc<Live>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
