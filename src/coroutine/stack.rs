//! Stacks for coroutines: [`Stacks`], the pool of one loop.
//!
//! Stack memory is only address space until it is touched. Stacks are carved out of large mappings, because a mapping
//! and a guard for each would take two of the kernel's map entries and meet `vm.max_map_count` at some 32,750 stacks.
//!
//! This is the other file with unsafe code: it asks the kernel for memory and promises the coroutine crate that
//! what it hands out is a stack.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::OnceLock;

use corosensei::stack::valgrind::ValgrindStackRegistration;
use corosensei::stack::{Stack as CorosenseiStack, StackPointer};

use crate::map_entries::MapEntries;

/// Free stacks that keep the pages they have touched. An older one gives its memory back to the system.
const WARM: usize = 64;
/// Stacks in the first mapping; each further mapping doubles that, so that few mappings carry many stacks.
const FIRST_MAPPING: usize = 64;
/// Stacks in the largest mapping.
const LARGEST_MAPPING: usize = 4096;
/// The least usable size, in bytes: unwinding a panic and formatting a log line need some pages.
const LEAST_SIZE: usize = 16 * 1024;

thread_local! {
    /// The mapping with the stack on which this thread runs a coroutine; null while it runs none. Read by the handler of
    /// `SIGSEGV`.
    static WATCHED: Cell<*const Mapping> = const { Cell::new(ptr::null()) };
}

/// The stacks of one loop. The stack that came back last goes out first, while its pages are in the cache.
pub(crate) struct Stacks {
    /// Bytes of one stack with its guard, a multiple of the page size.
    stride: usize,
    page: usize,
    guard: Guard,
    free: Vec<Stack>,
    /// The stacks in `free[..cold]` have given their memory back.
    cold: usize,
    /// The mapping that is being carved, and how many stacks of it are handed out.
    carving: Option<(Rc<Mapping>, usize)>,
}

impl Stacks {
    /// A pool of stacks of `size` usable bytes, rounded up to whole pages, at least 16 KiB. Maps nothing yet.
    pub(crate) fn new(size: usize) -> Stacks {
        name_overflows();
        let page = page_size();
        let usable = size.clamp(LEAST_SIZE, isize::MAX as usize / 2).next_multiple_of(page);
        Stacks { stride: usable + page, page, guard: Guard::Install, free: Vec::new(), cold: 0, carving: None }
    }

    /// Takes a stack out of the pool, or out of a new mapping.
    ///
    /// # Errors
    ///
    /// The kernel's, if it gives no more memory or no guard; `OutOfMemory` at the limit of map entries.
    pub(crate) fn acquire(&mut self) -> io::Result<Stack> {
        if let Some(stack) = self.free.pop() {
            self.cold = self.cold.min(self.free.len());
            return Ok(stack);
        }
        let (mapping, index) = self.slot()?;
        let bottom = mapping.start.as_ptr() as usize + index * self.stride;
        self.install_guard(&mapping, bottom)?;
        if let Some((_, carved)) = &mut self.carving {
            *carved = index + 1;
        }
        let valgrind = ValgrindStackRegistration::new(bottom as *mut u8, self.stride);
        Ok(Stack { top: bottom + self.stride, mapping, _valgrind: valgrind })
    }

    /// Puts a stack back, and gives back the memory of the one that has now lain idle for long.
    pub(crate) fn release(&mut self, stack: Stack) {
        self.free.push(stack);
        if self.free.len() - self.cold > WARM {
            self.free[self.cold].forget_contents();
            self.cold += 1;
        }
    }

