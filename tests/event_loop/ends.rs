//! The end of a loop: who is left on it hears of that, or is unwound; and what outlives it keeps nothing of it.

use std::io::{self, BufRead, BufWriter, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use socketserver::backend::EventLoop;
use socketserver::net::TcpStream;
use socketserver::sync::{Condvar, Mutex, channel};
use socketserver::{Request, spawn};

use crate::support::cell::{Cell, Kind, Place, bind_with};
use crate::support::child::in_child;
use crate::support::client::Client;
use crate::support::descriptors::open_descriptors;
use crate::support::gate::Gate;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, receive, until, within};

/// It does I/O with nobody at the other end, which would wait for ever.
pub fn a_destructor_of_an_unwound_request_does_not_wait(cell: Cell) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = silent.local_addr().unwrap();
    let never: (Mutex<()>, Condvar) = Default::default();
    let (place, (began, beginning)) = (cell.place(), unbounded());
    let running = Running::start(bind_with(&place, EventLoop::new(1), move |_: &mut Request| {
        let mut upstream = BufWriter::with_capacity(64 << 20, TcpStream::connect(upstream)?);
        upstream.write_all(&vec![0; 32 << 20])?;
        let _ = began.send(());
        // No error gets it out of there.
        drop(never.1.wait_while(never.0.lock().unwrap(), |_| true));
        Ok(())
    }));
    let _client = Client::connect(&running.addr);
    receive("the beginning of the request", &beginning);
    running.handle.drain(Duration::ZERO);
    let (server, served) = running.ended();
    assert_eq!((served.cut, served.unfinished), (1, 1));
    close(server);
}

/// It takes no error for an answer, neither that of a peer that is gone nor that of the cut: the others of its loop are served, and
/// the end is not held up.
pub fn a_handler_that_ignores_all_errors_is_unwound(cell: Cell) {
    let agains: [fn(&mut Request); 5] = [
        |request| drop(request.fill_buf()),
        |request| drop(request.write_all(b"hello")),
        |request| drop(request.sleep(Duration::from_millis(1))),
        |request| drop(request.offload(|| ())),
        |_| drop(socketserver::sleep(Duration::from_millis(1))),
    ];
    for again in agains {
        let (place, calls) = (cell.place(), Arc::new(AtomicUsize::new(0)));
        let its_calls = calls.clone();
        let running = Running::start(bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
            let mut message = [0; 5];
            request.read_exact(&mut message)?;
            if &message != b"again" {
                return request.write_all(&message);
            }
            loop {
                its_calls.fetch_add(1, SeqCst);
                again(request);
            }
        }));
        let gone = Client::sending(&running.addr, b"again");
        until("it has begun", || calls.load(SeqCst) > 0);
        drop(gone);
        let before = calls.load(SeqCst);
        until("it goes on", || calls.load(SeqCst) > before + 10);
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
        running.handle.drain(Duration::from_millis(50));
        let (server, served) = running.ended();
        assert_eq!((served.cut, served.unfinished), (1, 1));
        close(server);
    }
}

/// Nobody joins them, and their requests have ended: they hear of the end by an error, so that they may clean up.
pub fn siblings_end_with_their_loops(cell: Cell) {
    let (place, gate) = (cell.place(), Gate::default());
    let (began, beginning) = unbounded();
    let ended = Arc::new(AtomicUsize::new(0));
    let (its_gate, its_ended) = (gate.clone(), ended.clone());
    let running = Running::start(bind_with(&place, EventLoop::new(2), move |request: &mut Request| {
        let (began, ended) = (began.clone(), its_ended.clone());
        spawn(move || {
            let _ = began.send(());
            while socketserver::sleep(Duration::from_millis(5)).is_ok() {}
            ended.fetch_add(1, SeqCst);
        })?;
        its_gate.pass(request)
    }));
    let clients = [(); 2].map(|()| Client::connect(&running.addr));
    // At a time, so that they are on different loops.
    gate.wait_for(2);
    for mut client in clients {
        receive("a sibling", &beginning);
        gate.open();
        assert_eq!(client.read_all(), b"");
    }
    let (server, served) = running.stop();
    assert_eq!((served.accepted, ended.load(SeqCst)), (2, 1), "one loop ends with serving, and one with the server");
    let served = within("closing", move || server.shutdown_deadline(PATIENCE).close()).unwrap();
    assert_eq!((served.unfinished, ended.load(SeqCst)), (0, 2));
}

/// One at a time, so that they are on different loops.
#[track_caller]
fn two_that_have_begun(running: &Running, beginning: &Receiver<()>) -> [Client; 2] {
    [(); 2].map(|()| {
        let client = Client::connect(&running.addr);
        receive("the beginning of a request", beginning);
        client
    })
}

