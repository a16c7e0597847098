//! The floor to compare with: an echo server that is nothing but an epoll loop on one thread.
//!
//! Each connection is registered once, edge-triggered, for reading and writing. A message costs one `recv`, one `send` and a
//! share of one `epoll_wait`, and allocates nothing. Only a peer that does not read makes its connection own a buffer.
//! What it leaves out is what a server adds: fairness between connections, limits, deadlines, an orderly end.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use clap::Parser;

/// Echoes TCP streams from one hand-written epoll loop.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
}

/// One read takes at most this much; every connection borrows the same buffer, as nothing stays in it between two reads.
const BUFFER_BYTES: usize = 16 * 1024;

/// As many events as one turn can take; more than the usual hundred connections, so that a turn sees all that is ready.
const EVENTS_PER_TURN: usize = 1024;

/// All that the peer can have sent or done that a read would tell.
const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// The part of [`READABLE`] after which no further edge announces the end of the stream.
const READ_CLOSED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(Args::parse().bind)?;
    listener.set_nonblocking(true)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{}", listener.local_addr()?)?;
    stdout.flush()?;

    let mut server = Server::new(listener)?;
    loop {
        server.turn()?;
    }
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    /// Indexed by descriptor: the kernel hands out the lowest free one, so this stays as dense as a slab.
    connections: Vec<Option<Connection>>,
    events: Vec<libc::epoll_event>,
    buffer: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let epoll = epoll_create()?;
        // Level-triggered, so that connections left behind by a failed accept are announced again.
        epoll_add(&epoll, listener.as_raw_fd(), libc::EPOLLIN as u32)?;
        Ok(Self {
            epoll,
            listener,
            connections: Vec::new(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_TURN],
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Waits, then serves every descriptor that is ready. A descriptor appears once in a turn, so one that is closed and given
    /// to a new connection within the turn cannot be confused with the old one.
    fn turn(&mut self) -> io::Result<()> {
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

fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer.
    let fd = succeeded(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)?;
    // SAFETY: the descriptor was just made, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn epoll_add(epoll: &OwnedFd, fd: RawFd, events: u32) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: fd as u64 };
    // SAFETY: `event` lives for the call, and the kernel copies it.
    let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
    succeeded(result as isize).map(drop)
}

fn epoll_wait(epoll: &OwnedFd, events: &mut [libc::epoll_event]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `events.len()` events.
    let result = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), events.len() as libc::c_int, -1) };
    match succeeded(result as isize) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        ready => ready,
    }
}

fn accept(listener: &TcpListener) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers mean that the peer's address is not wanted.
    let result = unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    let fd = succeeded(result as isize)?;
    // SAFETY: the descriptor was just made, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Returns `None` when there is nothing to read yet, 0 at the end of the stream.
fn recv(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes.
    match succeeded(unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) }) {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns how much the kernel has taken, 0 when it has no room.
fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads `bytes.len()` bytes.
    match succeeded(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) }) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}

fn succeeded(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
