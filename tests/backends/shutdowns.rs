//! A shutdown that races the start of serving, from outside and from handlers.

use std::sync::{Arc, Barrier};
use std::thread;

use log::LevelFilter;
use socketserver::Request;

use crate::support::cell::Cell;
use crate::support::child::{keep_log_from, kept_lines};
use crate::support::client::Client;
use crate::support::echo;
use crate::support::running::{Running, close};

/// Whichever comes first, serving ends.
pub fn a_shutdown_may_race_the_start(cell: Cell) {
    for _ in 0..20 {
        let place = cell.place();
        let server = cell.bind(&place, echo);
        let handle = server.shutdown_handle();
        let together = Arc::new(Barrier::new(2));
        let racing = {
            let together = together.clone();
            thread::spawn(move || {
                together.wait();
                handle.shutdown();
            })
        };
        together.wait();
        let (server, _) = Running::start(server).ended();
        racing.join().unwrap();
        close(server);
    }
}

/// As the table of levels has it.
pub fn the_log_says_when_a_server_listens(cell: Cell) {
    keep_log_from(LevelFilter::Info);
    let place = cell.place();
    let running = Running::start(cell.bind(&place, echo));
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    let addr = running.addr.clone();
    running.finish();
    let lines = ["listening", "stopping", "stopped"].map(|what| format!("INFO {what} on {addr}"));
    assert_eq!(kept_lines(""), lines);
}

/// Of several handlers each stops the server, which has hardly begun.
pub fn handlers_may_race_to_stop_their_server(cell: Cell) {
    for _ in 0..20 {
        let place = cell.place();
        let server = cell.bind(&place, |request: &mut Request| {
            request.shutdown_handle().shutdown();
            echo(request)
        });
        let clients: Vec<Client> = (0..4)
            .map(|_| {
                let client = Client::sending(server.local_addr(), b"stop");
                client.half_close().unwrap();
                client
            })
            .collect();
        let (server, served) = Running::start(server).ended();
        assert!((1..=4).contains(&served.accepted));
        assert_eq!(served.cut, 0);
        drop(clients);
        close(server);
    }
}
