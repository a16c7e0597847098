//! The example `client`, with every server that it is for, and with some that misbehave.

mod support;

#[path = "support/example.rs"]
mod example;
#[path = "support/framed.rs"]
mod framed;
#[path = "support/program.rs"]
mod program;
#[macro_use]
#[path = "support/served.rs"]
mod served;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::thread::{self, JoinHandle};

use program::{Ended, PATIENCE, Program};
use rustix::process::Signal;
use served::Served;
use socketserver::backend::BackendName;
use support::cell::{Cell, Kind};

mod everything {
    table! {
        sequential [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        threading [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        forking_style [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        event_loop [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        => [
            a_line_is_sent_and_its_answer_printed
            input_from_a_pipe_is_sent_to_its_end
            answers_come_while_somebody_types
            messages_are_framed
            commands_are_run
        ]
    }
}

mod streams {
    table! {
        sequential [tcp4 tcp6 unix_stream]
        threading [tcp4 tcp6 unix_stream]
        forking_style [tcp4 tcp6 unix_stream]
        event_loop [tcp4 tcp6 unix_stream]
        => [
            a_long_input_comes_back_as_it_was
            a_command_has_two_outputs_and_a_status
            files_are_sent
        ]
    }
}

fn a_line_is_sent_and_its_answer_printed(cell: Cell) {
    let server = Served::start("upper", cell, &[]);
    let ended = client(&server, &["--timeout", "30", "--send", "hello", "--send", "world"]);
    assert_eq!(sorted(ended.stdout), ["HELLO", "WORLD"]);
    assert_eq!((ended.status.code(), &ended.stderr[..]), (Some(0), &[][..]));
}

fn input_from_a_pipe_is_sent_to_its_end(cell: Cell) {
    let server = Served::start("upper", cell, &[]);
    // Of datagrams nobody knows which is the last.
    let mut client = start(&server, if cell.is_stream() { &[] } else { &["--timeout", "3"] });
    client.stdin().write_all(b"one\ntwo\nthree").unwrap();
    let ended = client.end();
    assert_eq!(sorted(ended.stdout), ["ONE", "THREE", "TWO"]);
    assert_eq!((ended.status.code(), &ended.stderr[..]), (Some(0), &[][..]));
}

fn answers_come_while_somebody_types(cell: Cell) {
    let server = Served::start("upper", cell, &[]);
    let mut client = start(&server, if cell.is_stream() { &[] } else { &["--timeout", "0.3"] });
    let mut stdin = client.stdin();
    for line in ["one", "two"] {
        writeln!(stdin, "{line}").unwrap();
        assert_eq!(client.stdout_line(), line.to_uppercase());
    }
    drop(stdin);
    let ended = client.end();
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), 0), "{ended:?}");
}

fn messages_are_framed(cell: Cell) {
    let server = Served::start("upper", cell, &[]);
    for framing in ["length:1", "length:2", "length:4", "length:8"] {
        let ended = client(
            &server,
            &["--timeout", "30", "--frame", framing, "--send", "hello", "--send", "", "--send", "world"],
        );
        assert_eq!(sorted(ended.stdout), ["", "HELLO", "WORLD"]);
        assert_eq!((ended.status.code(), &ended.stderr[..]), (Some(0), &[][..]));
    }
}

fn commands_are_run(cell: Cell) {
    let server = Served::start("remote_command", cell, &[]);
    let ended = client(&server, &["run", "echo", "one;", "echo two"]);
    assert_eq!(ended.stdout, ["one", "two"], "{ended:?}");
    assert_eq!((ended.status.code(), &ended.stderr[..]), (Some(0), &[][..]));
}

fn a_long_input_comes_back_as_it_was(cell: Cell) {
    let server = Served::start("upper", cell, &[]);
    let text: String = (0..100_000).map(|number| format!("LINE {number}\n")).collect();
    let mut client = start(&server, &[]);
    let mut stdin = client.stdin();
    let expected: Vec<String> = text.lines().map(str::to_string).collect();
    let writing = thread::spawn(move || stdin.write_all(text.as_bytes()));
    let ended = client.end();
    assert!(ended.stdout == expected, "{} lines", ended.stdout.len());
    writing.join().unwrap().unwrap();
}

fn a_command_has_two_outputs_and_a_status(cell: Cell) {
    let server = Served::start("remote_command", cell, &["--limit", "2"]);
    let ended = client(&server, &["run", "echo out; echo err >&2; exit 42"]);
    assert_eq!(ended.status.code(), Some(42));
    assert_eq!((&ended.stdout[..], &ended.stderr[..]), (&["out".to_string()][..], &["err".to_string()][..]));
    let ended = client(&server, &["run", "sleep 1000"]);
    assert_eq!(ended.status.code(), Some(137));
    assert_eq!(ended.stderr, ["error: killed: it took longer than 2 s"]);
    let server = Served::start("remote_command", cell, &["--limit", "600"]);
    let ended = client(&server, &["run", "seq 100000"]);
    assert_eq!((ended.stdout.len(), ended.stdout.last().map(String::as_str)), (100_000, Some("100000")));
}

fn files_are_sent(cell: Cell) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let server = Served::start("file_upload", cell, &["--dir", &path("kept"), "--max-size", "5000000"]);
    fs::write(path("small"), "hello").unwrap();
    fs::write(path("large"), vec![b'x'; 5_000_000]).unwrap();
    fs::write(path("too large"), vec![b'x'; 5_000_001]).unwrap();
    let ended = client(&server, &["upload", &path("small"), &path("large")]);
    assert_eq!(ended.stdout, ["small: 5 bytes", "large: 5000000 bytes"], "{ended:?}");
    assert_eq!((ended.status.code(), &ended.stderr[..]), (Some(0), &[][..]));
    assert_eq!(fs::read(path("kept/small")).unwrap(), b"hello");
    assert!(fs::read(path("kept/large")).unwrap() == vec![b'x'; 5_000_000]);

