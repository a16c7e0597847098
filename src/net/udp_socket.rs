//! [`UdpSocket`]: datagrams to and from somebody else.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::resolve;
use super::waiting::Waiting;
use crate::addr::{Addr, Scheme};
use crate::socket;

/// A UDP socket that waits where its caller does. As [`std::net::UdpSocket`]; its clones are the same socket.
///
/// It must be connected to the peer that it talks to: then it hears of nobody else, and of a port that nobody listens on.
#[derive(Clone)]
pub struct UdpSocket {
    waiting: Arc<Waiting>,
}

impl UdpSocket {
    /// A socket for datagrams to and from the first address of `addr`, on a port of the system's choice.
    ///
    /// # Errors
    ///
    /// The resolver's, and the system's: `AddrNotAvailable` if there is no port left. `InvalidInput` if there is no address.
    pub fn connect(addr: impl ToSocketAddrs + Send + 'static) -> io::Result<UdpSocket> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
        let addr: SocketAddr = resolve(addr)?.into_iter().next().ok_or_else(none)?;
        let waiting = Waiting::connect(&Addr::Udp(addr), None)?;
        Ok(UdpSocket { waiting: Arc::new(waiting) })
    }

    /// Sends one datagram.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if an earlier one found nobody listening; the system's.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.send(bytes)
    }

    /// Receives one datagram; what does not fit into the buffer is lost.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if nobody listens there; `TimedOut`; the system's.
    pub fn recv(&self, into: &mut [u8]) -> io::Result<usize> {
        self.waiting.recv(into)
    }

    /// Limits the time that one `recv` may wait, for all clones; `None`, the default, is no limit.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.waiting.set_timeouts(|timeouts| timeouts.read = timeout);
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn local_addr(&self) -> io::Result<Addr> {
        socket::local_addr(self.waiting.fd(), Scheme::Udp)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.fd()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket").field("local_addr", &self.local_addr().ok()).finish_non_exhaustive()
    }
}
