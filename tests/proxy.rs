//! Handlers that talk to others: sockets of their own, and siblings.

#[macro_use]
#[path = "support/on_every_backend.rs"]
mod on_every_backend;

use std::fs;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use socketserver::backend::BackendName;
use socketserver::net::{TcpStream, UdpSocket, UnixStream};
use socketserver::{AnyServer, HandlerFactory, Request, listener, spawn};

/// Serves `handler` while `client` runs.
fn serve<Kind>(backend: BackendName, handler: impl HandlerFactory<Kind>, client: impl FnOnce(SocketAddr)) {
    let listener = listener::bind("tcp://127.0.0.1:0").expect("a listener");
    let mut server = AnyServer::new(listener, backend.backend(), handler);
    let (addr, handle) = (server.local_addr().as_inet().expect("an IP address"), server.shutdown_handle());
    let serving = thread::spawn(move || server.serve_forever().map(|_| server.close()));
    client(addr);
    handle.drain(Duration::from_secs(5));
    let closed = serving.join().expect("no panic").expect("serving ends well").expect("closing ends well");
    assert_eq!((closed.cut, closed.unfinished), (0, 0));
}

fn connect(addr: SocketAddr) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(addr).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// An echo server that knows nothing of this crate.
fn echo_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    addr
}

fn proxy(request: &mut Request, upstream: SocketAddr) -> io::Result<()> {
    let mut upstream = TcpStream::connect(upstream)?;
    let (mut back, mut peer) = (upstream.clone(), request.sender()?);
    let replies = spawn(move || match io::copy(&mut back, &mut peer) {
        Ok(_) => peer.finish(),
        Err(error) => {
            peer.close();
            Err(error)
        }
    })?;
    let copied = io::copy(request, &mut upstream);
    let _ = upstream.shutdown(if copied.is_ok() { Shutdown::Write } else { Shutdown::Both });
    copied?;
    replies.join()?
}

/// More than all the buffers on the way hold, so that everybody waits for everybody, in both directions.
fn a_proxy_copies_both_ways(backend: BackendName) {
    const SIZE: usize = 24 << 20;
    let upstream = echo_upstream();
    serve(
        backend,
        move |request: &mut Request| proxy(request, upstream),
        |addr| {
            let mut stream = connect(addr);
            let mut writer = stream.try_clone().expect("a clone");
            let sent: Vec<u8> = (0..SIZE).map(|index| (index * 7 + index / 251) as u8).collect();
            let expected = sent.clone();
            let writing = thread::spawn(move || {
                writer.write_all(&sent).expect("the proxy reads");
                writer.shutdown(Shutdown::Write).expect("a half-close");
            });
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("the proxy writes");
            writing.join().expect("no panic");
            assert!(received == expected, "{} bytes came back, not the {SIZE} that were sent", received.len());
        },
    );
}

/// The upstream says goodbye, and the peer hears of the end while its own direction is open.
fn the_end_of_the_upstream_is_passed_on(backend: BackendName) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let upstream = listener.local_addr().expect("an address");
    let closing = thread::spawn(move || listener.accept().and_then(|(mut stream, _)| stream.write_all(b"goodbye")));
    let handler = move |request: &mut Request| proxy(request, upstream);
    serve(backend, handler, |addr| {
        assert_eq!(io::read_to_string(connect(addr)).expect("the end"), "goodbye");
        closing.join().expect("no panic").expect("a connection");
    });
}

/// Either side is reset: the other is not left open.
fn a_reset_is_passed_on(backend: BackendName) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let upstream = listener.local_addr().expect("an address");
    let handler = move |request: &mut Request| proxy(request, upstream);
    let reset = |stream: std::net::TcpStream| set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
    serve(backend, handler, |addr| {
        let mut client = connect(addr);
        reset(listener.accept().expect("the proxy connects").0);
        let ended = client.read(&mut [0]);
        assert!(matches!(ended, Ok(0)) || ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));

        let client = connect(addr);
        let (mut stream, _) = listener.accept().expect("the proxy connects");
        reset(client);
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    });
}

