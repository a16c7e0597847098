//! Results that nobody measured, for the tests of what is made of them.

use std::collections::BTreeMap;

use crate::results::{Cell, Host, Latency, Method, Outcome, Results, Sample, Workload};

/// Two servers, one case, one number of connections.
pub fn minimal() -> Results {
    let mut cells = Vec::new();
    for (server, cpu_ns) in [("threading", 50_000.0), ("event-loop", 25_000.0)] {
        let outcome = Outcome::Measured(rounds([0.9, 1.0, 1.1], cpu_ns, 200.0));
        cells.push(cell("count words", Workload::ClosedLoop, "tcp", 10, server, outcome));
    }
    results("word count", cells)
}

/// What a full run has, with all rivals.
pub fn standard() -> Results {
    let mut cells = Vec::new();
    let counts = [1, 10, 100, 1_000, 10_000];
    for (case, own_ns) in [("echo 64 B", 0.0), ("echo 4 KiB", 1_500.0), ("echo 64 KiB", 22_000.0)] {
        for transport in ["tcp", "udp", "unix"] {
            // A datagram of 64 KiB does not exist.
            if (case, transport) == ("echo 64 KiB", "udp") {
                continue;
            }
            for connections in counts {
                servers(&mut cells, case, Workload::ClosedLoop, transport, connections, own_ns);
            }
        }
    }
    servers(&mut cells, "open loop", Workload::OpenLoop { per_second: 20_000.0 }, "tcp", 100, 0.0);
    for transport in ["tcp", "unix"] {
        servers(&mut cells, "churn", Workload::Reconnect, transport, 10, 30_000.0);
        servers(&mut cells, "idle", Workload::Idle, transport, 10_000, 0.0);
    }
    for (case, own_ns) in
        [("compute 100 µs", 100_000.0), ("wait 10 ms", 4_000.0), ("block", 3_000.0), ("block, offload", 9_000.0)]
    {
        for connections in [10, 100, 1_000] {
            servers(&mut cells, case, Workload::ClosedLoop, "tcp", connections, own_ns);
        }
    }
    results("socketserver", cells)
}

pub fn results(title: &str, cells: Vec<Cell>) -> Results {
    Results {
        title: title.to_owned(),
        command: "cargo run --release --bin compare -- --rivals".to_owned(),
        host: Host {
            date: "2026-11-21 12:00 UTC".to_owned(),
            kernel: "Linux 6.18.5 x86_64".to_owned(),
            processor: "Example Processor 9000 @ 2.50GHz".to_owned(),
            cores: 2,
            memory_bytes: 8 << 30,
            open_files: 65_536,
            versions: BTreeMap::from([
                ("rustc".to_owned(), "1.90.0".to_owned()),
                ("socketserver".to_owned(), "0.1.0".to_owned()),
            ]),
        },
        method: Method { rounds: 3, warmup_seconds: 0.5, window_seconds: 2.0, server_core: 0, load_core: 1 },
        complete: true,
        cells,
    }
}

pub fn cell(
    case: &str,
    workload: Workload,
    transport: &str,
    connections: usize,
    server: &str,
    outcome: Outcome,
) -> Cell {
    let (case, transport, server) = (case.to_owned(), transport.to_owned(), server.to_owned());
    Cell { case, workload, transport, connections, server, outcome }
}

/// The samples of a cell that was measured.
pub fn samples(cell: &mut Cell) -> &mut Vec<Sample> {
    match &mut cell.outcome {
        Outcome::Measured(samples) => samples,
        Outcome::Unable(_) | Outcome::Failed(_) => panic!("{} was not measured", cell.server),
    }
}

