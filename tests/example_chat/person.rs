//! [`Person`]: who talks in a room.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::time::Instant;

use crate::served::Served;
use crate::support::PATIENCE;
use crate::support::client::Client;

/// Somebody who talks, by a connection or by datagrams: each is a line with its end.
pub struct Person {
    pub client: Client,
    /// Lines that came and were not asked for yet.
    ears: BufReader<Client>,
}

impl Person {
    /// Somebody without a nick.
    #[track_caller]
    pub fn new(room: &Served) -> Person {
        Person::of(room.connect())
    }

    pub fn of(client: Client) -> Person {
        // As long as any datagram of a room.
        let ears = BufReader::with_capacity(8192, client.duplicate());
        Person { client, ears }
    }

    #[track_caller]
    pub fn join(room: &Served, nick: &str) -> Person {
        let mut person = Person::new(room);
        person.joins(nick);
        person
    }

    /// One after another. Each has heard of those who came after.
    #[track_caller]
    pub fn all_join<const N: usize>(room: &Served, nicks: [&str; N]) -> [Person; N] {
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
    pub fn joins(&mut self, nick: &str) {
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
    pub fn says(&mut self, line: &str) {
        self.sends(line.as_bytes());
    }

    #[track_caller]
    pub fn sends(&mut self, line: &[u8]) {
        self.client.write_all(&[line, b"\n"].concat()).expect("the room hears");
    }

    /// Waits for these lines, one after another.
    #[track_caller]
    pub fn hears(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line(), *line);
        }
    }

    /// The next line without its end; nothing at the end of the connection.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.ears.read_line(&mut line).expect("a line comes");
        line.truncate(line.trim_end_matches('\n').len());
        line
    }

    #[track_caller]
    pub fn skips_arrivals(&mut self) -> String {
        loop {
            let line = self.line();
            if !(line.starts_with("* ") && line.ends_with(" joined")) {
                return line;
            }
        }
    }

    /// The next line, while it shows now and then that it is alive.
    #[track_caller]
    pub fn hears_while_alive(&mut self) -> String {
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
