//! `Threading` and `ForkingStyle`: handlers on threads of their own, which the server waits for, or not.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use socketserver::Request;
use socketserver::backend::{Backend, ForkingStyle, Threading};

use crate::limits::gated;
use crate::support::cell::{Kind, Place, bind_with};
use crate::support::child::in_child;
use crate::support::client::Client;
use crate::support::descriptors::{mappings, threads};
use crate::support::gate::Gate;
use crate::support::running::Running;
use crate::support::{PATIENCE, assert_cut_at, receive, until, within};

/// The requests go on when serving has ended, and even when the server is gone.
#[test]
fn without_block_on_close_requests_are_on_their_own() {
    for backend in [Threading::new().block_on_close(false), Threading::new().daemon_threads(true)] {
        let (place, gate) = (Place::new(Kind::Tcp4), Gate::default());
        let its_gate = gate.clone();
        let server = bind_with(&place, backend, move |request: &mut Request| {
            its_gate.pass(request)?;
            assert!(!request.is_draining());
            request.write_all(b"done")
        });
        // Which is not for them.
        let running = Running::start(server.shutdown_deadline(Duration::MAX));
        let mut client = Client::connect(&running.addr);
        gate.wait_for(1);
        let monitor = running.monitor.clone();
        let (server, served) = running.stop();
        assert_eq!((served.cut, server.stats().live), (0, 1));
        assert_eq!(within("closing", move || server.close()).unwrap().unfinished, 1);
        gate.open();
        assert_eq!(client.read_all(), b"done");
        until("the request is counted", || monitor.stats().completed == 1);
    }
}

/// Nobody can connect meanwhile, and who is idle goes at once.
#[test]
fn closing_waits_for_requests_in_progress() {
    let backends: [Box<dyn Backend>; 2] = [Box::new(Threading::new()), Box::new(ForkingStyle::new(2))];
    for backend in backends {
        let (place, gate) = (Place::apart(Kind::Tcp4), Gate::default());
        let mut server = bind_with(&place, backend, gated(&gate));
        let addr = server.local_addr().clone();
        let mut clients = [Client::sending(&addr, b"hello"), Client::connect(&addr)];
        clients.iter().for_each(|_| assert!(server.handle_request().unwrap()));
        gate.wait_for(1);
        let closing = thread::spawn(move || server.close());
        let [busy, silent] = &mut clients;
        assert_eq!(silent.read_all(), b"");
        assert!(Client::try_connect(&addr).is_err() && !closing.is_finished());
        gate.open();
        assert_eq!(busy.read_all(), b"bye");
        let served = within("closing", move || closing.join()).unwrap().unwrap();
        assert_eq!((served.cut, served.unfinished), (0, 0));
    }
}

/// It computes, or blocks outside of this crate's calls, so that it does not notice that it was cut off. Nobody waits for it.
#[test]
fn a_handler_that_does_not_notice_the_end_is_left_behind() {
    const DEADLINE: Duration = Duration::from_millis(250);
    let backends: [Box<dyn Backend>; 2] = [Box::new(Threading::new()), Box::new(ForkingStyle::new(1))];
    for backend in backends {
        let place = Place::new(Kind::UnixStream);
        let (began, beginning) = unbounded();
        let (finish, finished) = bounded::<()>(0);
        let running = Running::start(bind_with(&place, backend, move |_: &mut Request| {
            let _ = began.send(());
            let _ = finished.recv_timeout(PATIENCE);
            Ok(())
        }));
        let mut client = Client::connect(&running.addr);
        receive("the beginning of the request", &beginning);
        let asked = Instant::now();
        running.handle.drain(DEADLINE);
        let (server, served) = running.ended();
        assert_eq!((served.cut, served.unfinished), (1, 1));
        assert_cut_at(DEADLINE, asked.elapsed());
        let served = within("closing", move || server.shutdown_deadline(DEADLINE).close()).unwrap();
        assert_eq!(served.unfinished, 1);
        assert_cut_at(DEADLINE, asked.elapsed());
        assert_eq!(client.read_all(), b"", "its connection is cut in spite of it");
        drop(finish);
    }
}

#[test]
fn threads_have_a_name_and_a_stack() {
    let place = Place::new(Kind::Tcp4);
    let backend = Threading::new().stack_size(32 << 20);
    let running = Running::start(bind_with(&place, backend, |request: &mut Request| {
        request.read_exact(&mut [0; 5])?;
        let room = std::hint::black_box([1_u8; 3 << 20]);
        assert!(room.iter().step_by(4096).all(|byte| *byte == 1));
        request.write_all(thread::current().name().unwrap_or_default().as_bytes())
    }));
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"request-0");
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"request-1");
    running.finish();
}

/// Also those of a program that handles requests one by one: each thread that nobody has joined keeps its stack.
#[test]
fn ended_threads_are_joined() {
    in_child(|| {
        let place = Place::new(Kind::Tcp4);
        let mut server = bind_with(&place, Threading::new(), |_: &mut Request| Ok(()));
        let before = mappings();
        for _ in 0..200 {
            let mut client = Client::connect(server.local_addr());
            assert!(server.handle_request().unwrap());
            assert_eq!(client.read_all(), b"");
        }
        let more = mappings().saturating_sub(before);
        assert!(more < 100, "{more} more entries of the memory map");
    });
}

/// Also those of a crowd that has gone, with nobody coming after it.
#[test]
fn threads_that_have_ended_are_joined_in_the_next_turn() {
    in_child(|| {
        let (place, gate) = (Place::new(Kind::Tcp4), Gate::default());
        let server = bind_with(&place, Threading::new(), gated(&gate));
        let running = Running::start(server.poll_interval(Some(Duration::from_millis(1))));
        let before = mappings();
        let crowd: Vec<Client> = (0..300).map(|_| Client::sending(&running.addr, b"hello")).collect();
        gate.wait_for(300);
        gate.open();
        crowd.into_iter().for_each(|mut client| assert_eq!(client.read_all(), b"bye"));
        until("their stacks are given back", || mappings() < before + 300);
        running.finish();
    });
}

#[test]
fn a_thread_that_has_ended_is_not_left_behind() {
    in_child(|| {
        let place = Place::new(Kind::Tcp4);
        let backend = Threading::new().block_on_close(false);
        let mut server = bind_with(&place, backend, |_: &mut Request| Ok(()));
        let before = threads();
        let mut client = Client::connect(server.local_addr());
        assert!(server.handle_request().unwrap());
        assert_eq!(client.read_all(), b"");
        until("its thread has ended", || threads() == before);
        assert_eq!(server.close().unwrap().unfinished, 0);
    });
}
