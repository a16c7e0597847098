//! [`UnixDatagram`]: datagrams over Unix sockets.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::unix_path::{self, Claim};
use super::{Bind, Incoming, Listener, MAX_PACKET_SIZE, Receiver, explain, prepare, wrong_kind};
use crate::addr::{Addr, Scheme, ToAddr};
use crate::socket;

/// A bound Unix datagram socket.
///
/// A path that it has made is removed when it is dropped, if it is still the same file. A client that did not bind has no
/// address, so it gets no reply.
///
/// On Linux, what is sent to a client that has connected its own socket to this one waits in this one's send buffer. Such a client that
/// does not read fills that with some 280 short datagrams. Until it reads or is gone, nobody can be sent anything: each reply fails after
/// its write timeout. So let only clients send here that can be trusted to read ([`mode`](UnixDatagramOptions::mode)).
pub struct UnixDatagram {
    /// The path that was made, if one was. First, as it is to be dropped before the socket.
    _claim: Option<Claim>,
    receiver: Receiver,
    addr: Addr,
}

impl UnixDatagram {
    /// The options, each with its default.
    pub fn options() -> UnixDatagramOptions {
        UnixDatagramOptions::default()
    }
}

/// No system has longer datagrams: their length is a signed number of 32 bits.
const LONGEST: usize = i32::MAX as usize;

/// How a [`UnixDatagram`] listener is opened. From [`UnixDatagram::options`].
#[derive(Clone, Debug)]
pub struct UnixDatagramOptions {
    max_packet_size: usize,
    mode: Option<u32>,
}

impl Default for UnixDatagramOptions {
    fn default() -> UnixDatagramOptions {
        UnixDatagramOptions { max_packet_size: MAX_PACKET_SIZE, mode: None }
    }
}

impl UnixDatagramOptions {
    /// The longest packet that is taken whole, in bytes: 65,535 by default. Unix datagrams may be longer, and so may this; of a
    /// longer one the handler sees the beginning, with [`Request::is_truncated`](crate::Request::is_truncated).
    pub fn max_packet_size(mut self, bytes: usize) -> UnixDatagramOptions {
        self.max_packet_size = bytes.min(LONGEST);
        self
    }

    /// The permissions of the socket's file, such as `0o660`: who may write to it may send. By default what the process's umask
    /// leaves.
    pub fn mode(mut self, mode: u32) -> UnixDatagramOptions {
        self.mode = Some(mode);
        self
    }

    /// Opens the listener. A file that is in the way is replaced only if it is a socket that nobody has open.
    ///
    /// # Errors
    ///
    /// As [`Bind::bind`].
    pub fn bind(self, addr: impl ToAddr) -> io::Result<UnixDatagram> {
        let addr = addr.to_addr(Scheme::Unixgram)?;
        let (fd, claim) = self.open(&addr).map_err(|error| explain(error, &addr))?;
        Ok(UnixDatagram { receiver: Receiver::new(fd, false, self.max_packet_size), addr, _claim: claim })
    }

    fn open(&self, addr: &Addr) -> io::Result<(OwnedFd, Option<Claim>)> {
        let Addr::Unixgram(_) = addr else { return Err(wrong_kind("unixgram:///PATH")) };
        let fd = socket::open(addr)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        let claim = unix_path::bind(&fd, addr, self.mode, || Ok(()))?;
        Ok((fd, claim))
    }
}

impl Bind for UnixDatagram {
    fn bind(addr: impl ToAddr) -> io::Result<UnixDatagram> {
        UnixDatagram::options().bind(addr)
    }
}

impl Listener for UnixDatagram {
    fn local_addr(&self) -> &Addr {
        &self.addr
    }

    fn get_request(&mut self) -> io::Result<Incoming> {
        self.receiver.get_request(Scheme::Unixgram)
    }
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.fd.as_fd()
    }
}

/// Adopts a socket that is bound already.
///
/// # Errors
///
/// `InvalidInput` if it is no Unix datagram socket, or is not bound.
impl TryFrom<OwnedFd> for UnixDatagram {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<UnixDatagram> {
        let addr = prepare(&fd, Scheme::Unixgram)?;
        Ok(UnixDatagram { receiver: Receiver::new(fd, false, MAX_PACKET_SIZE), addr, _claim: None })
    }
}

impl TryFrom<std::os::unix::net::UnixDatagram> for UnixDatagram {
    type Error = io::Error;

    fn try_from(socket: std::os::unix::net::UnixDatagram) -> io::Result<UnixDatagram> {
        OwnedFd::from(socket).try_into()
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixDatagram").field("addr", &self.addr).finish_non_exhaustive()
    }
}
