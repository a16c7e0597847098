//! The example `chat`, on every server that can serve it.

mod support;

#[path = "example_chat/connections.rs"]
mod by_connections;
#[path = "example_chat/datagrams.rs"]
mod by_datagrams;
#[path = "support/example.rs"]
mod example;
#[path = "example_chat/person.rs"]
mod person;
#[path = "support/program.rs"]
mod program;
#[path = "support/script.rs"]
mod script;
#[macro_use]
#[path = "support/served.rs"]
mod served;

use by_connections::*;
use by_datagrams::*;
use person::Person;
use rustix::process::Resource;
use served::Served;
use support::cell::Cell;

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
