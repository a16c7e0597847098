//! Datagrams of every size, to every address, and to those who do not read or have no name.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use rustix::io::Errno;
use socketserver::backend::{BackendName, EventLoop, Threading};
use socketserver::frame::{Framing, Lines};
use socketserver::listener::{Listener, Udp, UnixDatagram};
use socketserver::{Activity, Addr, AnyServer, Failure, Hooks, Request, Server};

use crate::support::cell::{Cell, Kind, Place, bind_with};
use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::record::Record;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, assert_cut_at, echo, receive, until};

/// Echoes a datagram of any length, also of none.
fn echo_always(request: &mut Request) -> io::Result<()> {
    let mut packet = Vec::new();
    request.read_to_end(&mut packet)?;
    request.write_all(&packet)
}

/// Of the largest size, a reply of the same size exists.
#[test]
fn datagrams_of_every_size_come_back() {
    for backend in BackendName::ALL {
        for kind in [Kind::Udp4, Kind::Udp6, Kind::UnixDatagram] {
            let place = Place::new(kind);
            let running = Running::start(Server::new(place.listen().unwrap(), backend.backend(), echo_always));
            for size in [0, 1, 60_000, 65_507] {
                let packet: Vec<u8> = (0..size).map(|number| (number % 251) as u8).collect();
                assert!(
                    Client::connect(&running.addr).ask(&packet) == packet,
                    "{size} bytes by {backend} over {kind:?}"
                );
            }
            let stats = running.finish();
            assert_eq!((stats.accepted, stats.completed, stats.truncated), (4, 4, 0));
        }
    }
}

/// What is longer than the server takes is cut, and the handler is told; what just fits is whole.
#[test]
fn truncation_is_told_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listeners: [Box<dyn Listener>; 2] = [
        Box::new(Udp::options().max_packet_size(100).bind("127.0.0.1:0").unwrap()),
        Box::new(UnixDatagram::options().max_packet_size(100).bind(&*path).unwrap()),
    ];
    for listener in listeners {
        let server: AnyServer = Server::new(listener, Box::new(EventLoop::new(1)), |request: &mut Request| {
            let truncated = request.is_truncated();
            let mut packet = Vec::new();
            request.read_to_end(&mut packet)?;
            write!(request, "{} {truncated}", packet.len())
        });
        let running = Running::start(server);
        for (size, answer) in
            [(0, "0 false"), (99, "99 false"), (100, "100 false"), (101, "100 true"), (5000, "100 true")]
        {
            assert_eq!(Client::connect(&running.addr).ask(&vec![0; size]), answer.as_bytes());
        }
        assert_eq!(running.finish().truncated, 2);
    }
}

/// There are none that are longer than IP's.
#[test]
fn a_packet_size_may_be_beyond_all_bounds() {
    let listener: Box<dyn Listener> = Box::new(Udp::options().max_packet_size(usize::MAX).bind("127.0.0.1:0").unwrap());
    let running = Running::start(Server::new(listener, Box::new(Threading::new()), echo_always));
    assert!(Client::connect(&running.addr).ask(&[1; 65_507]) == [1; 65_507]);
    assert_eq!(running.finish().truncated, 0);
}

/// A Unix datagram may be longer than IP's, if the server says so.
#[test]
fn a_unix_server_takes_longer_datagrams_if_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener: Box<dyn Listener> = Box::new(UnixDatagram::options().max_packet_size(150_000).bind(&*path).unwrap());
    let server: AnyServer = Server::new(listener, Box::new(Threading::new()), |request: &mut Request| {
        let mut packet = Vec::new();
        request.read_to_end(&mut packet)?;
        write!(request, "{}", packet.len())
    });
    let running = Running::start(server);
    assert_eq!(Client::connect(&running.addr).ask(&[0; 150_000]), b"150000");
    assert_eq!(running.finish().truncated, 0);
}

