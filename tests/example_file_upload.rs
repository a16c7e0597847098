//! The example `file_upload`, on every server.

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
use std::path::Path;

use framed::{Then, frame, last_json, rubbish, take_json};
use program::Program;
use rustix::process::Signal;
use serde_json::{Value, json};
use served::Served;
use sha2::{Digest, Sha256};
use support::cell::Cell;
use support::client::Client;
use support::until;
use tempfile::TempDir;

table! {
    sequential [tcp4 tcp6 unix_stream]
    threading [tcp4 tcp6 unix_stream]
    forking_style [tcp4 tcp6 unix_stream]
    event_loop [tcp4 tcp6 unix_stream]
    => [
        files_are_kept
        a_large_file_takes_little_memory
        bad_names_are_refused_and_the_next_file_is_kept
        a_name_is_given_once
        overwriting_has_to_be_allowed
        what_is_not_what_it_should_be_is_not_kept
        a_file_that_is_too_large_is_refused_at_once
        nothing_is_left_of_an_upload_that_is_broken_off
        silence_within_a_file_is_told_and_closed
        rubbish_is_told_and_closed
        a_drain_waits_for_an_upload
        an_upload_that_a_drain_cuts_off_leaves_nothing
        python_agrees
    ]
}

/// A server and its folder.
struct Uploads {
    server: Served,
    folder: TempDir,
}

impl Uploads {
    #[track_caller]
    fn start(cell: Cell, arguments: &[&str]) -> Uploads {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("made/here");
        let arguments = [&["--dir", dir.to_str().unwrap()], arguments].concat();
        Uploads { server: Served::start("file_upload", cell, &arguments), folder }
    }

    fn connect(&self) -> Client {
        self.server.connect()
    }

    /// All names in the folder, also those that are not listed usually.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("made/here")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn content(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join("made/here").join(name)).unwrap()
    }

    /// A client whose upload has begun: there is a file.
    #[track_caller]
    fn begin(&self, name: &str, content: &[u8], half: usize) -> Client {
        let before = self.names().len();
        let mut client = self.connect();
        client.write_all(&header(name, content)).unwrap();
        client.write_all(&content[..half]).unwrap();
        until("the beginning of an upload", || self.names().len() > before);
        client
    }

    /// Somebody can still send a file.
    #[track_caller]
    fn assert_works(&self) {
        let name = "still works";
        let mut client = self.connect();
        client.write_all(&upload(name, b"hello")).unwrap();
        assert_eq!(take_json(&mut client), json!({"ok": true}));
        assert_eq!(self.content(name), b"hello");
        fs::remove_file(self.folder.path().join("made/here").join(name)).unwrap();
    }
}

fn header(name: &str, content: &[u8]) -> Vec<u8> {
    frame(json!({"name": name, "size": content.len(), "sha256": sha256(content)}).to_string().as_bytes())
}

