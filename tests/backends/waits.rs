//! Sleeping and offloading: the request waits, and the others do not.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use socketserver::backend::{BackendName, EventLoop};
use socketserver::sync::{Condvar, Mutex, channel};
use socketserver::{Activity, Request, net};

use crate::support::cell::{Cell, Place, bind_with};
use crate::support::client::Client;
use crate::support::descriptors::open_descriptors;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, receive, until};

/// A server of this cell that has one loop, if it has loops: there the requests share a thread.
fn start(
    cell: Cell,
    place: &Place,
    handler: impl Fn(&mut Request) -> io::Result<()> + Send + Sync + 'static,
) -> Running {
    Running::start(match cell.backend {
        BackendName::EventLoop => bind_with(place, EventLoop::new(1), handler),
        _ => cell.bind(place, handler),
    })
}

pub fn a_sleep_takes_its_time(cell: Cell) {
    const TIME: Duration = Duration::from_millis(30);
    let place = cell.place();
    let running = start(cell, &place, |request| {
        let began = Instant::now();
        request.sleep(TIME)?;
        assert!(began.elapsed() >= TIME, "it took {:?}", began.elapsed());
        request.sleep(Duration::ZERO)
    });
    assert_eq!(Client::connect(&running.addr).read_all(), b"");
    assert_eq!(running.finish().completed, 1);
}

/// As code does that has no request at hand.
pub fn a_sibling_sleeps_and_offloads(cell: Cell) {
    const TIME: Duration = Duration::from_millis(30);
    let place = cell.place();
    let running = start(cell, &place, |_| {
        let sibling = socketserver::spawn(|| -> io::Result<Duration> {
            let began = Instant::now();
            socketserver::sleep(TIME)?;
            socketserver::offload(move || began.elapsed())
        })?;
        assert!(!sibling.is_finished());
        while !sibling.is_finished() {
            socketserver::sleep(Duration::from_millis(1))?;
        }
        let time = sibling.join()??;
        assert!(time >= TIME, "it took {time:?}");
        Ok(())
    });
    assert_eq!(Client::connect(&running.addr).read_all(), b"");
    assert_eq!(running.finish().completed, 1);
}

/// Its request goes on, and each of them has waited for a socket of its own.
pub fn siblings_that_have_ended_leave_nothing(cell: Cell) {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = silent.local_addr().unwrap();
    let place = cell.place();
    let running = start(cell, &place, move |_| {
        let wait = move || {
            let mut peer = net::TcpStream::connect(peer)?;
            peer.set_read_timeout(Some(Duration::from_millis(1)));
            peer.read(&mut [0])
        };
        let wait_beside = || -> io::Result<()> {
            assert_eq!(socketserver::spawn(wait)?.join()?.unwrap_err().kind(), ErrorKind::TimedOut);
            Ok(())
        };
        wait_beside()?;
        let before = open_descriptors();
        (0..20).try_for_each(|_| wait_beside())?;
        until("all descriptors are closed", || open_descriptors() <= before);
        Ok(())
    });
    assert_eq!(Client::connect(&running.addr).read_all(), b"");
    assert_eq!(running.finish().completed, 1);
}

pub fn a_sibling_is_cut_off_with_its_request(cell: Cell) {
    let place = cell.place();
    let (give, senders) = unbounded();
    let (tell, told) = unbounded();
    let running = start(cell, &place, move |request| {
        let (sender, give, tell) = (request.sender()?, give.clone(), tell.clone());
        socketserver::spawn(move || {
            let _ = give.send(sender);
            let _ = tell.send(socketserver::sleep(PATIENCE * 2).map_err(|error| error.kind()));
        })?;
        request.read_exact(&mut [0])
    });
    let mut client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    running.wait_for_activity(Activity::Reading);
    sender.close();
    assert_eq!(receive("the end of the sleep", &told), Err(ErrorKind::ConnectionAborted));
    assert!(client.is_hung_up());
    assert_eq!(running.finish().cut, 1);
}

