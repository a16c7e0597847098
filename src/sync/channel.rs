//! Channels: values from many senders to many receivers, in order.
//!
//! As crossbeam's, which they are inside, but waiting parks the coroutine on an event loop.
//!
//! ```
//! use socketserver::sync::channel;
//!
//! let (sender, receiver) = channel::bounded(8);
//! let sibling = socketserver::spawn(move || (0..100).try_for_each(|number| sender.send(number)))?;
//! assert_eq!(receiver.into_iter().sum::<i32>(), 4950);
//! sibling.join()?.unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::waiters::Waiters;
use crate::deadline::deadline;

#[doc(no_inline)]
pub use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};

/// A channel that holds `capacity` values at the most, at least one; sending to a full one waits. The memory for all of them is taken at
/// once.
///
/// # Panics
///
/// If there can be no memory for so many.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    ends(crossbeam_channel::bounded(capacity.max(1)))
}

/// A channel that holds any number of values, so that sending never waits. Where peers decide how much is sent, this is memory that
/// they take.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    ends(crossbeam_channel::unbounded())
}

fn ends<T>(
    (sender, receiver): (crossbeam_channel::Sender<T>, crossbeam_channel::Receiver<T>),
) -> (Sender<T>, Receiver<T>) {
    let waiting = Arc::new(Waiting::default());
    (Sender { inner: Some(sender), waiting: waiting.clone() }, Receiver { inner: Some(receiver), waiting })
}

/// Who waits at the two ends of a channel, and how many clones of each end there are.
struct Waiting {
    senders: Waiters,
    receivers: Waiters,
    senders_left: AtomicUsize,
    receivers_left: AtomicUsize,
}

impl Default for Waiting {
    fn default() -> Waiting {
        let (senders_left, receivers_left) = (AtomicUsize::new(1), AtomicUsize::new(1));
        Waiting { senders: Waiters::new(), receivers: Waiters::new(), senders_left, receivers_left }
    }
}

/// The end of a channel that values go into. Clones send to the same channel.
pub struct Sender<T> {
    /// `None` only while it is being dropped.
    inner: Option<crossbeam_channel::Sender<T>>,
    waiting: Arc<Waiting>,
}

impl<T> Sender<T> {
    /// Sends a value, and waits for room if the channel is full.
    ///
    /// # Errors
    ///
    /// If there is no receiver any more, or this request is cut off while it waits; the error has the value.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.wait(value, None).map_err(|error| SendError(error.into_inner()))
    }

    /// Sends a value, and waits for room for `timeout` at the most.
    ///
    /// # Errors
    ///
    /// `Timeout`; `Disconnected` as [`send`](Sender::send). Both have the value.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.wait(value, deadline(Some(timeout)))
    }

    /// Sends a value, if there is room.
    ///
    /// # Errors
    ///
    /// `Full` if there is none, `Disconnected` if there is no receiver any more; both have the value.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let Some(inner) = &self.inner else { return Err(TrySendError::Disconnected(value)) };
        inner.try_send(value)?;
        self.waiting.receivers.wake_one();
        Ok(())
    }

    fn wait(&self, value: T, until: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        let mut value = Some(value);
        let sent = self.waiting.senders.wait(until, || match self.try_send(value.take()?) {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Full(back)) => {
                value = Some(back);
                None
            }
            Err(TrySendError::Disconnected(back)) => Some(Err(SendTimeoutError::Disconnected(back))),
        });
        match (sent, value) {
            (Ok(result), _) => result,
            (Err(error), Some(value)) if error.kind() == io::ErrorKind::TimedOut => {
                Err(SendTimeoutError::Timeout(value))
            }
            (Err(_), Some(value)) => Err(SendTimeoutError::Disconnected(value)),
            (Err(_), None) => Ok(()),
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.waiting.senders_left.fetch_add(1, SeqCst);
        Sender { inner: self.inner.clone(), waiting: self.waiting.clone() }
    }
}

