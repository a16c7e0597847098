//! [`Sender`]: writes to a request's peer from elsewhere.

use std::fmt;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::datagram::unreachable;
use crate::addr::Addr;
use crate::deadline::{deadline, in_time};
use crate::live::{Activity, Live, Socket};
use crate::outbox::{Outbox, over};
use crate::park::{self, Unparker};
use crate::socket;

/// Bytes that may wait for one connection's peer unless [`Sender::capacity`] says otherwise: a lively peer on a slow line
/// gets by with that, and ten thousand peers that do not read hold no more than 640 MB.
const CAPACITY: usize = 64 * 1024;

/// A handle to a request in progress, from [`Request::sender`](crate::Request::sender), by which others write to its peer: a
/// chat's other members, a thread that has news.
///
/// It is cheap to clone, may be used from any thread and any handler, and does not keep the request alive. [`send`](Sender::send) never
/// waits; writing with [`Write`] does.
///
/// What a sender sends is no answer of the request's own handler. To a drain, a handler that has read something is busy until it writes
/// by itself, or says [`set_idle`](crate::Request::set_idle).
///
/// ```
/// use std::io::{self, BufRead};
/// use std::sync::{Arc, Mutex};
/// use socketserver::{EventLoopTcpServer, Request, Sender};
///
/// let members: Arc<Mutex<Vec<Sender>>> = Arc::default();
/// let chat = move |request: &mut Request| -> io::Result<()> {
///     members.lock().unwrap().push(request.sender()?);
///     let mut line = String::new();
///     while request.read_line(&mut line)? > 0 {
///         members.lock().unwrap().retain(|member| member.send(line.as_bytes()).is_ok());
///         line.clear();
///         // Nobody waits for more: so a drain need not, either.
///         request.set_idle();
///     }
///     Ok(())
/// };
/// let server = EventLoopTcpServer::bind("127.0.0.1:0", chat)?;
/// # drop(server);
/// # Ok::<(), io::Error>(())
/// ```
#[derive(Clone)]
pub struct Sender {
    live: Weak<Live>,
    peer: Addr,
    capacity: usize,
    /// How long a write may wait for room.
    timeout: Option<Duration>,
    /// The request is a datagram: what is sent is one, too, which waits in no queue.
    is_datagram: bool,
}

impl Sender {
    pub(super) fn new(live: &Arc<Live>, timeout: Option<Duration>) -> Sender {
        let is_datagram = matches!(live.socket, Socket::Datagram { .. });
        Sender { live: Arc::downgrade(live), peer: live.peer.clone(), capacity: CAPACITY, timeout, is_datagram }
    }

    /// A sender to the same peer that queues up to `bytes` (64 KiB by default, at least 1) beside what the system's own buffers hold.
    pub fn capacity(mut self, bytes: usize) -> Sender {
        self.capacity = bytes.max(1);
        self
    }