/// It hears of no cut, because it waits for a lock. The server is gone, but not the other loop.
pub fn who_is_left_on_another_loop_goes_on_without_the_server(cell: Cell) {
    let (place, lock) = (cell.place(), Arc::new(Mutex::new(())));
    let ((began, beginning), (tell, told)) = (unbounded(), unbounded());
    let its_lock = lock.clone();
    let running = Running::start(bind_with(&place, EventLoop::new(2), move |_: &mut Request| {
        let _ = began.send(());
        drop(its_lock.lock());
        let _ = tell.send(());
        Ok(())
    }));
    let held = lock.lock();
    let clients = two_that_have_begun(&running, &beginning);
    running.handle.drain(Duration::ZERO);
    let (server, served) = running.ended();
    assert_eq!(served.cut, 2);
    drop(server);
    drop(held);
    // The other one was on the serving thread, and was unwound.
    receive("the end of a request", &told);
    assert!(told.recv().is_err());
    drop(clients);
}

/// As on the serving thread's loop, which has gone with the serving. No error gets it out of there.
pub fn who_is_left_on_another_loop_is_unwound_when_the_server_is_closed(cell: Cell) {
    struct Unwound(Sender<()>);

    impl Drop for Unwound {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    let never: (Mutex<()>, Condvar) = Default::default();
    let (place, (began, beginning), (tell, told)) = (cell.place(), unbounded(), unbounded());
    let running = Running::start(bind_with(&place, EventLoop::new(2), move |_: &mut Request| {
        let _unwound = Unwound(tell.clone());
        let _ = began.send(());
        drop(never.1.wait_while(never.0.lock().unwrap(), |_| true));
        Ok(())
    }));
    let clients = two_that_have_begun(&running, &beginning);
    running.handle.drain(Duration::ZERO);
    let (server, served) = running.ended();
    assert_eq!((served.cut, served.unfinished), (2, 2));
    receive("the end of the request on the serving thread", &told);
    assert!(told.is_empty());
    let monitor = server.monitor();
    within("closing", move || server.shutdown_deadline(Duration::ZERO).close()).unwrap();
    receive("the end of the other one", &told);
    until("both are counted", || (monitor.stats().cut, monitor.stats().live) == (2, 0));
    drop(clients);
}

/// It is not unwound, whichever of the two the loop ends first.
pub fn who_waits_for_a_lock_gets_it_when_its_holder_ends_with_the_loop(cell: Cell) {
    for waiter_comes_first in [true, false] {
        let (place, lock, ended) = (cell.place(), Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
        let endings = ended.clone();
        let running = Running::start(bind_with(&place, EventLoop::new(1), move |_: &mut Request| {
            let ((held, holding), (go, going)) = (channel::bounded(1), channel::bounded::<()>(1));
            let (its_lock, ended) = (lock.clone(), endings.clone());
            let hold = move || {
                let _guard = its_lock.lock();
                let _ = held.send(());
                while socketserver::sleep(PATIENCE).is_ok() {}
                ended.fetch_add(1, SeqCst);
            };
            let (its_lock, ended) = (lock.clone(), endings.clone());
            let wait = move || {
                let _ = going.recv();
                let _guard = its_lock.lock();
                ended.fetch_add(1, SeqCst);
            };
            if waiter_comes_first {
                spawn(wait)?;
                spawn(hold)?;
            } else {
                spawn(hold)?;
                spawn(wait)?;
            }
            holding.recv().map_err(io::Error::other)?;
            go.send(()).map_err(io::Error::other)
        }));
        assert_eq!(Client::connect(&running.addr).read_all(), b"");
        let (server, _) = running.stop();
        assert_eq!(ended.load(SeqCst), 2, "the waiter came first: {waiter_comes_first}");
        close(server);
    }
}

/// One socket for all requests, of which each runs on a loop of its own.
#[test]
fn a_shared_socket_keeps_nothing_of_loops_that_have_ended() {
    in_child(|| {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = upstream.local_addr().unwrap();
        let (allow, allowed) = unbounded();
        thread::spawn(move || {
            let (mut stream, _) = upstream.accept().unwrap();
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                receive("the handler's wait", &allowed);
                stream.write_all(&byte).unwrap();
            }
        });
        let shared: Mutex<Option<TcpStream>> = Mutex::default();
        let handler = move |request: &mut Request| -> io::Result<()> {
            let mut byte = [0];
            request.read_exact(&mut byte)?;
            let mut upstream = shared.lock().unwrap();
            if upstream.is_none() {
                *upstream = Some(TcpStream::connect(addr)?);
            }
            let upstream = upstream.as_mut().expect("it is connected");
            upstream.write_all(&byte)?;
            let allow = allow.clone();
            // It runs when this waits.
            spawn(move || _ = allow.send(()))?;
            upstream.read_exact(&mut byte)?;
            request.write_all(&byte)
        };
        let place = Place::new(Kind::Tcp4);
        // A watchdog holds a loop for as long as it looks at it.
        let mut server = bind_with(&place, EventLoop::new(1).watchdog(None), handler);
        let mut ask = || {
            let mut client = Client::sending(server.local_addr(), b"x");
            assert!(server.handle_request().unwrap());
            assert_eq!(client.read_all(), b"x");
        };
        ask();
        let before = open_descriptors();
        (0..100).for_each(|_| ask());
        assert_eq!(open_descriptors(), before, "descriptors are left");
    });
}
