//! Panics and cuts where coroutines share a thread: what one of them does there must not reach another.

use std::io::{self, BufRead, BufWriter, ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use socketserver::backend::EventLoop;
use socketserver::net::TcpStream;
use socketserver::{Failure, FailureClass, HandlerFactory, Hooks, JoinHandle, Request};

use crate::support::cell::{Cell, Place, bind_with};
use crate::support::client::Client;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, assert_cut_at, receive, within};

const DEADLINE: Duration = Duration::from_millis(250);

/// More than the system takes for a peer that does not read.
const TOO_MUCH: usize = 64 << 20;

/// A server whose requests all run on one loop: that of the serving thread.
fn start<K>(cell: Cell, handler: impl HandlerFactory<K>) -> (Place, Running) {
    let place = cell.place();
    let running = Running::start(bind_with(&place, EventLoop::new(1), handler));
    (place, running)
}

/// Writes until the system takes no more.
fn fill(request: &mut Request) {
    request.set_write_timeout(Some(Duration::from_millis(20)));
    let full = request.write_all(&vec![b'x'; TOO_MUCH]);
    assert_eq!(full.unwrap_err().kind(), ErrorKind::TimedOut);
    request.set_write_timeout(None);
}

fn read_byte(request: &mut Request) -> io::Result<u8> {
    let mut byte = [0];
    request.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Answers every byte.
fn answer(request: &mut Request) -> io::Result<()> {
    crate::support::echo(request)
}

/// A `BufWriter` flushes when the panic drops it; its write would wait for ever.
pub fn a_panic_with_unsent_bytes_neither_parks_nor_aborts(cell: Cell) {
    let (_place, running) = start(cell, |request: &mut Request| {
        if read_byte(request)? != b'p' {
            return answer(request);
        }
        fill(request);
        let mut writer = BufWriter::new(request);
        writer.write_all(b"unsent")?;
        panic!("as the test wants");
    });
    // They are parked when the others panic.
    let mut innocent: Vec<Client> = (0..5).map(|_| Client::connect(&running.addr)).collect();
    innocent.iter_mut().for_each(|client| client.write_all(b"i").unwrap());
    let doomed: Vec<Client> = (0..5).map(|_| Client::sending(&running.addr, b"p")).collect();
    crate::support::until("all have panicked", || running.stats().panicked == 5);
    for client in innocent {
        assert_eq!(client.ask(b"hello"), b"hello");
    }
    let stats = running.finish();
    assert_eq!((stats.panicked, stats.completed), (5, 5));
    drop(doomed);
}

/// Two coroutines hold a lock each while they wait for their peers, and a third one panics meanwhile, with bytes to flush.
pub fn a_panic_poisons_no_mutex_of_another_coroutine(cell: Cell) {
    let locks: Arc<[Mutex<u8>; 2]> = Arc::default();
    let (tell, told) = unbounded();
    let held = locks.clone();
    let (_place, running) = start(cell, move |request: &mut Request| {
        let which = read_byte(request)?;
        if which == b'p' {
            fill(request);
            let mut writer = BufWriter::new(request);
            writer.write_all(b"unsent")?;
            panic!("as the test wants");
        }
        let mut guard = held[usize::from(which - b'0')].lock().unwrap();
        let _ = tell.send(());
        *guard = read_byte(request)?;
        assert!(!thread::panicking());
        drop(guard);
        request.write_all(b"done")
    });
    let mut holders: Vec<Client> = [b"0", b"1"]
        .map(|which| {
            let client = Client::sending(&running.addr, which);
            receive("a lock", &told);
            client
        })
        .into();
    for _ in 0..3 {
        let mut doomed = Client::sending(&running.addr, b"p");
        assert!(doomed.is_hung_up());
    }
    for holder in &mut holders {
        holder.write_all(b"!").unwrap();
        assert_eq!(holder.read_all(), b"done");
    }
    for lock in &*locks {
        assert_eq!(*lock.lock().expect("nobody panicked while holding it"), b'!');
    }
    let stats = running.finish();
    assert_eq!((stats.panicked, stats.completed), (3, 2));
}

/// The handler is cut off while it sleeps, leaves by the error, and its `BufWriter` flushes on the way.
pub fn unsent_bytes_at_the_deadline_hold_up_no_stop(cell: Cell) {
    let (began, beginning) = unbounded();
    let (_place, running) = start(cell, move |request: &mut Request| {
        read_byte(request)?;
        fill(request);
        let mut writer = BufWriter::new(request);
        writer.write_all(b"unsent")?;
        let _ = began.send(());
        writer.get_mut().sleep(PATIENCE * 2)
    });
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(&running.addr)).collect();
    for client in &mut clients {
        client.write_all(b"!").unwrap();
        receive("the beginning of a request", &beginning);
    }
    stop_cuts(running, 10);
}

