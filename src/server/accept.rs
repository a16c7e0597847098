//! What to do when accepting fails.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// What an error of [`Listener::get_request`](crate::listener::Listener::get_request) means for the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No request is waiting.
    NothingThere,
    /// One connection is lost; the next may be fine.
    LostConnection,
    /// The system, or this process, lacks what a connection needs: it makes no sense to try again at once.
    OutOfResources,
}

impl Verdict {
    pub(crate) fn of(error: &io::Error) -> Verdict {
        if error.kind() == ErrorKind::WouldBlock {
            return Verdict::NothingThere;
        }
        match Errno::from_io_error(error) {
            // It was reset while it was queued, or a firewall forbids it, or a signal came.
            Some(Errno::CONNABORTED | Errno::CONNRESET | Errno::PERM | Errno::PROTO | Errno::INTR) => {
                Verdict::LostConnection
            }
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
pub(crate) struct Backoff {
    delay: Duration,
    until: Option<Instant>,
    accepting: Accepting,
}

/// Whether accepting works: what has been logged.
#[derive(Debug, Default, PartialEq, Eq)]
enum Accepting {
    #[default]
    Works,
    Fails,
    /// It works again, so far: has done since then.
    Recovers(Instant),
}

const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

/// How long accepting has to work until a shortage is over. As long as requests end and others take their descriptors, it fails and
/// works in turns, many times a second.
const CALM: Duration = Duration::from_secs(5);

impl Backoff {
    /// Begins the next pause, and logs the first of a shortage.
    pub(crate) fn fail(&mut self, error: &io::Error) {
        if self.accepting == Accepting::Works {
            log::warn!("cannot accept, and will try again: {error}");
        }
        self.accepting = Accepting::Fails;
        self.delay = (self.delay * 2).clamp(FIRST, LONGEST);
        self.until = Some(Instant::now() + self.delay);
    }

    /// Accepting works. This costs a look at the clock only after a failure.
    pub(crate) fn succeed(&mut self) {
        if self.accepting == Accepting::Fails {
            *self = Backoff { accepting: Accepting::Recovers(Instant::now()), ..Backoff::default() };
        }
    }

    /// Ends a shortage when accepting has worked for long enough, and says when to look again.
    pub(crate) fn tend(&mut self) -> Option<Duration> {
        let Accepting::Recovers(since) = self.accepting else { return self.remaining() };
        let left = CALM.saturating_sub(since.elapsed());
        if left.is_zero() {
            log::info!("accepting again");
            self.accepting = Accepting::Works;
            return None;
        }
        Some(left)
    }

    /// What is left of the pause.
    pub(crate) fn remaining(&self) -> Option<Duration> {
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
            (Errno::PERM, Verdict::LostConnection),
            (Errno::PROTO, Verdict::LostConnection),
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
        backoff.succeed();
        assert!(backoff.remaining().is_none());
        backoff.fail(&Errno::MFILE.into());
        assert_eq!(backoff.delay, FIRST);
    }

    #[test]
    fn a_shortage_is_over_when_accepting_has_worked_for_a_while() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.tend(), None);
        for _ in 0..3 {
            backoff.fail(&Errno::MFILE.into());
            assert!(backoff.tend() <= Some(FIRST));
            backoff.succeed();
            assert!(backoff.tend() > Some(LONGEST));
            assert_ne!(backoff.accepting, Accepting::Works);
        }
        backoff.accepting = Accepting::Recovers(Instant::now() - CALM);
        // What was accepted since then does not put it off.
        backoff.succeed();
        assert_eq!(backoff.tend(), None);
        assert_eq!(backoff.accepting, Accepting::Works);
    }
}
