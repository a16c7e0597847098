//! Balance: several loops have about as many connections each.

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::thread::{self, ThreadId};
use std::time::Duration;

use crossbeam_channel::bounded;
use rustix::net::getsockname;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socketserver::backend::EventLoop;
use socketserver::{Request, spawn};

use crate::support::cell::{Kind, Place, bind_with};
use crate::support::child::{in_child, keep_log, kept_lines};
use crate::support::client::Client;
use crate::support::running::Running;
use crate::support::until;

const LOOPS: usize = 4;
const CONNECTIONS: usize = 1000;

/// Answers the first byte with the thread that it runs on, and stays until its peer goes.
fn says_its_thread(request: &mut Request) -> io::Result<()> {
    request.read_exact(&mut [0])?;
    writeln!(request, "{:?}", thread::current().id())?;
    let here: ThreadId = thread::current().id();
    request.read_to_end(&mut Vec::new())?;
    assert_eq!(thread::current().id(), here, "a started coroutine never changes its thread");
    Ok(())
}

/// The other end of a connection, and the loop that has it.
struct Connection {
    client: Client,
    thread: String,
}

impl Connection {
    fn open(running: &Running) -> Connection {
        Connection::of(Client::sending(&running.addr, b"?"))
    }

    /// When that has its answer.
    fn of(mut client: Client) -> Connection {
        let mut thread = Vec::new();
        while thread.last() != Some(&b'\n') {
            thread.extend(client.take_bytes(1));
        }
        Connection { client, thread: String::from_utf8(thread).unwrap() }
    }

    /// Ends it, and waits until the server has.
    fn close(mut self) {
        self.client.half_close().unwrap();
        assert_eq!(self.client.read_all(), b"");
    }
}

#[track_caller]
fn assert_balance(connections: &[Connection]) {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for connection in connections {
        *counts.entry(&connection.thread).or_default() += 1;
    }
    assert_eq!(counts.len(), LOOPS, "each loop has some: {counts:?}");
    let (fullest, emptiest) = (counts.values().max().unwrap(), counts.values().min().unwrap());
    assert!(fullest * 4 <= emptiest * 5, "the fullest has more than 1.25 times the emptiest: {counts:?}");
}

fn thousand_connections(kind: Kind) {
    let most = getrlimit(Resource::Nofile).maximum;
    if most.is_some_and(|most| most < 2 * CONNECTIONS as u64 + 100) {
        println!("skipped: this system allows no more than {most:?} descriptors");
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let place = Place::new(kind);
    let running = Running::start(bind_with(&place, EventLoop::new(LOOPS), says_its_thread));
    let mut connections: Vec<Connection> = (0..CONNECTIONS).map(|_| Connection::open(&running)).collect();
    assert_balance(&connections);
    // One loop loses all of its own, and gets as many new ones.
    let first = connections[0].thread.clone();
    let (gone, kept) = connections.into_iter().partition(|connection| connection.thread == first);
    connections = kept;
    let count = gone.len();
    gone.into_iter().for_each(Connection::close);
    // A loop counts a connection out after its peer has seen the end.
    let left = connections.len() as u64;
    until("they have ended", || running.stats().live == left);
    connections.extend((0..count).map(|_| Connection::open(&running)));
    assert_balance(&connections);
    drop(connections);
    assert_eq!(running.finish().completed, (CONNECTIONS + count) as u64);
}

#[test]
fn a_thousand_tcp_connections_are_shared_evenly() {
    in_child(|| thousand_connections(Kind::Tcp4));
}

#[test]
fn a_thousand_unix_connections_are_shared_evenly() {
    in_child(|| thousand_connections(Kind::UnixStream));
}

/// None of them has begun when the next one is handed over.
#[test]
fn connections_that_come_together_are_shared_evenly() {
    const MANY: usize = 40;
    let place = Place::new(Kind::Tcp4);
    let running = Running::start(bind_with(&place, EventLoop::new(LOOPS), says_its_thread));
    running.handle.pause();
    let clients: Vec<Client> = (0..MANY).map(|_| Client::sending(&running.addr, b"?")).collect();
    running.handle.resume();
    let connections: Vec<Connection> = clients.into_iter().map(Connection::of).collect();
    assert_balance(&connections);
    drop(connections);
    assert_eq!(running.finish().completed, MANY as u64);
}

/// A request has had many beside it on its loop, and all of them have ended.
#[test]
fn siblings_that_have_ended_are_no_load() {
    const MANY: usize = 20;
    let place = Place::new(Kind::Tcp4);
    let running = Running::start(bind_with(&place, EventLoop::new(2), |request: &mut Request| {
        if request.fill_buf()? != b"s" {
            return says_its_thread(request);
        }
        let siblings = [(); MANY].map(|()| spawn(|| ()));
        siblings.into_iter().try_for_each(|sibling| sibling?.join())
    }));
    assert_eq!(Client::sending(&running.addr, b"s").read_all(), b"");
    until("it has ended", || running.stats().live == 0);
    let connections: Vec<Connection> = (0..MANY).map(|_| Connection::open(&running)).collect();
    let first = connections.iter().filter(|connection| connection.thread == connections[0].thread).count();
    assert!((MANY / 4..=MANY * 3 / 4).contains(&first), "{first} of {MANY} on one loop of two");
    drop(connections);
    running.finish();
}

/// It would serve them when it is let go. Then it gets new ones again.
#[test]
fn a_loop_that_is_held_up_gets_no_connections() {
    in_child(|| {
        keep_log();
        let place = Place::new(Kind::Tcp4);
        let (let_go, held) = bounded::<()>(0);
        let backend = EventLoop::new(3).watchdog(Some(Duration::from_millis(20)));
        let running = Running::start(bind_with(&place, backend, move |request: &mut Request| {
            if request.fill_buf()? == b"hold" {
                let _ = held.recv();
            }
            says_its_thread(request)
        }));
        // The loop that accepts has one already, and does not get the next.
        let first = Connection::open(&running);
        let holder = Client::sending(&running.addr, b"hold");
        let peer = SocketAddr::try_from(getsockname(&holder).unwrap()).unwrap().to_string();
        until("the watchdog has seen it", || kept_lines(&peer).iter().any(|line| line.contains("has held up")));
        let connections = [(); 10].map(|()| Connection::open(&running));
        assert!(connections.iter().any(|connection| connection.thread != first.thread), "the third loop has some");
        drop(let_go);
        let holder = Connection::of(holder);
        until("the loop that was let go gets one", || Connection::open(&running).thread == holder.thread);
    });
}
