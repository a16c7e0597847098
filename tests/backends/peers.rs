//! Peers that half-close, do not read, send too much, or vanish.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use rustix::net::SendFlags;
use socketserver::sync::{Condvar, Mutex};
use socketserver::{Activity, Hooks, Incoming, Request};

use crate::support::cell::Cell;
use crate::support::client::Client;
use crate::support::descriptors::thread_time;
use crate::support::gate::Gate;
use crate::support::running::Running;
use crate::support::{echo, receive, until};

/// A short wait of a handler, and how many of them tell whether it waits or computes.
pub const WAIT: Duration = Duration::from_millis(10);
pub const WAITS: u32 = 10;

/// The handler sees the end of what the client sent, and its whole answer arrives.
pub fn a_half_closed_client_gets_a_long_answer(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, echo));
    let message: Vec<u8> = (0..1_000_003_u32).map(|number| (number % 251) as u8).collect();
    let answer = Client::connect(&running.addr).ask_at_length(message.clone());
    assert!(answer == message, "{} bytes came back", answer.len());
    assert_eq!(running.finish().completed, 1);
}

/// Whoever has ended its own direction reads the end of the other, also if the handler has left a copy of the descriptor somewhere.
pub fn a_copy_of_the_descriptor_keeps_no_connection_open(cell: Cell) {
    let place = cell.place();
    let (give, copies) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let _ = give.send(request.as_fd().try_clone_to_owned()?);
        echo(request)
    }));
    let answer = Client::connect(&running.addr).ask(b"hello");
    let _copy = receive("the copy", &copies);
    assert_eq!(answer, b"hello");
    assert_eq!(running.finish().completed, 1);
}

/// Nor does a copy that the hook has kept of one that it has turned away.
pub fn a_copy_of_the_descriptor_keeps_no_rejected_connection_open(cell: Cell) {
    struct Keeps(Sender<OwnedFd>);

    impl Hooks for Keeps {
        fn verify_request(&self, request: &Incoming) -> io::Result<bool> {
            let _ = self.0.send(request.as_fd().try_clone_to_owned()?);
            Ok(false)
        }
    }

    let place = cell.place();
    let (give, copies) = unbounded();
    let running = Running::start(cell.bind(&place, echo).hooks(Keeps(give)));
    assert_eq!(Client::connect(&running.addr).read_all(), b"");
    let _copy = receive("the copy", &copies);
    assert_eq!(running.finish().rejected, 1);
}

/// A megabyte of which the handler has read one byte does not turn the close into a reset.
pub fn unread_input_does_not_cut_the_answer(cell: Cell) {
    let place = cell.place();
    let answer = vec![b'a'; 100_000];
    let its_answer = answer.clone();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0])?;
        request.write_all(&its_answer)
    }));
    for _ in 0..3 {
        let got = Client::connect(&running.addr).ask_at_length(vec![b'q'; 1 << 20]);
        assert!(got == answer, "{} bytes arrived", got.len());
    }
    assert_eq!(running.finish().completed, 3);
}

/// The handler turns a message away after its beginning, before the rest of it has come, and says that there is more of it.
pub fn the_rest_of_a_message_does_not_cut_the_answer(cell: Cell) {
    let (place, (give, ended)) = (cell.place(), unbounded());
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0; 4])?;
        request.write_all(b"too large")?;
        request.set_busy();
        give.send(()).map_err(io::Error::other)
    }));
    let mut client = Client::connect(&running.addr);
    client.write_all(b"head").unwrap();
    receive("the handler's end", &ended);
    running.wait_for_activity(Activity::Reading);
    for _ in 0..10 {
        client.write_all(&[b'b'; 10_000]).unwrap();
    }
    client.half_close().unwrap();
    assert_eq!(client.read_all(), b"too large");
    assert_eq!(running.finish().completed, 1);
}

