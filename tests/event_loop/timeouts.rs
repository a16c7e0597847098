//! The edges of time, on every backend: no time, all the time, time that is over.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use socketserver::Request;

use crate::support::cell::Cell;
use crate::support::client::Client;
use crate::support::running::Running;
use crate::support::{PATIENCE, assert_cut_at, receive, until};

const DEADLINE: Duration = Duration::from_millis(250);

/// Runs a handler, and returns what it tells.
fn tells<T: Send + 'static>(cell: Cell, handler: fn(&mut Request) -> io::Result<T>) -> T {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let _ = tell.send(handler(request)?);
        Ok(())
    }));
    let client = Client::sending(&running.addr, b"first");
    let result = receive("what the handler tells", &told);
    drop(client);
    running.finish();
    result
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Between two messages the idle timeout counts, in the middle of one the read timeout.
pub fn an_idle_connection_times_out(cell: Cell) {
    let ([idle, busy], taken) = tells(cell, |request| {
        request.set_read_timeout(Some(PATIENCE));
        request.set_idle_timeout(Some(DEADLINE));
        request.read_exact(&mut [0; 5])?;
        request.set_idle();
        let began = Instant::now();
        let idle = kind(request.read(&mut [0]));
        let taken = began.elapsed();
        request.set_idle_timeout(None);
        request.set_read_timeout(Some(DEADLINE));
        Ok(([idle, kind(request.read(&mut [0]))], taken))
    });
    assert_eq!([idle, busy], [Some(ErrorKind::TimedOut); 2]);
    assert_cut_at(DEADLINE, taken);
}

/// A timeout of zero: what is there is read, what would wait fails.
pub fn no_time_is_over_at_once(cell: Cell) {
    let errors = tells(cell, |request| {
        request.read_exact(&mut [0; 5])?;
        request.set_read_timeout(Some(Duration::ZERO));
        let read = kind(request.read(&mut [0]));
        request.set_read_timeout(None);
        request.set_idle_timeout(Some(Duration::ZERO));
        request.set_idle();
        let idle = kind(request.read(&mut [0]));
        request.set_write_timeout(Some(Duration::ZERO));
        let write = kind(request.write_all(b"it fits"));
        let too_much = kind(request.write_all(&vec![0; 64 << 20]));
        let sleep = kind(request.sleep(Duration::ZERO));
        Ok([read, idle, write, too_much, sleep])
    });
    let timed_out = Some(ErrorKind::TimedOut);
    assert_eq!(errors, [timed_out, timed_out, None, timed_out, None]);
}

/// Also what has come since the last read, although nothing has told the handler of it.
pub fn what_has_come_is_read_in_no_time(cell: Cell) {
    let place = cell.place();
    let (ask, asked) = unbounded();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.read_exact(&mut [0; 5])?;
        for set in [Request::set_read_timeout, Request::set_idle_timeout, Request::set_deadline] {
            let _ = ask.send(());
            until("the next message is there", || rustix::io::ioctl_fionread(&*request).is_ok_and(|count| count == 5));
            request.set_idle();
            set(request, Some(Duration::ZERO));
            let _ = tell.send(kind(request.read_exact(&mut [0; 5])));
            set(request, None);
        }
        Ok(())
    }));
    let mut client = Client::sending(&running.addr, b"first");
    for _ in 0..3 {
        receive("the wish for another message", &asked);
        client.write_all(b"hello").unwrap();
        assert_eq!(receive("what the read gave", &told), None);
    }
    drop(client);
    running.finish();
}

/// And what there is room for again is sent.
pub fn what_there_is_room_for_is_sent_in_no_time(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.set_write_timeout(Some(Duration::ZERO));
        let _ = tell.send(kind(request.write_all(&vec![0; 64 << 20])));
        let end = Instant::now() + PATIENCE;
        while kind(request.write_all(b"more")).is_some_and(|_| Instant::now() < end) {}
        Ok(())
    }));
    let mut client = Client::connect(&running.addr);
    assert_eq!(receive("the end of a long write", &told), Some(ErrorKind::TimedOut));
    assert!(client.read_all().ends_with(b"more"));
    running.finish();
}

/// A timeout beyond what any clock can say is none.
pub fn all_the_time_is_no_limit(cell: Cell) {
    let place = cell.place();
    let (began, beginning) = unbounded();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        for time in [Duration::MAX, Duration::from_secs(u64::MAX / 4), Duration::from_secs(1 << 33)] {
            request.set_read_timeout(Some(time));
            request.set_write_timeout(Some(time));
            request.set_idle_timeout(Some(time));
            request.set_deadline(Some(time));
            let _ = began.send(());
            request.read_exact(&mut [0; 5])?;
            request.write_all(b"answer")?;
        }
        let _ = began.send(());
        let _ = tell.send(kind(request.sleep(Duration::MAX)));
        Ok(())
    }));
    let mut client = Client::connect(&running.addr);
    for _ in 0..3 {
        receive("a message's turn", &beginning);
        client.write_all(b"hello").unwrap();
        assert_eq!(client.take_bytes(6), b"answer");
    }
    receive("the long sleep", &beginning);
    running.handle.drain(Duration::from_millis(20));
    assert_eq!(receive("the end of the long sleep", &told), Some(ErrorKind::ConnectionAborted));
    running.finish();
}

/// A deadline that has passed ends only what would wait.
pub fn a_past_deadline_ends_what_would_wait(cell: Cell) {
    let errors = tells(cell, |request| {
        request.set_deadline(Some(Duration::from_millis(1)));
        let sleep = kind(request.sleep(PATIENCE));
        let again = kind(request.sleep(PATIENCE));
        let write = kind(request.write_all(b"it fits"));
        request.set_read_timeout(Some(PATIENCE));
        request.set_deadline(None);
        request.read_exact(&mut [0; 5])?;
        request.set_deadline(Some(Duration::ZERO));
        let read = kind(request.read(&mut [0]));
        Ok([sleep, again, write, read])
    });
    let timed_out = Some(ErrorKind::TimedOut);
    assert_eq!(errors, [timed_out, timed_out, None, timed_out]);
}
