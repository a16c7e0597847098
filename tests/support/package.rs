//! The packages in `tests/`, which use this crate as any other would.

use std::path::Path;
use std::process::{Command, ExitStatus};

/// Runs cargo on the package in `tests/NAME`. Returns how it ended, and its output and error output.
pub fn cargo(name: &str, arguments: &[&str]) -> (ExitStatus, [String; 2]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).arg("--manifest-path");
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name).join("Cargo.toml"));
    // A folder of its own: the one of this build may be locked by whoever runs this test.
    cargo.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    // Cargo's settings for this package do not concern that one.
    cargo.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH").env_remove("CARGO_PKG_NAME");
    let output = cargo.output().unwrap_or_else(|error| panic!("cannot start {cargo:?}: {error}"));
    (output.status, [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
