//! The scripts of `tests/python/`, which use nothing but Python's standard library.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a script, which must succeed. Where there is no `python3`, it is skipped, and this is false.
#[track_caller]
pub fn run(name: &str, arguments: &[&str]) -> bool {
    if !has_python() {
        println!("skipped: there is no python3 here");
        return false;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name);
    let output =
        Command::new("python3").arg(script).args(arguments).stdin(Stdio::null()).output().expect("python3 runs");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    print!("{stdout}");
    assert!(output.status.success(), "{name} {arguments:?}: {}\n{stderr}", output.status);
    true
}

/// Whether `python3` is a program that runs, and new enough for the scripts.
fn has_python() -> bool {
    let asks = "import sys; sys.exit(sys.version_info < (3, 8))";
    let python = Command::new("python3").args(["-c", asks]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    python.is_ok_and(|status| status.success())
}