/// A reply that no datagram can carry is the handler's failure, and the server goes on.
#[test]
fn a_reply_that_is_too_long_fails_its_request() {
    let place = Place::new(Kind::Udp4);
    let running = Running::start(bind_with(&place, Threading::new(), |request: &mut Request| {
        let mut packet = Vec::new();
        request.read_to_end(&mut packet)?;
        request.write_all(&packet)?;
        if packet == b"long" { request.write_all(&[0; 65_507]) } else { Ok(()) }
    }));
    let greedy = Client::sending(&running.addr, b"long");
    assert_eq!(Client::connect(&running.addr).ask(b"short"), b"short");
    let stats = running.finish();
    assert_eq!((stats.failed, stats.completed), (1, 1));
    assert_eq!(greedy.packet_at_hand(), None);
}

/// Replies to ports that nobody has, or that cannot be, end nothing.
#[test]
fn replies_to_nobody_do_no_harm() {
    for backend in BackendName::ALL {
        let place = Place::new(Kind::Udp4);
        let server =
            Server::new(place.listen().unwrap(), backend.backend(), |request: &mut Request| -> io::Result<()> {
                let port_zero = Addr::Udp("127.0.0.1:0".parse().unwrap());
                assert!(request.send_to(b"nobody", &port_zero).is_err());
                echo(request)
            });
        let running = Running::start(server);
        for _ in 0..20 {
            // It is gone before its reply comes.
            Client::connect(&running.addr).write_all(b"hello").unwrap();
        }
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
        // On a busy machine, the last one overtakes others, which the system has taken in on another processor.
        until("all have come", || running.stats().accepted == 21);
        running.finish();
    }
}

/// Where the system says that a client is gone, that is no failure of the handler.
#[test]
fn a_unix_client_that_is_gone_is_a_disconnect() {
    for backend in BackendName::ALL {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(Kind::UnixDatagram);
        let (running, gate, errors) = start_behind_gate(&place, backend, |request| request.write_all(b"reply"));
        let path = folder.path().join("client");
        let named = StdUnixDatagram::bind(&path).unwrap();
        named.send_to(b"hello", running.addr.as_path().unwrap()).unwrap();
        let unnamed = Client::sending(&running.addr, b"hello");
        gate.wait_for(1);
        let abstract_name = rustix::net::getsockname(&unnamed).unwrap();
        drop((named, unnamed));
        std::fs::remove_file(&path).unwrap();
        // A program that another test starts has all descriptors for a moment.
        let probe = StdUnixDatagram::unbound().unwrap();
        until("it is gone", || rustix::net::connect(&probe, &abstract_name) == Err(Errno::CONNREFUSED));
        gate.open();
        errors.wait_for(2);
        assert_eq!(errors.events(), ["Disconnect NotConnected"; 2]);
        let stats = running.finish();
        assert_eq!((stats.failed, stats.disconnected), (2, 2));
    }
}

/// To a sender it is the same, and so is one that never had a name.
#[test]
fn a_sender_to_a_unix_client_that_cannot_be_reached_is_disconnected() {
    for backend in BackendName::ALL {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(Kind::UnixDatagram);
        let (running, gate, errors) = start_behind_gate(&place, backend, |request| request.sender()?.send(b"news"));
        let path = folder.path().join("client");
        for client in [StdUnixDatagram::bind(&path).unwrap(), StdUnixDatagram::unbound().unwrap()] {
            client.send_to(b"hello", running.addr.as_path().unwrap()).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        gate.open();
        errors.wait_for(2);
        assert_eq!(errors.events(), ["Disconnect NotConnected"; 2]);
        running.finish();
    }
}

/// Starts a server whose handler answers once the gate is open, and keeps its errors.
fn start_behind_gate(
    place: &Place,
    backend: BackendName,
    answer: fn(&mut Request) -> io::Result<()>,
) -> (Running, Gate, Record) {
    let (gate, errors) = (Gate::default(), Record::default());
    let its_gate = gate.clone();
    let server = Server::new(place.listen().unwrap(), backend.backend(), move |request: &mut Request| {
        its_gate.pass(request)?;
        answer(request)
    });
    (Running::start(server.hooks(Errors(errors.clone()))), gate, errors)
}

/// Keeps the class and the kind of each error.
struct Errors(Record);

impl Hooks for Errors {
    fn handle_error(&self, failure: &Failure<'_>) {
        self.0.add(format!("{:?} {:?}", failure.class, failure.error.kind()));
    }
}

#[test]
fn a_handler_sends_to_whom_it_likes() {
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = Addr::Udp(other.local_addr().unwrap());
    let place = Place::new(Kind::Udp4);
    let running = Running::start(bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
        assert_eq!(request.send_to(b"news", &to)?, 4);
        let of_another_kind = Addr::Tcp(to.as_inet().unwrap());
        assert_eq!(request.send_to(b"news", &of_another_kind).unwrap_err().kind(), ErrorKind::InvalidInput);
        request.write_all(b"told")
    }));
    assert_eq!(Client::connect(&running.addr).ask(b"tell"), b"told");
    let mut packet = [0; 10];
    let (length, from) = other.recv_from(&mut packet).unwrap();
    assert_eq!((&packet[..length], Addr::Udp(from)), (&b"news"[..], running.addr.clone()));
    running.finish();
}

