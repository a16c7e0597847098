//! The backend of this crate's own: whom it serves first, how many it lets in, how it ends.

#[allow(dead_code)]
mod support;

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use downstream::{Board, Reception, Visit};
use socketserver::listener::{Bind, Tcp};
use socketserver::{Addr, Hooks, Incoming, Request, Server};
use support::{Guest, PATIENCE, Serving};

/// Counts who is let in, and tells after every turn how many that were.
struct Watched {
    entered: AtomicUsize,
    turns: Sender<usize>,
}

impl Hooks for Watched {
    fn verify_request(&self, _: &Incoming) -> io::Result<bool> {
        self.entered.fetch_add(1, SeqCst);
        Ok(true)
    }

    fn service_actions(&self) {
        // A test that is over does not listen any more.
        let _ = self.turns.send(self.entered.load(SeqCst));
    }
}

fn watched() -> (Watched, Receiver<usize>) {
    let (turns, told) = channel();
    (Watched { entered: AtomicUsize::new(0), turns }, told)
}

#[track_caller]
fn wait_until_entered(told: &Receiver<usize>, count: usize) {
    while told.recv_timeout(PATIENCE).expect("they are let in") < count {}
}

fn tcp() -> Tcp {
    Tcp::bind("127.0.0.1:0").unwrap()
}

#[test]
fn important_guests_are_served_before_those_who_came_earlier() {
    let important = Arc::new(Mutex::new(HashSet::<Addr>::new()));
    let known = important.clone();
    let reception = Reception::new(1, 16, move |peer| known.lock().unwrap().contains(peer));
    let board = Arc::new(Board::default());
    let shared = board.clone();
    let (watched, told) = watched();
    let server = Server::new(tcp(), reception, move || Visit::new(shared.clone())).hooks(watched);

    // All three come before anybody is served, and the first one holds the only desk.
    let first = Guest::connect(server.local_addr());
    let mut others = ["earlier", "important"].map(|name| {
        let mut stream = TcpStream::connect(server.local_addr().as_inet().unwrap()).unwrap();
        stream.write_all(format!("PIN {name} x\n").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream
    });
    important.lock().unwrap().insert(Addr::Tcp(others[1].local_addr().unwrap()));
    let serving = Serving::start(server);
    wait_until_entered(&told, 3);
    first.leave();
    for stream in &mut others {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(io::read_to_string(stream).unwrap(), "pinned\n");
    }
    assert_eq!(board.take_news(), ["important", "earlier"]);
    serving.end();
}

#[test]
fn a_free_seat_lets_the_next_guest_in() {
    let (watched, told) = watched();
    let board = Arc::new(Board::default());
    let server = Server::new(tcp(), Reception::new(1, 1, |_| false), move || Visit::new(board.clone()));
    let serving = Serving::start(server.hooks(watched));

    let mut served = Guest::connect(&serving.addr);
    assert_eq!(served.ask("GUESTS"), "1");
    let mut seated = Guest::connect(&serving.addr);
    wait_until_entered(&told, 2);
    let mut outside = Guest::connect(&serving.addr);
    assert_eq!(served.ask("GUESTS"), "1");
    assert!(told.try_iter().all(|count| count == 2), "the only seat is taken");

    served.leave();
    assert_eq!(seated.ask("GUESTS"), "1");
    // The seat is free, although nobody else has left.
    wait_until_entered(&told, 3);
    seated.leave();
    assert_eq!(outside.ask("GUESTS"), "1");
}

#[test]
fn it_serves_again_after_a_shutdown() {
    let board = Arc::new(Board::default());
    let mut server = Server::new(tcp(), Reception::new(2, 2, |_| false), move || Visit::new(board.clone()));
    for count in ["1", "2"] {
        let (addr, handle) = (server.local_addr().clone(), server.shutdown_handle());
        let serving = thread::spawn(move || (server.serve_forever(), server));
        let mut guest = Guest::connect(&addr);
        assert_eq!(guest.ask(&format!("PIN note-{count} x")), "pinned");
        assert_eq!(guest.ask("COUNT"), count);
        handle.shutdown();
        let (served, ended) = serving.join().unwrap();
        assert_eq!(served.unwrap().cut, 0);
        server = ended;
    }
    assert_eq!(server.close().unwrap().unfinished, 0);
}

#[test]
fn closing_counts_the_desks_that_are_busy() {
    let (begin, begun) = channel();
    let (end, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    // It blocks outside of the crate's calls, so that nothing can end it.
    let stubborn = move |_: &mut Request| -> io::Result<()> {
        begin.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
        Ok(())
    };
    let server = Server::new(tcp(), Reception::new(2, 2, |_| false), stubborn);
    let mut server = server.shutdown_deadline(Duration::from_millis(20));
    let _guest = Guest::connect(server.local_addr());
    assert!(server.handle_request().unwrap());
    begun.recv_timeout(PATIENCE).unwrap();

    let served = server.close().unwrap();
    assert_eq!((served.cut, served.unfinished), (1, 1));
    drop(end);
}
