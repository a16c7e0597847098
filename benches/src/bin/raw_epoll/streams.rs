//! Streams: each registered once, edge-triggered, for reading and writing.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::system::{accept, epoll_add, epoll_create, epoll_wait, no_events, recv, send};

/// One read takes at most this much; every connection borrows the same buffer, as nothing stays in it between two reads.
const BUFFER_BYTES: usize = 16 * 1024;

/// All that the peer can have sent or done that a read would tell.
const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// The part of [`READABLE`] after which no further edge announces the end of the stream.
const READ_CLOSED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

pub struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    /// Indexed by descriptor: the kernel hands out the lowest free one, so this stays as dense as a slab.
    connections: Vec<Option<Connection>>,
    events: Vec<libc::epoll_event>,
    buffer: Vec<u8>,
}

impl Server {
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        let epoll = epoll_create()?;
        // Level-triggered, so that connections left behind by a failed accept are announced again.
        epoll_add(&epoll, listener.as_raw_fd(), libc::EPOLLIN as u32)?;
        Ok(Self { epoll, listener, connections: Vec::new(), events: no_events(), buffer: vec![0; BUFFER_BYTES] })
    }

    /// Waits, then serves every descriptor that is ready. A descriptor appears once in a turn, so one that is closed and given
    /// to a new connection within the turn cannot be confused with the old one.
    pub fn turn(&mut self) -> io::Result<()> {
        let ready = epoll_wait(&self.epoll, &mut self.events)?;
        for index in 0..ready {
            let libc::epoll_event { events, u64: fd } = self.events[index];
            if fd == self.listener.as_raw_fd() as u64 {
                self.accept()?;
            } else {
                self.serve(fd as usize, events);
            }
        }
        Ok(())
    }

    /// Takes all that wait. An error that is not about one connection ends the server: a floor that refuses connections would
    /// be measured at less than the asked load without anyone noticing.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match accept(&self.listener) {
                Ok(socket) => socket,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => return Err(error),
                },
            };
            let fd = socket.as_raw_fd();
            let interest = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
            epoll_add(&self.epoll, fd, interest as u32)?;
            let index = fd as usize;
            if self.connections.len() <= index {
                self.connections.resize_with(index + 1, || None);
            }
            self.connections[index] = Some(Connection { socket, unsent: Vec::new() });
        }
    }

    fn serve(&mut self, index: usize, events: u32) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        // The first edge of a new connection says only that it is writable, which is no news unless something is unsent.
        if events & READABLE == 0 && connection.unsent.is_empty() {
            return;
        }
        match connection.echo(&mut self.buffer, events & READ_CLOSED != 0) {
            Ok(After::Open) => {}
            // Dropping the connection closes the descriptor, and that takes it out of the epoll set.
            Ok(After::Closed) | Err(_) => self.connections[index] = None,
        }
    }
}

struct Connection {
    socket: OwnedFd,
    /// What the peer has sent and could not be given back yet. Empty, without an allocation, as long as the peer reads.
    unsent: Vec<u8>,
}

enum After {
    Open,
    Closed,
}

impl Connection {
    /// Echoes until there is nothing to read or no room to write. As long as something is unsent nothing is read, so that a
    /// peer that never reads can make this connection hold at most one buffer.
    fn echo(&mut self, buffer: &mut [u8], read_closed: bool) -> io::Result<After> {
        loop {
            if !self.flush()? {
                return Ok(After::Open);
            }
            let Some(read) = recv(&self.socket, buffer)? else {
                return Ok(After::Open);
            };
            if read == 0 {
                return Ok(After::Closed);
            }
            let sent = send(&self.socket, &buffer[..read])?;
            if sent < read {
                self.unsent.extend_from_slice(&buffer[sent..read]);
            } else if read < buffer.len() && !read_closed {
                // A short read has drained the socket: what comes next makes a new edge.
                return Ok(After::Open);
            }
        }
    }

    /// Returns whether nothing is left unsent.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            let sent = send(&self.socket, &self.unsent)?;
            if sent == 0 {
                return Ok(false);
            }
            self.unsent.drain(..sent);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        Ok(true)
    }
}
