//! [`Udp`]: datagrams over IPv4, IPv6, or both.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt;

use super::{Bind, Incoming, Listener, MAX_PACKET_SIZE, Receiver, explain, prepare, wrong_kind};
use crate::addr::{Addr, Scheme, ToAddr};
use crate::socket;

/// A bound UDP socket.
///
/// Bound to all interfaces (`0.0.0.0`, `[::]`), its replies leave from the address that the system routes by, which need not be the one that
/// was asked; a client that minds, as most DNS clients do, is to be served by a socket bound to that address.
pub struct Udp {
    receiver: Receiver,
    addr: Addr,
}

impl Udp {
    /// The options, each with its default.
    pub fn options() -> UdpOptions {
        UdpOptions::default()
    }
}

/// How a [`Udp`] listener is opened. From [`Udp::options`].
#[derive(Clone, Debug)]
pub struct UdpOptions {
    max_packet_size: usize,
    reuse_address: bool,
    reuse_port: bool,
    only_v6: bool,
    broadcast: bool,
    receive_buffer: Option<usize>,
}

impl Default for UdpOptions {
    fn default() -> UdpOptions {
        UdpOptions {
            max_packet_size: MAX_PACKET_SIZE,
            reuse_address: false,
            reuse_port: false,
            only_v6: false,
            broadcast: false,
            receive_buffer: None,
        }
    }
}

impl UdpOptions {
    /// The longest packet that is taken whole, in bytes: 65,535 by default, which is any. Of a longer one the handler sees the
    /// beginning, with [`Request::is_truncated`](crate::Request::is_truncated).
    pub fn max_packet_size(mut self, bytes: usize) -> UdpOptions {
        self.max_packet_size = bytes.min(MAX_PACKET_SIZE);
        self
    }

    /// Whether the address may be bound although another socket has bound it and allows that, too (`SO_REUSEADDR`), as the
    /// members of a multicast group on one host do: no by default, unlike TCP's. There is no `TIME_WAIT` to overcome, and a
    /// second server would quietly take the first one's datagrams.
    #[doc(alias = "allow_reuse_address")]
    pub fn reuse_address(mut self, reuse: bool) -> UdpOptions {
        self.reuse_address = reuse;
        self
    }

    /// Whether several sockets may share the port, the kernel spreading the datagrams (`SO_REUSEPORT`): no by default.
    #[doc(alias = "allow_reuse_port")]
    pub fn reuse_port(mut self, reuse: bool) -> UdpOptions {
        self.reuse_port = reuse;
        self
    }

    /// Whether an IPv6 address serves IPv6 alone: no by default.
    pub fn only_v6(mut self, only: bool) -> UdpOptions {
        self.only_v6 = only;
        self
    }

    /// Whether datagrams may be sent to broadcast addresses (`SO_BROADCAST`): no by default.
    pub fn broadcast(mut self, broadcast: bool) -> UdpOptions {
        self.broadcast = broadcast;
        self
    }

    /// How many bytes the kernel holds until the server gets to them (`SO_RCVBUF`): the system's default unless set. Linux caps it
    /// at `net.core.rmem_max`. What comes when that is full is lost.
    pub fn receive_buffer(mut self, bytes: usize) -> UdpOptions {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Opens the listener.
    ///
    /// # Errors
    ///
    /// As [`Bind::bind`].
    pub fn bind(self, addr: impl ToAddr) -> io::Result<Udp> {
        let addr = addr.to_addr(Scheme::Udp)?;
        let (fd, mapped) = self.open(&addr).map_err(|error| explain(error, &addr))?;
        let addr = socket::local_addr(fd.as_fd(), Scheme::Udp)?;
        Ok(Udp { receiver: Receiver::new(fd, mapped, self.max_packet_size), addr })
    }

    fn open(&self, addr: &Addr) -> io::Result<(OwnedFd, bool)> {
        let Addr::Udp(inet) = addr else { return Err(wrong_kind("udp://HOST:PORT")) };
        let fd = socket::open(addr)?;
        sockopt::set_socket_reuseaddr(&fd, self.reuse_address)?;
        if self.reuse_port {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        let v6 = matches!(inet, SocketAddr::V6(_));
        if v6 {
            sockopt::set_ipv6_v6only(&fd, self.only_v6)?;
        }
        sockopt::set_socket_broadcast(&fd, self.broadcast)?;
        if let Some(bytes) = self.receive_buffer {
            sockopt::set_socket_recv_buffer_size(&fd, bytes)?;
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        socket::bind(fd.as_fd(), addr)?;
        Ok((fd, v6 && !self.only_v6))
    }
}

impl Bind for Udp {
    fn bind(addr: impl ToAddr) -> io::Result<Udp> {
        Udp::options().bind(addr)
    }
}

impl Listener for Udp {
    fn local_addr(&self) -> &Addr {
        &self.addr
    }

    fn get_request(&mut self) -> io::Result<Incoming> {
        self.receiver.get_request(Scheme::Udp)
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.fd.as_fd()
    }
}

/// Adopts a socket that is bound already.
///
/// # Errors
///
/// `InvalidInput` if it is no UDP socket, or is not bound.
impl TryFrom<OwnedFd> for Udp {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Udp> {
        let addr = prepare(&fd, Scheme::Udp)?;
        let v6 = addr.as_inet().is_some_and(|addr| addr.is_ipv6());
        let mapped = v6 && !sockopt::ipv6_v6only(&fd)?;
        Ok(Udp { receiver: Receiver::new(fd, mapped, MAX_PACKET_SIZE), addr })
    }
}

impl TryFrom<std::net::UdpSocket> for Udp {
    type Error = io::Error;

    fn try_from(socket: std::net::UdpSocket) -> io::Result<Udp> {
        OwnedFd::from(socket).try_into()
    }
}

impl fmt::Debug for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp").field("addr", &self.addr).finish_non_exhaustive()
    }
}
