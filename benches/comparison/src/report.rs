//! The report on the terminal: every number with its unit and its spread, every run with errors marked.

use std::collections::BTreeMap;

use crate::group::{Group, has_throughput};
use crate::quantity::{self, Quantity, thousands};
use crate::results::{Cell, Host, Method, Results, Sample, Workload};
use crate::spread::Spread;
use crate::table::Table;

mod ratio;

pub use ratio::{Ratio, summary_ratios};

/// Prints the tables of a run, and its summary.
pub fn print(results: &Results) {
    print!("{}", written(results));
}

/// Returns what [`print()`] prints.
fn written(results: &Results) -> String {
    let mut text = format!("{}\n{}\n{}\n", results.title, host(&results.host), method(&results.method));
    if results.method.rounds > 1 {
        text += "± is how far the furthest round was from the median; max is the longest of all rounds.\n";
    }
    if !results.complete {
        text += "The run was interrupted: what is missing was not measured.\n";
    }
    for group in Group::all(results) {
        text += &format!("\n{}: {}\n{}{}", group.title(), load(group.workload), table(&group), notes(&group));
    }
    text + "\n" + &ratio::summary(results)
}

/// One line with the facts of the host.
pub fn host(host: &Host) -> String {
    let plural = if host.cores == 1 { "" } else { "s" };
    let memory = quantity::Unit::Bytes.show(host.memory_bytes as f64);
    let processor = if host.processor.is_empty() { String::new() } else { format!("{}, ", host.processor) };
    let mut facts = format!(
        "{}, {processor}{} core{plural}, {memory} of memory, {} open files, {}",
        host.kernel,
        host.cores,
        thousands(usize::try_from(host.open_files).unwrap_or(usize::MAX)),
        host.date
    );
    for (name, version) in &host.versions {
        facts += &format!(", {name} {version}");
    }
    facts
}

/// How the numbers were taken, in a few sentences.
pub fn method(method: &Method) -> String {
    let Method { rounds, warmup_seconds, window_seconds, server_core, load_core } = *method;
    let cores = if server_core == load_core {
        format!("Server and load share core {server_core}, so that each takes time from the other")
    } else {
        format!("Servers on core {server_core}, load on core {load_core}")
    };
    let medians = if rounds > 1 { " Each number is the median of the rounds." } else { "" };
    let plural = if rounds == 1 { "" } else { "s" };
    format!("{rounds} round{plural} of {window_seconds} s after {warmup_seconds} s of warm-up. {cores}.{medians}")
}

/// What the load does, in words.
pub fn load(workload: &Workload) -> String {
    match workload {
        Workload::ClosedLoop => "each connection sends, waits for the whole reply, then sends the next".to_owned(),
        Workload::OpenLoop { per_second } => format!(
            "{} requests are due each second, whatever becomes of those before; latency counts from when one was due",
            thousands(*per_second as usize)
        ),
        Workload::Reconnect => "connect, one exchange, close; then the next".to_owned(),
        Workload::Flood => {
            "each connection sends, waits for the whole reply, then sends the next; one more sends without waiting"
                .to_owned()
        }
        Workload::Idle => "one exchange on each connection, which then stays open".to_owned(),
    }
}

fn table(group: &Group) -> Table {
    let quantities = quantities(group.workload);
    let counts = counts(group.workload);
    let header = quantities.iter().map(|quantity| quantity.name).chain(counts.iter().map(|(name, ..)| *name));
    let mut table = Table::new(["server"].into_iter().chain(header).chain(["errors"]));
    for cell in &group.cells {
        if let Some(reason) = cell.reason() {
            table.remark(cell.server.clone(), reason);
            continue;
        }
        let mark = if cell.is_clean() { "" } else { " !" };
        let mut row = vec![format!("{}{mark}", cell.server)];
        row.extend(quantities.iter().map(|quantity| shown(cell, quantity)));
        row.extend(counts.iter().map(|count| count_shown(cell, count)));
        row.push(errors(cell).values().sum::<u64>().to_string());
        table.row(row);
    }
    table
}

/// The columns with a unit.
fn quantities(workload: &Workload) -> Vec<Quantity> {
    if *workload == Workload::Idle {
        return vec![quantity::MEMORY, quantity::PAGE_TABLES, quantity::RESIDENT];
    }
    let mut quantities =
        vec![quantity::THROUGHPUT, quantity::P50, quantity::P99, quantity::P999, quantity::MAX, quantity::RESIDENT];
    // What a flood costs is not told from what the exchanges beside it cost.
    quantities.push(if *workload == Workload::Flood { quantity::FLOODED } else { quantity::CPU });
    quantities
}

