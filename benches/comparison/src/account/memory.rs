//! How much memory a server holds, from the kernel's account of its process.

use std::fs;

use anyhow::{Context, Result};
use nix::unistd::Pid;

/// A server's memory at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes of the process's pages that are in memory.
    pub resident: u64,
    /// Bytes of the page tables that describe them: kernel memory, but caused by how the process spreads its pages.
    pub page_tables: u64,
    /// How many there are.
    pub threads: u64,
}

impl Memory {
    /// Reads the account.
    ///
    /// `VmRSS` in `/proc/PID/status` is summed from counters that each thread or core may hold back, which with thousands of
    /// threads is a real part of it; `smaps_rollup` counts the pages themselves. It stands in where the kernel has no rollup.
    pub fn of(pid: Pid) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let field = |name| number_of(&status, name).with_context(|| format!("{path} has no {name}"));
        let counted = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
        let resident = match counted.and_then(|rollup| number_of(&rollup, "Rss:")) {
            Some(kib) => kib,
            None => field("VmRSS:")?,
        };
        Ok(Self { resident: resident * 1024, page_tables: field("VmPTE:")? * 1024, threads: field("Threads:")? })
    }
}

/// The number of the line that starts with `name`.
pub(super) fn number_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number_of;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "VmHWM:\t    9 kB\nVmRSS:\t  5316 kB\nThreads:\t3\n";
        assert_eq!(number_of(status, "VmRSS:"), Some(5316));
        assert_eq!(number_of(status, "Threads:"), Some(3));
        assert_eq!(number_of(status, "VmPTE:"), None);
    }
}
