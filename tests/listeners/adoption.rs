//! Sockets that somebody else has opened: adopted if they are of the right kind, explained if not.

use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram as StdUnixDatagram, UnixListener, UnixStream as StdUnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use socketserver::backend::{Backend, BackendName, EventLoop, Sources};
use socketserver::listener::{Listener, Tcp, Udp, UnixDatagram, UnixStream, adopt};
use socketserver::{Activity, Addr, AnyServer, Job, Request, Server};

use crate::support::cell::loopback6;
use crate::support::client::Client;
use crate::support::opened::Opened;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, echo, until};

fn serves(listener: impl Listener + 'static) {
    let listener: Box<dyn Listener> = Box::new(listener);
    let server: AnyServer = Server::new(listener, Box::new(EventLoop::new(1)), echo);
    let running = Running::start(server);
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    running.finish();
}

#[test]
fn stds_sockets_are_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let [stream, datagram] = ["stream", "datagram"].map(|name| folder.path().join(name));
    serves(Tcp::try_from(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap());
    serves(Tcp::try_from(TcpListener::bind(loopback6()).unwrap()).unwrap());
    serves(Udp::try_from(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap());
    serves(Udp::try_from(UdpSocket::bind(loopback6()).unwrap()).unwrap());
    serves(UnixStream::try_from(UnixListener::bind(&stream).unwrap()).unwrap());
    serves(UnixDatagram::try_from(StdUnixDatagram::bind(&datagram).unwrap()).unwrap());
    assert!(stream.exists() && datagram.exists(), "an adopted socket's path is not ours");
}

#[test]
fn descriptors_are_adopted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let adopted = Tcp::try_from(OwnedFd::from(listener)).unwrap();
    assert_eq!(adopted.local_addr(), &Addr::Tcp(addr));
    serves(adopted);
    serves(Udp::try_from(OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap())).unwrap());
}

#[test]
fn sockets_of_whichever_kind_are_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let [stream, datagram] = ["stream", "datagram"].map(|name| folder.path().join(name));
    serves(adopt(TcpListener::bind(loopback6()).unwrap()).unwrap());
    serves(adopt(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap());
    serves(adopt(UnixListener::bind(&stream).unwrap()).unwrap());
    serves(adopt(StdUnixDatagram::bind(&datagram).unwrap()).unwrap());
    assert_refused(adopt(std::fs::File::open("/dev/null").unwrap()), "it is not a socket");
    assert_refused(adopt(StdUnixStream::pair().unwrap().0), "it does not listen");
    let (unix, seqpacket) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET);
    assert_refused(adopt(rustix::net::socket(unix, seqpacket, None).unwrap()), "neither a TCP, UDP nor Unix socket");
}

/// A child that executes another program must not inherit it, and the server must not block in it.
#[test]
fn an_adopted_descriptor_is_made_fit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let adopted = Tcp::try_from(listener).unwrap();
    assert!(rustix::io::fcntl_getfd(&adopted).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    assert!(rustix::fs::fcntl_getfl(adopted.as_fd()).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
}

/// What each kind of listener does not take, with what the error says of it.
#[test]
fn the_wrong_kind_is_refused() {
    type Open = fn() -> OwnedFd;
    let folder = tempfile::tempdir().unwrap();
    let unix_path = folder.path().join("listening");
    let unix_listener = || UnixListener::bind(&unix_path).unwrap();
    let tcp: Open = || TcpListener::bind("127.0.0.1:0").unwrap().into();
    let udp: Open = || UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let unix: Open = || StdUnixStream::pair().unwrap().0.into();
    let unixgram: Open = || StdUnixDatagram::pair().unwrap().0.into();
    let file: Open = || std::fs::File::open("/dev/null").unwrap().into();

    for open in [udp, unix, unixgram] {
        assert_refused(Tcp::try_from(open()), "it is not a tcp socket");
    }
    for open in [tcp, unix, unixgram] {
        assert_refused(Udp::try_from(open()), "it is not a udp socket");
    }
    for open in [tcp, udp, unixgram] {
        assert_refused(UnixStream::try_from(open()), "it is not a unix socket");
    }
    for open in [tcp, udp, unix] {
        assert_refused(UnixDatagram::try_from(open()), "it is not a unixgram socket");
    }
    assert_refused(Tcp::try_from(OwnedFd::from(unix_listener())), "it is not a tcp socket");
    assert_refused(Tcp::try_from(file()), "it is not a socket");
    assert_refused(Udp::try_from(file()), "it is not a socket");
    assert_refused(UnixStream::try_from(file()), "it is not a socket");
    assert_refused(UnixDatagram::try_from(file()), "it is not a socket");
}

#[test]
fn what_does_not_listen_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_refused(Tcp::try_from(OwnedFd::from(connection)), "it does not listen");
    assert_refused(UnixStream::try_from(OwnedFd::from(StdUnixStream::pair().unwrap().0)), "it does not listen");
    let unbound = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).unwrap();
    assert_refused(Udp::try_from(unbound), "it is not bound");
    assert_refused(UnixDatagram::try_from(StdUnixDatagram::unbound().unwrap()), "it is not bound");
}

