//! The options of TCP and UDP listeners: both families at once, shared ports, restarts, what connections inherit.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;
use rustix::net::sockopt;
use socketserver::backend::EventLoop;
use socketserver::listener::{self, Bind, Listener, Tcp, Udp, UnixDatagram, UnixStream};
use socketserver::{Addr, AnyServer, Request, Server, TcpServer, net};

use crate::support::cell::{has_ipv6, loopback6};
use crate::support::client::Client;
use crate::support::running::{Running, close};
use crate::support::{echo, receive, within};

fn server(
    listener: impl Listener + 'static,
    handler: impl Fn(&mut Request) -> io::Result<()> + Send + Sync + 'static,
) -> AnyServer {
    let listener: Box<dyn Listener> = Box::new(listener);
    Server::new(listener, Box::new(EventLoop::new(2)), handler)
}

/// The address by which a client of this family reaches a server on all interfaces.
fn loopback(addr: &Addr, ip: &str) -> Addr {
    let loopback = SocketAddr::new(ip.parse().unwrap(), addr.as_inet().unwrap().port());
    match addr {
        Addr::Tcp(_) => Addr::Tcp(loopback),
        _ => Addr::Udp(loopback),
    }
}

/// An IPv4 client of `[::]` is served, and known by its IPv4 address.
#[test]
fn both_families_are_served_and_told_apart() {
    let listeners: [Box<dyn Listener>; 2] =
        [Box::new(Tcp::bind("[::]:0").unwrap()), Box::new(Udp::bind("[::]:0").unwrap())];
    for listener in listeners {
        let (tell, told) = unbounded();
        let running = Running::start(server(listener, move |request| {
            let _ = tell.send((request.peer_addr().clone(), request.local_addr()?));
            echo(request)
        }));
        for ip in ["127.0.0.1", "::1"].into_iter().filter(|ip| *ip != "::1" || has_ipv6()) {
            let to = loopback(&running.addr, ip);
            assert_eq!(Client::connect(&to).ask(b"hello"), b"hello");
            let (peer, local) = receive("the addresses", &told);
            assert_eq!(peer.ip().unwrap().to_string(), ip);
            assert_eq!(peer.scheme(), to.scheme());
            if let Addr::Tcp(_) = to {
                assert_eq!(local, to);
            }
        }
        running.finish();
    }
}

/// What a handler sends to an IPv4 address by itself arrives, too.
#[test]
fn a_dual_stack_socket_sends_to_both_families() {
    let others = ["127.0.0.1:0", loopback6()].map(|addr| UdpSocket::bind(addr).unwrap());
    let addrs = others.each_ref().map(|other| Addr::Udp(other.local_addr().unwrap()));
    let running = Running::start(server(Udp::bind("[::]:0").unwrap(), move |request| {
        addrs.iter().try_for_each(|addr| request.send_to(b"news", addr).map(|sent| assert_eq!(sent, 4)))
    }));
    Client::connect(&loopback(&running.addr, "127.0.0.1")).write_all(b"hello").unwrap();
    for other in others {
        other.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        let mut packet = [0; 10];
        let (length, _) = other.recv_from(&mut packet).unwrap();
        assert_eq!(&packet[..length], b"news");
    }
    running.finish();
}

#[test]
fn only_v6_serves_no_v4() {
    if !has_ipv6() {
        return;
    }
    let running = Running::start(server(Tcp::options().only_v6(true).bind("[::]:0").unwrap(), echo));
    assert_eq!(Client::connect(&loopback(&running.addr, "::1")).ask(b"hello"), b"hello");
    // An IPv4 address is not part of it, so that a second server may have the port there.
    let port = running.addr.as_inet().unwrap().port();
    match TcpListener::bind(("127.77.66.55", port)) {
        Ok(other) => drop(other),
        Err(error) => panic!("the port is taken for IPv4, too: {error}"),
    }
    running.finish();
    let udp = Udp::options().only_v6(true).bind("[::]:0").unwrap();
    assert!(sockopt::ipv6_v6only(&udp).unwrap());
}

/// Two servers on one port, of which each gets some of the connections.
#[test]
fn a_port_may_be_shared() {
    let (tell, told) = unbounded();
    let options = || Tcp::options().reuse_port(true);
    let first = options().bind("127.0.0.1:0").unwrap();
    let second = options().bind(first.local_addr()).unwrap();
    let both = [first, second].into_iter().enumerate().map(|(number, listener)| {
        let tell = tell.clone();
        Running::start(server(listener, move |request| {
            let _ = tell.send(number);
            echo(request)
        }))
    });
    let both: Vec<Running> = both.collect();
    // The kernel spreads them by a hash of the addresses: that one gets all of them has odds of two to the power of -99.
    for _ in 0..100 {
        assert_eq!(Client::connect(&both[0].addr).ask(b"hello"), b"hello");
    }
    assert_eq!(told.try_iter().collect::<HashSet<usize>>().len(), 2);
    for running in both {
        running.finish();
    }
    let first = Udp::options().reuse_port(true).bind("127.0.0.1:0").unwrap();
    Udp::options().reuse_port(true).bind(first.local_addr()).unwrap();
}

