//! [`Listener`]: where requests come from.
//!
//! The duties of a listener are to own a socket that does not block, to get one request from it when asked, and to know its
//! address. It knows nothing of who runs its requests, and does nothing for a connection that could wait.
//!
//! | listener | requests | address | Python |
//! |---|---|---|---|
//! | [`Tcp`] | connections | `tcp://host:port` | `TCPServer` |
//! | [`Udp`] | datagrams | `udp://host:port` | `UDPServer` |
//! | [`UnixStream`] | connections | `unix:///path`, `unix://@name` | `UnixStreamServer` |
//! | [`UnixDatagram`] | datagrams | `unixgram:///path`, `unixgram://@name` | `UnixDatagramServer` |
//!
//! Each has options, which are set before it is bound: `Tcp::options().reuse_port(true).bind("127.0.0.1:9999")`. A socket that
//! somebody else has opened is adopted with `TryFrom`, from an [`OwnedFd`] or from std's type, or with [`adopt`], if its kind is not known.
//! That makes it non-blocking, for all processes that have it. A descriptor of another kind is an error, and closed.
//!
//! # When another process takes over
//!
//! Several processes may have the same listening socket: one that is to take over is passed its descriptor, as systemd does, or has been
//! forked. A [`drain`](crate::ShutdownHandle::drain) closes this process's part alone; what waits in the kernel's queue is the other's. No
//! connection is lost by that, if
//!
//! * the other one has the socket before this one drains;
//! * both have adopted it, from whoever opened it: a drain removes the path of a Unix socket that was bound here, and where there is no
//!   descriptor to spare it ends a socket that was bound here for all;
//! * each handler begins with [`set_busy`](crate::Request::set_busy): to a drain, a connection that has been accepted is idle until its
//!   first byte comes, which may be on its way. With a read timeout, a client that never speaks does not hold up the drain for long.

mod tcp;
mod udp;
mod unix_datagram;
mod unix_path;
mod unix_stream;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use crate::addr::{Addr, Scheme, ToAddr};
use crate::live::Socket;
use crate::socket;

pub use tcp::{Tcp, TcpOptions};
pub use udp::{Udp, UdpOptions};
pub use unix_datagram::{UnixDatagram, UnixDatagramOptions};
pub use unix_stream::{UnixStream, UnixStreamOptions};

/// Where a server's requests come from. Its descriptor is ready for reading when there is a request to get.
pub trait Listener: AsFd + Send {
    /// The address that it is bound to, with the port that the system chose if it was asked to.
    fn local_addr(&self) -> &Addr;

    /// Gets one request.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none now: if the descriptor is ready all the same, an event loop does not ask again before another comes.
    /// `ConnectionAborted` if there was one, and it is lost or turned away: the server counts that as an accept error and asks for the next.
    /// Any other is the system's: the server passes over those that it knows to concern one connection alone, and after the others pauses,
    /// for a second at the most.
    fn get_request(&mut self) -> io::Result<Incoming>;

    /// Makes the system refuse new connections, if there is a way; [`reopen`](Listener::reopen) undoes it.
    fn refuse(&mut self) {}

    /// Listens again after [`refuse`](Listener::refuse), on the same address. Its descriptor may be another one then.
    ///
    /// # Errors
    ///
    /// As binding.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A [`Listener`] that is opened with nothing but an address.
pub trait Bind: Listener + Sized {
    /// Opens it on `addr`, with the default of every option. An address that does not say its kind of socket is taken to be of this
    /// listener's kind.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad address, or one of another kind of socket; the resolver's for a name that it does not know; the system's:
    /// `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`, `NotFound` for a path whose folder does not exist.
    fn bind(addr: impl ToAddr) -> io::Result<Self>;
}

/// Opens the listener that an address names, with the default of every option: the choice at run time.
///
/// # Errors
///
/// As [`Bind::bind`].
///
/// ```
/// let listener = socketserver::listener::bind("udp://127.0.0.1:0")?;
/// assert_ne!(listener.local_addr().as_inet().unwrap().port(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn bind(addr: impl ToAddr) -> io::Result<Box<dyn Listener>> {
    let addr = addr.to_addr(Scheme::Tcp)?;
    Ok(match addr.scheme() {
        Scheme::Tcp => Box::new(Tcp::bind(addr)?),
        Scheme::Udp => Box::new(Udp::bind(addr)?),
        Scheme::Unix => Box::new(UnixStream::bind(addr)?),
        Scheme::Unixgram => Box::new(UnixDatagram::bind(addr)?),
    })
}

