//! What a README says of a run: the host, the command, the main figures, the pictures.

use std::path::Path;

use crate::chart::Chart;
use crate::group::{Group, has_throughput};
use crate::quantity::{self, Quantity};
use crate::report::{self, Ratio, summary_ratios};
use crate::results::{Cell, Results, Workload};
use crate::table::Table;

/// Returns the Markdown, for a file from which the charts are in this directory. Of them, it shows those of these names, or all if
/// there are none.
pub fn section(results: &Results, directory: &Path, charts: &[String]) -> String {
    let mut text = format!("```sh\n{}\n```\n\n", results.command);
    text += &format!("{}. {}\n", report::host(&results.host), report::method(&results.method));
    if !results.complete {
        text += "The run was interrupted: what is missing was not measured.\n";
    }
    let groups = Group::typical(results);
    let columns = main_columns(&groups);
    if let Some((group, _)) = columns.first() {
        text += &format!("\nOf the load \"{}\", where a column does not name another:\n", group.title());
    }
    text += &format!("\n{}", main_figures(results, &columns).markdown());
    let ratios = ratios(results);
    if !ratios.is_empty() {
        text += "\nWhat each server needs, as a multiple of what the first one needs for the same; only where the rounds agree:\n";
        text += &format!("\n{}", ratios.markdown());
    }
    let throughput = throughput(results);
    if !throughput.is_empty() {
        text += "\n<details>\n<summary>Exchanges per second of each load</summary>\n\n";
        text += &format!("{}\n</details>\n", throughput.markdown());
    }
    let shown = groups.iter().filter(|group| has_throughput(group)).flat_map(|group| &group.cells);
    let shown: Vec<String> = shown.map(|cell| figure(Some(cell), &quantity::THROUGHPUT)).collect();
    for (mark, what, meaning) in [
        (LIMITED, "A throughput", "is that of the load, which had no time left on its core, and not the server's"),
        (FAULTY, "A number", "is not to be trusted: there were errors"),
    ] {
        if shown.iter().any(|figure| figure.ends_with(mark)) {
            text += &format!("\n{what} with{mark} {meaning}.\n");
        }
    }
    let is_shown =
        |chart: &Chart| charts.is_empty() || charts.iter().any(|name| chart.file_name == format!("{name}.svg"));
    for chart in Chart::all(results).into_iter().filter(is_shown) {
        text += &format!("\n![{}]({})\n", chart.title, directory.join(chart.file_name).display());
    }
    text
}

/// A row for each server: what the first load gave, the tail of the latency at a fixed rate, the memory of idle
/// connections.
fn main_figures(results: &Results, columns: &[(&Group, Quantity)]) -> Table {
    let usual = columns.first().map(|(group, _)| group.title());
    let header = columns.iter().map(|(group, quantity)| match group.title() {
        title if Some(&title) == usual.as_ref() => quantity.name.to_owned(),
        title => format!("{title}: {}", quantity.name),
    });
    let mut table = Table::new(["server".to_owned()].into_iter().chain(header));
    for server in results.servers() {
        let figures: Vec<String> =
            columns.iter().map(|(group, quantity)| figure(group.cell(server), quantity)).collect();
        if figures.iter().any(|figure| figure != NOTHING) {
            table.row([server.to_owned()].into_iter().chain(figures).collect());
        }
    }
    table
}

fn main_columns<'a, 'g>(groups: &'g [Group<'a>]) -> Vec<(&'g Group<'a>, Quantity)> {
    let first = |is_meant: fn(&Group) -> bool| groups.iter().find(|group| is_meant(group));
    let mut columns = Vec::new();
    if let Some(group) = first(has_throughput) {
        columns.extend([quantity::THROUGHPUT, quantity::P99, quantity::CPU].map(|quantity| (group, quantity)));
    }
    columns.extend(first(is_open_loop).map(|group| (group, quantity::P99)));
    columns.extend(first(is_idle).map(|group| (group, quantity::MEMORY)));
    columns
}

fn is_open_loop(group: &Group) -> bool {
    matches!(group.workload, Workload::OpenLoop { .. })
}

fn is_idle(group: &Group) -> bool {
    *group.workload == Workload::Idle
}

