//! Sockets as the system knows them: the calls that several rooms make, with this crate's addresses and error kinds.
//!
//! No call here waits but those with [`Blocking::Yes`]. None raises `SIGPIPE`, and one that a signal interrupts is repeated.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::retry_on_intr;
#[cfg(target_os = "linux")]
use rustix::net::MMsgHdr;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketType,
};

use crate::addr::{Addr, Scheme, UnixName, map_v4, unmap_v4};

/// Whether a call may block its thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocking {
    Yes,
    No,
}

/// Opens a socket for `addr` that is closed in children that execute another program.
pub(crate) fn open(addr: &Addr) -> io::Result<OwnedFd> {
    let family = match addr {
        Addr::Tcp(SocketAddr::V4(_)) | Addr::Udp(SocketAddr::V4(_)) => AddressFamily::INET,
        Addr::Tcp(SocketAddr::V6(_)) | Addr::Udp(SocketAddr::V6(_)) => AddressFamily::INET6,
        Addr::Unix(_) | Addr::Unixgram(_) => AddressFamily::UNIX,
    };
    let kind = match addr.scheme() {
        Scheme::Tcp | Scheme::Unix => SocketType::STREAM,
        Scheme::Udp | Scheme::Unixgram => SocketType::DGRAM,
    };
    // At once, since another thread may start a program in between, where there is a way.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let socket = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None)?;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let socket = rustix::net::socket(family, kind, None)?;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}

pub(crate) fn bind(socket: BorrowedFd<'_>, addr: &Addr) -> io::Result<()> {
    Ok(rustix::net::bind(socket, &to_system(addr)?)?)
}

pub(crate) fn connect(socket: BorrowedFd<'_>, addr: &Addr) -> io::Result<()> {
    Ok(rustix::net::connect(socket, &to_system(addr)?)?)
}

pub(crate) fn local_addr(socket: BorrowedFd<'_>, scheme: Scheme) -> io::Result<Addr> {
    from_system(rustix::net::getsockname(socket)?, scheme)
}

pub(crate) fn peer_addr(socket: BorrowedFd<'_>, scheme: Scheme) -> io::Result<Addr> {
    peer_of(rustix::net::getpeername(socket)?, scheme)
}

/// Takes one connection out of the queue of a listening socket that does not block, with the peer's address: asking for
/// that later fails if the peer has reset meanwhile.
pub(crate) fn accept(socket: BorrowedFd<'_>, scheme: Scheme) -> io::Result<(OwnedFd, Addr)> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let (connection, peer) = rustix::net::acceptfrom_with(socket, rustix::net::SocketFlags::CLOEXEC)?;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let (connection, peer) = {
        let (connection, peer) = rustix::net::acceptfrom(socket)?;
        rustix::io::fcntl_setfd(&connection, rustix::io::FdFlags::CLOEXEC)?;
        // Here a connection inherits the listening socket's mode.
        rustix::io::ioctl_fionbio(&connection, false)?;
        (connection, peer)
    };
    Ok((connection, peer_of(peer, scheme)?))
}

/// Receives bytes of a stream; 0 is its end.
pub(crate) fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8], blocking: Blocking) -> io::Result<usize> {
    let (_, received) = retry_on_intr(|| rustix::net::recv(socket, &mut *buffer, recv_flags(blocking)))?;
    Ok(received)
}

/// Receives bytes of a stream in place of what `buffer` contains, as many as it has memory for; 0 is the stream's end.
#[inline]
pub(crate) fn recv_into(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>, blocking: Blocking) -> io::Result<usize> {
    buffer.clear();
    let (_, received) = retry_on_intr(|| rustix::net::recv(socket, spare_capacity(buffer), recv_flags(blocking)))?;
    Ok(received)
}

/// Whether a stream has bytes to receive.
pub(crate) fn has_input(socket: BorrowedFd<'_>) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    retry_on_intr(|| rustix::net::recv(socket, &mut [0][..], flags)).is_ok_and(|(_, received)| received > 0)
}

/// Whether the peer of a connection, to which nothing more will be sent, has received what it was sent, but for 3 KiB or so: there is room in
/// the smallest send buffer that the system allows then. If it has not, the socket becomes ready to write when it has.
pub(crate) fn is_delivered(socket: BorrowedFd<'_>) -> bool {
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, 0);
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
    retry_on_intr(|| rustix::event::poll(&mut fds, Some(&Timespec::default()))) != Ok(0)
}

