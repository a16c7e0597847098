//! [`UnixStream`]: a connection to a Unix stream socket.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::waiting::Waiting;
use crate::addr::{Scheme, ToAddr};
use crate::socket;

/// A connection to a Unix stream socket that waits where its caller does. As [`std::os::unix::net::UnixStream`]; its clones are
/// the same connection.
#[derive(Clone)]
pub struct UnixStream {
    waiting: Arc<Waiting>,
}

impl UnixStream {
    /// Connects to a path. While the server's queue is full, this waits.
    ///
    /// # Errors
    ///
    /// The system's: `ConnectionRefused`, `NotFound`, `PermissionDenied`. `InvalidInput` for too long a path.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        let waiting = Waiting::connect(&path.as_ref().to_addr(Scheme::Unix)?, None)?;
        Ok(UnixStream { waiting: Arc::new(waiting) })
    }

    /// Limits the time that one read may wait, for all clones; `None`, the default, is no limit.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.waiting.set_timeouts(|timeouts| timeouts.read = timeout);
    }

    /// Limits the time that one write may wait, for all clones; `None`, the default, is no limit.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.waiting.set_timeouts(|timeouts| timeouts.write = timeout);
    }

    /// Ends one direction or both, for all clones: what waits for it returns.
    ///
    /// # Errors
    ///
    /// The system's: `NotConnected`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        socket::shutdown(self.waiting.fd(), how)
    }
}

/// Adopts a connection that somebody else has made: one end of a pair, for instance, the other end of which is a program's standard input
/// and output (which a `Command` keeps open until it is dropped, so that the program's end would not be read before). It is made
/// non-blocking, in all of its copies, and the timeouts that it had are heeded no longer.
impl TryFrom<std::os::unix::net::UnixStream> for UnixStream {
    type Error = io::Error;

    fn try_from(stream: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
        Ok(UnixStream { waiting: Arc::new(Waiting::over(stream.into())?) })
    }
}

impl Read for UnixStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.waiting.recv(into)
    }
}

impl Write for UnixStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.send(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.waiting.send_vectored(pieces)
    }

    /// One write, whatever the text is put together from: the default makes one of each piece.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(fmt::format(text).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.fd()
    }
}

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixStream").finish_non_exhaustive()
    }
}
