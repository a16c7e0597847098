//! [`Datagrams`]: those that a loop has received, and not served yet.

use std::collections::VecDeque;

use crate::job::Job;

/// After a turn in which as many came, those of the next are received before the first is served. Where fewer come, their peers would wait
/// for one another, and the server for all of them.
const MANY: usize = 16;

/// Datagrams that have come together, where many do: they start when all have been received, so that the kernel's code and the handlers'
/// take turns less often. (An echo of 64 bytes then costs up to 3 % less.)
#[derive(Default)]
pub(super) struct Datagrams {
    waiting: VecDeque<Job>,
    /// How many have come in this turn.
    came: usize,
    /// Many came in the turn before.
    many_came: bool,
}

impl Datagrams {
    pub(super) fn begin_turn(&mut self) {
        self.many_came = self.came >= MANY;
        self.came = 0;
    }

    /// Takes one that has come, and gives it back if it is to be served at once.
    pub(super) fn add(&mut self, job: Job) -> Option<Job> {
        self.came += 1;
        if self.many_came {
            self.waiting.push_back(job);
            return None;
        }
        Some(job)
    }

    /// The first of those that wait.
    pub(super) fn next(&mut self) -> Option<Job> {
        self.waiting.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
