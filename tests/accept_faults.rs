//! A server that cannot accept, or cannot run what it has accepted, waits for better times without haste and without noise.
//!
//! Each test takes something away from its whole process, and so has one of its own.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use socketserver::backend::{BackendName, EventLoop, Threading};
use socketserver::listener::{Bind, Listener, Tcp, UnixStream};
use socketserver::{AnyServer, Request, Server};

use support::cell::{Cell, Kind, Place, bind_with};
use support::child::{in_child, keep_log, kept_lines};
use support::client::Client;
use support::echo;
use support::opened::Opened;
use support::running::Running;

/// The cells of streams: a datagram's server needs no descriptor for a request.
macro_rules! table {
    ($($backend:ident { $($kind:ident)* })*) => {
        $(mod $backend {
            $(mod $kind {
                #[test]
                fn out_of_descriptors_it_waits_and_serves_who_is_queued() {
                    crate::in_child(|| {
                        crate::out_of_descriptors(crate::Cell::named(stringify!($backend), stringify!($kind)));
                    });
                }
            })*
        })*
    };
}

table! {
    sequential { tcp4 tcp6 unix_stream }
    threading { tcp4 tcp6 unix_stream }
    forking_style { tcp4 tcp6 unix_stream }
    event_loop { tcp4 tcp6 unix_stream }
}

/// The client connects while there is no descriptor for it. It is served when there is one, without another client coming.
fn out_of_descriptors(cell: Cell) {
    /// How long the server is watched while it can do nothing.
    const WATCHED: Duration = Duration::from_millis(700);

    keep_log();
    let place = cell.place();
    let running = Running::start(cell.bind(&place, echo));
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    // Its descriptor is free a little after its client has seen the end.
    support::until("the first request is over", || running.stats().live == 0);
    let mut queued = Client::open(&running.addr);
    let hoard = hoard_descriptors();
    queued.join().expect("the kernel queues it");
    queued.write_all(b"hello").unwrap();

    let (watched, worked) = (Instant::now(), cpu_time());
    queued.read_timeout(WATCHED);
    assert_eq!(queued.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "nobody can have served it");
    let (watched, worked) = (watched.elapsed(), cpu_time() - worked);
    assert!(worked < watched.mul_f64(0.1), "{worked:?} of computing in {watched:?}");
    let tries = running.stats().accept_errors;
    assert!((2..20).contains(&tries), "{tries} tries to accept");
    let lines = kept_lines("");
    assert_eq!(lines.len(), 1, "one line for the episode: {lines:?}");
    assert!(lines[0].starts_with("WARN cannot accept"), "{lines:?}");

    drop(hoard);
    queued.read_timeout(support::PATIENCE);
    assert_eq!(queued.take_bytes(5), b"hello");
    drop(queued);
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    let stats = running.finish();
    assert_eq!((stats.accepted, stats.completed), (3, 3));
}

/// Each client that is served takes the one descriptor that there is, so that accepting works once and fails again.
#[test]
fn a_shortage_that_comes_and_goes_is_told_once() {
    in_child(|| {
        keep_log();
        for backend in [BackendName::Threading, BackendName::ForkingStyle, BackendName::EventLoop] {
            let told = kept_lines("").len();
            let place = Cell { backend, kind: Kind::Tcp4 }.place();
            let running = Running::start(Cell { backend, kind: Kind::Tcp4 }.bind(&place, echo));
            assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
            support::until("the first request is over", || running.stats().live == 0);
            let mut queued = [(); 4].map(|()| Client::open(&running.addr));
            let limit = getrlimit(Resource::Nofile);
            let mut hoard = hoard_descriptors();
            for client in &mut queued {
                client.join().expect("the kernel queues it");
                client.write_all(b"hello").unwrap();
            }
            for client in &mut queued {
                hoard.pop();
                assert_eq!(client.take_bytes(5), b"hello");
                let tries = running.stats().accept_errors;
                support::until("accepting fails again", || running.stats().accept_errors > tries);
            }
            let lines = kept_lines("").split_off(told);
            assert_eq!(lines.len(), 1, "one line for the shortage of {backend}: {lines:?}");
            assert!(lines[0].starts_with("WARN cannot accept"), "{lines:?}");
            drop((hoard, queued));
            setrlimit(Resource::Nofile, limit).unwrap();
            assert_eq!(running.finish().completed, 5);
        }
    });
}

#[test]
fn without_a_thread_a_request_is_refused() {
    in_child(|| {
        // Each thread would need more than what is left.
        let backend = Threading::new().stack_size(1 << 30);
        out_of_memory(|place| bind_with(place, backend, echo));
    });
}

#[test]
fn without_a_stack_a_request_is_refused() {
    in_child(|| {
        // Each stack would need more than what is left.
        let backend = EventLoop::new(1).stack_size(1 << 30);
        out_of_memory(|place| bind_with(place, backend, echo));
    });
}

