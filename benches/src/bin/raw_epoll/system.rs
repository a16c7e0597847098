//! The system's calls, with lengths and errors as Rust has them.

use std::io;
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// As many events as one turn can take; more than the usual hundred connections, so that a turn sees all that is ready.
const EVENTS_PER_TURN: usize = 1024;

pub fn no_events() -> Vec<libc::epoll_event> {
    vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_TURN]
}

pub fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer.
    let fd = succeeded(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)?;
    // SAFETY: the descriptor was just made, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub fn epoll_add(epoll: &OwnedFd, fd: RawFd, events: u32) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: fd as u64 };
    // SAFETY: `event` lives for the call, and the kernel copies it.
    let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
    succeeded(result as isize).map(drop)
}

pub fn epoll_wait(epoll: &OwnedFd, events: &mut [libc::epoll_event]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `events.len()` events.
    let result = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), events.len() as libc::c_int, -1) };
    match succeeded(result as isize) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        ready => ready,
    }
}

pub fn accept(listener: &TcpListener) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers mean that the peer's address is not wanted.
    let result = unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    let fd = succeeded(result as isize)?;
    // SAFETY: the descriptor was just made, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Returns `None` when there is nothing to read yet, 0 at the end of the stream.
pub fn recv(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes.
    match succeeded(unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) }) {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns how much the kernel has taken, 0 when it has no room.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads `bytes.len()` bytes.
    match succeeded(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) }) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}

/// Where a datagram came from, as the kernel has written it.
pub struct Peer {
    address: MaybeUninit<libc::sockaddr_storage>,
    length: libc::socklen_t,
}

/// Returns `None` when there is no datagram.
pub fn recvfrom(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, Peer)>> {
    let mut peer =
        Peer { address: MaybeUninit::uninit(), length: size_of::<libc::sockaddr_storage>() as libc::socklen_t };
    // SAFETY: the kernel writes at most `buffer.len()` bytes, and of the address at most `peer.length`.
    let result = unsafe {
        let address = peer.address.as_mut_ptr().cast();
        libc::recvfrom(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0, address, &mut peer.length)
    };
    match succeeded(result) {
        Ok(read) => Ok(Some((read, peer))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn sendto(socket: &UdpSocket, bytes: &[u8], peer: &Peer) -> io::Result<()> {
    // SAFETY: the kernel reads `bytes.len()` bytes, and `peer.length` of the address, which `recvfrom` has written.
    let result = unsafe {
        let address = peer.address.as_ptr().cast();
        libc::sendto(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, address, peer.length)
    };
    succeeded(result).map(drop)
}

fn succeeded(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
