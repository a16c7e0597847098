//! The example `upper`, on every server.

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

use served::Served;
use support::cell::Cell;

table! {
    sequential [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
    threading [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
    forking_style [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
    event_loop [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
    => [
        letters_come_back_in_upper_case_and_all_else_as_it_was
        nothing_comes_back_as_nothing
        python_agrees
    ]
}

/// More than one read of a connection, or a datagram that is long.
fn letters_come_back_in_upper_case_and_all_else_as_it_was(cell: Cell) {
    let upper = Served::start("upper", cell, &[]);
    let length = if cell.is_stream() { 300_000 } else { 50_000 };
    let message: Vec<u8> = (0..=255).cycle().take(length).collect();
    let expected: Vec<u8> =
        message.iter().map(|&byte| if byte.is_ascii_lowercase() { byte - 32 } else { byte }).collect();
    let client = upper.connect();
    let answer = if cell.is_stream() { client.ask_at_length(message) } else { client.ask(&message) };
    assert!(answer == expected, "{} bytes came back, or other ones", answer.len());
}

fn nothing_comes_back_as_nothing(cell: Cell) {
    let upper = Served::start("upper", cell, &[]);
    assert_eq!(upper.connect().ask(b""), b"");
    assert_eq!(upper.connect().ask(b"still here"), b"STILL HERE");
}

fn python_agrees(cell: Cell) {
    let upper = Served::start("upper", cell, &[]);
    script::run("upper_client.py", &[&upper.addr.to_string()]);
}
