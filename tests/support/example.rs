//! Where cargo has built the examples.

use std::env;
use std::path::PathBuf;

/// The program of the example `name`, which cargo builds before it runs the integration tests.
pub fn path(name: &str) -> PathBuf {
    // This test is target/PROFILE/deps/NAME-HASH; the examples are in target/PROFILE/examples.
    let test = env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a test in a folder of a folder");
    let path = profile.join("examples").join(name);
    assert!(path.is_file(), "there is no {}: build it with `cargo build --example {name}`", path.display());
    path
}
