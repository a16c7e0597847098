//! [`Client`]: the other end of any kind of socket.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
};
use socketserver::{Addr, UnixName};

use super::PATIENCE;

/// A client of one server. Its reads and writes give up after [`PATIENCE`].
#[derive(Debug)]
pub struct Client {
    fd: OwnedFd,
    server: Addr,
}

impl Client {
    #[track_caller]
    pub fn connect(server: &Addr) -> Client {
        Client::try_connect(server).unwrap_or_else(|error| panic!("cannot connect to {server}: {error}"))
    }

    /// Connects, and sends a message.
    #[track_caller]
    pub fn sending(server: &Addr, message: &[u8]) -> Client {
        let mut client = Client::connect(server);
        client.write_all(message).expect("the server takes the message");
        client
    }

    pub fn try_connect(server: &Addr) -> io::Result<Client> {
        let client = Client::open(server);
        client.join()?;
        Ok(client)
    }

    /// A client that calls from a certain address.
    pub fn connect_from(ip: IpAddr, server: &Addr) -> Client {
        let client = Client::open(server);
        rustix::net::bind(&client.fd, &SocketAddr::new(ip, 0)).expect("an address of this host");
        client.join().expect("a server listens");
        client
    }

    /// A client that has its descriptor and has not connected yet.
    pub fn open(server: &Addr) -> Client {
        let (family, kind) = match server {
            Addr::Tcp(addr) => (family_of(addr), SocketType::STREAM),
            Addr::Udp(addr) => (family_of(addr), SocketType::DGRAM),
            Addr::Unix(_) => (AddressFamily::UNIX, SocketType::STREAM),
            Addr::Unixgram(_) => (AddressFamily::UNIX, SocketType::DGRAM),
        };
        // A program that another test starts meanwhile must not have it, too: it would stay open there.
        let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).expect("a socket");
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE)).unwrap();
        sockopt::set_socket_timeout(&fd, Timeout::Send, Some(PATIENCE)).unwrap();
        Client { fd, server: server.clone() }
    }

    /// Connects a client that was only opened.
    pub fn join(&self) -> io::Result<()> {
        if let Addr::Unixgram(_) = self.server {
            // Linux chooses an abstract name, so that there is somewhere to reply to.
            rustix::net::bind(&self.fd, &SocketAddrUnix::new_unnamed())?;
        }
        Ok(rustix::net::connect(&self.fd, &to_system(&self.server))?)
    }

    /// Sends a message, and returns the answer: of a connection everything up to its end.
    #[track_caller]
    pub fn ask(mut self, message: &[u8]) -> Vec<u8> {
        self.write_all(message).expect("the server takes the message");
        match self.server {
            Addr::Tcp(_) | Addr::Unix(_) => {
                self.half_close().expect("the connection is open");
                self.read_all()
            }
            Addr::Udp(_) | Addr::Unixgram(_) => self.packet(),
        }
    }

    /// As [`ask`](Client::ask), for a connection and a message that does not fit into the buffers on the way.
    pub fn ask_at_length(mut self, message: Vec<u8>) -> Vec<u8> {
        let mut writer = self.duplicate();
        let writing = thread::spawn(move || {
            writer.write_all(&message).expect("the server takes the message");
            writer.half_close().expect("the connection is open");
        });
        let answer = self.read_all();
        writing.join().expect("the writing thread is well");
        answer
    }

    /// Everything up to the end of the connection.
    #[track_caller]
    pub fn read_all(&mut self) -> Vec<u8> {
        let mut answer = Vec::new();
        self.read_to_end(&mut answer).expect("the connection ends well");
        answer
    }

    /// The next `count` bytes of a connection.
    #[track_caller]
    pub fn take_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.read_exact(&mut bytes).expect("the server sends as much");
        bytes
    }

    /// The next datagram.
    #[track_caller]
    pub fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 70_000];
        let length = self.read(&mut packet).expect("the server sends a datagram");
        packet.truncate(length);
        packet
    }

    /// The next datagram, if it is there already.
    pub fn packet_at_hand(&self) -> Option<Vec<u8>> {
        let mut packet = vec![0; 70_000];
        let (_, length) = rustix::net::recv(&self.fd, &mut packet, RecvFlags::DONTWAIT).ok()?;
        packet.truncate(length);
        Some(packet)
    }

    /// Whether the server has closed the connection, well or not: waits for that.
    pub fn is_hung_up(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Ends the client's direction.
    pub fn half_close(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.fd, Shutdown::Write)?)
    }

    /// Closes the connection so that the server sees a reset, where there is such a thing.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO)).expect("a socket");
    }

    /// The same connection, for another thread.
    pub fn duplicate(&self) -> Client {
        Client { fd: self.fd.try_clone().expect("a descriptor"), server: self.server.clone() }
    }

    /// Limits how long a read waits.
    pub fn read_timeout(&self, timeout: Duration) {
        sockopt::set_socket_timeout(&self.fd, Timeout::Recv, Some(timeout)).unwrap();
    }
}

impl Read for Client {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.fd, &mut *into, RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?.1),
            }
        }
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL)?)
    }

    /// One write, also of no bytes: an empty datagram.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        loop {
            match self.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if sent == bytes.len() {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn family_of(addr: &SocketAddr) -> AddressFamily {
    if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn to_system(addr: &Addr) -> SocketAddrAny {
    match addr {
        Addr::Tcp(addr) | Addr::Udp(addr) => (*addr).into(),
        Addr::Unix(name) | Addr::Unixgram(name) => match name {
            UnixName::Path(path) => SocketAddrUnix::new(path.as_os_str().as_bytes()).expect("a short path").into(),
            UnixName::Abstract(name) => SocketAddrUnix::new_abstract_name(name).expect("a short name").into(),
            UnixName::Unnamed => SocketAddrUnix::new_unnamed().into(),
        },
    }
}