#[test]
fn a_port_is_not_shared_unless_asked_for() {
    let tcp = Tcp::bind("127.0.0.1:0").unwrap();
    assert_in_use(Tcp::bind(tcp.local_addr()).map(|_| ()), tcp.local_addr());
    let udp = Udp::bind("127.0.0.1:0").unwrap();
    assert_in_use(Udp::bind(udp.local_addr()).map(|_| ()), udp.local_addr());
    let member = Udp::options().reuse_address(true).bind("127.0.0.1:0").unwrap();
    Udp::options().reuse_address(true).bind(member.local_addr()).unwrap();
}

fn assert_in_use(result: io::Result<()>, addr: &Addr) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

/// The server closes first, so that the connection lingers on its side.
#[test]
fn a_server_restarts_at_once() {
    // An address of its own, where nobody else takes the port meanwhile.
    let mut addr = Addr::Tcp("127.44.55.66:0".parse().unwrap());
    for _ in 0..3 {
        let listener: Box<dyn Listener> = Box::new(Tcp::bind(&addr).unwrap());
        let running = Running::start(server(listener, |request: &mut Request| request.write_all(b"bye")));
        addr = running.addr.clone();
        assert_eq!(Client::connect(&addr).read_all(), b"bye");
        running.finish();
    }
}

