//! [`offload`]: runs work that may block where it holds up nobody.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use super::{Context, current};
use crate::live::Activity;

/// Runs work that blocks or computes for long, and returns its result: on an event loop on a thread of a bounded pool, elsewhere in
/// place. If the work panics, so does this.
///
/// A handler that has its request at hand calls [`Request::offload`](crate::Request::offload), which heeds the request's deadline, too.
///
/// # Errors
///
/// `ConnectionAborted` if the caller's request is cut off: the work does not begin then, or, on an event loop, its result is dropped. The
/// system's, if no thread can be started for it.
pub fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let context = current();
    // Also where the work runs in place, so that nothing below would wait and check.
    context.check()?;
    let result = context.begin_offload(work)?;
    loop {
        if let Some(value) = result.take()? {
            return Ok(value);
        }
        context.check()?;
        context.park(Activity::Offloading, None)?;
    }
}

impl Context {
    /// Begins to run work where it may block. When it is done, it unparks this. If nobody waits for it any more when its turn comes, it is
    /// dropped instead, so that those who are late do not make others late.
    pub(crate) fn begin_offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Offloaded<T>> {
        let (give, result) = bounded(1);
        let unparker = self.parker.unparker();
        let wanted = Arc::new(());
        let waiting = Arc::downgrade(&wanted);
        let work = Box::new(move || {
            if waiting.strong_count() == 0 {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(work));
            // Nobody listens if the request was cut off meanwhile.
            let _ = give.send(outcome);
            unparker.unpark();
        });
        match self.own_live() {
            Some(live) => live.during(Activity::Offloading, || self.parker.offload(work))?,
            None => self.parker.offload(work)?,
        }
        Ok(Offloaded { result, _wanted: wanted })
    }
}

/// The result of offloaded work, once there is one.
pub(crate) struct Offloaded<T> {
    result: Receiver<thread::Result<T>>,
    /// Its drop says that nobody waits any more: the work does not begin then.
    _wanted: Arc<()>,
}

impl<T> Offloaded<T> {
    /// The result; `None` if the work is not done.
    pub(crate) fn take(&self) -> io::Result<Option<T>> {
        match self.result.try_recv() {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => {
                Err(io::Error::other("the offloaded work was dropped: its server is closing"))
            }
        }
    }
}
