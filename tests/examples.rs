//! The example `echo` as its user sees it: what it prints and where, its options, its signals, its exit status.

#[path = "support/example.rs"]
mod example;
#[path = "support/program.rs"]
mod program;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use program::{Ended, PATIENCE, Program};
use rustix::process::Signal;
use socketserver::Addr;

const TCP: &str = "tcp://127.0.0.1:0";

#[test]
fn the_first_line_on_standard_output_says_where_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix://{}/stream.sock", folder.path().display());
    let unixgram = format!("unixgram://{}/datagram.sock", folder.path().display());
    for bind in [TCP, "udp://127.0.0.1:0", &unix, &unixgram] {
        let echo = Program::start("echo", &["--bind", bind]);
        let line = echo.stdout_line();
        let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}"));
        let addr: Addr = url.parse().unwrap();
        assert_eq!(addr.to_string(), url, "{bind}");
        assert_eq!(addr.scheme().to_string(), bind.split_once("://").unwrap().0);
        match addr.as_inet() {
            Some(addr) => assert_ne!(addr.port(), 0, "{bind}"),
            None => assert_eq!(url, bind),
        }
        echoes(&addr);
    }
}

#[test]
fn everything_else_goes_to_standard_error() {
    let (echo, addr) = serve(&[]);
    echoes(&addr);
    echo.signal(Signal::TERM);
    let ended = echo.end();
    assert_eq!(ended.stdout, [""; 0]);
    let port = addr.as_inet().unwrap().port();
    assert!(ended.stderr.contains(&format!("try: nc 127.0.0.1 {port}")), "{:?}", ended.stderr);
    assert!(ended.stderr.iter().any(|line| line.contains("INFO") && line.contains("stopped on")), "{:?}", ended.stderr);
}

#[test]
fn each_server_has_a_name() {
    for server in ["sequential", "threading", "forking-style", "event-loop"] {
        let (_echo, addr) = serve(&["--server", server]);
        echoes(&addr);
    }
}

#[test]
fn max_connections_makes_the_next_client_wait() {
    let (_echo, addr) = serve(&["--max-connections", "1"]);
    the_second_client_waits(&addr);
}

#[test]
fn workers_are_the_size_of_the_pool() {
    let (_echo, addr) = serve(&["--server", "forking-style", "--workers", "1"]);
    the_second_client_waits(&addr);
}

#[cfg(target_os = "linux")]
#[test]
fn workers_are_the_number_of_loops() {
    let threads = |workers| {
        let (echo, _) = serve(&["--server", "event-loop", "--workers", workers]);
        std::fs::read_dir(format!("/proc/{}/task", echo.id())).unwrap().count()
    };
    assert_eq!(threads("4") - threads("1"), 3);
}

#[test]
fn timeout_closes_the_connection_of_a_silent_client() {
    let (echo, addr) = serve(&["--timeout", "0.2"]);
    let mut client = connect(&addr);
    let began = Instant::now();
    exchange(&mut client);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    echo.wait_for_stderr("timed out");
}

#[test]
fn sigterm_and_sigint_end_idle_connections_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        for server in ["threading", "event-loop"] {
            let (echo, addr) = serve(&["--server", server, "--drain", "600"]);
            let mut client = connect(&addr);
            exchange(&mut client);
            echo.signal(signal);
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "{server}, {signal:?}");
            let ended = echo.end();
            assert_eq!(ended.status.code(), Some(0), "{server}, {signal:?}: {ended:?}");
            assert_eq!(TcpStream::connect(addr.as_inet().unwrap()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    }
}

#[test]
fn drain_is_the_time_that_a_busy_connection_has() {
    let (folder, echo) = serve_on_a_path(&["--drain", "0.2"]);
    let _client = busy_client(&folder);
    let signalled = Instant::now();
    echo.signal(Signal::TERM);
    let ended = echo.end();
    assert!(signalled.elapsed() >= Duration::from_millis(200), "{:?}", signalled.elapsed());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.iter().any(|line| line.contains("cut off")), "{:?}", ended.stderr);
}

#[test]
fn a_second_signal_exits_at_once() {
    for (signal, status) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2)] {
        let (folder, echo) = serve_on_a_path(&["--drain", "600"]);
        let _client = busy_client(&folder);
        echo.signal(signal);
        echo.wait_for_stderr("draining");
        echo.signal(signal);
        let ended = echo.end();
        assert_eq!(ended.status.code(), Some(status), "{ended:?}");
    }
}

#[test]
fn an_address_in_use_is_one_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = format!("tcp://{}", taken.local_addr().unwrap());
    fails_with_one_line(&bind, &format!("error: cannot listen on {bind}: Address already in use"));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken.sock");
    let _taken = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let bind = format!("unix://{}", path.display());
    fails_with_one_line(
        &bind,
        &format!("error: cannot listen on {bind}: the path exists, and a server is listening there"),
    );
}

#[test]
fn an_address_that_cannot_be_had_is_one_line_and_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("unix://{}/missing/echo.sock", folder.path().display());
    fails_with_one_line(&nowhere, &format!("error: cannot listen on {nowhere}: No such file or directory"));
    fails_with_one_line("unixgram:///proc/echo.sock", "error: cannot listen on unixgram:///proc/echo.sock: ");
}

