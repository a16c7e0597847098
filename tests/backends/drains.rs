//! Drains: the idle end at once, the busy finish, and nobody new comes in.

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use rustix::net::sockopt;
use socketserver::backend::BackendName;
use socketserver::frame::Lines;
use socketserver::{Activity, Request};

use crate::support::cell::{Cell, Place};
use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, echo, receive, until, within};

/// Answers each line with ten thousand copies, once the gate is open for those that begin with `w`.
fn lines(gate: Gate) -> impl Fn(&mut Request) -> io::Result<()> + Send + Sync {
    move |request| {
        let mut line = String::new();
        while request.read_line(&mut line)? > 0 {
            if line.starts_with('w') {
                gate.pass(request)?;
            }
            request.write_all(line.repeat(10_000).as_bytes())?;
            line.clear();
        }
        Ok(())
    }
}

/// One request in flight gets its whole reply; meanwhile nobody can connect.
pub fn a_drain_lets_a_busy_request_finish(cell: Cell) {
    let (place, gate) = (Place::apart(cell.kind), Gate::default());
    let running = Running::start(cell.bind(&place, lines(gate.clone())));
    let mut busy = Client::sending(&running.addr, b"wait\n");
    gate.wait_for(1);
    running.handle.drain(PATIENCE);
    gate.open();
    assert_eq!(busy.read_all(), b"wait\n".repeat(10_000));
    let addr = running.addr.clone();
    let (server, served) = running.ended();
    assert!(Client::try_connect(&addr).is_err(), "a drained server takes no connection");
    assert_eq!((served.cut, served.unfinished), (0, 0));
    assert_eq!(close(server).completed, 1);
}

/// A shutdown, which takes its time, is followed by a drain: from then on nobody can connect. (One at a time refuses when its handler has
/// returned.)
pub fn a_drain_refuses_also_after_a_shutdown(cell: Cell) {
    let (place, gate) = (Place::apart(cell.kind), Gate::default());
    let server = cell.bind(&place, lines(gate.clone()));
    let monitor = server.monitor();
    let running = Running::start(server);
    let addr = running.addr.clone();
    let mut busy = Client::connect(&addr);
    busy.write_all(b"wait\n").unwrap();
    gate.wait_for(1);
    let silent = cell.is_concurrent().then(|| Client::connect(&addr));
    if silent.is_some() {
        until("it waits", || monitor.dump().iter().any(|request| request.activity == Activity::Reading));
    }
    running.handle.shutdown();
    if let Some(mut silent) = silent {
        assert_eq!(silent.read_all(), b"");
        running.handle.drain(PATIENCE);
        until("new connections are refused", || Client::try_connect(&addr).is_err());
    }
    running.handle.drain(PATIENCE);
    gate.open();
    assert_eq!(busy.read_all(), b"wait\n".repeat(10_000));
    let (server, served) = running.ended();
    assert!(Client::try_connect(&addr).is_err(), "a drained server takes no connection");
    assert_eq!((served.cut, served.unfinished), (0, 0));
    close(server);
}

/// It has had its answer, and nothing has come since.
pub fn a_drain_ends_an_idle_connection(cell: Cell) {
    let answer_in_pieces = |request: &mut Request| {
        request.read_exact(&mut [0; 5])?;
        assert_eq!(request.write_vectored(&[&b"hel"[..], b"lo"].map(IoSlice::new))?, 5);
        request.read_to_end(&mut Vec::new()).map(|_| ())
    };
    for handle in [echo, answer_in_pieces] {
        let place = cell.place();
        let running = Running::start(cell.bind(&place, handle));
        let mut idle = Client::sending(&running.addr, b"hello");
        assert_eq!(idle.take_bytes(5), b"hello");
        assert_ends_at_once(running, idle);
    }
}

/// It has never said a word.
pub fn a_drain_ends_a_silent_connection(cell: Cell) {
    let place = cell.place();
    let (began, beginning) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let _ = began.send(());
        echo(request)
    }));
    let silent = Client::connect(&running.addr);
    receive("the beginning of the request", &beginning);
    assert_ends_at_once(running, silent);
}

