//! Every standard case is served by every server that can, without an error.

use std::fs::File;
use std::process::Command;

use socketserver_comparison::results::{Outcome, Results};

/// Runs the comparison for a moment, and reads back what it has kept.
fn compare(arguments: &str) -> Results {
    let out = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(arguments.split(' '))
        .args(["--rounds", "1", "--seconds", "0.05", "--warmup", "0.01", "--out"])
        .arg(out.path())
        .output()
        .expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    let file = File::open(out.path().join("results.json")).expect("results are written");
    serde_json::from_reader(file).expect("results can be read back")
}

fn measured(results: &Results) -> usize {
    let is_measured = |outcome: &Outcome| matches!(outcome, Outcome::Measured(samples) if samples.len() == 1);
    results.cells.iter().filter(|cell| is_measured(&cell.outcome)).count()
}

#[test]
fn all_backends_serve_all_cases() {
    let servers = "--server threading --server forking-style --server event-loop";
    let results = compare(&format!("{servers} --connections 2"));
    assert_eq!(results.cells.len() % 3, 0);
    // No datagram of 64 KiB, and that is all.
    assert_eq!(measured(&results), results.cells.len() - 3);
    let datagrams = results.cells.iter().filter(|cell| cell.transport == "udp").count();
    assert_eq!(datagrams, 4 * 3, "three sizes, and one at a rate");
}

#[test]
fn rivals_echo() {
    let servers = "--server raw-epoll --server tokio --server tokio-multi --server may --server std-threads";
    // Not the flood: may has no end of turn, so that who floods may starve the others.
    let results = compare(&format!("{servers} --connections 2 --case KiB --case /s --case close"));
    assert!(measured(&results) > 20, "{}", measured(&results));
}

#[test]
fn python_echoes_where_there_is_one() {
    let results = compare("--server cpython-threading --server gevent --connections 2 --case 64");
    for cell in &results.cells {
        match &cell.outcome {
            Outcome::Measured(_) => {}
            Outcome::Unable(reason) => assert!(!reason.is_empty()),
            Outcome::Failed(error) => panic!("{}: {error}", cell.server),
        }
    }
}
