//! Limits on concurrent requests, and what those hear for whom there is no room.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use crossbeam_channel::{Sender, unbounded};
use log::LevelFilter;
use socketserver::{AnyServer, Hooks, Incoming, Request};

use crate::support::cell::{Cell, Kind};
use crate::support::child::{in_child, keep_log, keep_log_from, kept_lines};
use crate::support::client::Client;
use crate::support::descriptors::{is_open, socket_number};
use crate::support::gate::Gate;
use crate::support::running::Running;
use crate::support::{echo, receive, until, within};

/// Waits at the gate, and then says goodbye.
pub fn gated(gate: &Gate) -> impl Fn(&mut Request) -> io::Result<()> + Send + Sync + 'static {
    let gate = gate.clone();
    move |request| {
        request.read_exact(&mut [0; 5])?;
        gate.pass(request)?;
        request.write_all(b"bye")
    }
}

pub fn say_hello(running: &Running) -> Client {
    Client::sending(&running.addr, b"hello")
}

/// Twelve clients connect, three are served at a time, and all in the end.
pub fn no_more_handlers_run_than_may(cell: Cell) {
    let (place, gate) = (cell.place(), Gate::default());
    let running = Running::start(cell.bind(&place, gated(&gate)).max_connections(3));
    let clients: Vec<Client> = (0..12).map(|_| say_hello(&running)).collect();
    gate.wait_for(3);
    assert_eq!(running.stats().accepted, 3, "the others are in the kernel's queue");
    gate.open();
    clients.into_iter().for_each(|mut client| assert_eq!(client.read_all(), b"bye"));
    let stats = running.finish();
    assert_eq!((stats.completed, stats.refused), (12, 0));
    assert_eq!(gate.most(), 3);
}

/// Clients that come and go, four threads of them; the handlers count themselves.
pub fn no_more_handlers_run_than_may_in_a_crowd(cell: Cell) {
    const MAX: usize = 2;
    let place = cell.place();
    let inside = Arc::new(AtomicUsize::new(0));
    let server = cell.bind(&place, move |request: &mut Request| {
        let others = inside.fetch_add(1, SeqCst);
        let result = if others < MAX { echo(request) } else { Err(io::Error::other("one handler too many")) };
        inside.fetch_sub(1, SeqCst);
        result
    });
    let running = Running::start(server.max_connections(MAX));
    let crowd: Vec<_> = (0..4)
        .map(|_| {
            let addr = running.addr.clone();
            thread::spawn(move || (0..50).for_each(|_| assert_eq!(Client::connect(&addr).ask(b"hello"), b"hello")))
        })
        .collect();
    within("serving the crowd", || crowd.into_iter().for_each(|client| client.join().unwrap()));
    let stats = running.finish();
    assert_eq!((stats.completed, stats.refused, stats.failed), (200, 0, 0));
}

/// Although the client has sent what nobody reads.
pub fn a_busy_reply_arrives_whole(cell: Cell) {
    let (place, gate) = (cell.place(), Gate::default());
    let busy = vec![b'b'; 8_000];
    let server = cell.bind(&place, gated(&gate)).max_connections(1).busy_reply(busy.clone());
    let running = Running::start(server);
    let mut first = say_hello(&running);
    gate.wait_for(1);
    for _ in 0..5 {
        let mut turned_away = Client::connect(&running.addr);
        // The server may have closed already: that is no reason to lose the reply.
        let _ = turned_away.write_all(&[b'q'; 20_000]);
        let got = turned_away.read_all();
        assert!(got == busy, "{} bytes arrived", got.len());
    }
    gate.open();
    assert_eq!(first.read_all(), b"bye");
    drop(first);
    within("there being room again", {
        let (addr, busy) = (running.addr.clone(), busy.clone());
        move || {
            loop {
                // The first one's place is free a little after its end has been seen.
                let mut next = Client::connect(&addr);
                let _ = next.write_all(b"hello");
                match next.read_all() {
                    answer if answer == b"bye" => break,
                    answer => assert!(answer == busy),
                }
            }
        }
    });
    let stats = running.finish();
    assert_eq!(stats.completed, 2);
    assert!(stats.refused >= 5);
}

