//! [`Pulse`]: what a loop does now.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::park::TaskId;

/// What a loop does now, for the watchdog to see. Written by the loop, which costs it some plain stores per resume.
#[derive(Default)]
pub(super) struct Pulse {
    /// The loop is not waiting for events: it may resume a task at any moment.
    pub(super) awake: AtomicBool,
    /// Odd while a task runs, even while none does; never the same again.
    pub(super) beat: AtomicU64,
    /// The task that was resumed last.
    pub(super) task: AtomicU64,
    /// A task has run for too long, and still does. Written by the watchdog.
    pub(super) held: AtomicBool,
}

impl Pulse {
    /// The loop is about to wait for events.
    pub(super) fn rest(&self) {
        self.awake.store(false, Relaxed);
    }

    /// A task is resumed.
    pub(super) fn begin(&self, task: TaskId) {
        self.task.store(task.0, Relaxed);
        self.beat.store(self.beat.load(Relaxed) + 1, Relaxed);
    }

    /// It is suspended again.
    pub(super) fn end(&self) {
        self.beat.store(self.beat.load(Relaxed) + 1, Relaxed);
    }

    /// Whether the loop is held up, as far as the watchdog has seen.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }
}