#[test]
fn connections_inherit_the_listeners_options() {
    let (tell, told) = unbounded();
    let listener = Tcp::options()
        .nodelay(false)
        .keepalive(Some(Duration::from_secs(77)))
        .request_queue_size(3)
        .bind("127.0.0.1:0")
        .unwrap();
    let running = Running::start(server(listener, move |request: &mut Request| {
        let nodelay = sockopt::tcp_nodelay(&*request)?;
        let keepalive = (sockopt::socket_keepalive(&*request)?, sockopt::tcp_keepidle(&*request)?);
        let _ = tell.send((nodelay, keepalive));
        request.set_nodelay(true)?;
        let _ = tell.send((sockopt::tcp_nodelay(&*request)?, keepalive));
        Ok(())
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"");
    let keepalive = (true, Duration::from_secs(77));
    assert_eq!(receive("the options", &told), (false, keepalive));
    assert_eq!(receive("the options", &told), (true, keepalive));
    running.finish();
}

/// Those that no client can tell.
#[test]
fn options_are_the_sockets_own() {
    for asked in [false, true] {
        let tcp = Tcp::options().reuse_address(asked).bind("127.0.0.1:0").unwrap();
        assert_eq!(sockopt::socket_reuseaddr(&tcp).unwrap(), asked);
        let udp = Udp::options().broadcast(asked).bind("127.0.0.1:0").unwrap();
        assert_eq!(sockopt::socket_broadcast(&udp).unwrap(), asked);
    }
    assert!(!sockopt::socket_broadcast(Udp::bind("127.0.0.1:0").unwrap()).unwrap());
    let udp = Udp::options().receive_buffer(20_000).bind("127.0.0.1:0").unwrap();
    // Linux takes it twice, for what it keeps beside the bytes.
    let size = sockopt::socket_recv_buffer_size(&udp).unwrap();
    assert!((20_000..=40_000).contains(&size), "{size} bytes");
}

/// Or a request that is gone by the time it is got would hold up the server.
#[test]
fn no_listener_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let listeners: [Box<dyn Listener>; 4] = [
        Box::new(Tcp::bind("127.0.0.1:0").unwrap()),
        Box::new(Udp::bind("127.0.0.1:0").unwrap()),
        Box::new(UnixStream::bind(folder.path().join("stream")).unwrap()),
        Box::new(UnixDatagram::bind(folder.path().join("datagram")).unwrap()),
    ];
    for mut listener in listeners {
        let flags = rustix::fs::fcntl_getfl(listener.as_fd()).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK), "{}", listener.local_addr());
        assert_eq!(listener.get_request().map(|_| ()).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

/// As many as the queue is long; a crowd, where nothing is said of that.
#[test]
fn clients_wait_in_the_kernels_queue() {
    let folder = tempfile::tempdir().unwrap();
    let listeners: [Box<dyn Listener>; 2] = [
        Box::new(Tcp::bind("127.0.0.1:0").unwrap()),
        Box::new(UnixStream::bind(folder.path().join("socket")).unwrap()),
    ];
    for listener in &listeners {
        let addr = listener.local_addr().clone();
        within("queueing", move || (0..200).map(|_| Client::connect(&addr)).collect::<Vec<Client>>());
    }
    // Linux takes one more than was asked for.
    let short = Tcp::options().request_queue_size(0).bind("127.0.0.1:0").unwrap();
    let addr = short.local_addr().as_inet().unwrap();
    let _queued = TcpStream::connect(addr).unwrap();
    let error = TcpStream::connect_timeout(&addr, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

/// Its port is free, and another one's by now.
#[test]
fn a_drained_server_does_not_take_its_port_from_another() {
    let mut first = TcpServer::bind("127.45.55.66:0", echo).unwrap();
    first.shutdown_handle().drain(Duration::ZERO);
    let mut first = within("a drained serving", move || first.serve_forever().map(|_| first)).unwrap();
    let second = Tcp::bind(first.local_addr()).unwrap();
    assert_in_use(first.activate(), second.local_addr());
}

#[test]
fn without_options_small_writes_go_out_at_once_and_nobody_is_probed() {
    let opened_elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    for listener in [Tcp::bind("127.0.0.1:0").unwrap(), opened_elsewhere.try_into().unwrap()] {
        let (tell, told) = unbounded();
        let mut queued = Client::connect(listener.local_addr());
        let running = Running::start(server(listener, move |request: &mut Request| {
            let _ = tell.send((sockopt::tcp_nodelay(&*request)?, sockopt::socket_keepalive(&*request)?));
            Ok(())
        }));
        for client in [&mut queued, &mut Client::connect(&running.addr)] {
            assert_eq!(client.read_all(), b"");
            assert_eq!(receive("the options", &told), (true, false));
        }
        running.finish();
    }
}

/// Each listener says what it would have taken.
#[test]
fn an_address_of_another_kind_is_explained() {
    for (addr, tcp, udp, unix, unixgram) in [
        ("tcp://127.0.0.1:0", true, false, false, false),
        ("udp://127.0.0.1:0", false, true, false, false),
        ("unix://@another-kind", false, false, true, false),
        ("unixgram://@another-kind", false, false, false, true),
    ] {
        for (result, fits, expected) in [
            (Tcp::bind(addr).map(|_| ()), tcp, "tcp://HOST:PORT"),
            (Udp::bind(addr).map(|_| ()), udp, "udp://HOST:PORT"),
            (UnixStream::bind(addr).map(|_| ()), unix, "unix:///PATH"),
            (UnixDatagram::bind(addr).map(|_| ()), unixgram, "unixgram:///PATH"),
        ] {
            match result {
                Ok(()) => assert!(fits, "{expected} took {addr}"),
                Err(error) => {
                    assert!(!fits, "{error}");
                    assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    assert_eq!(error.to_string(), format!("cannot listen on {addr}: expected {expected}"));
                }
            }
        }
    }
    assert!(TcpServer::bind("unix:///tmp/x", echo).is_err());
    assert!(UnixStream::bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).is_err());
}

#[test]
fn an_address_of_another_host_is_not_available() {
    // From the block for documentation, RFC 5737.
    for url in ["tcp://192.0.2.1:0", "udp://192.0.2.1:0"] {
        let error = listener::bind(url).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains(url), "{error}");
    }
}

/// Thousand and twenty-four constructors that fail, in a process where nobody else opens anything.
#[test]
fn failing_constructors_leak_no_descriptor() {
    crate::support::child::in_child(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let taken = [
            Box::new(Tcp::bind("127.0.0.1:0").unwrap()) as Box<dyn Listener>,
            Box::new(Udp::bind("127.0.0.1:0").unwrap()),
            Box::new(UnixStream::bind(&*path).unwrap()),
            Box::new(UnixDatagram::bind(&*folder.path().join("datagrams")).unwrap()),
        ];
        let before = crate::support::descriptors::open_descriptors();
        for round in 0..1024 {
            let addr = taken[round % 4].local_addr();
            let error = Server::<Box<dyn Listener>, EventLoop>::bind(addr, echo).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
        }
        assert_eq!(crate::support::descriptors::open_descriptors(), before);
    });
}

/// A program that is started while others open sockets, of any kind, is given none of them.
#[test]
fn children_inherit_no_socket() {
    crate::support::child::in_child(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || listener.incoming().for_each(drop));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    drop(listener::bind("udp://127.0.0.1:0").unwrap());
                }
            });
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    // There may be no port left.
                    drop(net::TcpStream::connect(addr));
                }
            });
            scope.spawn(|| {
                let folder = tempfile::tempdir().unwrap();
                let mut listener = UnixStream::bind(folder.path().join("socket")).unwrap();
                while !over.load(SeqCst) {
                    let _client = Client::connect(listener.local_addr());
                    drop(listener.get_request().unwrap());
                }
            });
            let inherits = |_| {
                let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::null()).output().unwrap();
                String::from_utf8_lossy(&listed.stdout).contains("socket:")
            };
            let any = (0..500).any(inherits);
            over.store(true, SeqCst);
            assert!(!any);
        });
    });
}

/// A connection that is there already is not lost when the listener is adopted by a server.
#[test]
fn who_connected_before_the_server_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    let running = Running::start(server(Tcp::try_from(listener).unwrap(), echo));
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
    drop(client);
    let (server, served) = running.stop();
    assert_eq!(served.accepted, 1);
    close(server);
}
