//! [`catch`]: runs what a user has written.

use std::any::Any;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::coroutine::Unwound;

/// How something that a user has written failed.
pub(crate) struct Failed {
    /// What it returned; for a panic, an error with its message.
    pub(crate) error: io::Error,
    pub(crate) panicked: bool,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed { error, panicked: false }
    }
}

/// Runs what a user has written, which may panic, or be unwound because its loop is gone.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, Failed> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        if payload.is::<Unwound>() {
            let text = "the request was cut off, and its handler never returned: its stack was unwound";
            return io::Error::new(ErrorKind::ConnectionAborted, text).into();
        }
        let error = io::Error::other(message(payload.as_ref()));
        discard(payload);
        Failed { error, panicked: true }
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is not text").to_string()
}

/// Drops what a panic carried. That is a user's value as well, and its destructor may panic in turn.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(worse) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(worse);
    }
}