fn many_proxied_clients_are_served(backend: BackendName) {
    let upstream = echo_upstream();
    serve(
        backend,
        move |request: &mut Request| proxy(request, upstream),
        |addr| {
            let clients: Vec<_> = (0..16)
                .map(|client| {
                    thread::spawn(move || {
                        let mut stream = connect(addr);
                        for round in 0..20 {
                            let message = format!("client {client}, round {round}\n");
                            stream.write_all(message.as_bytes()).expect("a write");
                            let mut reply = vec![0; message.len()];
                            stream.read_exact(&mut reply).expect("a reply");
                            assert_eq!(reply, message.as_bytes());
                        }
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().expect("no panic"));
        },
    );
}

fn nobody_listening_is_refused(backend: BackendName) {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let handler = move |request: &mut Request| {
        let kind = TcpStream::connect(free).err().map(|error| error.kind());
        write!(request, "{kind:?}")
    };
    serve(backend, handler, |addr| {
        assert_eq!(io::read_to_string(connect(addr)).expect("a reply"), "Some(ConnectionRefused)");
    });
}

fn a_silent_upstream_times_out(backend: BackendName) {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let upstream = silent.local_addr().expect("an address");
    let handler = move |request: &mut Request| {
        let begun = Instant::now();
        let mut stream = TcpStream::connect_timeout(&upstream, Duration::from_secs(30))?;
        stream.set_read_timeout(Some(Duration::from_millis(100)));
        let error = stream.read(&mut [0]).err().map(|error| error.kind());
        let early = begun.elapsed() < Duration::from_millis(80);
        write!(request, "{error:?} {early}")
    };
    serve(backend, handler, |addr| {
        assert_eq!(io::read_to_string(connect(addr)).expect("a reply"), "Some(TimedOut) false");
    });
}

fn names_are_resolved(backend: BackendName) {
    let upstream = echo_upstream();
    let handler = move |request: &mut Request| {
        let mut stream = TcpStream::connect(("localhost", upstream.port()))?;
        stream.write_all(b"hi")?;
        stream.shutdown(Shutdown::Write)?;
        io::copy(&mut stream, request)?;
        Ok(())
    };
    serve(backend, handler, |addr| assert_eq!(io::read_to_string(connect(addr)).expect("a reply"), "hi"));
}

fn datagrams_and_unix_sockets_reach_others(backend: BackendName) {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let upstream = udp.local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("upstream");
    let unix = std::os::unix::net::UnixListener::bind(&path).expect("a listener");
    thread::spawn(move || {
        let mut buffer = [0; 16];
        let (length, peer) = udp.recv_from(&mut buffer).expect("a datagram");
        udp.send_to(&buffer[..length], peer).expect("a reply");
        let (mut stream, _) = unix.accept().expect("a connection");
        stream.write_all(b" over unix").expect("a write");
    });
    let handler = move |request: &mut Request| {
        let socket = UdpSocket::connect(upstream)?;
        socket.send(b"over udp")?;
        let mut reply = [0; 16];
        let length = socket.recv(&mut reply)?;
        request.write_all(&reply[..length])?;
        io::copy(&mut UnixStream::connect(&path)?, request)?;
        Ok(())
    };
    serve(backend, handler, |addr| {
        assert_eq!(io::read_to_string(connect(addr)).expect("a reply"), "over udp over unix");
    });
}

/// As with std's: what one system call does not take is for the next call.
fn more_pieces_than_a_call_takes_are_for_the_next(backend: BackendName) {
    let upstream = echo_upstream();
    let handler = move |request: &mut Request| {
        let mut stream = TcpStream::connect(upstream)?;
        let mut slices = [IoSlice::new(b"piece"); 3000];
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let taken = stream.write_vectored(rest)?;
            IoSlice::advance_slices(&mut rest, taken);
        }
        stream.shutdown(Shutdown::Write)?;
        io::copy(&mut stream, request)?;
        Ok(())
    };
    serve(backend, handler, |addr| {
        assert_eq!(io::read_to_string(connect(addr)).expect("an echo"), "piece".repeat(3000));
    });
}

/// The request is cut off while it waits for somebody else, and hears of it there.
fn a_cut_ends_the_wait_for_others(backend: BackendName) {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let upstream = silent.local_addr().expect("an address");
    let (told, kinds) = mpsc::channel();
    let handler = move |_: &mut Request| {
        let mut stream = TcpStream::connect(upstream)?;
        let mut other = stream.clone();
        let sibling = spawn(move || other.read(&mut [0]).map_err(|error| error.kind()))?;
        let here = stream.read(&mut [0]).map_err(|error| error.kind());
        let joined = sibling.join().map_err(|error| error.kind());
        told.send((here, joined)).map_err(io::Error::other)
    };
    let listener = listener::bind("tcp://127.0.0.1:0").expect("a listener");
    let mut server = AnyServer::new(listener, backend.backend(), handler);
    let (addr, handle) = (server.local_addr().as_inet().expect("an IP address"), server.shutdown_handle());
    let serving = thread::spawn(move || server.serve_forever().map(|served| served.cut));
    let _client = connect(addr);
    let _upstream = silent.accept().expect("the handler connects");
    handle.drain(Duration::from_millis(50));
    assert_eq!(serving.join().expect("no panic").expect("serving ends well"), 1);
    let (here, joined) = kinds.recv_timeout(Duration::from_secs(30)).expect("the handler ends");
    assert_eq!(here, Err(io::ErrorKind::ConnectionAborted));
    // Joining is a wait of the request, too; the sibling may have ended before.
    assert!(matches!(joined, Err(io::ErrorKind::ConnectionAborted) | Ok(Err(io::ErrorKind::ConnectionAborted))));
}

/// Not even to one that answers at once, so that there is nothing to wait for.
fn who_is_cut_off_connects_to_nobody(backend: BackendName) {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = tcp.local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("upstream");
    let _unix = std::os::unix::net::UnixListener::bind(&path).expect("a listener");
    let (told, kinds) = mpsc::channel();
    let handler = move |request: &mut Request| {
        request.sender()?.close();
        let outcomes = [
            TcpStream::connect(addr).map(drop),
            TcpStream::connect_timeout(&addr, Duration::from_secs(30)).map(drop),
            UdpSocket::connect(addr).map(drop),
            UnixStream::connect(&path).map(drop),
        ];
        told.send(outcomes.map(|outcome| outcome.map_err(|error| error.kind()))).map_err(io::Error::other)
    };
    serve(backend, handler, |addr| {
        let _client = connect(addr);
        let kinds = kinds.recv_timeout(Duration::from_secs(30)).expect("connecting ends");
        assert_eq!(kinds, [Err(io::ErrorKind::ConnectionAborted); 4]);
    });
}

fn a_sibling_hands_back_its_result_and_its_panic(backend: BackendName) {
    let handler = |request: &mut Request| {
        let answer = spawn(|| 42)?.join()?;
        let broken = spawn(|| panic!("sibling"))?;
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| broken.join()));
        let text = panic.err().and_then(|payload| payload.downcast_ref::<&str>().map(|text| text.to_string()));
        write!(request, "{answer} {text:?}")
    };
    serve(backend, handler, |addr| {
        assert_eq!(io::read_to_string(connect(addr)).expect("a reply"), "42 Some(\"sibling\")");
    });
}