    /// The mapping and index of the next stack that was never handed out.
    fn slot(&mut self) -> io::Result<(Rc<Mapping>, usize)> {
        let mut count = match &self.carving {
            Some((mapping, carved)) if (carved + 1) * self.stride <= mapping.len => {
                return Ok((mapping.clone(), *carved));
            }
            Some((mapping, _)) => (mapping.len / self.stride * 2).min(LARGEST_MAPPING),
            None => FIRST_MAPPING,
        };
        let mapping = loop {
            match Mapping::new(count, self.stride, self.page) {
                // Where there is no room for so many, there may be for fewer.
                Err(_) if count > 1 => count /= 2,
                mapping => break Rc::new(mapping?),
            }
        };
        self.carving = Some((mapping.clone(), 0));
        Ok((mapping, 0))
    }

    /// Makes the lowest page of a stack fault when touched. A stack is never handed out without.
    fn install_guard(&mut self, mapping: &Mapping, bottom: usize) -> io::Result<()> {
        if self.guard == Guard::Install {
            match install_guard(bottom, self.page) {
                // Linux before 6.13 does not know the advice, nor do some emulators.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.guard = Guard::Protect,
                done => return done,
            }
        }
        mapping.protect_guard(bottom)
    }
}

/// How a guard page is made.
#[derive(Clone, Copy, PartialEq)]
enum Guard {
    /// By `MADV_GUARD_INSTALL`, which needs no map entry of its own.
    Install,
    /// By `mprotect`, which splits the mapping: two map entries for each stack.
    Protect,
}

/// A stack that nobody else uses. It keeps its mapping alive.
pub(crate) struct Stack {
    /// The address behind the highest.
    top: usize,
    mapping: Rc<Mapping>,
    /// Tells Valgrind, if it is there, that a jump to this memory is a change of stacks.
    _valgrind: ValgrindStackRegistration,
}

impl Stack {
    pub(crate) fn mapping(&self) -> &Rc<Mapping> {
        &self.mapping
    }

    /// The lowest address, where the guard is.
    fn bottom(&self) -> usize {
        self.top - self.mapping.stride
    }

    fn forget_contents(&mut self) {
        let start = self.bottom() + self.mapping.page;
        // SAFETY: the range is this stack's, above its guard, and no coroutine runs on it: the pool owns it. The pages
        // read as zero afterwards, and a new coroutine reads nothing that it has not written.
        unsafe { libc::madvise(start as *mut _, self.top - start, libc::MADV_DONTNEED) };
    }
}

// SAFETY: from `limit` to `base` is memory that this value alone owns and `mapping` keeps mapped; its lowest page is a
// guard (`Stacks::acquire` fails otherwise), the rest is readable, writable and at least `LEAST_SIZE`; both ends are
// multiples of the page size.
unsafe impl CorosenseiStack for Stack {
    fn base(&self) -> StackPointer {
        StackPointer::new(self.top).expect("a stack does not end at address zero")
    }

    fn limit(&self) -> StackPointer {
        StackPointer::new(self.bottom()).expect("a mapping does not start at address zero")
    }
}

/// Anonymous memory full of stacks, unmapped when the last of them is dropped.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    /// Bytes of one stack, the lowest `page` of which are its guard.
    stride: usize,
    page: usize,
    /// What the guards take that `mprotect` has made.
    entries: RefCell<Vec<MapEntries>>,
}

/// Address space is not memory: most of a stack is never touched. (Only Linux counts it unless it is told.)
#[cfg(any(target_os = "linux", target_os = "android"))]
const NORESERVE: libc::c_int = libc::MAP_NORESERVE;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const NORESERVE: libc::c_int = 0;

