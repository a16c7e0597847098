//! Connections to a server, more of them than one source address has ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::transport::Transport;

/// A connection that is not made, read or written within this time has failed. On one machine nothing takes this long
/// but a server that does not serve it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Source addresses to go round, from 127.0.0.1 on. Each has some 28,000 ports, and a port that was closed first by this side
/// is not free again for a minute, so churn alone would use up one address in seconds.
const SOURCES: u32 = 200;

/// Connects to one server.
pub struct Connector {
    server: SocketAddr,
    kind: Type,
    made: u32,
}

impl Connector {
    pub fn new(server: SocketAddr, transport: Transport) -> Self {
        let kind = match transport {
            Transport::Tcp => Type::STREAM,
            Transport::Udp => Type::DGRAM,
        };
        Self { server, kind, made: 0 }
    }

    /// Connects and waits for it, which on one machine is the kernel's work alone as long as the accept queue has room.
    pub fn connect(&mut self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.server), self.kind, None)?;
        if let Some(source) = self.next_source() {
            socket.bind(&source.into())?;
        }
        // On Linux the write timeout bounds connecting, too.
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&self.server.into())?;
        Ok(socket)
    }

    /// Only servers on an IPv4 loopback address have more than one loopback source to be reached from.
    fn next_source(&mut self) -> Option<SocketAddr> {
        let IpAddr::V4(server) = self.server.ip() else {
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