on_every_backend! {
    a_proxy_copies_both_ways
    the_end_of_the_upstream_is_passed_on
    a_reset_is_passed_on
    many_proxied_clients_are_served
    nobody_listening_is_refused
    a_silent_upstream_times_out
    names_are_resolved
    datagrams_and_unix_sockets_reach_others
    more_pieces_than_a_call_takes_are_for_the_next
    a_cut_ends_the_wait_for_others
    who_is_cut_off_connects_to_nobody
    a_sibling_hands_back_its_result_and_its_panic
}

#[test]
fn outside_of_any_handler_a_thread_waits() {
    let addr = echo_upstream();
    let barrier = Arc::new(Barrier::new(2));
    let other = barrier.clone();
    let sibling = spawn(move || {
        other.wait();
        let mut stream = TcpStream::connect(addr)?;
        stream.write_all(b"alone")?;
        stream.shutdown(Shutdown::Write)?;
        io::read_to_string(stream)
    });
    barrier.wait();
    assert_eq!(sibling.and_then(|sibling| sibling.join()).expect("it ends").expect("an echo"), "alone");
}

/// In a network of its own, with few ports; where the system lets nobody make one, this cannot be tested.
#[test]
fn who_finds_no_free_port_is_told() {
    let (tell, told) = mpsc::channel();
    // The network is this thread's alone, and ends with it.
    thread::spawn(move || {
        #[expect(deprecated, reason = "it can do harm to shared files, and there are none")]
        let apart = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).is_ok()
            && fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50003").is_ok();
        let kind = apart.then(|| {
            let bind = |port| std::net::UdpSocket::bind(("0.0.0.0", port)).expect("it is free");
            let all = [50_000, 50_001, 50_002, 50_003].map(bind);
            let connected = UdpSocket::connect("127.0.0.1:9");
            drop(all);
            connected.expect_err("no port is free").kind()
        });
        let _ = tell.send(kind);
    });
    let kind = told.recv_timeout(Duration::from_secs(30)).expect("connecting ends");
    assert!(kind.is_none_or(|kind| kind == io::ErrorKind::AddrNotAvailable), "{kind:?}");
}