/// Tells the number of each connection's socket.
struct Observer(Sender<u64>);

impl Hooks for Observer {
    fn verify_request(&self, request: &Incoming) -> io::Result<bool> {
        let _ = self.0.send(socket_number(request));
        Ok(true)
    }
}

/// Although nothing else wakes the server.
pub fn who_has_been_turned_away_leaves_nothing(cell: Cell) {
    let (place, gate) = (cell.place(), Gate::default());
    let (observe, observed) = unbounded();
    let server = cell.bind(&place, gated(&gate)).hooks(Observer(observe)).max_connections(1).busy_reply("busy");
    let running = Running::start(server);
    let mut first = say_hello(&running);
    gate.wait_for(1);
    receive("the first connection", &observed);
    assert_eq!(Client::connect(&running.addr).read_all(), b"busy");
    let second = receive("the second connection", &observed);
    until("its connection is closed", || !is_open(second));

    let mut stays = Client::connect(&running.addr);
    assert_eq!(stays.read_all(), b"busy");
    let third = receive("the third connection", &observed);
    gate.open();
    assert_eq!(first.read_all(), b"bye");
    drop(first);
    let (server, _) = running.stop();
    assert!(!is_open(third), "nobody looks after it when the serving has ended");
    drop((server, stays));
}

/// Also when somebody is served in between.
pub fn a_limit_says_once_that_it_refuses(cell: Cell) {
    keep_log_from(LevelFilter::Debug);
    let (place, gate) = (cell.place(), Gate::default());
    let running = Running::start(cell.bind(&place, gated(&gate)).max_connections(1).busy_reply("busy"));
    let mut first = say_hello(&running);
    gate.wait_for(1);
    let turn_away = || assert_eq!(Client::connect(&running.addr).read_all(), b"busy");
    (0..3).for_each(|_| turn_away());
    gate.open();
    assert_eq!(first.read_all(), b"bye");
    drop(first);
    until("there is room again", || running.stats().live == 0);
    gate.close();
    let mut second = say_hello(&running);
    gate.wait_for(1);
    turn_away();
    gate.open();
    assert_eq!(second.read_all(), b"bye");
    drop(second);
    assert_eq!(running.finish().refused, 4);
    let warnings = kept_lines("WARN");
    assert_eq!(warnings.len(), 1, "one line for the episode: {warnings:?}");
    assert!(warnings[0].contains("max_connections is 1"), "{warnings:?}");
    assert_eq!(kept_lines("DEBUG refused").len(), 4, "one for each");
}

/// Although it is full, and is not, and is again.
pub fn a_full_server_says_so_once(cell: Cell) {
    keep_log_from(LevelFilter::Info);
    let (place, gate) = (cell.place(), Gate::default());
    says_once_that_it_is_full(cell.bind(&place, gated(&gate)).max_connections(1), &gate, "INFO max_connections");
}

/// Serves one at a time, which a line in the log says.
pub fn says_once_that_it_is_full(server: AnyServer, gate: &Gate, line: &str) {
    let running = Running::start(server);
    let mut first = say_hello(&running);
    until("it says so", || !kept_lines(line).is_empty());
    gate.open();
    assert_eq!(first.read_all(), b"bye");
    for _ in 0..20 {
        assert_eq!(say_hello(&running).read_all(), b"bye");
    }
    assert_eq!(running.finish().completed, 21);
    let lines = kept_lines(line);
    assert_eq!(lines.len(), 1, "one line for the episode: {lines:?}");
}

