//! The report: every number with its unit, every median with its extremes, every run with errors marked.

use anyhow::{Context, Result};

use crate::cores::Cores;
use crate::errors::Errors;
use crate::idle::Growth;
use crate::load::{Reuse, Traffic, latencies};
use crate::rounds::{Plan, Sample, Series};
use crate::spread::Spread;
use crate::table::Table;
use crate::transport::Transport;

impl Plan {
    /// What is counted.
    fn unit(&self) -> &'static str {
        match self.traffic {
            Traffic { reuse: Reuse::Reconnect, .. } => "connection",
            Traffic { transport: Transport::Udp, .. } => "datagram",
            Traffic { transport: Transport::Tcp, .. } => "message",
        }
    }
}

/// Tells on standard error how far it is, so that standard output has the report alone.
pub fn progress(round: usize, plan: &Plan, name: &str, sample: &Sample) {
    eprintln!(
        "round {round}/{}: {name}: {:.0} ns of CPU per {unit}, {:.0} {unit}s/s, {:.0} % of the core{}",
        plan.rounds,
        sample.cpu_ns,
        sample.rate,
        sample.busy,
        if sample.errors.is_empty() { String::new() } else { format!(", ERRORS: {}", sample.errors) },
        unit = plan.unit(),
    );
}

pub fn rounds(plan: &Plan, cores: Cores, all: &[Series]) -> Result<()> {
    let what = match plan.unit() {
        "connection" => "churn: connect, one echo, close by the client; then the next",
        "datagram" => "udp: each client sends one datagram, waits for its echo, sends the next",
        _ => "echo: each connection sends, waits for the whole echo, sends the next",
    };
    println!("{what}");
    setting(plan, cores);
    costs(plan, all)?;
    println!();
    latency(plan, all)?;
    println!();
    ratios(plan, all)?;
    notes(all);
    Ok(())
}

fn setting(plan: &Plan, cores: Cores) {
    let Traffic { connections, message_bytes, write_bytes, .. } = plan.traffic;
    let writes = if write_bytes < message_bytes { format!(" in writes of {write_bytes}") } else { String::new() };
    println!(
        "connections at a time: {connections}; bytes per message: {message_bytes}{writes}; rounds: {}, each of {:?} after {:?} \
         of warm-up",
        plan.rounds, plan.window, plan.warmup
    );
    println!("servers on core {}, load on core {}; median (min..max) of the rounds\n", cores.server, cores.load);
}

fn costs(plan: &Plan, all: &[Series]) -> Result<()> {
    let unit = plan.unit();
    let mut table =
        Table::new(["server", &format!("server CPU, ns/{unit}"), &format!("{unit}s/s"), "core in use, %", "errors"]);
    for series in all {
        table.row([
            series.marked_name(),
            of(series, 0, |sample| sample.cpu_ns)?,
            of(series, 0, |sample| sample.rate)?,
            of(series, 0, |sample| sample.busy)?,
            series.errors().count().to_string(),
        ]);
    }
    table.print();
    Ok(())
}

fn latency(plan: &Plan, all: &[Series]) -> Result<()> {
    let scope = format!("latency of a {}, all rounds", plan.unit());
    let mut table = Table::new([&scope, "p50, µs", "p99, µs", "p99.9, µs", "max, µs"]);
    for series in all {
        let mut latency = latencies()?;
        for sample in &series.samples {
            latency.add(&sample.latency).context("adding up the latencies")?;
        }
        let micros = |nanos: u64| format!("{:.1}", nanos as f64 / 1000.0);
        table.row([
            series.marked_name(),
            micros(latency.value_at_quantile(0.5)),
            micros(latency.value_at_quantile(0.99)),
            micros(latency.value_at_quantile(0.999)),
            micros(latency.max()),
        ]);
    }
    table.print();
    Ok(())
}

/// Each round's cost is compared with the first server's in the same round, as the two were measured close in time; the
/// median of these ratios is told, and not the ratio of the medians.
fn ratios(plan: &Plan, all: &[Series]) -> Result<()> {
    let Some(first) = all.first() else {
        return Ok(());
    };
    let scope = format!("server CPU per {}", plan.unit());
    let mut table = Table::new([&scope, &format!("ratio to {}", first.name)]);
    for series in all {
        let pairs = series.samples.iter().zip(&first.samples);
        let spread = Spread::of(pairs.map(|(sample, first)| sample.cpu_ns / first.cpu_ns));
        table.row([series.marked_name(), shown(spread.context("no round was measured")?, 3)]);
    }
    table.print();
    Ok(())
}