    /// Sends a message without waiting. It arrives whole: nothing that the handler or others write comes between its bytes.
    ///
    /// What the system does not take at once is queued, and sent while the handler waits in a call of this crate; what is still queued when
    /// the handler ends is sent then, within its write timeout or 2 seconds. Nothing is sent while the handler computes, nor while it waits
    /// in [`offload`](crate::Request::offload) on any backend but the event loop, as that runs the work in place:
    /// [`capacity`](Sender::capacity) is to hold what may come meanwhile. For a datagram's request this sends one datagram.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the message does not fit into the queue, so that nothing of it was sent: the peer reads too slowly, or the message
    /// is longer than the [`capacity`](Sender::capacity). A datagram fits if the system has room for it.
    /// `NotConnected` if the request is over, as it is when its handler has ended, or a datagram's peer is gone or has no name.
    /// `ConnectionAborted` if it was closed or cut off. `BrokenPipe` after [`finish`](Sender::finish). The system's, if the connection is
    /// broken.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        let live = self.live.upgrade().ok_or_else(over)?;
        live.check()?;
        match &live.socket {
            Socket::Datagram { .. } if live.peer.is_unnamed() => Err(nameless()),
            Socket::Datagram { fd, mapped } => {
                socket::send_to(fd.as_fd(), message, &live.peer, *mapped).map(|_| ()).map_err(unreachable)
            }
            Socket::Connection(fd) => {
                let outbox = live.outbox().ok_or_else(over)?;
                if live.unless_cut(outbox.post(fd.as_fd(), message, self.capacity))? {
                    live.unpark();
                }
                Ok(())
            }
        }
    }

    /// Ends the writing direction (`SHUT_WR`): the peer reads the end of the stream after all that was sent so far. The handler can go on
    /// reading, until the peer ends its direction as well; whatever writes fails with `BrokenPipe` from now on. This is how a proxy passes
    /// its upstream's end on (see [`net`](crate::net)). For a datagram's request it does nothing.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the request is over, `ConnectionAborted` if it was closed or cut off.
    #[doc(alias("shutdown", "half-close"))]
    pub fn finish(&self) -> io::Result<()> {
        let live = self.live.upgrade().ok_or_else(over)?;
        live.check()?;
        if let (Socket::Connection(fd), Some(outbox)) = (&live.socket, live.outbox()) {
            outbox.finish(fd.as_fd());
        }
        Ok(())
    }

    /// Ends the request: every I/O call of its handler, now and later, returns an error of kind `ConnectionAborted`, except that what has
    /// been buffered, or a datagram, can still be read. What is still queued is lost, as is the reply to a datagram. Does nothing if the
    /// request is over.
    pub fn close(&self) {
        if let Some(live) = self.live.upgrade() {
            live.cut();
        }
    }

    fn with_outbox(&self, call: impl FnOnce(&Outbox)) {
        if let Some(live) = self.live.upgrade() {
            if let Some(outbox) = live.outbox() {
                call(outbox);
            }
        }
    }

    /// The most bytes that are written as one message.
    fn longest(&self) -> usize {
        if self.is_datagram { usize::MAX } else { self.capacity }
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> &Addr {
        &self.peer
    }
}

fn nameless() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the peer has no name that anything could be sent to")
}

/// Writing, unlike [`send`](Sender::send), waits while the queue is full: it parks the coroutine, or blocks the thread, for no longer
/// than the write timeout that the request had when the sender was made. The deadline of the writer's own request does not end that wait.
/// A message that is longer than the queue goes in pieces, and what others send may come between them. To a datagram's request each write
/// sends one datagram, without waiting.
///
/// # Errors
///
/// As [`send`](Sender::send), `WouldBlock` for a datagram's request alone; also `TimedOut`, and `ConnectionAborted` if the writer's own
/// request is cut off.
impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(self.longest())];
        let context = park::current();
        // Also where there is room: a writer that never has to wait learns here that it has been cut off.
        context.check()?;
        let mut asked = false;
        let (mut waits, mut until) = (None, None);
        loop {
            match self.send(piece) {
                Ok(()) => {
                    context.spend(piece.len());
                    return Ok(piece.len());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_datagram => {}
                Err(error) => return Err(error),
            }
            if asked {
                context.check()?;
                in_time(until)?;
                context.park(Activity::Waiting, until)?;
            } else {
                until = until.or_else(|| deadline(self.timeout));
                // And then it tries again: room may have come up in between.
                waits.get_or_insert_with(|| Waits { sender: self, writer: context.parker.unparker() }).ask();
            }
            asked = !asked;
        }
    }

    /// As the default, but also of no bytes it makes a write: to a datagram's request that is an empty datagram.
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let count = self.write(bytes)?;
            bytes = &bytes[count..];
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// One message, whatever it is put together from, such as a [frame](crate::frame): the default takes the first piece alone.
    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut message = Vec::new();
        for piece in pieces {
            let room = self.longest() - message.len();
            message.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        self.write(&message)
    }

    /// One write, whatever the text is put together from: the default makes one of each piece.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(fmt::format(text).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that waits for room. The peer may never read: so its queue keeps nothing of a writer that has given up.
struct Waits<'a> {
    sender: &'a Sender,
    writer: Unparker,
}

impl Waits<'_> {
    fn ask(&self) {
        self.sender.with_outbox(|outbox| outbox.wait_for_room(self.writer.clone()));
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.sender.with_outbox(|outbox| outbox.forget(&self.writer));
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("peer_addr", &self.peer).finish_non_exhaustive()
    }
}
