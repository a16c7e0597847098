//! A backend, and a listener, that are none of this crate's, plugged in through the public traits.

mod support;

#[macro_use]
#[path = "support/on_every_backend.rs"]
mod on_every_backend;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use socketserver::backend::{Backend, BackendName, EventLoop, Sources};
use socketserver::listener::{Listener, Tcp};
use socketserver::{Addr, AnyServer, Hooks, Incoming, Job, Request, Server, Waker};

use support::cell::{Kind, Place, bind_with};
use support::client::Client;
use support::record::Record;
use support::running::{Running, close};
use support::{PATIENCE, echo, receive, within};

/// Collects three jobs and then runs them, the last one first.
struct Backwards {
    record: Record,
    jobs: Vec<Job>,
}

impl Backend for Backwards {
    fn activate(&mut self, _: &Sources<'_>) -> io::Result<()> {
        self.record.add("activate");
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.jobs.len() < 3
    }

    fn process_request(&mut self, job: Job) {
        self.record.add(format!("process_request {}", name(job.peer_addr())));
        self.jobs.push(job);
    }

    fn service_actions(&mut self) {
        if self.jobs.len() == 3 {
            self.jobs.drain(..).rev().for_each(Job::run);
        }
    }

    fn deactivate(&mut self) {
        self.record.add("deactivate");
    }

    fn server_close(&mut self, _: Option<Instant>) -> usize {
        self.record.add("server_close");
        0
    }
}

/// The last byte of the client's address.
fn name(peer: Option<&Addr>) -> String {
    peer.and_then(Addr::ip).map(|ip| ip.to_string()[8..].to_string()).unwrap_or_default()
}

/// It gets the requests in the order in which they came, and the handlers run in the order that it chooses.
#[test]
fn it_decides_when_requests_run() {
    let record = Record::default();
    let place = Place::new(Kind::Tcp4);
    let its_record = record.clone();
    let backend = Backwards { record: record.clone(), jobs: Vec::new() };
    let mut server = bind_with(&place, backend, move |request: &mut Request| -> io::Result<()> {
        its_record.add(format!("handle {}", name(Some(request.peer_addr()))));
        echo(request)
    });
    server.activate().unwrap();
    let clients: Vec<Client> = (1..=3)
        .map(|number| {
            let mut client = Client::connect_from([127, 0, 0, number].into(), server.local_addr());
            client.write_all(b"hello").unwrap();
            client.half_close().unwrap();
            client
        })
        .collect();
    let running = Running::start(server);
    clients.into_iter().for_each(|mut client| assert_eq!(client.read_all(), b"hello"));
    assert_eq!(running.finish().completed, 3);
    let requests = ["process_request 1", "process_request 2", "process_request 3", "handle 3", "handle 2", "handle 1"];
    let events = [&["activate", "deactivate", "activate"][..], &requests, &["deactivate", "server_close"]].concat();
    assert_eq!(record.events(), events);
}

/// Has room for one job, which it refuses by dropping it, every second time; it makes room from another thread.
#[derive(Default)]
struct Choosy {
    shared: Arc<Mutex<VecDeque<Job>>>,
    count: usize,
    waker: Option<Arc<Waker>>,
}

impl Backend for Choosy {
    fn activate(&mut self, sources: &Sources<'_>) -> io::Result<()> {
        self.waker = Some(sources.waker().clone());
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.shared.lock().unwrap().is_empty()
    }

    fn process_request(&mut self, job: Job) {
        self.count += 1;
        if self.count % 2 == 0 {
            return;
        }
        self.shared.lock().unwrap().push_back(job);
        let (shared, waker) = (self.shared.clone(), self.waker.clone().expect("activated"));
        std::thread::spawn(move || {
            let job = shared.lock().unwrap().pop_front();
            waker.wake();
            job.into_iter().for_each(Job::run);
        });
    }
}

/// A dropped job is a closed connection and counts as refused; the waker announces room.
#[test]
fn it_may_drop_what_it_does_not_run() {
    for kind in [Kind::Tcp4, Kind::UnixStream] {
        let place = Place::new(kind);
        let running = Running::start(bind_with(&place, Choosy::default(), echo));
        for _ in 0..10 {
            assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
            assert!(Client::connect(&running.addr).is_hung_up());
        }
        let stats = running.finish();
        assert_eq!((stats.completed, stats.refused), (10, 10));
    }
}

