//! Time: many deadlines at a time, which meet only those whom they concern.

use std::io::{self, ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use socketserver::Request;
use socketserver::backend::EventLoop;

use crate::support::cell::{Cell, bind_with};
use crate::support::client::Client;
use crate::support::random::Random;
use crate::support::running::Running;
use crate::support::{PATIENCE, receive};

const CONNECTIONS: u64 = 100;
const STEPS: u64 = 100;

/// Asks the peer for a byte, which it sends at once.
fn ask(request: &mut Request, number: u8) -> io::Result<()> {
    request.write_all(&[number])?;
    let mut answer = [0];
    request.read_exact(&mut answer)?;
    assert_eq!(answer, [number], "it is the answer to another question");
    Ok(())
}

/// Checks that a call has timed out, not before `pause` was over.
fn assert_timed_out<T>(began: Instant, pause: Duration, result: io::Result<T>) {
    assert_eq!(result.err().map(|error| error.kind()), Some(ErrorKind::TimedOut));
    assert!(began.elapsed() >= pause, "timed out after {:?} of {pause:?}", began.elapsed());
}

/// One of all kinds of waits, with all kinds of deadlines.
fn step(request: &mut Request, random: &mut Random) -> io::Result<()> {
    let (pause, number, began) = (Duration::from_micros(random.below(4000)), random.below(256) as u8, Instant::now());
    match random.below(8) {
        0 => {
            request.set_read_timeout(Some(pause));
            assert_timed_out(began, pause, request.read(&mut [0]));
        }
        1 => {
            let long = [Some(PATIENCE), Some(Duration::MAX), Some(Duration::from_secs(u64::MAX / 4)), None];
            request.set_read_timeout(long[random.below(4) as usize]);
            ask(request, number)?;
        }
        2 => {
            request.sleep(pause)?;
            assert!(began.elapsed() >= pause, "slept {:?} of {pause:?}", began.elapsed());
        }
        3 => {
            request.set_deadline(Some(pause));
            assert_timed_out(began, pause, request.sleep(PATIENCE));
        }
        4 => {
            // A deadline that is taken back, and an earlier timeout that has been replaced by a later one.
            request.set_deadline(Some(Duration::from_millis(1)));
            request.set_deadline(None);
            request.set_read_timeout(Some(Duration::from_millis(1)));
            request.set_read_timeout(Some(PATIENCE));
            ask(request, number)?;
        }
        5 => {
            request.set_deadline(Some(Duration::ZERO));
            assert_timed_out(began, Duration::ZERO, request.read(&mut [0]));
            assert_timed_out(began, Duration::ZERO, request.sleep(PATIENCE));
        }
        6 => {
            // The earlier of the two.
            request.set_read_timeout(Some(PATIENCE));
            request.set_deadline(Some(pause));
            assert_timed_out(began, pause, request.read(&mut [0]));
        }
        _ => {
            request.set_idle_timeout(Some(pause));
            request.set_idle();
            assert_timed_out(began, pause, request.read(&mut [0]));
            request.set_idle_timeout(None);
        }
    }
    request.set_deadline(None);
    request.set_read_timeout(None);
    Ok(())
}

/// A hundred connections, on two loops, take a hundred steps each.
pub fn ten_thousand_deadlines_keep_apart(cell: Cell) {
    let place = cell.place();
    let running = Running::start(bind_with(&place, EventLoop::new(2), |request: &mut Request| {
        let mut seed = [0; 8];
        request.read_exact(&mut seed)?;
        let mut random = Random::new(u64::from_le_bytes(seed));
        for _ in 0..STEPS {
            step(request, &mut random)?;
        }
        request.write_all(b"done")?;
        request.read_to_end(&mut Vec::new()).map(|_| ())
    }));
    // Each client answers until the handler is done.
    let clients: Vec<_> = (1..=CONNECTIONS)
        .map(|number| {
            let mut client = Client::sending(&running.addr, &number.to_le_bytes());
            let mut writer = client.duplicate();
            thread::spawn(move || {
                let mut end = Vec::new();
                while !end.ends_with(b"done") {
                    let byte = client.take_bytes(1)[0];
                    end.push(byte);
                    // What comes after the last step is no question, and the handler drops the answers.
                    let _ = writer.write_all(&[byte]);
                }
            })
        })
        .collect();
    for client in clients {
        assert!(client.join().is_ok(), "a connection has ended early");
    }
    let stats = running.finish();
    assert_eq!((stats.completed, stats.failed), (CONNECTIONS, 0));
}

/// Of many requests that end while a timeout of theirs is yet to come, the slot goes to one that has no timeout, and waits for
/// longer than those would have.
pub fn a_new_request_does_not_meet_the_deadline_of_an_old_one(cell: Cell) {
    const TIMEOUT: Duration = Duration::from_millis(100);
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
        let mut kind = [0];
        request.set_read_timeout(Some(PATIENCE));
        request.read_exact(&mut kind)?;
        match kind[0] {
            b'o' => {
                request.set_read_timeout(Some(TIMEOUT));
                request.set_deadline(Some(TIMEOUT));
                // It parks, until the client's next byte.
                request.write_all(b"!")?;
                request.read_exact(&mut [0])
            }
            b'n' => {
                request.set_read_timeout(None);
                request.write_all(b"!")?;
                let result = request.read_exact(&mut [0]);
                let _ = tell.send(result.as_ref().err().map(io::Error::kind));
                result
            }
            _ => {
                request.sleep(2 * TIMEOUT)?;
                request.write_all(b"!")
            }
        }
    }));
    let begin = |kind: &[u8]| Client::sending(&running.addr, kind);
    for _ in 0..5 {
        let mut old: Vec<Client> = (0..20).map(|_| begin(b"o")).collect();
        for client in &mut old {
            assert_eq!(client.take_bytes(1), b"!");
            // On a busy machine this may be late: then it has timed out, and is gone.
            let _ = client.write_all(b"!");
        }
        old.iter_mut().for_each(|client| assert!(client.is_hung_up()));
        let mut new: Vec<Client> = (0..20).map(|_| begin(b"n")).collect();
        new.iter_mut().for_each(|client| assert_eq!(client.take_bytes(1), b"!"));
        assert_eq!(begin(b"s").take_bytes(1), b"!");
        assert!(told.is_empty(), "a request has met {:?}", told.try_recv());
        for client in &mut new {
            client.write_all(b"!").unwrap();
            assert_eq!(receive("the end of a new request", &told), None);
        }
    }
    let stats = running.finish();
    assert_eq!((stats.accepted, stats.failed), (205, stats.timed_out));
}
