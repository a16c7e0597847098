//! What peers and handlers do wrong, and must not harm the others.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use socketserver::backend::{Backend, BackendName, EventLoop};
use socketserver::listener::{self, Bind, Tcp};
use socketserver::{
    EventLoopTcpServer, Failure, HandlerFactory, Hooks, Incoming, Monitor, Request, Sender, Served, Server,
    ShutdownHandle, ThreadingTcpServer, net, spawn, sync,
};

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    addr: SocketAddr,
    handle: ShutdownHandle,
    monitor: Monitor,
    ended: mpsc::Receiver<io::Result<Served>>,
}

/// Serves on one loop, where that is a loop, so that whoever holds it up holds up everybody.
fn serve<Kind>(name: BackendName, handler: impl HandlerFactory<Kind>) -> Running {
    let backend: Box<dyn Backend> = match name {
        BackendName::EventLoop => Box::new(EventLoop::new(1)),
        name => name.backend(),
    };
    let mut server = Server::new(Tcp::bind("127.0.0.1:0").expect("a listener"), backend, handler);
    let addr = server.local_addr().as_inet().expect("an IP address");
    let (handle, monitor) = (server.shutdown_handle(), server.monitor());
    let (end, ended) = mpsc::channel();
    thread::spawn(move || {
        let served = server.serve_forever();
        drop(server);
        end.send(served)
    });
    Running { addr, handle, monitor, ended }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    #[track_caller]
    fn stop(&self, grace: Duration) -> Served {
        self.handle.drain(grace);
        self.ended.recv_timeout(PATIENCE).expect("serving ends, without a panic").expect("it ends well")
    }
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A server in a handler leaves the handler's own context as it was: the handler goes on to park.
#[test]
fn a_server_runs_inside_a_handler() {
    let running = serve(BackendName::EventLoop, |request: &mut Request| {
        let mut asked = [0];
        request.read_exact(&mut asked)?;
        if asked == *b"p" {
            return request.write_all(b"p");
        }
        let byte = |request: &mut Request| request.read_exact(&mut [0]);
        let mut inner = EventLoopTcpServer::bind("127.0.0.1:0", byte)?;
        let (addr, handle) = (inner.local_addr().as_inet().expect("an IP address"), inner.shutdown_handle());
        let clients = thread::spawn(move || {
            let mut streams = [(); 2].map(|()| TcpStream::connect(addr).expect("a connection"));
            for stream in &mut streams {
                // They begin together, and end in the order in which they began.
                thread::sleep(Duration::from_millis(50));
                stream.write_all(b"x").expect("a byte goes out");
                assert_eq!(stream.read(&mut [0]).expect("it ends"), 0);
            }
            handle.shutdown();
        });
        inner.serve_forever()?;
        clients.join().expect("no panic");
        request.write_all(b"n")?;
        socketserver::sleep(PATIENCE)
    });
    let (mut nested, mut other) = (running.connect(), running.connect());
    nested.write_all(b"n").expect("a byte goes out");
    nested.read_exact(&mut [0]).expect("the inner server has served");
    other.set_read_timeout(Some(PATIENCE / 3)).expect("a timeout");
    other.write_all(b"p").expect("a byte goes out");
    other.read_exact(&mut [0]).expect("others are served while the handler sleeps");
    running.stop(Duration::ZERO);
}

/// What a request that is unwound drops does I/O with nobody at the other end: it fails rather than waits.
#[test]
fn a_destructor_of_an_unwound_request_does_not_wait() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = silent.local_addr().expect("its address");
    let never: Arc<(sync::Mutex<()>, sync::Condvar)> = Arc::default();
    let (began, has_begun) = mpsc::channel();
    let running = serve(BackendName::EventLoop, move |_: &mut Request| {
        let mut upstream = BufWriter::with_capacity(64 << 20, net::TcpStream::connect(addr)?);
        upstream.write_all(&vec![0; 32 << 20])?;
        began.send(()).expect("the test waits for this");
        let guard = never.0.lock().expect("no panic");
        drop(never.1.wait_while(guard, |_| true));
        Ok(())
    });
    let _client = running.connect();
    has_begun.recv_timeout(PATIENCE).expect("the handler begins");
    assert_eq!(running.stop(Duration::ZERO).unfinished, 1);
}

