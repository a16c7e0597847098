//! [`TcpListener`]: a socket on which somebody else is to connect.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;

use super::waiting::Waiting;
use super::{TcpStream, first_of};
use crate::addr::{Addr, Scheme};
use crate::socket;

/// A listening TCP socket that waits where its caller does: for a second connection that belongs to a request, as in FTP's passive mode or
/// SOCKS's `BIND`. As [`std::net::TcpListener`]; its clones are the same socket.
///
/// ```
/// use std::io::{self, Write};
/// use std::time::Duration;
/// use socketserver::net::TcpListener;
/// use socketserver::{EventLoopTcpServer, Request};
///
/// /// Tells the peer where to connect to for the data.
/// fn passive(request: &mut Request) -> io::Result<()> {
///     let mut addr = request.local_addr()?.as_inet().ok_or(io::ErrorKind::Unsupported)?;
///     addr.set_port(0);
///     let listener = TcpListener::bind(addr)?;
///     listener.set_timeout(Some(Duration::from_secs(30)));
///     writeln!(request, "{}", listener.local_addr()?)?;
///     let (mut data, _) = listener.accept()?;
///     data.write_all(b"the data")
/// }
/// # let mut server = EventLoopTcpServer::bind("127.0.0.1:0", passive)?;
/// # let mut client = std::io::BufReader::new(std::net::TcpStream::connect(server.local_addr().as_inet().unwrap())?);
/// # let serving = std::thread::spawn(move || server.handle_request());
/// # let mut line = String::new();
/// # io::BufRead::read_line(&mut client, &mut line)?;
/// # let data = std::net::TcpStream::connect(line.trim().trim_start_matches("tcp://"))?;
/// # assert_eq!(io::read_to_string(data)?, "the data");
/// # serving.join().unwrap()?;
/// # Ok::<(), io::Error>(())
/// ```
#[derive(Clone)]
pub struct TcpListener {
    waiting: Arc<Waiting>,
}

impl TcpListener {
    /// Listens on the first address of `addr` that is free. Port 0 is one of the system's choice: see
    /// [`local_addr`](TcpListener::local_addr). The kernel queues up to 128 connections.
    ///
    /// # Errors
    ///
    /// The resolver's, and the last address's: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`. `InvalidInput` if there is no address.
    pub fn bind(addr: impl ToSocketAddrs + Send + 'static) -> io::Result<TcpListener> {
        /// As in std.
        const QUEUE: i32 = 128;
        first_of(addr, |addr| {
            let addr = Addr::Tcp(addr);
            let fd = socket::open(&addr)?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            socket::bind(fd.as_fd(), &addr)?;
            rustix::net::listen(&fd, QUEUE)?;
            Ok(TcpListener { waiting: Arc::new(Waiting::over(fd)?) })
        })
    }

    /// Waits for a connection, and gives it with the address of its peer.
    ///
    /// # Errors
    ///
    /// `TimedOut`; the system's: `ConnectionAborted` for a connection that was lost before.
    pub fn accept(&self) -> io::Result<(TcpStream, Addr)> {
        let (fd, peer) = self.waiting.accept()?;
        Ok((TcpStream::over(Waiting::over(fd)?), peer))
    }

    /// Limits the time that one [`accept`](TcpListener::accept) may wait, for all clones; `None`, the default, is no limit.
    #[doc(alias = "settimeout")]
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        self.waiting.set_timeouts(|timeouts| timeouts.read = timeout);
    }

    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn local_addr(&self) -> io::Result<Addr> {
        socket::local_addr(self.waiting.fd(), Scheme::Tcp)
    }
}

/// Adopts a socket that somebody else has opened. It is made non-blocking, in all of its copies.
impl TryFrom<std::net::TcpListener> for TcpListener {
    type Error = io::Error;

    fn try_from(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        Ok(TcpListener { waiting: Arc::new(Waiting::over(listener.into())?) })
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.fd()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener").field("local_addr", &self.local_addr().ok()).finish_non_exhaustive()
    }
}
