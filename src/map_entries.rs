//! [`MapEntries`]: what the stacks of threads and coroutines take of the mappings that Linux allows a process.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// So many of the kernel's map entries. Dropping this gives them back.
pub(crate) struct MapEntries(usize);

/// Of all that there are in this process.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// How many may be taken, when that was last looked up.
static MOST: AtomicUsize = AtomicUsize::new(0);

impl MapEntries {
    /// What a coroutine's stack takes whose guard `mprotect` makes: one for each side of where the mapping is split.
    pub(crate) const OF_SPLIT: usize = 2;

    /// What a thread takes: its stack and its alternative stack, with a guard each. Std ends the process if the kernel has none left
    /// for the latter, so this has to be asked before.
    pub(crate) const OF_THREAD: usize = 4;

    /// Takes so many.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` if that would leave too few for everything else in the process.
    pub(crate) fn take(count: usize) -> io::Result<MapEntries> {
        let within = |most: usize| {
            let add = |taken: usize| taken.checked_add(count).filter(|all| *all <= most);
            TAKEN.fetch_update(Relaxed, Relaxed, add).is_ok()
        };
        if !within(MOST.load(Relaxed)) {
            // It may have been raised.
            MOST.store(most(), Relaxed);
            if !within(MOST.load(Relaxed)) {
                let message = "no more stacks: each takes some map entries, and vm.max_map_count is nearly reached";
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
            }
        }
        Ok(MapEntries(count))
    }

    #[cfg(test)]
    pub(crate) fn taken() -> usize {
        TAKEN.load(Relaxed)
    }
}

impl Drop for MapEntries {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.0, Relaxed);
    }
}

/// All map entries, less a reserve for everything else in the process.
fn most() -> usize {
    /// Linux's default of `vm.max_map_count`.
    const DEFAULT: usize = 65_530;
    const RESERVE: usize = 8_192;
    let entries = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let entries = entries.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT);
    entries.saturating_sub(RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_left_for_everything_else() {
        for too_many in [most() + 1, usize::MAX] {
            assert_eq!(MapEntries::take(too_many).err().map(|error| error.kind()), Some(io::ErrorKind::OutOfMemory));
        }
        assert!(MapEntries::take(MapEntries::OF_THREAD).is_ok());
    }
}