fn upload(name: &str, content: &[u8]) -> Vec<u8> {
    [header(name, content), content.to_vec()].concat()
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn assert_refused(reply: &Value, why: &str) {
    assert_eq!(reply["ok"], false, "{reply}");
    assert!(reply["error"].as_str().is_some_and(|error| error.contains(why)), "{why}: {reply}");
}

fn files_are_kept(cell: Cell) {
    let uploads = Uploads::start(cell, &[]);
    let long: Vec<u8> = (0..=255).cycle().take(700_001).collect();
    let files = [("empty", &b""[..]), ("one", b"1"), ("long", &long), ("ä name with spaces.txt", b"text\n")];
    let mut client = uploads.connect();
    let mut writer = client.duplicate();
    let requests: Vec<u8> = files.iter().flat_map(|(name, content)| upload(name, content)).collect();
    let writing = std::thread::spawn(move || writer.write_all(&requests).unwrap());
    for _ in files {
        assert_eq!(take_json(&mut client), json!({"ok": true}));
    }
    writing.join().unwrap();
    client.half_close().unwrap();
    assert_eq!(client.read_all(), b"");
    assert_eq!(uploads.names(), ["empty", "long", "one", "ä name with spaces.txt"]);
    for (name, content) in files {
        assert!(uploads.content(name) == content, "{name}");
    }
}

fn a_large_file_takes_little_memory(cell: Cell) {
    const PIECES: usize = 64;
    let uploads = Uploads::start(cell, &[]);
    let piece: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut hash = Sha256::new();
    (0..PIECES).for_each(|_| hash.update(&piece));
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
    let mut client = uploads.connect();
    let header = json!({"name": "large", "size": PIECES << 20, "sha256": sha256, "more": "is ignored"});
    client.write_all(&frame(header.to_string().as_bytes())).unwrap();
    (0..PIECES).for_each(|_| client.write_all(&piece).unwrap());
    assert_eq!(take_json(&mut client), json!({"ok": true}));
    let most = uploads.server.program.most_memory();
    assert!(most < 40 << 20, "{most} bytes");
    let path = uploads.folder.path().join("made/here/large");
    assert_eq!(fs::metadata(path).unwrap().len(), (PIECES << 20) as u64);
}

fn bad_names_are_refused_and_the_next_file_is_kept(cell: Cell) {
    let uploads = Uploads::start(cell, &[]);
    let mut client = uploads.connect();
    let long = "x".repeat(256);
    for (name, why) in [
        ("", "empty"),
        (".", "dot"),
        ("..", "dot"),
        (".hidden", "dot"),
        ("../escape", "dot"),
        ("a/b", "separator"),
        ("/etc/passwd", "separator"),
        ("a/../../b", "separator"),
        ("a\\b", "separator"),
        ("nul\0", "control"),
        ("line\nfeed", "control"),
        (&long, "255"),
    ] {
        client.write_all(&upload(name, b"content")).unwrap();
        assert_refused(&take_json(&mut client), why);
    }
    client.write_all(&upload("good", b"content")).unwrap();
    assert_eq!(take_json(&mut client), json!({"ok": true}));
    assert_eq!(uploads.names(), ["good"]);
}

fn a_name_is_given_once(cell: Cell) {
    let uploads = Uploads::start(cell, &[]);
    if !cell.is_concurrent() {
        let mut client = uploads.connect();
        client.write_all(&[upload("name", b"first"), upload("name", b"second")].concat()).unwrap();
        assert_eq!(take_json(&mut client), json!({"ok": true}));
        assert_refused(&take_json(&mut client), "there is a file of that name");
        assert_eq!((uploads.names(), uploads.content("name")), (vec!["name".to_string()], b"first".to_vec()));
        return;
    }
    // Both have begun when none of them is there: it is decided at the end.
    let mut first = uploads.begin("name", b"first", 3);
    let mut second = uploads.begin("name", b"second", 3);
    second.write_all(b"ond").unwrap();
    assert_eq!(take_json(&mut second), json!({"ok": true}));
    first.write_all(b"st").unwrap();
    assert_refused(&take_json(&mut first), "there is a file of that name");
    assert_eq!((uploads.names(), uploads.content("name")), (vec!["name".to_string()], b"second".to_vec()));
    // That was no reason to close the connection.
    first.write_all(&upload("another name", b"first")).unwrap();
    assert_eq!(take_json(&mut first), json!({"ok": true}));
}

fn overwriting_has_to_be_allowed(cell: Cell) {
    let uploads = Uploads::start(cell, &["--overwrite"]);
    fs::create_dir(uploads.folder.path().join("made/here/folder")).unwrap();
    let mut client = uploads.connect();
    for content in [&b"first"[..], b"second"] {
        client.write_all(&upload("name", content)).unwrap();
        assert_eq!(take_json(&mut client), json!({"ok": true}));
        assert_eq!(uploads.content("name"), content);
    }
    // The system's answer.
    client.write_all(&upload("folder", b"a file")).unwrap();
    assert_refused(&take_json(&mut client), "irectory");
    assert_eq!(uploads.names(), ["folder", "name"]);
}

fn what_is_not_what_it_should_be_is_not_kept(cell: Cell) {
    let uploads = Uploads::start(cell, &[]);
    let mut client = uploads.connect();
    for (sha256, why) in [
        (sha256(b"other"), "another sha256"),
        (String::new(), "64 hex"),
        ("g".repeat(64), "64 hex"),
        ("0".repeat(65), "64 hex"),
    ] {
        let header = json!({"name": "name", "size": 7, "sha256": sha256});
        client.write_all(&[frame(header.to_string().as_bytes()), b"content".to_vec()].concat()).unwrap();
        assert_refused(&take_json(&mut client), why);
    }
    assert_eq!(uploads.names(), [""; 0]);
    uploads_after(&mut client);
}

/// The connection is still good.
#[track_caller]
fn uploads_after(client: &mut Client) {
    client.write_all(&upload("after that", b"content")).unwrap();
    assert_eq!(take_json(client), json!({"ok": true}));
}

fn a_file_that_is_too_large_is_refused_at_once(cell: Cell) {
    let uploads = Uploads::start(cell, &["--max-size", "1000"]);
    let mut client = uploads.connect();
    client.write_all(&upload("just right", &[b'x'; 1000])).unwrap();
    assert_eq!(take_json(&mut client), json!({"ok": true}));
    client.write_all(&header("too large", &[b'x'; 1001])).unwrap();
    assert_refused(&take_json(&mut client), "1001 bytes are more than the 1000");
    assert_eq!(client.read_all(), b"");
    let huge = json!({"name": "huge", "size": u64::MAX, "sha256": "0".repeat(64)}).to_string();
    assert_refused(&last_json(uploads.connect(), frame(huge.as_bytes()), Then::Wait), "more than");
    assert_eq!(uploads.names(), ["just right"]);
}

fn nothing_is_left_of_an_upload_that_is_broken_off(cell: Cell) {
    let uploads = Uploads::start(cell, &[]);
    let content = vec![b'x'; 600_000];
    let mut client = uploads.begin("half", &content, 300_000);
    client.half_close().unwrap();
    assert_refused(&take_json(&mut client), "ended in the middle");
    assert_eq!(client.read_all(), b"");
    assert_eq!(uploads.names(), [""; 0]);

    drop(uploads.begin("closed", &content, 300_000));
    until("the end of a closed upload", || uploads.names().is_empty());
    uploads.begin("reset", &content, 300_000).reset();
    until("the end of an upload that was reset", || uploads.names().is_empty());
    uploads.assert_works();
}

fn silence_within_a_file_is_told_and_closed(cell: Cell) {
    let uploads = Uploads::start(cell, &["--timeout", "1"]);
    for request in [b"\0\0\0\x0a{\"na".to_vec(), header("name", b"content")] {
        assert_refused(&last_json(uploads.connect(), request, Then::Wait), "timeout");
    }
    assert_eq!(uploads.names(), [""; 0]);
    uploads.assert_works();
}

fn rubbish_is_told_and_closed(cell: Cell) {
    let uploads = Uploads::start(cell, &[]);
    let mut bystander = cell.is_concurrent().then(|| uploads.begin("bystander", b"content", 3));
    let before = uploads.names();
    let json = [&b"\xff\xfe"[..], b"", b"[]", b"{\"name\": 7}", b"{\"name\": \"x\", \"size\": -1, \"sha256\": \"\"}"];
    let json = json.map(|json| ("JSON that is none, or another", frame(json), Then::Wait));
    for (what, bytes, then) in rubbish().into_iter().chain(json) {
        let last = last_json(uploads.connect(), bytes, then);
        assert_refused(&last, "frame");
        assert_eq!(uploads.names(), before, "{what}");
    }
    let mut client = uploads.connect();
    client.write_all(b"\0\0\0\x0a{").unwrap();
    client.reset();
    if let Some(bystander) = &mut bystander {
        bystander.write_all(b"tent").unwrap();
        assert_eq!(take_json(bystander), json!({"ok": true}));
    }
    drop(bystander);
    uploads.assert_works();
}

fn a_drain_waits_for_an_upload(cell: Cell) {
    let uploads = Uploads::start(cell, &["--drain", "600"]);
    let mut client = uploads.begin("name", b"content", 3);
    uploads.server.program.signal(Signal::TERM);
    uploads.server.program.wait_for_stderr("draining");
    client.write_all(b"tent").unwrap();
    assert_eq!(take_json(&mut client), json!({"ok": true}));
    assert_eq!(client.read_all(), b"");
    let Uploads { server, folder } = uploads;
    assert_eq!(server.program.end().status.code(), Some(0));
    assert_eq!(fs::read(folder.path().join("made/here/name")).unwrap(), b"content");
}

fn an_upload_that_a_drain_cuts_off_leaves_nothing(cell: Cell) {
    let uploads = Uploads::start(cell, &["--drain", "0.2"]);
    let mut client = uploads.begin("name", b"content", 3);
    uploads.server.program.signal(Signal::TERM);
    let Uploads { server, folder } = uploads;
    assert_eq!(server.program.end().status.code(), Some(0));
    assert!(client.is_hung_up());
    assert_eq!(fs::read_dir(folder.path().join("made/here")).unwrap().count(), 0);
}

fn python_agrees(cell: Cell) {
    let uploads = Uploads::start(cell, &[]);
    if script::run("file_upload_client.py", &[&uploads.server.addr.to_string()]) {
        assert_eq!(uploads.names(), ["empty", "large", "small"]);
    }
}

#[test]
fn files_do_not_come_in_datagrams() {
    for bind in ["udp://127.0.0.1:0", "unixgram:///nowhere"] {
        let ended = Program::start("file_upload", &["--bind", bind]).end();
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(
            ended.stderr.len() == 1 && ended.stderr[0].starts_with("error: files come over a connection"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let dir = Path::new(&file).join("folder");
    let ended = Program::start("file_upload", &["--dir", dir.to_str().unwrap()]).end();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.len() == 1 && ended.stderr[0].starts_with("error: cannot make the folder"), "{ended:?}");
}
