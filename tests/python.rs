//! Every server over every kind of address, as Python's `socket` sees the example `echo`. Where there is no `python3`, this is
//! skipped: the conformance suite tests the same cells without it.

#[path = "support/example.rs"]
mod example;

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn plain_sockets_get_back_what_they_sent_in_every_cell() {
    if !has_python() {
        println!("skipped: there is no python3 here");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/echo_cells.py");
    let output = Command::new("python3").arg(script).arg(example::path("echo")).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    print!("{stdout}");
    assert!(output.status.success(), "{}: {stderr}", output.status);
}

/// Whether `python3` is a program that runs, and new enough for the script.
fn has_python() -> bool {
    let asks = "import sys; sys.exit(sys.version_info < (3, 8))";
    let python = Command::new("python3").args(["-c", asks]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    python.is_ok_and(|status| status.success())
}
