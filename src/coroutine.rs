//! [`Coroutine`]: a function that can be suspended in the middle and resumed later, on a stack of its own.
//!
//! This file and that of its [stacks](stack) are the two that name the coroutine crate, and the two with unsafe code.
//!
//! A started coroutine lives and dies on its thread: `Coroutine` and `Suspender` are not `Send`.
#![allow(unsafe_code)]

mod stack;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::thread::{self, ThreadId};
use std::time::Instant;

use corosensei::{CoroutineResult, Yielder};

use crate::readiness::Readiness;
use stack::Mapping;

pub(crate) use stack::{Stack, Stacks};

/// Why a coroutine was suspended: what it asks of the loop that runs it.
pub(crate) enum Pause {
    /// Resume it when its socket is ready in one of these ways, at the deadline, or when it is unparked.
    Park { interest: Readiness, until: Option<Instant> },
    /// Resume it when the others had their turn.
    Yield,
}

/// A suspended function. Resuming it tells it how its socket became ready since the last time.
pub(crate) struct Coroutine {
    /// `None` once its stack has been taken.
    inner: Option<corosensei::Coroutine<Readiness, Suspended, (), Stack>>,
    /// What its stack is in.
    mapping: Rc<Mapping>,
    needs: Needs,
}

/// What a coroutine tells the loop when it is suspended.
type Suspended = (Pause, Needs);

/// Where the memory begins that a coroutine needs as soon as it is resumed: how far down its stack it was, three places of which whoever was
/// suspended knows, the last of them on the stack, and the stack's upper end. Only for hints, so these are mere addresses.
type Needs = [usize; 5];

impl Coroutine {
    /// Puts `body` on a stack. It runs up to its first pause at the first [`resume`](Coroutine::resume).
    ///
    /// The body must catch its own panics, and must not let its `Suspender` out.
    pub(crate) fn new(stack: Stack, body: impl FnOnce(Suspender) + 'static) -> Coroutine {
        let mapping = stack.mapping().clone();
        let inner = corosensei::Coroutine::with_stack(stack, move |yielder, _first: Readiness| {
            body(Suspender { yielder: NonNull::from(yielder) })
        });
        Coroutine { inner: Some(inner), mapping, needs: Needs::default() }
    }

    /// Runs the body up to its next pause; `None` when it has returned. May not be called after that.
    #[inline]
    pub(crate) fn resume(&mut self, seen: Readiness) -> Option<Pause> {
        let inner = self.inner.as_mut()?;
        match self.mapping.watching(|| inner.resume(seen)) {
            CoroutineResult::Yield((pause, needs)) => {
                self.needs = needs;
                Some(pause)
            }
            CoroutineResult::Return(()) => None,
        }
    }

    /// Asks the processor to find the pages of what the next [`resume`](Coroutine::resume) begins with. Among thousands of
    /// coroutines they are in no TLB, and the processor goes on only when it has found them; but it looks for those of several at the same
    /// time.
    pub(crate) fn find_pages(&self) {
        // The other two are on the stack as well.
        self.needs[..3].iter().for_each(|start| fetch(*start));
    }

    /// Asks the processor to fetch what the next [`resume`](Coroutine::resume) begins with. Among thousands of coroutines it is in no cache;
    /// asked for while another one runs, it is there in time.
    pub(crate) fn prefetch(&self) {
        /// Cache lines of 64 bytes, counted where an echo waits: up to the frame of its handler; of each of the other places; and the link
        /// to the loop's stack.
        const LINES: [usize; 5] = [8, 3, 3, 3, 1];
        for (start, lines) in self.needs.iter().zip(LINES) {
            (0..lines).for_each(|line| fetch(start.wrapping_add(64 * line)));
        }
    }

    /// The stack of a coroutine that has returned.
    pub(crate) fn into_stack(mut self) -> Option<Stack> {
        self.inner.take().filter(|inner| inner.done()).map(|inner| inner.into_stack())
    }
}

