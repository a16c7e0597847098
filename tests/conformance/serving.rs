//! Requests are served: one after another, many at once, whatever becomes of the others.

use std::io::{self, Write};
use std::thread;

use crossbeam_channel::unbounded;
use socketserver::backend::Backend;
use socketserver::listener::Listener;
use socketserver::{Request, Server};

use crate::support::cell::{Cell, Kind};
use crate::support::client::Client;
use crate::support::descriptors::{is_open, socket_number};
use crate::support::running::{Running, close};
use crate::support::{echo, receive, within};

/// Three clients get their bytes back; then the descriptor is gone and the counters balance.
pub fn serves_one_after_another(cell: Cell) {
    let place = cell.place();
    let server = cell.bind(&place, echo);
    let listening = socket_number(&server);
    let running = Running::start(server);
    for _ in 0..3 {
        assert_eq!(Client::connect(&running.addr).ask(b"hello world\n"), b"hello world\n");
    }
    let (server, served) = running.stop();
    assert_eq!(served.accepted, 3);
    assert!(is_open(listening));
    let stats = close(server);
    assert!(!is_open(listening), "the listening socket has survived its server");
    assert_eq!((stats.accepted, stats.completed), (3, 3));
}

/// More clients at once than there are cores; each gets its own bytes.
pub fn serves_many_at_once(cell: Cell) {
    const CLIENTS: usize = 24;
    let place = cell.place();
    let running = Running::start(cell.bind(&place, echo));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let addr = running.addr.clone();
            thread::spawn(move || {
                let message = vec![b'a' + number as u8; 100 * number + 1];
                assert_eq!(Client::connect(&addr).ask(&message), message);
            })
        })
        .collect();
    within("serving the clients", move || clients.into_iter().try_for_each(|client| client.join())).unwrap();
    let stats = running.finish();
    assert_eq!((stats.accepted, stats.completed), (CLIENTS as u64, CLIENTS as u64));
}

/// The server, its listener and its requests say the address that the socket has; the request says its peer's.
pub fn tells_the_addresses(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let server = cell.bind(&place, move |request: &mut Request| -> io::Result<()> {
        let _ = tell.send((request.local_addr()?, request.peer_addr().clone(), request.is_datagram()));
        echo(request)
    });
    assert_eq!(server.local_addr(), server.listener().local_addr());
    match server.local_addr().as_inet() {
        Some(addr) => assert_ne!(addr.port(), 0, "the port is the one that the system chose"),
        None => assert_eq!(server.local_addr().to_string(), place.url),
    }
    let running = Running::start(server);
    assert_eq!(Client::connect(&running.addr).ask(b"hello world\n"), b"hello world\n");
    let (local, peer, is_datagram) = receive("the request's addresses", &told);
    assert_eq!(local, running.addr);
    assert_eq!(peer.scheme(), local.scheme());
    assert_eq!(peer.ip(), local.ip());
    assert_eq!(peer.is_unnamed(), cell.kind == Kind::UnixStream, "a client that did not bind has no name: {peer}");
    assert_eq!(is_datagram, !cell.is_stream());
    running.finish();
}

/// A request that panics ends alone.
pub fn survives_a_panic(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| -> io::Result<()> {
        let mut message = [0; 5];
        io::Read::read_exact(request, &mut message)?;
        assert_ne!(&message, b"panic", "as the test wants");
        request.write_all(&message)
    }));
    for _ in 0..3 {
        let _doomed = Client::sending(&running.addr, b"panic");
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    }
    let stats = running.finish();
    assert_eq!((stats.completed, stats.failed, stats.panicked), (3, 3, 3));
}

/// The server that this crate has a name for serves, too.
pub fn has_a_name<L, B>(cell: Cell, bind: impl FnOnce(&str) -> io::Result<Server<L, B>>)
where
    L: Listener + 'static,
    B: Backend + 'static,
{
    let place = cell.place();
    let mut server = bind(&place.url).expect("the place is free");
    let (addr, handle) = (server.local_addr().clone(), server.shutdown_handle());
    let serving = thread::spawn(move || server.serve_forever().map(|_| server.close()));
    assert_eq!(Client::connect(&addr).ask(b"hello world\n"), b"hello world\n");
    handle.shutdown();
    within("serving", move || serving.join()).unwrap().unwrap().unwrap();
}
