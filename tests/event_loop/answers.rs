//! Datagrams that came together, which are received together where they are many, and whose replies leave together.

use std::io::{self, BufRead, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

use socketserver::backend::EventLoop;
use socketserver::{Activity, Addr, AnyServer, Failure, Hooks, Monitor, Request, ShutdownHandle};

use crate::support::cell::{Cell, Place, bind_with};
use crate::support::client::Client;
use crate::support::record::Record;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, echo, until};

/// For two turns with many datagrams, and a few more.
const CLIENTS: usize = 130;

/// Tells of each failure whose it was.
struct Told(Record);

impl Hooks for Told {
    fn handle_error(&self, failure: &Failure<'_>) {
        self.0.add(failure.peer.to_string());
    }
}

/// Each handler replies with how many have been received.
pub fn each_of_a_few_datagrams_is_served_before_the_next_is_received(cell: Cell) {
    let server = Counting::start(cell, |server| server);
    server.running.handle.pause();
    let mut client = Client::connect(&server.running.addr);
    (0..5).for_each(|_| client.write_all(b"how many").unwrap());
    server.running.handle.resume();
    (1..=5).for_each(|count| assert_eq!(client.packet(), [count]));
    assert_eq!(server.running.finish().completed, 5);
}

pub fn many_datagrams_are_received_before_the_first_is_served(cell: Cell) {
    assert_replies_after_many(cell, |server| server, [MANY + 5; 5]);
}

/// A limit is for what runs at a time: of a peer's datagrams that come together, each is served when the one before has been, and the next
/// has come.
pub fn a_limit_does_not_concern_datagrams_that_wait_for_others(cell: Cell) {
    assert_replies_after_many(
        cell,
        |server| server.max_per_peer(1),
        [MANY + 2, MANY + 3, MANY + 4, MANY + 5, MANY + 5],
    );
}

/// As many as there is room for are received, and then served.
pub fn datagrams_that_wait_for_others_take_room(cell: Cell) {
    assert_replies_after_many(
        cell,
        |server| server.max_connections(2),
        [MANY + 2, MANY + 2, MANY + 3, MANY + 4, MANY + 5],
    );
}

/// As many as are taken in one turn, which is many.
const MANY: u8 = 64;

/// What a server with these limits replies to five datagrams that are there together, if many came in the turn before.
#[track_caller]
fn assert_replies_after_many(cell: Cell, limits: fn(AnyServer) -> AnyServer, counts: [u8; 5]) {
    let server = Counting::start(cell, limits);
    server.running.handle.pause();
    let mut client = Client::connect(&server.running.addr);
    (1..MANY).for_each(|_| client.write_all(b"how many").unwrap());
    // The last one of its turn, so that those that come meanwhile have the next one for themselves.
    client.write_all(b"hold").unwrap();
    server.running.handle.resume();
    server.held.recv_timeout(PATIENCE).expect("the last one is served");
    (0..5).for_each(|_| client.write_all(b"how many").unwrap());
    server.release.send(()).unwrap();
    (1..=MANY).for_each(|count| assert_eq!(client.packet(), [count]));
    for count in counts {
        assert_eq!(client.packet(), [count]);
    }
    let stats = server.running.finish();
    assert_eq!((stats.completed, stats.refused), (u64::from(MANY) + 5, 0));
}

/// A server on one event loop that replies with how many datagrams it has received. One that says `hold` holds the loop.
struct Counting {
    running: Running,
    held: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
    _place: Place,
}

impl Counting {
    fn start(cell: Cell, limits: fn(AnyServer) -> AnyServer) -> Counting {
        let place = cell.place();
        let monitor = Arc::new(OnceLock::<Monitor>::new());
        let its_monitor = monitor.clone();
        let (holds, held) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let gate = Mutex::new((holds, released));
        let server = bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
            if request.fill_buf()? == b"hold" {
                let (holds, released) = &*gate.lock().unwrap();
                let _ = holds.send(());
                let _ = released.recv();
            }
            let received = its_monitor.get().map_or(0, |monitor| monitor.stats().accepted);
            request.write_all(&[received as u8])
        });
        monitor.get_or_init(|| server.monitor());
        let running = Running::start(limits(server));
        Counting { running, held, release, _place: place }
    }
}

