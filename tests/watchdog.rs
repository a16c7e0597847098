//! The watchdog of the event loop: who holds up a loop is named while it does.

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use socketserver::backend::EventLoop;
use socketserver::listener::Tcp;
use socketserver::{Hooks, Incoming, Monitor, Request, Server};

use support::child::{in_child, keep_log, kept_lines};

/// Holds the thread until the watchdog has counted `holds` holds; `false` after 30 seconds.
fn hold(monitor: &Monitor, holds: u64) -> bool {
    let until = Instant::now() + Duration::from_secs(30);
    while monitor.stats().held < holds {
        if Instant::now() > until {
            return false;
        }
        thread::yield_now();
    }
    true
}

/// And so is that it has let go. The second hold comes after a pause in which the watchdog goes to sleep.
#[test]
fn a_handler_that_holds_its_loop_is_named_each_time() {
    keep_log();
    let monitor: Arc<OnceLock<Monitor>> = Arc::default();
    let shared = monitor.clone();
    let handler = move |request: &mut Request| -> io::Result<()> {
        let monitor = shared.get().expect("the monitor is set before serving");
        let mut holds = [0];
        while request.read(&mut holds)? > 0 {
            let held = hold(monitor, holds[0].into());
            request.write_all(&[u8::from(held)])?;
        }
        Ok(())
    };
    let backend = EventLoop::new(1).watchdog(Some(Duration::from_millis(20)));
    let mut server = Server::new(Tcp::options().bind("127.0.0.1:0").expect("a listener"), backend, handler);
    assert!(monitor.set(server.monitor()).is_ok());
    let (addr, handle) = (server.local_addr().as_inet().expect("an IP address"), server.shutdown_handle());
    let serving = thread::spawn(move || server.serve_forever().map(|_| server.close()));

    let mut client = TcpStream::connect(addr).expect("a connection");
    let peer = client.local_addr().expect("an address").to_string();
    client.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    for holds in [1, 2] {
        client.write_all(&[holds]).expect("a write");
        let mut held = [0];
        client.read_exact(&mut held).expect("a reply");
        assert_eq!(held, [1], "hold {holds} was not noticed");
        support::until("the loop has been let go", || kept_lines(&peer).len() == 2 * usize::from(holds));
        // Time in which nothing happens: a read that times out.
        client.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        assert!(client.read(&mut [0]).is_err());
        client.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    }
    handle.shutdown();
    serving.join().expect("no panic").expect("serving ends well").expect("closing ends well");

    let warnings = kept_lines(&peer);
    for (line, what) in warnings.iter().zip(["still does", "has let go", "still does", "has let go"]) {
        assert!(line.contains(what), "{warnings:?}");
    }
    assert_eq!(warnings.len(), 4, "{warnings:?}");
}

/// The first connection is on the serving thread's loop, the second one is on another.
#[test]
fn a_handler_that_holds_another_loop_is_noticed() {
    let monitor: Arc<OnceLock<Monitor>> = Arc::default();
    let shared = monitor.clone();
    let handler = move |request: &mut Request| -> io::Result<()> {
        let mut first = [0];
        request.read_exact(&mut first)?;
        let held = first == *b"h" && hold(shared.get().expect("the monitor is set before serving"), 1);
        request.write_all(&[u8::from(held)])?;
        request.read_to_end(&mut Vec::new()).map(|_| ())
    };
    let backend = EventLoop::new(2).watchdog(Some(Duration::from_millis(20)));
    let mut server = Server::new(Tcp::options().bind("127.0.0.1:0").expect("a listener"), backend, handler);
    assert!(monitor.set(server.monitor()).is_ok());
    let (addr, handle) = (server.local_addr().as_inet().expect("an IP address"), server.shutdown_handle());
    let serving = thread::spawn(move || server.serve_forever().map(|_| server.close()));
    let clients = [b"-", b"h"].map(|message| {
        let mut client = TcpStream::connect(addr).expect("a connection");
        client.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        client.write_all(message).expect("a write");
        let mut held = [0];
        client.read_exact(&mut held).expect("a reply");
        assert_eq!(held, [u8::from(message == b"h")]);
        client
    });
    drop(clients);
    handle.shutdown();
    serving.join().expect("no panic").expect("serving ends well").expect("closing ends well");
}

