//! The example `chat`, on every server that can serve it.

mod support;

#[path = "support/example.rs"]
mod example;
#[path = "support/program.rs"]
mod program;
#[path = "support/script.rs"]
mod script;
#[macro_use]
#[path = "support/served.rs"]
mod served;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Signal};
use served::Served;
use support::PATIENCE;
use support::cell::Cell;
use support::client::Client;

mod everywhere {
    table! {
        sequential [udp4 udp6 unix_datagram]
        threading [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        forking_style [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        event_loop [tcp4 tcp6 unix_stream udp4 udp6 unix_datagram]
        => [
            a_line_goes_to_everybody_else
            comings_and_goings_are_told
            a_nick_that_will_not_do_may_be_tried_again
            commands_are_understood
            what_is_no_text_is_refused_and_the_talk_goes_on
            python_agrees
        ]
    }
}

mod connections {
    table! {
        threading [tcp4 unix_stream]
        forking_style [tcp4 unix_stream]
        event_loop [tcp4 unix_stream]
        => [
            whoever_ends_the_connection_leaves
            the_last_line_needs_no_end
            half_a_line_and_a_reset_say_nothing
            an_endless_line_is_refused_and_the_connection_closed
            who_does_not_read_is_dropped_with_a_notice
            who_is_dropped_is_closed_in_the_end
            a_drain_says_goodbye
        ]
    }
}

mod datagrams {
    table! {
        sequential [udp4 unix_datagram]
        threading [udp4 unix_datagram]
        forking_style [udp4 unix_datagram]
        event_loop [udp4 unix_datagram]
        => [
            a_silent_peer_is_forgotten
            a_long_line_is_refused
        ]
    }
}

mod a_line_at_a_time {
    table! {
        sequential [udp4 unix_datagram]
        => [what_may_be_a_complaint_gets_no_answer]
    }
}

/// What peers have not read does not fill the server's own buffer there.
mod udp_crowds {
    table! {
        sequential [udp4]
        => [
            a_list_that_is_too_long_is_cut
            a_full_room_takes_nobody
        ]
    }
}

mod unix_datagrams {
    table! {
        sequential [unix_datagram]
        threading [unix_datagram]
        forking_style [unix_datagram]
        event_loop [unix_datagram]
        => [
            a_peer_that_is_gone_has_left
            a_peer_that_does_not_read_is_dropped
            a_peer_without_a_name_is_ignored
        ]
    }
}

mod one_at_a_time {
    table! {
        sequential [tcp4 unix_stream]
        => [the_next_member_waits]
    }
}

mod crowds {
    table! {
        event_loop [tcp4 unix_stream]
        => [a_thousand_members_hear_each_line]
    }
}

fn a_line_goes_to_everybody_else(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob, mut carol] = Person::all_join(&room, ["alice", "bob", "carol"]);
    alice.says("hello");
    bob.hears(&["alice: hello"]);
    carol.hears(&["alice: hello"]);
    bob.says("grüße, \tall: 1 < 2 \r");
    // Had she heard herself, that would be before this.
    alice.hears(&["bob: grüße, \tall: 1 < 2 "]);
    carol.hears(&["bob: grüße, \tall: 1 < 2 "]);
}

fn comings_and_goings_are_told(cell: Cell) {
    let room = room(cell);
    let mut alice = Person::join(&room, "alice");
    for _ in 0..3 {
        let mut bob = Person::join(&room, "bob");
        alice.hears(&["* bob joined"]);
        bob.says("/quit");
        alice.hears(&["* bob left"]);
        if cell.is_stream() {
            assert_eq!(bob.line(), "");
        }
    }
}

fn a_nick_that_will_not_do_may_be_tried_again(cell: Cell) {
    let room = room(cell);
    let mut alice = Person::join(&room, "alice");
    let mut bob = Person::new(&room);
    let (length, start) = ("! a nick has 1 to 32 characters", "! a nick does not begin with *, ! or /");
    let one_word = "! a nick has no space, colon or comma";
    for (nick, complaint) in [
        (&b"alice"[..], "! nick taken"),
        (b" alice ", "! nick taken"),
        (b"   ", length),
        ("ü".repeat(33).as_bytes(), length),
        (b"a\x1b[2J", "! no control characters, please"),
        (b"a\0", "! no control characters, please"),
        (b"\xff\xfe", "! this is not UTF-8"),
        (b"/who", start),
        (b"* alice", start),
        (b"alice: hello", one_word),
        (b"alice:", one_word),
        (b"alice left;", one_word),
        ("alice\u{a0}".repeat(2).as_bytes(), one_word),
        (b"alice,carol", one_word),
    ] {
        bob.sends(nick);
        bob.hears(&[complaint]);
    }
    if cell.is_stream() {
        bob.says("");
        bob.says("!");
        bob.hears(&[length, start]);
    }
    let nick = "\u{1F600}".repeat(32);
    bob.says(&nick);
    alice.hears(&[&format!("* {nick} joined")]);
    // The same letters in another case are another nick.
    let _other = Person::join(&room, "Alice");
    for person in [&mut alice, &mut bob] {
        person.hears(&["* Alice joined"]);
    }
    alice.says("hi");
    bob.hears(&["alice: hi"]);
}

fn commands_are_understood(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob] = Person::all_join(&room, ["alice", "bob"]);
    for (command, answer) in [
        ("/who", "* 2 here: alice, bob"),
        ("/who is here", "* 2 here: alice, bob"),
        ("/me", "! say what you do: /me TEXT"),
        ("/me  ", "! say what you do: /me TEXT"),
        ("/dance", "! unknown command: there are /who, /me TEXT and /quit"),
        ("/", "! unknown command: there are /who, /me TEXT and /quit"),
    ] {
        alice.says(command);
        alice.hears(&[answer]);
    }
    alice.says("");
    alice.says("/me waves");
    bob.hears(&["* alice waves"]);
    alice.says("/quit");
    bob.hears(&["* alice left"]);
    bob.says("/who");
    bob.hears(&["* 1 here: bob"]);
}

