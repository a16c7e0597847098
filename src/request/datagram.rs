//! A datagram and its reply.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::core::Core;
use crate::addr::Addr;
use crate::deadline::deadline;
use crate::live::{Activity, Live, Socket};
use crate::park::Context;
use crate::readiness::Readiness;
use crate::socket;

/// How long a reply may take if the handler sets no write timeout: otherwise a Unix client that does not read its datagrams would hold
/// the request for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Datagram {
    pub(super) packet: Packet,
    pub(super) truncated: bool,
    /// What the handler has written: sent as one datagram at the end, if that was anything.
    pub(super) reply: Option<Vec<u8>>,
}

/// What the datagram contains.
pub(super) struct Packet {
    bytes: Vec<u8>,
    /// How far the handler has read.
    position: usize,
}

impl Datagram {
    pub(super) fn new(packet: Vec<u8>, truncated: bool) -> Datagram {
        Datagram { packet: Packet { bytes: packet, position: 0 }, truncated, reply: None }
    }

    /// The reply, if the handler has written one and the peer has a name to send it to.
    pub(super) fn take_reply(&mut self, core: &Core) -> Option<Reply> {
        let bytes = self.reply.take().filter(|_| !core.live.peer.is_unnamed())?;
        let (write_timeout, deadline) = (core.write_timeout.get(), core.deadline.get());
        Some(Reply { live: core.live.clone(), bytes, write_timeout, deadline })
    }
}

impl Packet {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.position..]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.position = self.bytes.len().min(self.position.saturating_add(count));
    }
}

/// A reply that is to be sent: what is left of a request when its handler has ended.
pub(crate) struct Reply {
    pub(crate) live: Arc<Live>,
    bytes: Vec<u8>,
    write_timeout: Option<Duration>,
    deadline: Option<Instant>,
}

impl Reply {
    /// Sends it as the handler would have, waiting for room in `context`.
    pub(crate) fn send(&self, context: &Rc<Context>) -> io::Result<()> {
        let core = Core::new(self.live.clone(), context.clone());
        core.write_timeout.set(self.write_timeout);
        core.deadline.set(self.deadline);
        send_to(&core, &self.bytes, &self.live.peer).map(|_| ()).map_err(unreachable)
    }

    /// What is to be sent, and to whom.
    pub(crate) fn message(&self) -> (&[u8], &Addr) {
        (&self.bytes, &self.live.peer)
    }

    /// Whether it goes out through this socket.
    pub(crate) fn is_for(&self, socket: &Arc<OwnedFd>) -> bool {
        matches!(&self.live.socket, Socket::Datagram { fd, .. } if Arc::ptr_eq(fd, socket))
    }
}

/// The error of sending to the peer. That it is gone, or has given an address to which nothing can be sent, such as port 0, is not
/// the handler's failure.
pub(super) fn unreachable(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        None | Some(Errno::MSGSIZE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN) => error,
        Some(_) => io::Error::new(io::ErrorKind::NotConnected, format!("the peer cannot be sent anything: {error}")),
    }
}

/// Sends one datagram from the server's socket.
///
/// Where the system has no room for it, this tries again after 1 ms, 2 ms, .. 32 ms: a Unix socket whose *receiver* is full
/// is never announced as ready.
pub(super) fn send_to(core: &Core, bytes: &[u8], addr: &Addr) -> io::Result<usize> {
    let Socket::Datagram { mapped, .. } = core.live.socket else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "only a datagram's request can send to any address"));
    };
    core.live.peer.scheme().check(addr)?;
    let mut writing = core.attempt(Readiness::WRITE).or_timeout(WRITE_TIMEOUT);
    let mut pause = Duration::from_millis(1);
    core.check()?;
    loop {
        let sent = writing.call(bytes.len(), socket::Blocking::No, |fd, _| socket::send_to(fd, bytes, addr, mapped))?;
        if let Some(sent) = sent {
            core.live.count_written(sent);
            return Ok(sent);
        }
        writing.check()?;
        core.wait_out(Activity::Writing, deadline(Some(pause)))?;
        pause = (pause * 2).min(Duration::from_millis(32));
    }
}
