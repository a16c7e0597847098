//! What the microbenchmarks measure, and nobody else may use: it changes without notice.
#![allow(missing_docs, missing_debug_implementations)]

use std::io;
use std::time::Instant;

use super::timers::Timers;
use crate::coroutine::{Coroutine, Pause, Stack, Stacks};
use crate::readiness::Readiness;

/// A coroutine that does nothing but suspend itself.
pub struct Switching(Coroutine);

impl Switching {
    pub fn start() -> io::Result<Switching> {
        let stack = Stacks::new(STACK_SIZE).acquire()?;
        Ok(Switching(Coroutine::new(
            stack,
            |suspender| while suspender.suspend(Pause::Yield, [std::ptr::null(); 3]).is_ok() {},
        )))
    }

    /// Goes there and comes back.
    pub fn switch(&mut self) {
        self.0.resume(Readiness::NONE);
    }
}

/// A pool of stacks.
pub struct StackPool(Stacks);

impl StackPool {
    #[allow(clippy::new_without_default)]
    pub fn new() -> StackPool {
        StackPool(Stacks::new(STACK_SIZE))
    }

    pub fn acquire(&mut self) -> io::Result<PooledStack> {
        self.0.acquire().map(PooledStack)
    }

    pub fn release(&mut self, stack: PooledStack) {
        self.0.release(stack.0);
    }
}

pub struct PooledStack(Stack);

/// The deadlines of a loop.
#[derive(Default)]
pub struct Deadlines(Timers);

impl Deadlines {
    pub fn set(&mut self, slot: usize, at: Instant) {
        self.0.set(slot, Some(at));
    }

    pub fn cancel(&mut self, slot: usize) {
        self.0.cancel(slot);
    }
}

const STACK_SIZE: usize = 256 * 1024;
