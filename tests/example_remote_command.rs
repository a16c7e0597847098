//! The example `remote_command`, on every server.

mod support;

#[path = "support/example.rs"]
mod example;
#[path = "support/framed.rs"]
mod framed;
#[path = "support/program.rs"]
mod program;
#[path = "support/script.rs"]
mod script;
#[macro_use]
#[path = "support/served.rs"]
mod served;

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use framed::{Then, frame, last_json, rubbish, take_json};
use program::Program;
use rustix::process::Signal;
use serde_json::{Value, json};
use served::Served;
use socketserver::backend::BackendName;
use support::cell::{Cell, Kind};
use support::client::Client;
use support::until;

mod streams {
    table! {
        sequential [tcp4 tcp6 unix_stream]
        threading [tcp4 tcp6 unix_stream]
        forking_style [tcp4 tcp6 unix_stream]
        event_loop [tcp4 tcp6 unix_stream]
        => [
            commands_are_answered_in_order
            a_command_in_pieces_is_one_command
            output_is_not_held_whole
            what_is_no_command_is_told_and_the_next_one_runs
            rubbish_is_told_and_closed
            silence_within_a_message_is_told_and_closed
            a_reset_within_a_message_disturbs_nobody
            the_limit_kills_the_whole_group
            children_do_not_outlive_their_command
            too_much_output_is_the_end
            a_reset_kills_the_command
            a_drain_leaves_nothing_behind
            a_drain_waits_for_a_command
            python_agrees
        ]
    }
}

mod datagrams {
    table! {
        sequential [udp4 udp6 unix_datagram]
        threading [udp4 udp6 unix_datagram]
        forking_style [udp4 udp6 unix_datagram]
        event_loop [udp4 udp6 unix_datagram]
        => [
            a_datagram_is_answered_by_one
            a_datagrams_command_has_limits
            a_drain_leaves_nothing_of_a_datagram_behind
        ]
    }
}

fn commands_are_answered_in_order(cell: Cell) {
    let server = start(cell, &[]);
    let mut client = server.connect();
    let commands = ["echo one", "printf problem >&2; exit 3", "kill -9 $$", "", "cat", "-no-option", "printf 'grüße'"];
    let requests: Vec<u8> = commands.iter().flat_map(|command| frame(command.as_bytes())).collect();
    client.write_all(&requests).unwrap();
    client.half_close().unwrap();
    assert_eq!(take_reply(&mut client), (json!(0), "one\n".into(), "".into(), Value::Null));
    assert_eq!(take_reply(&mut client), (json!(3), "".into(), "problem".into(), Value::Null));
    assert_eq!(take_reply(&mut client), (json!(137), "".into(), "".into(), Value::Null));
    assert_eq!(take_reply(&mut client), (json!(0), "".into(), "".into(), Value::Null));
    // Its input is empty.
    assert_eq!(take_reply(&mut client), (json!(0), "".into(), "".into(), Value::Null));
    assert_eq!(take_reply(&mut client).0, json!(127));
    assert_eq!(take_reply(&mut client).1, "grüße");
    assert_eq!(client.read_all(), b"");
}

fn a_command_in_pieces_is_one_command(cell: Cell) {
    let server = start(cell, &[]);
    let mut client = server.connect();
    for byte in frame(b"echo together") {
        client.write_all(&[byte]).unwrap();
    }
    assert_eq!(take_reply(&mut client).1, "together\n");
}

fn output_is_not_held_whole(cell: Cell) {
    let server = start(cell, &[]);
    let mut client = server.connect();
    client.write_all(&frame(b"head -c 50000000 /dev/zero; head -c 10000000 /dev/zero >&2")).unwrap();
    let header = take_json(&mut client);
    assert_eq!(header, json!({"status": 0, "stdout": 50_000_000, "stderr": 10_000_000}));
    for _ in 0..60 {
        assert!(client.take_bytes(1_000_000).iter().all(|byte| *byte == 0));
    }
    let most = server.program.most_memory();
    assert!(most < 40 << 20, "{most} bytes");
    assert_works(&mut client);
}

