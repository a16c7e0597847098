//! The same handler on every backend, this crate's own among them, over TCP and Unix sockets.

#[allow(dead_code)]
mod support;

use std::sync::Arc;
use std::thread;

use downstream::{Board, Reception, Visit};
use socketserver::backend::{Backend, BackendName};
use socketserver::listener::Listener;
use socketserver::{Addr, AnyServer, listener};
use support::{Guest, Serving};

/// Tests each behaviour on each server. One that is missing here is missing in the list of tests.
macro_rules! on_every_server {
    ($($behaviour:ident)*) => {$(
        mod $behaviour {
            on_every_server! { @$behaviour
                sequential_over_tcp: "sequential", "tcp";
                sequential_over_unix: "sequential", "unix";
                threading_over_tcp: "threading", "tcp";
                threading_over_unix: "threading", "unix";
                forking_style_over_tcp: "forking-style", "tcp";
                forking_style_over_unix: "forking-style", "unix";
                event_loop_over_tcp: "event-loop", "tcp";
                event_loop_over_unix: "event-loop", "unix";
                reception_over_tcp: "reception", "tcp";
                reception_over_unix: "reception", "unix";
            }
        }
    )*};
    (@$behaviour:ident $($name:ident: $backend:literal, $scheme:literal;)*) => {$(
        #[test]
        fn $name() {
            super::with_board($backend, $scheme, super::$behaviour);
        }
    )*};
}

on_every_server! {
    notes_outlive_the_visit
    news_come_from_another_thread
    idle_guests_are_told_that_the_board_closes
}

fn notes_outlive_the_visit(_: &Board, serving: Serving) {
    let mut first = Guest::connect(&serving.addr);
    assert_eq!(first.ask("PIN lunch soup at noon"), "pinned");
    assert_eq!(first.leave(), "");

    let mut second = Guest::connect(&serving.addr);
    assert_eq!(second.ask("READ lunch"), "soup at noon");
    assert_eq!(second.ask("READ dinner"), "nothing");
    assert_eq!(second.ask("COUNT"), "1");
    // The first one has been finished.
    assert_eq!(second.ask("GUESTS"), "1");
    assert_eq!(second.leave(), "");
    assert_eq!(serving.end().0.accepted, 2);
}

fn news_come_from_another_thread(board: &Board, serving: Serving) {
    let mut guest = Guest::connect(&serving.addr);
    assert_eq!(guest.ask("FOLLOW"), "following");
    thread::scope(|scope| {
        scope.spawn(|| board.pin("cake", "in the kitchen"));
    });
    assert_eq!(guest.line(), "cake: in the kitchen");
    assert_eq!(guest.ask("COUNT"), "1");
}

fn idle_guests_are_told_that_the_board_closes(board: &Board, serving: Serving) {
    let mut guest = Guest::connect(&serving.addr);
    assert_eq!(guest.ask("GUESTS"), "1");
    serving.handle.shutdown();
    assert_eq!(guest.line(), "the board closes");
    assert_eq!(guest.leave(), "");
    assert_eq!(serving.end().0.cut, 0);
    assert_eq!(board.guests(), 0);
}

/// Opens a board on a server that is chosen by text, for one behaviour.
fn with_board(backend: &str, scheme: &str, behaviour: fn(&Board, Serving)) {
    let folder = tempfile::tempdir().unwrap();
    let addr = match scheme {
        "tcp" => "tcp://127.0.0.1:0".to_string(),
        unix => format!("{unix}://{}/board.sock", folder.path().display()),
    };
    let listener: Box<dyn Listener> = listener::bind(addr).unwrap();
    let backend: Box<dyn Backend> = match backend {
        "reception" => Box::new(Reception::new(4, 16, Addr::is_unnamed)),
        name => name.parse::<BackendName>().unwrap().backend(),
    };
    let board = Arc::new(Board::default());
    let shared = board.clone();
    let server = AnyServer::new(listener, backend, move || Visit::new(shared.clone()));
    behaviour(&board, Serving::start(server));
}
