//! [`lock`]: takes a mutex, also after a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks one of this crate's own mutexes. That somebody has panicked while holding it is no reason not to: none of them protects anything
/// that a panic could leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