fn what_is_no_command_is_told_and_the_next_one_runs(cell: Cell) {
    let server = start(cell, &[]);
    let mut client = server.connect();
    for (command, error) in [(&b"echo \xff"[..], "UTF-8"), (b"echo \0", "nul byte")] {
        client.write_all(&frame(command)).unwrap();
        let (status, stdout, stderr, said) = take_reply(&mut client);
        assert_eq!((status, stdout, stderr), (json!(255), "".into(), "".into()));
        assert!(said.as_str().is_some_and(|said| said.contains(error)), "{said}");
    }
    assert_works(&mut client);
}

fn rubbish_is_told_and_closed(cell: Cell) {
    let server = start(cell, &[]);
    let mut bystander = bystander(&server, cell);
    let long = ("a command that is longer than any can be", frame(&[b'x'; 128 * 1024]), Then::Wait);
    for (what, bytes, then) in rubbish().into_iter().chain([long]) {
        let last = last_json(server.connect(), bytes, then);
        assert_eq!(last["status"], 255, "{what}: {last}");
        assert!(last["error"].as_str().is_some_and(|error| error.contains("frame")), "{what}: {last}");
    }
    bystander.as_mut().map(assert_works);
    drop(bystander);
    assert_works(&mut server.connect());
}

fn silence_within_a_message_is_told_and_closed(cell: Cell) {
    let server = start(cell, &["--timeout", "1"]);
    let last = last_json(server.connect(), b"\0\0\0\x0aecho".to_vec(), Then::Wait);
    assert!(last["error"].as_str().is_some_and(|error| error.contains("timeout")), "{last}");
    assert_works(&mut server.connect());
}

fn a_reset_within_a_message_disturbs_nobody(cell: Cell) {
    let server = start(cell, &[]);
    let mut bystander = bystander(&server, cell);
    let mut client = server.connect();
    client.write_all(b"\0\0\0\x0aecho").unwrap();
    client.reset();
    bystander.as_mut().map(assert_works);
    drop(bystander);
    assert_works(&mut server.connect());
}

/// Neither the command nor its children listen to SIGTERM.
fn the_limit_kills_the_whole_group(cell: Cell) {
    let server = start(cell, &["--limit", "2"]);
    let mut client = server.connect();
    let command = "trap '' TERM; (trap '' TERM; sleep 1000) & sleep 1000 & echo $$; wait";
    let began = Instant::now();
    client.write_all(&frame(command.as_bytes())).unwrap();
    let (status, stdout, _, error) = take_reply(&mut client);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(status, json!(137));
    assert_eq!(error, json!("killed: it took longer than 2 s"));
    assert_group_is_gone(&stdout);
    assert_works(&mut client);
}

/// Nor does one that holds the output open delay the reply.
fn children_do_not_outlive_their_command(cell: Cell) {
    let server = start(cell, &["--limit", "600"]);
    let mut client = server.connect();
    client.write_all(&frame(b"sleep 1000 & echo $$; exit 4")).unwrap();
    let (status, stdout, _, error) = take_reply(&mut client);
    assert_eq!((status, error), (json!(4), Value::Null));
    assert_group_is_gone(&stdout);
}

fn too_much_output_is_the_end(cell: Cell) {
    let server = start(cell, &["--limit", "600", "--max-output", "100000"]);
    let mut client = server.connect();
    client.write_all(&frame(b"echo $$; yes & yes; echo never")).unwrap();
    let (status, stdout, _, error) = take_reply(&mut client);
    assert_eq!((status, error), (json!(137), json!("killed: it wrote more than 100000 bytes")));
    assert!((100_001..=100_000 + 64 * 1024).contains(&stdout.len()), "{}", stdout.len());
    assert_group_is_gone(stdout.lines().next().unwrap());
    assert_works(&mut client);
}

