//! In the steady state a message costs no allocation: this program counts them, thread by thread.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, BufRead, Write};
use std::time::Duration;

use socketserver::Request;
use socketserver::backend::{Backend, EventLoop, Threading};

use support::cell::{Kind, Place, bind_with};
use support::client::Client;
use support::running::Running;

/// The system's allocator, which counts what each thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call is passed on to the system's allocator as it is. Counting touches a thread-local that needs neither
// allocation nor destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SIZE: usize = 64;
const CONNECTIONS: usize = 10;
const WARM_UP: usize = 100;
const MESSAGES: usize = 1000;

/// Sends back what comes. Before a message of nothing but question marks goes how often this thread has allocated.
fn echo_and_count(request: &mut Request) -> io::Result<()> {
    let (mut rfile, mut wfile) = request.split();
    loop {
        let bytes = rfile.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes == [b'?'; SIZE] {
            wfile.write_all(&ALLOCATIONS.get().to_le_bytes())?;
        }
        wfile.write_all(bytes)?;
        let count = bytes.len();
        rfile.consume(count);
    }
}

fn with_timeouts(request: &mut Request) -> io::Result<()> {
    request.set_read_timeout(Some(Duration::from_secs(60)));
    request.set_write_timeout(Some(Duration::from_secs(60)));
    request.set_idle_timeout(Some(Duration::from_secs(30)));
    request.set_deadline(Some(Duration::from_secs(90)));
    echo_and_count(request)
}

fn exchange(clients: &mut [Client], rounds: usize) {
    for _ in 0..rounds {
        clients.iter_mut().for_each(|client| client.write_all(&[b'x'; SIZE]).unwrap());
        clients.iter_mut().for_each(|client| assert_eq!(client.take_bytes(SIZE), [b'x'; SIZE]));
    }
}

/// How often the thread of each connection has allocated.
fn allocations(clients: &mut [Client]) -> Vec<u64> {
    let count = |client: &mut Client| {
        client.write_all(&[b'?'; SIZE]).unwrap();
        let answer = client.take_bytes(8 + SIZE);
        u64::from_le_bytes(answer[..8].try_into().unwrap())
    };
    clients.iter_mut().map(count).collect()
}

fn ten_thousand_messages_allocate_nothing(
    kind: Kind,
    backend: impl Backend + 'static,
    handler: fn(&mut Request) -> io::Result<()>,
) {
    let place = Place::new(kind);
    let running = Running::start(bind_with(&place, backend, handler));
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(&running.addr)).collect();
    // One after another: that many come at a time later is nothing to allocate for.
    clients.chunks_mut(1).for_each(|one| exchange(one, WARM_UP));
    allocations(&mut clients);
    let before = allocations(&mut clients);
    assert!(before.iter().all(|count| *count > 0), "they are counted: {before:?}");
    exchange(&mut clients, MESSAGES);
    assert_eq!(allocations(&mut clients), before, "the threads of the connections have allocated");
    drop(clients);
    running.finish();
}

#[test]
fn on_an_event_loop_over_tcp() {
    ten_thousand_messages_allocate_nothing(Kind::Tcp4, EventLoop::new(1), echo_and_count);
}

#[test]
fn on_an_event_loop_over_unix_sockets() {
    ten_thousand_messages_allocate_nothing(Kind::UnixStream, EventLoop::new(1), echo_and_count);
}

#[test]
fn on_an_event_loop_with_every_timeout() {
    ten_thousand_messages_allocate_nothing(Kind::Tcp4, EventLoop::new(1), with_timeouts);
}

#[test]
fn on_several_event_loops() {
    ten_thousand_messages_allocate_nothing(Kind::Tcp4, EventLoop::new(3), echo_and_count);
}

#[test]
fn on_threads_over_tcp() {
    ten_thousand_messages_allocate_nothing(Kind::Tcp4, Threading::default(), echo_and_count);
}

#[test]
fn on_threads_over_unix_sockets() {
    ten_thousand_messages_allocate_nothing(Kind::UnixStream, Threading::default(), echo_and_count);
}

#[test]
fn on_threads_with_every_timeout() {
    ten_thousand_messages_allocate_nothing(Kind::Tcp4, Threading::default(), with_timeouts);
}