fn what_is_no_text_is_refused_and_the_talk_goes_on(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob] = Person::all_join(&room, ["alice", "bob"]);
    for (rubbish, complaint) in [
        (&b"caf\xe9"[..], "! this is not UTF-8"),
        (b"/me \xc3\x28", "! this is not UTF-8"),
        (b"x\rbob: I am alice", "! no control characters, please"),
        (b"\x1b[2J", "! no control characters, please"),
    ] {
        bob.sends(rubbish);
        bob.hears(&[complaint]);
    }
    bob.says("sorry");
    alice.hears(&["bob: sorry"]);
}

fn python_agrees(cell: Cell) {
    let room = room(cell);
    script::run("chat_client.py", &[&room.addr.to_string()]);
}

fn whoever_ends_the_connection_leaves(cell: Cell) {
    let room = room(cell);
    let [mut alice, bob] = Person::all_join(&room, ["alice", "bob"]);
    drop(bob);
    alice.hears(&["* bob left"]);
    // Who never said a nick is no news.
    let mut nobody = Person::new(&room);
    nobody.client.half_close().unwrap();
    assert_eq!(nobody.line(), "");
    alice.says("/who");
    alice.hears(&["* 1 here: alice"]);
}

fn the_last_line_needs_no_end(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob] = Person::all_join(&room, ["alice", "bob"]);
    bob.client.write_all(b"bye").unwrap();
    bob.client.half_close().unwrap();
    alice.hears(&["bob: bye", "* bob left"]);
}

fn half_a_line_and_a_reset_say_nothing(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob, mut carol] = Person::all_join(&room, ["alice", "bob", "carol"]);
    alice.says("unread");
    carol.hears(&["alice: unread"]);
    bob.client.write_all(b"half a li").unwrap();
    // What bob has not read makes this a reset.
    drop(bob);
    alice.hears(&["* bob left"]);
    carol.hears(&["* bob left"]);
    carol.says("fine");
    alice.hears(&["carol: fine"]);
}

fn an_endless_line_is_refused_and_the_connection_closed(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob, mut carol] = Person::all_join(&room, ["alice", "bob", "carol"]);
    let mut writer = bob.client.duplicate();
    let writing = std::thread::spawn(move || {
        // It fails when the server has heard enough.
        let _ = writer.write_all(&vec![b'x'; 10_000_000]);
        let _ = writer.half_close();
    });
    bob.hears(&["! a line has up to 4096 bytes; goodbye"]);
    alice.hears(&["* bob left"]);
    carol.hears(&["* bob left"]);
    alice.says("as I said");
    carol.hears(&["alice: as I said"]);
    writing.join().unwrap();
    assert!(bob.client.is_hung_up());
    // The longest line that there may be.
    let line = "x".repeat(4096);
    alice.says(&line);
    carol.hears(&[&format!("alice: {line}")]);
}

