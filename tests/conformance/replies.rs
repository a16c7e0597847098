//! What a client gets from a handler that is silent, fails or panics, and from a server that rejects it.

use std::io::{self, Read, Write};

use crossbeam_channel::{Sender, unbounded};
use socketserver::{Addr, Hooks, Incoming, Request};

use crate::support::cell::Cell;
use crate::support::client::Client;
use crate::support::descriptors::{is_open, socket_number};
use crate::support::running::{Running, close};
use crate::support::{echo, receive};

pub fn a_silent_handler_sends_nothing(cell: Cell) {
    check(cell, |_: &mut Request| Ok(()), b"");
}

/// What a failing handler wrote to a connection is out; to a datagram it sends no half reply.
pub fn a_failing_handler_sends_no_datagram(cell: Cell) {
    let fail = |request: &mut Request| -> io::Result<()> {
        request.write_all(b"half")?;
        Err(io::Error::other("as the test wants"))
    };
    check(cell, fail, b"half");
}

pub fn a_panicking_handler_sends_no_datagram(cell: Cell) {
    let panic = |request: &mut Request| -> io::Result<()> {
        request.write_all(b"half")?;
        panic!("as the test wants");
    };
    check(cell, panic, b"half");
}

/// Checks what the client of a connection gets, and that the one of a datagram gets nothing.
fn check(cell: Cell, handler: fn(&mut Request) -> io::Result<()>, from_connection: &[u8]) {
    let place = cell.place();
    let (began, beginning) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0; 12])?;
        let _ = began.send(());
        handler(request)
    }));
    let mut client = Client::sending(&running.addr, b"hello world\n");
    receive("the beginning of the request", &beginning);
    if cell.is_stream() {
        assert_eq!(client.read_all(), from_connection);
        drop(client);
        running.finish();
    } else {
        // Whatever is sent has been sent when serving has ended.
        running.finish();
        assert_eq!(client.packet_at_hand(), None);
    }
}

/// Whoever verifies sees what there is to see: whose it is, and of a datagram what it contains.
pub fn who_verifies_sees_the_request(cell: Cell) {
    struct Observer(Sender<(Addr, Option<Vec<u8>>)>);

    impl Hooks for Observer {
        fn verify_request(&self, request: &Incoming) -> io::Result<bool> {
            let _ = self.0.send((request.peer_addr().clone(), request.packet_bytes().map(<[u8]>::to_vec)));
            Ok(true)
        }
    }

    let place = cell.place();
    let ((observe, observed), (tell, told)) = (unbounded(), unbounded());
    let server = cell.bind(&place, move |request: &mut Request| {
        let _ = tell.send(request.peer_addr().clone());
        echo(request)
    });
    let running = Running::start(server.hooks(Observer(observe)));
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    let (peer, packet) = receive("the verification", &observed);
    assert_eq!(peer, receive("the request's peer", &told));
    assert_eq!(packet.as_deref(), (!cell.is_stream()).then_some(&b"hello"[..]));
    running.finish();
}

/// A rejected connection reaches no handler, ends for its client, and leaves no descriptor.
pub fn a_rejected_request_is_closed_once(cell: Cell) {
    struct Nobody(Sender<u64>);

    impl Hooks for Nobody {
        fn verify_request(&self, request: &Incoming) -> io::Result<bool> {
            let _ = self.0.send(socket_number(request));
            Ok(false)
        }
    }

    let place = cell.place();
    let (tell, told) = unbounded();
    let server = cell.bind(&place, |_: &mut Request| -> io::Result<()> { unreachable!("nobody is verified") });
    let running = Running::start(server.hooks(Nobody(tell)));
    let mut client = Client::connect(&running.addr);
    // It may be closed already.
    let _ = client.write_all(b"hello world\n");
    let socket = receive("the rejection", &told);
    if cell.is_stream() {
        assert!(client.is_hung_up());
    }
    let (server, _) = running.stop();
    assert_eq!(is_open(socket), !cell.is_stream(), "a connection is closed, the server's own socket is not");
    assert_eq!(client.packet_at_hand().unwrap_or_default(), b"");
    let stats = close(server);
    assert_eq!((stats.accepted, stats.rejected, stats.failed), (1, 1, 0));
    assert!(told.is_empty(), "it was asked about once");
}