/// An idle connection ends with a long goodbye, which its peer reads late. Meanwhile the peer has sent another message: nobody reads
/// that, but it does no harm to the goodbye. (A peer on a Unix socket cannot send it, where the reading direction has been ended.)
pub fn a_message_that_meets_a_drain_does_not_cut_the_answer(cell: Cell) {
    let (place, gate) = (cell.place(), Gate::default());
    let its_gate = gate.clone();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        echo(request)?;
        its_gate.pass(request)?;
        request.write_all(&[b'x'; 100_000])
    }));
    // With a small window, most of the goodbye is still to be sent when the connection is closed.
    let mut client = Client::open(&running.addr);
    sockopt::set_socket_recv_buffer_size(&client, 4096).unwrap();
    client.join().unwrap();
    client.write_all(b"hello").unwrap();
    assert_eq!(client.take_bytes(5), b"hello");
    running.handle.drain(PATIENCE);
    gate.wait_for(1);
    let _ = client.write_all(b"another");
    gate.open();
    // It is in the system's hands, and the handler ends.
    until("the goodbye is written", || running.monitor.dump().iter().all(|request| request.bytes_written > 100_000));
    assert_eq!(client.read_all().len(), 100_000);
    drop(client);
    assert_eq!(close(running.ended().0).completed, 1);
}

/// A client does not wait for an answer before it sends again, and a drain ends its connection when most of the answer is still to be sent.
pub fn a_message_after_a_drain_does_not_cut_the_answers_before_it(cell: Cell) {
    let place = cell.place();
    let (running, mut client) = with_most_of_an_answer_unsent(cell, &place);
    running.handle.drain(PATIENCE);
    running.wait_for_activity(Activity::Writing);
    // Where the reading direction has been ended, a peer on a Unix socket cannot.
    let _ = client.write_all(b"another\n");
    assert_eq!(client.read_all().len(), 60_000);
    drop(client);
    assert_eq!(close(running.ended().0).completed, 1);
}

/// Even one that may take as long as it likes.
pub fn who_does_not_read_holds_up_no_drain(cell: Cell) {
    let place = cell.place();
    let (running, _client) = with_most_of_an_answer_unsent(cell, &place);
    running.handle.drain(Duration::MAX);
    assert_eq!(close(running.ended().0).completed, 1);
}

/// A client with a small window that has asked and does not read.
fn with_most_of_an_answer_unsent(cell: Cell, place: &Place) -> (Running, Client) {
    let running = Running::start(cell.bind(place, lines(Gate::default())));
    let client = ask_without_reading(&running);
    (running, client)
}

/// Asks with a small window, and waits until the answer is written.
fn ask_without_reading(running: &Running) -> Client {
    let mut client = Client::open(&running.addr);
    sockopt::set_socket_recv_buffer_size(&client, 4096).unwrap();
    client.join().unwrap();
    client.write_all(b"hello\n").unwrap();
    until("the answer is written", || running.monitor.dump().iter().any(|request| request.bytes_written == 60_000));
    client
}

/// It is not sent any more, and whoever wrote it is told so.
pub fn no_message_is_taken_and_lost_while_a_drain_closes(cell: Cell) {
    let place = cell.place();
    let (give, senders) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let _ = give.send(request.sender()?);
        lines(Gate::default())(request)
    }));
    let mut client = ask_without_reading(&running);
    let sender = receive("the sender", &senders);
    running.handle.drain(PATIENCE);
    running.wait_for_activity(Activity::Writing);
    let taken = sender.send(b"news").is_ok();
    assert_eq!(client.read_all().ends_with(b"news"), taken);
    assert_eq!(close(running.ended().0).completed, 1);
}

/// The handler reads two messages for each answer, and says so.
pub fn a_drain_ends_what_says_that_it_is_idle(cell: Cell) {
    let says: [fn(&mut Request); 2] = [Request::set_idle, |request| request.split().0.set_idle()];
    says.into_iter().for_each(|say| assert_drain_ends_after(cell, say));
}

#[track_caller]
fn assert_drain_ends_after(cell: Cell, say: fn(&mut Request)) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0; 5])?;
        say(request);
        let _ = tell.send(());
        assert!(request.fill_buf()?.is_empty());
        assert!(request.is_draining());
        Ok(())
    }));
    let client = Client::sending(&running.addr, b"hello");
    receive("the first message", &told);
    assert_ends_at_once(running, client);
}

