//! `EventLoop`: several loops share the connections, and a request stays on its own.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use socketserver::Request;
use socketserver::backend::EventLoop;

use crate::support::cell::{Cell, Kind, Place, bind_with};
use crate::support::child::in_child;
use crate::support::client::Client;
use crate::support::descriptors::threads;
use crate::support::gate::Gate;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, echo, receive, until};

#[test]
fn all_loops_get_connections() {
    for kind in ["tcp4", "unix_stream"] {
        let place = Cell::named("event_loop", kind).place();
        let (tell, told) = unbounded();
        let running = Running::start(bind_with(&place, EventLoop::new(3), move |request: &mut Request| {
            let here = thread::current().id();
            let _ = tell.send(here);
            let result = echo(request);
            assert_eq!(thread::current().id(), here, "a started coroutine never changes its thread");
            result
        }));
        let mut clients: Vec<Client> = Vec::new();
        let mut threads: Vec<ThreadId> = Vec::new();
        for _ in 0..9 {
            let mut client = Client::sending(&running.addr, b"hello");
            assert_eq!(client.take_bytes(5), b"hello");
            clients.push(client);
            threads.push(receive("the thread of the request", &told));
        }
        for thread in threads.iter().collect::<HashSet<_>>() {
            let requests = threads.iter().filter(|other| *other == thread).count();
            assert_eq!(requests, 3, "a new connection goes to the loop that has the fewest");
        }
        drop(clients);
        assert_eq!(running.finish().completed, 9);
    }
}

/// One client sends without end; another one's every message is answered meanwhile.
#[test]
fn a_flood_does_not_starve_the_others() {
    let place = Cell::named("event_loop", "tcp4").place();
    let running = Running::start(bind_with(&place, EventLoop::new(1), echo));
    let flood = Client::connect(&running.addr);
    let writing = flood.duplicate();
    let flooding = thread::spawn(move || {
        let mut writing = writing;
        while writing.write_all(&[b'f'; 64 * 1024]).is_ok() {}
    });
    let reading = thread::spawn(move || {
        let mut flood = BufReader::with_capacity(256 * 1024, flood);
        while let Ok(count @ 1..) = flood.fill_buf().map(<[u8]>::len) {
            flood.consume(count);
        }
    });
    let mut client = Client::connect(&running.addr);
    for _ in 0..100 {
        client.write_all(b"ping").unwrap();
        assert_eq!(client.take_bytes(4), b"ping");
    }
    drop(client);
    // The flood is busy at any time, so a drain waits for it until the deadline.
    running.handle.drain(Duration::from_millis(50));
    let (server, _) = running.ended();
    close(server);
    flooding.join().unwrap();
    reading.join().unwrap();
}

/// A handler that goes deep, and one that panics there, on a stack of the least size that holds them.
#[test]
fn the_stack_is_as_large_as_asked_for() {
    fn deep(levels: usize) -> usize {
        let frame = std::hint::black_box([levels as u8; 1024]);
        if levels == 0 { 0 } else { deep(levels - 1) + usize::from(frame[0] == levels as u8) }
    }
    let place = Cell::named("event_loop", "tcp4").place();
    let backend = EventLoop::new(1).stack_size(8 << 20);
    let running = Running::start(bind_with(&place, backend, |request: &mut Request| -> io::Result<()> {
        let mut levels = String::new();
        request.read_to_string(&mut levels)?;
        let levels = levels.parse().map_err(io::Error::other)?;
        writeln!(request, "{}", deep(levels))
    }));
    assert_eq!(Client::connect(&running.addr).ask(b"3000"), b"3000\n");
    assert_eq!(running.finish().completed, 1);
}

/// It waited for its loop, which was held up; meanwhile the server may have begun to serve again.
#[test]
fn a_request_that_begins_after_the_cut_is_cut() {
    for (kind, serves_again) in [("tcp4", false), ("tcp4", true), ("unix_stream", false), ("unix_stream", true)] {
        let place = Cell::named("event_loop", kind).place();
        let (began, beginning) = unbounded();
        let (open, gate) = bounded::<()>(0);
        let server = bind_with(&place, EventLoop::new(2), move |request: &mut Request| {
            let mut way = [0];
            request.read_exact(&mut way)?;
            let _ = began.send(());
            match &way {
                b"h" => Ok(_ = gate.recv()),
                b"e" => request.write_all(&way),
                _ => request.sleep(PATIENCE * 2),
            }
        });
        let running = Running::start(server.shutdown_deadline(Duration::ZERO));
        // By turns on the serving thread's loop and on the other one, which the second one holds up.
        let clients = [b"s", b"h", b"s"].map(|way| {
            let client = Client::sending(&running.addr, way);
            receive("the beginning of a request", &beginning);
            client
        });
        let late = Client::sending(&running.addr, b"s");
        until("the last one is accepted", || running.stats().accepted == 4);
        let monitor = running.monitor.clone();
        let (mut server, served) = running.stop();
        assert_eq!(served.cut, 3);
        if serves_again {
            let again = Running::start(server);
            assert_eq!(Client::sending(&again.addr, b"e").read_all(), b"e");
            drop(open);
            until("nothing is left", || monitor.stats().live == 0);
            let served;
            (server, served) = again.stop();
            assert_eq!(served.cut, 0);
        } else {
            drop(open);
            until("nothing is left", || monitor.stats().live == 0);
        }
        assert_eq!(close(server).cut, 3);
        drop((clients, late));
    }
}

/// Each waits for its end, and they are many: a connection would go to another loop.
#[test]
fn datagrams_stay_on_the_loop_that_receives_them() {
    let (place, gate) = (Place::new(Kind::Udp4), Gate::default());
    let (tell, told) = unbounded();
    let its_gate = gate.clone();
    let running = Running::start(bind_with(&place, EventLoop::new(3), move |request: &mut Request| {
        let _ = tell.send(thread::current().id());
        its_gate.pass(request)
    }));
    let mut client = Client::connect(&running.addr);
    (0..9).for_each(|_| client.write_all(b"hello").unwrap());
    gate.wait_for(9);
    gate.open();
    running.finish();
    assert_eq!(told.iter().collect::<HashSet<_>>().len(), 1);
}

/// Nobody closes it.
#[test]
fn the_loops_of_a_server_that_is_dropped_end() {
    in_child(|| {
        let before = threads();
        let place = Place::new(Kind::Tcp4);
        let running = Running::start(bind_with(&place, EventLoop::new(3), echo));
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
        assert!(threads() > before);
        drop(running.stop());
        until("its threads end", || threads() == before);
    });
}