impl Mapping {
    fn new(stacks: usize, stride: usize, page: usize) -> io::Result<Mapping> {
        let len = stacks.checked_mul(stride).ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start: NonNull<u8> = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        // One touched page must cost one page: a huge page would back eight whole stacks.
        #[cfg(target_os = "linux")]
        // SAFETY: advice on the mapping just made; it changes no contents, and its failure changes nothing.
        unsafe {
            libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE)
        };
        Ok(Mapping { start, len, stride, page, entries: RefCell::default() })
    }

    /// Makes the page a guard by `mprotect`, unless there are too many already.
    fn protect_guard(&self, bottom: usize) -> io::Result<()> {
        let entries = MapEntries::take(MapEntries::OF_SPLIT)?;
        // SAFETY: as in `install_guard`.
        check(unsafe { libc::mprotect(bottom as *mut _, self.page, libc::PROT_NONE) })?;
        self.entries.borrow_mut().push(entries);
        Ok(())
    }

    /// Runs `call`, which runs a coroutine on a stack of this mapping: a fault at a guard is its overflow.
    pub(crate) fn watching<T>(&self, call: impl FnOnce() -> T) -> T {
        /// Also if the call panics: the mapping may be gone after it. What was watched before is the mapping of a coroutine that
        /// runs a loop of its own.
        struct Reset(*const Mapping);
        impl Drop for Reset {
            fn drop(&mut self) {
                WATCHED.set(self.0);
            }
        }
        let _reset = Reset(WATCHED.replace(self));
        call()
    }

    /// Whether the address is in a guard. A coroutine has no business in the guards of the other stacks either.
    fn is_guard(&self, address: usize) -> bool {
        let offset = address.wrapping_sub(self.start.as_ptr() as usize);
        offset < self.len && offset % self.stride < self.page
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and every stack in it holds a reference to this value, so none is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(target_os = "linux")]
fn install_guard(bottom: usize, page: usize) -> io::Result<()> {
    /// From Linux's `mman-common.h`; since 6.13.
    const MADV_GUARD_INSTALL: libc::c_int = 102;
    // SAFETY: the page belongs to a stack that is not handed out yet, so nothing of value is in it.
    let advise = |advice| check(unsafe { libc::madvise(bottom as *mut _, page, advice) });
    advise(MADV_GUARD_INSTALL)?;
    // An emulator may say yes to all advice that it does not know. It is a guard if filling the page would fault.
    match advise(libc::MADV_POPULATE_READ) {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

#[cfg(not(target_os = "linux"))]
fn install_guard(_: usize, _: usize) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Makes an overflow say what it is before the process ends. (The standard library does so for the stacks of its threads.)
///
/// Done once in a process, when its first event loop is activated. A fault anywhere else is passed on to whatever handled it
/// before. The handler runs on the alternative stack that std gives to each of its threads; on others
/// an overflow ends the process without the line.
fn name_overflows() {
    static PREVIOUS: OnceLock<[libc::sigaction; 2]> = OnceLock::new();
    const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

    extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the system passes the description of the fault, in which the address is set for these signals.
        let address = unsafe { (*info).si_addr() } as usize;
        // SAFETY: `Mapping::watching` borrows the mapping for as long as it can be seen here; nothing
        // writes to what is read of it.
        let mapping = unsafe { WATCHED.get().as_ref() };
        if let Some(mapping) = mapping.filter(|mapping| mapping.is_guard(address)) {
            say_overflow(mapping.stride - mapping.page);
            // SAFETY: it may be called from a signal handler, and does not return.
            unsafe { libc::abort() }
        }
        let previous = PREVIOUS.get().map(|all| all[usize::from(signal == libc::SIGBUS)]);
        match previous.filter(|previous| ![libc::SIG_DFL, libc::SIG_IGN].contains(&previous.sa_sigaction)) {
            Some(previous) if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                // SAFETY: the system would have called this function, of the type that the flag names, in the same way.
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    unsafe { std::mem::transmute(previous.sa_sigaction) };
                handler(signal, info, context);
            }
            Some(previous) => {
                // SAFETY: as above.
                let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(previous.sa_sigaction) };
                handler(signal);
            }
            // SAFETY: with the default action back, the fault that this returns to ends the process.
            None => unsafe {
                libc::signal(signal, libc::SIG_DFL);
            },
        }
    }

    PREVIOUS.get_or_init(|| {
        // SAFETY: an all-zero `sigaction` is a valid one; it is filled in, or filled by the system, before it is used. The
        // handler only does what a signal handler may: it reads a thread-local without destructor, and writes, and aborts.
        SIGNALS.map(|signal| unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            let mut previous = action;
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &action, &mut previous);
            previous
        })
    });
}