/// Does all kinds of I/O that would wait when it is dropped, and tells how that went.
struct Busybody<'a> {
    request: &'a mut Request,
    upstream: TcpStream,
    sibling: Option<JoinHandle<()>>,
    tell: Sender<Vec<Option<ErrorKind>>>,
}

impl Drop for Busybody<'_> {
    fn drop(&mut self) {
        let sibling = self.sibling.take().expect("taken once");
        let (open, gate) = bounded::<()>(0);
        let results = [
            self.request.read(&mut [0]).map(|_| ()),
            self.request.sleep(Duration::from_secs(1)),
            self.request.offload(move || _ = gate.recv()),
            self.request.write_all(&vec![b'x'; TOO_MUCH]),
            self.upstream.read(&mut [0]).map(|_| ()),
            sibling.join(),
        ];
        drop(open);
        let _ = self.tell.send(results.map(|result| result.err().map(|error| error.kind())).into());
    }
}

pub fn io_in_a_destructor_fails_at_once_while_panicking(cell: Cell) {
    // Accepts nothing, so that a connection is silent.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = silent.local_addr().unwrap();
    let (tell, told) = unbounded();
    let (_place, running) = start(cell, move |request: &mut Request| {
        if read_byte(request)? != b'p' {
            return answer(request);
        }
        let mut stream = TcpStream::connect(upstream)?;
        let mut copy = stream.clone();
        let sibling = socketserver::spawn(move || {
            // Until the handler's end closes it.
            let _ = copy.read(&mut [0]);
        })?;
        let _ = stream.write(b"x");
        // It runs on, and ends with the handler.
        let _end = End(stream.clone());
        let _busy = Busybody { request, upstream: stream, sibling: Some(sibling), tell: tell.clone() };
        panic!("as the test wants");
    });
    let innocent = Client::sending(&running.addr, b"i");
    for _ in 0..3 {
        let mut doomed = Client::sending(&running.addr, b"p");
        let errors = receive("the destructor's end", &told);
        assert!(errors.iter().all(Option::is_some), "{errors:?}");
        assert!(doomed.is_hung_up());
    }
    assert_eq!(innocent.ask(b"hello"), b"hello");
    let stats = running.finish();
    assert_eq!((stats.panicked, stats.completed), (3, 1));
}

/// Ends a connection, for all who read it.
struct End(TcpStream);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

struct Farewell<'a>(&'a mut Request);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let _ = self.0.write_all(b"farewell");
    }
}

/// What need not wait works, also while panicking.
pub fn a_farewell_in_a_destructor_arrives_while_panicking(cell: Cell) {
    let (_place, running) = start(cell, |request: &mut Request| -> io::Result<()> {
        read_byte(request)?;
        let _farewell = Farewell(request);
        panic!("as the test wants");
    });
    for _ in 0..10 {
        assert_eq!(Client::connect(&running.addr).ask(b"x"), b"farewell");
    }
    assert_eq!(running.finish().panicked, 10);
}

/// Panics at each byte, and catches that, up to the end of the stream.
fn panics_at_each_byte(request: &mut Request) -> io::Result<()> {
    loop {
        let outcome = catch_unwind(AssertUnwindSafe(|| -> io::Result<bool> {
            if request.fill_buf()?.is_empty() {
                return Ok(true);
            }
            let byte = read_byte(request)?;
            let mut writer = BufWriter::new(&mut *request);
            writer.write_all(&[byte])?;
            panic_any(byte)
        }));
        assert!(!thread::panicking());
        match outcome {
            Ok(Ok(true)) => return Ok(()),
            Ok(result) => _ = result?,
            // The panic of this coroutine, and of no other.
            Err(payload) => {
                let byte = *payload.downcast::<u8>().expect("what was thrown");
                request.write_all(&[byte.to_ascii_uppercase()])?;
            }
        }
    }
}

