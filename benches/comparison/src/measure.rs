//! Samples: fresh servers under one load, which take turns.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

use crate::account::{CpuAccount, CpuTime, Memory, Switches};
use crate::cores::Cores;
use crate::interrupt::Interrupt;
use crate::load::{Load, Run, Traffic};
use crate::results::{Latency, Method, Sample, Workload};
use crate::server::Launch;
use crate::server_process::ServerProcess;
use crate::transport::Transport;

/// The most slices of a window.
const MOST_SLICES: usize = 8;

/// How often each connection has its exchange in a slice, at least. In one with few exchanges, most of what is seen is how the
/// connections begin, all at once.
const EXCHANGES_OF_A_SLICE: f64 = 10.0;

/// Starts the servers, measures each of them, and ends them.
///
/// The window of each is cut into slices, and the servers take turns: what disturbs the machine for a moment then disturbs all of
/// them alike, and leaves the ratios between them.
pub fn measure(
    launches: &[&Launch],
    traffic: &Traffic,
    method: &Method,
    cores: Cores,
    interrupt: &Interrupt,
) -> Vec<Result<Sample>> {
    let start = |launch: &&Launch| Measurement::start(launch, traffic, method, cores, interrupt);
    let mut measurements: Vec<Result<Measurement>> = launches.iter().map(start).collect();
    let slices = measurements.iter().flatten().map(Measurement::most_slices).min().unwrap_or(0);
    for _ in 0..slices {
        for measurement in &mut measurements {
            if let Some(error) = measurement.as_mut().ok().and_then(|running| running.slice(slices).err()) {
                *measurement = Err(error);
            }
        }
    }
    measurements.into_iter().map(|measurement| measurement.and_then(Measurement::end)).collect()
}

/// A server with its load, from its start to its end.
struct Measurement<'a> {
    server: ServerProcess,
    account: CpuAccount,
    load: Load,
    traffic: &'a Traffic,
    window: Duration,
    /// Before its first connection, as the next one.
    begun: CpuTime,
    memory_before: Memory,
    /// Before the warm-up.
    switches_before: Switches,
    warmup: Run,
    /// All slices so far.
    run: Run,
    cpu: Duration,
    load_cpu: Duration,
    switches: Switches,
}