/// Its reply is the end of it, but before there may be others.
#[test]
fn a_dump_tells_what_a_datagrams_request_has_sent() {
    for backend in BackendName::ALL {
        for kind in [Kind::Udp4, Kind::UnixDatagram] {
            let (place, gate) = (Place::new(kind), Gate::default());
            let its_gate = gate.clone();
            let running = Running::start(Cell { backend, kind }.bind(&place, move |request: &mut Request| {
                let to = request.peer_addr().clone();
                request.send_to(b"one", &to)?;
                request.send_to(b"more", &to)?;
                its_gate.pass(request)
            }));
            let _client = Client::sending(&running.addr, b"hello");
            gate.wait_for(1);
            assert_eq!(running.monitor.dump()[0].bytes_written, 7, "{backend} {kind:?}");
            gate.open();
            running.finish();
        }
    }
}

#[test]
fn a_connection_sends_to_its_peer_alone() {
    let place = Place::new(Kind::Tcp4);
    let (tell, told) = unbounded();
    let running = Running::start(bind_with(&place, Threading::new(), move |request: &mut Request| {
        let to = request.peer_addr().clone();
        let _ = tell.send(request.send_to(b"news", &to).map_err(|error| error.kind()));
        Ok(())
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"");
    assert_eq!(receive("the error", &told), Err(ErrorKind::Unsupported));
    running.finish();
}

/// What a sender sends is a datagram of its own.
#[test]
fn a_sender_of_a_datagrams_request_sends_datagrams() {
    for kind in [Kind::Udp6, Kind::UnixDatagram] {
        let place = Place::new(kind);
        let running = Running::start(bind_with(&place, EventLoop::new(1), |request: &mut Request| {
            request.sender()?.send(b"first")?;
            request.write_all(b"second")
        }));
        let mut client = Client::sending(&running.addr, b"hello");
        assert_eq!(client.packet(), b"first");
        assert_eq!(client.packet(), b"second");
        running.finish();
    }
}

/// Longer than what waits for a connection at the most, and in several pieces.
#[test]
fn what_is_written_to_a_sender_is_one_datagram() {
    const LENGTH: usize = 69_000;
    let place = Place::new(Kind::UnixDatagram);
    let running = Running::start(bind_with(&place, EventLoop::new(1), |request: &mut Request| {
        let mut sender = request.sender()?;
        sender.write_all(&[1; LENGTH])?;
        Lines::new().max_frame_length(LENGTH).write_frame(&mut sender, &[2; LENGTH])
    }));
    let mut client = Client::connect(&running.addr);
    client.write_all(b"hello").unwrap();
    assert!(client.packet() == [1; LENGTH]);
    assert!(client.packet().strip_suffix(b"\n") == Some(&[2; LENGTH]));
    running.finish();
}

/// Each of them says that somebody is there, as an empty reply does.
#[test]
fn what_is_written_to_a_sender_may_be_empty() {
    for kind in [Kind::Udp4, Kind::UnixDatagram] {
        let place = Place::new(kind);
        let running = Running::start(bind_with(&place, Threading::new(), |request: &mut Request| {
            let mut sender = request.sender()?;
            assert_eq!(sender.write(b"")?, 0);
            sender.write_all(b"")?;
            write!(sender, "")?;
            sender.write_all(b"end")
        }));
        let mut client = Client::sending(&running.addr, b"hello");
        for packet in [&b""[..], b"", b"", b"end"] {
            assert_eq!(client.packet(), packet);
        }
        running.finish();
    }
}

/// It has no address: no reply, no error.
#[test]
fn an_unbound_unix_client_gets_no_reply() {
    for backend in BackendName::ALL {
        let place = Place::new(Kind::UnixDatagram);
        let (tell, told) = unbounded();
        let server = Server::new(place.listen().unwrap(), backend.backend(), move |request: &mut Request| {
            let _ = tell.send(request.peer_addr().is_unnamed());
            echo(request)
        });
        let running = Running::start(server);
        let unbound = StdUnixDatagram::unbound().unwrap();
        unbound.send_to(b"hello", running.addr.as_path().unwrap()).unwrap();
        assert!(receive("the request", &told));
        assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
        let stats = running.finish();
        assert_eq!((stats.completed, stats.failed), (2, 0));
    }
}

/// A bound one gets its reply, by its path.
#[test]
fn a_bound_unix_client_gets_its_reply() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(Kind::UnixDatagram);
    let running = Running::start(bind_with(&place, Threading::new(), echo));
    let path = folder.path().join("client");
    let client = StdUnixDatagram::bind(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"hello", running.addr.as_path().unwrap()).unwrap();
    let mut packet = [0; 10];
    assert_eq!(client.recv(&mut packet).unwrap(), 5);
    running.finish();
}

/// Its queue is full, which the kernel never announces. Others are served meanwhile, and the reply is given up after a second.
#[test]
fn a_unix_client_that_never_reads_wedges_nobody() {
    for backend in [BackendName::Threading, BackendName::ForkingStyle, BackendName::EventLoop] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deaf");
        let place = Place::new(Kind::UnixDatagram);
        let (began, beginning) = unbounded();
        let server = Server::new(place.listen().unwrap(), backend.backend(), move |request: &mut Request| {
            if request.peer_addr().as_path().is_some() {
                let _ = began.send(Instant::now());
            }
            echo(request)
        });
        let running = Running::start(server);
        let deaf = deaf_client(&path);
        deaf.send_to(b"hello", running.addr.as_path().unwrap()).unwrap();
        let sent = receive("the request", &beginning);
        running.wait_for_activity(Activity::Writing);
        for _ in 0..5 {
            assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
        }
        let stats = running.finish();
        let taken = sent.elapsed();
        assert!(taken >= Duration::from_millis(800), "{backend} gave the reply up after {taken:?}");
        assert!(taken < PATIENCE / 3, "{backend} gave the reply up after {taken:?}");
        assert_eq!((stats.completed, stats.failed, stats.timed_out), (5, 1, 1));
    }
}