impl Drop for Coroutine {
    /// The last resort for a coroutine that is suspended when its loop is gone: its stack is unwound, so that its destructors
    /// run. Where that cannot be, because there is no unwinding or this thread is unwinding already, it is leaked.
    fn drop(&mut self) {
        if !self.inner.as_ref().is_some_and(|inner| inner.started() && !inner.done()) {
            return;
        }
        if cfg!(panic = "abort") || thread::panicking() {
            std::mem::forget(self.inner.take());
            return;
        }
        // One that catches this and waits again is told again, up to a limit.
        let end = catch_unwind(AssertUnwindSafe(|| (0..UNWINDS).any(|_| self.resume(Readiness::UNWIND).is_none())));
        match end {
            Ok(true) => {}
            Ok(false) => {
                log::error!("a coroutine goes on although its loop is gone, and is leaked: it catches what unwinds it");
                std::mem::forget(self.inner.take());
            }
            Err(payload) if payload.is::<Unwound>() => {}
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// How often a coroutine that catches its unwinding, and goes on, is unwound again.
const UNWINDS: usize = 1000;

/// The payload that unwinds the stack of a dropped coroutine. It is no panic, though code that catches it may take it for one.
pub(crate) struct Unwound;

/// The body's own end of a [`Coroutine`]: with this it suspends itself.
pub(crate) struct Suspender {
    yielder: NonNull<Yielder<Readiness, Suspended>>,
}

impl Suspender {
    /// Suspends the coroutine until its loop resumes it. Then it `uses` what is at these places.
    ///
    /// # Errors
    ///
    /// While the thread is panicking: a destructor does I/O. Suspending would leave the panic half unwound, and the next
    /// coroutine on this thread would find itself panicking.
    #[inline]
    pub(crate) fn suspend(&self, pause: Pause, uses: [*const (); 3]) -> io::Result<Readiness> {
        if thread::panicking() {
            return Err(io::Error::other("I/O would wait, but its coroutine is panicking"));
        }
        let here = 0_u8;
        let [first, second, third] = uses.map(|place| place as usize);
        // The yielder is the link to the loop's stack.
        let needs = [&raw const here as usize, first, second, third, self.yielder.as_ptr() as usize];
        // SAFETY: the yielder lives as long as the body of the coroutine runs, and a `Suspender` is made for that body
        // alone, which keeps it in the context of what it runs (`park::Context`). That is the current one of this thread only
        // while the body runs, and handlers cannot name it. So this code runs inside the body, on the coroutine's own stack,
        // which is what `Yielder::suspend` asks for.
        let seen = unsafe { self.yielder.as_ref() }.suspend((pause, needs));
        if seen.has(Readiness::UNWIND) {
            // Without a word from the panic hook.
            resume_unwind(Box::new(Unwound));
        }
        Ok(seen)
    }
}

/// A value that is used and dropped on the thread that made it, in a struct that may be sent to another one.
pub(crate) struct Pinned<T> {
    value: ManuallyDrop<T>,
    thread: ThreadId,
}

// SAFETY: the value is reached only through `get` and `get_mut`, which refuse on any thread but its own, and it is dropped only
// there: on another thread it is leaked.
unsafe impl<T> Send for Pinned<T> {}

impl<T> Pinned<T> {
    pub(crate) fn new(value: T) -> Pinned<T> {
        Pinned { value: ManuallyDrop::new(value), thread: this_thread() }
    }

    /// The value, on its own thread.
    pub(crate) fn get(&self) -> Option<&T> {
        self.is_here().then(|| &*self.value)
    }

    /// The value, on its own thread.
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.is_here().then(|| &mut *self.value)
    }

    fn is_here(&self) -> bool {
        self.thread == this_thread()
    }
}

/// The calling thread. Asking std takes and drops a reference to the whole description of the thread each time.
pub(crate) fn this_thread() -> ThreadId {
    thread_local! {
        static ID: ThreadId = thread::current().id();
    }
    ID.with(|id| *id)
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        if self.is_here() {
            // SAFETY: the value is not used after this, since `self` is being dropped, and this is its thread.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        }
    }
}

/// Asks the processor to fetch what is at an address.
#[inline]
fn fetch(address: usize) {
    // SAFETY: a hint, which never faults, whatever is at the address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(address as *const i8)
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
