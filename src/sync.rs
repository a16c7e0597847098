//! Locks and channels that park: for handlers that coordinate.
//!
//! A [`std::sync::Mutex`] that one request holds while it waits for its peer stops an event loop for good as soon as another request of
//! the same loop wants it: that blocks the thread on which the first would have to go on. These park the coroutine instead, and block
//! the thread everywhere else, so that a handler that uses them runs on every backend, and threads outside of any handler may use
//! them, too.
//!
//! They have the names and the rules of std, poisoning included, and of crossbeam's channels. A lock is for short sections all the
//! same; only these may have I/O in them.
//!
//! # When a request is cut off
//!
//! Waiting for a channel fails, as I/O does. Waiting for a lock goes on: whoever holds it is being cut off as well, or is none of the
//! server's requests.

pub mod channel;
mod condvar;
mod mutex;
mod waiters;

pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
