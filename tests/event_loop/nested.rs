//! A server that runs inside a handler, on a loop within a loop.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;
use socketserver::Request;
use socketserver::backend::EventLoop;

use crate::support::cell::{Cell, bind_with};
use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, receive};

/// The server leaves the handler's own context as it was: the handler goes on to park.
pub fn a_server_runs_inside_a_handler(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
        let mut message = [0; 4];
        request.read_exact(&mut message)?;
        if &message == b"nest" {
            serve_two(cell)?;
            let _ = tell.send(());
            // Not the request's own `sleep`: this one has to find out who it is that sleeps.
            return socketserver::sleep(PATIENCE * 2);
        }
        request.write_all(&message)
    }));
    let _nest = Client::sending(&running.addr, b"nest");
    receive("the end of the inner server", &told);
    assert_eq!(Client::connect(&running.addr).ask(b"ping"), b"ping");
    running.handle.drain(Duration::ZERO);
    let (server, served) = running.ended();
    assert_eq!(served.cut, 1);
    assert_eq!(close(server).completed, 1);
}

/// Serves two that begin together, and end in the order in which they began.
fn serve_two(cell: Cell) -> io::Result<()> {
    let (place, gate) = (cell.place(), Gate::default());
    let its_gate = gate.clone();
    let mut server = bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
        its_gate.pass(request)?;
        request.read_exact(&mut [0])
    });
    let (addr, handle) = (server.local_addr().clone(), server.shutdown_handle());
    let clients = thread::spawn(move || {
        let mut clients = [(); 2].map(|()| Client::connect(&addr));
        gate.wait_for(2);
        gate.open();
        for client in &mut clients {
            client.write_all(b"x").unwrap();
            assert_eq!(client.read_all(), b"");
        }
        handle.shutdown();
    });
    server.serve_forever()?;
    clients.join().expect("the clients are well");
    Ok(())
}
