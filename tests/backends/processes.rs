//! What can be seen only in a process of its own: signals, threads, descriptors. Each of these functions has one.

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use socketserver::backend::{BackendName, ForkingStyle};
use socketserver::{AnyServer, Request};

use crate::support::cell::{Cell, Place, bind_with};
use crate::support::client::Client;
use crate::support::descriptors::{is_asleep, open_descriptors, threads};
use crate::support::running::{Running, close};
use crate::support::{echo, receive, until};

/// Signals interrupt the thread that writes, about a thousand times a second, and the peer reads small pieces.
pub fn a_large_write_arrives_whole_in_a_rain_of_signals(cell: Cell) {
    const LENGTH: usize = (16 << 20) + 1;
    let arrived = note_signals();
    let place = cell.place();
    let (tell, told) = bounded(1);
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let _ = tell.send(rustix::thread::gettid());
        let answer = vec![b'x'; LENGTH];
        let mut sent = 0;
        // Not by `write_all`, which goes on after an interruption by itself.
        while sent < LENGTH {
            sent += request.write(&answer[sent..])?;
            sent += request.write_vectored(&[IoSlice::new(&answer[sent..])])?;
        }
        Ok(())
    }));
    let mut client = Client::open(&running.addr);
    // So that the writer waits for the reader all the way.
    rustix::net::sockopt::set_socket_recv_buffer_size(&client, 64 * 1024).unwrap();
    client.join().unwrap();
    let writer = receive("the writing thread", &told).as_raw_nonzero().get();
    let (stop, stopped) = bounded::<()>(0);
    let rain = thread::spawn(move || {
        // Until the other end is dropped.
        while stopped.recv_timeout(Duration::from_millis(1)).is_err_and(|error| error.is_timeout()) {
            interrupt(writer);
        }
    });
    let mut piece = vec![0; 64 * 1024];
    let mut length = 0;
    loop {
        // The first half is read slowly: a signal for each piece of it.
        if length < LENGTH / 2 {
            until("it rains", || arrived.swap(false, SeqCst));
        }
        let count = client.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        assert!(piece[..count].iter().all(|byte| *byte == b'x'));
        length += count;
    }
    assert_eq!(length, LENGTH);
    drop(stop);
    rain.join().unwrap();
    assert_eq!(running.finish().completed, 1);
}

/// Whatever its length: a short one is filled from the buffer, a long one at once.
pub fn a_read_goes_on_after_a_signal(cell: Cell) {
    let arrived = note_signals();
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        for length in [1, 1 << 20] {
            let _ = tell.send(rustix::thread::gettid());
            assert_eq!(request.read(&mut vec![0; length])?, 1);
        }
        request.write_all(b"both")
    }));
    let mut client = Client::connect(&running.addr);
    for _ in 0..2 {
        let reader = receive("the reading thread", &told);
        until("it waits", || is_asleep(reader));
        interrupt(reader.as_raw_nonzero().get());
        until("the signal has come", || arrived.swap(false, SeqCst));
        client.write_all(b"x").unwrap();
    }
    assert_eq!(client.read_all(), b"both");
    assert_eq!(running.finish().completed, 1);
}

/// Has a signal do next to nothing, but interrupt: also what the system would begin again by itself.
fn note_signals() -> Arc<AtomicBool> {
    let arrived = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, arrived.clone()).unwrap();
    // SAFETY: all zeros are an action, and what is set is the one that there is, but for a flag.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGUSR1, std::ptr::null(), &mut action), 0);
        action.sa_flags &= !libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    arrived
}

/// Sends a signal, for which there is a handler, to one thread of this process. That it has ended meanwhile does no harm.
fn interrupt(thread: i32) {
    // SAFETY: `tgkill` takes numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGUSR1) };
}

pub fn ten_requests_leave_few_threads(cell: Cell) {
    let before = threads();
    let place = cell.place();
    let running = Running::start(small(cell, &place));
    for _ in 0..10 {
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    }
    let more = threads() - before;
    assert!(more < 10, "{more} threads more than before");
    running.finish();
    // The system lists a thread for a moment after that has been joined.
    until("its threads have ended", || threads() == before);
}

/// Twenty-five at a time, of which each third is reset and each seventh panics.
pub fn hundreds_of_connections_leave_nothing(cell: Cell) {
    let before = (open_descriptors(), threads());
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        assert_ne!(request.fill_buf()?, b"panic", "as the test wants");
        echo(request)
    }));
    for round in 0..20 {
        let clients: Vec<Client> = (0..25)
            .map(|number| Client::sending(&running.addr, if number % 7 == 0 { b"panic" } else { b"hello" }))
            .collect();
        for (number, mut client) in clients.into_iter().enumerate() {
            match number {
                _ if number % 7 == 0 => assert!(client.is_hung_up()),
                // Its answer is unread, so this resets.
                _ if (number + round) % 3 == 0 => drop(client),
                _ => {
                    assert_eq!(client.take_bytes(5), b"hello");
                    client.half_close().unwrap();
                    assert_eq!(client.read_all(), b"");
                }
            }
        }
    }
    let (server, _) = running.stop();
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.panicked, stats.live), (500, 80, 0));
    close(server);
    drop(place);
    until("no descriptor and no thread is left", || (open_descriptors(), threads()) == before);
}

/// With `SIGPIPE` at its default action, which ends the process.
pub fn a_closed_peer_raises_no_signal(cell: Cell) {
    default_sigpipe();
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| -> io::Result<()> {
        let error = |result: io::Result<usize>| result.err().map(|error| error.kind());
        // The first write may go out before the system knows.
        while error(request.write(b"x")).is_none() {}
        let errors = [
            error(request.write(b"x")),
            error(request.write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")])),
            error(request.sender()?.send(b"x").map(|()| 0)),
            error(request.write(b"x")),
        ];
        let _ = tell.send(errors);
        Ok(())
    }));
    drop(Client::connect(&running.addr));
    for error in receive("the errors", &told) {
        assert_eq!(error, Some(ErrorKind::BrokenPipe));
    }
    running.finish();
}

/// What std's start of a program has changed, a library cannot rely on.
fn default_sigpipe() {
    // SAFETY: the default action runs no code of this process.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// A server with no more threads than it needs from the start.
fn small(cell: Cell, place: &Place) -> AnyServer {
    match cell.backend {
        BackendName::ForkingStyle => bind_with(place, ForkingStyle::new(4), echo),
        _ => cell.bind(place, echo),
    }
}
