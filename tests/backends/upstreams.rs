//! Sockets of a handler's own: connecting and accepting wait as everything does.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::time::Duration;

use crossbeam_channel::unbounded;
use rustix::net::sockopt;
use socketserver::net::{self, TcpStream, UdpSocket, UnixStream};
use socketserver::{Activity, Addr, Request, spawn};
use tempfile::TempDir;

use crate::support::cell::{Cell, loopback6};
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

/// A second connection that belongs to the request, as for FTP's data; and none that comes in time.
pub fn a_peer_connects_back(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let listener = net::TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.as_inet().map_or(0, |addr| addr.port());
        request.write_all(&port.to_be_bytes())?;
        let (mut data, peer) = listener.accept()?;
        assert_eq!(data.peer_addr()?, peer);
        assert!(sockopt::tcp_nodelay(&data)?);
        io::copy(&mut data, request)?;
        listener.set_timeout(Some(Duration::from_millis(20)));
        let error = listener.clone().accept().expect_err("nobody connects");
        write!(request, " of {peer}, then {:?}", error.kind())
    }));
    let mut client = Client::connect(&running.addr);
    let port = u16::from_be_bytes(client.take_bytes(2).try_into().unwrap());
    running.wait_for_activity(Activity::Waiting);
    let mut data = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    data.write_all(b"the data").unwrap();
    let peer = Addr::Tcp(data.local_addr().unwrap());
    drop(data);
    assert_eq!(String::from_utf8(client.read_all()).unwrap(), format!("the data of {peer}, then TimedOut"));
    assert_eq!(running.finish().completed, 1);
}

/// One socket, and many to talk with, also over both families.
pub fn a_bound_socket_talks_with_anybody(cell: Cell) {
    let others = ["127.0.0.1:0", "127.0.0.1:0", loopback6()].map(|addr| std::net::UdpSocket::bind(addr).unwrap());
    let addrs = others.each_ref().map(|other| Addr::Udp(other.local_addr().unwrap()));
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let socket = UdpSocket::bind("[::]:0")?;
        for addr in &addrs {
            socket.send_to(b"?", addr)?;
        }
        let of_another_kind = Addr::Tcp(addrs[0].as_inet().unwrap());
        assert_eq!(socket.send_to(b"?", &of_another_kind).unwrap_err().kind(), ErrorKind::InvalidInput);
        let mut answered = Vec::new();
        for _ in &addrs {
            let mut answer = [0; 4];
            let (length, peer) = socket.recv_from(&mut answer)?;
            assert_eq!(&answer[..length], b"!");
            answered.push(peer);
        }
        socket.set_read_timeout(Some(Duration::from_millis(20)));
        let error = socket.recv_from(&mut [0]).expect_err("nobody sends");
        let all = addrs.iter().all(|addr| answered.contains(addr));
        write!(request, "{all}, {:?}", error.kind())
    }));
    let mut client = Client::connect(&running.addr);
    for other in &others {
        other.set_read_timeout(Some(PATIENCE)).unwrap();
        let (_, peer) = other.recv_from(&mut [0]).unwrap();
        other.send_to(b"!", peer).unwrap();
    }
    assert_eq!(client.read_all(), b"true, TimedOut");
    assert_eq!(running.finish().completed, 1);
}

/// As inetd does it: the program has one end of a pair.
pub fn a_program_is_served_to_a_peer(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let (ours, its) = std::os::unix::net::UnixStream::pair()?;
        let (stdin, stdout) = (OwnedFd::from(its.try_clone()?), OwnedFd::from(its));
        let mut program = Command::new("tr").args(["a-z", "A-Z"]).stdin(stdin).stdout(stdout).spawn()?;
        let mut program_io = UnixStream::try_from(ours)?;
        io::copy(request, &mut program_io)?;
        program_io.shutdown(Shutdown::Write)?;
        io::copy(&mut program_io, request)?;
        request.offload(move || program.wait())??;
        Ok(())
    }));
    let mut client = Client::connect(&running.addr);
    client.write_all(b"one\ntwo\n").unwrap();
    client.half_close().unwrap();
    assert_eq!(client.read_all(), b"ONE\nTWO\n");
    assert_eq!(running.finish().completed, 1);
}

