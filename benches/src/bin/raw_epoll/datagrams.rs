//! Datagrams: one socket, one `recvfrom` and one `sendto` for each.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::system::{epoll_add, epoll_create, epoll_wait, no_events, recvfrom, sendto};

/// Room for any datagram.
const BUFFER_BYTES: usize = 64 * 1024;

pub struct Server {
    epoll: OwnedFd,
    socket: UdpSocket,
    events: Vec<libc::epoll_event>,
    buffer: Vec<u8>,
}

impl Server {
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let epoll = epoll_create()?;
        epoll_add(&epoll, socket.as_raw_fd(), (libc::EPOLLIN | libc::EPOLLET) as u32)?;
        Ok(Self { epoll, socket, events: no_events(), buffer: vec![0; BUFFER_BYTES] })
    }

    /// Waits, then echoes until there is nothing to receive.
    pub fn turn(&mut self) -> io::Result<()> {
        epoll_wait(&self.epoll, &mut self.events)?;
        while let Some((read, peer)) = recvfrom(&self.socket, &mut self.buffer)? {
            match sendto(&self.socket, &self.buffer[..read], &peer) {
                // There is no room: it is lost, as a datagram may be, and the load counts that.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => sent?,
            }
        }
        Ok(())
    }
}