/// The handler has prompted for a message, and says that it waits for that.
pub fn a_drain_spares_what_says_that_it_is_busy(cell: Cell) {
    let says: [fn(&mut Request); 2] = [Request::set_busy, |request| request.split().0.set_busy()];
    says.into_iter().for_each(|say| assert_drain_spares_after(cell, say));
}

#[track_caller]
fn assert_drain_spares_after(cell: Cell, say: fn(&mut Request)) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.write_all(b"354 go on\n")?;
        say(request);
        while !request.is_draining() {
            request.sleep(Duration::from_millis(1))?;
        }
        let _ = tell.send(());
        let mut line = String::new();
        request.read_line(&mut line)?;
        write!(request, "250 got {line}")
    }));
    let mut client = Client::connect(&running.addr);
    assert_eq!(client.take_bytes(10), b"354 go on\n");
    assert_is_spared(running, client, &told, (b"mail\n", b"250 got mail\n"));
}

/// A message of several frames, as a mail is of several lines: it is spared between them as well, until it is answered.
pub fn a_drain_spares_what_says_that_it_is_busy_between_frames(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let mut lines = request.frames(Lines::new());
        assert_eq!(lines.next()?, Some(&b"one"[..]));
        lines.get_mut().set_busy();
        let _ = tell.send(());
        while !lines.get_mut().is_draining() {
            lines.get_mut().sleep(Duration::from_millis(1))?;
        }
        let _ = tell.send(());
        assert_eq!(lines.next()?, Some(&b"two"[..]));
        assert_eq!(lines.next()?, Some(&b"."[..]));
        lines.get_mut().write_all(b"250 got 2 lines\n")?;
        assert_eq!(lines.next()?, None);
        Ok(())
    }));
    let client = Client::sending(&running.addr, b"one\n");
    receive("the first line", &told);
    assert_is_spared(running, client, &told, (b"two\n.\n", b"250 got 2 lines\n"));
}

/// Its last read, between two messages, has timed out; since then it has prompted for another one.
pub fn a_drain_spares_what_is_busy_after_a_timeout(cell: Cell) {
    let place = cell.place();
    let first = AtomicBool::new(true);
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        if !first.swap(false, SeqCst) {
            return echo(request);
        }
        request.set_read_timeout(Some(Duration::from_millis(1)));
        assert_eq!(request.fill_buf().map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
        request.set_read_timeout(None);
        request.write_all(b"go on\n")?;
        request.set_busy();
        while !request.is_draining() {
            request.sleep(Duration::from_millis(1))?;
        }
        let mut line = String::new();
        request.read_line(&mut line)?;
        write!(request, "got {line}")
    }));
    let mut client = Client::connect(&running.addr);
    assert_eq!(client.take_bytes(6), b"go on\n");
    let idle = cell.is_concurrent().then(|| Client::connect(&running.addr)).map(|mut idle| {
        idle.write_all(b"hello").unwrap();
        assert_eq!(idle.take_bytes(5), b"hello");
        idle
    });
    running.handle.drain(PATIENCE);
    // It is told after the first.
    if let Some(mut idle) = idle {
        assert_eq!(idle.read_all(), b"");
    }
    client.write_all(b"mail\n").unwrap();
    assert_eq!(client.read_all(), b"got mail\n");
    assert_eq!(close(running.ended().0).failed, 0);
}

/// As in `serve_forever`: nobody can connect any more, and where a request goes on by itself, that ends.
pub fn a_drain_ends_the_wait_for_one_request(cell: Cell) {
    let place = Place::apart(cell.kind);
    let mut server = cell.bind(&place, echo);
    let (addr, handle) = (server.local_addr().clone(), server.shutdown_handle());
    let goes_on = matches!(cell.backend, BackendName::Threading | BackendName::ForkingStyle);
    let idle = goes_on.then(|| Client::connect(&addr));
    if let Some(mut idle) = idle.as_ref().map(Client::duplicate) {
        assert!(server.handle_request().expect("it can wait"));
        idle.write_all(b"hello").unwrap();
        assert_eq!(idle.take_bytes(5), b"hello");
    }
    let server = within("handling no request", move || {
        thread::scope(|scope| {
            scope.spawn(|| handle.drain(PATIENCE));
            assert!(!server.handle_request().expect("it can wait"));
        });
        server
    });
    if let Some(mut idle) = idle {
        assert_eq!(idle.read_all(), b"");
    }
    assert!(Client::try_connect(&addr).is_err(), "a drained server takes no connection");
    assert_eq!(close(server).completed, u64::from(goes_on));
}

