//! How much CPU time a server has used, from the kernel's account of its process.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The account of one server.
///
/// The kernel offers three, and this takes the process's CPU clock (`clock_getcpuclockid`):
///
/// * `/proc/PID/task/*/schedstat` counts nanoseconds, but forgets every thread that has ended (all of them, for a server with
///   a thread per connection under churn), and a thread that is running is accounted only up to its last tick.
/// * `utime + stime` in `/proc/PID/stat` remembers ended threads, but each is cut to hundredths of a second, which is one
///   hundredth of a window of two seconds.
/// * The CPU clock is the same sum that `stat` cuts: nanoseconds of every thread, ended ones included, brought up to date
///   at the time of asking.
///
/// `stat` is read beside it all the same, as a check: the two must agree within what was cut.
pub struct CpuAccount {
    pid: Pid,
    clock: ClockId,
    tick: Duration,
}

/// What a server has used since it started.
#[derive(Clone, Copy, Debug)]
pub struct CpuTime {
    clock: Duration,
    stat: Duration,
}

impl CpuTime {
    /// The time used since an earlier reading.
    pub fn since(self, before: Self) -> Duration {
        self.clock.saturating_sub(before.clock)
    }
}

/// A server that uses less than this between two looks, [`LOOK_AGAIN`] apart, has nothing left to do. Not zero, because a
/// runtime's timer thread may wake now and then.
const RESTING: Duration = Duration::from_micros(50);

const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A server that never rests is read in the end all the same; what it does then is part of its cost.
const MOST_LOOKS: usize = 40;

impl CpuAccount {
    pub fn of(pid: Pid) -> Result<Self> {
        let clock = clock_getcpuclockid(pid).context("asking for the server's CPU clock")?;
        let ticks = sysconf(SysconfVar::CLK_TCK)?.context("the kernel tells no clock tick")?;
        Ok(Self { pid, clock, tick: Duration::from_secs(1) / u32::try_from(ticks)? })
    }

    /// Waits until the server rests, then reads. When the last echo has arrived, its server still has to go back to waiting,
    /// or to notice that a connection was closed; that work belongs to the window it came from.
    pub fn read_at_rest(&self) -> Result<CpuTime> {
        let mut clock = self.clock()?;
        for _ in 0..MOST_LOOKS {
            thread::sleep(LOOK_AGAIN);
            let before = std::mem::replace(&mut clock, self.clock()?);
            if clock.saturating_sub(before) < RESTING {
                break;
            }
        }
        Ok(CpuTime { clock: self.clock()?, stat: self.stat()? })
    }

    /// Warns when the two accounts of the time between two readings contradict each other. What was cut is little only of a long time.
    pub fn check(&self, before: CpuTime, after: CpuTime) {
        let clock = after.since(before);
        let stat = after.stat.saturating_sub(before.stat);
        // User and system time are each cut to a tick at both ends.
        if clock.abs_diff(stat) > 4 * self.tick {
            eprintln!("process {}: its CPU clock says {clock:?}, its stat says {stat:?}", self.pid);
        }
    }

    fn clock(&self) -> Result<Duration> {
        let now = self.clock.now().context("reading the server's CPU clock")?;
        Ok(Duration::from_nanos(u64::try_from(now.num_nanoseconds())?))
    }

    fn stat(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid);
        let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let ticks = utime_and_stime(&stat).with_context(|| format!("{path} has no utime and stime: {stat}"))?;
        Ok(self.tick * u32::try_from(ticks)?)
    }
}

/// Fields 14 and 15, counted from behind the command's name, which is field 2 and may itself contain spaces and brackets.
fn utime_and_stime(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

#[cfg(test)]
mod tests {
    use super::utime_and_stime;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 17 25 0 0 20 0 1 0 1000";
        assert_eq!(utime_and_stime(stat), Some(42));
    }
}
