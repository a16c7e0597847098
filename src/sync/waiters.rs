//! [`Waiters`]: who waits for a lock or a channel.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::park::{self, Context, Unparker};

/// Those who wait, in the order in which they came.
#[derive(Default)]
pub(super) struct Waiters {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// By their tickets, which rise.
    waiting: VecDeque<(Ticket, Unparker)>,
    last: u64,
}

/// The place of one who waits, for one wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

impl Waiters {
    /// Tries until there is a result, and waits between two tries, at the most until the deadline.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the deadline; `ConnectionAborted` if the request is cut off and `heeds_cut`; another if this is called in a
    /// destructor of a panicking coroutine, which cannot wait.
    pub(super) fn wait<R>(
        &self,
        until: Option<Instant>,
        heeds_cut: bool,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> io::Result<R> {
        let context = park::current();
        let me = context.parker.unparker();
        loop {
            if let Some(result) = attempt() {
                return Ok(result);
            }
            // What happens from here on is told. What has happened since that try is seen by one more.
            let ticket = self.add(&me);
            let waited = match attempt() {
                Some(result) => Ok(Some(result)),
                None => self.park(&context, until, heeds_cut).map(|()| None),
            };
            let woken = !self.remove(ticket);
            match waited {
                Ok(None) => continue,
                // A wake that came all the same was meant for somebody who goes on to try.
                _ if woken => self.wake_one(),
                _ => {}
            }
            if let Some(result) = waited.transpose() {
                return result;
            }
        }
    }

    fn park(&self, context: &Context, until: Option<Instant>, heeds_cut: bool) -> io::Result<()> {
        if heeds_cut {
            context.check()?;
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the timeout has passed"));
        }
        context.park(until)
    }

    /// Adds somebody who is about to wait.
    pub(super) fn add(&self, waiter: &Unparker) -> Ticket {
        let mut queue = self.lock();
        queue.last += 1;
        let ticket = Ticket(queue.last);
        queue.waiting.push_back((ticket, waiter.clone()));
        ticket
    }

    /// Takes somebody out who waits no longer. `false` if it is not there: it has been woken.
    pub(super) fn remove(&self, ticket: Ticket) -> bool {
        let mut queue = self.lock();
        let found = queue.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket);
        found.is_ok_and(|index| queue.waiting.remove(index).is_some())
    }

    /// Wakes the one who has waited longest.
    pub(super) fn wake_one(&self) {
        let first = self.lock().waiting.pop_front();
        if let Some((_, first)) = first {
            first.unpark();
        }
    }

    pub(super) fn wake_all(&self) {
        let all = std::mem::take(&mut self.lock().waiting);
        all.iter().for_each(|(_, waiter)| waiter.unpark());
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