/// A reply that no datagram can carry fails its own request, wherever it is among the others.
pub fn a_reply_that_cannot_be_sent_fails_its_request_alone(cell: Cell) {
    let place = cell.place();
    let failures = Record::default();
    let server = bind_with(&place, EventLoop::new(1), |request: &mut Request| -> io::Result<()> {
        let mut packet = Vec::new();
        request.read_to_end(&mut packet)?;
        request.write_all(&packet)?;
        if packet == b"long" { request.write_all(&vec![0; 10_000_000]) } else { Ok(()) }
    });
    let running = Running::start(server.hooks(Told(failures.clone())));
    running.handle.pause();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&running.addr)).collect();
    // Of those that are answered alone, and of those that are answered together: some at the beginning, some side by side, one at the end.
    const LONG: [usize; 8] = [0, 1, 5, 64, 65, 70, 127, CLIENTS - 1];
    let is_long = |number: usize| LONG.contains(&number);
    // More than ten a Unix server's queue does not hold while nobody reads.
    let held = if matches!(running.addr, Addr::Unixgram(_)) { 10 } else { CLIENTS - 1 };
    for (number, client) in clients.iter_mut().enumerate() {
        if number == held {
            running.handle.resume();
        }
        client.write_all(if is_long(number) { b"long" } else { b"short" }).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        if !is_long(number) {
            assert_eq!(client.packet(), b"short");
        }
    }
    failures.wait_for(LONG.len());
    let stats = running.finish();
    assert_eq!((stats.completed, stats.failed), ((CLIENTS - LONG.len()) as u64, LONG.len() as u64));
    assert_eq!(failures.events().len(), LONG.len());
}

/// A single request's peer has no room for the reply at first: the call that serves it waits.
pub fn a_reply_that_has_to_wait_is_waited_for(cell: Cell) {
    assert_is_waited_for(cell, |_| {});
}

/// The request's handler ends the server, which waits as well.
pub fn a_reply_that_has_to_wait_outlives_the_server(cell: Cell) {
    assert_is_waited_for(cell, ShutdownHandle::shutdown);
}

#[track_caller]
fn assert_is_waited_for(cell: Cell, handle_with: fn(&ShutdownHandle)) {
    let place = cell.place();
    let mut server = bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
        handle_with(&request.shutdown_handle());
        request.write_all(b"reply")
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client");
    let client = UnixDatagram::bind(&path).unwrap();
    client.send_to(b"hello", server.local_addr().as_path().unwrap()).unwrap();
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"other", &path).is_ok() {}
    let monitor = server.monitor();
    let serving = thread::spawn(move || server.handle_request().map(|_| server));
    until("the reply waits", || monitor.dump().iter().any(|request| request.activity == Activity::Writing));
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut packet = [0; 10];
    while client.recv(&mut packet).expect("the reply comes") == 5 && &packet[..5] != b"reply" {}
    assert_eq!(close(serving.join().unwrap().expect("it can wait")).completed, 1);
}

/// One request at a time, none of which is left with its reply.
pub fn a_request_that_is_handled_alone_has_its_reply(cell: Cell) {
    let place = cell.place();
    let mut server = bind_with(&place, EventLoop::new(1), echo);
    let mut client = Client::connect(server.local_addr());
    for number in 0..3 {
        client.write_all(&[number]).unwrap();
        assert!(server.handle_request().unwrap());
        assert_eq!(client.packet_at_hand(), Some(vec![number]));
        assert_eq!(server.stats().completed, u64::from(number) + 1);
    }
}