/// A name may have several, of which not each leads to a server, or is free.
pub fn the_first_address_that_works_is_taken(cell: Cell) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    // Of an address of its own, where nobody else takes the port meanwhile.
    let closed = TcpListener::bind("127.46.55.66:0").unwrap().local_addr().unwrap();
    let addrs: &'static [SocketAddr] = vec![closed, upstream.local_addr().unwrap()].leak();
    let places: &'static [SocketAddr] = vec![taken.local_addr().unwrap(), "127.0.0.1:0".parse().unwrap()].leak();
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        TcpStream::connect(addrs)?;
        let free = UdpSocket::bind(places)?.local_addr()?.as_inet().map_or(0, |addr| addr.port());
        assert!(free != 0 && free != places[0].port());
        let none = TcpStream::connect(&addrs[..0]).expect_err("there is no address");
        let closed = TcpStream::connect(&addrs[..1]).expect_err("there is no server");
        write!(request, "{:?}, {:?}", none.kind(), closed.kind())
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"InvalidInput, ConnectionRefused");
    assert_eq!(running.finish().completed, 1);
}

/// Each direction has its own.
pub fn an_upstream_has_timeouts(cell: Cell) {
    const TIMEOUT: Option<Duration> = Some(Duration::from_millis(20));
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut tcp = TcpStream::connect(listener.local_addr()?)?;
        let (unix, _other) = std::os::unix::net::UnixStream::pair()?;
        let mut unix = UnixStream::try_from(unix)?;
        tcp.set_read_timeout(TIMEOUT);
        unix.set_read_timeout(TIMEOUT);
        let read = [tcp.read(&mut [0]), unix.read(&mut [0])].map(|read| read.expect_err("nobody writes").kind());
        tcp.set_read_timeout(None);
        unix.set_read_timeout(None);
        tcp.set_write_timeout(TIMEOUT);
        unix.set_write_timeout(TIMEOUT);
        let long = vec![0; 64 << 20];
        let written = [tcp.write_all(&long), unix.write_all(&long)].map(|all| all.expect_err("nobody reads").kind());
        write!(request, "{read:?}, {written:?}")
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"[TimedOut, TimedOut], [TimedOut, TimedOut]");
    assert_eq!(running.finish().completed, 1);
}

/// One call, as a request's: or a line that is put together from pieces would leave in as many packets. A socket of datagrams tells.
pub fn what_is_written_to_an_upstream_leaves_in_one_piece(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let pair = || UnixDatagram::pair().map(|(ours, other)| (OwnedFd::from(ours), other));
        let ((tcp, tcp_other), (unix, unix_other)) = (pair()?, pair()?);
        let mut tcp = TcpStream::try_from(std::net::TcpStream::from(tcp))?;
        let mut unix = UnixStream::try_from(std::os::unix::net::UnixStream::from(unix))?;
        let streams: [(&mut dyn ReadWrite, _); 2] = [(&mut tcp, tcp_other), (&mut unix, unix_other)];
        for (stream, other) in streams {
            let mut packet = [0; 100];
            write!(stream, "{}-{}", cell.backend, packet.len())?;
            let length = other.recv(&mut packet)?;
            assert_eq!(&packet[..length], format!("{}-{}", cell.backend, packet.len()).as_bytes());
            assert_eq!(stream.write_vectored(&[b"a", &b""[..], b"bc"].map(IoSlice::new))?, 3);
            let length = other.recv(&mut packet)?;
            assert_eq!(&packet[..length], b"abc");
        }
        request.write_all(b"whole")
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"whole");
    assert_eq!(running.finish().completed, 1);
}

