//! A peer that has vanished without a word, as when its machine has lost its power: for the server that is one that keeps the connection
//! and does nothing, for ever.

use std::io::{self, Read, Write};
use std::time::Duration;

use socketserver::Request;

use crate::Variety;
use crate::support::cell::{Place, bind_with};
use crate::support::client::Client;
use crate::support::running::Running;

const TIMEOUT: Duration = Duration::from_millis(50);

/// The only place there is: who comes next has it when the server has given the vanished one up. It vanishes between two messages, in
/// the middle of one, and in the middle of an answer; and there is the deadline, if nothing else is limited.
pub fn a_peer_that_has_vanished_gives_its_place_back(variety: Variety) {
    let place = Place::new(variety.kind);
    let server = bind_with(&place, variety.backend(), |request: &mut Request| -> io::Result<()> {
        let mut message = [0; 4];
        request.read_exact(&mut message)?;
        request.write_all(&message)?;
        match &message {
            b"idle" => request.set_idle_timeout(Some(TIMEOUT)),
            b"half" => request.set_read_timeout(Some(TIMEOUT)),
            b"much" => request.set_write_timeout(Some(TIMEOUT)),
            b"dead" => request.set_deadline(Some(TIMEOUT)),
            _ => return Ok(()),
        }
        if &message == b"half" {
            request.read_exact(&mut [0])?;
        }
        if &message == b"much" {
            request.write_all(&vec![0; 16 << 20])?;
        }
        request.read_exact(&mut [0; 4])
    });
    let running = Running::start(server.max_connections(1));
    let mut vanished = Vec::new();
    for message in [b"idle", b"half", b"much", b"dead"] {
        let mut client = Client::connect(&running.addr);
        // At once, since the timeout may begin as soon as the message is there.
        let half_another: &[u8] = if message == b"half" { b"h" } else { b"" };
        client.write_all(&[message, half_another].concat()).unwrap();
        assert_eq!(client.take_bytes(4), message);
        vanished.push(client);
        assert_eq!(Client::connect(&running.addr).ask(b"next"), b"next");
    }
    let stats = running.finish();
    assert_eq!((stats.completed, stats.failed, stats.timed_out), (4, 4, 4));
}
