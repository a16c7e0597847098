//! [`TcpStream`]: a TCP connection to somebody else.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;

use super::first_of;
use super::waiting::Waiting;
use crate::addr::{Addr, Scheme};
use crate::socket;

/// A TCP connection that waits where its caller does. As [`std::net::TcpStream`]; its clones are the same connection.
#[derive(Clone)]
pub struct TcpStream {
    waiting: Arc<Waiting>,
}

impl TcpStream {
    /// Connects to the first address of `addr` that answers. A name is resolved first, by the system's resolver, on the event loop on a
    /// thread of its pool, for which `addr` must be owned. What is an address already is not resolved: a [`SocketAddr`] or its text; an IP
    /// address or its text, with a port.
    ///
    /// # Errors
    ///
    /// The last address's: `ConnectionRefused`, `TimedOut` (the system's, after some two minutes), `HostUnreachable`. The
    /// resolver's. `InvalidInput` if there is no address.
    pub fn connect(addr: impl ToSocketAddrs + Send + 'static) -> io::Result<TcpStream> {
        first_of(addr, |addr| Waiting::connect(&Addr::Tcp(addr), None)).map(TcpStream::over)
    }

    /// Connects to one address, within `timeout`.
    ///
    /// # Errors
    ///
    /// As [`connect`](TcpStream::connect), and `TimedOut`.
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        Waiting::connect(&Addr::Tcp(*addr), Some(timeout)).map(TcpStream::over)
    }

    pub(super) fn over(waiting: Waiting) -> TcpStream {
        // It fails at most where the connection is broken already, which its first call will tell.
        let _ = sockopt::set_tcp_nodelay(waiting.fd(), true);
        TcpStream { waiting: Arc::new(waiting) }
    }

    /// Limits the time that one read may wait, for all clones; `None`, the default, is no limit.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.waiting.set_timeouts(|timeouts| timeouts.read = timeout);
    }

    /// Limits the time that one write may wait, for all clones; `None`, the default, is no limit.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.waiting.set_timeouts(|timeouts| timeouts.write = timeout);
    }

    /// Whether small writes go out at once (`TCP_NODELAY`), as they do by default, unlike std's, or wait for the peer to acknowledge the
    /// ones before: in a proxy that would be 40 ms for the second half of a message.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        Ok(sockopt::set_tcp_nodelay(self.waiting.fd(), nodelay)?)
    }

    /// Ends one direction or both, for all clones: what waits for it returns.
    ///
    /// # Errors
    ///
    /// The system's: `NotConnected`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        socket::shutdown(self.waiting.fd(), how)
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// The system's: `NotConnected` if it has reset the connection.
    pub fn peer_addr(&self) -> io::Result<Addr> {
        socket::peer_addr(self.waiting.fd(), Scheme::Tcp)
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn local_addr(&self) -> io::Result<Addr> {
        socket::local_addr(self.waiting.fd(), Scheme::Tcp)
    }
}

/// Adopts a connection that somebody else has made: with options of its own before it connected, for instance. It is made non-blocking, in
/// all of its copies, and the timeouts that it had are heeded no longer.
impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    fn try_from(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        Waiting::over(stream.into()).map(TcpStream::over)
    }
}

impl Read for TcpStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.waiting.recv(into)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.send(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.waiting.send_vectored(pieces)
    }

    /// One write, whatever the text is put together from: the default makes one of each piece.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(fmt::format(text).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.fd()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream").field("local_addr", &self.local_addr().ok()).finish_non_exhaustive()
    }
}