/// It is whoever opened it that knows how to open it again.
#[test]
fn a_drained_adopted_socket_cannot_be_opened_again() {
    let listener: Box<dyn Listener> = Box::new(Tcp::try_from(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap());
    let running = Running::start(Server::new(listener, Box::new(EventLoop::new(1)), echo));
    running.handle.drain(Duration::ZERO);
    let mut server = running.ended().0;
    assert_eq!(server.activate().unwrap_err().kind(), ErrorKind::Unsupported);
    server.close().unwrap();
}

/// As in a restart: what one server no longer accepts, the other one does, and what it has accepted it serves.
#[test]
fn a_socket_passes_to_another_server_without_a_connection_lost() {
    let opened = Opened::new();
    for name in BackendName::ALL {
        let start = |listener| {
            Running::start(Server::new(listener, name.backend(), |request: &mut Request| {
                request.set_busy();
                echo(request)
            }))
        };
        for (first, second) in opened.adopt().into_iter().zip(opened.adopt()) {
            let old = start(first);
            let new = thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while !old.has_ended() {
                            assert_eq!(Client::connect(&old.addr).ask(b"hello"), b"hello");
                        }
                    });
                }
                until("some are served", || old.stats().completed > 20);
                let new = start(second);
                old.handle.drain(PATIENCE);
                new
            });
            assert_eq!(Client::connect(&old.addr).ask(b"hello"), b"hello");
            close(old.ended().0);
            new.finish();
        }
    }
}

/// An event loop, and what it tells while the server gets no requests.
struct Observed {
    inner: EventLoop,
    /// It has been asked to wait without the listener.
    drains: Arc<AtomicBool>,
    /// It has said, asked so, that there is a request to get.
    heard: Arc<AtomicBool>,
}

impl Backend for Observed {
    fn activate(&mut self, sources: &Sources<'_>) -> io::Result<()> {
        self.inner.activate(sources)
    }

    fn process_request(&mut self, job: Job) {
        self.inner.process_request(job)
    }

    fn wait(&mut self, sources: &Sources<'_>, accepting: bool, timeout: Option<Duration>) -> io::Result<bool> {
        self.drains.fetch_or(!accepting, SeqCst);
        let told = self.inner.wait(sources, accepting, timeout)?;
        self.heard.fetch_or(told && !accepting, SeqCst);
        Ok(told)
    }

    fn forget_listener(&mut self, listener: BorrowedFd<'_>) {
        self.inner.forget_listener(listener)
    }

    fn deactivate(&mut self) {
        self.inner.deactivate()
    }
}

/// Another process goes on with the socket: each of its clients would wake this one, for as long as a drain takes.
#[test]
fn a_drain_hears_of_no_clients_of_whoever_else_has_the_socket() {
    let opened = Opened::new();
    for listener in opened.adopt() {
        let [drains, heard] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let backend = Observed { inner: EventLoop::new(1), drains: drains.clone(), heard: heard.clone() };
        let running = Running::start(Server::new(listener, Box::new(backend), |request: &mut Request| {
            request.set_busy();
            echo(request)
        }));
        let mut busy = Client::connect(&running.addr);
        running.wait_for_activity(Activity::Reading);
        running.handle.drain(Duration::MAX);
        until("the drain has begun", || drains.load(SeqCst));
        let _others: Vec<Client> = (0..3).map(|_| Client::connect(&running.addr)).collect();
        busy.write_all(b"hello").unwrap();
        assert_eq!(busy.read_all(), b"hello");
        close(running.ended().0);
        assert!(!heard.load(SeqCst));
    }
}

#[track_caller]
fn assert_refused<T>(result: io::Result<T>, why: &str) {
    let error = result.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(why), "{error}");
}
