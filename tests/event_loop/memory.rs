//! Memory: what a parked coroutine costs.

use std::io::{self, BufRead, Read, Write};

use crossbeam_channel::unbounded;
use socketserver::backend::EventLoop;
use socketserver::net::TcpStream;
use socketserver::{JoinHandle, Request};

use crate::support::cell::{Kind, Place, bind_with};
use crate::support::child::in_child;
use crate::support::client::Client;
use crate::support::descriptors::{mappings, resident_bytes};
use crate::support::receive;
use crate::support::running::Running;

const SIBLINGS: usize = 20_000;

/// Each waits for the one that was spawned before it, and the first for the end of a connection.
fn spawn_a_queue(mut first: TcpStream) -> io::Result<JoinHandle<()>> {
    let mut last = socketserver::spawn(move || assert_eq!(first.read(&mut [0]).ok(), Some(0)))?;
    for _ in 1..SIBLINGS {
        let before = last;
        last = socketserver::spawn(move || before.join().expect("there are stacks for all"))?;
    }
    Ok(last)
}

/// Whether the kernel knows the advice that makes a guard.
fn has_guards_without_entries() -> bool {
    const MADV_GUARD_INSTALL: libc::c_int = 102;
    // SAFETY: advice on no memory at all, which the kernel only judges.
    unsafe { libc::madvise(std::ptr::null_mut(), 0, MADV_GUARD_INSTALL) == 0 }
}

#[test]
fn twenty_thousand_parked_coroutines_need_few_mappings() {
    in_child(|| {
        let place = Place::new(Kind::Tcp4);
        let switch = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = switch.local_addr().unwrap();
        let (tell, told) = unbounded();
        let running = Running::start(bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
            request.read_exact(&mut [0])?;
            let first = TcpStream::connect(addr)?;
            let last = spawn_a_queue(first)?;
            // They are started in the order in which they were spawned, and the next one is the last.
            socketserver::spawn(|| ())?.join()?;
            let _ = tell.send(());
            last.join()?;
            request.write_all(b"done")
        }));
        let mut client = Client::connect(&running.addr);
        let before = (mappings(), resident_bytes());
        client.write_all(b"!").unwrap();
        let (waiting, _) = switch.accept().unwrap();
        receive("all siblings", &told);
        let (entries, bytes) = (mappings() - before.0, (resident_bytes() - before.1) / SIBLINGS);
        println!("{entries} entries of the memory map, and {bytes} bytes for each coroutine");
        // Guards that take no entry are there since Linux 6.13; before, each stack takes two.
        let most = if has_guards_without_entries() { 64 } else { 2 * SIBLINGS + 64 };
        assert!(entries <= most, "{entries} more entries of the memory map");
        // A debug build needs more of the stack.
        assert!(cfg!(debug_assertions) || bytes <= 4450, "{bytes} bytes for each coroutine");
        drop(waiting);
        assert_eq!(client.read_all(), b"done");
        assert_eq!(running.finish().completed, 1);
    });
}

#[test]
fn a_request_that_has_read_everything_holds_no_buffer() {
    const REQUESTS: usize = 200;
    /// What fills a buffer.
    const SENT: usize = 64 * 1024;
    in_child(|| {
        let place = Place::new(Kind::Tcp4);
        let (end, ended) = socketserver::sync::channel::bounded::<()>(1);
        let (tell, told) = unbounded();
        let running = Running::start(bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
            let mut left = SENT;
            while left > 0 {
                let count = request.fill_buf()?.len();
                assert!(count > 0, "the client waits");
                request.consume(count);
                left -= count;
            }
            let _ = tell.send(());
            // Nobody sends: this waits for the sender's end, and not for the peer.
            let _ = ended.recv();
            Ok(())
        }));
        let mut clients: Vec<Client> = (0..REQUESTS).map(|_| Client::connect(&running.addr)).collect();
        let before = resident_bytes();
        for client in &mut clients {
            client.write_all(&[b'!'; SENT]).unwrap();
            receive("the request", &told);
        }
        let bytes = (resident_bytes() - before) / REQUESTS;
        // The rest is the stack, of which a debug build needs more.
        assert!(bytes <= 24 * 1024, "{bytes} bytes for each request");
        drop(end);
        clients.iter_mut().for_each(|client| assert_eq!(client.read_all(), b""));
        assert_eq!(running.finish().completed, REQUESTS as u64);
    });
}
