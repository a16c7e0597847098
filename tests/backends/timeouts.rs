//! Timeouts and deadlines: kept, and told as `TimedOut` on every backend.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use socketserver::listener::{Listener, Tcp, UnixStream};
use socketserver::{Request, Server};

use crate::support::cell::{Cell, Kind};
use crate::support::client::Client;
use crate::support::opened::Opened;
use crate::support::running::Running;
use crate::support::{PATIENCE, assert_cut_at, receive};

const DEADLINE: Duration = Duration::from_millis(250);

pub fn a_read_has_a_timeout(cell: Cell) {
    let times_out = |request: &mut Request| {
        request.set_read_timeout(Some(DEADLINE));
        request.read_exact(&mut [0])
    };
    check(cell, times_out, |_| {});
}

/// Each timeout has its name: the log of a server that closes idle connections is not to read as if it had been left with half a
/// message.
pub fn a_timeout_says_which_it_was(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        const SHORT: Option<Duration> = Some(Duration::from_millis(1));
        let read = |request: &mut Request| request.read_exact(&mut [0]).map_err(|error| error.to_string());
        request.set_read_timeout(SHORT);
        let first = read(request);
        request.set_idle_timeout(SHORT);
        let idle = read(request);
        request.set_busy();
        let busy = read(request);
        request.set_deadline(SHORT);
        let sleep = request.sleep(PATIENCE).map_err(|error| error.to_string());
        let late = read(request);
        let _ = tell.send([first, idle, busy, sleep, late]);
        Ok(())
    }));
    let _client = Client::connect(&running.addr);
    let over = |what: &str| Err(format!("the {what} has passed"));
    let (read, idle, deadline) = (over("read timeout"), over("idle timeout"), over("request's deadline"));
    assert_eq!(receive("the timeouts", &told), [read.clone(), idle, read, deadline.clone(), deadline]);
    running.finish();
}

/// The peer does not read, and the answer is more than the system holds.
pub fn a_write_has_a_timeout(cell: Cell) {
    let times_out = |request: &mut Request| {
        request.set_write_timeout(Some(DEADLINE));
        request.write_all(&vec![0; 64 << 20])
    };
    check(cell, times_out, |_| {});
}

/// Each byte comes within the read timeout, but there is no end of them.
pub fn a_lively_peer_meets_the_deadline(cell: Cell) {
    let times_out = |request: &mut Request| {
        request.set_read_timeout(Some(PATIENCE));
        request.set_deadline(Some(DEADLINE));
        loop {
            // The peer answers each byte with another.
            request.write_all(b"x")?;
            request.read_exact(&mut [0])?;
        }
    };
    check(cell, times_out, |client| {
        let mut byte = [0];
        while matches!(client.read(&mut byte), Ok(1)) && client.write_all(&byte).is_ok() {}
    });
}

pub fn a_sleep_meets_the_deadline(cell: Cell) {
    let times_out = |request: &mut Request| {
        request.set_deadline(Some(DEADLINE));
        request.sleep(PATIENCE)
    };
    check(cell, times_out, |_| {});
}

/// How a handler that waits for something else looks after its peer.
pub fn a_read_of_no_time_tells_whether_the_peer_is_there(cell: Cell) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.set_read_timeout(Some(Duration::ZERO));
        let mut last = None;
        while last != Some(Ok(0)) {
            let seen = request.fill_buf().map(<[u8]>::len).map_err(|error| error.kind());
            request.consume(seen.unwrap_or(0));
            if last.replace(seen) != Some(seen) {
                let _ = tell.send(seen);
            }
            request.sleep(Duration::from_millis(1))?;
        }
        Ok(())
    }));
    let mut client = Client::connect(&running.addr);
    let silence = Err(ErrorKind::TimedOut);
    assert_eq!(receive("the silence", &told), silence);
    client.write_all(b"hello").unwrap();
    assert_eq!(receive("what was sent", &told), Ok(5));
    assert_eq!(receive("the silence", &told), silence);
    drop(client);
    assert_eq!(receive("the end", &told), Ok(0));
    running.finish();
}

/// The option of the listener, which CPython's stream handler has as an attribute.
pub fn the_listeners_timeout_is_where_requests_begin(cell: Cell) {
    let (place, opened) = (cell.place(), Opened::new());
    let timeout = Some(DEADLINE);
    let [tcp, unix] = opened.adopt_with(timeout);
    let listeners: [Box<dyn Listener>; 2] = match cell.kind {
        Kind::Tcp4 => [Box::new(Tcp::options().timeout(timeout).bind(&place.url).unwrap()), tcp],
        _ => [Box::new(UnixStream::options().timeout(timeout).bind(&place.url).unwrap()), unix],
    };
    for listener in listeners {
        let (tell, told) = unbounded();
        let server = Server::new(listener, cell.backend.backend(), move |request: &mut Request| {
            let read = request.read_exact(&mut [0]).map_err(|error| error.kind());
            let written = request.write_all(&vec![0; 64 << 20]).map_err(|error| error.kind());
            let _ = tell.send((read, written));
            Ok(())
        });
        let running = Running::start(server);
        let _client = Client::connect(&running.addr);
        assert_eq!(receive("the timeouts", &told), (Err(ErrorKind::TimedOut), Err(ErrorKind::TimedOut)));
        running.finish();
    }
}

/// Runs a handler that times out, beside what its client does.
fn check(cell: Cell, times_out: fn(&mut Request) -> io::Result<()>, behave: fn(&mut Client)) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let began = Instant::now();
        let result = times_out(request);
        let _ = tell.send((result.as_ref().err().map(io::Error::kind), began.elapsed()));
        result
    }));
    let mut client = Client::connect(&running.addr);
    behave(&mut client);
    let (error, taken) = receive("the timeout", &told);
    assert_eq!(error, Some(ErrorKind::TimedOut));
    assert_cut_at(DEADLINE, taken);
    drop(client);
    let stats = running.finish();
    assert_eq!((stats.failed, stats.timed_out), (1, 1));
}