/// Clients come and go while the limit changes a hundred times; none is forgotten.
pub fn limits_may_change_under_load(cell: Cell) {
    const CLIENTS: usize = 4;
    let place = cell.place();
    let running_now = Arc::new(AtomicUsize::new(0));
    let server = cell.bind(&place, move |request: &mut Request| {
        // Four clients have four requests at the most, and the one that each of them had before may be ending.
        assert!(running_now.fetch_add(1, SeqCst) < 2 * CLIENTS);
        let result = echo(request);
        running_now.fetch_sub(1, SeqCst);
        result
    });
    let limits = server.limits();
    let running = Running::start(server);
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (addr, over) = (running.addr.clone(), over.clone());
            thread::spawn(move || {
                let mut served = 0;
                while !over.load(SeqCst) {
                    assert_eq!(Client::connect(&addr).ask(b"hello"), b"hello");
                    served += 1;
                }
                served
            })
        })
        .collect();
    for round in 0..100 {
        limits.set_max_connections(round % 4);
        assert_eq!(limits.max_connections(), round % 4);
        thread::yield_now();
    }
    // Who waits because the last limit was low must be served without another connecting.
    limits.set_max_connections(1);
    over.store(true, SeqCst);
    let served: u64 =
        within("serving the last clients", || clients.into_iter().map(|client| client.join().unwrap()).sum());
    assert_eq!(running.finish().completed, served);
}

/// One more of the same address is closed at once; of another address it is served.
#[test]
fn each_peer_has_its_limit() {
    for backend in ["threading", "forking_style", "event_loop"] {
        let cell = Cell::named(backend, "tcp4");
        assert_eq!(cell.kind, Kind::Tcp4);
        let (place, gate) = (cell.place(), Gate::default());
        let running = Running::start(cell.bind(&place, gated(&gate)).max_per_peer(2));
        let mut first = [(); 2].map(|()| say_hello(&running));
        gate.wait_for(2);
        assert!(Client::connect(&running.addr).is_hung_up());
        let mut other = Client::connect_from([127, 0, 0, 2].into(), &running.addr);
        other.write_all(b"hello").unwrap();
        gate.wait_for(3);
        gate.open();
        first.iter_mut().chain([&mut other]).for_each(|client| assert_eq!(client.read_all(), b"bye"));
        drop((first, other));
        let stats = running.finish();
        assert_eq!((stats.completed, stats.refused), (3, 1));
    }
}

/// A datagram more of the same peer is dropped, and not left to wait.
#[test]
fn a_datagram_too_many_of_its_peer_is_dropped() {
    for backend in ["threading", "forking_style", "event_loop"] {
        let cell = Cell::named(backend, "udp4");
        let (place, gate) = (cell.place(), Gate::default());
        let running = Running::start(cell.bind(&place, gated(&gate)).max_per_peer(1).busy_reply("busy"));
        let mut client = say_hello(&running);
        gate.wait_for(1);
        client.write_all(b"more").unwrap();
        until("it is dropped", || running.stats().refused == 1);
        gate.open();
        assert_eq!(client.packet(), b"bye");
        let stats = running.finish();
        assert_eq!((stats.completed, stats.refused), (1, 1));
    }
}

#[test]
fn a_limit_for_peers_says_once_that_it_refuses() {
    in_child(|| {
        keep_log();
        let cell = Cell::named("threading", "tcp4");
        let (place, gate) = (cell.place(), Gate::default());
        let running = Running::start(cell.bind(&place, gated(&gate)).max_per_peer(1));
        let mut first = say_hello(&running);
        gate.wait_for(1);
        for _ in 0..3 {
            assert!(Client::connect(&running.addr).is_hung_up());
        }
        gate.open();
        assert_eq!(first.read_all(), b"bye");
        drop(first);
        assert_eq!(running.finish().refused, 3);
        let lines = kept_lines("");
        assert_eq!(lines.len(), 1, "one line for the episode: {lines:?}");
        assert!(lines[0].starts_with("WARN refusing") && lines[0].contains("max_per_peer is 1"), "{lines:?}");
    });
}