/// Writes one line to standard error, without allocating.
fn say_overflow(size: usize) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = size;
    while start == digits.len() || rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let pieces: [&[u8]; 3] = [
        b"socketserver: a handler has overflowed its coroutine's stack of ",
        &digits[start..],
        b" bytes; EventLoop::stack_size sets a larger one\n",
    ];
    for piece in pieces {
        // SAFETY: the piece is valid for its length.
        unsafe { libc::write(libc::STDERR_FILENO, piece.as_ptr().cast(), piece.len()) };
    }
}

fn page_size() -> usize {
    // SAFETY: sysconf reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_apart_and_come_back_newest_first() {
        let mut stacks = Stacks::new(1);
        let first = stacks.acquire().unwrap();
        let second = stacks.acquire().unwrap();
        assert!(first.top <= second.bottom() || second.top <= first.bottom());
        assert!(first.top - first.bottom() >= LEAST_SIZE);
        let (older, newer) = (first.bottom(), second.bottom());
        stacks.release(first);
        stacks.release(second);
        assert_eq!(stacks.acquire().unwrap().bottom(), newer);
        assert_eq!(stacks.acquire().unwrap().bottom(), older);
    }

    /// Where there is no room for a mapping of as many as usual, as with 32 bits.
    #[test]
    fn few_stacks_may_be_very_large() {
        let size = if cfg!(target_pointer_width = "64") { 1 << 43 } else { 1 << 29 };
        let mut stacks = Stacks::new(size);
        let stack = stacks.acquire().unwrap();
        assert!(stack.top - stack.bottom() > size);
        // Whether there is room for one depends on the system.
        let _ = Stacks::new(usize::MAX).acquire();
    }

    #[test]
    fn every_stack_is_writable_above_its_guard() {
        for guard in [Guard::Install, Guard::Protect] {
            let mut stacks = Stacks::new(64 * 1024);
            stacks.guard = guard;
            let taken: Vec<Stack> = (0..3 * FIRST_MAPPING).map(|_| stacks.acquire().unwrap()).collect();
            for stack in &taken {
                for address in [stack.bottom() + stacks.page, stack.top - 1] {
                    // SAFETY: both addresses are inside the stack, which nobody else uses.
                    unsafe { (address as *mut u8).write(1) };
                }
            }
        }
    }

    /// The limit is on those that are there: a server may be activated again and again, and what the kernel has refused it may give
    /// later.
    #[test]
    fn guards_count_until_their_pool_is_gone() {
        // More than all the other tests have at a time.
        const MANY: usize = 4096;
        let mut stacks = Stacks::new(1);
        stacks.guard = Guard::Protect;
        let taken: Vec<Stack> = (0..MANY).map(|_| stacks.acquire().unwrap()).collect();
        assert!(MapEntries::taken() >= MANY * MapEntries::OF_SPLIT);
        for _ in 0..MANY {
            // Not the address of a page.
            let error = taken[0].mapping.protect_guard(1).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
        drop((taken, stacks));
        let left = MapEntries::taken();
        assert!(left < MANY * MapEntries::OF_SPLIT, "{left} map entries are left");
    }

    #[test]
    fn only_the_warm_stacks_keep_their_memory() {
        let mut stacks = Stacks::new(64 * 1024);
        let taken: Vec<Stack> = (0..WARM + 10).map(|_| stacks.acquire().unwrap()).collect();
        for stack in &taken {
            // SAFETY: the byte is inside the stack, which nobody else uses.
            unsafe { ((stack.top - 1) as *mut u8).write(7) };
        }
        taken.into_iter().for_each(|stack| stacks.release(stack));
        // SAFETY: as above; the stacks are back in the pool, but still mapped.
        let left = stacks.free.iter().filter(|stack| unsafe { ((stack.top - 1) as *const u8).read() } == 7).count();
        assert_eq!(left, WARM);
    }
}
