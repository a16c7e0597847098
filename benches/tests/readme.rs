//! The figures in the project's README and documentation are those of the committed runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use socketserver_comparison::results::{Cell, Outcome, Results, Sample};

/// What the program prints for these arguments, from the repository's root.
fn compare(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(arguments)
        .output()
        .expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// This stands in the README, word for word.
fn is_in_readme(text: &str) {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).expect("there is a README");
    assert!(readme.contains(text), "the README does not say this:\n\n{text}");
}

#[test]
fn the_readme_tells_what_was_measured_of_the_backends() {
    is_in_readme(&compare(&["readme", "benches/results/backends/results.json"]));
}

#[test]
fn the_readme_tells_what_was_measured_beside_others() {
    is_in_readme(&compare(&["readme", "benches/results/rivals/results.json", "--charts", "cpu,memory"]));
}

/// Two full runs agree within 10 % on every ratio that both tell.
#[test]
fn the_readme_tells_how_far_two_runs_agree() {
    let runs = ["benches/results/backends/results.json", "benches/results/backends-again/results.json"];
    let agreement = compare(&["agree", runs[0], runs[1]]);
    is_in_readme(agreement.lines().last().expect("a sum"));
}

/// What a row of the table in the chapter "Which server when" is about: the load, and the numbers that are told of it.
struct Row {
    case: &'static str,
    transport: &'static str,
    connections: usize,
    numbers: &'static [Number],
}

/// The unit that a number of the table is told in, and how it follows from a sample.
type Number = (&'static str, fn(&Sample) -> f64);

const CPU: Number = ("µs", |sample| sample.cpu_ns / 1e3);
const P99: Number = ("ms", |sample| sample.latency.p99 / 1e3);
const RATE: Number = ("a second", |sample| sample.per_second);
const MEMORY: Number = ("KiB", |sample| sample.resident_per_connection / 1024.0);

/// In the order of the table.
const ROWS: [Row; 10] = [
    Row { case: "echo 64 B", transport: "tcp", connections: 1, numbers: &[CPU] },
    Row { case: "echo 64 B", transport: "tcp", connections: 100, numbers: &[CPU] },
    Row { case: "echo 64 B", transport: "tcp", connections: 10_000, numbers: &[CPU] },
    Row { case: "idle", transport: "tcp", connections: 10_000, numbers: &[MEMORY] },
    Row { case: "connect, echo 64 B, close", transport: "tcp", connections: 10, numbers: &[CPU] },
    Row { case: "echo 64 B", transport: "udp", connections: 100, numbers: &[CPU] },
    Row { case: "compute 100 µs", transport: "tcp", connections: 100, numbers: &[CPU, P99] },
    Row { case: "wait 10 ms", transport: "tcp", connections: 1_000, numbers: &[CPU] },
    Row { case: "block for 1 ms", transport: "tcp", connections: 100, numbers: &[RATE] },
    Row { case: "block for 1 ms in offload", transport: "tcp", connections: 100, numbers: &[RATE] },
];

const SERVERS: [&str; 4] = ["threading", "forking-style", "event-loop", "sequential"];

/// Every number of that table is the median of the committed run, to two digits.
#[test]
fn the_chapter_on_backends_tells_what_was_measured() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let json = fs::read_to_string(root.join("results/backends/results.json")).expect("there is a run");
    let results: Results = serde_json::from_str(&json).expect("it can be read");
    let chapter = fs::read_to_string(root.join("../src/backend.rs")).expect("there is a chapter");
    let table = chapter.lines().skip_while(|line| !line.starts_with("//! | load |")).skip(2);
    let lines: Vec<&str> = table.take_while(|line| line.starts_with("//! |")).collect();
    assert_eq!(lines.len(), ROWS.len());
    for (row, line) in ROWS.iter().zip(lines) {
        let told: Vec<&str> = line.trim_start_matches("//! | ").trim_end_matches(" |").split(" | ").skip(1).collect();
        assert_eq!(told.len(), SERVERS.len(), "{line}");
        for (server, told) in SERVERS.iter().zip(told) {
            let of_row = |cell: &&Cell| {
                (cell.case.as_str(), cell.transport.as_str(), cell.connections)
                    == (row.case, row.transport, row.connections)
            };
            let cell = results.cells.iter().filter(of_row).find(|cell| cell.server == *server).expect("a cell");
            let told = told.replace(',', "");
            let mut words = told.split(' ');
            if matches!(cell.outcome, Outcome::Unable(_)) {
                assert_eq!(told, "too many", "{server}, {line}");
                continue;
            }
            for (unit, of) in row.numbers {
                let number: f64 = words.by_ref().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"));
                assert!(told.contains(unit), "{line}");
                let median = cell.spread(of).expect("it was measured").median;
                let digits = 10_f64.powf(median.log10().floor() - 1.0);
                assert!((number - median).abs() <= digits / 2.0 + 1e-9, "{server}, {line}: measured {median}");
            }
        }
    }
}
