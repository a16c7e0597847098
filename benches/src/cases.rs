//! The standard cases: what servers do most, and where the backends differ.

use std::hint::black_box;
use std::io::{self, BufRead, Read, Write};
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use socketserver::Request;
use socketserver_comparison::{Case, Messages, Transport, Workload};

/// In the order in which they are measured and told.
pub fn all() -> Vec<Case> {
    let echo = |name: &str, bytes| Case::new(name, echo, Messages::echo(bytes)).transports(Transport::ALL).nodelay();
    let working = |name: &str, work: fn(&mut Request) -> io::Result<()>| {
        let case = Case::new(name, move |request: &mut Request| each(request, work), Messages::echo(SMALL));
        case.without_rivals("it only echoes").connections([10, 100]).quick([10])
    };
    vec![
        echo("echo 64 B", SMALL).connections(UP_TO_TEN_THOUSAND).quick([1, 100, 1000]),
        echo("echo 4 KiB", 4096).connections(UP_TO_TEN_THOUSAND).quick([]),
        echo("echo 64 KiB", 64 * 1024).connections(UP_TO_TEN_THOUSAND).quick([]),
        // Of several writes each, whose echo is read meanwhile.
        echo("echo 1 MiB", 1024 * 1024).connections([10]).only_if_named(),
        echo("echo 64 B at 10,000/s", SMALL)
            .workload(Workload::OpenLoop { per_second: 10_000.0 })
            // As many as the forking-style server has workers.
            .connections([40]),
        echo("connect, echo 64 B, close", SMALL)
            .workload(Workload::Reconnect)
            .transports(CONNECTED)
            .connections([1, 10])
            .quick([10]),
        echo("echo 64 B beside a flood", SMALL)
            .workload(Workload::Flood)
            .transports([Transport::Tcp])
            .connections([10]),
        echo("idle", SMALL).workload(Workload::Idle).transports(CONNECTED).connections([1000, 10_000]).quick([1000]),
        working("compute 100 µs", |_| compute(Duration::from_micros(100))),
        working("wait 10 ms", |request| request.sleep(Duration::from_millis(10))).connections([10, 100, 1000]),
        working("block for 1 ms", |_| {
            thread::sleep(BLOCKED);
            Ok(())
        }),
        working("block for 1 ms in offload", |request| request.offload(|| thread::sleep(BLOCKED))),
    ]
}

const SMALL: usize = 64;

const BLOCKED: Duration = Duration::from_millis(1);

const UP_TO_TEN_THOUSAND: [usize; 5] = [1, 10, 100, 1000, 10_000];

/// What has connections that are made and closed.
const CONNECTED: [Transport; 2] = [Transport::Tcp, Transport::Unix];

fn echo(request: &mut Request) -> io::Result<()> {
    let (mut rfile, mut wfile) = request.split();
    loop {
        let bytes = rfile.fill_buf()?;
        wfile.write_all(bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let count = bytes.len();
        rfile.consume(count);
    }
}

/// Works for each message of [`SMALL`] bytes, and then echoes it.
fn each(request: &mut Request, work: impl Fn(&mut Request) -> io::Result<()>) -> io::Result<()> {
    let mut message = [0; SMALL];
    while !request.fill_buf()?.is_empty() {
        request.read_exact(&mut message)?;
        work(request)?;
        request.write_all(&message)?;
    }
    Ok(())
}

/// Uses this much of the thread's CPU time, whatever else runs on its core. The clock is asked once in some microseconds, so that
/// most of the time goes into computing and not into the kernel.
fn compute(time: Duration) -> io::Result<()> {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let start = now()?;
    let mut number = 1_u64;
    while now()? - start < time {
        for _ in 0..2000 {
            number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    Ok(())
}