pub fn a_handler_may_catch_its_panics_and_go_on(cell: Cell) {
    let (_place, running) = start(cell, panics_at_each_byte);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(&running.addr)).collect();
    for round in 0..20 {
        for (number, client) in clients.iter_mut().enumerate() {
            let byte = b'a' + (round + number as u8) % 26;
            client.write_all(&[byte]).unwrap();
            assert_eq!(client.take_bytes(2), [byte, byte.to_ascii_uppercase()]);
        }
    }
    drop(clients);
    let stats = running.finish();
    assert_eq!((stats.panicked, stats.completed), (0, 5));
}

/// It reads, half a message having come, when the deadline passes; and would go on whatever it catches.
pub fn a_handler_that_catches_panics_is_cut_like_any_other(cell: Cell) {
    let (began, beginning) = unbounded();
    let (_place, running) = start(cell, move |request: &mut Request| {
        read_byte(request)?;
        let _ = began.send(());
        loop {
            let outcome = catch_unwind(AssertUnwindSafe(|| -> io::Result<()> {
                read_byte(request)?;
                panic!("as the test wants");
            }));
            if let Ok(result) = outcome {
                return result;
            }
        }
    });
    let _client = Client::sending(&running.addr, b"!");
    receive("the beginning of the request", &beginning);
    stop_cuts(running, 1);
}

/// Everything fails from the cut on, however often it is tried.
pub fn a_handler_that_ignores_errors_after_the_cut_still_ends(cell: Cell) {
    let (began, beginning) = unbounded();
    let (tell, told) = unbounded();
    let (_place, running) = start(cell, move |request: &mut Request| {
        read_byte(request)?;
        let _ = began.send(());
        let mut errors = Vec::new();
        for _ in 0..10 {
            errors.extend(read_byte(request).err());
            errors.extend(request.sleep(PATIENCE).err());
            errors.extend(request.write_all(&vec![b'x'; 1 << 20]).err());
            errors.extend(request.offload(|| ()).err());
        }
        let _ = tell.send(errors.iter().map(io::Error::kind).collect::<Vec<_>>());
        Ok(())
    });
    let _client = Client::sending(&running.addr, b"!");
    receive("the beginning of the request", &beginning);
    let asked = Instant::now();
    running.handle.drain(DEADLINE);
    let (server, served) = running.ended();
    assert_cut_at(DEADLINE, asked.elapsed());
    assert_eq!(served.cut, 1);
    assert_eq!(receive("the handler's errors", &told), [ErrorKind::ConnectionAborted; 40]);
    // It has returned `Ok`.
    assert_eq!(close(server).completed, 1);
}

/// Two hundred that wait for anything, on several loops.
pub fn a_stop_cuts_hundreds_in_time(cell: Cell) {
    let place = cell.place();
    let (began, beginning) = unbounded();
    let running = Running::start(bind_with(&place, EventLoop::new(3), move |request: &mut Request| {
        let way = read_byte(request)?;
        let _ = began.send(());
        match way % 3 {
            0 => read_byte(request).map(|_| ()),
            1 => request.sleep(PATIENCE * 2),
            _ => request.write_all(&vec![0; 16 << 20]),
        }
    }));
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(&running.addr)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&[number as u8]).unwrap();
    }
    for _ in 0..200 {
        receive("the beginning of a request", &beginning);
    }
    stop_cuts(running, 200);
}

