//! [`Waiting`]: a socket whose calls wait where their caller does.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use rustix::io::Errno;

use crate::addr::{Addr, Scheme};
use crate::deadline::{deadline, in_time};
use crate::live::Activity;
use crate::lock::lock;
use crate::park::{self, Context, Home, Source};
use crate::readiness::Readiness;
use crate::socket::{self, Blocking};

/// A socket that may be used by several requests and threads at a time.
pub(super) struct Waiting {
    fd: OwnedFd,
    timeouts: Mutex<Timeouts>,
    /// The loops that tell of the socket: those whose requests have waited for it.
    watches: Mutex<Vec<Watch>>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Timeouts {
    pub(super) read: Option<Duration>,
    pub(super) write: Option<Duration>,
}

/// A loop that tells `source` of a socket, for as long as it runs.
struct Watch {
    home: Weak<dyn Home>,
    key: usize,
    source: Arc<Source>,
}

impl Waiting {
    /// Takes a socket, whose calls block no thread from now on.
    pub(super) fn over(fd: OwnedFd) -> io::Result<Waiting> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        socket::raise_no_sigpipe(fd.as_fd());
        Ok(Waiting { fd, timeouts: Mutex::default(), watches: Mutex::default() })
    }

    /// Opens a socket and connects it.
    pub(super) fn connect(addr: &Addr, timeout: Option<Duration>) -> io::Result<Waiting> {
        // Also where nothing is to be waited for: on one machine a connection is made, or refused, at once.
        let context = park::current();
        context.spend(0);
        context.check()?;
        let waiting = Waiting::over(socket::open(addr)?)?;
        let until = deadline(timeout);
        let mut pause = Duration::from_millis(1);
        loop {
            match socket::connect(waiting.fd.as_fd(), addr) {
                Ok(()) => break,
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {
                    waiting.wait_for(Readiness::WRITE, until)?;
                    rustix::net::sockopt::socket_error(&waiting.fd)??;
                    break;
                }
                // A Unix server whose queue is full: nothing tells when it has room again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && addr.scheme() == Scheme::Unix => {
                    context.wait_out(Activity::Waiting, deadline(Some(pause)))?;
                    pause = (pause * 2).min(Duration::from_millis(32));
                }
                // No port is free. TCP has another word for that.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Errno::ADDRNOTAVAIL.into()),
                Err(error) => return Err(error),
            }
        }
        Ok(waiting)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn timeouts(&self) -> Timeouts {
        *lock(&self.timeouts)
    }

    pub(super) fn set_timeouts(&self, change: impl FnOnce(&mut Timeouts)) {
        change(&mut lock(&self.timeouts));
    }

    /// Receives once there is something to receive: bytes of a stream, of which 0 is the end, or a datagram.
    pub(super) fn recv(&self, into: &mut [u8]) -> io::Result<usize> {
        self.read(|count| *count, |fd| socket::recv(fd, into, Blocking::No))
    }

    /// Receives a datagram, and whose it is.
    pub(super) fn recv_from(&self, into: &mut [u8]) -> io::Result<(usize, Addr)> {
        self.read(|(count, _)| *count, |fd| socket::recv_from(fd, into, Scheme::Udp))
    }

    /// Takes a connection out of the queue of a listening socket.
    pub(super) fn accept(&self) -> io::Result<(OwnedFd, Addr)> {
        self.read(|_| 0, |fd| socket::accept(fd, Scheme::Tcp))
    }

