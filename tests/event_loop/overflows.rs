//! A stack that is not large enough ends the process, and says so; one that is, does not; any other fault stays what it is.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::thread;

use socketserver::backend::EventLoop;
use socketserver::{AnyServer, Request};

use crate::support::cell::{Kind, Place, bind_with};
use crate::support::child::{end_of_child, in_child};
use crate::support::client::Client;
use crate::support::descriptors::resident_bytes;
use crate::support::running::Running;

/// Calls itself until it has used so many bytes of the stack, and returns how many that were.
fn descend(bytes: usize) -> usize {
    #[inline(never)]
    fn deeper(top: usize, bytes: usize) -> usize {
        let frame = black_box([0u8; 512]);
        let used = top - frame.as_ptr() as usize;
        let deepest = if used < bytes { deeper(top, bytes) } else { used };
        // After the call, so that it is none that the compiler may replace by a jump.
        deepest + usize::from(black_box(frame)[0])
    }
    let top = black_box([0u8; 1]);
    deeper(top.as_ptr() as usize, bytes)
}

/// Goes as deep as its client says, and answers when it is back.
fn diver(request: &mut Request) -> io::Result<()> {
    let mut bytes = String::new();
    request.read_to_string(&mut bytes)?;
    let bytes = bytes.parse().map_err(io::Error::other)?;
    descend(bytes);
    request.write_all(b"done")
}

fn bind(place: &Place, loops: usize, stack_size: usize) -> AnyServer {
    bind_with(place, EventLoop::new(loops).stack_size(stack_size), diver)
}

#[track_caller]
fn assert_overflow_of(size: &str, output: Option<Output>) {
    let Some(Output { status, stderr, .. }) = output else { return };
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}: {stderr}");
    let line = stderr.lines().find(|line| line.contains("overflowed")).unwrap_or_else(|| panic!("{stderr}"));
    assert!(line.starts_with("socketserver: ") && line.contains(size), "{line}");
    assert!(line.contains("EventLoop::stack_size"), "{line}");
}

#[track_caller]
fn assert_killed_by(signal: i32, output: Option<Output>) -> String {
    let Some(Output { status, stderr, .. }) = output else { return String::new() };
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.signal(), Some(signal), "{status}: {stderr}");
    assert!(!stderr.contains("coroutine"), "it was no coroutine's stack: {stderr}");
    stderr
}

#[test]
fn an_overflow_is_named_and_aborts() {
    let output = end_of_child(|| {
        let place = Place::new(Kind::UnixStream);
        let running = Running::start(bind(&place, 1, 64 * 1024));
        Client::connect(&running.addr).ask(b"1000000");
    });
    assert_overflow_of("65536 bytes", output);
}

/// The second connection goes to the second loop, which has a thread of its own.
#[test]
fn an_overflow_on_another_loop_is_named_and_aborts() {
    let output = end_of_child(|| {
        let place = Place::new(Kind::Tcp4);
        let running = Running::start(bind(&place, 2, 100_000));
        let _first = Client::connect(&running.addr);
        Client::connect(&running.addr).ask(b"1000000");
    });
    // Rounded up to whole pages.
    assert_overflow_of("102400 bytes", output);
}

#[test]
fn an_overflow_of_a_sibling_is_named_and_aborts() {
    let output = end_of_child(|| {
        let place = Place::new(Kind::Tcp4);
        let running = Running::start(bind_with(&place, EventLoop::new(1), |_: &mut Request| {
            socketserver::spawn(|| descend(1 << 20))?.join().map(|_| ())
        }));
        Client::connect(&running.addr).ask(b"");
    });
    assert_overflow_of("262144 bytes", output);
}

/// An address that nobody has, and that no compiler takes for the null pointer's.
fn fault() {
    let nowhere = black_box(64 * 1024 + 8) as *const u8;
    // SAFETY: there is none. The child process that calls this is to be ended by the fault.
    black_box(unsafe { nowhere.read_volatile() });
}

