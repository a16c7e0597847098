//! What to do when accepting fails.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::episode::Episode;

/// What an error of [`Listener::get_request`](crate::listener::Listener::get_request) means for the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No request is waiting.
    NothingThere,
    /// One connection is lost; the next may be fine.
    LostConnection,
    /// The system, or this process, lacks what a connection needs: it makes no sense to try again at once.
    OutOfResources,
}

impl Verdict {
    pub(super) fn of(error: &io::Error) -> Verdict {
        match error.kind() {
            ErrorKind::WouldBlock => return Verdict::NothingThere,
            // It was reset while it was queued, or a signal came; or a listener of somebody's own, whose errors have no number, turns it
            // away.
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted => {
                return Verdict::LostConnection;
            }
            _ => {}
        }
        match Errno::from_io_error(error) {
            // A firewall forbids it.
            Some(Errno::PERM | Errno::PROTO) => Verdict::LostConnection,
            // Linux passes errors of the new connection's network on to accept, and those of earlier replies to recvfrom.
            Some(
                Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::OPNOTSUPP
                | Errno::CONNREFUSED
                | Errno::TIMEDOUT,
            ) => Verdict::LostConnection,
            // MFILE, NFILE, NOBUFS, NOMEM. What nobody has thought of is treated as carefully.
            _ => Verdict::OutOfResources,
        }
    }
}

/// Pauses accepting: for 5 ms, and for twice as long after each further failure, up to a second. (The delays of Go's net/http.)
///
/// A client that is queued when this begins is served when it ends: the server then tries, without waiting for an event.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    delay: Duration,
    until: Option<Instant>,
    shortage: Episode,
}

const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

impl Backoff {
    /// Begins the next pause, and logs the first of a shortage. As long as requests end and others take their descriptors, accepting fails
    /// and works in turns, many times a second.
    pub(super) fn fail(&mut self, error: &io::Error) {
        if self.shortage.trouble() {
            log::warn!("cannot accept, and will try again: {error}");
        }
        self.delay = (self.delay * 2).clamp(FIRST, LONGEST);
        self.until = Some(Instant::now() + self.delay);
    }

    /// Accepting works.
    pub(super) fn reset(&mut self) {
        (self.delay, self.until) = (Duration::ZERO, None);
    }

    /// What is left of the pause.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_verdict() {
        for (errno, verdict) in [
            (Errno::AGAIN, Verdict::NothingThere),
            (Errno::CONNABORTED, Verdict::LostConnection),
            (Errno::CONNRESET, Verdict::LostConnection),
            (Errno::INTR, Verdict::LostConnection),
            (Errno::PERM, Verdict::LostConnection),
            (Errno::PROTO, Verdict::LostConnection),
            (Errno::NETDOWN, Verdict::LostConnection),
            (Errno::NOPROTOOPT, Verdict::LostConnection),
            (Errno::HOSTDOWN, Verdict::LostConnection),
            (Errno::HOSTUNREACH, Verdict::LostConnection),
            (Errno::NETUNREACH, Verdict::LostConnection),
            (Errno::OPNOTSUPP, Verdict::LostConnection),
            (Errno::CONNREFUSED, Verdict::LostConnection),
            (Errno::TIMEDOUT, Verdict::LostConnection),
            (Errno::MFILE, Verdict::OutOfResources),
            (Errno::NFILE, Verdict::OutOfResources),
            (Errno::NOBUFS, Verdict::OutOfResources),
            (Errno::NOMEM, Verdict::OutOfResources),
            (Errno::BADF, Verdict::OutOfResources),
        ] {
            assert_eq!(Verdict::of(&errno.into()), verdict, "{errno:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_second() {
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..10 {
            backoff.fail(&Errno::MFILE.into());
            delays.push(backoff.delay.as_millis());
        }
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.reset();
        assert!(backoff.remaining().is_none());
        backoff.fail(&Errno::MFILE.into());
        assert_eq!(backoff.delay, FIRST);
    }
}
