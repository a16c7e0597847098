//! Connections to a server, more of them than one source address has ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use socketserver::{Addr, UnixName};

/// A connection that is not made, read or written within this time has failed. On one machine nothing takes this long
/// but a server that does not serve it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Source addresses to go round, from 127.0.0.1 on. Each has some 28,000 ports, and a port that was closed first by this side
/// is not free again for a minute, so churn alone would use up one address in seconds.
const SOURCES: u32 = 200;

/// Connects to one server.
pub struct Connector {
    server: SockAddr,
    kind: Type,
    made: u32,
}

impl Connector {
    /// # Errors
    ///
    /// `Unsupported` for an address that the load cannot speak to.
    pub fn new(server: &Addr) -> io::Result<Self> {
        let (server, kind) = match server {
            Addr::Tcp(address) => (SockAddr::from(*address), Type::STREAM),
            Addr::Udp(address) => (SockAddr::from(*address), Type::DGRAM),
            Addr::Unix(UnixName::Path(path)) => (SockAddr::unix(path)?, Type::STREAM),
            other => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, format!("the load cannot connect to {other}")));
            }
        };
        Ok(Self { server, kind, made: 0 })
    }

    /// Connects and waits for it, which on one machine is the kernel's work alone as long as the accept queue has room.
    pub fn connect(&mut self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::from(i32::from(self.server.family())), self.kind, None)?;
        if let Some(source) = self.next_source() {
            socket.bind(&source.into())?;
        }
        // On Linux the write timeout bounds connecting, too.
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&self.server)?;
        if self.kind == Type::STREAM && !self.server.is_unix() {
            // The end of a request is not to wait for the acknowledgement of its beginning.
            socket.set_tcp_nodelay(true)?;
        }
        Ok(socket)
    }

    /// Only servers on an IPv4 loopback address have more than one loopback source to be reached from.
    fn next_source(&mut self) -> Option<SocketAddr> {
        let IpAddr::V4(server) = self.server.as_socket()?.ip() else {
            return None;
        };
        if !server.is_loopback() {
            return None;
        }
        let source = u32::from(Ipv4Addr::LOCALHOST) + self.made % SOURCES;
        self.made = self.made.wrapping_add(1);
        Some(SocketAddr::from((Ipv4Addr::from(source), 0)))
    }
}
