//! [`Someone`]: a client that does one thing after another, and knows what must come of most of them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::thread;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{SocketAddrUnix, bind};
use socketserver::Addr;

use crate::handler::{BUSY, MESSAGE, UNWELCOME, much};
use crate::packets;
use crate::support::client::Client;
use crate::support::random::Random;

/// Something that one can do to a server, and its name.
pub type Action = (&'static str, fn(&mut Someone));

const ACTIONS: [Action; 19] = [
    ("an ordinary exchange", |me| _ = me.exchange()),
    ("the same, one byte at a time", Someone::exchange_bytes),
    ("a long answer, read after a half-close", |me| me.hear_much(b"m")),
    ("a long answer, of work that was offloaded", |me| me.hear_much(b"o")),
    ("closing at once", |me| drop(me.connect())),
    ("a reset before a message", |me| me.connect().reset()),
    ("a reset inside a message", |me| me.half_a_message(b'h').reset()),
    ("a reset after a message", Someone::reset_after),
    ("half a message, and nothing more: until the server's timeout", |me| me.fall_silent(b'h')),
    ("half a message, and nothing more: until the request's deadline", |me| me.fall_silent(b'd')),
    ("not reading an answer without end", Someone::never_read),
    ("a flood, whose echo is not read", Someone::flood),
    ("a panic of the handler", |me| me.tally.panics += u64::from(me.is_ended(b"p"))),
    ("a panic with a value that is no text", |me| me.tally.panics += u64::from(me.is_ended(b"v"))),
    ("an error of the handler", |me| me.tally.errors += u64::from(me.is_ended(b"x"))),
    ("being closed by a `Sender` while the handler reads", |me| me.meet_enemy(b"R")),
    ("being closed by a `Sender` while the handler writes", |me| me.meet_enemy(b"W")),
    ("being closed by a `Sender` while the handler sleeps", |me| me.meet_enemy(b"S")),
    ("coming from where the server wants nobody to come from", Someone::come_unwelcome),
];

/// What clients have seen, for comparison with the server's books.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub connections: u64,
    pub answered: u64,
    /// Told that the server is busy, by those who have heard it.
    pub refused: u64,
    pub unwelcome: u64,
    pub panics: u64,
    pub errors: u64,
    pub cuts: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.connections += other.connections;
        self.answered += other.answered;
        self.refused += other.refused;
        self.unwelcome += other.unwelcome;
        self.panics += other.panics;
        self.errors += other.errors;
        self.cuts += other.cuts;
    }
}

pub struct Someone {
    pub addr: Addr,
    pub random: Random,
    pub tally: Tally,
    /// What is to be done next, from the end; when that is done, all actions are shuffled again. So none is rare.
    deck: Vec<Action>,
    /// The last connections on which nothing more is said. Mostly the server ends them first.
    silent: VecDeque<Client>,
    /// The last one that was not read from: by now the server has given it up, mostly.
    unread: Option<Client>,
    /// What it does now.
    action: &'static str,
    seed: u64,
}

impl Someone {
    pub fn new(addr: &Addr, seed: u64) -> Someone {
        let (deck, silent) = (Vec::new(), VecDeque::new());
        Someone {
            addr: addr.clone(),
            random: Random::new(seed),
            tally: Tally::default(),
            deck,
            silent,
            unread: None,
            action: "nothing yet",
            seed,
        }
    }

    /// Does something.
    pub fn act(&mut self) {
        if self.deck.is_empty() {
            self.deck = if self.sends_packets() { packets::ACTIONS.to_vec() } else { ACTIONS.to_vec() };
            for index in 1..self.deck.len() {
                self.deck.swap(index, self.random.below(index as u64 + 1) as usize);
            }
        }
        let (name, act) = self.deck.pop().expect("it has been filled");
        self.action = name;
        act(self);
    }

    /// Sees the end of the connections on which it says nothing more: the server's timeouts bring that about.
    pub fn wait_for_the_silent(&mut self) {
        for mut client in self.silent.drain(..) {
            assert!(client.is_hung_up(), "the server has not ended a connection on which nothing happens");
        }
    }

    /// Whether the server has served a message: it may have been busy instead.
    pub fn exchange(&mut self) -> bool {
        if self.sends_packets() {
            self.exchange_packet(b'e');
            return true;
        }
        let message = self.message();
        let mut client = self.connect();
        self.say(&mut client, b"e");
        for piece in message.chunks(1000) {
            self.say(&mut client, piece);
        }
        let answer = self.hear(client);
        if let Some(answer) = &answer {
            assert!(*answer == message, "{} bytes of {} have come back", answer.len(), message.len());
            self.tally.answered += 1;
        }
        answer.is_some()
    }

