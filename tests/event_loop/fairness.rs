//! Fairness: whoever could go on without end lets the others have their turn.
//!
//! What is asserted is order, not time. A greedy handler counts its calls. A client notes the count when its ping is on its way, and
//! the handler that reads the ping, on the same loop, notes it again: between the two lie a few turns of the loop, each of which
//! is a bounded number of calls.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;
use socketserver::backend::EventLoop;
use socketserver::net::{TcpStream, UdpSocket};
use socketserver::sync::channel;
use socketserver::{Hooks, Incoming, Request};

use crate::support::cell::{Cell, bind_with};
use crate::support::client::Client;
use crate::support::running::{Running, close};
use crate::support::{receive, until, within};

/// Calls that need not wait between two turns of the others, and one that gives them their turn.
const TURN: u64 = 129;
/// Turns between a ping's arrival and its handler: the one that runs, and the one in which the loop hears of it. Twice as many,
/// since the system has its own delays.
const BOUND: u64 = 4 * TURN;
const PINGS: usize = 20;

/// A greedy connection's count of calls, and its end.
#[derive(Clone, Default)]
struct Greed {
    calls: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Greed {
    /// Counts a call; `false` if it was the last.
    fn goes_on(&self) -> bool {
        self.calls.fetch_add(1, SeqCst);
        !self.over.load(SeqCst)
    }

    fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }
}

/// Reads and drops everything, until the end.
fn drain(client: Client) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut client = client;
        let mut piece = vec![0; 256 * 1024];
        while matches!(client.read(&mut piece), Ok(1..)) {}
    })
}

/// Starts a greedy handler, which is to count its calls, and pings others of its loop meanwhile. Most pings must be heard within
/// the bound. (Not all: the system may itself be late with what it has taken.)
fn pings_are_heard(cell: Cell, greedy: fn(&mut Request, &Greed) -> io::Result<()>) {
    let place = cell.place();
    let greed = Greed::default();
    let (hear, heard) = unbounded();
    let its_greed = greed.clone();
    let handler = move |request: &mut Request| -> io::Result<()> {
        let mut kind = [0];
        request.read_exact(&mut kind)?;
        if kind[0] == b'g' {
            return greedy(request, &its_greed);
        }
        while !request.fill_buf()?.is_empty() {
            let calls = its_greed.calls();
            request.consume(1);
            let _ = hear.send(calls);
            request.write_all(b"!")?;
        }
        Ok(())
    };
    let running = Running::start(bind_with(&place, EventLoop::new(1), handler));
    let mut pingers: Vec<Client> = (0..PINGS).map(|_| Client::connect(&running.addr)).collect();
    for pinger in &mut pingers {
        pinger.write_all(b"p?").unwrap();
        receive("a ping", &heard);
        assert_eq!(pinger.take_bytes(1), b"!");
    }
    let client = Client::sending(&running.addr, b"g");
    let draining = drain(client);
    until("it is greedy", || greed.calls() > 10 * BOUND);
    let mut late = Vec::new();
    for _ in 0..5 {
        for pinger in &mut pingers {
            pinger.write_all(b"?").unwrap();
            let sent = greed.calls();
            let between = receive("a ping, which the greedy one starves", &heard).saturating_sub(sent);
            assert_eq!(pinger.take_bytes(1), b"!");
            if between > BOUND {
                late.push(between);
            }
        }
    }
    assert!(late.len() <= PINGS * 5 / 10, "calls before a ping was heard: {late:?}");
    greed.over.store(true, SeqCst);
    drop(pingers);
    running.finish();
    draining.join().unwrap();
}

pub fn writing_without_end_starves_nobody(cell: Cell) {
    pings_are_heard(cell, |request, greed| {
        while greed.goes_on() {
            request.write_all(b"x")?;
        }
        Ok(())
    });
}

/// Once somebody else may write to the peer, too, writes take another way.
pub fn writing_without_end_beside_a_sender_starves_nobody(cell: Cell) {
    pings_are_heard(cell, |request, greed| {
        let _sender = request.sender()?;
        while greed.goes_on() {
            request.write_all(b"x")?;
        }
        Ok(())
    });
}

/// A sibling writes through a sender, as in a proxy.
pub fn sending_without_end_starves_nobody(cell: Cell) {
    pings_are_heard(cell, |request, greed| {
        let (mut sender, greed) = (request.sender()?, greed.clone());
        let sibling = socketserver::spawn(move || -> io::Result<()> {
            while greed.goes_on() {
                sender.write_all(b"x")?;
            }
            Ok(())
        })?;
        sibling.join()?
    });
}

/// A connection whose other end sends until the greed is over, and the thread that does that.
fn endless(greed: &Greed) -> io::Result<(TcpStream, thread::JoinHandle<()>)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (mut source, _) = listener.accept()?;
    let over = greed.over.clone();
    let writing = thread::spawn(move || while !over.load(SeqCst) && source.write_all(&[b'x'; 64 * 1024]).is_ok() {});
    Ok((stream, writing))
}

/// A proxy whose upstream sends without end: each of its own sockets' calls need not wait.
pub fn copying_without_end_starves_nobody(cell: Cell) {
    pings_are_heard(cell, |_, greed| {
        let (mut upstream, writing) = endless(greed)?;
        while greed.goes_on() {
            upstream.read_exact(&mut [0; 16])?;
        }
        drop(upstream);
        writing.join().map_err(|_| io::Error::other("the writer is well"))
    });
}