fn who_does_not_read_is_dropped_with_a_notice(cell: Cell) {
    let room = room(cell);
    let (mut alice, mut bob, mut slow) = with_somebody_slow(&room);
    fill_up(&mut alice, &mut bob);
    alice.hears(&["* slow left (reads too slowly)"]);
    alice.says("/who");
    alice.hears(&["* 2 here: alice, bob"]);
    // Another one may have the nick while the first is still there.
    let mut second = Person::join(&room, "slow");
    alice.hears(&["* slow joined"]);

    let mut last = slow.line();
    while last.starts_with("alice: ") || last == "* bob joined" {
        last = slow.line();
    }
    assert_eq!(last, "! you read too slowly, and are out");
    slow.says("let me in again");
    // Something of it may be unread when the server closes.
    assert!(slow.client.is_hung_up());
    bob.hears(&["* slow joined"]);
    second.says("I am the other one");
    alice.hears(&["slow: I am the other one"]);
    bob.hears(&["slow: I am the other one"]);
}

/// Also if it still does not read.
fn who_is_dropped_is_closed_in_the_end(cell: Cell) {
    let room = room(cell);
    let (mut alice, mut bob, mut slow) = with_somebody_slow(&room);
    fill_up(&mut alice, &mut bob);
    room.program.wait_for_stderr("read too slowly and was dropped");
    assert!(slow.client.is_hung_up());
}

/// Alice and bob, and one who will not read.
fn with_somebody_slow(room: &Served) -> (Person, Person, Person) {
    let mut alice = Person::join(room, "alice");
    let client = Client::open(&room.addr);
    // As little as the system lets wait on the way to a client.
    rustix::net::sockopt::set_socket_recv_buffer_size(&client, 4096).unwrap();
    client.join().unwrap();
    let mut slow = Person::of(client);
    slow.joins("slow");
    let bob = Person::join(room, "bob");
    alice.hears(&["* slow joined", "* bob joined"]);
    (alice, bob, slow)
}

/// Alice talks until there is no room for more on the way to the slow one. Bob hears every word of it.
fn fill_up(alice: &mut Person, bob: &mut Person) {
    // More than all buffers between two processes hold.
    for number in 0..5000 {
        let text = format!("{number} {}", "x".repeat(4000));
        alice.says(&text);
        let heard = bob.line();
        assert_eq!(heard, format!("alice: {text}"));
        // Whatever the line caused was sent before the answer to this.
        bob.says("/who");
        let heard = bob.line();
        if heard == "* slow left (reads too slowly)" {
            bob.hears(&["* 2 here: alice, bob"]);
            return;
        }
        assert_eq!(heard, "* 3 here: alice, bob, slow");
    }
    panic!("20 MB were not too much for somebody who does not read");
}

fn a_drain_says_goodbye(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob] = Person::all_join(&room, ["alice", "bob"]);
    room.program.signal(Signal::TERM);
    for person in [&mut alice, &mut bob] {
        person.hears(&["* the server is closing", ""]);
    }
    let ended = room.program.end();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(!ended.stderr.iter().any(|line| line.contains("ERROR")), "{ended:?}");
}

fn a_silent_peer_is_forgotten(cell: Cell) {
    let room = Served::start("chat", cell, &["--idle", "2"]);
    // No sign of life of hers is before this.
    let began = Instant::now();
    let mut alice = Person::join(&room, "alice");
    let mut bob = Person::join(&room, "bob");
    alice.hears(&["* bob joined"]);
    bob.client.read_timeout(Duration::from_millis(50));
    let news = bob.hears_while_alive();
    assert_eq!(news, "* alice left");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());

    bob.client.read_timeout(PATIENCE);
    alice.says("still-here");
    bob.hears(&["* still-here joined"]);
}

