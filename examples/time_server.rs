//! Tells the time: a request is a `strftime` format, and its answer the local time in it.
//!
//! ```text
//! cargo run --release --example time_server
//! cargo run --release --example time_server -- --server event-loop --bind udp://127.0.0.1:9999
//! ```
//!
//! Then try `nc 127.0.0.1 9999` and type `%H:%M`, or `echo '%A, %d %B %Y' | nc -u -w1 127.0.0.1 9999`.
//!
//! A connection is asked line by line, a datagram once. An empty line or datagram asks for `%Y-%m-%d %X`. What is no format gets
//! a line that begins with `!`, and the connection goes on.
//!
//! # Why a datagram may get no answer
//!
//! Anybody can write any sender on a datagram, so whatever a UDP server answers may go to somebody who did not ask. Two rules keep
//! that harmless, also where this listens on more than loopback:
//!
//! * It does not amplify: the answer's packet is at most three times the request's. (QUIC's number, for the same reason.)
//! * It does not loop: a datagram that has something in it, but no `%`, asks for nothing, as it may itself be an answer, and gets none.
//!   Otherwise two time servers, each told that the other one asks, would talk for ever (CVE-2024-2169).

mod options;

use std::fmt::Write as _;
use std::io::{self, BufRead, ErrorKind, Write};
use std::process::ExitCode;

use chrono::Local;
use chrono::format::StrftimeItems;
use clap::Parser;
use socketserver::Request;
use socketserver::frame::{Framing, Lines};

/// The format of who does not say one.
const DEFAULT_FORMAT: &str = "%Y-%m-%d %X";

/// Bytes of a format: several times what any date needs. Two bytes of it can become 35 (`%+`), so this bounds the work, too.
const LONGEST_FORMAT: usize = 256;

/// Bytes of an answer without its end of line: what fits one packet on every path, with much to spare.
const LONGEST_ANSWER: usize = 512;

/// Bytes that IPv4 and UDP put in front of a datagram, which its sender had to send as well.
const HEADER: usize = 28;

/// How many times as long as a request its answer may be, where the sender is not known to be who asks.
const AMPLIFICATION: usize = 3;

const LINES: Lines = Lines::new();

fn time(request: &mut Request) -> io::Result<()> {
    if request.is_datagram() { answer_datagram(request) } else { answer_lines(request) }
}

fn answer_lines(request: &mut Request) -> io::Result<()> {
    let (rfile, mut wfile) = request.split();
    let mut lines = rfile.frames(LINES);
    loop {
        match lines.next() {
            Ok(Some(format)) => LINES.write_frame(&mut wfile, answer(format, LONGEST_ANSWER).as_bytes())?,
            Ok(None) => return Ok(()),
            // Where the next line begins, nobody knows.
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return wfile.write_all(b"! the line is too long; goodbye\n");
            }
            Err(error) => return Err(error),
        }
    }
}

/// Answers with an end of line if there was one: those who type get lines, and programs what they asked for.
fn answer_datagram(request: &mut Request) -> io::Result<()> {
    let (mut rfile, mut wfile) = request.split();
    let packet = rfile.fill_buf()?;
    let line = packet.strip_suffix(b"\n").unwrap_or(packet);
    let format = line.strip_suffix(b"\r").unwrap_or(line);
    let end = &packet[format.len()..];
    if !format.is_empty() && !format.contains(&b'%') {
        return Ok(());
    }
    let longest = LONGEST_ANSWER.min(AMPLIFICATION * (HEADER + packet.len()) - HEADER - end.len());
    wfile.write_all(&[answer(format, longest).as_bytes(), end].concat())
}

/// The time, or a complaint: one line without its end. Complaints contain no `%`, so that they ask nobody for anything, and are
/// short enough for any datagram.
fn answer(format: &[u8], longest: usize) -> String {
    match time_in(format) {
        Ok(time) if time.len() <= longest => time,
        Ok(_) => "! the answer would be too long".to_string(),
        Err(complaint) => format!("! {complaint}"),
    }
}

fn time_in(format: &[u8]) -> Result<String, &'static str> {
    if format.len() > LONGEST_FORMAT {
        return Err("the format is too long");
    }
    let format = match std::str::from_utf8(format) {
        Ok("") => DEFAULT_FORMAT,
        Ok(format) => format,
        Err(_) => return Err("the format is not UTF-8"),
    };
    let bad = "bad format";
    let items = StrftimeItems::new(format).parse().map_err(|_| bad)?;
    let mut time = String::new();
    // Not `to_string`, which would panic at what only parsing knows.
    write!(time, "{}", Local::now().format_with_items(items.iter())).map_err(|_| bad)?;
    if time.contains('\n') { Err("the answer would be more than one line") } else { Ok(time) }
}

/// Tells the local time: a request is a strftime format such as "%H:%M", and the answer the time in it.
///
/// TCP and Unix stream sockets are asked line by line, with an answer for each. A datagram is asked once. An empty line or
/// datagram asks for "%Y-%m-%d %X", and what is no format gets a line that begins with "!". Any other datagram without a "%" gets
/// no answer, and no datagram one that is more than three times as long, each with its 28 bytes of headers.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: options::Options,
}

fn main() -> ExitCode {
    Arguments::parse().options.serve(time, options::netcat)
}