/// Says that it was dropped.
struct Tells(Arc<AtomicBool>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// It waits for a lock that is never given back. No error gets it out of there; so, after all of the time there is, its stack is
/// unwound.
pub fn what_no_cut_ends_is_unwound_with_its_loop(cell: Cell) {
    let lock: Arc<socketserver::sync::Mutex<()>> = Arc::default();
    std::mem::forget(lock.lock());
    let (began, beginning) = unbounded();
    let dropped: Arc<AtomicBool> = Arc::default();
    let held: Arc<socketserver::sync::Mutex<()>> = Arc::default();
    let (its_dropped, its_held) = (dropped.clone(), held.clone());
    let (_place, running, failures) = start_and_hear(cell, move |request: &mut Request| {
        let _tells = Tells(its_dropped.clone());
        let _guard = its_held.lock();
        let _ = began.send(());
        drop(lock.lock());
        request.write_all(b"never")
    });
    let mut client = Client::connect(&running.addr);
    receive("the beginning of the request", &beginning);
    let asked = Instant::now();
    running.handle.drain(DEADLINE);
    let (server, served) = running.ended();
    assert_cut_at(DEADLINE, asked.elapsed());
    assert_eq!((served.cut, served.unfinished), (1, 1));
    assert!(dropped.load(SeqCst), "its destructors have run");
    assert!(held.is_poisoned(), "it left off in the middle");
    assert!(client.is_hung_up());
    let stats = close(server);
    assert_eq!((stats.failed, stats.cut, stats.panicked), (1, 1, 0));
    let text = "was cut off: the request was cut off, and its handler never returned: its stack was unwound";
    expect(&failures, FailureClass::Cut, ErrorKind::ConnectionAborted, text);
}

/// Two that catch what unwinds them, and panic nevertheless: one by itself, one in a destructor.
pub fn a_panic_of_one_that_is_unwound_is_a_panic(cell: Cell) {
    let lock: Arc<socketserver::sync::Mutex<()>> = Arc::default();
    std::mem::forget(lock.lock());
    for (way, text) in
        [(b'p', "panicked: a value that is not text"), (b'd', "panicked: a worse panic, as the test wants")]
    {
        let (began, beginning) = unbounded();
        let lock = lock.clone();
        let (_place, running, failures) = start_and_hear(cell, move |_: &mut Request| {
            let _worse = (way == b'd').then(|| Worse);
            let _ = began.send(());
            assert!(catch_unwind(AssertUnwindSafe(|| drop(lock.lock()))).is_err());
            if way == b'p' {
                panic_any(17);
            }
            Ok(())
        });
        let _client = Client::connect(&running.addr);
        receive("the beginning of the request", &beginning);
        running.handle.drain(Duration::ZERO);
        let stats = close(running.ended().0);
        assert_eq!((stats.failed, stats.cut, stats.panicked), (1, 0, 1));
        expect(&failures, FailureClass::Panic, ErrorKind::Other, text);
    }
}

/// The request is over, and its sibling waits for ever. Whoever joins it hears of its end.
pub fn who_joins_a_sibling_that_is_unwound_learns_it(cell: Cell) {
    let lock: Arc<socketserver::sync::Mutex<()>> = Arc::default();
    std::mem::forget(lock.lock());
    let (began, beginning) = unbounded();
    let (_place, running) = start(cell, move |_: &mut Request| {
        let (lock, its_began) = (lock.clone(), began.clone());
        let (give, handle) = unbounded();
        let sibling = socketserver::spawn(move || {
            let _ = its_began.send(handle.recv());
            drop(lock.lock());
        })?;
        give.send(sibling).map_err(io::Error::other)
    });
    let _client = Client::connect(&running.addr);
    let sibling: JoinHandle<()> = receive("the beginning of the sibling", &beginning).unwrap();
    assert_eq!(running.finish().completed, 1);
    assert_eq!(within("joining it", || sibling.join()).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

/// As [`start`]; what its hook hears of comes out of the channel.
fn start_and_hear<K>(cell: Cell, handler: impl HandlerFactory<K>) -> (Place, Running, Receiver<Heard>) {
    struct Hears(Sender<Heard>);
    impl Hooks for Hears {
        fn handle_error(&self, failure: &Failure<'_>) {
            let _ = self.0.send((failure.class, failure.error.kind(), failure.to_string()));
        }
    }
    let place = cell.place();
    let (tell, heard) = unbounded();
    let running = Running::start(bind_with(&place, EventLoop::new(1), handler).hooks(Hears(tell)));
    (place, running, heard)
}

/// What a hook hears of a failure: its class, the kind of its error, and its line.
type Heard = (FailureClass, ErrorKind, String);

/// Checks that there was this one failure.
#[track_caller]
fn expect(failures: &Receiver<Heard>, class: FailureClass, kind: ErrorKind, text: &str) {
    let heard = receive("the failure", failures);
    assert_eq!((heard.0, heard.1), (class, kind), "{heard:?}");
    assert!(heard.2.ends_with(text), "{heard:?}");
    assert!(failures.is_empty(), "it was told once");
}

/// Drains, and checks that so many requests are cut off at the deadline, and counted as that.
#[track_caller]
fn stop_cuts(running: Running, count: u64) {
    let asked = Instant::now();
    running.handle.drain(DEADLINE);
    let (server, served) = running.ended();
    assert_cut_at(DEADLINE, asked.elapsed());
    assert_eq!(served.cut as u64, count);
    let stats = close(server);
    assert_eq!((stats.failed, stats.cut), (count, count));
}

/// Whose destructor panics.
struct Worse;

impl Drop for Worse {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a worse panic, as the test wants");
        }
    }
}

/// Nobody joins it, so nobody takes what it panicked with, or its result: they are dropped on the loop.
pub fn a_panic_with_a_worse_payload_of_a_forgotten_sibling_ends_nothing_else(cell: Cell) {
    let (_place, running) = start(cell, |request: &mut Request| {
        match read_byte(request)? {
            b'p' => drop(socketserver::spawn(|| panic_any(Worse))?),
            b'r' => drop(socketserver::spawn(|| Worse)?),
            _ => {}
        }
        request.write_all(b"done")
    });
    let mut innocent = Client::connect(&running.addr);
    for byte in [b"p", b"r", b"p", b"r"] {
        assert_eq!(Client::connect(&running.addr).ask(byte), b"done");
    }
    innocent.write_all(b"i").unwrap();
    assert_eq!(innocent.read_all(), b"done");
    assert_eq!(running.finish().completed, 5);
}

/// Its loop ends with the request that it was spawned by, before it has begun.
pub fn a_worse_sibling_that_never_runs_ends_nothing_else(cell: Cell) {
    let place = cell.place();
    let (give, siblings) = unbounded();
    let mut server = bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
        read_byte(request)?;
        let worse = Worse;
        let _ = give.send(socketserver::spawn(move || std::mem::forget(worse))?);
        request.write_all(b"done")
    });
    for _ in 0..2 {
        let mut client = Client::sending(server.local_addr(), b"!");
        assert!(server.handle_request().unwrap());
        assert_eq!(client.read_all(), b"done");
        assert_eq!(receive("the sibling", &siblings).join().unwrap_err().kind(), ErrorKind::Other);
    }
    assert_eq!(close(server).completed, 2);
}

/// The request's deadline passes before its work is done, so that nobody takes the result: it is dropped on the pool.
pub fn a_worse_result_of_forgotten_work_costs_no_thread(cell: Cell) {
    let place = cell.place();
    let (open, gate) = unbounded::<()>();
    let backend = EventLoop::new(1).offload_threads(1);
    let running = Running::start(bind_with(&place, backend, move |request: &mut Request| {
        match read_byte(request)? {
            b'w' => {
                let gate = gate.clone();
                request.set_deadline(Some(Duration::from_millis(20)));
                let forgotten = request.offload(move || {
                    let _ = gate.recv_timeout(PATIENCE);
                    Worse
                });
                assert_eq!(forgotten.map(std::mem::forget).unwrap_err().kind(), ErrorKind::TimedOut);
                request.set_deadline(None);
            }
            _ => request.offload(|| ())?,
        }
        request.write_all(b"done")
    }));
    for _ in 0..3 {
        assert_eq!(Client::connect(&running.addr).ask(b"w"), b"done");
        open.send(()).unwrap();
        assert_eq!(Client::connect(&running.addr).ask(b"!"), b"done");
    }
    assert_eq!(running.finish().completed, 6);
}