/// Adopts a socket of whichever kind that somebody else has opened: the choice at run time, for one that a service manager passes on, for
/// instance.
///
/// # Errors
///
/// `InvalidInput` if it is no socket, of a kind that no listener takes, not listening, or not bound. It is closed then.
///
/// ```
/// let opened = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let listener = socketserver::listener::adopt(opened)?;
/// assert_eq!(listener.local_addr().scheme(), socketserver::Scheme::Tcp);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn adopt(fd: impl Into<OwnedFd>) -> io::Result<Box<dyn Listener>> {
    let fd = fd.into();
    Ok(match kind_of(&fd)? {
        Some(Scheme::Tcp) => Box::new(Tcp::try_from(fd)?),
        Some(Scheme::Udp) => Box::new(Udp::try_from(fd)?),
        Some(Scheme::Unix) => Box::new(UnixStream::try_from(fd)?),
        Some(Scheme::Unixgram) => Box::new(UnixDatagram::try_from(fd)?),
        None => return Err(unfit("it is neither a TCP, UDP nor Unix socket")),
    })
}

impl Listener for Box<dyn Listener> {
    fn local_addr(&self) -> &Addr {
        (**self).local_addr()
    }

    fn get_request(&mut self) -> io::Result<Incoming> {
        (**self).get_request()
    }

    fn refuse(&mut self) {
        (**self).refuse()
    }

    fn reopen(&mut self) -> io::Result<()> {
        (**self).reopen()
    }
}

impl Bind for Box<dyn Listener> {
    fn bind(addr: impl ToAddr) -> io::Result<Self> {
        bind(addr)
    }
}

/// A request that a [`Listener`] got and nobody has served yet: a connection, or a datagram.
pub struct Incoming {
    pub(crate) socket: Socket,
    pub(crate) peer: Addr,
    /// What a datagram contains; `None` for a connection.
    pub(crate) packet: Option<Vec<u8>>,
    /// The packet was longer, and this is its beginning.
    pub(crate) truncated: bool,
    /// The read and write timeout that the request begins with.
    pub(crate) timeout: Option<Duration>,
}

impl Incoming {
    /// A connection, as a listener of your own gives it. The socket must be in blocking mode.
    pub fn connection(socket: OwnedFd, peer: Addr) -> Incoming {
        socket::raise_no_sigpipe(socket.as_fd());
        Incoming { socket: Socket::Connection(socket), peer, packet: None, truncated: false, timeout: None }
    }

    /// The address of the peer.
    pub fn peer_addr(&self) -> &Addr {
        &self.peer
    }

    /// What the datagram contains; `None` for a connection.
    pub fn packet_bytes(&self) -> Option<&[u8]> {
        self.packet.as_deref()
    }
}

/// The connection's socket, or the server's for a datagram.
impl AsFd for Incoming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("peer_addr", &self.peer).finish_non_exhaustive()
    }
}

/// Takes one connection out of a listening socket.
fn accept(socket: BorrowedFd<'_>, scheme: Scheme, timeout: Option<Duration>) -> io::Result<Incoming> {
    let (connection, peer) = socket::accept(socket, scheme)?;
    Ok(Incoming { timeout, ..Incoming::connection(connection, peer) })
}

