//! One sample: a fresh server under one load.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

use crate::account::{CpuAccount, Memory, Switches};
use crate::cores::Cores;
use crate::interrupt::Interrupt;
use crate::load::{Load, Run, Traffic};
use crate::results::{Latency, Method, Sample, Workload};
use crate::server::Launch;
use crate::server_process::ServerProcess;
use crate::transport::Transport;

/// Starts the server, measures it, and ends it.
pub fn measure(
    launch: &Launch,
    traffic: &Traffic,
    method: &Method,
    cores: Cores,
    interrupt: &Interrupt,
) -> Result<Sample> {
    let server = ServerProcess::start(launch, traffic.transport, cores)?;
    let account = CpuAccount::of(server.pid())?;
    // At rest, a server that starts its workers after its greeting has them, and one that was just served waits again.
    account.read_at_rest()?;
    let before = Memory::of(server.pid())?;
    let mut load = Load::new(server.address(), traffic.clone(), cores.are_two(), interrupt.clone())?;
    let (after, mut sample) = match traffic.workload {
        Workload::Idle => idle(server, &account)?,
        _ => window(server, &account, &mut load, traffic, method)?,
    };
    if traffic.transport != Transport::Udp && traffic.workload != Workload::Reconnect {
        let each = |before: u64, after: u64| (after as f64 - before as f64) / traffic.connections as f64;
        sample.resident_per_connection = each(before.resident, after.resident);
        sample.page_tables_per_connection = each(before.page_tables, after.page_tables);
    }
    Ok(sample)
}

/// The server with its connections, which stay open as long as the load lives.
fn idle(mut server: ServerProcess, account: &CpuAccount) -> Result<(Memory, Sample)> {
    account.read_at_rest()?;
    let memory = Memory::of(server.pid())?;
    server.check_running()?;
    let mut errors = BTreeMap::new();
    count_children(&server, &mut errors);
    Ok((memory, Sample { resident: memory.resident, threads: memory.threads, errors, ..Sample::default() }))
}

fn window(
    mut server: ServerProcess,
    account: &CpuAccount,
    load: &mut Load,
    traffic: &Traffic,
    method: &Method,
) -> Result<(Memory, Sample)> {
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).context("the length of a window");
    let before_warmup = Switches::of_threads(server.pid())?;
    let warmup = load.run(seconds(method.warmup_seconds)?)?;

    let switches_before = Switches::of_threads(server.pid())?;
    let before = account.read_at_rest()?;
    let load_before = own_cpu_time()?;
    let run = load.run(seconds(method.window_seconds)?)?;
    let load_cpu = own_cpu_time()?.saturating_sub(load_before);
    let after = account.read_at_rest()?;
    let switches_after = Switches::of_threads(server.pid())?;
    let memory = Memory::of(server.pid())?;

    let mut errors = warmup.errors;
    errors.merge(&run.errors);
    server.check_running().with_context(|| format!("errors of the load: {errors}"))?;
    if run.exchanges == 0 {
        bail!("not one exchange was complete: {errors}");
    }
    let mut errors = errors.into_counts();
    count_children(&server, &mut errors);
    if traffic.workload == Workload::Flood && run.flooded == 0 {
        errors.insert("nothing of the flood came back".to_owned(), 1);
    }

    // Threads that have ended have left their counts to the process, which tells only when it ends itself. So where requests may
    // take their threads with them, all that was switched since before the first request is counted, and so are all requests.
    let come_and_go = traffic.workload == Workload::Reconnect || traffic.transport == Transport::Udp;
    let (switches, switched_for) = match server.end()? {
        ever if come_and_go => (ever - before_warmup, warmup.exchanges + run.exchanges),
        _ => (switches_after - switches_before, run.exchanges),
    };
    let cpu = account.between(before, after);
    let elapsed = run.elapsed.as_secs_f64();
    let mut sample = Sample {
        per_second: run.exchanges as f64 / elapsed,
        latency: latency(&run),
        cpu_ns: cpu.as_nanos() as f64 / run.exchanges as f64,
        voluntary_switches: switches.voluntary as f64 / switched_for as f64,
        involuntary_switches: switches.involuntary as f64 / switched_for as f64,
        resident: memory.resident,
        threads: memory.threads,
        server_busy: cpu.as_secs_f64() / elapsed,
        load_busy: load_cpu.as_secs_f64() / elapsed,
        lost: run.lost,
        flooded: run.flooded as f64 / elapsed,
        errors,
        ..Sample::default()
    };
    match traffic.workload {
        // The load keeps its core busy to be in time.
        Workload::OpenLoop { .. } => sample.load_busy = 0.0,
        // Most of what the server does is for the flood, which counts no exchanges.
        Workload::Flood => (sample.cpu_ns, sample.voluntary_switches, sample.involuntary_switches) = (0.0, 0.0, 0.0),
        Workload::ClosedLoop | Workload::Reconnect | Workload::Idle => {}
    }
    Ok((memory, sample))
}

fn count_children(server: &ServerProcess, errors: &mut BTreeMap<String, u64>) {
    if server.has_children() {
        errors.insert("processes below the server, whose cost is not counted".to_owned(), 1);
    }
}

fn latency(run: &Run) -> Latency {
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    Latency {
        p50: micros(run.latency.value_at_quantile(0.5)),
        p99: micros(run.latency.value_at_quantile(0.99)),
        p999: micros(run.latency.value_at_quantile(0.999)),
        max: micros(run.latency.max()),
    }
}

/// Of the thread that makes the load.
fn own_cpu_time() -> Result<Duration> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("reading the load's CPU clock")?;
    Ok(Duration::from_nanos(u64::try_from(now.num_nanoseconds())?))
}