fn a_reset_kills_the_command(cell: Cell) {
    let server = start(cell, &["--limit", "600"]);
    let running = Running::begin(&server);
    let group = running.group();
    running.client.reset();
    assert_group_is_gone(&group);
    assert_works(&mut server.connect());
}

fn a_drain_leaves_nothing_behind(cell: Cell) {
    // The sequential server's only thread is in the command, so nobody is there to cut it off: its limit does that.
    let limit = if cell.backend == BackendName::Sequential { "3" } else { "600" };
    let server = start(cell, &["--limit", limit, "--drain", "0.2"]);
    let running = Running::begin(&server);
    let group = running.group();
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.end().status.code(), Some(0));
    assert_group_is_gone(&group);
}

fn a_drain_waits_for_a_command(cell: Cell) {
    let server = start(cell, &["--limit", "600", "--drain", "600"]);
    let mut running = Running::begin(&server);
    server.program.signal(Signal::TERM);
    server.program.wait_for_stderr("draining");
    fs::write(running.folder.path().join("go"), "").unwrap();
    assert_eq!(take_reply(&mut running.client), (json!(5), "done\n".into(), "".into(), Value::Null));
    assert_eq!(running.client.read_all(), b"");
    assert_eq!(server.program.end().status.code(), Some(0));
}

fn python_agrees(cell: Cell) {
    let server = start(cell, &[]);
    script::run("remote_command_client.py", &[&server.addr.to_string()]);
}

fn a_datagram_is_answered_by_one(cell: Cell) {
    let server = start(cell, &[]);
    let ask = |command: &[u8]| String::from_utf8(server.connect().ask(command)).unwrap();
    assert_eq!(ask(b"echo one; echo two >&2; echo three; exit 3"), "one\ntwo\nthree\n");
    assert_eq!(ask(b"true"), "");
    assert_eq!(ask(b""), "");
    assert_eq!(ask(b"echo \xff"), "error: the command is not UTF-8\n");
    assert!(ask(b"echo \0").starts_with("error: "));
    assert!(ask(b"(").contains("yntax error"));
}

fn a_datagrams_command_has_limits(cell: Cell) {
    let server = start(cell, &["--limit", "600"]);
    let ask = |command: &[u8]| String::from_utf8(server.connect().ask(command)).unwrap();
    // Not the whole of it in a message about its end.
    let same = |got: &str, expected: &str| assert!(got == expected, "{} bytes: {}", got.len(), &got[got.len() - 100..]);
    same(&ask(b"head -c 60000 /dev/zero | tr '\\0' x"), &"x".repeat(60_000));
    let last = "\n[cut: there were 60001 bytes]\n";
    same(&ask(b"head -c 60001 /dev/zero | tr '\\0' x"), &("x".repeat(60_000 - last.len()) + last));
    let server = start(cell, &["--limit", "2"]);
    let ask = |command: &[u8]| String::from_utf8(server.connect().ask(command)).unwrap();
    let group = ask(b"trap '' TERM; sleep 1000 & printf $$; wait");
    let group = group.strip_suffix("\n[killed: it took longer than 2 s]\n").unwrap_or_else(|| panic!("{group:?}"));
    assert_group_is_gone(group);
}

fn a_drain_leaves_nothing_of_a_datagram_behind(cell: Cell) {
    let limit = if cell.backend == BackendName::Sequential { "3" } else { "600" };
    let server = start(cell, &["--limit", limit, "--drain", "0.2"]);
    let running = Running::begin(&server);
    let group = running.group();
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.end().status.code(), Some(0));
    assert_group_is_gone(&group);
}

#[test]
fn a_command_does_not_hold_the_event_loop() {
    let cell = Cell { backend: BackendName::EventLoop, kind: Kind::Tcp4 };
    let server = start(cell, &["--workers", "1", "--limit", "600"]);
    let mut running = Running::begin(&server);
    assert_works(&mut server.connect());
    fs::write(running.folder.path().join("go"), "").unwrap();
    assert_eq!(take_reply(&mut running.client).1, "done\n");
}