/// A client that has no room for a single reply.
fn deaf_client(path: &Path) -> StdUnixDatagram {
    let deaf = StdUnixDatagram::bind(path).unwrap();
    let filler = StdUnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"full", path).is_ok() {}
    deaf
}

/// And not a second later, which is how long it takes where the handler says nothing.
#[test]
fn a_reply_is_given_up_when_the_handler_says() {
    const TIMEOUT: Duration = Duration::from_millis(50);
    let limits: [fn(&mut Request, Option<Duration>); 2] = [Request::set_write_timeout, Request::set_deadline];
    let cases = BackendName::ALL.into_iter().flat_map(|backend| limits.map(|limit| (backend, limit)));
    for (backend, limit) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deaf");
        let place = Place::new(Kind::UnixDatagram);
        let (began, beginning) = unbounded();
        let server = Server::new(place.listen().unwrap(), backend.backend(), move |request: &mut Request| {
            let _ = began.send(Instant::now());
            limit(request, Some(TIMEOUT));
            echo(request)
        });
        let running = Running::start(server);
        let deaf = deaf_client(&path);
        deaf.send_to(b"hello", running.addr.as_path().unwrap()).unwrap();
        let sent = receive("the request", &beginning);
        until("the reply is given up", || running.stats().timed_out == 1);
        assert_cut_at(TIMEOUT, sent.elapsed());
        running.finish();
    }
}