fn notes(all: &[Series]) {
    for series in all {
        let lost: u64 = series.samples.iter().map(|sample| sample.lost).sum();
        if lost > 0 {
            println!("\n{}: {lost} datagrams were lost and sent again", series.name);
        }
    }
    for series in all.iter().filter(|series| !series.errors().is_empty()) {
        println!("\n! {}: not to be trusted, it had errors: {}", series.name, series.errors());
    }
}

/// `all` has two series of each server: without the flood, and with it.
pub fn flood(plan: &Plan, cores: Cores, all: &[Series]) -> Result<()> {
    println!(
        "flood: each connection sends, waits for the whole echo, sends the next; without and with one more that floods"
    );
    setting(plan, cores);
    let mut table = Table::new([
        "server",
        "p50, µs",
        "p50 with flood",
        "p99, µs",
        "p99 with flood",
        "ratio of p99s",
        "pings/s",
        "pings/s with flood",
        "flood, MiB/s",
    ]);
    for pair in all.chunks_exact(2) {
        let [quiet, flooded] = pair else { continue };
        let micros = |sample: &Sample, quantile| sample.latency.value_at_quantile(quantile) as f64 / 1000.0;
        let rounds = quiet.samples.iter().zip(&flooded.samples);
        let ratios = Spread::of(rounds.map(|(quiet, flooded)| micros(flooded, 0.99) / micros(quiet, 0.99)));
        let mark = if flooded.errors().is_empty() { "" } else { " !" };
        table.row([
            format!("{}{mark}", quiet.marked_name()),
            of(quiet, 0, |sample| micros(sample, 0.5))?,
            of(flooded, 0, |sample| micros(sample, 0.5))?,
            of(quiet, 0, |sample| micros(sample, 0.99))?,
            of(flooded, 0, |sample| micros(sample, 0.99))?,
            shown(ratios.context("no round was measured")?, 2),
            of(quiet, 0, |sample| sample.rate)?,
            of(flooded, 0, |sample| sample.rate)?,
            of(flooded, 0, |sample| sample.flood_rate / MIB)?,
        ]);
    }
    table.print();
    notes(all);
    Ok(())
}

const MIB: f64 = 1024.0 * 1024.0;

impl Series {
    pub fn errors(&self) -> Errors {
        let mut errors = Errors::default();
        for sample in &self.samples {
            errors.merge(&sample.errors);
        }
        errors
    }

    fn marked_name(&self) -> String {
        let mark = if self.errors().is_empty() { "" } else { " !" };
        format!("{}{mark}", self.name)
    }
}

fn of(series: &Series, decimals: usize, value: impl Fn(&Sample) -> f64) -> Result<String> {
    let spread = Spread::of(series.samples.iter().map(value)).context("no round was measured")?;
    Ok(shown(spread, decimals))
}

fn shown(spread: Spread, decimals: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.decimals$} ({min:.decimals$}..{max:.decimals$})")
}

pub fn idle(connections: usize, message_bytes: usize, all: &[(String, Result<Growth>)]) {
    println!("idle: {connections} connections, each served one echo of {message_bytes} bytes and left open\n");
    let mut table = Table::new([
        "server",
        "resident, bytes/connection",
        "page tables, bytes/connection",
        "resident before, KiB",
        "resident after, KiB",
        "threads after",
    ]);
    for (name, growth) in all {
        let Ok(Growth { before, after }) = growth else {
            let none = || "-".to_owned();
            table.row([format!("{name} !"), "failed".to_owned(), none(), none(), none(), none()]);
            continue;
        };
        let per_connection =
            |before: u64, after: u64| format!("{:.0}", (after as f64 - before as f64) / connections as f64);
        table.row([
            name.clone(),
            per_connection(before.resident, after.resident),
            per_connection(before.page_tables, after.page_tables),
            (before.resident / 1024).to_string(),
            (after.resident / 1024).to_string(),
            after.threads.to_string(),
        ]);
    }
    table.print();
    for (name, growth) in all {
        if let Err(error) = growth {
            println!("\n! {name} failed: {error:#}");
        }
    }
}
