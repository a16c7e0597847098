//! Peers that half-close, do not read, send too much, or vanish.

use std::io::{self, ErrorKind, IoSlice, Read, Write};

use crossbeam_channel::unbounded;
use socketserver::Request;

use crate::support::cell::Cell;
use crate::support::client::Client;
use crate::support::running::Running;
use crate::support::{echo, receive};

/// The handler sees the end of what the client sent, and its whole answer arrives.
pub fn a_half_closed_client_gets_a_long_answer(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, echo));
    let message: Vec<u8> = (0..1_000_003_u32).map(|number| (number % 251) as u8).collect();
    let answer = Client::connect(&running.addr).ask_at_length(message.clone());
    assert!(answer == message, "{} bytes came back", answer.len());
    assert_eq!(running.finish().completed, 1);
}

/// A megabyte of which the handler has read one byte does not turn the close into a reset.
pub fn unread_input_does_not_cut_the_answer(cell: Cell) {
    let place = cell.place();
    let answer = vec![b'a'; 100_000];
    let its_answer = answer.clone();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0])?;
        request.write_all(&its_answer)
    }));
    for _ in 0..3 {
        let got = Client::connect(&running.addr).ask_at_length(vec![b'q'; 1 << 20]);
        assert!(got == answer, "{} bytes arrived", got.len());
    }
    assert_eq!(running.finish().completed, 3);
}

/// The client closes with input unread, which resets the connection.
pub fn a_reset_is_an_error_of_the_read(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.write_all(b"hello")?;
        let result = request.read_exact(&mut [0]);
        let _ = tell.send(result.as_ref().err().map(io::Error::kind));
        result
    }));
    let mut client = Client::connect(&running.addr);
    assert_eq!(client.take_bytes(1), b"h");
    drop(client);
    assert_eq!(receive("the reset", &told), Some(ErrorKind::ConnectionReset));
    let stats = running.finish();
    assert_eq!((stats.failed, stats.disconnected), (1, 1));
}

/// More pieces than the system takes in one call, of which the last does not fit into its buffers.
pub fn a_vectored_write_arrives_whole(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let large = vec![b'z'; 8 << 20];
        let mut pieces: Vec<IoSlice<'_>> = (0..50).map(|_| IoSlice::new(b"small")).collect();
        pieces.push(IoSlice::new(&large));
        let written = request.write_vectored(&pieces)?;
        assert_eq!(written, 50 * 5 + large.len());
        Ok(())
    }));
    let answer = Client::connect(&running.addr).read_all();
    assert!(answer.starts_with(&b"small".repeat(50)));
    assert!(answer[250..].iter().all(|byte| *byte == b'z'));
    assert_eq!(answer.len(), 250 + (8 << 20));
    assert_eq!(running.finish().completed, 1);
}

/// Its answer waits, and the others have theirs.
pub fn who_never_reads_holds_up_nobody(cell: Cell) {
    let place = cell.place();
    let (began, beginning) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let mut message = [0; 4];
        request.read_exact(&mut message)?;
        if &message == b"much" {
            let _ = began.send(());
            return request.write_all(&vec![b'x'; 64 << 20]);
        }
        request.write_all(&message)
    }));
    let mut deaf = Client::connect(&running.addr);
    deaf.write_all(b"much").unwrap();
    receive("the long answer", &beginning);
    for _ in 0..20 {
        assert_eq!(Client::connect(&running.addr).ask(b"ping"), b"ping");
    }
    drop(deaf);
    let stats = running.finish();
    assert_eq!((stats.completed, stats.disconnected), (20, 1));
}
