//! [`Answers`]: the replies to datagrams that a loop is about to send.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::job::Answer;

/// Replies that are sent together, at the most.
const MOST: usize = 64;

/// How long a reply waits for others to be sent with before another handler runs, from when its own handler began: a peer hardly
/// notices that, and handlers that take as long gain nothing from fewer calls.
const WAIT: Duration = Duration::from_micros(100);

/// Replies whose handlers have ended. They are sent together: with one call for many, the kernel's code and this crate's take turns less
/// often, which is more than the calls themselves.
#[derive(Default)]
pub(super) struct Answers {
    /// In the order in which their handlers ended.
    list: RefCell<Vec<Answer>>,
}

impl Answers {
    pub(super) fn push(&self, answer: Answer) {
        self.list.borrow_mut().push(answer);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// Whether they are to be sent before another handler runs.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        let list = self.list.borrow();
        list.len() >= MOST || list.first().is_some_and(|first| now.saturating_duration_since(first.began()) >= WAIT)
    }

    /// Sends them, and gives back those that cannot be sent now.
    pub(super) fn send(&self) -> Vec<Answer> {
        let mut list = self.list.borrow_mut();
        let mut unsent = Vec::new();
        while !list.is_empty() {
            let sent = Answer::send_first(&list);
            list.drain(..sent);
            if sent == 0 {
                unsent.push(list.remove(0));
            }
        }
        unsent
    }
}
