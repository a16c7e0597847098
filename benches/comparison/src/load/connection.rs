//! The load's end: a stream, or a socket that exchanges datagrams with one server.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;

use mio::net::{TcpStream, UdpSocket, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::Socket;

use crate::transport::Transport;

/// Does not block. A read or write of [`Connection::Datagrams`] is one datagram.
pub enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
    Datagrams(UdpSocket),
}

impl Connection {
    /// Takes a connected socket into a poll, edge-triggered.
    pub fn register(socket: Socket, transport: Transport, registry: &Registry, token: Token) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        match transport {
            Transport::Tcp => {
                let mut stream = TcpStream::from_std(socket.into());
                registry.register(&mut stream, token, interest)?;
                Ok(Self::Tcp(stream))
            }
            Transport::Unix => {
                let mut stream = UnixStream::from_std(OwnedFd::from(socket).into());
                registry.register(&mut stream, token, interest)?;
                Ok(Self::Unix(stream))
            }
            Transport::Udp => {
                let mut socket = UdpSocket::from_std(socket.into());
                registry.register(&mut socket, token, interest)?;
                Ok(Self::Datagrams(socket))
            }
        }
    }
}

impl Read for Connection {
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(chunk),
            Self::Unix(stream) => stream.read(chunk),
            Self::Datagrams(socket) => socket.recv(chunk),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Datagrams(socket) => socket.send(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads or writes once. Returns `None` when that would have to wait.
pub fn attempt(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done.map(Some),
        }
    }
}