fn a_long_line_is_refused(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob] = Person::all_join(&room, ["alice", "bob"]);
    bob.says(&"x".repeat(4097));
    bob.hears(&["! a line has up to 4096 bytes"]);
    let line = "x".repeat(4096);
    bob.says(&line);
    alice.hears(&[&format!("bob: {line}")]);
}

/// Otherwise two rooms, each told that the other one talks to it, would never stop.
fn what_may_be_a_complaint_gets_no_answer(cell: Cell) {
    let room = room(cell);
    let mut stranger = Person::new(&room);
    for complaint in ["! nick taken", "!", ""] {
        stranger.says(complaint);
    }
    stranger.says("/who");
    stranger.hears(&["! a nick does not begin with *, ! or /"]);
    assert_eq!(stranger.client.packet_at_hand(), None);
}

fn a_list_that_is_too_long_is_cut(cell: Cell) {
    let room = room(cell);
    let crowd: Vec<Person> =
        (10..50).map(|number| Person::join(&room, &format!("{number}{}", "x".repeat(30)))).collect();
    let mut last = Person::join(&room, "last");
    last.says("/who");
    let list = last.line();
    assert!(list.starts_with("* 41 here: 10xxx") && list.ends_with(" more"), "{list}");
    assert!(list.len() < 1200, "{}", list.len());
    let more: usize = list.rsplit(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(list.matches(", ").count(), 41 - more, "{list}");
    drop(crowd);
}

fn a_full_room_takes_nobody(cell: Cell) {
    raise_descriptor_limit();
    let room = room(cell);
    // Nobody reads: the system loses what is too much.
    let mut witness = Person::new(&room);
    let mut crowd = Vec::new();
    for number in 0..1100 {
        let mut person = Person::new(&room);
        person.says(&format!("m{number}"));
        crowd.push(person);
        if number % 5 == 0 {
            // The server has taken in as much as it had been sent.
            witness.says("/");
            witness.hears(&["! a nick does not begin with *, ! or /"]);
        }
    }
    witness.says("last");
    witness.hears(&["! the room is full"]);
}

fn a_peer_that_is_gone_has_left(cell: Cell) {
    let room = room(cell);
    let [mut alice, bob, mut carol] = Person::all_join(&room, ["alice", "bob", "carol"]);
    drop(bob);
    // A process that another test starts may have his socket until it is another program.
    let until = Instant::now() + PATIENCE;
    loop {
        alice.says("bob?");
        match &*carol.line() {
            "* bob left" => break,
            line => assert_eq!(line, "alice: bob?"),
        }
        assert!(Instant::now() < until, "bob is there still");
    }
    alice.hears(&["* bob left"]);
}

fn a_peer_that_does_not_read_is_dropped(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob] = Person::all_join(&room, ["alice", "bob"]);
    // It is not connected: if it were, its queue would have no limit but the server's own buffer.
    let folder = tempfile::tempdir().unwrap();
    let slow = std::os::unix::net::UnixDatagram::bind(folder.path().join("slow")).unwrap();
    slow.send_to(b"slow", room.addr.as_path().unwrap()).unwrap();
    alice.hears(&["* slow joined"]);
    bob.hears(&["* slow joined"]);
    // What the system holds for a socket, and then some.
    for number in 0..2000 {
        alice.says(&number.to_string());
        let heard = bob.line();
        if heard == "* slow left (reads too slowly)" {
            assert!(number > 64, "dropped after {number} lines");
            alice.hears(&["* slow left (reads too slowly)"]);
            return;
        }
        assert_eq!(heard, format!("alice: {number}"));
    }
    panic!("2000 lines were not too many for somebody who does not read");
}

fn a_peer_without_a_name_is_ignored(cell: Cell) {
    let room = room(cell);
    let mut alice = Person::join(&room, "alice");
    let nameless = std::os::unix::net::UnixDatagram::unbound().unwrap();
    nameless.send_to(b"nobody", room.addr.as_path().unwrap()).unwrap();
    alice.says("/who");
    alice.hears(&["* 1 here: alice"]);
}

fn the_next_member_waits(cell: Cell) {
    let room = room(cell);
    let mut alice = Person::join(&room, "alice");
    let mut bob = Person::new(&room);
    bob.says("bob");
    bob.says("/who");
    alice.says("/who");
    alice.hears(&["* 1 here: alice"]);
    alice.says("/quit");
    bob.hears(&["* 1 here: bob"]);
}