/// Receives one datagram, cut to the buffer, and whose it is.
pub(crate) fn recv_from(socket: BorrowedFd<'_>, buffer: &mut [u8], scheme: Scheme) -> io::Result<(usize, Addr)> {
    let (_, received, peer) = retry_on_intr(|| rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT))?;
    Ok((received, peer_of(peer, scheme)?))
}

/// Sends bytes of a stream, as many as there is room for.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], blocking: Blocking) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::net::send(socket, bytes, send_flags(blocking)))?)
}

/// Sends several pieces of a stream in one call, or the first of them. (The standard library's vectored write would raise `SIGPIPE`.)
pub(crate) fn send_vectored(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>], blocking: Blocking) -> io::Result<usize> {
    let first = first_pieces(pieces);
    let mut nothing = SendAncillaryBuffer::default();
    Ok(retry_on_intr(|| rustix::net::sendmsg(socket, first, &mut nothing, send_flags(blocking)))?)
}

/// As many of the pieces as one system call takes.
pub(crate) fn first_pieces<'a, 'b>(pieces: &'a [IoSlice<'b>]) -> &'a [IoSlice<'b>] {
    /// `UIO_MAXIOV`.
    const MOST: usize = 1024;
    &pieces[..pieces.len().min(MOST)]
}

/// Sends one datagram. `mapped` says that the socket is an IPv6 one that serves IPv4 peers, too.
pub(crate) fn send_to(socket: BorrowedFd<'_>, bytes: &[u8], addr: &Addr, mapped: bool) -> io::Result<usize> {
    let addr = destination(addr, mapped)?;
    Ok(retry_on_intr(|| rustix::net::sendto(socket, bytes, send_flags(Blocking::No), &addr))?)
}

/// Sends datagrams, from the first one on, as many as the system takes in one call. Says how many.
#[cfg(target_os = "linux")]
pub(crate) fn send_many<'a>(
    socket: BorrowedFd<'_>,
    mut messages: impl ExactSizeIterator<Item = (&'a [u8], &'a Addr)> + Clone,
    mapped: bool,
) -> io::Result<usize> {
    if messages.len() == 1 {
        return send_first(socket, &mut messages, mapped);
    }
    let mut addrs: Vec<SocketAddrAny> = Vec::with_capacity(messages.len());
    for (_, addr) in messages.clone() {
        addrs.push(destination(addr, mapped)?);
    }
    let pieces: Vec<[IoSlice<'_>; 1]> = messages.map(|(bytes, _)| [IoSlice::new(bytes)]).collect();
    let mut nothing: Vec<SendAncillaryBuffer<'_, '_, '_>> = addrs.iter().map(|_| Default::default()).collect();
    let parts = addrs.iter().zip(&pieces).zip(&mut nothing);
    let headers = parts.map(|((addr, piece), nothing)| MMsgHdr::new_with_addr(addr, piece, nothing));
    let mut headers: Vec<MMsgHdr<'_>> = headers.collect();
    Ok(retry_on_intr(|| rustix::net::sendmmsg(socket, &mut headers, send_flags(Blocking::No)))?)
}

/// As on Linux, but each call takes one.
#[cfg(not(target_os = "linux"))]
pub(crate) fn send_many<'a>(
    socket: BorrowedFd<'_>,
    mut messages: impl ExactSizeIterator<Item = (&'a [u8], &'a Addr)>,
    mapped: bool,
) -> io::Result<usize> {
    send_first(socket, &mut messages, mapped)
}

fn send_first<'a>(
    socket: BorrowedFd<'_>,
    messages: &mut impl Iterator<Item = (&'a [u8], &'a Addr)>,
    mapped: bool,
) -> io::Result<usize> {
    let Some((bytes, addr)) = messages.next() else { return Ok(0) };
    send_to(socket, bytes, addr, mapped).map(|_| 1)
}

/// Ends one direction or both.
pub(crate) fn shutdown(socket: BorrowedFd<'_>, how: std::net::Shutdown) -> io::Result<()> {
    let how = match how {
        std::net::Shutdown::Read => Shutdown::Read,
        std::net::Shutdown::Write => Shutdown::Write,
        std::net::Shutdown::Both => Shutdown::Both,
    };
    Ok(rustix::net::shutdown(socket, how)?)
}

/// Ends the reading direction: a blocked read returns, and so does every later one once the queue is empty.
pub(crate) fn shutdown_read(socket: BorrowedFd<'_>) {
    let _ = rustix::net::shutdown(socket, Shutdown::Read);
}

/// Ends the writing direction: the peer reads to the end.
pub(crate) fn shutdown_write(socket: BorrowedFd<'_>) {
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
}

