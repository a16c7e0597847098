//! What a run measured, as it is kept: written as JSON, read back to draw the charts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spread::Spread;

/// One run of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// What was compared, as its author named it.
    pub title: String,
    /// The command line that started the run.
    pub command: String,
    /// Where it ran.
    pub host: Host,
    /// How it was measured.
    pub method: Method,
    /// Whether every planned cell was measured; a run that was interrupted keeps those that were.
    pub complete: bool,
    /// In the order in which they were planned: by case, then transport, then connections, then server.
    pub cells: Vec<Cell>,
}

/// The facts that a number depends on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    /// When the run began: `2026-11-21 12:00 UTC`.
    pub date: String,
    /// As the kernel names it: `Linux 6.18.5 x86_64`.
    pub kernel: String,
    /// As the processor names itself, if the kernel tells.
    pub processor: String,
    /// Usable by the process that started the run.
    pub cores: usize,
    /// Of the whole machine; zero where the kernel does not tell.
    pub memory_bytes: u64,
    /// The soft limit on open files, after it was raised as far as allowed.
    pub open_files: u64,
    /// Of socketserver, and of the compiler that built it.
    pub versions: BTreeMap<String, String>,
}

/// How the numbers were taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Method {
    /// How often each cell was measured.
    pub rounds: usize,
    /// The load before each window.
    pub warmup_seconds: f64,
    /// What was measured in each round, in slices: the servers take turns.
    pub window_seconds: f64,
    /// The core of every server.
    pub server_core: usize,
    /// The core of the load; the same one where there is no other.
    pub load_core: usize,
}

/// One server under one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// As its author named it: `echo 64 B`.
    pub case: String,
    /// What the load did.
    pub workload: Workload,
    /// `tcp`, `udp` or `unix`.
    pub transport: String,
    /// How many are open at a time.
    pub connections: usize,
    /// `threading`, or a rival's name.
    pub server: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What the load does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Each connection sends a request, waits for the whole reply, then sends the next.
    ClosedLoop,
    /// Requests are due at a fixed rate, whatever becomes of those before; latency counts from when a request was due.
    OpenLoop {
        /// Over all connections, which take turns.
        per_second: f64,
    },
    /// Connect, one exchange, close; then the next.
    Reconnect,
    /// A closed loop, and beside it one more connection that sends without waiting.
    Flood,
    /// One exchange on each connection, which then stays open.
    Idle,
}

/// What came of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// One sample for each round.
    Measured(Vec<Sample>),
    /// The server has no way to serve this load; the text says why.
    Unable(String),
    /// It was tried, and ended with this error.
    Failed(String),
}

/// What one server did in one round. What a workload does not measure is zero.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Exchanges per second.
    pub per_second: f64,
    /// Of the exchanges.
    pub latency: Latency,
    /// CPU time of the server's process per exchange, in nanoseconds.
    pub cpu_ns: f64,
    /// Context switches per exchange in which a thread of the server went to wait.
    pub voluntary_switches: f64,
    /// Those that were forced on it.
    pub involuntary_switches: f64,
    /// Of the server's process, with all connections open, in bytes.
    pub resident: u64,
    /// How much of it came with each connection, in bytes.
    pub resident_per_connection: f64,
    /// The page tables that came with each connection, in bytes: kernel memory, which is not in the resident.
    #[serde(default)]
    pub page_tables_per_connection: f64,
    /// Of the server's process, at the end of the window.
    pub threads: u64,
    /// The part of the window in which the server used its core: 1 is all of it.
    pub server_busy: f64,
    /// The same of the load. Zero in an open loop, where it keeps its core busy to be in time.
    pub load_busy: f64,
    /// Datagrams that were sent again, or given up.
    pub lost: u64,
    /// Of the connection that floods, in bytes per second that came back.
    #[serde(default)]
    pub flooded: f64,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
}

/// Of one round, in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// What 99 % were not above.
    pub p99: f64,
    /// What 99.9 % were not above.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Cell {
    /// The samples, if there are any.
    pub fn samples(&self) -> &[Sample] {
        match &self.outcome {
            Outcome::Measured(samples) => samples,
            Outcome::Unable(_) | Outcome::Failed(_) => &[],
        }
    }

    /// The median of a number over the rounds, with its extremes.
    pub fn spread(&self, of: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples().iter().map(of))
    }

    /// Whether no round had an error.
    pub fn is_clean(&self) -> bool {
        self.samples().iter().all(|sample| sample.errors.is_empty())
    }
}
