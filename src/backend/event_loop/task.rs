//! [`Task`]: what a loop runs on a coroutine.

use crate::coroutine::Coroutine;
use crate::park::TaskId;
use crate::readiness::Readiness;

/// A request on a coroutine, or what it has spawned.
pub(super) struct Task {
    pub(super) coroutine: Coroutine,
    pub(super) kind: Kind,
    /// How many were started before it: with its slot, that makes its id.
    pub(super) number: u32,
    /// In which ways its socket being ready resumes it.
    pub(super) interest: Readiness,
    /// How its socket has become ready since it was last resumed.
    pub(super) seen: Readiness,
    /// It is in `ready`.
    pub(super) queued: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Request,
    Sibling,
}

impl Task {
    /// Has it resumed in its turn.
    #[inline]
    pub(super) fn enqueue(&mut self, slot: usize, ready: &mut Vec<usize>) {
        if !self.queued {
            self.queued = true;
            ready.push(slot);
        }
    }

    #[inline]
    pub(super) fn id(&self, slot: usize) -> TaskId {
        id(slot, self.number)
    }
}

/// A task's name: its slot, and a number that tells it from others that have had the slot.
#[inline]
pub(super) fn id(slot: usize, number: u32) -> TaskId {
    TaskId(u64::from(number) << 32 | slot as u64)
}
