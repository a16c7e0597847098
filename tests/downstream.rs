//! The package in `tests/downstream/`, which uses this crate as any other would: its own tests must pass.

use std::path::Path;
use std::process::Command;

#[test]
fn a_crate_that_depends_on_this_one_builds_and_passes_its_tests() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/downstream");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg("test").arg("--manifest-path").arg(package.join("Cargo.toml"));
    // A folder of its own: the one of this build may be locked by whoever runs this test.
    cargo.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("downstream"));
    // Cargo's settings for this package do not concern that one.
    cargo.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH").env_remove("CARGO_PKG_NAME");

    let output = cargo.output().unwrap_or_else(|error| panic!("cannot start {cargo:?}: {error}"));
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{cargo:?}: {}\n{stderr}\n{stdout}", output.status);
}
