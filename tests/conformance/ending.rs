//! Shutdown, close and drop: at any time, from anywhere, any number of times, and never a deadlock.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use socketserver::Request;

use crate::support::cell::{Cell, Place};
use crate::support::client::Client;
use crate::support::descriptors::{is_open, socket_number};
use crate::support::gate::Gate;
use crate::support::record::Record;
use crate::support::running::{Running, close};
use crate::support::{echo, receive, within};

/// Serving ends when the request in progress has ended, and that one gets its answer out.
pub fn close_waits(cell: Cell) {
    let place = cell.place();
    let (gate, record) = (Gate::default(), Record::default());
    let (its_gate, its_record) = (gate.clone(), record.clone());
    let running = Running::start(cell.bind(&place, move |request: &mut Request| -> io::Result<()> {
        request.read_exact(&mut [0; 5])?;
        its_gate.pass(request)?;
        request.write_all(b"done")?;
        its_record.add("the request has ended");
        Ok(())
    }));
    let mut client = Client::sending(&running.addr, b"hello");
    gate.wait_for(1);
    running.handle.shutdown();
    assert!(!running.has_ended());
    gate.open();
    let (server, served) = running.ended();
    record.add("serving has ended");
    assert_eq!(record.events(), ["the request has ended", "serving has ended"]);
    assert_eq!((served.cut, served.unfinished), (0, 0));
    assert_eq!(client.take_bytes(4), b"done");
    assert_eq!(close(server).completed, 1);
}

/// No poll interval lies between the call and the end.
pub fn an_idle_server_stops_at_once(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, echo));
    assert_eq!(Client::connect(&running.addr).ask(b"hello world\n"), b"hello world\n");
    let asked = Instant::now();
    let (server, _) = running.stop();
    let taken = asked.elapsed();
    println!("{cell:?} stopped within {taken:?}");
    assert!(taken < Duration::from_secs(1), "it took {taken:?}");
    close(server);
}

/// The request that stops its server is itself served to the end.
pub fn a_handler_may_stop_its_server(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| -> io::Result<()> {
        request.read_exact(&mut [0; 9])?;
        let handle = request.shutdown_handle();
        handle.shutdown();
        handle.shutdown();
        request.write_all(b"good night")
    }));
    assert_eq!(Client::connect(&running.addr).ask(b"go to bed"), b"good night");
    let (server, served) = running.ended();
    assert_eq!((served.accepted, served.cut), (1, 0));
    close(server);
}

/// The client that is there already is not served, but stays in the queue, and is served by the next serving.
pub fn a_shutdown_before_serving_is_remembered(cell: Cell) {
    let place = cell.place();
    let server = cell.bind(&place, echo);
    server.shutdown_handle().shutdown();
    let mut client = Client::sending(server.local_addr(), b"hello");
    let (server, served) = Running::start(server).ended();
    assert_eq!(served.accepted, 0);
    let running = Running::start(server);
    assert_eq!(client.take_bytes(5), b"hello");
    drop(client);
    assert_eq!(running.finish().completed, 1);
}

/// What comes late, after the serving that it was meant for, does nothing.
pub fn a_second_shutdown_spares_the_next_serving(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, echo));
    let handle = running.handle.clone();
    handle.shutdown();
    handle.shutdown();
    let (server, _) = running.ended();
    handle.shutdown();
    let running = Running::start(server);
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    running.finish();
}

/// On the same address and the same socket: who connects in between is served.
pub fn serves_again_after_a_shutdown(cell: Cell) {
    let place = cell.place();
    let mut server = cell.bind(&place, echo);
    for _ in 0..3 {
        let mut client = Client::sending(server.local_addr(), b"hello");
        let running = Running::start(server);
        assert_eq!(client.take_bytes(5), b"hello");
        drop(client);
        let served;
        (server, served) = running.stop();
        assert_eq!(served.accepted, 1, "in this serving");
    }
    assert_eq!(close(server).completed, 3);
}

/// A drain refuses connections, until the next serving.
pub fn serves_again_after_a_drain(cell: Cell) {
    let place = Place::apart(cell.kind);
    let mut server = cell.bind(&place, echo);
    let addr = server.local_addr().clone();
    for _ in 0..3 {
        server.activate().expect("the address is still free");
        let running = Running::start(server);
        assert_eq!(Client::connect(&addr).ask(b"hello"), b"hello");
        running.handle.drain(Duration::from_secs(1));
        server = running.ended().0;
        assert_eq!(server.local_addr(), &addr);
        if cell.is_stream() {
            assert!(Client::try_connect(&addr).is_err(), "a drained server takes no connection");
        }
    }
    assert_eq!(close(server).completed, 3);
}

pub fn may_be_dropped_without_serving(cell: Cell) {
    let place = cell.place();
    let server = cell.bind(&place, echo);
    let socket = socket_number(&server);
    within("dropping the server", move || drop(server));
    assert_is_gone(cell, &place, socket);
}

pub fn may_be_closed_without_serving(cell: Cell) {
    let place = cell.place();
    let server = cell.bind(&place, echo);
    let socket = socket_number(&server);
    assert_eq!(close(server).accepted, 0);
    assert_is_gone(cell, &place, socket);
}

/// Nobody has to stop or close: a drop does not wait, not even for a request in progress.
pub fn may_be_dropped_after_serving(cell: Cell) {
    let place = cell.place();
    let (give, given) = unbounded();
    let server = cell.bind(&place, move |request: &mut Request| {
        let _ = give.send(());
        echo(request)
    });
    let socket = socket_number(&server);
    let _client = Client::sending(server.local_addr(), b"hello");
    let running = Running::start(server);
    receive("the request", &given);
    running.handle.drain(Duration::ZERO);
    let (server, _) = running.ended();
    within("dropping the server", move || drop(server));
    assert_is_gone(cell, &place, socket);
}

fn assert_is_gone(cell: Cell, place: &Place, socket: u64) {
    assert!(!is_open(socket), "{cell:?} has left its socket open");
    if let Some(folder) = &place.folder {
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 0, "{cell:?} has left its file");
    }
}
