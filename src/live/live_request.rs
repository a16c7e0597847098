//! [`LiveRequest`]: a request in progress as others see it, and what its handler does.

use std::fmt;
use std::time::Duration;

use crate::addr::Addr;

/// A request in progress, as [`Monitor::dump`](crate::Monitor::dump) saw it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LiveRequest {
    /// Whose request it is.
    pub peer: Addr,
    /// For how long it has been running.
    pub age: Duration,
    /// What its handler did at that moment.
    pub activity: Activity,
    /// Bytes of a connection that were read so far.
    pub bytes_read: u64,
    /// Bytes that the handler has sent so far, and others by a [`Sender`](crate::Sender) of a connection. A write counts when all of it is
    /// out.
    pub bytes_written: u64,
}

impl fmt::Display for LiveRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LiveRequest { peer, age, activity, bytes_read, bytes_written } = self;
        write!(f, "{peer}: {activity}, {age:.1?} old, {bytes_read} bytes in, {bytes_written} bytes out")
    }
}

/// What the handler of a [`LiveRequest`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Activity {
    /// It computes, or blocks in something that is not of this crate.
    Running,
    /// It waits to read.
    Reading,
    /// It waits to write.
    Writing,
    /// It waits in [`Request::sleep`](crate::Request::sleep) or [`sleep`](crate::sleep).
    Sleeping,
    /// It waits for [`Request::offload`](crate::Request::offload) or [`offload`](crate::offload), or runs the work itself, where that
    /// is done in place.
    Offloading,
    /// It waits for something else of this crate: a lock, a channel, a sibling, a socket in [`net`](crate::net).
    Waiting,
}

impl Activity {
    const ALL: [Activity; 6] = [
        Activity::Running,
        Activity::Reading,
        Activity::Writing,
        Activity::Sleeping,
        Activity::Offloading,
        Activity::Waiting,
    ];

    /// The activity of this number, as which a [`Live`](super::Live) keeps it.
    pub(super) fn of(number: u8) -> Activity {
        Activity::ALL.into_iter().find(|known| *known as u8 == number).unwrap_or(Activity::Running)
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Activity::Running => "running",
            Activity::Reading => "waiting to read",
            Activity::Writing => "waiting to write",
            Activity::Sleeping => "sleeping",
            Activity::Offloading => "waiting for offloaded work",
            Activity::Waiting => "waiting",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_activities_is_as_wide_as_asked_for() {
        let lines = Activity::ALL.map(|activity| format!("{activity:26}|{activity:>26}"));
        assert_eq!(lines[3], "sleeping                  |                  sleeping");
        assert!(lines.iter().all(|line| line.len() == 53), "{lines:?}");
    }
}
