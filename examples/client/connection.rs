//! [`Connection`]: a socket of any kind, connected to a server.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socketserver::{Addr, UnixName};
use tempfile::TempDir;

/// The longest datagram that there is.
pub const LONGEST_DATAGRAM: usize = 65_535;

/// A socket that is connected. A datagram socket takes datagrams of its server alone; each read and write is one.
pub struct Connection {
    socket: Arc<OwnedFd>,
    is_datagram: bool,
    /// Where a Unix datagram socket has the path that replies are sent to.
    _folder: Option<TempDir>,
}

impl Connection {
    pub fn open(addr: &Addr, timeout: Duration) -> io::Result<Connection> {
        let opened = match addr {
            Addr::Tcp(addr) => TcpStream::connect_timeout(addr, timeout).map(|socket| (socket.into(), None)),
            Addr::Unix(name) => unix_stream(name, timeout).map(|socket| (socket.into(), None)),
            Addr::Udp(addr) => udp(addr).map(|socket| (socket.into(), None)),
            Addr::Unixgram(name) => unix_datagram(name).map(|(socket, folder)| (socket.into(), Some(folder))),
        };
        match opened {
            Ok((socket, folder)) => Ok(Connection {
                socket: Arc::new(socket),
                is_datagram: matches!(addr, Addr::Udp(_) | Addr::Unixgram(_)),
                _folder: folder,
            }),
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::ConnectionRefused => "nobody listens there".to_string(),
                    ErrorKind::NotFound => "nobody listens there: the path does not exist".to_string(),
                    ErrorKind::TimedOut => "connecting timed out".to_string(),
                    _ => error.to_string(),
                };
                Err(io::Error::new(error.kind(), format!("cannot connect to {addr}: {why}")))
            }
        }
    }

    /// The same connection, for another thread. It ends with the first one, since nobody waits for the threads.
    pub fn for_thread(&self) -> Connection {
        Connection { socket: self.socket.clone(), is_datagram: self.is_datagram, _folder: None }
    }

    pub fn is_datagram(&self) -> bool {
        self.is_datagram
    }

    /// Limits how long one read may wait.
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&*self.socket, Timeout::Recv, Some(timeout))?)
    }

    /// Limits how long one write may wait.
    pub fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&*self.socket, Timeout::Send, Some(timeout))?)
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&self) -> io::Result<()> {
        if self.is_datagram {
            return Ok(());
        }
        match shutdown(&*self.socket, Shutdown::Write) {
            // The server has closed already.
            Err(rustix::io::Errno::NOTCONN) => Ok(()),
            result => Ok(result?),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match recv(&*self.socket, into, RecvFlags::empty()) {
            Ok((count, _)) => Ok(count),
            Err(error) => Err(said(error.into())),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send(&*self.socket, bytes, SendFlags::NOSIGNAL).map_err(|error| said(error.into()))
    }

    /// What stands around a message goes out with it: in one datagram, and without waiting for the acknowledgement of the first.
    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        sendmsg(&*self.socket, pieces, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
            .map_err(|error| said(error.into()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An error in words for people.
fn said(error: io::Error) -> io::Error {
    let what = match error.kind() {
        // What a socket with a timeout gives.
        ErrorKind::WouldBlock => return io::Error::new(ErrorKind::TimedOut, "timed out"),
        // To a datagram, the answer of a host that has no such socket.
        ErrorKind::ConnectionRefused => "nobody listens there",
        ErrorKind::ConnectionReset => "the server has reset the connection",
        ErrorKind::BrokenPipe => "the server has closed the connection",
        _ => return error,
    };
    io::Error::new(error.kind(), what)
}

fn udp(addr: &std::net::SocketAddr) -> io::Result<UdpSocket> {
    let socket = match addr {
        std::net::SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        std::net::SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }?;
    socket.connect(addr)?;
    Ok(socket)
}

/// Connects on a thread: to a Unix socket whose queue is full that blocks, and std has no timeout for it.
fn unix_stream(name: &UnixName, timeout: Duration) -> io::Result<UnixStream> {
    let name = to_system(name)?;
    let (give, connected) = channel();
    thread::Builder::new().name("connect".to_string()).spawn(move || give.send(UnixStream::connect_addr(&name)))?;
    connected.recv_timeout(timeout).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// A socket at a path of its own: without one, the server would have nowhere to send a reply to.
fn unix_datagram(name: &UnixName) -> io::Result<(UnixDatagram, TempDir)> {
    let folder = tempfile::Builder::new().prefix("client-").tempdir()?;
    remove_on_signal(folder.path())?;
    let socket = UnixDatagram::bind(folder.path().join("socket"))?;
    socket.connect_addr(&to_system(name)?)?;
    Ok((socket, folder))
}

/// Whoever ends this with Ctrl-C leaves no path behind either.
fn remove_on_signal(folder: &Path) -> io::Result<()> {
    let folder = folder.to_path_buf();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".to_string()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ = std::fs::remove_dir_all(folder);
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

fn to_system(name: &UnixName) -> io::Result<SocketAddr> {
    match name {
        UnixName::Path(path) => SocketAddr::from_pathname(path),
        #[cfg(target_os = "linux")]
        UnixName::Abstract(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => Err(io::Error::new(ErrorKind::Unsupported, "this system has no such name")),
    }
}