fn a_thousand_members_hear_each_line(cell: Cell) {
    raise_descriptor_limit();
    let room = room(cell);
    let mut first = Person::join(&room, "m0");
    let mut others: Vec<Person> = (1..1000).map(|_| Person::new(&room)).collect();
    for (number, person) in others.iter_mut().enumerate() {
        person.says(&format!("m{}", number + 1));
    }
    // Each of them joins, and is news.
    let mut joined: Vec<String> = (1..1000).map(|_| first.line()).collect();
    joined.sort();
    let mut expected: Vec<String> = (1..1000).map(|number| format!("* m{number} joined")).collect();
    expected.sort();
    assert_eq!(joined, expected);

    first.says("hello, all");
    for person in &mut others {
        assert_eq!(person.skips_arrivals(), "m0: hello, all");
    }
    others[500].says("hello to you");
    first.hears(&["m501: hello to you"]);
    for number in (0..999).filter(|number| *number != 500) {
        assert_eq!(others[number].line(), "m501: hello to you");
    }
}

/// A room for as many as a test needs.
#[track_caller]
fn room(cell: Cell) -> Served {
    Served::start("chat", cell, &[])
}

/// Lets this process, and those that it starts, have as many descriptors as the system allows it.
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
}

/// Somebody who talks, by a connection or by datagrams: each is a line with its end.
struct Person {
    client: Client,
    /// Lines that came and were not asked for yet.
    ears: BufReader<Client>,
}

impl Person {
    /// Somebody without a nick.
    #[track_caller]
    fn new(room: &Served) -> Person {
        Person::of(room.connect())
    }

    fn of(client: Client) -> Person {
        // As long as any datagram of a room.
        let ears = BufReader::with_capacity(8192, client.duplicate());
        Person { client, ears }
    }

    #[track_caller]
    fn join(room: &Served, nick: &str) -> Person {
        let mut person = Person::new(room);
        person.joins(nick);
        person
    }

    /// One after another. Each has heard of those who came after.
    #[track_caller]
    fn all_join<const N: usize>(room: &Served, nicks: [&str; N]) -> [Person; N] {
        let mut all = nicks.map(|_| Person::new(room));
        for (number, nick) in nicks.iter().enumerate() {
            let (here, coming) = all.split_at_mut(number);
            coming[0].joins(nick);
            here.iter_mut().for_each(|person| person.hears(&[&format!("* {nick} joined")]));
        }
        all
    }

    /// Says the nick, and waits until it is in the list of who is here.
    #[track_caller]
    fn joins(&mut self, nick: &str) {
        self.says(nick);
        // Two datagrams may change places on their way through the server.
        loop {
            self.says("/who");
            let answer = self.line();
            if answer.contains(" here: ") {
                return;
            }
            assert_eq!(answer, "! a nick does not begin with *, ! or /");
        }
    }

    #[track_caller]
    fn says(&mut self, line: &str) {
        self.sends(line.as_bytes());
    }

    #[track_caller]
    fn sends(&mut self, line: &[u8]) {
        self.client.write_all(&[line, b"\n"].concat()).expect("the room hears");
    }

    /// Waits for these lines, one after another.
    #[track_caller]
    fn hears(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line(), *line);
        }
    }

    /// The next line without its end; nothing at the end of the connection.
    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.ears.read_line(&mut line).expect("a line comes");
        line.truncate(line.trim_end_matches('\n').len());
        line
    }

    #[track_caller]
    fn skips_arrivals(&mut self) -> String {
        loop {
            let line = self.line();
            if !(line.starts_with("* ") && line.ends_with(" joined")) {
                return line;
            }
        }
    }

    /// The next line, while it shows now and then that it is alive.
    #[track_caller]
    fn hears_while_alive(&mut self) -> String {
        let until = Instant::now() + PATIENCE;
        let mut packet = [0; 100];
        while Instant::now() < until {
            self.client.write_all(b"").unwrap();
            match self.client.read(&mut packet) {
                Ok(count) => return String::from_utf8_lossy(&packet[..count]).trim_end().to_string(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        panic!("nothing came within {PATIENCE:?}");
    }
}