/// The client had sent something before it was answered, and goes on when that has been read.
pub fn input_that_comes_late_does_not_cut_the_answer(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| request.write_all(b"answer")));
    running.handle.pause();
    let mut client = Client::sending(&running.addr, b"early");
    running.handle.resume();
    running.wait_for_activity(Activity::Reading);
    for _ in 0..3 {
        client.write_all(b"late").unwrap();
    }
    client.half_close().unwrap();
    assert_eq!(client.read_all(), b"answer");
    assert_eq!(running.finish().completed, 1);
}

/// Nor is it waited for without end.
pub fn who_is_silent_after_unread_input_is_left(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        request.read_exact(&mut [0])?;
        request.write_all(b"answer")
    }));
    let mut client = Client::sending(&running.addr, b"unread");
    assert_eq!(client.read_all(), b"answer");
    until("the request is over", || running.stats().live == 0);
    assert_eq!(running.finish().completed, 1);
}

/// The client does not stop when it is answered. It is not read from for ever, nor for as long as that may take where it is slow.
pub fn who_sends_without_end_is_read_so_far_only(cell: Cell) {
    const MOST: usize = 64 << 20;
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        request.read_exact(&mut [0])?;
        request.write_all(b"bye")
    }));
    let mut client = Client::connect(&running.addr);
    let piece = vec![b'q'; 1 << 20];
    let sent = (1..).find(|_| client.write_all(&piece).is_err()).unwrap() << 20;
    assert!((MOST..2 * MOST).contains(&sent), "the server has taken {sent} bytes");
    assert_eq!(running.finish().completed, 1);
}

/// The client closes with input unread, which resets the connection.
pub fn a_reset_is_an_error_of_the_read(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.write_all(b"hello")?;
        let result = request.read_exact(&mut [0]);
        let _ = tell.send(result.as_ref().err().map(io::Error::kind));
        result
    }));
    let mut client = Client::connect(&running.addr);
    assert_eq!(client.take_bytes(1), b"h");
    drop(client);
    assert_eq!(receive("the reset", &told), Some(ErrorKind::ConnectionReset));
    let stats = running.finish();
    assert_eq!((stats.failed, stats.disconnected), (1, 1));
}

/// A read that is large enough to pass by the buffer does not while something is in there.
pub fn what_is_buffered_is_read_first(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let mut message = vec![0; 1 << 20];
        request.read_exact(&mut message[..1])?;
        let count = request.read(&mut message[1..])?;
        request.write_all(&message[..1 + count])
    }));
    let mut client = Client::sending(&running.addr, b"hello");
    assert_eq!(client.take_bytes(5), b"hello");
    assert_eq!(running.finish().completed, 1);
}

/// Of some pieces, the last does not fit into the system's buffers.
pub fn a_vectored_write_arrives_whole(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let large = vec![b'z'; 8 << 20];
        let mut pieces: Vec<IoSlice<'_>> = (0..50).map(|_| IoSlice::new(b"small")).collect();
        pieces.push(IoSlice::new(&large));
        let written = request.write_vectored(&pieces)?;
        assert_eq!(written, 50 * 5 + large.len());
        Ok(())
    }));
    let answer = Client::connect(&running.addr).read_all();
    assert!(answer.starts_with(&b"small".repeat(50)));
    assert!(answer[250..].iter().all(|byte| *byte == b'z'));
    assert_eq!(answer.len(), 250 + (8 << 20));
    assert_eq!(running.finish().completed, 1);
}

/// More pieces than the system takes in one call, which is 1,024, and less than it has room for.
pub fn more_pieces_than_a_call_takes_arrive(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        request.read_exact(&mut [0])?;
        let pieces = vec![IoSlice::new(b"0123456789"); 2500];
        assert_eq!(request.write_vectored(&pieces)?, 25_000);
        Ok(())
    }));
    let mut client = Client::connect(&running.addr);
    // What the system says of a new connection, it has said by then.
    running.wait_for_activity(Activity::Reading);
    client.write_all(b"x").unwrap();
    assert!(client.read_all() == b"0123456789".repeat(2500));
    assert_eq!(running.finish().completed, 1);
}

