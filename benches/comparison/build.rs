//! Tells the versions that stand with every result: of the compiler, and of socketserver.

use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=../../Cargo.toml");
    println!("cargo:rustc-env=RUSTC_VERSION={}", rustc().unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo:rustc-env=SOCKETSERVER_VERSION={}", socketserver().unwrap_or_else(|| "unknown".to_owned()));
}

/// `1.95.0` of `rustc 1.95.0 (59807616e 2026-04-14)`.
fn rustc() -> Option<String> {
    let output = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.split_whitespace().nth(1)?.to_owned())
}

/// The first version in its manifest is that of the package.
fn socketserver() -> Option<String> {
    let manifest = fs::read_to_string("../../Cargo.toml").ok()?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(line.trim_matches('"').to_owned())
}
