//! What servers do with frames, on one cell each.

use std::io::{self, BufRead, ErrorKind, Write};
use std::time::Duration;

use socketserver::frame::{Framing, LengthDelimited, Lines};
use socketserver::{Failure, Hooks, Request};

use crate::support::cell::{Cell, Place};
use crate::support::child::{in_child, keep_log, kept_lines};
use crate::support::client::Client;
use crate::support::record::Record;
use crate::support::running::{Running, close};
use crate::support::until;

const FRAMING: LengthDelimited = LengthDelimited::new();

/// Sends every frame back.
fn echo_frames(request: &mut Request) -> io::Result<()> {
    let (rfile, mut wfile) = request.split();
    let mut frames = rfile.frames(FRAMING);
    while let Some(frame) = frames.next()? {
        FRAMING.write_frame(&mut wfile, frame)?;
    }
    Ok(())
}

/// Notes every frame, and answers none.
fn note_frames(record: Record) -> impl Fn(&mut Request) -> io::Result<()> + Send + Sync + 'static {
    move |request| {
        let mut lines = request.frames(Lines::new());
        while let Some(line) = lines.next()? {
            record.add(String::from_utf8_lossy(line));
        }
        record.add("end");
        Ok(())
    }
}

/// Notes failures.
struct Reported(Record);

impl Hooks for Reported {
    fn handle_error(&self, failure: &Failure<'_>) {
        self.0.add(format!("{:?} {:?}", failure.error.kind(), failure.class));
    }
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    FRAMING.write_frame(&mut stream, payload).expect("a short payload");
    stream
}

pub fn echoes_frames(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, echo_frames));
    // Many to a read, and one over many.
    let sizes = (0..300).chain([16_380, 16_384, 100_000, 1_000_000, 3]);
    let message: Vec<u8> = sizes.flat_map(|size| framed(&vec![size as u8; size])).collect();
    assert!(Client::connect(&running.addr).ask_at_length(message.clone()) == message);
    running.finish();
}

pub fn half_a_frame_is_reported(cell: Cell) {
    let (place, record) = (cell.place(), Record::default());
    let running = Running::start(cell.bind(&place, echo_frames).hooks(Reported(record.clone())));
    let whole = framed(b"hello");
    for length in 1..whole.len() {
        // What came before it is answered.
        let message = [&whole, &whole[..length]].concat();
        assert_eq!(Client::connect(&running.addr).ask(&message), whole);
        record.wait_for(length);
    }
    assert_eq!(Client::connect(&running.addr).ask(b"\xff\xff\xff\xff"), b"");
    record.wait_for(whole.len());
    let mut expected = vec![format!("{:?} Disconnect", ErrorKind::UnexpectedEof); whole.len() - 1];
    expected.push(format!("{:?} Protocol", ErrorKind::InvalidData));
    assert_eq!(record.events(), expected);
    let stats = running.finish();
    assert_eq!((stats.disconnected, stats.protocol_errors), (whole.len() as u64 - 1, 1));
}

/// Nothing on level `warn` or above, whatever they send.
#[test]
fn peers_cannot_fill_the_log() {
    in_child(|| {
        keep_log();
        let cell = Cell::named("event_loop", "tcp4");
        for (handler, message) in [
            (echo_frames as fn(&mut Request) -> io::Result<()>, &b"\xff\xff\xff\xff"[..]),
            (|request| request.frames(Lines::new().max_frame_length(3)).next().map(drop), b"long"),
            (|request| request.read_line(&mut String::new()).map(drop), b"\xff\n"),
        ] {
            let place = cell.place();
            let running = Running::start(cell.bind(&place, handler));
            assert_eq!(Client::connect(&running.addr).ask(message), b"");
            assert_eq!(running.finish().protocol_errors, 1);
        }
        assert_eq!(kept_lines(""), [""; 0]);
    });
}

/// Although the handler has read something that it has not answered.
pub fn a_drain_ends_who_waits_for_a_frame(cell: Cell) {
    let (place, record) = (cell.place(), Record::default());
    let running = Running::start(cell.bind(&place, note_frames(record.clone())));
    let mut client = Client::sending(&running.addr, b"one\ntwo\n");
    record.wait_for(2);
    running.handle.drain(Duration::MAX);
    assert!(client.is_hung_up());
    let (server, served) = running.ended();
    assert_eq!((served.cut, record.events()), (0, vec!["one".to_string(), "two".to_string(), "end".to_string()]));
    assert_eq!(close(server).completed, 1);
}

/// Although the handler has written since it read.
pub fn a_drain_waits_for_a_frame_that_has_begun(cell: Cell) {
    let place = Place::apart(cell.kind);
    let running = Running::start(cell.bind(&place, echo_frames));
    let (one, two) = (framed(b"one"), framed(b"two"));
    let mut client = Client::sending(&running.addr, &[&one, &two[..5]].concat());
    assert_eq!(client.take_bytes(one.len()), one);
    begin_to_drain(&running);
    client.write_all(&two[5..]).unwrap();
    assert_eq!(client.read_all(), two);
    let (server, served) = running.ended();
    assert_eq!((served.cut, close(server).failed), (0, 0));
}

/// The body belongs to its frame, whatever the handler writes meanwhile.
pub fn a_drain_waits_for_a_body(cell: Cell) {
    let place = Place::apart(cell.kind);
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let (rfile, mut wfile) = request.split();
        let mut lines = rfile.frames(Lines::new());
        while let Some(line) = lines.next()? {
            let length = String::from_utf8_lossy(line).parse().map_err(io::Error::other)?;
            wfile.write_all(b"go on")?;
            let copied = io::copy(&mut lines.body(length), &mut wfile)?;
            assert_eq!(copied, length);
        }
        Ok(())
    }));
    let mut client = Client::sending(&running.addr, b"10\n");
    assert_eq!(client.take_bytes(5), b"go on");
    client.write_all(b"01234").unwrap();
    assert_eq!(client.take_bytes(5), b"01234");
    begin_to_drain(&running);
    client.write_all(b"56789").unwrap();
    assert_eq!(client.read_all(), b"56789");
    let (server, served) = running.ended();
    assert_eq!((served.cut, close(server).failed), (0, 0));
}

/// Drains, and returns when the server has heard of it.
fn begin_to_drain(running: &Running) {
    running.handle.drain(Duration::MAX);
    until("refusing connections", || Client::try_connect(&running.addr).is_err());
}

/// JSON is parsed by recursion, and a coroutine's stack is small.
#[cfg(feature = "json")]
pub fn deep_json_does_no_harm(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let (rfile, mut wfile) = request.split();
        let mut lines = rfile.frames(Lines::new());
        loop {
            let answer = match lines.next_json::<serde_json::Value>() {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => "fine",
                Err(error) if error.kind() == ErrorKind::InvalidData => "bad",
                Err(error) => return Err(error),
            };
            socketserver::frame::write_json(&Lines::new(), &mut wfile, answer)?;
        }
    }));
    let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
    let objects = ["{\"a\":".repeat(127), "1".to_string(), "}".repeat(127)].concat();
    let message = [nested(127), nested(1000), nested(30_000), objects].join("\n");
    let answer = Client::connect(&running.addr).ask(message.as_bytes());
    assert_eq!(String::from_utf8_lossy(&answer), "\"fine\"\n\"bad\"\n\"bad\"\n\"fine\"\n");
    running.finish();
}
