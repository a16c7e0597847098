//! The package in `tests/downstream/`, which uses this crate as any other would: its own tests must pass.

#[path = "support/package.rs"]
mod package;

#[test]
fn a_crate_that_depends_on_this_one_builds_and_passes_its_tests() {
    let (status, [stdout, stderr]) = package::cargo("downstream", &["test"]);
    assert!(status.success(), "{status}\n{stderr}\n{stdout}");
}
