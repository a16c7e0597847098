//! Groups of servers, measured one after the other in rounds.

use std::time::Duration;

use anyhow::Result;

use crate::cores::Cores;
use crate::interrupt::Interrupt;
use crate::measure::measure;
use crate::plan::{Group, Plan};
use crate::progress::{Progress, rough};
use crate::results::{Cell, Method, Outcome, Results};

/// Measures all groups into `results`, which are given to `keep` after each of them. Ends early, and without an error, when it is
/// interrupted.
pub fn run(
    plan: &Plan,
    cores: Cores,
    interrupt: &Interrupt,
    results: &mut Results,
    mut keep: impl FnMut(&Results) -> Result<()>,
) -> Result<()> {
    let mut progress = Progress::start(length(plan, &results.method));
    let (cells, measured) = plan.cells();
    progress.note(&format!(
        "cells to measure: {measured}, in {} ({} more cannot be served); this takes about {}; Ctrl-C ends it early and keeps \
         what was measured",
        counted(results.method.rounds, "round"),
        cells - measured,
        rough(length(plan, &results.method))
    ));
    for (index, group) in plan.groups.iter().enumerate() {
        let measured = measure_group(group, cores, interrupt, &results.method, &mut progress, index, plan.groups.len());
        results.cells.extend(measured);
        results.complete = index + 1 == plan.groups.len() && !interrupt.is_asked();
        keep(results)?;
        if interrupt.is_asked() {
            progress.note("interrupted: what was measured is kept");
            break;
        }
    }
    progress.end();
    Ok(())
}

/// How long a run takes, roughly.
fn length(plan: &Plan, method: &Method) -> Duration {
    let group = |group: &Group| {
        let measured = group.entries.iter().filter(|entry| entry.launch.is_ok()).count() * method.rounds;
        sample_takes(group, method) * u32::try_from(measured).unwrap_or(u32::MAX)
    };
    plan.groups.iter().map(group).sum()
}

fn sample_takes(group: &Group, method: &Method) -> Duration {
    group.sample_takes(Duration::from_secs_f64(method.warmup_seconds), Duration::from_secs_f64(method.window_seconds))
}

/// Each round measures every server, as many of them side by side as there is room for. Each sample has a fresh process, because
/// the layout that a process happens to get is part of the noise.
fn measure_group(
    group: &Group,
    cores: Cores,
    interrupt: &Interrupt,
    method: &Method,
    progress: &mut Progress,
    index: usize,
    of: usize,
) -> Vec<Cell> {
    let traffic = &group.traffic;
    let name = format!("{}, {}, {}", group.case, traffic.transport, counted(traffic.connections, "connection"));
    progress.group(&format!("[{}/{of}] {name}", index + 1));
    let mut outcomes: Vec<Outcome> = Vec::new();
    for entry in &group.entries {
        outcomes.push(match &entry.launch {
            Ok(_) => Outcome::Measured(Vec::new()),
            Err(reason) => Outcome::Unable(reason.clone()),
        });
    }
    for round in 1..=method.rounds {
        progress.sample(format!("{name}: round {round} of {}", method.rounds));
        let able = group.entries.iter().zip(&mut outcomes).filter_map(|(entry, outcome)| match outcome {
            Outcome::Measured(_) => Some((entry, entry.launch.as_ref().ok()?, outcome)),
            _ => None,
        });
        let mut able: Vec<_> = able.collect();
        // With many connections, it matters by several percent who comes first: so each does in turn.
        if !able.is_empty() {
            let first = (round - 1) % able.len();
            able.rotate_left(first);
        }
        for together in able.chunks_mut(group.together) {
            let launches: Vec<_> = together.iter().map(|(_, launch, _)| *launch).collect();
            let samples = measure(&launches, traffic, method, cores, interrupt);
            for ((entry, _, outcome), sample) in together.iter_mut().zip(samples) {
                match (sample, &mut **outcome) {
                    (Ok(sample), Outcome::Measured(samples)) => samples.push(sample),
                    // That a server fails under a load is a result, too, and no reason to end the comparison.
                    (Err(error), _) if !interrupt.is_asked() => {
                        progress.note(&format!("{name}: {}: {error:#}", entry.server));
                        **outcome = Outcome::Failed(format!("{error:#}"));
                    }
                    _ => {}
                }
                progress.advance(sample_takes(group, method));
            }
        }
    }
    let mut cells = Vec::new();
    for (entry, outcome) in group.entries.iter().zip(outcomes) {
        // An interrupted group has servers whose turn has not come.
        if matches!(&outcome, Outcome::Measured(samples) if samples.is_empty()) {
            continue;
        }
        cells.push(Cell {
            case: group.case.clone(),
            workload: traffic.workload.clone(),
            transport: traffic.transport.to_string(),
            connections: traffic.connections,
            server: entry.server.clone(),
            outcome,
        });
    }
    cells
}

/// Like `1 round` or `5 rounds`.
fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