impl<T> Drop for Sender<T> {
    /// The last one ends the channel: the receivers learn it.
    fn drop(&mut self) {
        // Before it is counted: so when the last one is counted, all are gone.
        self.inner = None;
        if self.waiting.senders_left.fetch_sub(1, SeqCst) == 1 {
            self.waiting.receivers.wake_all();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The end of a channel that values come out of. Clones receive from the same channel, each value once.
pub struct Receiver<T> {
    /// `None` only while it is being dropped.
    inner: Option<crossbeam_channel::Receiver<T>>,
    waiting: Arc<Waiting>,
}

impl<T> Receiver<T> {
    /// Receives a value, and waits for one if there is none.
    ///
    /// # Errors
    ///
    /// If there is none and no sender any more, or this request is cut off while it waits.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.wait(None).unwrap_or(Err(RecvError))
    }

    /// Receives a value, and waits for one for `timeout` at the most.
    ///
    /// # Errors
    ///
    /// `Timeout`; `Disconnected` as [`recv`](Receiver::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        match self.wait(deadline(Some(timeout))) {
            Ok(result) => result.map_err(|RecvError| RecvTimeoutError::Disconnected),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(RecvTimeoutError::Timeout),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        }
    }

    /// Receives a value, if there is one.
    ///
    /// # Errors
    ///
    /// `Empty` if there is none, `Disconnected` if there will never be.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let inner = self.inner.as_ref().ok_or(TryRecvError::Disconnected)?;
        let value = inner.try_recv()?;
        self.waiting.senders.wake_one();
        Ok(value)
    }

    /// The values, each received as by [`recv`](Receiver::recv), until that fails.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    fn wait(&self, until: Option<Instant>) -> io::Result<Result<T, RecvError>> {
        self.waiting.receivers.wait(until, || match self.try_recv() {
            Ok(value) => Some(Ok(value)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(RecvError)),
        })
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.waiting.receivers_left.fetch_add(1, SeqCst);
        Receiver { inner: self.inner.clone(), waiting: self.waiting.clone() }
    }
}

impl<T> Drop for Receiver<T> {
    /// The last one ends the channel: the senders learn it.
    fn drop(&mut self) {
        self.inner = None;
        if self.waiting.receivers_left.fetch_sub(1, SeqCst) == 1 {
            self.waiting.senders.wake_all();
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The values of a channel. From [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

/// The values of a channel, with its receiver: a `for` loop over that has one.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::{Listening, Parker, TaskId, Unparker};

    /// Thousands may wait at one end, and every request may take a clone of the other and drop it.
    #[test]
    fn only_the_last_clone_of_an_end_wakes_the_other() {
        let me = Parker::for_thread(None).unparker();
        let (sender, receiver) = unbounded::<()>();
        let waiting = sender.waiting.clone();
        let receives = waiting.receivers.queue_up(&me);
        drop(sender.clone());
        assert!(!receives.leave());
        let receives = waiting.receivers.queue_up(&me);
        drop(sender);
        assert!(receives.leave());
        let sends = waiting.senders.queue_up(&me);
        drop(receiver.clone());
        assert!(!sends.leave());
        let sends = waiting.senders.queue_up(&me);
        drop(receiver);
        assert!(sends.leave());
    }

    /// Or it would wait again, and nobody would wake it any more.
    #[test]
    fn who_is_woken_by_the_end_finds_it() {
        let (sender, receiver) = bounded(1);
        sender.try_send(()).unwrap();
        let (waiting, found) = (receiver.waiting.clone(), crossbeam_channel::unbounded());
        let tries = Listening(move |_| found.0.send(sender.try_send(())).unwrap());
        let _place = waiting.senders.queue_up(&Unparker::new(Arc::new(tries), TaskId(0)));
        drop(receiver);
        assert_eq!(found.1.try_recv(), Ok(Err(TrySendError::Disconnected(()))));

        let (sender, receiver) = bounded::<()>(1);
        let (waiting, found) = (receiver.waiting.clone(), crossbeam_channel::unbounded());
        let tries = Listening(move |_| found.0.send(receiver.try_recv()).unwrap());
        let _place = waiting.receivers.queue_up(&Unparker::new(Arc::new(tries), TaskId(0)));
        drop(sender);
        assert_eq!(found.1.try_recv(), Ok(Err(TryRecvError::Disconnected)));
    }
}