/// While that is cut off, and ends, the sibling waits for a lock, which hears of no cut. What it does then, and what it spawns, does.
pub fn a_sibling_that_outlives_its_request_is_cut_off_with_it(cell: Cell) {
    let place = cell.place();
    let lock = Arc::new(Mutex::new(()));
    let its_lock = lock.clone();
    let held = lock.lock().unwrap();
    let (give, senders) = unbounded();
    let (tell, ends) = unbounded();
    let running = start(cell, &place, move |request| {
        let (lock, tell) = (its_lock.clone(), tell.clone());
        let sleep = move || {
            let _ = tell.send(socketserver::sleep(PATIENCE * 2).map_err(|error| error.kind()));
        };
        socketserver::spawn(move || {
            drop(lock.lock());
            sleep();
            socketserver::spawn(sleep)
        })?;
        let _ = give.send(request.sender()?);
        request.read_exact(&mut [0])
    });
    let mut client = Client::connect(&running.addr);
    receive("the sender", &senders).close();
    assert!(client.is_hung_up());
    until("the request is over", || running.stats().live == 0);
    drop(held);
    for _ in 0..2 {
        assert_eq!(receive("the end of a sleep", &ends), Err(ErrorKind::ConnectionAborted));
    }
    assert_eq!(running.finish().cut, 1);
}

/// The first request computes until the second one has been served.
pub fn a_sleep_of_no_time_gives_the_others_their_turn(cell: Cell) {
    let sleeps: [fn(&mut Request) -> io::Result<()>; 2] =
        [|request| request.sleep(Duration::ZERO), |_| socketserver::sleep(Duration::ZERO)];
    sleeps.into_iter().for_each(|sleep| assert_gives_the_others_their_turn(cell, sleep));
}

#[track_caller]
fn assert_gives_the_others_their_turn(cell: Cell, sleep: fn(&mut Request) -> io::Result<()>) {
    let place = cell.place();
    let served = Arc::new(AtomicBool::new(false));
    let (tell, told) = unbounded();
    let running = start(cell, &place, move |request| {
        let mut message = [0; 7];
        request.read_exact(&mut message)?;
        if &message == b"compute" {
            let _ = tell.send(());
            while !served.load(SeqCst) {
                sleep(request)?;
            }
        }
        served.store(true, SeqCst);
        request.write_all(&message)
    });
    let mut computing = Client::sending(&running.addr, b"compute");
    receive("the computation", &told);
    assert_eq!(Client::connect(&running.addr).ask(b"another"), b"another");
    let mut answer = [0; 7];
    computing.read_exact(&mut answer).unwrap();
    assert_eq!(running.finish().completed, 2);
}

/// The second request ends the sleep of the first one, which is far from over.
pub fn others_are_served_while_one_sleeps(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = start(cell, &place, move |request| {
        let mut message = [0; 5];
        request.read_exact(&mut message)?;
        if &message == b"sleep" {
            let _ = tell.send(request.sender()?);
            return request.sleep(PATIENCE * 2);
        }
        request.write_all(&message)
    });
    let mut sleeper = Client::sending(&running.addr, b"sleep");
    let sleeping = receive("the sleep", &told);
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    sleeping.close();
    assert!(sleeper.is_hung_up());
    let stats = running.finish();
    assert_eq!((stats.completed, stats.cut), (1, 1));
}

pub fn offloaded_work_gives_its_result(cell: Cell) {
    let place = cell.place();
    let running = start(cell, &place, |request| {
        let mut message = Vec::new();
        request.read_to_end(&mut message)?;
        let message = request.offload(move || {
            message.reverse();
            message
        })?;
        request.write_all(&message)
    });
    for _ in 0..50 {
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"olleh");
    }
    assert_eq!(running.finish().completed, 50);
}

pub fn a_panic_of_offloaded_work_is_the_requests(cell: Cell) {
    let place = cell.place();
    let running = start(cell, &place, |request| request.offload(|| panic!("as the test wants")));
    for _ in 0..20 {
        assert_eq!(Client::connect(&running.addr).read_all(), b"");
    }
    let stats = running.finish();
    assert_eq!((stats.accepted, stats.panicked), (20, 20));
}

/// Neither once the request is cut off, nor once its deadline has passed: on every backend, also where it would run in place.
pub fn too_late_nothing_is_offloaded(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = start(cell, &place, move |request| {
        request.set_deadline(Some(Duration::ZERO));
        let past_deadline = request.offload(|| "run").map_err(|error| error.kind());
        request.set_deadline(None);
        request.sender()?.close();
        let cut = request.offload(|| "run").map_err(|error| error.kind());
        let cut_without_request = socketserver::offload(|| "run").map_err(|error| error.kind());
        let _ = tell.send([past_deadline, cut, cut_without_request]);
        Ok(())
    });
    let _client = Client::connect(&running.addr);
    let [past_deadline, cut, cut_without_request] = receive("the outcomes", &told);
    assert_eq!(past_deadline, Err(ErrorKind::TimedOut));
    assert_eq!(cut, Err(ErrorKind::ConnectionAborted));
    assert_eq!(cut_without_request, Err(ErrorKind::ConnectionAborted));
    running.finish();
}

