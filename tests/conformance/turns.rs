//! The turns of the serving thread: one request at a time, its timeout, the hook of every turn, pauses.

use std::io::Write;
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};
use socketserver::{AnyServer, Hooks, Request};

use crate::support::cell::Cell;
use crate::support::client::Client;
use crate::support::running::{Running, close};
use crate::support::{echo, receive, within};

/// Sends the name of each hook that is called.
struct Tell(Sender<&'static str>);

impl Hooks for Tell {
    fn handle_timeout(&self) {
        let _ = self.0.send("handle_timeout");
    }

    fn service_actions(&self) {
        let _ = self.0.send("service_actions");
    }
}

/// Has the server handle a request; says whether it did.
fn handle_request(mut server: AnyServer) -> (AnyServer, bool) {
    within("handling a request", move || {
        let handled = server.handle_request().expect("it can wait");
        (server, handled)
    })
}

/// One of two waiting clients, and then the other. The hook of `serve_forever` is not called.
pub fn handles_one_request(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let mut server = cell.bind(&place, echo).hooks(Tell(tell));
    let addr = server.local_addr().clone();
    let send = || {
        let client = Client::sending(&addr, b"hello");
        if cell.is_stream() {
            client.half_close().unwrap();
        }
        client
    };
    for (served, mut client) in [send(), send()].into_iter().enumerate() {
        let handled;
        (server, handled) = handle_request(server);
        assert!(handled);
        assert_eq!(server.stats().accepted, 1 + served as u64);
        assert_eq!(client.take_bytes(5), b"hello");
    }
    assert!(told.is_empty());
    assert_eq!(close(server).completed, 2);
}

pub fn handling_one_request_has_a_timeout(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let server = cell.bind(&place, echo).hooks(Tell(tell)).timeout(Some(Duration::from_millis(20)));
    let (server, handled) = handle_request(server);
    assert!(!handled);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["handle_timeout"]);
    assert_eq!(close(server).accepted, 0);
}

pub fn a_shutdown_ends_the_wait_for_one_request(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let server = cell.bind(&place, echo).hooks(Tell(tell));
    let handle = server.shutdown_handle();
    let shutdown = std::thread::spawn(move || handle.shutdown());
    let (server, handled) = handle_request(server);
    assert!(!handled);
    shutdown.join().unwrap();
    assert!(told.is_empty(), "that is no timeout");
    close(server);
}

/// A loop of single requests is most likely to be elsewhere when somebody ends it.
pub fn a_shutdown_between_two_requests_ends_the_wait_for_the_second(cell: Cell) {
    let place = cell.place();
    let mut server = cell.bind(&place, echo).timeout(Some(Duration::ZERO));
    let handle = server.shutdown_handle();
    assert!(!server.handle_request().expect("it can wait"));
    handle.shutdown();
    let (server, handled) = handle_request(server.timeout(None));
    assert!(!handled);
    // That was it: the next one is served.
    handle.shutdown();
    let client = Client::connect(server.local_addr());
    let asking = std::thread::spawn(move || client.ask(b"hello"));
    let (server, handled) = handle_request(server);
    assert!(handled);
    assert_eq!(asking.join().unwrap(), b"hello");
    assert_eq!(close(server).completed, 1);
}

/// Although it has nothing to wait for: its request is there.
pub fn a_handler_may_end_a_loop_of_single_requests(cell: Cell) {
    let place = cell.place();
    let server = cell.bind(&place, |request: &mut Request| {
        request.shutdown_handle().shutdown();
        request.write_all(b"bye")
    });
    let mut client = Client::sending(server.local_addr(), b"hello");
    let server = within("a loop of single requests", move || {
        let mut server = server;
        while server.handle_request().expect("it can wait") {}
        server
    });
    assert_eq!(client.take_bytes(3), b"bye");
    drop(client);
    assert_eq!(close(server).completed, 1);
}

pub fn service_actions_run_in_every_turn(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, echo).hooks(Tell(tell)));
    for _ in 0..3 {
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
        assert_eq!(receive("the hook of the turn", &told), "service_actions");
    }
    running.finish();
}

/// And does not turn on and on, because it was woken once: here by a resume, for which there has been no pause.
pub fn a_server_that_was_woken_waits_again(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let server = cell.bind(&place, |request: &mut Request| {
        request.sleep(Duration::from_millis(50))?;
        echo(request)
    });
    let running = Running::start(server.hooks(Tell(tell)));
    running.handle.resume();
    for _ in 0..2 {
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    }
    running.finish();
    let turns = told.len();
    assert!(turns < 50, "{turns} turns for two requests");
}

/// Also when nobody connects.
pub fn service_actions_run_at_the_poll_interval(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let server = cell.bind(&place, echo).hooks(Tell(tell)).poll_interval(Some(Duration::from_millis(5)));
    let running = Running::start(server);
    for _ in 0..3 {
        assert_eq!(receive("the hook of the turn", &told), "service_actions");
    }
    assert_eq!(running.finish().accepted, 0);
}

/// Who sends during a pause waits in the queue, and is served afterwards.
pub fn a_pause_ends_with_resume(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let server = cell.bind(&place, echo).hooks(Tell(tell)).poll_interval(Some(Duration::from_millis(5)));
    server.shutdown_handle().pause();
    let running = Running::start(server);
    let mut client = Client::sending(&running.addr, b"hello");
    // The turns that are in the channel already may have been before the client came.
    told.try_iter().for_each(drop);
    for _ in 0..3 {
        receive("a turn in the pause", &told);
    }
    assert_eq!(running.stats().accepted, 0);
    running.handle.resume();
    assert_eq!(client.take_bytes(5), b"hello");
    drop(client);
    assert_eq!(running.finish().completed, 1);
}