#[test]
fn any_other_fault_of_a_handler_is_not_taken_for_an_overflow() {
    let output = end_of_child(|| {
        let place = Place::new(Kind::Tcp4);
        let running = Running::start(bind_with(&place, EventLoop::new(1), |_: &mut Request| {
            fault();
            Ok(())
        }));
        Client::connect(&running.addr).ask(b"");
    });
    assert_killed_by(libc::SIGSEGV, output);
}

#[test]
fn a_fault_outside_of_the_loop_is_not_taken_for_an_overflow() {
    let output = end_of_child(|| {
        let place = Place::new(Kind::Tcp4);
        let running = Running::start(bind(&place, 1, 64 * 1024));
        assert_eq!(Client::connect(&running.addr).ask(b"1"), b"done");
        fault();
    });
    assert_killed_by(libc::SIGSEGV, output);
}

/// What std says of its threads' stacks, it still says.
#[test]
fn an_overflow_of_a_plain_thread_is_left_to_std() {
    let output = end_of_child(|| {
        let place = Place::new(Kind::Tcp4);
        let running = Running::start(bind(&place, 1, 64 * 1024));
        assert_eq!(Client::connect(&running.addr).ask(b"1"), b"done");
        let thread = thread::Builder::new().name("shallow".to_string()).stack_size(128 * 1024);
        let _ = thread.spawn(|| descend(1 << 30)).unwrap().join();
    });
    let stderr = assert_killed_by(libc::SIGABRT, output);
    assert!(stderr.is_empty() || stderr.contains("shallow"), "{stderr}");
}

/// All of the stack may be used, but for what the loop itself and one more call take.
#[test]
fn a_deep_call_that_fits_works() {
    for size in [64 * 1024, 256 * 1024, 4 << 20] {
        let place = Place::new(Kind::Tcp4);
        let running = Running::start(bind(&place, 1, size));
        // What a debug build needs beside that.
        let depth = (size - 24 * 1024).to_string();
        for _ in 0..3 {
            assert_eq!(Client::connect(&running.addr).ask(depth.as_bytes()), b"done");
        }
        assert_eq!(running.finish().completed, 3);
    }
}

const DEEP: usize = 900 * 1024;

#[test]
fn deep_calls_one_after_another_share_their_memory() {
    in_child(|| {
        let place = Place::new(Kind::Tcp4);
        let running = Running::start(bind(&place, 1, 1 << 20));
        let dive = || assert_eq!(Client::connect(&running.addr).ask(DEEP.to_string().as_bytes()), b"done");
        (0..20).for_each(|_| dive());
        let before = resident_bytes();
        (0..200).for_each(|_| dive());
        let more = resident_bytes().saturating_sub(before);
        assert!(more < 4 << 20, "{more} bytes more are resident after 200 deep calls");
        running.finish();
    });
}

/// Two hundred stacks have been used to the ground at a time. Of those that lie idle, few keep what they had.
#[test]
fn the_memory_of_deep_calls_is_given_back() {
    in_child(|| {
        let place = Place::new(Kind::UnixStream);
        let handler = |request: &mut Request| -> io::Result<()> {
            descend(DEEP);
            request.write_all(b"x")?;
            request.read_to_end(&mut Vec::new())?;
            Ok(())
        };
        let running = Running::start(bind_with(&place, EventLoop::new(1).stack_size(1 << 20), handler));
        let before = resident_bytes();
        let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(&running.addr)).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.take_bytes(1), b"x"));
        let used = resident_bytes().saturating_sub(before);
        assert!(used > 200 * DEEP, "{used} bytes are resident for 200 deep calls");
        for client in &mut clients {
            client.half_close().unwrap();
            assert_eq!(client.read_all(), b"");
        }
        let left = resident_bytes().saturating_sub(before);
        assert!(left < 80 << 20, "{left} bytes of {used} are still resident");
        assert_eq!(running.finish().completed, 200);
    });
}
