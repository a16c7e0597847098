//! The figures in the project's README are those of the committed runs.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What `compare readme` prints for these arguments stands in the README, word for word.
fn is_in_readme(arguments: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .current_dir(&root)
        .arg("readme")
        .args(arguments)
        .output()
        .expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    let section = String::from_utf8(output.stdout).expect("text");
    let readme = fs::read_to_string(root.join("README.md")).expect("there is a README");
    assert!(readme.contains(&section), "the README does not say this:\n\n{section}");
}

#[test]
fn the_readme_tells_what_was_measured_of_the_backends() {
    is_in_readme(&["benches/results/backends/results.json"]);
}

#[test]
fn the_readme_tells_what_was_measured_beside_others() {
    is_in_readme(&["benches/results/rivals/results.json", "--charts", "cpu,memory"]);
}