/// A job that is still in the backend's hands when it is dropped is refused then.
#[test]
fn a_job_is_not_lost_with_its_backend() {
    struct Keeps(Vec<Job>, Record);

    impl Backend for Keeps {
        fn process_request(&mut self, job: Job) {
            self.0.push(job);
            self.1.add("kept");
        }

        fn server_close(&mut self, _: Option<Instant>) -> usize {
            self.0.clear();
            0
        }

        fn block_on_close(&self) -> bool {
            false
        }
    }

    let record = Record::default();
    let place = Place::new(Kind::Tcp4);
    let server = bind_with(&place, Keeps(Vec::new(), record.clone()), echo);
    let running = Running::start(server.shutdown_deadline(Duration::from_millis(10)));
    let mut client = Client::connect(&running.addr);
    record.wait_for(1);
    let (server, _) = running.stop();
    assert_eq!(server.stats().live, 1);
    assert_eq!(close(server).refused, 1);
    assert!(client.is_hung_up());
}

/// It is told to forget the listener that it was activated with, while that is still open: another process may have it, too.
#[test]
fn it_forgets_the_listener_that_it_knows() {
    struct Polls {
        record: Record,
        block_on_close: bool,
    }

    impl Backend for Polls {
        fn activate(&mut self, sources: &Sources<'_>) -> io::Result<()> {
            self.record.add(format!("activate {:?}", sources.as_fd()));
            Ok(())
        }

        fn process_request(&mut self, job: Job) {
            job.run();
        }

        fn forget_listener(&mut self, listener: BorrowedFd<'_>) {
            self.record.add(format!("forget {listener:?}"));
        }

        fn block_on_close(&self) -> bool {
            self.block_on_close
        }
    }

    for block_on_close in [true, false] {
        let record = Record::default();
        let place = Place::new(Kind::Tcp4);
        let mut server = bind_with(&place, Polls { record: record.clone(), block_on_close }, echo);
        let expected = [format!("activate {:?}", server.as_fd()), format!("forget {:?}", server.as_fd())];
        let client = Client::sending(server.local_addr(), b"hello");
        client.half_close().unwrap();
        assert!(server.handle_request().unwrap());
        close(server);
        assert_eq!(record.events(), expected);
    }
}

/// It is told to do what is due, and when nobody has come.
#[test]
fn it_hears_of_turns_and_timeouts() {
    struct Hears(Record);

    impl Backend for Hears {
        fn process_request(&mut self, job: Job) {
            job.run();
        }

        fn service_actions(&mut self) {
            self.0.add("service_actions");
        }

        fn handle_timeout(&mut self) {
            self.0.add("handle_timeout");
        }
    }

    let record = Record::default();
    let place = Place::new(Kind::Tcp4);
    let mut server = bind_with(&place, Hears(record.clone()), echo).timeout(Some(Duration::ZERO));
    assert!(!server.handle_request().unwrap());
    assert_eq!(record.events(), ["handle_timeout"]);
    // Once, and that without a turn: at the end of serving.
    server.shutdown_handle().shutdown();
    let (server, _) = Running::start(server).ended();
    assert_eq!(record.events(), ["handle_timeout", "service_actions"]);
    let running = Running::start(server.poll_interval(Some(Duration::from_millis(1))));
    record.wait_for(4);
    running.finish();
    assert!(record.events()[1..].iter().all(|event| event == "service_actions"), "{:?}", record.events());
}

/// Runs each job on a thread that nobody waits for.
struct Detached;

impl Backend for Detached {
    fn process_request(&mut self, job: Job) {
        assert!(format!("{job:?}").contains("127.0.0.1"));
        thread::spawn(move || job.run());
    }
}

/// It has threads that it knows nothing of: what runs there is counted all the same.
#[test]
fn what_does_not_end_in_time_is_unfinished() {
    let place = Place::new(Kind::Tcp4);
    let (began, beginning) = unbounded();
    let (finish, finished) = bounded::<()>(0);
    let mut server = bind_with(&place, Detached, move |_: &mut Request| {
        let _ = began.send(());
        let _ = finished.recv_timeout(PATIENCE);
        Ok(())
    })
    .shutdown_deadline(Duration::from_millis(10));
    let _client = Client::connect(server.local_addr());
    assert!(server.handle_request().unwrap());
    receive("the request", &beginning);
    let served = within("closing", move || server.close()).unwrap();
    assert_eq!((served.cut, served.unfinished), (1, 1));
    drop(finish);
}

/// What runs a job may be any thread, also one that outlives the server.
#[test]
fn a_job_runs_on_any_thread() {
    let place = Place::new(Kind::Tcp4);
    let running = Running::start(bind_with(&place, Detached, |request: &mut Request| {
        let mut message = [0; 5];
        request.read_exact(&mut message)?;
        request.write_all(&message)
    }));
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(&running.addr)).collect();
    // They are served in any order, and at the same time.
    for client in clients.iter_mut().rev() {
        client.write_all(b"hello").unwrap();
        assert_eq!(client.take_bytes(5), b"hello");
    }
    drop(clients);
    assert_eq!(running.finish().completed, 5);
}

/// Panics when there is a request to get, from some time on.
struct Panicking {
    listener: Tcp,
    panics: Arc<AtomicBool>,
}