/// Each is there already when it is handled, so that the loop does not wait before; in between, the watchdog goes to sleep.
#[test]
fn a_handler_of_a_single_request_is_noticed_each_time() {
    let monitor: Arc<OnceLock<Monitor>> = Arc::default();
    let shared = monitor.clone();
    let holds = AtomicU64::new(0);
    let handler = move |request: &mut Request| -> io::Result<()> {
        let monitor = shared.get().expect("the monitor is set before serving");
        let held = hold(monitor, holds.fetch_add(1, SeqCst) + 1);
        request.write_all(&[u8::from(held)])
    };
    let backend = EventLoop::new(1).watchdog(Some(Duration::from_millis(20)));
    let listener = Tcp::options().bind("127.0.0.1:0").expect("a listener");
    let mut server = Server::new(listener, backend, handler).timeout(Some(Duration::from_millis(100)));
    assert!(monitor.set(server.monitor()).is_ok());
    let addr = server.local_addr().as_inet().expect("an IP address");
    for holds in [1, 2] {
        let mut client = TcpStream::connect(addr).expect("a connection");
        assert!(server.handle_request().expect("it can wait"));
        let mut held = [0];
        client.read_exact(&mut held).expect("a reply");
        assert_eq!(held, [1], "hold {holds} was not noticed");
        assert!(!server.handle_request().expect("it can wait"));
    }
}

/// Its loop is busy with something else before, in which time the watchdog looks again and again, and does not go to sleep.
#[test]
fn a_handler_that_begins_late_is_noticed() {
    struct Slow;
    impl Hooks for Slow {
        fn verify_request(&self, _: &Incoming) -> io::Result<bool> {
            let before = watchdogs_waits();
            support::until("the watchdog has looked some times", || watchdogs_waits() > before + 5);
            Ok(true)
        }
    }
    // Where there is no other watchdog.
    in_child(|| {
        let monitor: Arc<OnceLock<Monitor>> = Arc::default();
        let shared = monitor.clone();
        let handler = move |request: &mut Request| -> io::Result<()> {
            let held = hold(shared.get().expect("the monitor is set before serving"), 1);
            request.write_all(&[u8::from(held)])
        };
        let backend = EventLoop::new(1).watchdog(Some(Duration::from_millis(20)));
        let listener = Tcp::options().bind("127.0.0.1:0").expect("a listener");
        let mut server = Server::new(listener, backend, handler).hooks(Slow);
        assert!(monitor.set(server.monitor()).is_ok());
        let addr = server.local_addr().as_inet().expect("an IP address");
        let mut client = TcpStream::connect(addr).expect("a connection");
        assert!(server.handle_request().expect("it can wait"));
        let mut held = [0];
        client.read_exact(&mut held).expect("a reply");
        assert_eq!(held, [1]);
    });
}

/// How often the watchdog's thread has given the processor away to wait; 0 while there is none.
fn watchdogs_waits() -> u64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux shows the threads").flatten();
    let mut status = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let Some(watchdog) = status.find(|status| status.starts_with("Name:\twatchdog-0\n")) else { return 0 };
    let waits = watchdog.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    waits.and_then(|waits| waits.trim().parse().ok()).expect("Linux counts them")
}

#[test]
fn a_loop_that_is_busy_with_many_short_requests_is_not_held() {
    let backend = EventLoop::new(1).watchdog(Some(Duration::from_secs(20)));
    let listener = Tcp::options().bind("127.0.0.1:0").expect("a listener");
    let mut server = Server::new(listener, backend, |request: &mut Request| {
        io::copy(&mut Read::take(&mut *request, 1), &mut io::sink())?;
        request.write_all(b"x")
    });
    let (addr, handle, monitor) =
        (server.local_addr().as_inet().expect("an IP address"), server.shutdown_handle(), server.monitor());
    let serving = thread::spawn(move || server.serve_forever());
    for _ in 0..500 {
        let mut client = TcpStream::connect(addr).expect("a connection");
        client.write_all(b"x").expect("a write");
        client.read_exact(&mut [0]).expect("a reply");
    }
    handle.shutdown();
    serving.join().expect("no panic").expect("serving ends well");
    assert_eq!(monitor.stats().held, 0);
}

/// Each time it has run once more, and then nothing happens.
#[test]
fn who_waits_holds_nothing() {
    let backend = EventLoop::new(1).watchdog(Some(Duration::from_millis(10)));
    let listener = Tcp::options().bind("127.0.0.1:0").expect("a listener");
    let mut server = Server::new(listener, backend, support::echo);
    let (addr, handle, monitor) =
        (server.local_addr().as_inet().expect("an IP address"), server.shutdown_handle(), server.monitor());
    let serving = thread::spawn(move || server.serve_forever());
    let mut client = TcpStream::connect(addr).expect("a connection");
    for _ in 0..4 {
        client.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        client.write_all(b"x").expect("a write");
        client.read_exact(&mut [0]).expect("a reply");
        client.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        assert!(client.read(&mut [0]).is_err());
    }
    handle.shutdown();
    serving.join().expect("no panic").expect("serving ends well");
    // A machine that is too busy may hold a thread for as long, but hardly each time.
    assert!(monitor.stats().held < 2, "{} holds", monitor.stats().held);
}