/// What it waits for is there already.
pub fn receiving_without_end_starves_nobody(cell: Cell) {
    pings_are_heard(cell, |_, greed| {
        let (sender, receiver) = channel::bounded(1);
        while greed.goes_on() {
            sender.send(()).map_err(io::Error::other)?;
            receiver.recv().map_err(io::Error::other)?;
        }
        Ok(())
    });
}

/// A sibling that ends, having spawned the next one.
/// To one who is there, and to one who is not: on one machine, neither takes a wait.
pub fn connecting_without_end_starves_nobody(cell: Cell) {
    pings_are_heard(cell, |_, greed| {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        while greed.goes_on() {
            UdpSocket::connect(free)?;
            let refused = TcpStream::connect(free).map_err(|error| error.kind());
            assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
        }
        Ok(())
    });
}

pub fn siblings_that_spawn_without_end_starve_nobody(cell: Cell) {
    fn spawn_the_next(greed: Greed) {
        if greed.goes_on() {
            let _ = socketserver::spawn(move || spawn_the_next(greed));
        }
    }
    pings_are_heard(cell, |_, greed| {
        let greed = greed.clone();
        socketserver::spawn(move || spawn_the_next(greed)).map(drop)
    });
}

/// Twenty clients ping while one sends without end, and reads what comes back.
pub fn pings_are_answered_within_some_turns_of_a_flood(cell: Cell) {
    pings_are_heard(cell, |request, greed| {
        // The client of the tests above only reads; the flood comes from here.
        let (mut incoming, writing) = endless(greed)?;
        let mut piece = [0; 64];
        while greed.goes_on() {
            incoming.read_exact(&mut piece)?;
            request.write_all(&piece)?;
        }
        drop(incoming);
        writing.join().map_err(|_| io::Error::other("the writer is well"))
    });
}

/// A client that sends without end and reads what comes back. It ends with its connection.
fn flood(running: &Running) -> [thread::JoinHandle<()>; 2] {
    let client = Client::connect(&running.addr);
    let mut writer = client.duplicate();
    let writing = thread::spawn(move || while writer.write_all(&[b'f'; 64 * 1024]).is_ok() {});
    [writing, drain(client)]
}

/// Three connections flood, on one loop; it hears of the stop at once, and of the deadline.
pub fn a_flood_does_not_hold_up_a_stop(cell: Cell) {
    let place = cell.place();
    let echoed = Arc::new(AtomicUsize::new(0));
    let counter = echoed.clone();
    let running = Running::start(bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
        loop {
            let bytes = request.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let bytes = bytes.to_vec();
            request.write_all(&bytes)?;
            request.consume(bytes.len());
            counter.fetch_add(bytes.len(), SeqCst);
        }
    }));
    let floods = [(); 3].map(|()| flood(&running));
    until("the flood is there", || echoed.load(SeqCst) > 4 << 20);
    running.handle.drain(Duration::from_millis(50));
    let (server, served) = running.ended();
    assert!(served.cut <= 3, "{served:?}");
    close(server);
    within("the floods' end", || floods.into_iter().flatten().for_each(|thread| thread.join().unwrap()));
}

/// Counts the accepts between two turns.
#[derive(Clone, Default)]
struct Accepts {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Hooks for Accepts {
    fn verify_request(&self, _: &Incoming) -> io::Result<bool> {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        Ok(true)
    }

    fn service_actions(&self) {
        self.now.store(0, SeqCst);
    }
}

/// Three hundred clients are queued when accepting goes on.
pub fn few_are_accepted_in_a_turn(cell: Cell) {
    const CLIENTS: usize = 300;
    let place = cell.place();
    let accepts = Accepts::default();
    let server = bind_with(&place, EventLoop::new(1), crate::support::echo);
    let running = Running::start(server.hooks(accepts.clone()));
    // So it serves, and hears of the pause before the next.
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    running.handle.pause();
    let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&running.addr)).collect();
    running.handle.resume();
    for client in clients {
        assert_eq!(client.ask(b"hello"), b"hello");
    }
    assert_eq!(running.finish().completed, CLIENTS as u64 + 1);
    let most = accepts.most.load(SeqCst);
    assert!((2..=64).contains(&most), "{most} connections were accepted in one turn");
}

/// Two connections wait with their bytes before the server serves. The first one's handler could read all of them in a few calls; the
/// second one's runs before it has.
pub fn many_bytes_are_a_turn_like_many_calls(cell: Cell) {
    const QUEUED: usize = 192 * 1024;
    /// 128 KiB, and the call in which that is reached.
    const TURN_BYTES: usize = (128 + 16) * 1024;
    let place = cell.place();
    let read = Arc::new(AtomicUsize::new(0));
    let (tell, told) = unbounded();
    let handler = move |request: &mut Request| -> io::Result<()> {
        let mut kind = [0];
        request.read_exact(&mut kind)?;
        if kind[0] == b's' {
            let _ = tell.send(read.load(SeqCst));
            return Ok(());
        }
        loop {
            let count = request.fill_buf()?.len();
            if count == 0 {
                return Ok(());
            }
            read.fetch_add(count, SeqCst);
            request.consume(count);
        }
    };
    let server = bind_with(&place, EventLoop::new(1), handler);
    let addr = server.local_addr().clone();
    let mut first = Client::connect(&addr);
    first.write_all(&vec![b'g'; QUEUED]).unwrap();
    let second = Client::sending(&addr, b"s");
    let running = Running::start(server);
    let before = receive("the second connection's turn", &told);
    assert!(before <= TURN_BYTES, "{before} bytes were read before");
    drop((first, second));
    assert_eq!(running.finish().completed, 2);
}
