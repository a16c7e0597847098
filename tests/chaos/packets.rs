//! What clients of datagram servers do. Nothing that they send is lost: on a loopback interface, only a full queue loses datagrams, and
//! nobody has more than a few on the way.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use socketserver::{Addr, UnixName};

use crate::clients::{Action, Someone};
use crate::handler::UNWELCOME;
use crate::support::client::Client;

/// Datagrams of a flood.
const FLOOD: u8 = 20;

/// Where those live who go away before their answer: it must not reach somebody else, who has got their port.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

pub const ACTIONS: [Action; 13] = [
    ("an ordinary exchange", |me| me.exchange_packet(b'e')),
    ("an answer after a while", |me| me.exchange_packet(b's')),
    ("an answer of work that was offloaded", |me| me.exchange_packet(b'b')),
    ("a flood, all of whose answers are read", Someone::flood_packets),
    ("a datagram of nothing", |me| _ = me.send_unanswered(b"")),
    ("a datagram without an answer", |me| _ = me.send_unanswered(b"n")),
    ("an answer that no datagram can carry", |me| me.tally.errors += me.send_unanswered(b"m")),
    ("a panic of the handler", |me| me.tally.panics += me.send_unanswered(b"p")),
    ("a panic with a value that is no text", |me| me.tally.panics += me.send_unanswered(b"v")),
    ("an error of the handler", |me| me.tally.errors += me.send_unanswered(b"x")),
    ("going away before the answer", Someone::leave),
    ("being ended by a `Sender` while the handler sleeps", Someone::meet_enemy_by_packet),
    ("coming from where the server wants nobody to come from", Someone::come_unwelcome_by_packet),
];

impl Someone {
    /// Sends a message with a wish that makes it come back.
    pub fn exchange_packet(&mut self, wish: u8) {
        // Who writes nothing does not answer.
        let message = [vec![wish, b'.'], self.message()].concat();
        let mut client = self.open();
        self.send(&mut client, &message);
        let answer = client.packet();
        assert!(answer == message[1..], "{} bytes of {} have come back", answer.len(), message.len() - 1);
        self.tally.answered += 1;
    }

    fn flood_packets(&mut self) {
        let mut client = self.open();
        for number in 0..FLOOD {
            self.send(&mut client, &[b'e', number]);
        }
        let mut answers: Vec<_> = (0..FLOOD).map(|_| client.packet()).collect();
        answers.sort();
        assert!(answers.iter().zip(0..FLOOD).all(|(answer, number)| *answer == [number]), "{answers:?}");
        self.tally.answered += u64::from(FLOOD);
    }

    /// Sends what nothing must be heard of, and then something else, so that the server has got it. Says how many that was: one.
    fn send_unanswered(&mut self, message: &[u8]) -> u64 {
        let mut client = self.open();
        self.send(&mut client, message);
        self.exchange_packet(b'e');
        assert_eq!(client.packet_at_hand(), None);
        1
    }

    fn leave(&mut self) {
        match &self.addr {
            Addr::Unixgram(UnixName::Path(server)) => {
                let name = SocketAddr::from_abstract_name(format!("gone {}", self.random.below(u64::MAX)));
                let client = UnixDatagram::bind_addr(&name.expect("a short name"));
                self.send_from(client.expect("a name of its own"), &server.clone(), b"shello");
            }
            addr => self.send(&mut Client::connect_from(ELSEWHERE, addr), b"shello"),
        }
    }

    fn meet_enemy_by_packet(&mut self) {
        let mut client = self.open();
        self.send(&mut client, b"S");
        assert_eq!(client.packet(), b"last words");
        self.tally.cuts += 1;
    }

    fn come_unwelcome_by_packet(&mut self) {
        match &self.addr {
            Addr::Unixgram(UnixName::Path(server)) => {
                self.send_from(UnixDatagram::unbound().expect("a socket"), &server.clone(), b"e");
            }
            addr => self.send(&mut Client::connect_from(UNWELCOME, addr), b"e"),
        }
        self.tally.unwelcome += 1;
    }

    fn open(&self) -> Client {
        Client::connect(&self.addr)
    }

    fn send_from(&mut self, client: UnixDatagram, server: &Path, message: &[u8]) {
        client.send_to(message, server).expect("the server's queue has room");
        self.tally.connections += 1;
    }

    fn send(&mut self, client: &mut Client, message: &[u8]) {
        client.write_all(message).expect("the server's queue has room");
        self.tally.connections += 1;
    }
}
