//! Runs the example as its user would.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socketserver_comparison::results::{Outcome, Results};

/// Built by `cargo test` beside the tests.
fn example() -> Command {
    let test = std::env::current_exe().expect("a test has an executable");
    let target = test.ancestors().nth(2).expect("a test is two directories below its profile's");
    Command::new(target.join("examples/word_count"))
}

fn run(arguments: &[&str], out: &Path) -> Output {
    example().args(arguments).arg("--out").arg(out).output().expect("the example is built")
}

fn results(out: &Path) -> Results {
    let file = File::open(out.join("results.json")).expect("results are written");
    serde_json::from_reader(file).expect("results can be read back")
}

const TINY: [&str; 6] = ["--rounds", "1", "--seconds", "0.05", "--warmup", "0.01"];

#[test]
fn a_tiny_comparison_is_kept_and_has_no_errors() {
    let out = tempfile::tempdir().expect("a directory");
    let selected =
        ["--server", "threading", "--server", "event-loop x2", "--case", "count words", "--connections", "3"];
    let output = run(&[&selected[..], &TINY].concat(), out.path());
    assert!(output.status.success(), "{output:?}");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("event-loop x2") && report.contains("count words"), "{report}");

    let results = results(out.path());
    assert!(results.complete);
    assert_eq!(results.cells.len(), 4, "two servers on two transports");
    for cell in &results.cells {
        assert!(cell.is_clean(), "{cell:?}");
        let [sample] = cell.samples() else { panic!("one round: {cell:?}") };
        assert!(sample.per_second > 0.0 && sample.cpu_ns > 0.0 && sample.latency.p50 > 0.0, "{sample:?}");
        assert!(sample.resident > 0 && sample.threads > 1, "{sample:?}");
    }
    assert!(out.path().join("results.csv").is_file());
}

#[test]
fn a_cell_that_cannot_be_served_says_why() {
    let out = tempfile::tempdir().expect("a directory");
    let selected = ["--server", "sequential", "--case", "at 5,000/s", "--connections", "1,2"];
    let output = run(&[&selected[..], &TINY].concat(), out.path());
    assert!(output.status.success(), "{output:?}");
    let cells = results(out.path()).cells;
    assert!(matches!(&cells[0].outcome, Outcome::Measured(samples) if samples.len() == 1), "{:?}", cells[0]);
    assert!(
        matches!(&cells[1].outcome, Outcome::Unable(reason) if reason.contains("one connection")),
        "{:?}",
        cells[1]
    );
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let out = tempfile::tempdir().expect("a directory");
    let selected = ["--server", "event-loop", "--case", "at 5,000/s", "--rounds", "1", "--seconds", "0.3"];
    assert!(run(&selected, out.path()).status.success());
    let results = results(out.path());
    let rate = results.cells[0].samples()[0].per_second;
    assert!((4500.0..5500.0).contains(&rate), "{rate}");
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    let out = tempfile::tempdir().expect("a directory");
    let selected =
        ["--server", "threading", "--case", "count words", "--connections", "1,2,3,4,5,6,7,8,9", "--rounds", "1"];
    let child = example()
        .args(selected)
        .args(["--seconds", "0.2", "--out"])
        .arg(out.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example is built");
    wait_for(&out.path().join("results.json"));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it still runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"), "{output:?}");

    let results = results(out.path());
    assert!(!results.complete);
    assert!((1..18).contains(&results.cells.len()), "{}", results.cells.len());
    assert!(results.cells.iter().all(|cell| cell.is_clean() && cell.samples().len() == 1));
}

/// Until the first group is kept.
fn wait_for(path: &PathBuf) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fs::exists(path).expect("the directory can be read") {
        assert!(Instant::now() < deadline, "nothing was kept");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn two_runs_can_be_compared_and_one_drawn_again() {
    let out = tempfile::tempdir().expect("a directory");
    let selected = ["--server", "threading", "--server", "event-loop", "--case", "at 5,000/s", "--connections", "2"];
    assert!(run(&[&selected[..], &TINY].concat(), out.path()).status.success());
    let json = out.path().join("results.json");

    let again = tempfile::tempdir().expect("a directory");
    let drawn = example().arg("draw").arg(&json).arg("--out").arg(again.path()).output().expect("the example is built");
    assert!(drawn.status.success(), "{drawn:?}");
    assert!(again.path().join("results.csv").is_file());

    let readme = example().arg("readme").arg(&json).output().expect("the example is built");
    assert!(readme.status.success() && !readme.stdout.is_empty(), "{readme:?}");

    let agreed = example().arg("agree").args([&json, &json]).output().expect("the example is built");
    assert!(agreed.status.success(), "{agreed:?}");
    assert!(String::from_utf8_lossy(&agreed.stdout).contains("the largest difference is 0.0 %"), "{agreed:?}");
}