/// As std's: the port can be had again at once, and many may wait to be accepted.
pub fn a_listener_of_a_handlers_own_has_a_queue(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let listener = net::TcpListener::bind("127.0.0.1:0")?;
        assert!(sockopt::socket_reuseaddr(&listener)?);
        let addr = listener.local_addr()?.as_inet().ok_or(ErrorKind::AddrNotAvailable)?;
        let queued: io::Result<Vec<_>> =
            (0..100).map(|_| std::net::TcpStream::connect_timeout(&addr, PATIENCE)).collect();
        queued?.iter().try_for_each(|_| listener.accept().map(drop))?;
        request.write_all(b"all")
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"all");
    assert_eq!(running.finish().completed, 1);
}

/// As std's: what has been ended in one direction goes on in the other.
pub fn an_upstream_ends_in_one_direction_or_in_both(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        type Outcome = Result<usize, ErrorKind>;
        let (closed, silent) = (Err(ErrorKind::BrokenPipe), Err(ErrorKind::TimedOut));
        let cases: [(Shutdown, Outcome, Outcome); 3] =
            [(Shutdown::Read, Ok(0), Ok(1)), (Shutdown::Write, silent, closed), (Shutdown::Both, Ok(0), closed)];
        let listener = TcpListener::bind("127.0.0.1:0")?;
        for (how, read, written) in cases {
            let mut tcp = TcpStream::connect(listener.local_addr()?)?;
            let (unix, _other) = std::os::unix::net::UnixStream::pair()?;
            let mut unix = UnixStream::try_from(unix)?;
            tcp.set_read_timeout(Some(Duration::from_millis(1)));
            unix.set_read_timeout(Some(Duration::from_millis(1)));
            tcp.shutdown(how)?;
            unix.shutdown(how)?;
            let streams: [&mut dyn ReadWrite; 2] = [&mut tcp, &mut unix];
            for stream in streams {
                assert_eq!(stream.read(&mut [0]).map_err(|error| error.kind()), read, "reading after {how:?}");
                assert_eq!(stream.write(b"x").map_err(|error| error.kind()), written, "writing after {how:?}");
            }
        }
        request.write_all(b"as said")
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"as said");
    assert_eq!(running.finish().completed, 1);
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

/// Or the sibling, on the same loop, would never come to send what is waited for.
pub fn adopted_sockets_wait_where_their_caller_does(cell: Cell) {
    let place = cell.place();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let other = std::net::TcpStream::connect(listener.local_addr()?)?;
        let (mut tcp, other) = (TcpStream::try_from(listener.accept()?.0)?, TcpStream::try_from(other)?);
        let udp = UdpSocket::try_from(std::net::UdpSocket::bind("127.0.0.1:0")?)?;
        let (listener, udp_addr) = (net::TcpListener::try_from(listener)?, udp.local_addr()?);
        let addr = listener.local_addr()?.as_inet().ok_or(ErrorKind::AddrNotAvailable)?;
        let sibling = spawn(move || {
            { other }.write_all(b"tcp ")?;
            UdpSocket::bind("127.0.0.1:0")?.send_to(b"udp ", &udp_addr)?;
            TcpStream::connect(addr).map(drop)
        })?;
        io::copy(&mut tcp, request)?;
        let mut datagram = [0; 4];
        udp.recv_from(&mut datagram)?;
        request.write_all(&datagram)?;
        listener.accept()?;
        sibling.join()??;
        request.write_all(b"accepted")
    }));
    assert_eq!(Client::connect(&running.addr).read_all(), b"tcp udp accepted");
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

pub fn a_cut_ends_the_wait_for_a_connection(cell: Cell) {
    assert_is_cut(cell, || net::TcpListener::bind("127.0.0.1:0")?.accept().map(|_| ()));
}

#[track_caller]
fn assert_is_cut(cell: Cell, wait: impl Fn() -> io::Result<()> + Send + Sync + 'static) {
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |_: &mut Request| {
        let waited = wait();
        let _ = tell.send(waited.as_ref().err().map(io::Error::kind));
        waited
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