/// A row for each load, a column for each server: the ratios of the summary.
fn ratios(results: &Results) -> Table {
    let servers = results.servers();
    let mut table = Table::new(["load"].into_iter().chain(servers.iter().copied()));
    for of_load in summary_ratios(results).chunk_by(|one, other| one.load == other.load) {
        let Ratio { load, quantity, baseline, .. } = &of_load[0];
        let ratios = servers.iter().map(|server| match of_load.iter().find(|ratio| ratio.server == *server) {
            Some(ratio) => ratio.rounded(),
            None if server == baseline => "1".to_owned(),
            None => NOTHING.to_owned(),
        });
        table.row([format!("{load}: {quantity}")].into_iter().chain(ratios).collect());
    }
    table
}

/// A row for each load, a column for each server; nothing where the main figures have it all.
fn throughput(results: &Results) -> Table {
    let servers = results.servers();
    let mut table = Table::new(["load"].into_iter().chain(servers.iter().copied()));
    let groups: Vec<Group> = Group::typical(results).into_iter().filter(has_throughput).collect();
    if groups.len() > 1 {
        for group in groups {
            let figures = servers.iter().map(|server| figure(group.cell(server), &quantity::THROUGHPUT));
            table.row([group.title()].into_iter().chain(figures).collect());
        }
    }
    table
}

const NOTHING: &str = "–";

/// Behind a throughput that is the load's.
const LIMITED: &str = " *";

/// Behind a number of a cell that had errors.
const FAULTY: &str = " !";

/// The median of a number; marked where there were errors, or where it is not the server's own.
fn figure(cell: Option<&Cell>, quantity: &Quantity) -> String {
    let Some((cell, spread)) = cell.and_then(|cell| Some((cell, quantity.spread(cell)?))) else {
        return NOTHING.to_owned();
    };
    let is_limited = quantity.name == quantity::THROUGHPUT.name && report::is_limited_by_load(cell);
    let mark = match cell.is_clean() {
        false => FAULTY,
        true if is_limited => LIMITED,
        true => "",
    };
    quantity.unit.show(spread.median) + mark
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::section;
    use crate::example;

    #[test]
    fn section_has_the_host_the_command_the_figures_and_the_pictures() {
        let text = section(&example::standard(), Path::new("docs"), &[]);
        for part in [
            "```sh\ncargo run --release --bin compare -- --rivals\n```",
            "Linux 6.18.5 x86_64, Example Processor 9000 @ 2.50GHz, 2 cores",
            "| echo 64 B, tcp, 100 connections: CPU/exchange | – | 1 | – | 0.53 |",
            "| threading | 88.9k | 1.82 ms | 11.2 µs | 72.0 µs | 12.5 KiB |",
            "](docs/overview.svg)",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn section_has_the_charts_that_are_asked_for() {
        let text = section(&example::standard(), Path::new(""), &["cpu".to_owned()]);
        assert!(text.contains("](cpu.svg)") && !text.contains("](latency.svg)"), "{text}");
    }

    #[test]
    fn section_marks_a_throughput_that_is_the_loads() {
        let mut results = example::minimal();
        for sample in example::samples(&mut results.cells[1]) {
            (sample.load_busy, sample.server_busy) = (0.99, 0.6);
        }
        let text = section(&results, Path::new(""), &[]);
        assert!(text.contains("\n| event-loop | 40.0k * | 320 µs | 25.0 µs |\n"), "{text}");
        assert!(text.contains("\nA throughput with * is that of the load"), "{text}");
        assert!(!section(&example::minimal(), Path::new(""), &[]).contains('*'));
    }

    #[test]
    fn section_marks_what_had_errors() {
        let mut results = example::minimal();
        for sample in example::samples(&mut results.cells[1]) {
            sample.errors.insert("a reset".to_owned(), 1);
        }
        let text = section(&results, Path::new(""), &[]);
        assert!(text.contains("\n| event-loop | 40.0k ! | 320 µs ! | 25.0 µs ! |\n"), "{text}");
        assert!(text.contains("\nA number with ! is not to be trusted"), "{text}");
        assert!(!section(&example::minimal(), Path::new(""), &[]).contains(" ! "));
    }

    #[test]
    fn section_of_a_small_run_has_no_empty_columns() {
        let text = section(&example::minimal(), Path::new(""), &[]);
        let expected = "\n| event-loop | 40.0k | 320 µs | 25.0 µs |\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("](latency.svg)") && !text.contains("memory.svg") && !text.contains("details"), "{text}");
    }
}