/// Whoever joins it hears of that. One line says so.
#[test]
fn without_a_stack_what_a_request_has_spawned_does_not_run() {
    in_child(|| {
        keep_log();
        let place = Cell { backend: BackendName::EventLoop, kind: Kind::Tcp4 }.place();
        let backend = EventLoop::new(1).stack_size(1 << 30);
        let running = Running::start(bind_with(&place, backend, |request: &mut Request| {
            request.read_exact(&mut [0])?;
            for _ in 0..3 {
                assert!(socketserver::spawn(|| ())?.join().is_err());
            }
            request.write_all(b"done")
        }));
        let limit = getrlimit(Resource::As);
        // After the request's own stack it is too little for another one.
        let room = 3 << 29;
        setrlimit(Resource::As, Rlimit { current: Some(address_space() + room), maximum: limit.maximum }).unwrap();
        assert_eq!(Client::connect(&running.addr).ask(b"?"), b"done");
        setrlimit(Resource::As, limit).unwrap();
        running.finish();
        let lines = kept_lines("no stack");
        assert_eq!(lines.len(), 1, "one line for the episode: {lines:?}");
    });
}

/// Clients are refused while there is no address space for their requests, and served afterwards. One line says so.
fn out_of_memory(bind: impl FnOnce(&Place) -> AnyServer) {
    keep_log();
    let place = Cell { backend: BackendName::Threading, kind: Kind::Tcp4 }.place();
    let running = Running::start(bind(&place));
    let limit = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: Some(address_space() + (512 << 20)), maximum: limit.maximum }).unwrap();
    for _ in 0..3 {
        assert!(Client::connect(&running.addr).is_hung_up());
    }
    assert_eq!(running.stats().refused, 3);
    setrlimit(Resource::As, limit).unwrap();
    for _ in 0..3 {
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    }
    let stats = running.finish();
    assert_eq!((stats.accepted, stats.refused, stats.completed), (6, 3, 3));
    let lines = kept_lines("");
    assert_eq!(lines.len(), 1, "one line for the episode: {lines:?}");
    assert!(lines[0].starts_with("WARN refusing"), "{lines:?}");
}

/// A stack that no system gives: the server cannot run anything, but it stops and closes.
#[test]
fn a_server_that_can_run_nothing_still_closes() {
    let place = Cell { backend: BackendName::Threading, kind: Kind::UnixStream }.place();
    let running = Running::start(bind_with(&place, Threading::new().stack_size(1 << 48), echo));
    for _ in 0..10 {
        assert!(Client::connect(&running.addr).is_hung_up());
    }
    let stats = running.finish();
    assert_eq!((stats.accepted, stats.refused), (10, 10));
}

/// As systemd has the sockets that it gives to a server.
#[test]
fn a_drain_without_descriptors_leaves_an_adopted_socket_to_whoever_opened_it() {
    in_child(|| {
        let opened = Opened::new();
        for listener in opened.adopt() {
            let running = Running::start(Server::new(listener, BackendName::Threading.backend(), echo));
            assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
            support::until("the request is over", || running.stats().live == 0);
            let addr = running.addr.clone();
            let server = drain_without_descriptors(running);
            support::running::close(server);
            Client::try_connect(&addr).expect("it still listens");
        }
    });
}

/// Its socket has stayed, for lack of another one to put in its place, and is not in the way.
#[test]
fn a_server_that_was_drained_without_descriptors_serves_again() {
    in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        // A port that was asked for stays with its socket, unlike one of the system's choice.
        let port = Tcp::bind(Place::apart(Kind::Tcp4).url).unwrap().local_addr().clone();
        let listeners: [Box<dyn Listener>; 5] = [
            Box::new(Tcp::bind("127.0.0.1:0").unwrap()),
            Box::new(Tcp::options().reuse_address(false).bind("127.0.0.1:0").unwrap()),
            Box::new(Tcp::options().reuse_address(false).bind(port).unwrap()),
            Box::new(UnixStream::bind(folder.path().join("socket")).unwrap()),
            Box::new(UnixStream::bind(format!("unix://@{}", folder.path().display())).unwrap()),
        ];
        for listener in listeners {
            let mut server = Server::new(listener, BackendName::Threading.backend(), echo);
            server.activate().unwrap();
            let running = Running::start(server);
            let mut server = drain_without_descriptors(running);
            assert!(Client::try_connect(server.local_addr()).is_err());
            server.activate().expect("it listens again");
            let running = Running::start(server);
            assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
            running.finish();
        }
    });
}

/// Whoever uses this crate's sockets outside of any handler is no worse off than with std's.
#[test]
fn outside_of_any_handler_a_wait_takes_no_descriptor() {
    in_child(|| {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut ours = socketserver::net::UnixStream::try_from(ours).unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(50)));
        let _hoard = hoard_descriptors();
        assert_eq!(ours.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// Drains while there is no descriptor to be had.
fn drain_without_descriptors(running: Running) -> AnyServer {
    let limit = getrlimit(Resource::Nofile);
    let hoard = hoard_descriptors();
    running.handle.drain(Duration::ZERO);
    let (server, _) = running.ended();
    drop(hoard);
    setrlimit(Resource::Nofile, limit).unwrap();
    server
}

/// Takes all descriptors that this process may have, after it has lowered their number.
fn hoard_descriptors() -> Vec<std::fs::File> {
    // Accepting takes one for a moment, also where there is nobody to accept.
    support::until("the server waits", support::descriptors::others_are_asleep);
    let limit = getrlimit(Resource::Nofile);
    let few = support::descriptors::open_descriptors() as u64 + 20;
    setrlimit(Resource::Nofile, Rlimit { current: Some(few), maximum: limit.maximum }).unwrap();
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

/// What all threads of this process have computed.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes of address space that this process has mapped.
fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux shows the sizes");
    let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).expect("the first is a number");
    pages * rustix::param::page_size() as u64
}
