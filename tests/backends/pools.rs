//! `ForkingStyle`: no more than its workers run, and it says how many do.

use std::io::Write;
use std::thread;

use log::LevelFilter;
use socketserver::backend::ForkingStyle;
use socketserver::{ForkingStyleTcpServer, Request, Server};

use crate::limits::{gated, say_hello, says_once_that_it_is_full};
use crate::support::cell::{Cell, Kind, Place, bind_with};
use crate::support::child::{in_child, keep_log_from};
use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::running::Running;
use crate::support::{echo, within};

#[test]
fn no_more_requests_run_than_there_are_workers() {
    for kind in ["tcp4", "unix_stream"] {
        let (place, gate) = (Cell::named("forking_style", kind).place(), Gate::default());
        let running = Running::start(bind_with(&place, ForkingStyle::new(2), gated(&gate)));
        let clients: Vec<Client> = (0..10).map(|_| say_hello(&running)).collect();
        gate.wait_for(2);
        assert_eq!(running.stats().accepted, 2, "the others are in the kernel's queue");
        gate.open();
        clients.into_iter().for_each(|mut client| assert_eq!(client.read_all(), b"bye"));
        assert_eq!(running.finish().completed, 10);
        assert_eq!(gate.most(), 2);
    }
}

/// A client that waits behind connections that stay open looks like one that nobody serves.
#[test]
fn a_full_pool_says_so_once() {
    in_child(|| {
        keep_log_from(LevelFilter::Info);
        let (place, gate) = (Place::new(Kind::Tcp4), Gate::default());
        let server = bind_with(&place, ForkingStyle::new(1), gated(&gate));
        says_once_that_it_is_full(server, &gate, "INFO the backend is full");
    });
}

#[test]
fn active_children_are_the_workers_that_run_a_request() {
    let gate = Gate::default();
    let its_gate = gate.clone();
    let mut server =
        ForkingStyleTcpServer::bind("127.0.0.1:0", move |request: &mut Request| its_gate.pass(request)).unwrap();
    assert_eq!(server.backend().max_children(), 40);
    assert_eq!(server.backend().active_children(), 0);
    let clients = [(); 3].map(|()| Client::connect(server.local_addr()));
    for active in 1..=3 {
        server.handle_request().unwrap();
        gate.wait_for(active);
        assert_eq!(server.backend().active_children(), active);
    }
    gate.open();
    clients.into_iter().for_each(|mut client| assert_eq!(client.read_all(), b""));
    within("closing", move || server.close()).unwrap();
}

/// More of them than there can be, whatever their stacks are like; these are of a size of which there is not even one.
#[test]
fn too_many_workers_are_an_error() {
    let backend = ForkingStyle::new(usize::MAX).stack_size(usize::MAX / 2);
    let mut server = bind_with(&Place::new(Kind::Tcp4), backend, echo);
    assert!(server.activate().is_err());
    within("closing", move || server.close()).unwrap();
}

/// At least one worker, whatever was asked for; a request runs on a thread that says what it is.
#[test]
fn workers_have_a_name_and_a_stack() {
    let backend = ForkingStyle::new(0).stack_size(32 << 20);
    assert_eq!(backend.max_children(), 1);
    let listener = socketserver::listener::bind("127.0.0.1:0").unwrap();
    let mut server = Server::new(listener, backend, |request: &mut Request| {
        // More than the stack that std gives by default.
        let room = std::hint::black_box([1_u8; 3 << 20]);
        assert!(room.iter().step_by(4096).all(|byte| *byte == 1));
        request.write_all(thread::current().name().unwrap_or_default().as_bytes())
    });
    let mut client = Client::connect(server.local_addr());
    server.handle_request().unwrap();
    assert_eq!(client.read_all(), b"worker-0");
    within("closing", move || server.close()).unwrap();
}

/// A logger that panics when it hears that a connection is closed. Nothing else of a program's own can end a worker.
struct Panicking;

impl log::Log for Panicking {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        assert!(!record.args().to_string().starts_with("closed"), "as the test wants");
    }

    fn flush(&self) {}
}

#[test]
fn a_logger_that_panics_costs_no_worker() {
    in_child(|| {
        log::set_logger(&Panicking).unwrap();
        log::set_max_level(LevelFilter::Debug);
        let place = Place::new(Kind::Tcp4);
        let running = Running::start(bind_with(&place, ForkingStyle::new(1), echo));
        for _ in 0..3 {
            assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
        }
        assert_eq!(running.finish().completed, 3);
    });
}
