//! Sockets for a handler's own use: a proxy's way to its upstream, a lookup in another server.
//!
//! They are std's, with the same names, except that TCP sends small writes at once, and that the addresses they give are of type
//! [`Addr`](crate::Addr). They wait as a [`Request`](crate::Request) does: on the event loop they park the coroutine, elsewhere they block
//! the thread, and each request that has waited so holds one descriptor more. Outside of any handler they block the thread, too. If the
//! request that uses one is cut off, its calls fail with `ConnectionAborted`; at a timeout, which is none by default, with `TimedOut`. A
//! timeout of `Duration::ZERO`, in std an error, is for calls that are not to wait. `SIGPIPE` is never raised. What std, or another crate
//! by way of std, has opened is adopted with `TryFrom`.
//!
//! With [`spawn`](crate::spawn), a handler copies both ways at a time:
//!
//! ```
//! use std::io;
//! use std::net::Shutdown;
//! use socketserver::{EventLoopTcpServer, Request, net::TcpStream};
//!
//! fn proxy(request: &mut Request) -> io::Result<()> {
//!     let mut upstream = TcpStream::connect("127.0.0.1:7")?;
//!     let (mut back, mut peer) = (upstream.clone(), request.sender()?);
//!     let replies = socketserver::spawn(move || match io::copy(&mut back, &mut peer) {
//!         // Upstream's end is the peer's.
//!         Ok(_) => peer.finish(),
//!         Err(error) => {
//!             peer.close();
//!             Err(error)
//!         }
//!     })?;
//!     let copied = io::copy(request, &mut upstream);
//!     // And so the other way round. However this side has ended, the sibling must not wait for upstream without end.
//!     let _ = upstream.shutdown(if copied.is_ok() { Shutdown::Write } else { Shutdown::Both });
//!     copied?;
//!     replies.join()?
//! }
//! # let _ = EventLoopTcpServer::bind("127.0.0.1:0", proxy)?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! A drain leaves such a connection alone once its client has said something, until both sides have ended it or the deadline cuts it off:
//! what upstream answers is not written by the handler, so nothing says that it is idle.

mod tcp_listener;
mod tcp_stream;
mod udp_socket;
mod unix_stream;
mod waiting;

use std::any::Any;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

pub use tcp_listener::TcpListener;
pub use tcp_stream::TcpStream;
pub use udp_socket::UdpSocket;
pub use unix_stream::UnixStream;

/// What `open` gives for the first address of `addr` with which it works.
fn first_of<T>(
    addr: impl ToSocketAddrs + Send + 'static,
    mut open: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for addr in resolve(addr)? {
        match open(addr) {
            Err(error) => last = error,
            opened => return opened,
        }
    }
    Err(last)
}

/// The addresses of a name, from the system's resolver, which blocks: so on the event loop this is offloaded.
fn resolve(addr: impl ToSocketAddrs + Send + 'static) -> io::Result<Vec<SocketAddr>> {
    match literal(&addr) {
        Some(addr) => Ok(vec![addr]),
        None => crate::park::offload(move || addr.to_socket_addrs().map(Iterator::collect))?,
    }
}

/// What is an address already, and needs no resolver.
fn literal(addr: &dyn Any) -> Option<SocketAddr> {
    let text = || addr.downcast_ref::<String>().map(String::as_str).or(addr.downcast_ref::<&str>().copied());
    let host = || {
        let borrowed = || addr.downcast_ref::<(&str, u16)>().copied();
        let owned = addr.downcast_ref::<(String, u16)>().map(|(host, port)| (host.as_str(), *port));
        let (host, port) = owned.or_else(borrowed)?;
        Some(SocketAddr::new(host.parse().ok()?, port))
    };
    as_inet::<SocketAddr>(addr)
        .or_else(|| as_inet::<(IpAddr, u16)>(addr))
        .or_else(|| as_inet::<(Ipv4Addr, u16)>(addr))
        .or_else(|| as_inet::<(Ipv6Addr, u16)>(addr))
        .or_else(|| as_inet::<SocketAddrV4>(addr))
        .or_else(|| as_inet::<SocketAddrV6>(addr))
        .or_else(host)
        .or_else(|| text()?.parse().ok())
}

fn as_inet<T: Copy + Into<SocketAddr> + 'static>(addr: &dyn Any) -> Option<SocketAddr> {
    addr.downcast_ref::<T>().copied().map(T::into)
}