/// A read ends in front of urgent data: what is behind it is read all the same.
pub fn urgent_data_hides_nothing(cell: Cell) {
    let (place, gate) = (cell.place(), Gate::default());
    let its_gate = gate.clone();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0])?;
        its_gate.pass(request)?;
        let mut rest = [0; 6];
        request.read_exact(&mut rest)?;
        request.write_all(&rest)
    }));
    let mut client = Client::connect(&running.addr);
    running.wait_for_activity(Activity::Reading);
    client.write_all(b"x").unwrap();
    gate.wait_for(1);
    client.write_all(b"abc").unwrap();
    rustix::net::send(&client, b"!", SendFlags::OOB).unwrap();
    client.write_all(b"def").unwrap();
    gate.open();
    assert_eq!(client.take_bytes(6), b"abcdef");
    assert_eq!(running.finish().completed, 1);
}

type Shared = (Mutex<bool>, Condvar);

/// The handler finds it taken twice: while its peer is reset, and when it has slept.
pub fn a_reset_is_no_end_of_the_wait_for_a_mutex(cell: Cell) {
    let shared: Arc<Shared> = Arc::default();
    let guard = shared.0.lock().unwrap();
    reset_while_the_handler_waits(cell, &shared, guard, |(mutex, _), waits| {
        let _ = waits.send(());
        while !*mutex.lock().unwrap() {
            let _ = waits.send(());
            let _ = socketserver::sleep(WAIT);
        }
    });
}

pub fn a_reset_is_no_end_of_the_wait_for_a_condition(cell: Cell) {
    let shared: Arc<Shared> = Arc::default();
    reset_while_the_handler_waits(cell, &shared, (), |(mutex, condition), waits| {
        let mut ready = mutex.lock().unwrap();
        while !*ready {
            let _ = waits.send(());
            (ready, _) = condition.wait_timeout(ready, WAIT).unwrap();
        }
    });
}

/// What others have written to the peer cannot be sent any more, while its handler does `wait`. That ends when nobody holds the
/// mutex, which `guard` may do at first, and what is in it is true. Until then it waits, for [`WAIT`] at a time: it neither panics, nor
/// computes, nor returns at once.
fn reset_while_the_handler_waits<G>(cell: Cell, shared: &Arc<Shared>, guard: G, wait: fn(&Shared, &Sender<()>)) {
    let place = cell.place();
    let (give, senders) = unbounded();
    let (waits, waiting) = unbounded();
    let (tell, told) = unbounded();
    let its_shared = shared.clone();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let _ = give.send(request.sender()?);
        let (began, before) = (Instant::now(), thread_time());
        wait(&its_shared, &waits);
        let _ = tell.send((began.elapsed(), thread_time() - before));
        Ok(())
    }));
    let client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    receive("the handler's wait", &waiting);
    while sender.send(&[0; 10_000]).is_ok() {}
    // With input unread.
    drop(client);
    let is_full = || sender.send(&[0; 10_000]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    until("what was queued is given up", || !is_full());
    drop(guard);
    // What was queued has ended some of them early.
    waiting.try_iter().for_each(drop);
    (0..WAITS).for_each(|_| receive("another wait", &waiting));
    *shared.0.lock().unwrap() = true;
    shared.1.notify_all();
    let (time, spent) = receive("the end of the wait", &told);
    assert!(time > WAIT * WAITS / 2, "it did not wait: {WAITS} waits took {time:?}");
    assert!(spent < time / 2, "it waited by computing for {spent:?} of {time:?}");
    running.finish();
}

/// Its answer waits, and the others have theirs.
pub fn who_never_reads_holds_up_nobody(cell: Cell) {
    let place = cell.place();
    let (began, beginning) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let mut message = [0; 4];
        request.read_exact(&mut message)?;
        if &message == b"much" {
            let _ = began.send(());
            return request.write_all(&vec![0; 64 << 20]);
        }
        request.write_all(&message)
    }));
    let deaf = Client::sending(&running.addr, b"much");
    receive("the long answer", &beginning);
    for _ in 0..20 {
        assert_eq!(Client::connect(&running.addr).ask(b"ping"), b"ping");
    }
    drop(deaf);
    let stats = running.finish();
    assert_eq!((stats.completed, stats.disconnected), (20, 1));
}