/// A lock may be taken while a thread ends, and its thread-locals are gone one by one.
#[test]
fn a_lock_is_taken_in_the_destructor_of_a_thread_local() {
    static COUNT: LazyLock<sync::Mutex<u32>> = LazyLock::new(sync::Mutex::default);
    struct AtEnd;

    impl Drop for AtEnd {
        fn drop(&mut self) {
            *COUNT.lock().expect("no panic") += 1;
        }
    }

    thread_local! {
        static AT_END: AtEnd = const { AtEnd };
    }
    let thread = thread::spawn(|| {
        // In this order: so what the lock needs is gone first.
        AT_END.with(|_| ());
        *COUNT.lock().expect("no panic") += 1;
    });
    thread.join().expect("no panic");
    assert_eq!(*COUNT.lock().expect("no panic"), 2);
}

/// A Unix address as C has it: a path may fill it to the last byte.
fn unix_address(path: &Path) -> libc::sockaddr_un {
    // SAFETY: all zeros are an address.
    let mut addr: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    addr.sun_family = libc::AF_UNIX as libc::sa_family_t;
    assert!(path.as_os_str().len() <= addr.sun_path.len());
    for (to, from) in addr.sun_path.iter_mut().zip(path.as_os_str().as_bytes()) {
        *to = *from as libc::c_char;
    }
    addr
}

/// A client with the longest path that Linux knows, which has no room for a final zero, is a client like any other.
fn a_client_has_the_longest_path(scheme: &str, kind: libc::c_int) {
    const LENGTH: libc::socklen_t = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("server");
    let (saw, seen) = mpsc::channel();
    let handler = move |request: &mut Request| saw.send(request.peer_addr().is_unnamed()).map_err(io::Error::other);
    let listener = listener::bind(format!("{scheme}://{}", path.display())).expect("a listener");
    let mut server = Server::new(listener, EventLoop::new(1), handler);
    let handle = server.shutdown_handle();
    let serving = thread::spawn(move || server.serve_forever());

    let longest = 108 - folder.path().as_os_str().len() - 1;
    let (own, servers) = (unix_address(&folder.path().join("x".repeat(longest))), unix_address(&path));
    // SAFETY: the addresses live as long as the calls, and the descriptor is nobody else's.
    let client = unsafe {
        let client = OwnedFd::from_raw_fd(libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0));
        assert_eq!(libc::bind(client.as_raw_fd(), (&raw const own).cast(), LENGTH), 0);
        assert_eq!(libc::connect(client.as_raw_fd(), (&raw const servers).cast(), LENGTH), 0);
        client
    };
    rustix::net::send(&client, b"hello", rustix::net::SendFlags::NOSIGNAL).expect("it goes out");
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(true), "{scheme}");
    handle.shutdown();
    serving.join().expect("no panic").expect("serving ends well");
}

#[test]
fn a_client_has_the_longest_path_of_all() {
    a_client_has_the_longest_path("unix", libc::SOCK_STREAM);
    a_client_has_the_longest_path("unixgram", libc::SOCK_DGRAM);
}

/// Ends the connection with a reset.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("it is a socket");
}

/// What this thread has computed so far. On an event loop that is the loop's.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Waiting for this long costs next to nothing.
const NOTHING_HAPPENS: Duration = Duration::from_millis(500);

type Shared = (sync::Mutex<bool>, sync::Condvar);

/// `wait` ends when nobody holds the mutex any more, and what is in it is true.
fn a_peer_resets_while_its_handler_waits(name: BackendName, wait: fn(&Shared)) {
    let shared: Arc<Shared> = Arc::default();
    let held = shared.clone();
    let guard = held.0.lock().expect("no panic");
    let (give, senders) = mpsc::channel::<Sender>();
    let (tell, told) = mpsc::channel();
    let running = serve(name, move |request: &mut Request| {
        give.send(request.sender()?).expect("the test takes it");
        let before = thread_time();
        wait(&shared);
        tell.send(thread_time() - before).map_err(io::Error::other)
    });
    let client = running.connect();
    let sender = senders.recv_timeout(PATIENCE).expect("the handler begins");
    while sender.send(&[0; 10_000]).is_ok() {}
    drop(guard);
    thread::sleep(Duration::from_millis(50));
    let mut guard = held.0.lock().expect("no panic");
    reset(client);
    thread::sleep(NOTHING_HAPPENS / 2);
    drop(guard);
    thread::sleep(NOTHING_HAPPENS / 2);
    guard = held.0.lock().expect("no panic");
    *guard = true;
    drop(guard);
    held.1.notify_all();
    let spent = told.recv_timeout(PATIENCE).expect("the handler has not panicked");
    assert!(spent < NOTHING_HAPPENS / 2, "{name}: it waited by computing for {spent:?}");
    running.stop(PATIENCE);
}

