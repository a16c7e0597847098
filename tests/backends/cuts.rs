//! Cuts: what a drain leaves at its deadline, or a sender closes, fails wherever it is.

use std::io::{self, BufRead, BufWriter, ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use socketserver::backend::BackendName;
use socketserver::{Activity, Request, Sender, spawn, sync};

use crate::support::cell::Cell;
use crate::support::child::{keep_log, kept_lines};
use crate::support::client::Client;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, assert_cut_at, echo, receive, within};

const DEADLINE: Duration = Duration::from_millis(250);

pub fn at_the_deadline_a_read_is_cut(cell: Cell) {
    check_cut(cell, |request| request.read_exact(&mut [0; 2]));
}

pub fn at_the_deadline_a_write_is_cut(cell: Cell) {
    check_cut(cell, |request| request.write_all(&vec![0; 64 << 20]));
}

pub fn at_the_deadline_a_sleep_is_cut(cell: Cell) {
    check_cut(cell, |request| request.sleep(PATIENCE * 2));
}

/// It is between two messages, and takes the end for none.
pub fn at_the_deadline_who_reads_on_after_the_end_is_cut(cell: Cell) {
    check_cut(cell, |request| {
        request.set_idle();
        loop {
            request.fill_buf()?;
        }
    });
}

/// What it waits for goes on: it waits for a lock, which hears of no cut.
pub fn at_the_deadline_a_join_is_cut(cell: Cell) {
    check_cut(cell, |_| {
        let lock = Arc::new(sync::Mutex::new(()));
        let its_lock = lock.clone();
        let _held = lock.lock();
        spawn(move || drop(its_lock.lock()))?.join()
    });
}

/// A `BufWriter` sends its bytes when it is dropped, and the peer does not read.
pub fn at_the_deadline_a_write_in_a_destructor_is_cut(cell: Cell) {
    check_cut(cell, |request| {
        let result = request.write_all(&vec![0; 64 << 20]);
        let mut writer = BufWriter::new(&mut *request);
        let _ = writer.write_all(b"unsent");
        result
    });
}

/// Its peer has always sent more when it reads, so that it never waits.
pub fn at_the_deadline_a_busy_reader_is_cut(cell: Cell) {
    let place = cell.place();
    let (ask, asked_for) = bounded(0);
    let (give, given) = bounded(0);
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let mut result = request.read_exact(&mut [0]);
        while result.is_ok() && ask.send(()).is_ok() && given.recv().is_ok() {
            result = request.read_exact(&mut [0]);
        }
        let _ = tell.send(result.as_ref().err().map(io::Error::kind));
        result
    }));
    let mut client = Client::sending(&running.addr, b"x");
    receive("the first byte", &asked_for);
    let peer = thread::spawn(move || {
        let _ = client.write_all(b"x");
        while give.send(()).is_ok() && asked_for.recv().is_ok() {
            // In the end, nobody takes it any more.
            let _ = client.write_all(b"x");
        }
    });
    assert_drain_cuts(running);
    assert_eq!(receive("the handler's error", &told), Some(ErrorKind::ConnectionAborted));
    peer.join().unwrap();
}

/// Each piece of work is done when it asks for the next one.
pub fn at_the_deadline_who_offloads_without_end_is_cut(cell: Cell) {
    check_cut(cell, |request| {
        loop {
            request.offload(|| ())?;
        }
    });
}

/// By a sender of its own, to a peer that always takes more.
pub fn at_the_deadline_who_sends_without_end_is_cut(cell: Cell) {
    // By the sender, or beside it.
    let sends: [fn(&mut Request, &mut Sender) -> io::Result<()>; 2] =
        [|_, sender| sender.write_all(b"x"), |request, _| request.write_all(b"x")];
    sends.into_iter().for_each(|send| assert_cuts_who_goes_on(cell, send));
}