/// Ends both directions: every blocked call on the socket returns.
pub(crate) fn shutdown_both(socket: BorrowedFd<'_>) {
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

fn recv_flags(blocking: Blocking) -> RecvFlags {
    let mut flags = RecvFlags::empty();
    flags.set(RecvFlags::DONTWAIT, blocking == Blocking::No);
    flags
}

/// Sees to it that sending through a socket raises no `SIGPIPE`, where that cannot be said with each call.
#[inline]
pub(crate) fn raise_no_sigpipe(socket: BorrowedFd<'_>) {
    #[cfg(target_vendor = "apple")]
    // It fails at most where the connection is broken already, which its first call will tell.
    let _ = rustix::net::sockopt::set_socket_nosigpipe(socket, true);
    #[cfg(not(target_vendor = "apple"))]
    let _ = socket;
}

fn send_flags(blocking: Blocking) -> SendFlags {
    #[cfg(target_vendor = "apple")]
    let mut flags = SendFlags::empty();
    #[cfg(not(target_vendor = "apple"))]
    let mut flags = SendFlags::NOSIGNAL;
    flags.set(SendFlags::DONTWAIT, blocking == Blocking::No);
    flags
}

/// Where a datagram goes, as its socket spells it.
fn destination(addr: &Addr, mapped: bool) -> io::Result<SocketAddrAny> {
    match addr {
        Addr::Udp(addr) if mapped => Ok(map_v4(*addr).into()),
        addr => to_system(addr),
    }
}

fn to_system(addr: &Addr) -> io::Result<SocketAddrAny> {
    match addr {
        Addr::Tcp(addr) | Addr::Udp(addr) => Ok((*addr).into()),
        Addr::Unix(name) | Addr::Unixgram(name) => Ok(to_unix(name)?.into()),
    }
}

fn to_unix(name: &UnixName) -> io::Result<SocketAddrUnix> {
    let explain = |error: rustix::io::Errno, len: usize| match error {
        rustix::io::Errno::NAMETOOLONG => {
            let message =
                format!("the name of a Unix socket is too long: {len} bytes, and the system takes at most 107");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        }
        error => error.into(),
    };
    match name {
        UnixName::Path(path) => {
            let bytes = path.as_os_str().as_bytes();
            // The system's 108 bytes hold the final zero, too.
            if bytes.len() > 107 {
                return Err(explain(rustix::io::Errno::NAMETOOLONG, bytes.len()));
            }
            SocketAddrUnix::new(bytes).map_err(|error| explain(error, bytes.len()))
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        UnixName::Abstract(name) => SocketAddrUnix::new_abstract_name(name).map_err(|error| explain(error, name.len())),
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        UnixName::Abstract(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract names")),
        UnixName::Unnamed => Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a path or an abstract name")),
    }
}

fn from_system(addr: SocketAddrAny, scheme: Scheme) -> io::Result<Addr> {
    match scheme {
        Scheme::Tcp => Ok(Addr::Tcp(unmap_v4(SocketAddr::try_from(addr)?))),
        Scheme::Udp => Ok(Addr::Udp(unmap_v4(SocketAddr::try_from(addr)?))),
        Scheme::Unix => Ok(Addr::Unix(unix_name(addr)?)),
        Scheme::Unixgram => Ok(Addr::Unixgram(unix_name(addr)?)),
    }
}

/// A peer's address. Only a Unix client that did not bind may have none.
fn peer_of(addr: Option<SocketAddrAny>, scheme: Scheme) -> io::Result<Addr> {
    match (addr, scheme) {
        (Some(addr), scheme) => from_system(addr, scheme),
        (None, Scheme::Unixgram) => Ok(Addr::Unixgram(UnixName::Unnamed)),
        (None, _) => Ok(Addr::Unix(UnixName::Unnamed)),
    }
}

fn unix_name(addr: SocketAddrAny) -> io::Result<UnixName> {
    // A path may fill all of the system's 108 bytes. Without a final zero there is no way to spell it, and rustix panics.
    if addr.addr_len() as usize > size_of::<libc::sockaddr_un>() {
        return Ok(UnixName::Unnamed);
    }
    let addr = SocketAddrUnix::try_from(addr)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // Rustix takes having no name for an empty abstract one.
    if let Some(name) = addr.abstract_name().filter(|name| !name.is_empty()) {
        return Ok(UnixName::Abstract(name.to_vec()));
    }
    Ok(match addr.path_bytes() {
        Some(path) if !path.is_empty() => UnixName::Path(std::ffi::OsString::from_vec(path.to_vec()).into()),
        _ => UnixName::Unnamed,
    })
}