#[test]
fn a_peer_resets_while_its_handler_waits_for_a_mutex_or_a_condition() {
    for name in [BackendName::Sequential, BackendName::Threading, BackendName::EventLoop] {
        a_peer_resets_while_its_handler_waits(name, |(mutex, _)| {
            while !*mutex.lock().expect("no panic") {
                let _ = socketserver::sleep(Duration::from_millis(10));
            }
        });
        a_peer_resets_while_its_handler_waits(name, |(mutex, condition)| {
            let guard = mutex.lock().expect("no panic");
            drop(condition.wait_while(guard, |ready| !*ready));
        });
    }
}

/// What others have written waits behind half a message of the handler's: nobody spins meanwhile.
#[test]
fn half_a_message_is_out_and_others_have_written() {
    for name in [BackendName::Sequential, BackendName::Threading, BackendName::EventLoop] {
        let (give, senders) = mpsc::channel::<Sender>();
        let (failed, has_failed) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let running = serve(name, move |request: &mut Request| {
            let sender = request.sender()?;
            request.set_write_timeout(Some(Duration::from_millis(100)));
            let error = request.write_all(&vec![0; 16 << 20]).expect_err("the peer does not read");
            failed.send(error.kind()).expect("the test takes it");
            give.send(sender).expect("the test takes it");
            let before = thread_time();
            request.read_exact(&mut [0])?;
            tell.send(thread_time() - before).map_err(io::Error::other)
        });
        let mut client = running.connect();
        assert_eq!(has_failed.recv_timeout(PATIENCE), Ok(io::ErrorKind::TimedOut), "{name}");
        senders.recv_timeout(PATIENCE).expect("the handler goes on").send(b"hello").expect("it is queued");
        // Now the kernel would take more.
        client.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        client.read_to_end(&mut Vec::new()).expect_err("a message of which the rest never comes");
        thread::sleep(NOTHING_HAPPENS);
        client.write_all(b"x").expect("a byte goes out");
        let spent = told.recv_timeout(PATIENCE).expect("the handler goes on");
        assert!(spent < NOTHING_HAPPENS / 2, "{name}: it waited by computing for {spent:?}");
        running.stop(Duration::ZERO);
    }
}

/// An error that panics when it is printed, and when it is dropped.
#[derive(Debug)]
struct Bomb;

impl std::error::Error for Bomb {}

impl fmt::Display for Bomb {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("printed")
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped")
    }
}

struct Verify;

impl Hooks for Verify {
    fn verify_request(&self, request: &Incoming) -> io::Result<bool> {
        if request.peer_addr().ip().is_some_and(|ip| ip.is_loopback()) { Err(io::Error::other(Bomb)) } else { Ok(true) }
    }

    fn handle_error(&self, failure: &Failure<'_>) {
        failure.to_string();
    }
}

/// Whatever a handler returns, only its own request ends.
#[test]
fn errors_panic() {
    for name in BackendName::ALL {
        let running = serve(name, |_: &mut Request| -> io::Result<()> { Err(io::Error::other(Bomb)) });
        // More than the pool has workers.
        for _ in 0..50 {
            assert_eq!(running.connect().read(&mut [0]).expect("it is closed"), 0, "{name}");
        }
        running.stop(PATIENCE);
        let stats = running.monitor.stats();
        assert_eq!((stats.failed, stats.live, running.monitor.dump().len()), (50, 0, 0), "{name}");
    }
    let nothing = |_: &mut Request| Ok(());
    let mut server = EventLoopTcpServer::bind("127.0.0.1:0", nothing).expect("a server").hooks(Verify);
    let _client = TcpStream::connect(server.local_addr().as_inet().expect("an IP address")).expect("a connection");
    assert!(server.handle_request().expect("it serves"));
    assert_eq!(server.stats().rejected, 1);
}