    /// Sends once there is room.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write(|fd| socket::send(fd, bytes, Blocking::No))
    }

    /// As [`send`](Waiting::send), in one call.
    pub(super) fn send_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write(|fd| socket::send_vectored(fd, pieces, Blocking::No))
    }

    /// Sends a datagram to `addr`. `mapped` is as for [`socket::send_to`].
    pub(super) fn send_to(&self, bytes: &[u8], addr: &Addr, mapped: bool) -> io::Result<usize> {
        self.write(|fd| socket::send_to(fd, bytes, addr, mapped))
    }

    fn read<T>(&self, bytes: impl Fn(&T) -> usize, call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        self.repeat(Readiness::READ, self.timeouts().read, bytes, call)
    }

    fn write(&self, call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>) -> io::Result<usize> {
        self.repeat(Readiness::WRITE, self.timeouts().write, |count| *count, call)
    }

    /// Makes a system call as often as needed until it need not wait. `bytes` says how many have passed in it.
    fn repeat<T>(
        &self,
        interest: Readiness,
        timeout: Option<Duration>,
        bytes: impl Fn(&T) -> usize,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let until = deadline(timeout);
        let context = park::current();
        loop {
            context.check()?;
            match call(self.fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    in_time(until)?;
                    self.park(&context, interest, until)?;
                }
                result => {
                    context.spend(result.as_ref().map_or(0, &bytes));
                    return result;
                }
            }
        }
    }

    /// Waits until the socket is ready as `interest` says.
    fn wait_for(&self, interest: Readiness, until: Option<Instant>) -> io::Result<()> {
        let context = park::current();
        loop {
            context.check()?;
            if is_ready(self.fd(), interest)? {
                return Ok(());
            }
            in_time(until)?;
            self.park(&context, interest, until)?;
        }
    }

    /// Waits once, possibly for less.
    fn park(&self, context: &Context, interest: Readiness, until: Option<Instant>) -> io::Result<()> {
        let unparker = context.parker.unparker();
        match self.source(unparker.home())? {
            // The loop tells of this socket when it takes its next events: not before this is suspended.
            Some(source) => {
                let _waits = source.wait(interest, unparker);
                context.park(Activity::Waiting, until)
            }
            None => {
                // A thread that waits in `poll` hears of a cut only by its waker; outside of any request there is none to hear of.
                if context.belongs_to_request() {
                    context.parker.watch_unpark()?;
                    context.check()?;
                }
                context.wait(Activity::Waiting, Some((self.fd(), interest)), until)
            }
        }
    }

    /// What `home` tells of this socket; `None` if that is a thread, which waits by itself.
    fn source(&self, home: &Arc<dyn Home>) -> io::Result<Option<Arc<Source>>> {
        let mut watches = lock(&self.watches);
        if let Some(watch) = watches.iter().find(|watch| ptr::addr_eq(watch.home.as_ptr(), Arc::as_ptr(home))) {
            return Ok(Some(watch.source.clone()));
        }
        let source = Arc::default();
        let Some(key) = home.watch(self.fd(), &source)? else { return Ok(None) };
        // A socket may outlive many loops.
        watches.retain(|watch| watch.home.strong_count() > 0);
        watches.push(Watch { home: Arc::downgrade(home), key, source: source.clone() });
        Ok(Some(source))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let watches = self.watches.get_mut().unwrap_or_else(PoisonError::into_inner);
        for watch in watches.drain(..) {
            if let Some(home) = watch.home.upgrade() {
                home.forget(self.fd.as_fd(), watch.key);
            }
        }
    }
}

fn is_ready(fd: BorrowedFd<'_>, interest: Readiness) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, park::poll_flags(interest))];
    park::poll(&mut fds, Some(Instant::now()))?;
    Ok(!fds[0].revents().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::{Listening, Told};

    /// It may serve for years, and its requests make many sockets.
    #[test]
    fn a_loop_watches_a_socket_once_and_forgets_it() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = Addr::Udp(socket.local_addr().unwrap());
        let waiting = Waiting::connect(&addr, None).unwrap();
        let (tell, told) = crossbeam_channel::unbounded();
        let home: Arc<dyn Home> = Arc::new(Listening(move |what| tell.send(what).unwrap()));
        waiting.source(&home).unwrap();
        waiting.source(&home).unwrap();
        drop(waiting);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Told::Watch, Told::Forget(7)]);
    }
}