#[test]
fn only_this_machine_can_connect_unless_told_otherwise() {
    for bind in ["tcp://0.0.0.0:0", "udp://0.0.0.0:0", "tcp://[::]:0", "tcp://192.0.2.1:0"] {
        let ended = Program::start("remote_command", &["--bind", bind]).end();
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert_eq!(ended.stdout, [""; 0]);
        let message = format!("error: {bind} is not a loopback address");
        assert!(ended.stderr.len() == 1 && ended.stderr[0].starts_with(&message), "{ended:?}");
        assert!(ended.stderr[0].contains("--allow-remote"), "{ended:?}");
    }
    let server = Program::start("remote_command", &["--bind", "tcp://0.0.0.0:0", "--allow-remote"]);
    assert!(server.stdout_line().starts_with("listening on tcp://0.0.0.0:"));
}

#[track_caller]
fn start(cell: Cell, arguments: &[&str]) -> Served {
    Served::start("remote_command", cell, arguments)
}

/// Somebody who is connected while others misbehave, where there can be one.
fn bystander(server: &Served, cell: Cell) -> Option<Client> {
    cell.is_concurrent().then(|| {
        let mut client = server.connect();
        assert_works(&mut client);
        client
    })
}

#[track_caller]
fn assert_works(client: &mut Client) {
    client.write_all(&frame(b"echo works")).unwrap();
    assert_eq!(take_reply(client), (json!(0), "works\n".into(), "".into(), Value::Null));
}

/// Status, output, error output, and what the server has to say.
#[track_caller]
fn take_reply(client: &mut Client) -> (Value, String, String, Value) {
    let header = take_json(client);
    let [stdout, stderr] = ["stdout", "stderr"].map(|stream| {
        let count = header[stream].as_u64().unwrap_or_else(|| panic!("{header}")) as usize;
        String::from_utf8(client.take_bytes(count)).expect("text")
    });
    (header["status"].clone(), stdout, stderr, header["error"].clone())
}

/// A command that runs, and ends when there is a file `go` in its folder.
struct Running {
    client: Client,
    folder: tempfile::TempDir,
}

impl Running {
    #[track_caller]
    fn begin(server: &Served) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let mut client = server.connect();
        let command = format!(
            "sleep 1000 & cd {} && echo $$ >new && mv new group && until [ -e go ]; do sleep 0.05; done; \
             echo done; exit 5",
            folder.path().display()
        );
        let is_datagram = matches!(server.addr.scheme(), socketserver::Scheme::Udp | socketserver::Scheme::Unixgram);
        let request = if is_datagram { command.into_bytes() } else { frame(command.as_bytes()) };
        client.write_all(&request).unwrap();
        until("the beginning of the command", || folder.path().join("group").exists());
        Running { client, folder }
    }

    fn group(&self) -> String {
        fs::read_to_string(self.folder.path().join("group")).unwrap()
    }
}

/// Waits until nothing of a process group runs any more. The command itself must have left the process table, too; its orphans
/// leave it when the system's first process comes to reap them.
#[track_caller]
fn assert_group_is_gone(group: &str) {
    let group = group.trim();
    assert!(group.parse::<u32>().is_ok(), "{group:?}");
    until("the end of a process group", || !exists(group));
}

fn exists(group: &str) -> bool {
    let stats = fs::read_dir("/proc").expect("Linux shows the processes").flatten();
    let mut stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.any(|stat| {
        // `PID (NAME) STATE PARENT GROUP ..`, and the name may contain anything.
        let Some((process, fields)) = stat.rsplit_once(") ") else { return false };
        let fields: Vec<&str> = fields.split(' ').collect();
        let is_leader = process.split(' ').next() == Some(group);
        fields[2] == group && (fields[0] != "Z" || is_leader)
    })
}
