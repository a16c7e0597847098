//! [`Cell`]: a backend and a kind of socket, which is what a behaviour is tested on.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use socketserver::backend::{Backend, BackendName};
use socketserver::{AnyServer, HandlerFactory, Server, listener};
use tempfile::TempDir;

/// The kinds of address of the conformance suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Tcp4,
    Tcp6,
    UnixStream,
    Udp4,
    Udp6,
    UnixDatagram,
}

impl Kind {
    pub fn is_stream(self) -> bool {
        matches!(self, Kind::Tcp4 | Kind::Tcp6 | Kind::UnixStream)
    }
}

/// A cell of the table of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    pub backend: BackendName,
    pub kind: Kind,
}

impl Cell {
    /// The cell that the names of two test modules say.
    pub fn named(backend: &str, kind: &str) -> Cell {
        let kind = match kind {
            "tcp4" => Kind::Tcp4,
            "tcp6" => Kind::Tcp6,
            "unix_stream" => Kind::UnixStream,
            "udp4" => Kind::Udp4,
            "udp6" => Kind::Udp6,
            "unix_datagram" => Kind::UnixDatagram,
            _ => panic!("no kind of socket is called {kind}"),
        };
        Cell { backend: backend.replace('_', "-").parse().expect("the name of a backend"), kind }
    }

    pub fn is_stream(self) -> bool {
        self.kind.is_stream()
    }

    /// Whether the backend runs more than one request at a time.
    pub fn is_concurrent(self) -> bool {
        self.backend != BackendName::Sequential
    }

    /// An address of this kind that nobody else uses.
    pub fn place(self) -> Place {
        Place::new(self.kind)
    }

    /// A server of this cell, with the default of every option.
    pub fn bind<K>(self, place: &Place, handler: impl HandlerFactory<K>) -> AnyServer {
        Server::new(place.listen().expect("the place is free"), self.backend.backend(), handler)
    }
}

/// Whether this machine has IPv6, which many containers have not.
pub fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// IPv6's loopback address, with a port of the system's choice; where there is none, IPv4's.
pub fn loopback6() -> &'static str {
    if has_ipv6() {
        return "[::1]:0";
    }
    eprintln!("this machine has no IPv6: IPv4 takes its place");
    "127.0.0.1:0"
}

/// A server of a kind of socket and a backend with options of its own.
pub fn bind_with<K>(place: &Place, backend: impl Backend + 'static, handler: impl HandlerFactory<K>) -> AnyServer {
    Server::new(place.listen().expect("the place is free"), Box::new(backend) as Box<dyn Backend>, handler)
}

/// Where a test's server listens. Must live as long as the server.
pub struct Place {
    pub url: String,
    /// Of a Unix socket: the folder with its file.
    pub folder: Option<TempDir>,
}

impl Place {
    pub fn new(kind: Kind) -> Place {
        let inet = |scheme: &str, addr: &str| Place { url: format!("{scheme}://{addr}"), folder: None };
        let unix = |scheme: &str| {
            let folder = tempfile::tempdir().expect("a folder for a socket");
            Place { url: format!("{scheme}://{}", folder.path().join("socket").display()), folder: Some(folder) }
        };
        match kind {
            Kind::Tcp4 => inet("tcp", "127.0.0.1:0"),
            Kind::Tcp6 => inet("tcp", loopback6()),
            Kind::Udp4 => inet("udp", "127.0.0.1:0"),
            Kind::Udp6 => inet("udp", loopback6()),
            Kind::UnixStream => unix("unix"),
            Kind::UnixDatagram => unix("unixgram"),
        }
    }

    /// As [`new`](Place::new), but for IPv4 on a loopback address that no other test uses: a port of it that is closed stays
    /// free.
    pub fn apart(kind: Kind) -> Place {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let mut place = Place::new(kind);
        let [high, low] = COUNT.fetch_add(1, Relaxed).to_be_bytes();
        let process = std::process::id() % 200 + 20;
        place.url = place.url.replace("127.0.0.1", &format!("127.{process}.{high}.{}", low.max(1)));
        place
    }

    pub fn listen(&self) -> io::Result<Box<dyn listener::Listener>> {
        listener::bind(&self.url)
    }
}
