//! Servers measured in alternating rounds.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use crate::cores::Cores;
use crate::cpu_time::CpuAccount;
use crate::errors::Errors;
use crate::load::{Load, Reuse};
use crate::open_files;
use crate::report;
use crate::server_process::ServerProcess;
use crate::server_spec::{Launch, ServerSpec};

/// What every server of a comparison is asked to do.
pub struct Plan {
    pub connections: usize,
    pub message_bytes: usize,
    pub reuse: Reuse,
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
    pub errors: Errors,
}

/// The samples of one server, one for each round.
pub struct Series {
    pub name: String,
    pub samples: Vec<Sample>,
}

/// Measures and reports; returns the errors of all runs.
///
/// Round 1 takes every server in turn, then round 2 does. So what disturbs the machine for some seconds disturbs all servers
/// alike, and a ratio is taken between two runs that are close in time. Each run has a fresh process, because the layout that
/// a process happens to get is part of the noise.
pub fn compare(plan: &Plan, servers: &[ServerSpec]) -> Result<Errors> {
    open_files::make_room_for(plan.connections)?;
    let launches: Vec<Launch> = servers.iter().map(|server| server.resolve(plan.connections)).collect::<Result<_>>()?;
    let cores = Cores::claim()?;
    let mut all: Vec<Series> =
        launches.iter().map(|launch| Series { name: launch.name.clone(), samples: Vec::new() }).collect();
    let mut errors = Errors::default();
    for round in 1..=plan.rounds {
        for (launch, series) in launches.iter().zip(&mut all) {
            let sample = measure(plan, launch, cores).with_context(|| format!("measuring {}", launch.name))?;
            report::progress(round, plan, &launch.name, &sample);
            errors.merge(&sample.errors);
            series.samples.push(sample);
        }
    }
    report::rounds(plan, cores, &all)?;
    Ok(errors)
}

fn measure(plan: &Plan, launch: &Launch, cores: Cores) -> Result<Sample> {
    let mut server = ServerProcess::start(launch, cores)?;
    let account = CpuAccount::of(server.pid())?;
    let mut load = Load::new(server.address(), plan.connections, plan.message_bytes, plan.reuse)?;
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
    let cpu = account.between(before, after);
    Ok(Sample {
        cpu_ns: cpu.as_nanos() as f64 / run.exchanges as f64,
        rate: run.exchanges as f64 / run.elapsed.as_secs_f64(),
        busy: 100.0 * cpu.as_secs_f64() / run.elapsed.as_secs_f64(),
        latency: run.latency,
        errors,
    })
}
