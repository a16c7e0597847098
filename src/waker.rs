//! [`Waker`]: ends a wait of another thread, by a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering::SeqCst, fence};
use std::sync::{Arc, OnceLock};

#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::event::{EventfdFlags, eventfd};

/// Ends a wait of the thread that owns it: `poll`ing its descriptor for reading returns. It may be rung from any thread,
/// any number of times, and never blocks.
///
/// A server gives its own to its [`Backend`](crate::Backend) in [`activate`](crate::Backend::activate).
#[derive(Debug)]
pub struct Waker {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fd: OwnedFd,
    /// The reading and the writing end of a pipe.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fds: (OwnedFd, OwnedFd),
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        Ok(Waker { fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Ends the owner's wait, or the next one if it does not wait now.
    pub fn wake(&self) {
        // A full counter means that it has been rung and not heard yet.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Makes the descriptor quiet again: for a [`Backend`](crate::Backend) that polls it by itself, in place of
    /// [`Sources::wait`](crate::backend::Sources::wait). What the waker is rung for is to be looked at afterwards.
    pub fn reset(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let fds = rustix::pipe::pipe()?;
        for fd in [&fds.0, &fds.1] {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Waker { fds })
    }

    /// Ends the owner's wait, or the next one if it does not wait now.
    pub fn wake(&self) {
        // A full pipe means that it has been rung and not heard yet.
        let _ = rustix::io::write(&self.fds.1, &[1]);
    }

    /// Makes the descriptor quiet again: for a [`Backend`](crate::Backend) that polls it by itself, in place of
    /// [`Sources::wait`](crate::backend::Sources::wait). What the waker is rung for is to be looked at afterwards.
    pub fn reset(&self) {
        while matches!(rustix::io::read(&self.fds.0, &mut [0; 64]), Ok(64)) {}
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return self.fd.as_fd();
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        return self.fds.0.as_fd();
    }
}

/// A place for a waker that is made late: when a server is first activated, or when a thread first has to be woken out of a poll.
#[derive(Debug, Default)]
pub(crate) struct LateWaker(OnceLock<Arc<Waker>>);

impl LateWaker {
    pub(crate) fn get(&self) -> Option<&Arc<Waker>> {
        self.0.get()
    }

    /// Puts a waker here, unless there is one. What it is for must be looked at afterwards: either who changes that sees the waker, or that
    /// look sees the change.
    pub(crate) fn set(&self, waker: Arc<Waker>) {
        self.0.get_or_init(|| waker);
        fence(SeqCst);
    }

    /// Rings the waker, after a change of what it is for. `false` if there is none yet.
    pub(crate) fn ring(&self) -> bool {
        // See `set`.
        fence(SeqCst);
        self.0.get().map(|waker| waker.wake()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    #[test]
    fn it_is_quiet_until_it_is_rung_and_once_it_is_reset() {
        let waker = Waker::new().unwrap();
        let is_rung = || poll(&mut [PollFd::new(&waker, PollFlags::IN)], Some(&Default::default())).unwrap() == 1;
        waker.reset();
        assert!(!is_rung());
        waker.wake();
        waker.wake();
        assert!(is_rung());
        waker.reset();
        assert!(!is_rung());
        assert!(rustix::io::fcntl_getfd(&waker).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}