    let ended = client(&server, &["upload", &path("large")]);
    fails(&ended, &["refused: there is a file of that name"]);
    let ended = client(&server, &["upload", &path("too large")]);
    fails(&ended, &["refused: 5000001 bytes are more than"]);
    fails(&client(&server, &["upload", &path("missing")]), &["missing: No such file"]);
    assert_eq!(fs::read_dir(path("kept")).unwrap().count(), 2);
}

#[test]
fn nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed_udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (addr, message) in [
        (format!("tcp://{closed}"), format!("error: cannot connect to tcp://{closed}: nobody listens there")),
        (format!("udp://{closed_udp}"), "error: nobody listens there".to_string()),
        (format!("unix://{}", path.display()), "nobody listens there".to_string()),
        (format!("unixgram://{}", path.display()), "cannot connect to unixgram://".to_string()),
        (format!("unix://{}-not", path.display()), "the path does not exist".to_string()),
        ("unix://@no-such-name-of-a-socket".to_string(), "nobody listens there".to_string()),
    ] {
        fails(&Program::start("client", &[&addr, "--send", "hello"]).end(), &[&message]);
        fails(&Program::start("client", &[&addr, "run", "true"]).end(), &[&message]);
    }
}

#[test]
fn a_server_that_is_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = format!("udp://{}", socket.local_addr().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    for arguments in
        [&["--send", "hello"][..], &["--send", "hello", "--frame", "length:4"], &["run", "true"], &["upload", file]]
    {
        let arguments = [&[&addr[..], "--timeout", "0.2"], arguments].concat();
        fails(&Program::start("client", &arguments).end(), &["timed out"]);
    }
    for arguments in [&["--send", "hello"][..], &["run", "true"]] {
        let arguments = [&[&udp[..], "--timeout", "0.2"], arguments].concat();
        fails(&Program::start("client", &arguments).end(), &["timed out"]);
    }
}

#[test]
fn connecting_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    // A queue that is full.
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let addr = format!("unix://{}", path.display());
    fails(
        &Program::start("client", &[&addr, "--connect-timeout", "0.2", "--send", "x"]).end(),
        &["connecting timed out"],
    );
}

#[test]
fn a_connection_that_ends_where_it_should_not_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let header = framed::frame(br#"{"status": 0, "stdout": 10, "stderr": 0}"#);
    for (arguments, answer, message) in [
        (&["--send", "x", "--frame", "length:4"][..], &b"\0\0"[..], "the stream ended in the middle of a frame"),
        (&["--send", "x", "--frame", "length:4"], b"\0\0\0\x05hell", "the stream ended in the middle of a frame"),
        (&["--send", "x", "--frame", "length:4"], b"\xff\xff\xff\xff", "the limit is"),
        (&["run", "true"], b"", "closed the connection without an answer"),
        (&["run", "true"], b"\0\0\0\x50{\"sta", "the stream ended in the middle of a frame"),
        (&["run", "true"], b"\0\0\0\x02[]", "JSON"),
        (&["run", "true"], &[&header[..], b"half"].concat(), "the stream ended in the middle of a body"),
        (&["upload", file], b"", "closed the connection without an answer"),
        (&["upload", file], b"\0\0\0", "the stream ended in the middle of a frame"),
        (&["upload", file], b"\0\0\0\x02{}", "JSON"),
    ] {
        let (addr, server) = answering(answer);
        let ended = Program::start("client", &[&[&addr[..]], arguments].concat()).end();
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.last().is_some_and(|line| line.contains(message)), "{arguments:?}, {message}: {ended:?}");
        server.join().unwrap();
    }
}