/// The receiving side of a datagram socket: one buffer for all packets.
struct Receiver {
    fd: Arc<OwnedFd>,
    /// Whether this is an IPv6 socket whose IPv4 peers appear as IPv4.
    mapped: bool,
    /// One byte longer than the longest packet that is taken whole: what fills it was longer.
    buffer: Box<[u8]>,
}

impl Receiver {
    fn new(fd: OwnedFd, mapped: bool, max_packet_size: usize) -> Receiver {
        Receiver { fd: Arc::new(fd), mapped, buffer: vec![0; max_packet_size.saturating_add(1)].into_boxed_slice() }
    }

    fn get_request(&mut self, scheme: Scheme) -> io::Result<Incoming> {
        let (received, peer) = socket::recv_from(self.fd.as_fd(), &mut self.buffer, scheme)?;
        let max = self.buffer.len() - 1;
        let socket = Socket::Datagram { fd: self.fd.clone(), mapped: self.mapped };
        let packet = self.buffer[..received.min(max)].to_vec();
        Ok(Incoming { socket, peer, packet: Some(packet), truncated: received > max, timeout: None })
    }
}

/// The largest payload of a datagram that IP can carry, and the default of `max_packet_size`.
const MAX_PACKET_SIZE: usize = 65_535;

/// Checks that `fd` is a socket of kind `scheme`, listening if it is one for connections, and makes it ready for a listener.
fn prepare(fd: &OwnedFd, scheme: Scheme) -> io::Result<Addr> {
    if kind_of(fd)? != Some(scheme) {
        return Err(unfit(&format!("it is not a {scheme} socket")));
    }
    let addr = socket::local_addr(fd.as_fd(), scheme)?;
    match scheme {
        // Apple's systems do not tell. There, accepting fails.
        #[cfg(not(target_vendor = "apple"))]
        Scheme::Tcp | Scheme::Unix if !rustix::net::sockopt::socket_acceptconn(fd)? => {
            return Err(unfit("it does not listen"));
        }
        Scheme::Udp if addr.as_inet().is_some_and(|addr| addr.port() == 0) => return Err(unfit("it is not bound")),
        Scheme::Unixgram if addr.is_unnamed() => return Err(unfit("it is not bound")),
        _ => {}
    }
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(fd, true)?;
    Ok(addr)
}

/// The kind of a socket; `None` if it is one that no listener takes.
fn kind_of(fd: &OwnedFd) -> io::Result<Option<Scheme>> {
    let name = rustix::net::getsockname(fd).map_err(|_| unfit("it is not a socket"))?;
    Ok(match (name.address_family(), rustix::net::sockopt::socket_type(fd)?) {
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => Some(Scheme::Tcp),
        (AddressFamily::INET | AddressFamily::INET6, SocketType::DGRAM) => Some(Scheme::Udp),
        (AddressFamily::UNIX, SocketType::STREAM) => Some(Scheme::Unix),
        (AddressFamily::UNIX, SocketType::DGRAM) => Some(Scheme::Unixgram),
        _ => None,
    })
}

fn unfit(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("cannot adopt this descriptor: {why}"))
}

/// For an address of another kind of socket than `expected`.
fn wrong_kind(expected: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("expected {expected}"))
}

/// The error, with the address that it is about.
fn explain(error: io::Error, addr: &Addr) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}"))
}

/// Closes a listening socket, so that the system refuses connections, and leaves one that is not bound in its place.
fn refuse(fd: &mut OwnedFd, addr: &Addr, adopted: bool) {
    match socket::open(addr) {
        Ok(placeholder) => *fd = placeholder,
        // Without a descriptor to spare, the socket stays. One that was adopted goes on for whoever else has it.
        Err(_) if adopted => {}
        // Any other one no longer listens.
        Err(_) => socket::shutdown_both(fd.as_fd()),
    }
}

fn cannot_reopen(addr: &Addr) -> io::Error {
    let message = format!("cannot listen on {addr} again: the socket was adopted, and a drain has ended it");
    io::Error::new(io::ErrorKind::Unsupported, message)
}