/// A handler that takes no error for an answer holds up neither the others nor the end.
#[test]
fn a_handler_ignores_errors() {
    let handlers: [fn(&mut Request); 5] = [
        |request| drop(request.fill_buf()),
        |request| drop(request.write_all(b"hello")),
        |request| drop(request.sleep(Duration::from_millis(1))),
        |request| drop(request.offload(|| ())),
        |_| drop(socketserver::sleep(Duration::from_millis(1))),
    ];
    for (index, again) in handlers.into_iter().enumerate() {
        let running = serve(BackendName::EventLoop, move |request: &mut Request| {
            let mut asked = [0];
            request.read_exact(&mut asked)?;
            while asked == *b"a" {
                again(request);
            }
            request.write_all(b"p")
        });
        let mut deaf = running.connect();
        deaf.write_all(b"a").expect("a byte goes out");
        thread::sleep(Duration::from_millis(20));
        drop(deaf);
        let mut other = running.connect();
        other.write_all(b"p").expect("a byte goes out");
        other.read_exact(&mut [0]).unwrap_or_else(|error| panic!("handler {index} starves the others: {error}"));
        assert_eq!(running.stop(Duration::from_millis(50)).unfinished, 1, "handler {index}");
    }
}

/// A program that handles requests one by one keeps no thread of those that have ended.
#[test]
fn handle_request_reaps_threads() {
    let nothing = |_: &mut Request| Ok(());
    let mut server = ThreadingTcpServer::bind("127.0.0.1:0", nothing).expect("a server");
    let addr = server.local_addr().as_inet().expect("an IP address");
    // Each thread that nobody has joined keeps its stack.
    let stacks = || fs::read_to_string("/proc/self/maps").expect("Linux tells").lines().count();
    let before = stacks();
    for _ in 0..200 {
        let mut client = TcpStream::connect(addr).expect("a connection");
        assert!(server.handle_request().expect("it serves"));
        assert_eq!(client.read(&mut [0]).expect("it is closed"), 0);
    }
    let after = stacks();
    assert!(after < before + 150, "{before} mappings before 200 requests, and {after} after them");
}

/// A socket that outlives the loops of its requests, as one that all requests share does, keeps nothing of them.
#[test]
fn a_shared_socket_outlives_loops() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = upstream.local_addr().expect("its address");
    thread::spawn(move || {
        let (mut stream, _) = upstream.accept().expect("a connection");
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            // So that whoever asked has to wait.
            thread::sleep(Duration::from_millis(1));
            stream.write_all(&byte).expect("an answer goes out");
        }
    });
    let shared: sync::Mutex<Option<net::TcpStream>> = sync::Mutex::default();
    let handler = move |request: &mut Request| {
        let mut byte = [0];
        request.read_exact(&mut byte)?;
        let mut upstream = shared.lock().expect("no panic");
        if upstream.is_none() {
            *upstream = Some(net::TcpStream::connect(addr)?);
        }
        let upstream = upstream.as_mut().expect("it is connected");
        upstream.write_all(&byte)?;
        upstream.read_exact(&mut byte)?;
        request.write_all(&byte)
    };
    let listener = Tcp::bind("127.0.0.1:0").expect("a listener");
    let mut server = Server::new(listener, EventLoop::new(1), handler);
    let addr = server.local_addr().as_inet().expect("an IP address");
    let descriptors = || fs::read_dir("/proc/self/fd").expect("Linux tells").count();
    let before = descriptors();
    for _ in 0..200 {
        let mut client = TcpStream::connect(addr).expect("a connection");
        client.write_all(b"x").expect("a byte goes out");
        assert!(server.handle_request().expect("it serves"));
        client.read_exact(&mut [0]).expect("it is answered");
    }
    let after = descriptors();
    assert!(after < before + 100, "{before} descriptors before 200 requests, and {after} after them");
}

