//! Deadlines, of which `None` is the one that never comes.

use std::io;
use std::time::{Duration, Instant};

/// The moment `timeout` from now; `None` if that is never, or beyond what the clock can say.
#[inline]
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    let timeout = timeout?;
    Instant::now().checked_add(timeout)
}

/// Whether a deadline has passed; one that is none never does.
pub(crate) fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Fails with `TimedOut` once the deadline has passed.
pub(crate) fn in_time(deadline: Option<Instant>) -> io::Result<()> {
    if has_passed(deadline) {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the timeout has passed"));
    }
    Ok(())
}

/// The earlier of two deadlines, of which none is the latest.
#[inline]
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