impl AsFd for Panicking {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Listener for Panicking {
    fn local_addr(&self) -> &Addr {
        self.listener.local_addr()
    }

    fn get_request(&mut self) -> io::Result<Incoming> {
        let incoming = self.listener.get_request()?;
        assert!(!self.panics.load(SeqCst), "a listener may panic");
        Ok(incoming)
    }
}

/// Turns a number of connections away by itself.
struct Picky {
    listener: Tcp,
    turns_away: usize,
}

impl AsFd for Picky {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Listener for Picky {
    fn local_addr(&self) -> &Addr {
        self.listener.local_addr()
    }

    fn get_request(&mut self) -> io::Result<Incoming> {
        let incoming = self.listener.get_request()?;
        match self.turns_away.checked_sub(1) {
            Some(left) => {
                self.turns_away = left;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            None => Ok(incoming),
        }
    }
}

/// It is no shortage, after which accepting would pause: for 12 seconds, all in all.
fn a_listener_may_turn_connections_away(backend: BackendName) {
    const MANY: usize = 20;
    let listener = Picky { listener: Tcp::options().bind("127.0.0.1:0").unwrap(), turns_away: MANY };
    let running = Running::start(Server::new(Box::new(listener), backend.backend(), echo));
    let began = Instant::now();
    for _ in 0..MANY {
        assert!(Client::connect(&running.addr).is_hung_up());
    }
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    assert!(began.elapsed() < Duration::from_secs(6), "it took {:?}", began.elapsed());
    let stats = running.finish();
    assert_eq!((stats.accepted, stats.accept_errors), (1, MANY as u64));
}

/// Lacks something for each connection when it is first asked for it.
struct Short {
    listener: Tcp,
    queued: Option<Incoming>,
    /// When it lacked something last, until somebody asks.
    lacked: Arc<Mutex<Option<Instant>>>,
}

impl AsFd for Short {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Listener for Short {
    fn local_addr(&self) -> &Addr {
        self.listener.local_addr()
    }

    fn get_request(&mut self) -> io::Result<Incoming> {
        if let Some(incoming) = self.queued.take() {
            return Ok(incoming);
        }
        self.queued = Some(self.listener.get_request()?);
        *self.lacked.lock().unwrap() = Some(Instant::now());
        Err(io::ErrorKind::OutOfMemory.into())
    }
}

/// Has the server go on just when its pause after a shortage ends: each time a little later.
struct AtTheEnd {
    lacked: Arc<Mutex<Option<Instant>>>,
    rounds: AtomicU32,
}

impl Hooks for AtTheEnd {
    fn service_actions(&self) {
        let Some(lacked) = self.lacked.lock().unwrap().take() else { return };
        let later = Duration::from_nanos(20) * self.rounds.fetch_add(1, SeqCst);
        let until = lacked + Duration::from_millis(5) - Duration::from_micros(4) + later;
        while Instant::now() < until {}
    }
}

/// Whoever is queued by then is served, and need not wait for something else to happen.
fn a_pause_of_accepting_ends_whenever_one_looks(backend: BackendName) {
    const ROUNDS: u32 = 300;
    let (listener, lacked) = (Tcp::options().bind("127.0.0.1:0").unwrap(), Arc::default());
    let listener = Short { listener, queued: None, lacked: Arc::clone(&lacked) };
    let handle = |request: &mut Request| request.write_all(b"hello");
    let server: AnyServer = Server::new(Box::new(listener), backend.backend(), handle);
    let running = Running::start(server.hooks(AtTheEnd { lacked, rounds: AtomicU32::new(0) }));
    (0..ROUNDS).for_each(|_| assert_eq!(Client::connect(&running.addr).read_all(), b"hello"));
    assert_eq!(running.finish().completed, u64::from(ROUNDS));
}

on_every_backend! {
    a_listener_may_turn_connections_away
    a_pause_of_accepting_ends_whenever_one_looks
}

/// It ends the serving, and what was served on the same thread: that is not left behind when the server goes to another one.
#[test]
fn a_listener_that_panics_leaves_no_request() {
    let panics = Arc::new(AtomicBool::new(false));
    let listener = Panicking { listener: Tcp::options().bind("127.0.0.1:0").unwrap(), panics: panics.clone() };
    let mut server: AnyServer = Server::new(Box::new(listener), Box::new(EventLoop::new(1)), echo);
    let addr = server.local_addr().clone();
    let serving = thread::spawn(move || {
        assert!(catch_unwind(AssertUnwindSafe(|| server.serve_forever())).is_err());
        server
    });
    let mut client = Client::sending(&addr, b"hello");
    assert_eq!(client.take_bytes(5), b"hello");
    panics.store(true, SeqCst);
    assert!(Client::connect(&addr).is_hung_up());
    assert!(client.is_hung_up());
    assert_eq!(close(serving.join().unwrap()).cut, 1);
}
