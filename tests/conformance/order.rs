//! The order of calls, exactly, in good times and in every kind of trouble; the next request is served as ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use socketserver::{Failure, Hooks, Incoming, Request, RequestHandler};

use crate::support::cell::Cell;
use crate::support::client::Client;
use crate::support::echo;
use crate::support::record::Record;
use crate::support::running::Running;

/// What happens when all goes well. `close` is what the client of a connection sees.
const GOOD: [&str; 7] = ["verify", "new", "setup", "handle", "finish", "drop", "close"];

pub fn a_request_has_its_stages_in_order(cell: Cell) {
    check(cell, Trouble::default(), &GOOD);
}

pub fn after_a_failing_setup_nothing_is_called(cell: Cell) {
    let events = ["verify", "new", "setup", "drop", "handle_error Handler: setup fails", "close"];
    check(cell, Trouble::fails(&["setup"]), &events);
}

pub fn after_a_panicking_setup_nothing_is_called(cell: Cell) {
    let events = ["verify", "new", "setup", "drop", "handle_error Panic: setup panics", "close"];
    check(cell, Trouble::panics(&["setup"]), &events);
}

pub fn after_a_failing_handle_finish_is_called(cell: Cell) {
    let error = "handle_error Handler: handle fails";
    check(cell, Trouble::fails(&["handle"]), &["verify", "new", "setup", "handle", "finish", "drop", error, "close"]);
}

pub fn after_a_panicking_handle_finish_is_called(cell: Cell) {
    let error = "handle_error Panic: handle panics";
    check(cell, Trouble::panics(&["handle"]), &["verify", "new", "setup", "handle", "finish", "drop", error, "close"]);
}

pub fn a_failing_finish_is_reported(cell: Cell) {
    let error = "handle_error Handler: finish fails";
    check(cell, Trouble::fails(&["finish"]), &["verify", "new", "setup", "handle", "finish", "drop", error, "close"]);
}

pub fn the_first_of_two_failures_is_reported(cell: Cell) {
    let trouble = Trouble { fails: &["finish"], panics: &["handle"] };
    let error = "handle_error Panic: handle panics";
    check(cell, trouble, &["verify", "new", "setup", "handle", "finish", "drop", error, "close"]);
}

pub fn a_request_that_is_not_verified_is_closed(cell: Cell) {
    check(cell, Trouble::fails(&["verified"]), &["verify", "close"]);
}

pub fn a_failing_verification_is_a_rejection(cell: Cell) {
    check(cell, Trouble::fails(&["verify"]), &["verify", "handle_error Handler: verify fails", "close"]);
}

pub fn a_panicking_verification_is_a_rejection(cell: Cell) {
    check(cell, Trouble::panics(&["verify"]), &["verify", "handle_error Panic: verify panics", "close"]);
}

pub fn a_panicking_error_hook_does_no_harm(cell: Cell) {
    let trouble = Trouble { fails: &["handle"], panics: &["handle_error Handler: handle fails"] };
    let error = "handle_error Handler: handle fails";
    check(cell, trouble, &["verify", "new", "setup", "handle", "finish", "drop", error, "close"]);
}

pub fn a_panicking_factory_fails_its_request(cell: Cell) {
    check(cell, Trouble::panics(&["new"]), &["verify", "new", "handle_error Panic: new panics", "close"]);
}

pub fn a_panicking_destructor_fails_its_request(cell: Cell) {
    let error = "handle_error Panic: drop panics";
    check(cell, Trouble::panics(&["drop"]), &["verify", "new", "setup", "handle", "finish", "drop", error, "close"]);
}

/// Which steps of the first request go wrong.
#[derive(Clone, Copy, Default)]
struct Trouble {
    fails: &'static [&'static str],
    panics: &'static [&'static str],
}

impl Trouble {
    fn fails(steps: &'static [&'static str]) -> Trouble {
        Trouble { fails: steps, ..Trouble::default() }
    }

    fn panics(steps: &'static [&'static str]) -> Trouble {
        Trouble { panics: steps, ..Trouble::default() }
    }
}

/// Serves one request in trouble and a good one, and compares what happened.
fn check(cell: Cell, trouble: Trouble, first: &[&str]) {
    let script = Script { record: Record::default(), trouble, over: Arc::default() };
    let place = cell.place();
    let factory = {
        let script = script.clone();
        move || Scripted::new(script.clone())
    };
    let running = Running::start(cell.bind(&place, factory).hooks(script.clone()));
    let mut first = first.to_vec();
    let mut good = GOOD.to_vec();
    if !cell.is_stream() {
        // A datagram has nothing to close.
        first.pop();
        good.pop();
    }

    let mut client = Client::connect(&running.addr);
    // Either may fail if the server is quick to close.
    let _ = io::Write::write_all(&mut client, b"hello world\n");
    if cell.is_stream() {
        let _ = client.half_close();
        // One that is turned away with its input unread may end with a reset.
        assert!(client.is_hung_up());
        script.record.add("close");
    }
    script.record.wait_for(first.len());
    assert_eq!(script.record.events(), first);

    script.over.store(true, SeqCst);
    assert_eq!(Client::connect(&running.addr).ask(b"hello world\n"), b"hello world\n");
    if cell.is_stream() {
        script.record.add("close");
    }
    let stats = running.finish();
    assert_eq!(script.record.events(), [first.clone(), good].concat());
    let failed = first.iter().any(|event| event.starts_with("handle_error")) && first.contains(&"new");
    let rejected = !first.contains(&"new");
    assert_eq!((stats.accepted, stats.failed, stats.rejected), (2, failed.into(), rejected.into()));
}

/// Records every step, and makes trouble until it is over.
#[derive(Clone)]
struct Script {
    record: Record,
    trouble: Trouble,
    over: Arc<AtomicBool>,
}

impl Script {
    fn step(&self, name: &str) -> io::Result<()> {
        // Asked before the record tells the test, which then ends the trouble.
        let over = self.over.load(SeqCst);
        self.record.add(name);
        if over {
            return Ok(());
        }
        assert!(!self.trouble.panics.contains(&name), "{name} panics");
        if self.trouble.fails.contains(&name) {
            return Err(io::Error::other(format!("{name} fails")));
        }
        Ok(())
    }
}

impl Hooks for Script {
    fn verify_request(&self, _: &Incoming) -> io::Result<bool> {
        let verified = self.over.load(SeqCst) || !self.trouble.fails.contains(&"verified");
        self.step("verify")?;
        Ok(verified)
    }

    fn handle_error(&self, failure: &Failure<'_>) {
        let _ = self.step(&format!("handle_error {:?}: {}", failure.class, failure.error));
    }
}

struct Scripted {
    script: Script,
}

impl Scripted {
    fn new(script: Script) -> Scripted {
        let _ = script.step("new");
        Scripted { script }
    }
}

impl RequestHandler for Scripted {
    fn setup(&mut self, _: &mut Request) -> io::Result<()> {
        self.script.step("setup")
    }

    fn handle(&mut self, request: &mut Request) -> io::Result<()> {
        echo(request)?;
        self.script.step("handle")
    }

    fn finish(&mut self, _: &mut Request) -> io::Result<()> {
        self.script.step("finish")
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = self.script.step("drop");
    }
}
