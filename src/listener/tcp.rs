//! [`Tcp`]: connections over IPv4, IPv6, or both.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt;

use super::{Bind, Incoming, Listener, accept, cannot_reopen, explain, prepare, refuse, wrong_kind};
use crate::addr::{Addr, Scheme, ToAddr};
use crate::socket;

/// A listening TCP socket.
#[derive(Debug)]
pub struct Tcp {
    fd: OwnedFd,
    addr: Addr,
    /// How to open it again; `None` if it was adopted: only its opener knows.
    options: Option<TcpOptions>,
    timeout: Option<Duration>,
    /// A drain has ended it.
    refusing: bool,
}

impl Tcp {
    /// The options, each with its default.
    pub fn options() -> TcpOptions {
        TcpOptions::default()
    }

    /// Sets the timeout of one read and one write that requests begin with: for an adopted socket.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Tcp {
        self.timeout = timeout;
        self
    }
}

/// How a [`Tcp`] listener is opened. From [`Tcp::options`].
#[derive(Clone, Debug)]
pub struct TcpOptions {
    request_queue_size: i32,
    reuse_address: bool,
    reuse_port: bool,
    only_v6: bool,
    nodelay: bool,
    keepalive: Option<Duration>,
    timeout: Option<Duration>,
}

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        TcpOptions {
            request_queue_size: 1024,
            reuse_address: true,
            reuse_port: false,
            only_v6: false,
            nodelay: true,
            keepalive: None,
            timeout: None,
        }
    }
}

impl TcpOptions {
    /// How many connections the kernel queues until the server accepts them: 1024 by default. Linux caps it at
    /// `net.core.somaxconn`. When the queue is full, clients wait.
    pub fn request_queue_size(mut self, size: u16) -> TcpOptions {
        self.request_queue_size = size.into();
        self
    }

    /// Whether a restarted server may bind although old connections linger in `TIME_WAIT` (`SO_REUSEADDR`): yes by default.
    #[doc(alias = "allow_reuse_address")]
    pub fn reuse_address(mut self, reuse: bool) -> TcpOptions {
        self.reuse_address = reuse;
        self
    }

    /// Whether several sockets may listen on the same port, the kernel spreading the connections (`SO_REUSEPORT`): no by
    /// default. When one of them closes, what is in its queue is reset.
    #[doc(alias = "allow_reuse_port")]
    pub fn reuse_port(mut self, reuse: bool) -> TcpOptions {
        self.reuse_port = reuse;
        self
    }

    /// Whether an IPv6 address serves IPv6 alone: no by default, so `[::]` serves IPv4 clients, too, and shows them with
    /// their IPv4 address.
    pub fn only_v6(mut self, only: bool) -> TcpOptions {
        self.only_v6 = only;
        self
    }

    /// Whether connections send small writes at once (`TCP_NODELAY`): yes by default. Without it, the second of two small writes waits for
    /// the acknowledgement of the first, which many peers delay by 40 ms.
    #[doc(alias = "disable_nagle_algorithm")]
    pub fn nodelay(mut self, nodelay: bool) -> TcpOptions {
        self.nodelay = nodelay;
        self
    }

    /// After how long a silence the kernel asks the peer whether it is still there (`SO_KEEPALIVE`, `TCP_KEEPIDLE`): never by default.
    /// Rounded up to whole seconds, of which Linux takes 1 to 32,767; with others binding fails with `InvalidInput`.
    pub fn keepalive(mut self, idle: Option<Duration>) -> TcpOptions {
        self.keepalive = idle;
        self
    }

    /// The timeout of one read and of one write that requests begin with: none by default.
    pub fn timeout(mut self, timeout: Option<Duration>) -> TcpOptions {
        self.timeout = timeout;
        self
    }

    /// Opens the listener.
    ///
    /// # Errors
    ///
    /// As [`Bind::bind`].
    ///
    /// ```
    /// use socketserver::listener::{Listener, Tcp};
    ///
    /// let listener = Tcp::options().request_queue_size(64).only_v6(true).bind("127.0.0.1:0")?;
    /// println!("listening on {}", listener.local_addr());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind(self, addr: impl ToAddr) -> io::Result<Tcp> {
        let addr = addr.to_addr(Scheme::Tcp)?;
        let fd = self.open(&addr).map_err(|error| explain(error, &addr))?;
        let addr = socket::local_addr(fd.as_fd(), Scheme::Tcp)?;
        Ok(Tcp { fd, addr, timeout: self.timeout, options: Some(self), refusing: false })
    }

    fn open(&self, addr: &Addr) -> io::Result<OwnedFd> {
        let Addr::Tcp(inet) = addr else { return Err(wrong_kind("tcp://HOST:PORT")) };
        let fd = socket::open(addr)?;
        sockopt::set_socket_reuseaddr(&fd, self.reuse_address)?;
        if self.reuse_port {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        if let SocketAddr::V6(_) = inet {
            sockopt::set_ipv6_v6only(&fd, self.only_v6)?;
        }
        // A connection inherits these from the socket that it was accepted from: no call for each.
        sockopt::set_tcp_nodelay(&fd, self.nodelay)?;
        if let Some(idle) = self.keepalive {
            sockopt::set_socket_keepalive(&fd, true)?;
            sockopt::set_tcp_keepidle(&fd, idle)?;
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        socket::bind(fd.as_fd(), addr)?;
        rustix::net::listen(&fd, self.request_queue_size)?;
        Ok(fd)
    }
}

impl Bind for Tcp {
    fn bind(addr: impl ToAddr) -> io::Result<Tcp> {
        Tcp::options().bind(addr)
    }
}

impl Listener for Tcp {
    fn local_addr(&self) -> &Addr {
        &self.addr
    }

    fn get_request(&mut self) -> io::Result<Incoming> {
        let incoming = accept(self.fd.as_fd(), Scheme::Tcp, self.timeout)?;
        if self.options.is_none() {
            // There is nothing to inherit where another has opened the socket. A peer that is gone already is none to fail for.
            let _ = sockopt::set_tcp_nodelay(&incoming, true);
        }
        Ok(incoming)
    }

    fn refuse(&mut self) {
        refuse(&mut self.fd, &self.addr, self.options.is_none());
        self.refusing = true;
    }

    fn reopen(&mut self) -> io::Result<()> {
        if self.refusing {
            // Without a descriptor to spare the socket has stayed, and with it its port.
            self.refuse();
            let options = self.options.as_ref().ok_or_else(|| cannot_reopen(&self.addr))?;
            self.fd = options.open(&self.addr).map_err(|error| explain(error, &self.addr))?;
            self.refusing = false;
        }
        Ok(())
    }
}

impl AsFd for Tcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Adopts a socket that listens already. Its connections send small writes at once, as do those of a socket that is bound here, whatever it
/// was opened with: [`Request::set_nodelay`](crate::Request::set_nodelay) changes that.
///
/// # Errors
///
/// `InvalidInput` if it is no TCP socket, or does not listen.
impl TryFrom<OwnedFd> for Tcp {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<Tcp> {
        let addr = prepare(&fd, Scheme::Tcp)?;
        Ok(Tcp { fd, addr, options: None, timeout: None, refusing: false })
    }
}

impl TryFrom<std::net::TcpListener> for Tcp {
    type Error = io::Error;

    fn try_from(listener: std::net::TcpListener) -> io::Result<Tcp> {
        OwnedFd::from(listener).try_into()
    }
}
