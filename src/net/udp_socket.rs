//! [`UdpSocket`]: datagrams to and from somebody else.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::first_of;
use super::waiting::Waiting;
use crate::addr::{Addr, Scheme};
use crate::socket;

/// A UDP socket that waits where its caller does. As [`std::net::UdpSocket`]; its clones are the same socket.
///
/// One that is [connected](UdpSocket::connect) receives from its peer alone, and is told if nobody listens there. One that is
/// [bound](UdpSocket::bind) talks with anybody.
#[derive(Clone)]
pub struct UdpSocket {
    waiting: Arc<Waiting>,
    /// Whether it is an IPv6 socket, which needs IPv4 peers spelled as IPv6.
    mapped: bool,
}

impl UdpSocket {
    /// A socket for datagrams to and from the first address of `addr` that there is a way to, on a port of the system's choice.
    ///
    /// # Errors
    ///
    /// The resolver's, and the last address's: `AddrNotAvailable` if there is no port left. `InvalidInput` if there is no address.
    pub fn connect(addr: impl ToSocketAddrs + Send + 'static) -> io::Result<UdpSocket> {
        first_of(addr, |addr| Ok(UdpSocket::over(Waiting::connect(&Addr::Udp(addr), None)?, addr.is_ipv6())))
    }

    /// A socket for datagrams to and from anybody, at the first address of `addr` that is free. Port 0 is one of the system's choice.
    ///
    /// # Errors
    ///
    /// The resolver's, and the last address's: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`. `InvalidInput` if there is no address.
    ///
    /// ```
    /// use std::io::{self, Write};
    /// use std::time::Duration;
    /// use socketserver::net::UdpSocket;
    /// use socketserver::{Addr, EventLoopTcpServer, Request};
    ///
    /// /// Asks two servers, and passes on what the faster one answers.
    /// fn faster(request: &mut Request) -> io::Result<()> {
    ///     let socket = UdpSocket::bind("0.0.0.0:0")?;
    ///     socket.set_read_timeout(Some(Duration::from_secs(2)));
    ///     for server in [[192, 0, 2, 1], [192, 0, 2, 2]] {
    ///         socket.send_to(b"what time is it?", &Addr::Udp((server, 7).into()))?;
    ///     }
    ///     let mut answer = [0; 512];
    ///     let (length, _) = socket.recv_from(&mut answer)?;
    ///     request.write_all(&answer[..length])
    /// }
    /// # let _ = EventLoopTcpServer::bind("127.0.0.1:0", faster)?;
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn bind(addr: impl ToSocketAddrs + Send + 'static) -> io::Result<UdpSocket> {
        first_of(addr, |addr| {
            let fd = socket::open(&Addr::Udp(addr))?;
            socket::bind(fd.as_fd(), &Addr::Udp(addr))?;
            Ok(UdpSocket::over(Waiting::over(fd)?, addr.is_ipv6()))
        })
    }

    fn over(waiting: Waiting, mapped: bool) -> UdpSocket {
        UdpSocket { waiting: Arc::new(waiting), mapped }
    }

    /// Sends one datagram to the peer that it is connected to.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if an earlier one found nobody listening; the system's.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.send(bytes)
    }

    /// Sends one datagram to `addr`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for the address of another kind of socket; the system's.
    pub fn send_to(&self, bytes: &[u8], addr: &Addr) -> io::Result<usize> {
        Scheme::Udp.check(addr)?;
        self.waiting.send_to(bytes, addr, self.mapped)
    }

    /// Receives one datagram; what does not fit into the buffer is lost.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if nobody listens there; `TimedOut`; the system's.
    pub fn recv(&self, into: &mut [u8]) -> io::Result<usize> {
        self.waiting.recv(into)
    }

    /// As [`recv`](UdpSocket::recv), and says whose it is.
    ///
    /// # Errors
    ///
    /// As [`recv`](UdpSocket::recv).
    pub fn recv_from(&self, into: &mut [u8]) -> io::Result<(usize, Addr)> {
        self.waiting.recv_from(into)
    }

    /// Limits the time that one `recv` or `recv_from` may wait, for all clones; `None`, the default, is no limit.
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

/// Adopts a socket that somebody else has opened. It is made non-blocking, in all of its copies, and the timeouts that it had are heeded no
/// longer.
impl TryFrom<std::net::UdpSocket> for UdpSocket {
    type Error = io::Error;

    fn try_from(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        let mapped = socket.local_addr()?.is_ipv6();
        Ok(UdpSocket::over(Waiting::over(socket.into())?, mapped))
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