/// In a drain, of whose beginning it tells, the request waits for the rest of its message, and answers it.
fn assert_is_spared(running: Running, mut client: Client, told: &Receiver<()>, (rest, answer): (&[u8], &[u8])) {
    running.handle.drain(PATIENCE);
    receive("the drain's beginning", told);
    running.wait_for_activity(Activity::Reading);
    client.write_all(rest).unwrap();
    assert_eq!(client.read_all(), answer);
    assert_eq!(close(running.ended().0).completed, 1);
}

fn assert_ends_at_once(running: Running, mut client: Client) {
    let asked = Instant::now();
    running.handle.drain(PATIENCE);
    assert_eq!(client.read_all(), b"");
    let (server, served) = running.ended();
    assert!(asked.elapsed() < PATIENCE / 3, "the drain took {:?}", asked.elapsed());
    assert_eq!(served.cut, 0);
    assert_eq!(close(server).completed, 1, "the handler has read the end of the stream");
}

/// It goes on for a while when the drain has begun, and only then waits for the rest of its message.
pub fn a_drain_spares_who_has_half_a_message_and_computes(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0; 2])?;
        while !request.is_draining() {
            request.sleep(Duration::from_millis(1))?;
        }
        request.sleep(Duration::from_millis(50))?;
        let _ = tell.send(());
        request.read_exact(&mut [0; 3])?;
        request.write_all(b"hello")
    }));
    let client = Client::sending(&running.addr, b"he");
    running.wait_for_activity(Activity::Sleeping);
    assert_is_spared(running, client, &told, (b"llo", b"hello"));
}

/// Half a line has been read: its other half is waited for, and answered.
pub fn a_drain_spares_a_half_read_message(cell: Cell) {
    let (place, gate) = (cell.place(), Gate::default());
    gate.open();
    let (tell, told) = unbounded();
    let line = lines(gate);
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.fill_buf()?;
        let _ = tell.send(());
        line(request)
    }));
    let mut client = Client::sending(&running.addr, b"he");
    receive("half a message", &told);
    running.handle.drain(PATIENCE);
    client.write_all(b"llo\n").unwrap();
    assert_eq!(client.read_all(), b"hello\n".repeat(10_000));
    assert_eq!(close(running.ended().0).completed, 1);
}

/// A line has come together with half of the next one, which is read after the answer, and waited for in the drain.
pub fn a_drain_spares_half_a_message_behind_an_answered_one(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let mut line = String::new();
        request.read_line(&mut line)?;
        request.write_all(line.as_bytes())?;
        while !request.is_draining() {
            request.sleep(Duration::from_millis(1))?;
        }
        let _ = tell.send(());
        line.clear();
        request.read_line(&mut line)?;
        request.write_all(line.as_bytes())
    }));
    let client = Client::sending(&running.addr, b"one\ntw");
    running.wait_for_activity(Activity::Sleeping);
    assert_is_spared(running, client, &told, (b"o\n", b"one\ntwo\n"));
}

/// One in flight, one idle, one silent, all at once.
pub fn a_drain_tells_the_idle_from_the_busy(cell: Cell) {
    let (place, gate) = (cell.place(), Gate::default());
    let running = Running::start(cell.bind(&place, lines(gate.clone())));
    let mut silent = Client::connect(&running.addr);
    let mut idle = Client::sending(&running.addr, b"hello\n");
    assert_eq!(idle.take_bytes(60_000), b"hello\n".repeat(10_000));
    let mut busy = Client::sending(&running.addr, b"wait\n");
    gate.wait_for(1);
    running.handle.drain(PATIENCE);
    assert_eq!(silent.read_all(), b"");
    assert_eq!(idle.read_all(), b"");
    assert!(!running.has_ended());
    gate.open();
    assert_eq!(busy.read_all(), b"wait\n".repeat(10_000));
    let (server, served) = running.ended();
    assert_eq!((served.accepted, served.cut), (3, 0));
    assert_eq!(close(server).completed, 3);
}