/// The work of the first request waits for the second one.
pub fn others_are_served_while_one_offloads(cell: Cell) {
    let place = cell.place();
    let (began, beginning) = unbounded();
    let (give, given) = bounded::<thread::ThreadId>(1);
    let running = start(cell, &place, move |request| {
        let mut message = [0; 4];
        request.read_exact(&mut message)?;
        if &message == b"give" {
            let _ = give.send(thread::current().id());
            return request.write_all(b"gave");
        }
        let _ = began.send(());
        let given = given.clone();
        let got = request.offload(move || given.recv_timeout(PATIENCE))?;
        got.map_err(io::Error::other)?;
        request.write_all(b"took")
    });
    let mut taker = Client::sending(&running.addr, b"take");
    receive("the work", &beginning);
    assert_eq!(Client::connect(&running.addr).ask(b"give"), b"gave");
    assert_eq!(taker.take_bytes(4), b"took");
    drop(taker);
    assert_eq!(running.finish().completed, 2);
}

/// Wherever it waits: not only in the calls of its request.
pub fn a_dump_tells_what_a_request_waits_for(cell: Cell) {
    use Activity::{Offloading, Sleeping, Waiting};

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = silent.local_addr().unwrap();
    let long = PATIENCE * 2;
    assert_does(cell, Sleeping, move |_| socketserver::sleep(long));
    assert_does(cell, Offloading, |gate| {
        let gate = gate.clone();
        // What is done in place must not wait by what this tests.
        socketserver::offload(move || {
            while gate.try_recv() == Err(channel::TryRecvError::Empty) {
                thread::yield_now();
            }
        })
    });
    assert_does(cell, Waiting, move |_| socketserver::spawn(move || socketserver::sleep(long))?.join()?);
    assert_does(cell, Waiting, |gate| gate.recv().map_err(io::Error::other));
    assert_does(cell, Waiting, move |_| net::TcpStream::connect(peer)?.read_exact(&mut [0]));
    assert_does(cell, Waiting, |gate| {
        let (lock, gate) = (Arc::new(Mutex::new(())), gate.clone());
        let (tell, locked) = channel::bounded(1);
        let its_lock = lock.clone();
        let holder = socketserver::spawn(move || {
            let _held = its_lock.lock();
            let _ = tell.send(());
            let _ = gate.recv();
        })?;
        locked.recv().map_err(io::Error::other)?;
        drop(lock.lock());
        holder.join()
    });
    assert_does(cell, Waiting, move |_| {
        let (lock, changed) = (Mutex::new(()), Condvar::new());
        drop(changed.wait_timeout(lock.lock().unwrap(), long));
        Ok(())
    });
}

pub fn a_dump_tells_that_a_wait_is_over(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let (open, gate) = bounded::<()>(0);
    let running = start(cell, &place, move |request| {
        request.sleep(Duration::from_millis(1))?;
        socketserver::sleep(Duration::from_millis(1))?;
        request.write_all(b"12345")?;
        assert_eq!(request.write_vectored(&[&b"6"[..], b"78"].map(IoSlice::new))?, 3);
        request.read_exact(&mut [0])?;
        let _ = tell.send(());
        // It blocks in what is not of this crate.
        let _ = gate.recv();
        Ok(())
    });
    let mut client = Client::connect(&running.addr);
    running.wait_for_activity(Activity::Reading);
    client.write_all(b"x").unwrap();
    receive("the end of its waits", &told);
    let request = &running.monitor.dump()[0];
    assert_eq!((request.activity, request.bytes_read, request.bytes_written), (Activity::Running, 1, 8));
    drop(open);
    assert_eq!(client.read_all(), b"12345678");
    running.finish();
}

/// Checks what a dump tells of a handler that calls `wait`, which waits until the gate is closed or the request is cut off.
#[track_caller]
fn assert_does(
    cell: Cell,
    activity: Activity,
    wait: impl Fn(&channel::Receiver<()>) -> io::Result<()> + Send + Sync + 'static,
) {
    let place = cell.place();
    let (open, gate) = channel::bounded(1);
    let server = cell.bind(&place, move |_: &mut Request| wait(&gate));
    let running = Running::start(server);
    let client = Client::connect(&running.addr);
    running.wait_for_activity(activity);
    drop(open);
    running.handle.drain(Duration::ZERO);
    let (server, _) = running.ended();
    drop(client);
    until("it has ended", || server.monitor().dump().is_empty());
    close(server);
}