    fn exchange_bytes(&mut self) {
        let mut client = self.connect();
        self.say(&mut client, b"e");
        let mut heard = Vec::new();
        for byte in b"0123456789" {
            self.say(&mut client, &[*byte]);
            // The server has seen this one before the next is sent.
            if Read::by_ref(&mut client).take(1).read_to_end(&mut heard).is_err() {
                break;
            }
        }
        if let Some(answer) = self.hear_rest(client, heard) {
            assert_eq!(answer, b"0123456789");
            self.tally.answered += 1;
        }
    }

    fn hear_much(&mut self, wish: &[u8]) {
        let mut client = self.connect();
        self.say(&mut client, wish);
        if let Some(answer) = self.hear(client) {
            assert!(answer == much(), "{} bytes have come", answer.len());
            self.tally.answered += 1;
        }
    }

    /// Before the answer, or in the middle of it.
    fn reset_after(&mut self) {
        let mut client = self.connect();
        let wish: &[u8] = if self.random.below(2) == 0 { b"ehello" } else { b"m" };
        self.say(&mut client, wish);
        if self.random.below(2) == 0 {
            let _ = client.read(&mut [0; 3]);
        }
        client.reset();
    }

    fn fall_silent(&mut self, wish: u8) {
        let client = self.half_a_message(wish);
        self.silent.push_back(client);
        if self.silent.len() > 3 {
            let oldest = self.silent.pop_front().expect("there are several");
            if self.random.below(2) == 0 { oldest.reset() } else { drop(oldest) }
        }
    }

    fn never_read(&mut self) {
        let mut client = Client::open(&self.addr);
        // So that the server's side is full soon.
        set_socket_recv_buffer_size(&client, 4096).unwrap();
        client.join().expect("a server listens");
        self.tally.connections += 1;
        self.say(&mut client, b"w");
        self.unread = Some(client);
    }

    fn flood(&mut self) {
        let mut client = self.connect();
        let _ = client.write_all(b"f").and_then(|()| client.write_all(&[b'f'; 1 << 20]));
    }

    /// Whether the handler has ended the connection without an answer.
    fn is_ended(&mut self, wish: &[u8]) -> bool {
        let mut client = self.connect();
        self.say(&mut client, wish);
        let answer = self.hear(client);
        assert!(answer.as_ref().is_none_or(Vec::is_empty), "nobody has written {answer:?}");
        answer.is_some()
    }

    fn meet_enemy(&mut self, wish: &[u8]) {
        let mut client = self.connect();
        self.say(&mut client, wish);
        let mut beginning = Vec::new();
        // The end of the connection may be a good one or not.
        let _ = Read::by_ref(&mut client).take(BUSY.len() as u64).read_to_end(&mut beginning);
        match io::copy(&mut client, &mut io::sink()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the sender has not ended it"),
            _ if beginning == BUSY => self.tally.refused += 1,
            _ => self.tally.cuts += 1,
        }
    }

    /// Of no more than fits into a datagram.
    pub fn message(&mut self) -> Vec<u8> {
        let length = self.random.below(4000) as usize;
        let byte = self.random.below(256) as u8;
        (0..length).map(|number| byte.wrapping_add(number as u8)).collect()
    }

    fn sends_packets(&self) -> bool {
        matches!(self.addr, Addr::Udp(_) | Addr::Unixgram(_))
    }

    fn come_unwelcome(&mut self) {
        let mut client = Client::open(&self.addr);
        match self.addr {
            Addr::Tcp(_) => bind(&client, &SocketAddr::new(UNWELCOME, 0)).expect("an address of this host"),
            // Linux chooses an abstract name.
            _ => bind(&client, &SocketAddrUnix::new_unnamed()).expect("a name"),
        }
        client.join().expect("a server listens");
        self.tally.connections += 1;
        self.tally.unwelcome += 1;
        assert_eq!(client.read_all(), b"");
    }

    fn connect(&mut self) -> Client {
        self.tally.connections += 1;
        Client::connect(&self.addr)
    }

    /// Sends something to a server that need not listen: whether it has heard it, its answer shows.
    fn say(&self, client: &mut Client, bytes: &[u8]) {
        let _ = client.write_all(bytes);
    }

    fn half_a_message(&mut self, wish: u8) -> Client {
        let mut client = self.connect();
        self.say(&mut client, &[wish]);
        self.say(&mut client, &[b'-'; MESSAGE / 2]);
        client
    }

    /// The whole answer, after a half-close; `None` if the server was busy.
    fn hear(&mut self, client: Client) -> Option<Vec<u8>> {
        self.hear_rest(client, Vec::new())
    }

    /// As [`hear`](Someone::hear), of an answer whose beginning has been heard.
    fn hear_rest(&mut self, mut client: Client, mut answer: Vec<u8>) -> Option<Vec<u8>> {
        let _ = client.half_close();
        let end = client.read_to_end(&mut answer);
        if answer == BUSY {
            self.tally.refused += 1;
            return None;
        }
        assert!(end.is_ok(), "{end:?} after {} bytes", answer.len());
        Some(answer)
    }
}

impl Drop for Someone {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("it was at {:?}, of seed {}, after {:?}", self.action, self.seed, self.tally);
        }
    }
}
