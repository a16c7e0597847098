//! Sockets of a handler's own: connecting waits as everything does.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crossbeam_channel::unbounded;
use rustix::net::sockopt;
use socketserver::net::{TcpStream, UnixStream};
use socketserver::{Activity, Request};
use tempfile::TempDir;

use crate::support::cell::Cell;
use crate::support::client::Client;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, receive};

/// A TCP server that accepts nobody, and whose queue is full.
fn full_tcp_server() -> (TcpListener, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let queued = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, queued)
}

/// The same on a Unix socket, in a folder of its own.
fn full_unix_server() -> (TempDir, UnixListener, std::os::unix::net::UnixStream) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("upstream");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let queued = std::os::unix::net::UnixStream::connect(&path).unwrap();
    (folder, listener, queued)
}

/// As those of a request do: or a proxy would hold up the second half of a message until the first is acknowledged.
pub fn small_writes_to_an_upstream_go_out_at_once(cell: Cell) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = upstream.local_addr().unwrap();
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        for upstream in [TcpStream::connect(addr)?, TcpStream::connect_timeout(&addr, PATIENCE)?] {
            assert!(sockopt::tcp_nodelay(&upstream)?);
            upstream.set_nodelay(false)?;
            assert!(!sockopt::tcp_nodelay(&upstream)?);
        }
        request.write_all(b"both")
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"both");
    assert_eq!(running.finish().completed, 1);
}

pub fn a_full_tcp_server_is_waited_for_in_vain(cell: Cell) {
    let (upstream, _queued) = full_tcp_server();
    let addr = upstream.local_addr().unwrap();
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let error = TcpStream::connect_timeout(&addr, Duration::from_millis(50)).expect_err("nobody accepts");
        write!(request, "{:?}", error.kind())
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"TimedOut");
    assert_eq!(running.finish().completed, 1);
}

/// Nothing tells when its queue has room again.
pub fn a_full_unix_server_is_waited_for(cell: Cell) {
    let (folder, upstream, _queued) = full_unix_server();
    let path = folder.path().join("upstream");
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let mut upstream = UnixStream::connect(&path)?;
        io::copy(&mut upstream, request).map(|_| ())
    }));
    let mut client = Client::connect(&running.addr);
    running.wait_for_activity(Activity::Waiting);
    drop(upstream.accept().unwrap());
    upstream.accept().unwrap().0.write_all(b"at last").unwrap();
    assert_eq!(client.read_all(), b"at last");
    assert_eq!(running.finish().completed, 1);
}

/// It is not one that is full.
pub fn a_missing_unix_server_is_not_waited_for(cell: Cell) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("upstream");
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let error = UnixStream::connect(&path).expect_err("there is none");
        write!(request, "{:?}", error.kind())
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"NotFound");
    assert_eq!(running.finish().completed, 1);
}

pub fn a_cut_ends_the_wait_for_a_full_server(cell: Cell) {
    let (tcp, _queued) = full_tcp_server();
    let addr = tcp.local_addr().unwrap();
    assert_is_cut(cell, move || TcpStream::connect(addr).map(|_| ()));
    let (folder, _unix, _queued) = full_unix_server();
    let path = folder.path().join("upstream");
    assert_is_cut(cell, move || UnixStream::connect(&path).map(|_| ()));
}

#[track_caller]
fn assert_is_cut(cell: Cell, connect: impl Fn() -> io::Result<()> + Send + Sync + 'static) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |_: &mut Request| {
        let connected = connect();
        let _ = tell.send(connected.as_ref().err().map(io::Error::kind));
        connected
    }));
    let mut client = Client::connect(&running.addr);
    running.wait_for_activity(Activity::Waiting);
    running.handle.drain(Duration::from_millis(50));
    assert_eq!(receive("the outcome", &told), Some(ErrorKind::ConnectionAborted));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let (server, served) = running.ended();
    assert_eq!(served.cut, 1);
    close(server);
}
