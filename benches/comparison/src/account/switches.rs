//! How often a server's threads went to wait, or had to.

use std::fs;
use std::ops::{Add, Sub};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

use super::memory::number_of;

/// Context switches, counted since some beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Switches {
    /// The thread had to wait.
    pub voluntary: u64,
    /// Its time was over.
    pub involuntary: u64,
}

impl Switches {
    /// Of the threads that a process has. The kernel offers no sum over those that have ended while the process runs.
    pub fn of_threads(pid: Pid) -> Result<Self> {
        let path = format!("/proc/{pid}/task");
        let mut sum = Self::default();
        for thread in fs::read_dir(&path).with_context(|| format!("reading {path}"))? {
            let status = thread.with_context(|| format!("reading {path}"))?.path().join("status");
            // A thread may end between the list and its turn.
            let Ok(status) = fs::read_to_string(status) else { continue };
            sum = sum + Self::in_status(&status).context("the kernel counts no context switches")?;
        }
        Ok(sum)
    }

    /// Of the children of this process that have ended and were waited for, with all threads that they ever had.
    pub fn of_ended_children() -> Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("asking for the children's account")?;
        Ok(Self {
            voluntary: u64::try_from(usage.voluntary_context_switches())?,
            involuntary: u64::try_from(usage.involuntary_context_switches())?,
        })
    }

    fn in_status(status: &str) -> Option<Self> {
        Some(Self {
            voluntary: number_of(status, "voluntary_ctxt_switches:")?,
            involuntary: number_of(status, "nonvoluntary_ctxt_switches:")?,
        })
    }
}

impl Add for Switches {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { voluntary: self.voluntary + other.voluntary, involuntary: self.involuntary + other.involuntary }
    }
}

/// What is between two counts; nothing, if threads have ended between them and taken more with them.
impl Sub for Switches {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            involuntary: self.involuntary.saturating_sub(before.involuntary),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Switches;

    #[test]
    fn both_numbers_are_found() {
        let status = "Threads:\t1\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(Switches::in_status(status), Some(Switches { voluntary: 12, involuntary: 3 }));
    }
}
