//! The program in `tests/panic_abort/`, whose panics abort: what the event loop does there must not need any unwinding.

use std::path::Path;
use std::process::{Command, Output};

/// Builds and runs it, and returns how it ended and what it printed.
fn run(profile: &str) -> Output {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/panic_abort");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--profile", profile, "--manifest-path"]).arg(package.join("Cargo.toml"));
    // A folder of its own: the one of this build may be locked by whoever runs this test.
    cargo.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic_abort"));
    // Cargo's settings for this package do not concern that one.
    cargo.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH").env_remove("CARGO_PKG_NAME");
    cargo.output().unwrap_or_else(|error| panic!("cannot start {cargo:?}: {error}"))
}

#[test]
fn the_event_loop_needs_no_unwinding() {
    for profile in ["dev", "release"] {
        let output = run(profile);
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success() && stdout == "done\n", "{}\n{stdout}\n{stderr}", output.status);
    }
}