/// A column without a unit: its name, and how many digits are behind the point.
type Count = (&'static str, usize, fn(&Sample) -> f64);

fn counts(workload: &Workload) -> Vec<Count> {
    let threads: Count = ("threads", 0, |sample| sample.threads as f64);
    let busy: Count = ("core, %", 0, |sample| sample.server_busy * 100.0);
    let switches: Count = ("switches/exchange", 2, |sample| sample.voluntary_switches + sample.involuntary_switches);
    match workload {
        Workload::Idle => vec![threads],
        Workload::Flood => vec![busy, threads],
        Workload::ClosedLoop | Workload::OpenLoop { .. } | Workload::Reconnect => vec![busy, threads, switches],
    }
}

/// The median of a number, and how far the rounds lay from it.
fn shown(cell: &Cell, quantity: &Quantity) -> String {
    let Some(Spread { median, min, max }) = quantity.spread(cell) else {
        return "-".to_owned();
    };
    // The longest of all is what it is: a median of maxima would hide a stall.
    if quantity.name == quantity::MAX.name {
        return quantity.unit.show(max);
    }
    let number = quantity.unit.show(median);
    let furthest = (max - median).max(median - min) / median.abs() * 100.0;
    // Where the others stand in the way of reading, the CSV has them.
    let has_room = [quantity::THROUGHPUT.name, quantity::CPU.name, quantity::MEMORY.name].contains(&quantity.name);
    if cell.samples().len() < 2 || median == 0.0 || !has_room { number } else { format!("{number} ±{furthest:.0}%") }
}

fn count_shown(cell: &Cell, (_, decimals, of): &Count) -> String {
    cell.spread(of).map_or_else(String::new, |spread| format!("{:.*}", decimals, spread.median))
}

fn errors(cell: &Cell) -> BTreeMap<&str, u64> {
    let mut all = BTreeMap::new();
    for (error, count) in cell.samples().iter().flat_map(|sample| &sample.errors) {
        *all.entry(error.as_str()).or_default() += count;
    }
    all
}

/// What to know before the numbers are believed.
fn notes(group: &Group) -> String {
    let mut notes = String::new();
    for cell in &group.cells {
        let lost: u64 = cell.samples().iter().map(|sample| sample.lost).sum();
        if lost > 0 {
            notes += &format!("{}: {lost} datagrams were lost and sent again\n", cell.server);
        }
        if !cell.is_clean() {
            let errors: Vec<String> = errors(cell).iter().map(|(error, count)| format!("{count} × {error}")).collect();
            notes += &format!("! {}: not to be trusted, it had errors: {}\n", cell.server, errors.join(", "));
        }
    }
    let limited: Vec<&str> =
        group.cells.iter().filter(|cell| is_limited_by_load(cell)).map(|cell| cell.server.as_str()).collect();
    if has_throughput(group) && !limited.is_empty() {
        notes += &format!(
            "The load had no time left on its core, so that the throughput is its own and not the server's: {}\n",
            limited.join(", ")
        );
    }
    notes
}

/// Whether the server waited for the load, and not the load for the server.
pub fn is_limited_by_load(cell: &Cell) -> bool {
    let median = |of: fn(&Sample) -> f64| cell.spread(of).map_or(0.0, |spread| spread.median);
    median(|sample| sample.load_busy) > 0.95 && median(|sample| sample.server_busy) < 0.9
}

#[cfg(test)]
mod tests {
    use super::written;
    use crate::example;

    #[test]
    fn tables_tell_the_numbers_with_units_and_spread() {
        let text = written(&example::minimal());
        assert!(text.contains("count words, tcp, 10 connections: each connection sends"), "{text}");
        assert!(text.contains("threading    20.0k ±10%  200 µs  320 µs"), "{text}");
        assert!(text.contains("event-loop   40.0k ±10%"), "{text}");
    }

    #[test]
    fn tables_tell_why_a_number_is_missing() {
        let text = written(&example::standard());
        assert!(text.contains("sequential        cannot serve this: one connection at a time\n"), "{text}");
        assert!(text.contains("forking           cannot serve this: 40 children at most\n"), "{text}");
    }

    #[test]
    fn errors_are_marked_and_told() {
        let mut results = example::minimal();
        example::samples(&mut results.cells[1])[0].errors.insert("connection reset".to_owned(), 3);
        let text = written(&results);
        assert!(text.contains("event-loop !"), "{text}");
        assert!(text.contains("! event-loop: not to be trusted, it had errors: 3 × connection reset"), "{text}");
    }

    #[test]
    fn throughput_of_a_load_at_its_limit_is_told_as_such() {
        let mut results = example::minimal();
        for sample in example::samples(&mut results.cells[0]) {
            (sample.load_busy, sample.server_busy) = (0.99, 0.6);
        }
        let text = written(&results);
        assert!(text.contains("its own and not the server's: threading\n"), "{text}");
    }
}
