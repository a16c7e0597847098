//! Members by connections: each is one for as long as its connection is open.

use std::io::Write;

use rustix::process::Signal;

use crate::person::Person;
use crate::served::Served;
use crate::support::cell::Cell;
use crate::support::client::Client;
use crate::{raise_descriptor_limit, room};

pub fn whoever_ends_the_connection_leaves(cell: Cell) {
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

pub fn the_last_line_needs_no_end(cell: Cell) {
    let room = room(cell);
    let [mut alice, mut bob] = Person::all_join(&room, ["alice", "bob"]);
    bob.client.write_all(b"bye").unwrap();
    bob.client.half_close().unwrap();
    alice.hears(&["bob: bye", "* bob left"]);
}

pub fn half_a_line_and_a_reset_say_nothing(cell: Cell) {
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

pub fn an_endless_line_is_refused_and_the_connection_closed(cell: Cell) {
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

pub fn who_does_not_read_is_dropped_with_a_notice(cell: Cell) {
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
pub fn who_is_dropped_is_closed_in_the_end(cell: Cell) {
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

pub fn a_drain_says_goodbye(cell: Cell) {
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

pub fn the_next_member_waits(cell: Cell) {
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

pub fn a_thousand_members_hear_each_line(cell: Cell) {
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