/// A name, what an exchange costs in nanoseconds, how much a crowd adds to it, what a connection takes in bytes, and up
/// to how many connections it serves.
const SERVERS: [(&str, f64, f64, f64, usize); 12] = [
    ("sequential", 6_000.0, 0.0, 300.0, 1),
    ("threading", 7_500.0, 0.25, 12_800.0, 100_000),
    ("forking", 7_900.0, 0.3, 190_000.0, 40),
    ("event-loop", 5_100.0, 0.08, 2_900.0, 100_000),
    ("event-loop-cores", 5_600.0, 0.09, 3_000.0, 100_000),
    ("raw-epoll", 4_600.0, 0.07, 180.0, 100_000),
    ("tokio", 5_900.0, 0.1, 1_500.0, 100_000),
    ("tokio-one-thread", 5_500.0, 0.1, 1_400.0, 100_000),
    ("may", 6_100.0, 0.12, 5_100.0, 100_000),
    ("std-threads", 7_300.0, 0.25, 12_300.0, 100_000),
    ("python-threading", 38_000.0, 0.5, 31_000.0, 5_000),
    ("python-gevent", 45_000.0, 0.1, 9_800.0, 100_000),
];

fn servers(cells: &mut Vec<Cell>, case: &str, workload: Workload, transport: &str, connections: usize, own_ns: f64) {
    for (server, cost, crowd, memory, most) in SERVERS {
        let outcome = match (server, workload == Workload::Idle) {
            ("sequential", _) if connections > most => Outcome::Unable("one connection at a time".to_owned()),
            ("forking", _) if connections > most => Outcome::Unable("40 children at most".to_owned()),
            ("python-threading", _) if connections > most => Outcome::Failed("connection 5,012 refused".to_owned()),
            (_, true) => Outcome::Measured(idle(connections, memory)),
            (_, false) => {
                let cheaper = if transport == "unix" { 0.7 } else { 1.0 };
                let cpu_ns = (cost * cheaper + own_ns) * (1.0 + crowd * (connections as f64).log10());
                // One of them is disturbed, so that there is a spread to see.
                let steadiness = if server == "may" { [0.75, 1.0, 1.3] } else { [0.97, 1.0, 1.04] };
                let waits = if case.starts_with("wait") { 10_000.0 } else { 0.0 };
                Outcome::Measured(match workload {
                    Workload::OpenLoop { per_second } => due(per_second, cpu_ns),
                    _ => rounds(steadiness, cpu_ns, connections as f64 * cpu_ns / 1000.0 + 12.0 + waits),
                })
            }
        };
        cells.push(cell(case, workload.clone(), transport, connections, server, outcome));
    }
}

/// Samples of a server that is busy all the time: each round is slower or faster than the median by its factor.
fn rounds<const ROUNDS: usize>(factors: [f64; ROUNDS], cpu_ns: f64, p50: f64) -> Vec<Sample> {
    let sample = |factor: f64| Sample {
        per_second: 1e9 / cpu_ns * factor,
        latency: Latency { p50, p99: p50 * 1.6 / factor, p999: p50 * 3.0 / factor, max: p50 * 9.0 / factor },
        cpu_ns: cpu_ns / factor,
        voluntary_switches: 1.02,
        resident: 6 << 20,
        threads: 11,
        server_busy: 1.0,
        load_busy: 0.7,
        ..Sample::default()
    };
    factors.map(sample).to_vec()
}

fn due(per_second: f64, cpu_ns: f64) -> Vec<Sample> {
    let p50 = cpu_ns / 1000.0 * 4.0;
    let mut samples = rounds([0.97, 1.0, 1.04], cpu_ns, p50);
    for sample in &mut samples {
        sample.per_second = per_second.min(sample.per_second);
    }
    samples
}

fn idle(connections: usize, memory: f64) -> Vec<Sample> {
    let sample = |factor: f64| Sample {
        resident: (memory * factor * connections as f64) as u64 + (3 << 20),
        resident_per_connection: memory * factor,
        threads: 3,
        ..Sample::default()
    };
    [0.99, 1.0, 1.01].map(sample).to_vec()
}
