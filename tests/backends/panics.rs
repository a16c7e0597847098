//! Panics of every kind: each ends one request, and is counted.

use std::error::Error;
use std::fmt;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::panic::panic_any;
use std::time::Duration;

use log::LevelFilter;
use socketserver::{Failure, Hooks, Incoming, Request, RequestHandler};

use crate::support::cell::Cell;
use crate::support::child::{in_child, keep_log, keep_log_from, kept_lines};
use crate::support::client::Client;
use crate::support::running::{Running, close};
use crate::support::{echo, within};

/// Whose destructor panics, too.
struct Worse;

impl Drop for Worse {
    fn drop(&mut self) {
        panic!("a worse panic, as the test wants");
    }
}

/// Panics in one way or another, as the client's byte says; the last three from its destructor.
#[derive(Default)]
struct Panics {
    way: u8,
}

impl RequestHandler for Panics {
    fn handle(&mut self, request: &mut Request) -> io::Result<()> {
        let mut way = [0];
        request.read_exact(&mut way)?;
        self.way = way[0];
        if self.way < 5 {
            self.panic();
        }
        Ok(())
    }
}

impl Panics {
    fn panic(&self) {
        match self.way {
            0 | 5 => panic!("text, as the test wants"),
            1 | 6 => panic!("text with a {} in it, as the test wants", "value"),
            2 | 7 => panic_any(17),
            3 => panic_any(Worse),
            4 => panic_any(Box::new(Worse)),
            _ => {}
        }
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if self.way >= 5 {
            self.panic();
        }
    }
}

pub fn two_hundred_panics_end_two_hundred_requests(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, Panics::default));
    for number in 0..200 {
        assert_eq!(Client::connect(&running.addr).ask(&[number % 8]), b"");
    }
    assert_eq!(Client::connect(&running.addr).ask(&[8]), b"");
    let stats = running.finish();
    assert_eq!((stats.panicked, stats.failed, stats.completed), (200, 200, 1));
}

/// A `BufWriter` sends what it holds when a panic drops it, to a peer that does not read. No process aborts, and nobody waits
/// for longer than the write may take.
pub fn unsent_bytes_of_a_panicking_handler_hold_up_nobody(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let mut message = [0; 5];
        request.read_exact(&mut message)?;
        if &message != b"panic" {
            return request.write_all(&message);
        }
        request.set_write_timeout(Some(Duration::from_millis(50)));
        // Now the system holds as much as it will.
        let _ = request.write_all(&vec![0; 64 << 20]);
        let mut writer = BufWriter::new(request);
        writer.write_all(b"unsent")?;
        panic!("as the test wants");
    }));
    let doomed = [(); 3].map(|()| Client::sending(&running.addr, b"panic"));
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    let stats = running.finish();
    assert_eq!((stats.panicked, stats.completed), (3, 1));
    drop(doomed);
}

/// An error that panics when it is printed, and when it is dropped.
#[derive(Debug)]
struct Bomb;

impl Error for Bomb {}

impl fmt::Display for Bomb {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("printed, as the test wants");
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped, as the test wants");
    }
}

/// More than any pool has threads.
pub fn fifty_errors_that_panic_end_fifty_requests(cell: Cell) {
    let place = cell.place();
    let handler = |_: &mut Request| -> io::Result<()> { Err(io::Error::other(Bomb)) };
    let running = Running::start(cell.bind(&place, handler));
    for _ in 0..50 {
        assert_eq!(Client::connect(&running.addr).read_all(), b"");
    }
    assert_eq!(running.finish().failed, 50);
}

/// Turns everybody away, by an error, and prints that.
struct TurnsAway;

impl Hooks for TurnsAway {
    fn verify_request(&self, _: &Incoming) -> io::Result<bool> {
        Err(io::Error::other(Bomb))
    }

    fn handle_error(&self, failure: &Failure<'_>) {
        failure.to_string();
    }
}

pub fn an_error_of_a_hook_that_panics_turns_one_away(cell: Cell) {
    let place = cell.place();
    let mut server = cell.bind(&place, |_: &mut Request| Ok(())).hooks(TurnsAway);
    for _ in 0..3 {
        let mut client = Client::connect(server.local_addr());
        server = within("one request", move || server.handle_request().map(|_| server)).unwrap();
        assert_eq!(client.read_all(), b"");
    }
    assert_eq!(close(server).rejected, 3);
}

/// Panics where nothing is asked of it.
struct Restless;

impl Hooks for Restless {
    fn handle_timeout(&self) {
        panic!("in time, as the test wants");
    }

    fn service_actions(&self) {
        panic!("in each turn, as the test wants");
    }
}

pub fn a_hook_that_panics_is_told_and_does_no_harm(cell: Cell) {
    keep_log();
    let place = cell.place();
    let mut server = cell.bind(&place, echo).hooks(Restless).timeout(Some(Duration::ZERO));
    assert!(!server.handle_request().expect("it can wait"));
    assert_eq!(kept_lines(""), ["ERROR the hook handle_timeout panicked: in time, as the test wants"]);
    let running = Running::start(server);
    for _ in 0..2 {
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    }
    assert_eq!(running.finish().completed, 2);
    let told = kept_lines("ERROR the hook service_actions panicked: in each turn, as the test wants").len();
    assert!(told >= 1 && told + 1 == kept_lines("").len(), "{:?}", kept_lines(""));
}

/// Trouble that a peer can make is not told as loudly as the handler's own.
#[test]
fn each_failure_has_its_level() {
    in_child(|| {
        keep_log_from(LevelFilter::Debug);
        let cases = [
            (ErrorKind::ConnectionReset, "DEBUG", "was left by its peer"),
            (ErrorKind::TimedOut, "INFO", "timed out"),
            (ErrorKind::InvalidData, "INFO", "sent what cannot be read"),
            (ErrorKind::Other, "ERROR", "failed"),
        ];
        let cell = Cell::named("threading", "unix_stream");
        let place = cell.place();
        let running = Running::start(cell.bind(&place, move |request: &mut Request| -> io::Result<()> {
            let mut case = [0];
            request.read_exact(&mut case)?;
            let Some((kind, ..)) = cases.get(case[0] as usize) else { panic!("as the test wants") };
            Err(io::Error::new(*kind, "as the test wants"))
        }));
        let told = cases.iter().map(|(_, level, what)| (level, what)).chain([(&"ERROR", &"panicked")]);
        for (case, (level, what)) in told.enumerate() {
            assert_eq!(Client::sending(&running.addr, &[case as u8]).read_all(), b"");
            let line = format!("{level} request of unix:// {what}: as the test wants");
            assert_eq!(kept_lines(" request of unix://").last(), Some(&line));
        }
        running.finish();
    });
}
