//! A chat room: what one says, everybody else hears.
//!
//! ```text
//! cargo run --release --example chat
//! cargo run --release --example chat -- --server event-loop --bind unix:///tmp/chat.sock
//! cargo run --release --example chat -- --server sequential --bind udp://127.0.0.1:9999 --idle 300
//! ```
//!
//! Then try `nc 127.0.0.1 9999` (or `nc -U`, `nc -u`) in two terminals. The first line is your nick, each further one goes to
//! everybody else; `/who` lists who is here, `/me waves` says what you do, `/quit` leaves. A line that begins with `* ` is news,
//! one with `! ` a complaint about your last line.
//!
//! # On which server
//!
//! A connection is a member for as long as it is open, so the room is as large as the server's number of connections at a time:
//! `sequential` serves one at a time, who then talks to nobody, and `forking-style` as many as it has workers (40). `threading`
//! has no such limit, and `event-loop` holds thousands of members on a thread per core.
//!
//! Datagrams are another matter: nobody waits for one, so every server will do, and `sequential` is the right one. `threading` and
//! `forking-style` serve two datagrams at once, so that two lines of one peer may change places.
//!
//! What a Unix datagram peer has not read fills the server's own buffer, so one who connects its socket and never reads can make
//! the room silent: use connections where that matters.
//!
//! A UDP peer is whoever its datagrams say they are from. Anybody who can send to the room can have its talk sent to somebody
//! else: it is for a network that one trusts.

#[path = "../options/mod.rs"]
mod options;

mod members;
mod peers;
mod speech;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use members::Members;
use peers::Peers;
use socketserver::Request;

/// A chat room: what one says, everybody else hears.
///
/// The first line is your nick, each further one goes to everybody else. /who lists who is here, /me TEXT says what you do, /quit
/// leaves. A member who reads too slowly is dropped.
///
/// Connections: the sequential server serves one at a time, who talks to nobody; the forking-style one as many as it has workers.
/// Datagrams: any server will do; the sequential one keeps each peer's lines in order.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: options::Options,

    /// UDP and Unix datagram: after how long a silence a peer is forgotten; an empty datagram is a sign of life, too
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = options::seconds, allow_negative_numbers = true)]
    idle: Duration,
}

fn main() -> ExitCode {
    let Arguments { options, idle } = Arguments::parse();
    let members = match Members::new() {
        Ok(members) => members,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let peers = Peers::new(idle);
    let chat = move |request: &mut Request| -> io::Result<()> {
        if request.is_datagram() { peers.serve(request) } else { members.serve(request) }
    };
    options.serve(chat, |addr| format!("{}   (in two terminals; the first line is your nick)", options::netcat(addr)))
}