#[test]
fn wrong_usage_is_a_message_and_status_2() {
    for (arguments, message) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["more"], "more"),
        (&["--bind"], "--bind <ADDR>"),
        (&["--bind", "http://127.0.0.1:80"], "expected tcp://HOST:PORT"),
        (&["--bind", "127.0.0.1:http"], "expected 0 to 65535"),
        (&["--server", "fork"], "forking-style"),
        (&["--timeout", "x"], "expected a number of seconds"),
        (&["--timeout", "-1"], "expected a number of seconds"),
        (&["--workers", "3"], "--workers is for the forking-style and event-loop servers, not for threading"),
        (&["--drain", "nan"], "expected a number of seconds"),
        (&["--workers", "0"], "--workers <N>"),
        (&["--max-connections", "0"], "--max-connections <N>"),
    ] {
        let ended = Program::start("echo", arguments).end();
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stdout, [""; 0], "{arguments:?}");
        assert!(ended.stderr.join("\n").contains(message), "{arguments:?}: {:?}", ended.stderr);
    }
}

#[test]
fn help_names_every_option() {
    let Ended { status, stdout, stderr } = Program::start("echo", &["--help"]).end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(stderr, [""; 0]);
    let help = stdout.join("\n");
    for text in [
        "--bind <ADDR>",
        "--server <SERVER>",
        "--workers <N>",
        "--max-connections <N>",
        "--timeout <SECONDS>",
        "--drain <SECONDS>",
        "[default: tcp://127.0.0.1:9999]",
        "[default: threading]",
        "[default: 5]",
        "sequential, threading, forking-style or event-loop",
    ] {
        assert!(help.contains(text), "{text:?} is missing:\n{help}");
    }
}

/// Starts the example on a free TCP port.
#[track_caller]
fn serve(arguments: &[&str]) -> (Program, Addr) {
    let echo = Program::start("echo", &[&["--bind", TCP], arguments].concat());
    let line = echo.stdout_line();
    let addr = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    (echo, addr)
}

/// Starts the example on a path in a new folder.
#[track_caller]
fn serve_on_a_path(arguments: &[&str]) -> (tempfile::TempDir, Program) {
    let folder = tempfile::tempdir().unwrap();
    let bind = format!("unix://{}/echo.sock", folder.path().display());
    let echo = Program::start("echo", &[&["--bind", &bind], arguments].concat());
    assert_eq!(echo.stdout_line(), format!("listening on {bind}"));
    (folder, echo)
}

/// A client that does not read what comes back, so that the server's handler is held in a write.
#[track_caller]
fn busy_client(folder: &tempfile::TempDir) -> UnixStream {
    let mut client = UnixStream::connect(folder.path().join("echo.sock")).unwrap();
    // All buffers on the way are full when nothing moves for so long.
    client.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let error = client.write_all(&vec![b'x'; 1 << 26]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    client
}

#[track_caller]
fn connect(addr: &Addr) -> TcpStream {
    let client = TcpStream::connect(addr.as_inet().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

/// Sends a line, which must come back.
#[track_caller]
fn exchange(client: &mut (impl Read + Write)) {
    client.write_all(b"hello world\n").unwrap();
    let mut reply = [0; 12];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"hello world\n");
}

/// While one client is served, the next one's message is not answered; when it has gone, it is.
#[track_caller]
fn the_second_client_waits(addr: &Addr) {
    let mut first = connect(addr);
    exchange(&mut first);
    let mut second = connect(addr);
    second.write_all(b"!").unwrap();
    // The server has been at work since the second one came.
    (0..10).for_each(|_| exchange(&mut first));
    second.set_nonblocking(true).unwrap();
    assert_eq!(second.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);

    drop(first);
    second.set_nonblocking(false).unwrap();
    let mut reply = [0];
    second.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"!");
}

/// What is sent to `addr` comes back.
#[track_caller]
fn echoes(addr: &Addr) {
    let mut reply = [0; 100];
    let count = match addr {
        Addr::Tcp(_) => return exchange(&mut connect(addr)),
        Addr::Unix(_) => {
            let mut client = UnixStream::connect(addr.as_path().unwrap()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            return exchange(&mut client);
        }
        Addr::Udp(addr) => {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send_to(b"hello", addr).unwrap();
            client.recv(&mut reply).unwrap()
        }
        Addr::Unixgram(_) => {
            let path = addr.as_path().unwrap();
            let client = UnixDatagram::bind(path.with_file_name("client.sock")).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send_to(b"hello", path).unwrap();
            client.recv(&mut reply).unwrap()
        }
    };
    assert_eq!(&reply[..count], b"hello");
}

/// The example cannot listen there, says so in one line that begins with `message`, and exits with 1.
#[track_caller]
fn fails_with_one_line(bind: &str, message: &str) {
    let ended = Program::start("echo", &["--bind", bind]).end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(ended.stdout, [""; 0]);
    assert_eq!(ended.stderr.len(), 1, "{ended:?}");
    assert!(ended.stderr[0].starts_with(message), "{ended:?}");
}