/// What was said before counts, and it is the server's to end the conversation.
#[test]
fn a_server_may_end_the_conversation() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let mut client = Program::start_with("client", &[&addr], |command| {
        command.stdin(Stdio::piped());
    });
    // Still open: somebody may be typing.
    let _stdin = client.stdin();
    let mut connection = listener.accept().unwrap().0;
    connection.write_all(b"goodbye\n").unwrap();
    drop(connection);
    let ended = client.end();
    assert_eq!((ended.status.code(), &ended.stdout[..]), (Some(0), &["goodbye".to_string()][..]), "{ended:?}");
}

#[test]
fn the_end_of_the_input_is_told_and_what_still_comes_is_printed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let client = Program::start("client", &[&addr]);
    let mut connection = accept(&listener);
    let mut sent = Vec::new();
    connection.read_to_end(&mut sent).unwrap();
    assert_eq!(sent, b"");
    connection.write_all(b"still\n").unwrap();
    assert_eq!(client.stdout_line(), "still");
    connection.write_all(b"here\n").unwrap();
    drop(connection);
    assert_eq!(client.end().stdout, ["here"]);
}

#[test]
fn wrong_usage_is_a_message_and_status_2() {
    for (arguments, message) in [
        (&[][..], "<ADDR>"),
        (&["http://127.0.0.1:80"], "expected tcp://HOST:PORT"),
        (&["127.0.0.1:9999", "--frame", "length:3"], "expected length:1"),
        (&["127.0.0.1:9999", "--timeout", "0"], "expected a number of seconds"),
        (&["127.0.0.1:9999", "dance"], "dance"),
        (&["127.0.0.1:9999", "run"], "<COMMAND>"),
        (&["127.0.0.1:9999", "upload"], "<FILE>"),
        (&["127.0.0.1:9999", "--send", "x", "run", "true"], "--send and --frame"),
        (&["udp://127.0.0.1:9999", "upload", "x"], "over a connection"),
    ] {
        let ended = Program::start("client", arguments).end();
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stdout, [""; 0], "{arguments:?}");
        assert!(ended.stderr.join("\n").contains(message), "{arguments:?}: {:?}", ended.stderr);
    }
}

#[test]
fn the_path_for_replies_is_removed() {
    let server = Served::start("upper", Cell { backend: BackendName::Threading, kind: Kind::UnixDatagram }, &[]);
    let folder = tempfile::tempdir().unwrap();
    let begin = || {
        let mut client = Program::start_with("client", &[&server.addr.to_string()], |command| {
            command.stdin(Stdio::piped()).env("TMPDIR", folder.path());
        });
        let mut stdin = client.stdin();
        writeln!(stdin, "hello").unwrap();
        assert_eq!(client.stdout_line(), "HELLO");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        (client, stdin)
    };
    let (client, stdin) = begin();
    drop(stdin);
    assert_eq!(client.end().status.code(), Some(0));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let (client, _stdin) = begin();
    client.signal(Signal::INT);
    assert_eq!(client.end().status.code(), Some(130));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Starts the client with an input that is open.
#[track_caller]
fn start(server: &Served, arguments: &[&str]) -> Program {
    let addr = server.addr.to_string();
    Program::start_with("client", &[&[&addr[..]], arguments].concat(), |command| {
        command.stdin(Stdio::piped());
    })
}

/// Runs the client to its end.
#[track_caller]
fn client(server: &Served, arguments: &[&str]) -> Ended {
    let addr = server.addr.to_string();
    Program::start("client", &[&[&addr[..]], arguments].concat()).end()
}

/// It has failed with one line on standard error.
#[track_caller]
fn fails(ended: &Ended, messages: &[&str]) {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!((ended.stdout.len(), ended.stderr.len()), (0, 1), "{ended:?}");
    assert!(ended.stderr[0].starts_with("error: "), "{ended:?}");
    assert!(messages.iter().all(|message| ended.stderr[0].contains(message)), "{messages:?}: {ended:?}");
}

/// Datagrams may be answered in another order.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// A server that waits for something, gives an answer, and closes when the client has, or ends its direction.
fn answering(answer: &[u8]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let answer = answer.to_vec();
    let server = thread::spawn(move || {
        let connection = accept(&listener);
        let mut requests = BufReader::new(&connection);
        requests.fill_buf().unwrap();
        (&connection).write_all(&answer).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        // Not at once: that would be a reset.
        let _ = requests.read_to_end(&mut Vec::new());
    });
    (addr, server)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let connection = listener.accept().unwrap().0;
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.set_write_timeout(Some(PATIENCE)).unwrap();
    connection
}
