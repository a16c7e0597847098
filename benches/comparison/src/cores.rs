//! Who runs where: the servers on one core, the load on another.

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The two cores of a comparison.
///
/// All servers get the same single core, so that a server with more threads does not look cheaper by using more of the
/// machine, and so that the load never takes time from the server it measures.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// Where every server runs, with all its threads.
    pub server: usize,
    /// Where this process runs.
    pub load: usize,
    /// How many this process was given.
    pub usable: usize,
}

impl Cores {
    /// Takes the first two cores that this process may use, and moves this process to the second.
    pub fn claim() -> Result<Self> {
        let usable = list()?;
        let Some(&server) = usable.first() else {
            bail!("no usable core");
        };
        let load = usable.get(1).copied().unwrap_or_else(|| {
            eprintln!("only core {server} is usable: the servers share it with the load, which distorts");
            server
        });
        sched_setaffinity(Pid::from_raw(0), &only(load)?).with_context(|| format!("moving the load to core {load}"))?;
        Ok(Self { server, load, usable: usable.len() })
    }

    /// How many this process may use.
    pub fn usable() -> Result<usize> {
        Ok(list()?.len())
    }

    /// Whether the servers and the load do not share a core.
    pub fn are_two(&self) -> bool {
        self.server != self.load
    }

    /// The set to give to a server.
    pub fn server_set(&self) -> Result<CpuSet> {
        only(self.server)
    }
}

fn list() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("asking for the usable cores")?;
    Ok((0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).collect())
}

fn only(core: usize) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(core).with_context(|| format!("core {core} does not fit into a set"))?;
    Ok(set)
}
