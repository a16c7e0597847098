//! Members by datagrams: each is one until it says so, or is silent for too long.

use std::time::{Duration, Instant};

use crate::person::Person;
use crate::served::Served;
use crate::support::PATIENCE;
use crate::support::cell::Cell;
use crate::{raise_descriptor_limit, room};

pub fn a_silent_peer_is_forgotten(cell: Cell) {
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

pub fn a_long_line_is_refused(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob] = Person::all_join(&room, ["alice", "bob"]);
    bob.says(&"x".repeat(4097));
    bob.hears(&["! a line has up to 4096 bytes"]);
    let line = "x".repeat(4096);
    bob.says(&line);
    alice.hears(&[&format!("bob: {line}")]);
}

/// Otherwise two rooms, each told that the other one talks to it, would never stop.
pub fn what_may_be_a_complaint_gets_no_answer(cell: Cell) {
    let room = room(cell);
    let mut stranger = Person::new(&room);
    for complaint in ["! nick taken", "!", ""] {
        stranger.says(complaint);
    }
    stranger.says("/who");
    stranger.hears(&["! a nick does not begin with *, ! or /"]);
    assert_eq!(stranger.client.packet_at_hand(), None);
}

pub fn a_list_that_is_too_long_is_cut(cell: Cell) {
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

pub fn a_full_room_takes_nobody(cell: Cell) {
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

pub fn a_peer_that_is_gone_has_left(cell: Cell) {
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

pub fn a_peer_that_does_not_read_is_dropped(cell: Cell) {
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

pub fn a_peer_without_a_name_is_ignored(cell: Cell) {
    let room = room(cell);
    let mut alice = Person::join(&room, "alice");
    let nameless = std::os::unix::net::UnixDatagram::unbound().unwrap();
    nameless.send_to(b"nobody", room.addr.as_path().unwrap()).unwrap();
    alice.says("/who");
    alice.hears(&["* 1 here: alice"]);
}