#[track_caller]
fn assert_cuts_who_goes_on(cell: Cell, send: fn(&mut Request, &mut Sender) -> io::Result<()>) {
    let place = cell.place();
    let (began, beginning) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let mut sender = request.sender()?;
        let _ = began.send(());
        loop {
            send(request, &mut sender)?;
        }
    }));
    let mut client = Client::connect(&running.addr);
    let reading = thread::spawn(move || while matches!(client.read(&mut [0; 4096]), Ok(1..)) {});
    receive("the beginning of the request", &beginning);
    assert_drain_cuts(running);
    reading.join().unwrap();
}

/// A handler that would go on is cut off at the deadline, and so is all that it does afterwards.
fn check_cut(cell: Cell, go_on: fn(&mut Request) -> io::Result<()>) {
    let place = cell.place();
    let (began, beginning) = unbounded();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0])?;
        let _ = began.send(());
        let result = go_on(request);
        let errors = [
            result.as_ref().err().map(io::Error::kind),
            request.read(&mut [0]).err().map(|error| error.kind()),
            request.write(b"x").err().map(|error| error.kind()),
            request.sleep(Duration::ZERO).err().map(|error| error.kind()),
            request.offload(|| ()).err().map(|error| error.kind()),
        ];
        let _ = tell.send(errors);
        result
    }));
    let _client = Client::sending(&running.addr, b"x");
    receive("the beginning of the request", &beginning);
    assert_drain_cuts(running);
    assert_eq!(receive("the handler's errors", &told), [Some(ErrorKind::ConnectionAborted); 5]);
}

/// Checks that a drain cuts the one request off at its deadline.
#[track_caller]
fn assert_drain_cuts(running: Running) {
    let asked = Instant::now();
    running.handle.drain(DEADLINE);
    let (server, served) = running.ended();
    assert_cut_at(DEADLINE, asked.elapsed());
    // On a busy machine it may not have got round to ending.
    assert!(served.cut == 1 && served.unfinished <= 1, "{served:?}");
    let stats = close(server);
    assert_eq!((stats.failed, stats.cut), (1, 1));
}

pub fn the_log_says_how_many_were_cut_off(cell: Cell) {
    keep_log();
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        request.set_busy();
        echo(request)
    }));
    let mut client = Client::connect(&running.addr);
    running.wait_for_activity(Activity::Reading);
    running.handle.drain(Duration::ZERO);
    assert!(client.is_hung_up());
    close(running.ended().0);
    let lines = kept_lines("");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("WARN") && lines[0].ends_with("cut off: 1"), "{lines:?}");
}

/// As one of `serve_forever`: in the call that serves it, or where it goes on by itself, in the next.
pub fn at_the_deadline_a_request_that_is_handled_alone_is_cut(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let mut server = cell.bind(&place, move |request: &mut Request| {
        request.set_busy();
        let _ = tell.send(());
        echo(request)
    });
    let (addr, handle) = (server.local_addr().clone(), server.shutdown_handle());
    let goes_on = matches!(cell.backend, BackendName::Threading | BackendName::ForkingStyle);
    let serving = thread::spawn(move || {
        assert!(server.handle_request().expect("it can wait"));
        assert!(!goes_on || !server.handle_request().expect("it can wait"));
        server
    });
    let mut client = Client::connect(&addr);
    receive("the request", &told);
    let asked = Instant::now();
    handle.drain(DEADLINE);
    let server = within("handling one request", move || serving.join()).unwrap();
    assert_cut_at(DEADLINE, asked.elapsed());
    assert!(client.is_hung_up());
    assert_eq!(close(server).cut, 1);
}

/// What is in the handler's own buffer it still has; what is in the system's, no more.
pub fn who_is_cut_off_reads_no_more_of_what_has_come(cell: Cell) {
    const BUFFER: usize = 64 * 1024;
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0])?;
        request.sender()?.close();
        let mut rest = Vec::new();
        let end = request.read_to_end(&mut rest).map_err(|error| error.kind());
        let _ = tell.send((rest.len() < BUFFER, end));
        Ok(())
    }));
    running.handle.pause();
    let _client = Client::sending(&running.addr, &[b'x'; 2 * BUFFER]);
    running.handle.resume();
    assert_eq!(receive("the end of the stream", &told), (true, Err(ErrorKind::ConnectionAborted)));
    running.finish();
}
