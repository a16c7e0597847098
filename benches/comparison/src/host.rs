//! The facts of the machine.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use chrono::Utc;
use nix::sys::utsname::uname;

use crate::open_files::OpenFiles;
use crate::results::Host;

impl Host {
    /// Asks the system. `cores` and `files` are told, since the process may have changed them.
    pub(crate) fn here(cores: usize, files: OpenFiles) -> Result<Self> {
        let system = uname().context("asking for the kernel's name")?;
        let part = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        Ok(Self {
            date: Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
            kernel: format!(
                "{} {} {}",
                part(system.sysname()),
                version(&part(system.release())),
                part(system.machine())
            ),
            processor: first_line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores,
            memory_bytes: memory().unwrap_or(0),
            open_files: files.limit,
            versions: BTreeMap::from([
                ("socketserver".to_owned(), env!("SOCKETSERVER_VERSION").to_owned()),
                ("rustc".to_owned(), env!("RUSTC_VERSION").to_owned()),
                ("profile".to_owned(), if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
            ]),
        })
    }
}

/// Without what its builder has added, which tells more of whose machine it is than of how fast.
fn version(release: &str) -> &str {
    release.split('-').next().unwrap_or(release)
}

fn memory() -> Option<u64> {
    let kib: u64 = first_line_of("/proc/meminfo", "MemTotal")?.strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// What is behind the colon of the first line that starts with `name`.
fn first_line_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