impl<'a> Measurement<'a> {
    /// Starts the server, makes the connections, and warms up.
    fn start(
        launch: &Launch,
        traffic: &'a Traffic,
        method: &Method,
        cores: Cores,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        interrupt.check()?;
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).context("the length of a window");
        let server = ServerProcess::start(launch, traffic.transport, cores)?;
        let account = CpuAccount::of(server.pid())?;
        // At rest, a server that starts its workers after its greeting has them, and one that was just served waits again.
        let begun = account.read_at_rest()?;
        let memory_before = Memory::of(server.pid())?;
        let mut load = Load::new(server.address(), traffic.clone(), cores.are_two(), interrupt.clone())?;
        let switches_before = Switches::of_threads(server.pid())?;
        let warmup = match traffic.workload {
            Workload::Idle => Run::empty()?,
            _ => load.run(seconds(method.warmup_seconds)?)?,
        };
        Ok(Self {
            server,
            account,
            load,
            traffic,
            window: seconds(method.window_seconds)?,
            begun,
            memory_before,
            switches_before,
            warmup,
            run: Run::empty()?,
            cpu: Duration::ZERO,
            load_cpu: Duration::ZERO,
            switches: Switches::default(),
        })
    }

    /// How many slices the window can be cut into, by what was achieved in the warm-up. Idle connections have no window.
    fn most_slices(&self) -> usize {
        if self.traffic.workload == Workload::Idle {
            return 0;
        }
        let per_connection = self.warmup.per_second() / self.traffic.connections as f64;
        let slices = per_connection * self.window.as_secs_f64() / EXCHANGES_OF_A_SLICE;
        (slices as usize).clamp(1, MOST_SLICES)
    }

    /// Measures one of so many slices of the window.
    fn slice(&mut self, of: usize) -> Result<()> {
        let pid = self.server.pid();
        let switches_before = Switches::of_threads(pid)?;
        let before = self.account.read_at_rest()?;
        let load_before = own_cpu_time()?;
        self.run.add(self.load.run(self.window / u32::try_from(of)?)?)?;
        self.load_cpu += own_cpu_time()?.saturating_sub(load_before);
        self.cpu += self.account.read_at_rest()?.since(before);
        self.switches = self.switches + (Switches::of_threads(pid)? - switches_before);
        Ok(())
    }

    /// Sums up, and ends the server.
    fn end(mut self) -> Result<Sample> {
        let Traffic { transport, connections, workload, .. } = self.traffic;
        self.account.check(self.begun, self.account.read_at_rest()?);
        let memory = Memory::of(self.server.pid())?;
        let mut errors = self.warmup.errors.clone();
        errors.merge(&self.run.errors);
        self.server.check_running().with_context(|| format!("errors of the load: {errors}"))?;
        if *workload != Workload::Idle && self.run.exchanges == 0 {
            bail!("not one exchange was complete: {errors}");
        }
        let mut errors = errors.into_counts();
        if self.server.has_children() {
            errors.insert("processes below the server, whose cost is not counted".to_owned(), 1);
        }
        if *workload == Workload::Flood && self.run.flooded == 0 {
            errors.insert("nothing of the flood came back".to_owned(), 1);
        }
        let mut sample = Sample { resident: memory.resident, threads: memory.threads, errors, ..Sample::default() };
        if *transport != Transport::Udp && *workload != Workload::Reconnect {
            let each = |before: u64, after: u64| (after as f64 - before as f64) / *connections as f64;
            sample.resident_per_connection = each(self.memory_before.resident, memory.resident);
            sample.page_tables_per_connection = each(self.memory_before.page_tables, memory.page_tables);
        }
        match workload {
            Workload::Idle => Ok(sample),
            _ => self.sum_up(sample),
        }
    }

    /// Adds what the slices have shown.
    fn sum_up(self, mut sample: Sample) -> Result<Sample> {
        let Self { traffic, run, warmup, .. } = self;
        // Threads that have ended have left their counts to the process, which tells only when it ends itself. So where requests
        // may take their threads with them, all that was switched since before the first request is counted, and so are all
        // requests.
        let come_and_go = traffic.workload == Workload::Reconnect || traffic.transport == Transport::Udp;
        let (switches, switched_for) = match self.server.end()? {
            ever if come_and_go => (ever - self.switches_before, warmup.exchanges + run.exchanges),
            _ => (self.switches, run.exchanges),
        };
        let elapsed = run.elapsed.as_secs_f64();
        sample.per_second = run.per_second();
        sample.latency = latency(&run);
        sample.cpu_ns = self.cpu.as_nanos() as f64 / run.exchanges as f64;
        sample.voluntary_switches = switches.voluntary as f64 / switched_for as f64;
        sample.involuntary_switches = switches.involuntary as f64 / switched_for as f64;
        sample.server_busy = self.cpu.as_secs_f64() / elapsed;
        sample.load_busy = self.load_cpu.as_secs_f64() / elapsed;
        sample.lost = run.lost;
        sample.flooded = run.flooded as f64 / elapsed;
        match traffic.workload {
            // The load keeps its core busy to be in time.
            Workload::OpenLoop { .. } => sample.load_busy = 0.0,
            // Most of what the server does is for the flood, which counts no exchanges.
            Workload::Flood => {
                (sample.cpu_ns, sample.voluntary_switches, sample.involuntary_switches) = (0.0, 0.0, 0.0);
            }
            Workload::ClosedLoop | Workload::Reconnect | Workload::Idle => {}
        }
        Ok(sample)
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
