//! Listeners with options of their own, limits that change while the server serves, and the choice by text.

#[allow(dead_code)]
mod support;

use std::io::{self, Read};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use downstream::{Board, Visit};
use socketserver::backend::{BackendName, EventLoop, Threading};
use socketserver::listener::{self, Tcp, UnixStream};
use socketserver::{AnyServer, Request, Server};
use support::{Guest, PATIENCE, Serving};

/// What makes a visit to a new board.
fn visits() -> impl Fn() -> Visit + Send + Sync + 'static {
    let board = Arc::new(Board::default());
    move || Visit::new(board.clone())
}

#[test]
fn the_file_of_a_unix_socket_has_its_mode_and_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board.sock");
    let listener = UnixStream::options().mode(0o600).request_queue_size(16).bind(&path).unwrap();
    let serving = Serving::start(Server::new(listener, Threading::new().stack_size(256 * 1024), visits()));

    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Guest::connect(&serving.addr).ask("COUNT"), "0");
    serving.end();
    assert!(!path.exists());
}

#[test]
fn the_timeout_of_a_listener_is_what_its_requests_begin_with() {
    let listener = Tcp::options().nodelay(true).timeout(Some(Duration::from_millis(20))).bind("127.0.0.1:0").unwrap();
    let server =
        Server::new(listener, EventLoop::new(1), |request: &mut Request| io::copy(request, &mut io::sink()).map(drop));
    let serving = Serving::start(server);

    let mut silent = TcpStream::connect(serving.addr.as_inet().unwrap()).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    let (_, stats) = serving.end();
    assert_eq!((stats.timed_out, stats.failed), (1, 1));
}

#[test]
fn limits_change_while_the_server_serves() {
    let server = Server::new(listener::bind("127.0.0.1:0").unwrap(), EventLoop::new(1), visits()).max_connections(1);
    let limits = server.limits();
    let serving = Serving::start(server);

    let mut first = Guest::connect(&serving.addr);
    assert_eq!(first.ask("GUESTS"), "1");
    let mut second = Guest::connect(&serving.addr);
    second.say("GUESTS");
    assert_eq!(first.ask("GUESTS"), "1");
    limits.set_max_connections(2);
    assert_eq!(second.line(), "2");
    assert_eq!((limits.max_connections(), limits.live()), (2, 2));
}

#[test]
fn text_chooses_the_server() {
    for name in BackendName::ALL {
        let server = AnyServer::new(listener::bind("udp://127.0.0.1:0").unwrap(), name.backend(), visits());
        let serving = Serving::start(server);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(serving.addr.as_inet().unwrap()).unwrap();
        client.send(b"PIN lunch soup\nREAD lunch\nGUESTS\n").unwrap();
        let mut reply = [0; 100];
        let count = client.recv(&mut reply).unwrap();
        assert_eq!(&reply[..count], b"pinned\nsoup\n1\n", "{name}");
        assert_eq!(serving.end().0.accepted, 1);
    }
}