/// More pieces than one system call takes go out all the same.
#[test]
fn many_pieces_are_one_write() {
    for name in BackendName::ALL {
        let running = serve(name, |request: &mut Request| {
            // By then, what the kernel has to say of a new connection is old.
            request.read_exact(&mut [0])?;
            let pieces = vec![io::IoSlice::new(b"0123456789"); 2500];
            assert_eq!(request.write_vectored(&pieces)?, 25_000);
            Ok(())
        });
        let mut client = running.connect();
        thread::sleep(Duration::from_millis(50));
        client.write_all(b"x").expect("a byte goes out");
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap_or_else(|error| panic!("{name}: {error}, after {} bytes", all.len()));
        assert_eq!(all, b"0123456789".repeat(2500), "{name}");
        running.stop(PATIENCE);
    }
}

/// No program that is started while others connect is given their sockets.
#[test]
fn children_inherit_no_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("its address");
    thread::spawn(move || listener.incoming().for_each(drop));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    drop(net::TcpStream::connect(addr));
                }
            });
        }
        let inherited = |_| {
            let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("ls runs");
            String::from_utf8_lossy(&listed.stdout).contains("socket:")
        };
        let any = (0..500).any(inherited);
        over.store(true, SeqCst);
        assert!(!any);
    });
}

/// Anybody may lock a folder that he may read: a server starts there all the same.
#[test]
fn somebody_has_locked_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let locked = fs::File::open(folder.path()).expect("it opens");
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).expect("nobody else has locked it");
    let path = folder.path().join("server");
    let (bound, is_bound) = mpsc::channel();
    thread::spawn(move || bound.send(listener::UnixStream::bind(path)));
    is_bound.recv_timeout(PATIENCE).expect("it does not wait for ever").expect("it listens");
}

/// What a request has spawned, and nobody has joined, ends with the loops: by an error, so that it may clean up.
#[test]
fn siblings_end_with_their_loops() {
    let ended = Arc::new(AtomicUsize::new(0));
    let (began, has_begun) = mpsc::channel();
    let counted = ended.clone();
    let handler = move |_: &mut Request| {
        let (ended, began) = (counted.clone(), began.clone());
        spawn(move || {
            began.send(()).expect("the test waits for this");
            while socketserver::sleep(Duration::from_millis(5)).is_ok() {}
            ended.fetch_add(1, SeqCst);
        })?;
        // Both requests at a time: so one of them is on another loop.
        socketserver::sleep(Duration::from_millis(100))
    };
    let mut server = Server::new(Tcp::bind("127.0.0.1:0").expect("a listener"), EventLoop::new(2), handler);
    let (addr, handle) = (server.local_addr().as_inet().expect("an IP address"), server.shutdown_handle());
    let serving = thread::spawn(move || server.serve_forever().map(|_| server));
    let clients = [(); 2].map(|()| TcpStream::connect(addr).expect("a connection"));
    for mut client in clients {
        has_begun.recv_timeout(PATIENCE).expect("it has been spawned");
        assert_eq!(client.read(&mut [0]).expect("the request ends"), 0);
    }
    handle.shutdown();
    let server = serving.join().expect("no panic").expect("serving ends well");
    assert_eq!(ended.load(SeqCst), 1);
    let closed = server.shutdown_deadline(PATIENCE).close().expect("it closes");
    assert_eq!((closed.unfinished, ended.load(SeqCst)), (0, 2));
}

/// A read ends in front of urgent data: what is behind it is read all the same.
#[test]
fn urgent_data_hides_nothing() {
    for name in [BackendName::Threading, BackendName::EventLoop] {
        let running = serve(name, |request: &mut Request| {
            request.read_exact(&mut [0])?;
            request.sleep(Duration::from_millis(100))?;
            let mut rest = [0; 6];
            request.read_exact(&mut rest)?;
            request.write_all(&rest)
        });
        let mut client = running.connect();
        thread::sleep(Duration::from_millis(30));
        client.write_all(b"x").expect("a byte goes out");
        thread::sleep(Duration::from_millis(30));
        client.write_all(b"abc").expect("three bytes go out");
        rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB).expect("an urgent byte goes out");
        client.write_all(b"def").expect("three bytes go out");
        let mut rest = [0; 6];
        client.read_exact(&mut rest).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&rest, b"abcdef", "{name}");
        running.stop(PATIENCE);
    }
}
