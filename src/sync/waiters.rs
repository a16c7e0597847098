//! [`Waiters`]: who waits for a lock or a channel.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Mutex;
use std::time::Instant;

use crate::deadline::in_time;
use crate::live::Activity;
use crate::lock::lock;
use crate::park::{self, Unparker};

/// Those who wait, in the order in which they came.
pub(super) struct Waiters {
    queue: Mutex<Queue>,
}

struct Queue {
    /// By their tickets, which rise.
    waiting: VecDeque<(Ticket, Unparker)>,
    last: u64,
}

/// The number of a place in the queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

impl Waiters {
    pub(super) const fn new() -> Waiters {
        Waiters { queue: Mutex::new(Queue { waiting: VecDeque::new(), last: 0 }) }
    }

    /// Tries until there is a result, and waits between two tries, at the most until the deadline.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the deadline; `ConnectionAborted` if the request is cut off; another if this is called in a
    /// destructor of a panicking coroutine, which cannot wait.
    pub(super) fn wait<R>(&self, until: Option<Instant>, mut attempt: impl FnMut() -> Option<R>) -> io::Result<R> {
        let context = park::current();
        let me = context.parker.unparker();
        // Before the first try: a caller that is unwound here takes nothing with it.
        context.spend(0);
        loop {
            if let Some(result) = attempt() {
                return Ok(result);
            }
            // What happens from here on is told. What has happened since that try is seen by one more.
            let place = self.queue_up(&me);
            if let Some(result) = attempt() {
                return Ok(result);
            }
            context.check()?;
            in_time(until)?;
            context.park(Activity::Waiting, until)?;
            // It goes on to try: if it was woken, that was meant for it.
            place.leave();
        }
    }

    /// As [`wait`](Waiters::wait), without an end, and in the order in which they came: nobody passes one who waits, and the first stays
    /// first until it has its result. Goes with [`wake_first`](Waiters::wake_first).
    pub(super) fn wait_in_turn<R>(&self, mut attempt: impl FnMut() -> Option<R>) -> io::Result<R> {
        let free = lock(&self.queue).waiting.is_empty();
        if let Some(result) = free.then(&mut attempt).flatten() {
            return Ok(result);
        }
        let context = park::current();
        let turn = Turn { waiters: self, ticket: self.add(&context.parker.unparker()) };
        loop {
            if let Some(result) = turn.has_come().then(&mut attempt).flatten() {
                turn.leave();
                return Ok(result);
            }
            context.park(Activity::Waiting, None)?;
        }
    }

    /// Adds somebody who is about to wait.
    pub(super) fn queue_up(&self, waiter: &Unparker) -> Place<'_> {
        Place { waiters: self, ticket: self.add(waiter) }
    }

    fn add(&self, waiter: &Unparker) -> Ticket {
        let mut queue = lock(&self.queue);
        queue.last += 1;
        let ticket = Ticket(queue.last);
        queue.waiting.push_back((ticket, waiter.clone()));
        ticket
    }

    /// Takes somebody out who waits no longer. `false` if it is not there: it has been woken.
    fn remove(&self, ticket: Ticket) -> bool {
        let mut queue = lock(&self.queue);
        let found = queue.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket);
        found.is_ok_and(|index| queue.waiting.remove(index).is_some())
    }

    /// Wakes the one who has waited longest.
    pub(super) fn wake_one(&self) {
        let first = lock(&self.queue).waiting.pop_front();
        if let Some((_, first)) = first {
            first.unpark();
        }
    }

    /// Wakes the one whose turn it is.
    pub(super) fn wake_first(&self) {
        if let Some((_, first)) = lock(&self.queue).waiting.front() {
            first.unpark();
        }
    }

    pub(super) fn wake_all(&self) {
        let all = std::mem::take(&mut lock(&self.queue).waiting);
        all.iter().for_each(|(_, waiter)| waiter.unpark());
    }
}

/// The place of one who waits, for one wait. It is dropped by one who gives up, or who is unwound in the middle of its wait because its
/// loop is gone: if that one has been woken already, the next one is woken instead.
#[must_use = "who has no place is not woken"]
pub(super) struct Place<'a> {
    waiters: &'a Waiters,
    ticket: Ticket,
}

impl Place<'_> {
    /// Ends the wait of one who goes on; `true` if it has been woken.
    pub(super) fn leave(self) -> bool {
        !ManuallyDrop::new(self).remove()
    }

    fn remove(&self) -> bool {
        self.waiters.remove(self.ticket)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.remove() {
            self.waiters.wake_one();
        }
    }
}

/// The place of one who waits in turn. It is dropped by one who is unwound, and who may have been woken: so the next one is.
struct Turn<'a> {
    waiters: &'a Waiters,
    ticket: Ticket,
}

impl Turn<'_> {
    /// Leaves it to the next one, who will be woken.
    fn leave(self) {
        ManuallyDrop::new(self).remove();
    }

    fn remove(&self) {
        self.waiters.remove(self.ticket);
    }

    fn has_come(&self) -> bool {
        lock(&self.waiters.queue).waiting.front().is_some_and(|(first, _)| *first == self.ticket)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.remove();
        self.waiters.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::Parker;

    #[test]
    fn who_has_waited_longest_is_woken() {
        let (waiters, me) = (Waiters::new(), Parker::for_thread(None).unparker());
        let [first, second] = [(); 2].map(|()| waiters.queue_up(&me));
        waiters.wake_one();
        assert!(first.leave());
        assert!(!second.leave());
    }
}
