//! [`UnixStream`]: connections over Unix sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use super::unix_path::{self, Claim};
use super::{Bind, Incoming, Listener, accept, cannot_reopen, explain, prepare, refuse, wrong_kind};
use crate::addr::{Addr, Scheme, ToAddr, UnixName};
use crate::socket;

/// A listening Unix stream socket.
///
/// A path that it has made is removed when it is dropped, if it is still the same file. An adopted socket's path stays.
///
/// Descriptors that a client sends along (`SCM_RIGHTS`) are closed when the bytes that they came with are read. A read ends behind those
/// bytes, and an event loop is not told that there are more: it reads these when the client sends more, reads an answer, or ends. So such
/// clients are to be served by threads.
#[derive(Debug)]
pub struct UnixStream {
    /// The path that was made, if one was. First, as it is to be dropped before the socket.
    claim: Option<Claim>,
    fd: OwnedFd,
    addr: Addr,
    /// Where its path is, if it has one, from whichever folder the process is in when it opens it again.
    absolute: Option<PathBuf>,
    /// How to open it again; `None` if it was adopted.
    options: Option<UnixStreamOptions>,
    timeout: Option<Duration>,
    /// A drain has ended it.
    refusing: bool,
}

impl UnixStream {
    /// The options, each with its default.
    pub fn options() -> UnixStreamOptions {
        UnixStreamOptions::default()
    }

    /// Sets the timeout of one read and one write that requests begin with: for an adopted socket.
    pub fn timeout(mut self, timeout: Option<Duration>) -> UnixStream {
        self.timeout = timeout;
        self
    }

    /// Its address as it is spelled in the folder in which the process is now. A relative path stays one in the folder in which it was bound:
    /// the absolute one may be too long for the system.
    fn addr_from_here(&self) -> io::Result<Addr> {
        match (self.addr.as_path(), &self.absolute) {
            (Some(path), Some(absolute)) if std::path::absolute(path)? != *absolute => {
                Ok(Addr::Unix(UnixName::Path(absolute.clone())))
            }
            _ => Ok(self.addr.clone()),
        }
    }
}

/// How a [`UnixStream`] listener is opened. From [`UnixStream::options`].
#[derive(Clone, Debug)]
pub struct UnixStreamOptions {
    request_queue_size: i32,
    mode: Option<u32>,
    timeout: Option<Duration>,
}

impl Default for UnixStreamOptions {
    fn default() -> UnixStreamOptions {
        UnixStreamOptions { request_queue_size: 1024, mode: None, timeout: None }
    }
}

impl UnixStreamOptions {
    /// How many connections the kernel queues until the server accepts them: 1024 by default. Linux caps it at
    /// `net.core.somaxconn`. When the queue is full, clients wait.
    pub fn request_queue_size(mut self, size: u16) -> UnixStreamOptions {
        self.request_queue_size = size.into();
        self
    }

    /// The permissions of the socket's file, such as `0o660`: who may write to it may connect. By default what the process's
    /// umask leaves.
    pub fn mode(mut self, mode: u32) -> UnixStreamOptions {
        self.mode = Some(mode);
        self
    }

    /// The timeout of one read and of one write that requests begin with: none by default.
    pub fn timeout(mut self, timeout: Option<Duration>) -> UnixStreamOptions {
        self.timeout = timeout;
        self
    }

    /// Opens the listener. A file that is in the way is replaced only if it is a socket that nobody listens on.
    ///
    /// # Errors
    ///
    /// As [`Bind::bind`].
    pub fn bind(self, addr: impl ToAddr) -> io::Result<UnixStream> {
        let addr = addr.to_addr(Scheme::Unix)?;
        let (fd, claim) = self.open(&addr).map_err(|error| explain(error, &addr))?;
        let absolute = addr.as_path().map(std::path::absolute).transpose()?;
        Ok(UnixStream { fd, addr, absolute, claim, timeout: self.timeout, options: Some(self), refusing: false })
    }

    fn open(&self, addr: &Addr) -> io::Result<(OwnedFd, Option<Claim>)> {
        let Addr::Unix(_) = addr else { return Err(wrong_kind("unix:///PATH")) };
        let fd = socket::open(addr)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        let listen = || Ok(rustix::net::listen(&fd, self.request_queue_size)?);
        let claim = unix_path::bind(&fd, addr, self.mode, listen)?;
        Ok((fd, claim))
    }
}

impl Bind for UnixStream {
    fn bind(addr: impl ToAddr) -> io::Result<UnixStream> {
        UnixStream::options().bind(addr)
    }
}

impl Listener for UnixStream {
    fn local_addr(&self) -> &Addr {
        &self.addr
    }

    fn get_request(&mut self) -> io::Result<Incoming> {
        accept(self.fd.as_fd(), Scheme::Unix, self.timeout)
    }

    fn refuse(&mut self) {
        self.claim = None;
        refuse(&mut self.fd, &self.addr, self.options.is_none());
        self.refusing = true;
    }

    fn reopen(&mut self) -> io::Result<()> {
        if self.refusing {
            // Without a descriptor to spare the socket has stayed, and with it its abstract name.
            self.refuse();
            let options = self.options.as_ref().ok_or_else(|| cannot_reopen(&self.addr))?;
            let addr = self.addr_from_here()?;
            (self.fd, self.claim) = options.open(&addr).map_err(|error| explain(error, &addr))?;
            self.refusing = false;
        }
        Ok(())
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Adopts a socket that listens already.
///
/// # Errors
///
/// `InvalidInput` if it is no Unix stream socket, or does not listen.
impl TryFrom<OwnedFd> for UnixStream {
    type Error = io::Error;

    fn try_from(fd: OwnedFd) -> io::Result<UnixStream> {
        let addr = prepare(&fd, Scheme::Unix)?;
        Ok(UnixStream { fd, addr, absolute: None, claim: None, options: None, timeout: None, refusing: false })
    }
}

impl TryFrom<std::os::unix::net::UnixListener> for UnixStream {
    type Error = io::Error;

    fn try_from(listener: std::os::unix::net::UnixListener) -> io::Result<UnixStream> {
        OwnedFd::from(listener).try_into()
    }
}
