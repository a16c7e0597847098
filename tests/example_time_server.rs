//! The example `time_server`, on every server.

mod support;

#[path = "support/example.rs"]
mod example;
#[path = "support/program.rs"]
mod program;
#[path = "support/script.rs"]
mod script;
#[macro_use]
#[path = "support/served.rs"]
mod served;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};

use chrono::{Local, NaiveDateTime};
use served::Served;
use support::cell::Cell;
use support::client::Client;

mod everywhere {
    table! {
        sequential [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        threading [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        forking_style [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        event_loop [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        => [
            the_answer_is_the_local_time
            a_bad_request_gets_one_line
            python_agrees
        ]
    }
}

mod connections {
    table! {
        sequential [tcp4 unix_stream]
        threading [tcp4 unix_stream]
        forking_style [tcp4 unix_stream]
        event_loop [tcp4 unix_stream]
        => [
            requests_in_one_piece_are_answered_in_order
            a_line_without_end_is_answered_too
            an_endless_line_is_refused_and_the_connection_closed
            every_conversion_is_answered_by_a_line
        ]
    }
}

mod datagrams {
    table! {
        sequential [udp4 unix_datagram]
        threading [udp4 unix_datagram]
        forking_style [udp4 unix_datagram]
        event_loop [udp4 unix_datagram]
        => [
            the_answer_ends_as_the_request_did
            what_may_be_an_answer_gets_none
            no_answer_is_much_longer_than_its_request
        ]
    }
}

/// Asks for the time in various formats.
fn the_answer_is_the_local_time(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    let mut asker = Asker::new(&server, cell);
    for (request, format) in [
        ("", "%Y-%m-%d %X"),
        ("%Y-%m-%d %X", "%Y-%m-%d %X"),
        ("%F %T", "%F %T"),
        ("on %d.%m.%Y at %H:%M:%S o'clock", "on %d.%m.%Y at %H:%M:%S o'clock"),
        ("%Y-%m-%d %X %% grüße", "%Y-%m-%d %X %% grüße"),
    ] {
        let before = now();
        let answer = asker.ask(request.as_bytes());
        let time = NaiveDateTime::parse_from_str(&answer, format);
        let time = time.unwrap_or_else(|error| panic!("{request:?} was answered by {answer:?}: {error}"));
        assert!((before..=now()).contains(&time), "{answer:?} is not now");
    }
}

/// This second, which is what the formats say.
fn now() -> NaiveDateTime {
    let text = Local::now().format("%F %T").to_string();
    NaiveDateTime::parse_from_str(&text, "%F %T").unwrap()
}

fn a_bad_request_gets_one_line(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    let mut asker = Asker::new(&server, cell);
    let (too_long, too_much) = ("%".repeat(257), "%+".repeat(100));
    for (request, complaint) in [
        (&b"%!"[..], "! bad format"),
        (b"%Y %", "! bad format"),
        (b"%Y-%Q", "! bad format"),
        (b"%#z", "! bad format"),
        (b"%H\xff%M", "! the format is not UTF-8"),
        (b"%H%n%M", "! the answer would be more than one line"),
        (too_long.as_bytes(), "! the format is too long"),
        (too_much.as_bytes(), "! the answer would be too long"),
    ] {
        assert_eq!(asker.ask(request), complaint, "{:?}", String::from_utf8_lossy(request));
    }
    assert_eq!(asker.ask(b"%%"), "%");
}

fn python_agrees(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    script::run("time_client.py", &[&server.addr.to_string()]);
}

fn requests_in_one_piece_are_answered_in_order(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    let answer = server.connect().ask(b"first %%\r\nsecond\n%!\n%%third\n");
    assert_eq!(String::from_utf8(answer).unwrap(), "first %\nsecond\n! bad format\n%third\n");
}

fn a_line_without_end_is_answered_too(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    assert_eq!(server.connect().ask(b"100 %%"), b"100 %\n");
    assert_eq!(server.connect().ask(b""), b"");
}

/// What is more than a line may be is refused before it ends, with a line that arrives, and disturbs nobody.
fn an_endless_line_is_refused_and_the_connection_closed(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    let mut client = server.connect();
    let mut writer = client.duplicate();
    let writing = std::thread::spawn(move || {
        // It fails when the server has heard enough.
        let _ = writer.write_all(&vec![b'%'; 10_000_000]);
        let _ = writer.half_close();
    });
    let mut line = String::new();
    let mut reader = BufReader::new(&mut client);
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "! the line is too long; goodbye\n");
    match reader.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    writing.join().unwrap();
    assert_eq!(server.connect().ask(b"%%\n"), b"%\n");
}

/// Also those that nobody knows: a panic would end the connection.
fn every_conversion_is_answered_by_a_line(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    let mut requests = Vec::new();
    for modifier in ["", "-", "_", "0", ".", ":", "::", "#", "E", "3", ".3", "10"] {
        requests.extend((' '..='~').map(|letter| format!("%{modifier}{letter}\n")));
    }
    let answer = server.connect().ask_at_length(requests.concat().into_bytes());
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(answer.lines().count(), requests.len());
}

fn the_answer_ends_as_the_request_did(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    for (request, answer) in [
        (&b"%%"[..], &b"%"[..]),
        (b"%%\n", b"%\n"),
        (b"%%\r\n", b"%\r\n"),
        (b"%!\n", b"! bad format\n"),
        (b"%%\nand more", b"! the answer would be more than one line"),
    ] {
        assert_eq!(server.connect().ask(request), answer, "{request:?}");
    }
    for (request, end) in [("", ""), ("\n", "\n"), ("\r\n", "\r\n")] {
        let answer = String::from_utf8(server.connect().ask(request.as_bytes())).unwrap();
        let time = answer.strip_suffix(end).unwrap();
        assert_eq!(time, time.trim_end());
        NaiveDateTime::parse_from_str(time, "%Y-%m-%d %X").unwrap();
    }
}

/// Otherwise two servers, each told that the other one asks, would never stop.
fn what_may_be_an_answer_gets_none(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    let mut client = server.connect();
    for answer in ["2001-02-03 04:05:06", "! bad format", "hello\n"] {
        client.write_all(answer.as_bytes()).unwrap();
        client.write_all(b"%%").unwrap();
        assert_eq!(client.packet(), b"%");
    }
    assert_eq!(client.packet_at_hand(), None);
}

fn no_answer_is_much_longer_than_its_request(cell: Cell) {
    let server = Served::start("time_server", cell, &[]);
    let client = server.connect();
    for piece in ["%+", "%c", "%!", "%n", "%A, %d %B %Y, ", "%%", "%\u{1F600}"] {
        for count in [1, 2, 3, 5, 8, 13, 40, 1000] {
            let request = piece.repeat(count);
            let answer = Asker { client: client.duplicate(), is_stream: false }.ask_packet(request.as_bytes());
            let (asked, answered) = (28 + request.len(), 28 + answer.len());
            assert!(answered <= 3 * asked, "{asked} bytes caused {answered}: {piece:?}, {count} times");
            assert!(answer.len() <= 512);
        }
    }
    assert!(server.connect().ask(b"").len() <= 2 * 28);
}

/// A client that asks, and gets a line or a datagram.
struct Asker {
    client: Client,
    is_stream: bool,
}

impl Asker {
    fn new(server: &Served, cell: Cell) -> Asker {
        Asker { client: server.connect(), is_stream: cell.is_stream() }
    }

    /// The answer without its end of line.
    #[track_caller]
    fn ask(&mut self, request: &[u8]) -> String {
        if !self.is_stream {
            return String::from_utf8(self.ask_packet(request)).unwrap();
        }
        self.client.write_all(&[request, b"\n"].concat()).unwrap();
        // It has one request in flight, so it reads nothing that belongs to another answer.
        let mut answer = String::new();
        BufReader::new(&mut self.client).read_line(&mut answer).unwrap();
        answer.strip_suffix('\n').unwrap_or_else(|| panic!("{answer:?} has no end")).to_string()
    }

    fn ask_packet(&mut self, request: &[u8]) -> Vec<u8> {
        self.client.write_all(request).unwrap();
        self.client.packet()
    }
}
