//! Servers measured in alternating rounds.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use crate::cores::Cores;
use crate::cpu_time::CpuAccount;
use crate::errors::Errors;
use crate::load::{Load, Traffic};
use crate::open_files;
use crate::report;
use crate::server_process::ServerProcess;
use crate::server_spec::{Launch, ServerSpec};

/// What every server of a comparison is asked to do.
pub struct Plan {
    pub traffic: Traffic,
    pub warmup: Duration,
    pub window: Duration,
    pub rounds: usize,
}

/// What one server did in one round.
pub struct Sample {
    /// CPU time of the server's process per exchange, in nanoseconds.
    pub cpu_ns: f64,
    /// Exchanges per second.
    pub rate: f64,
    /// The part of the window in which the server used its core, in percent.
    pub busy: f64,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
    /// Datagrams that were sent again.
    pub lost: u64,
    /// Bytes per second that the flooding connection got back.
    pub flood_rate: f64,
    pub errors: Errors,
}

/// What is measured once in each round.
pub struct Entry {
    /// What the report calls it.
    pub name: String,
    pub launch: Launch,
    pub traffic: Traffic,
}

/// The samples of one server, one for each round.
pub struct Series {
    pub name: String,
    pub samples: Vec<Sample>,
}

/// Measures and reports; returns the errors of all runs.
pub fn compare(plan: &Plan, servers: &[ServerSpec]) -> Result<Errors> {
    let entry = |launch: Launch| Entry { name: launch.name.clone(), launch, traffic: plan.traffic };
    let entries: Vec<Entry> = launches(plan, servers)?.into_iter().map(entry).collect();
    let cores = Cores::claim()?;
    let all = alternate(plan, cores, &entries)?;
    report::rounds(plan, cores, &all)?;
    Ok(errors(&all))
}

/// The programs to start, with room for the connections that the plan wants.
pub fn launches(plan: &Plan, servers: &[ServerSpec]) -> Result<Vec<Launch>> {
    let Traffic { connections, transport, .. } = plan.traffic;
    open_files::make_room_for(connections)?;
    servers.iter().map(|server| server.resolve(connections, transport)).collect()
}

/// Round 1 takes every entry in turn, then round 2 does. So what disturbs the machine for some seconds disturbs all entries
/// alike, and a ratio is taken between two runs that are close in time. Each run has a fresh process, because the layout that
/// a process happens to get is part of the noise.
pub fn alternate(plan: &Plan, cores: Cores, entries: &[Entry]) -> Result<Vec<Series>> {
    let mut all: Vec<Series> =
        entries.iter().map(|entry| Series { name: entry.name.clone(), samples: Vec::new() }).collect();
    for round in 1..=plan.rounds {
        for (entry, series) in entries.iter().zip(&mut all) {
            let sample = measure(plan, entry, cores).with_context(|| format!("measuring {}", entry.name))?;
            report::progress(round, plan, &entry.name, &sample);
            series.samples.push(sample);
        }
    }
    Ok(all)
}

/// Those of all runs.
pub fn errors(all: &[Series]) -> Errors {
    let mut errors = Errors::default();
    for series in all {
        errors.merge(&series.errors());
    }
    errors
}

fn measure(plan: &Plan, entry: &Entry, cores: Cores) -> Result<Sample> {
    let mut server = ServerProcess::start(&entry.launch, cores)?;
    let account = CpuAccount::of(server.pid())?;
    let mut load = Load::new(server.address(), entry.traffic)?;
    let mut errors = load.run(plan.warmup)?.errors;

    let before = account.read_at_rest()?;
    let run = load.run(plan.window)?;
    let after = account.read_at_rest()?;

    errors.merge(&run.errors);
    server.check_running().with_context(|| format!("errors of the load: {errors}"))?;
    if run.exchanges == 0 {
        bail!("not one echo was complete: {errors}");
    }
    if server.has_children() {
        errors.add("processes below the server, whose cost is not counted");
    }
    if entry.traffic.flood && run.flooded == 0 {
        errors.add("nothing of the flood came back");
    }
    let cpu = account.between(before, after);
    Ok(Sample {
        cpu_ns: cpu.as_nanos() as f64 / run.exchanges as f64,
        rate: run.exchanges as f64 / run.elapsed.as_secs_f64(),
        busy: 100.0 * cpu.as_secs_f64() / run.elapsed.as_secs_f64(),
        latency: run.latency,
        lost: run.lost,
        flood_rate: run.flooded as f64 / run.elapsed.as_secs_f64(),
        errors,
    })
}
