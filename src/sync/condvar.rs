//! [`Condvar`]: waits until somebody has changed what a mutex protects.

use std::fmt;
use std::sync::{LockResult, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::mutex::MutexGuard;
use super::waiters::Waiters;
use crate::deadline::{deadline, has_passed};
use crate::live::Activity;
use crate::park;

/// A condition variable for [`Mutex`](super::Mutex). As [`std::sync::Condvar`], but waiting parks the coroutine on an event loop.
///
/// ```
/// use std::sync::Arc;
/// use socketserver::sync::{Condvar, Mutex};
///
/// let shared = Arc::new((Mutex::new(false), Condvar::new()));
/// let other = shared.clone();
/// let sibling = socketserver::spawn(move || {
///     *other.0.lock().unwrap() = true;
///     other.1.notify_one();
/// })?;
/// let (ready, changed) = &*shared;
/// let guard = changed.wait_while(ready.lock().unwrap(), |ready| !*ready).unwrap();
/// assert!(*guard);
/// # drop(guard);
/// sibling.join()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Condvar {
    waiters: Waiters,
}

impl Condvar {
    /// A condition variable that nobody waits on.
    pub const fn new() -> Condvar {
        Condvar { waiters: Waiters::new() }
    }

    /// Gives the mutex back, waits until notified, and takes it again. May return early: because the server ends (see
    /// [`sync`](super#when-the-server-ends)), or for no reason.
    ///
    /// # Errors
    ///
    /// If somebody has panicked while holding the mutex; the error has the guard all the same.
    ///
    /// # Panics
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        match self.wait_until(guard, None) {
            Ok((guard, _)) => Ok(guard),
            Err(poisoned) => Err(PoisonError::new(poisoned.into_inner().0)),
        }
    }

    /// Waits until `condition` no longer holds. Nothing else ends this, not even that the request is cut off.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    ///
    /// # Panics
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait`](Condvar::wait), for `timeout` at the most; `true` if that has passed without a notification. One that came in time
    /// counts, however long it took to get the mutex back.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    ///
    /// # Panics
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        self.wait_until(guard, deadline(Some(timeout)))
    }

    /// As [`wait_while`](Condvar::wait_while), for `timeout` at the most; `true` if that has passed and `condition` still holds.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    ///
    /// # Panics
    ///
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let until = deadline(Some(timeout));
        while condition(&mut guard) {
            if has_passed(until) {
                return Ok((guard, true));
            }
            (guard, _) = self.wait_until(guard, until)?;
        }
        Ok((guard, false))
    }

    /// Wakes the one who has waited longest.
    pub fn notify_one(&self) {
        self.waiters.wake_one();
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.waiters.wake_all();
    }

    /// Waits; also tells whether the deadline has passed without a notification.
    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        until: Option<Instant>,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let context = park::current();
        let me = context.parker.unparker();
        let mutex = guard.mutex;
        // Added before the mutex is given back: a change after that notifies this one, too.
        let place = self.waiters.queue_up(&me);
        drop(guard);
        // If it cannot wait, it returns early, as it may. In a destructor of a panic it never could.
        let waited = context.park(Activity::Waiting, until);
        assert!(waited.is_ok() || !thread::panicking(), "cannot wait for a condition while panicking");
        let locked = mutex.lock();
        // Only now: one who is woken, but does not get the mutex, has changed nothing for those who wait behind it.
        let timed_out = !place.leave() && has_passed(until);
        match locked {
            Ok(guard) => Ok((guard, timed_out)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), timed_out))),
        }
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
