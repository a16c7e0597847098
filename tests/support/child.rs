//! Processes of their own, for tests that change or measure what belongs to the whole process.

use std::env;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

/// Set in a child process.
const CHILD: &str = "SOCKETSERVER_TEST_CHILD";

/// A child does not begin at once on a busy machine, and waits with patience itself.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs `body` in a process of its own, in which nothing else runs: this test program again, for the calling test alone. `body`
/// must be a closure that is written in the test's function, since that is what the test is found by.
#[track_caller]
pub fn in_child<F: FnOnce()>(body: F) {
    in_child_for(PATIENCE, body);
}

/// As [`in_child`], for a test that may take longer.
#[track_caller]
pub fn in_child_for<F: FnOnce()>(patience: Duration, body: F) {
    let Some(output) = run_child(patience, body) else { return };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let passed = output.status.success() && out.contains("1 passed");
    assert!(passed, "the child process ended with {}\n{out}\n{err}", output.status);
}

/// As [`in_child`], but however the child ends: that is returned in the parent, and `None` in the child.
#[track_caller]
pub fn end_of_child<F: FnOnce()>(body: F) -> Option<Output> {
    run_child(PATIENCE, body)
}

#[track_caller]
fn run_child<F: FnOnce()>(patience: Duration, body: F) -> Option<Output> {
    let name = std::any::type_name::<F>();
    let test = name.split_once("::").and_then(|(_, path)| path.split_once("::{{")).expect("a closure of a test").0;
    if env::var_os(CHILD).is_some() {
        body();
        return None;
    }
    let mut command = Command::new(env::current_exe().expect("a path to this program"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    let (give, result) = bounded(1);
    thread::spawn(move || give.send(command.output()));
    Some(result.recv_timeout(patience).expect("the child process ends").expect("the child process starts"))
}

/// Keeps the log lines of this process from now on.
pub fn keep_log() {
    keep_log_from(log::LevelFilter::Warn);
}

/// As [`keep_log`], with lines of lower levels than `warn`.
pub fn keep_log_from(level: log::LevelFilter) {
    log::set_logger(&KEPT).expect("no other logger");
    log::set_max_level(level);
}

/// The lines kept that contain `text`.
pub fn kept_lines(text: &str) -> Vec<String> {
    KEPT.lines.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
}

struct KeptLog {
    lines: Mutex<Vec<String>>,
}

static KEPT: KeptLog = KeptLog { lines: Mutex::new(Vec::new()) };

impl log::Log for KeptLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.lines.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}