/// A sender waits in no queue, and the handler that writes by it does not wait, either.
#[test]
fn what_a_sender_has_no_room_for_is_not_waited_for() {
    for backend in BackendName::ALL {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deaf");
        let place = Place::new(Kind::UnixDatagram);
        let (tell, told) = unbounded();
        let server = Server::new(place.listen().unwrap(), backend.backend(), move |request: &mut Request| {
            let _ = tell.send(request.sender()?.write(b"news").map_err(|error| error.kind()));
            Ok(())
        });
        let running = Running::start(server);
        let deaf = deaf_client(&path);
        deaf.send_to(b"hello", running.addr.as_path().unwrap()).unwrap();
        assert_eq!(receive("the outcome", &told), Err(ErrorKind::WouldBlock), "{backend}");
        running.finish();
    }
}

/// Also where the handler runs on the serving thread, and never waits.
#[test]
fn at_the_deadline_who_sends_datagrams_without_end_is_cut() {
    for backend in BackendName::ALL {
        let place = Place::new(Kind::Udp4);
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = Addr::Udp(silent.local_addr().unwrap());
        let (began, beginning) = unbounded();
        let server = Server::new(place.listen().unwrap(), backend.backend(), move |request: &mut Request| {
            let _ = began.send(());
            loop {
                request.send_to(b"news", &to)?;
            }
        });
        let running = Running::start(server);
        let mut client = Client::connect(&running.addr);
        client.write_all(b"begin").unwrap();
        receive("the request", &beginning);
        running.handle.drain(Duration::from_millis(50));
        let (server, served) = running.ended();
        assert_eq!((served.cut, served.unfinished), (1, 0), "{backend}");
        assert_eq!(close(server).cut, 1);
    }
}

#[test]
fn pieces_are_one_reply() {
    for backend in BackendName::ALL {
        for kind in [Kind::Udp4, Kind::UnixDatagram] {
            let place = Place::new(kind);
            let running =
                Running::start(Server::new(place.listen().unwrap(), backend.backend(), |request: &mut Request| {
                    let pieces = [&b"a"[..], b"", b"bc"].map(IoSlice::new);
                    assert_eq!(request.write_vectored(&pieces)?, 3);
                    request.write_all(b"d")
                }));
            assert_eq!(Client::connect(&running.addr).ask(b"?"), b"abcd", "{backend} over {kind:?}");
            assert_eq!(running.finish().completed, 1);
        }
    }
}

/// A busy reply is for connections: a datagram for which there is no room waits.
#[test]
fn no_datagram_is_turned_away() {
    for backend in [BackendName::Threading, BackendName::ForkingStyle, BackendName::EventLoop] {
        for kind in [Kind::Udp4, Kind::UnixDatagram] {
            let (place, gate) = (Place::new(kind), Gate::default());
            let its_gate = gate.clone();
            let server = Server::new(place.listen().unwrap(), backend.backend(), move |request: &mut Request| {
                its_gate.pass(request)?;
                echo(request)
            });
            let running = Running::start(server.max_connections(1).busy_reply("busy"));
            let mut clients = [(); 2].map(|()| Client::connect(&running.addr));
            clients[0].write_all(b"first").unwrap();
            gate.wait_for(1);
            clients[1].write_all(b"second").unwrap();
            // Whatever wakes the server: now it looks.
            running.handle.resume();
            gate.open();
            assert_eq!(
                clients.map(|mut client| client.packet()),
                [&b"first"[..], b"second"],
                "{backend} over {kind:?}"
            );
            let stats = running.finish();
            assert_eq!((stats.completed, stats.refused), (2, 0), "{backend} over {kind:?}");
        }
    }
}
