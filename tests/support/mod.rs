//! What the test programs share: the cells, running servers, clients, records of calls, and processes of their own.
//!
//! Every wait in here has an end: after [`PATIENCE`] it panics and says what did not happen.
// Each test program uses a part of this.
#![allow(dead_code)]

pub mod cell;
pub mod child;
pub mod client;
pub mod descriptors;
pub mod gate;
pub mod opened;
pub mod random;
pub mod record;
pub mod running;

use std::io::{self, BufRead, Write};
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use socketserver::Request;

/// How long a test waits for what should happen at once. A busy machine may take seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The handler of most tests: sends back what comes, until the end.
pub fn echo(request: &mut Request) -> io::Result<()> {
    let (mut rfile, mut wfile) = request.split();
    loop {
        let bytes = rfile.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        wfile.write_all(bytes)?;
        let count = bytes.len();
        rfile.consume(count);
    }
}

/// Runs what might hang on a thread, and returns its result.
pub fn within<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (give, result) = bounded(1);
    let thread = thread::spawn(move || {
        let _ = give.send(call());
    });
    let result = result.recv_timeout(PATIENCE);
    assert_ne!(result.as_ref().err(), Some(&RecvTimeoutError::Timeout), "{what} took longer than {PATIENCE:?}");
    match (result, thread.join()) {
        (Ok(value), _) => value,
        (Err(_), Err(panic)) => resume_unwind(panic),
        (Err(_), Ok(())) => unreachable!("it has sent its result"),
    }
}

/// Receives what some thread is about to send.
#[track_caller]
pub fn receive<T>(what: &str, from: &Receiver<T>) -> T {
    match from.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(error) => panic!("waiting for {what}: {error}"),
    }
}

/// Waits for what no event tells, by looking again and again.
#[track_caller]
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not come true within {PATIENCE:?}");
        thread::yield_now();
    }
}

/// Checks that something was cut at its deadline: not before 0.8 of it, and not much later. How much later is a question of
/// the machine.
#[track_caller]
pub fn assert_cut_at(deadline: Duration, taken: Duration) {
    assert!(taken >= deadline.mul_f64(0.8), "cut after {taken:?}, long before the deadline of {deadline:?}");
    assert!(taken <= deadline * 10, "cut after {taken:?}, long after the deadline of {deadline:?}");
}
