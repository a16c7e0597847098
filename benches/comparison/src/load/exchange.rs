//! One request and its reply, on a connection that does not block.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::attempt;
use crate::messages::{Check, Kind, Messages};

/// The messages of a connection and how far the present one has got.
pub struct Exchange {
    request: Request,
    reply: Reply,
    /// The most that one write offers.
    write_bytes: usize,
    sent: usize,
    received: usize,
    /// When the request was due: what its latency counts from.
    pub due: Instant,
    /// When the request was first offered to the kernel, or its connection began to be made.
    begun: Instant,
    resends: u32,
}

/// Each message of an echo is different from the one before it and from those of the other connections, so that an echo of an
/// old message, or of somebody else's, does not pass for a right one.
enum Request {
    Numbered { message: Vec<u8>, number: u64 },
    Fixed(Arc<[u8]>),
}

enum Reply {
    Echo,
    Fixed(Arc<[u8]>),
    Checked { check: Arc<Check>, so_far: Vec<u8> },
}

/// Whether the whole reply has arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    Waiting,
    Complete,
}

/// A datagram without a reply for this long is lost. On one machine only a server that is stuck, or a full socket, takes so
/// long.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// The part of a numbered message that tells its number.
const STAMP_BYTES: usize = size_of::<u64>();

impl Exchange {
    /// Makes the exchange of the connection with this index, not started yet.
    pub fn new(index: usize, messages: &Messages) -> Self {
        let (request, reply) = match &messages.kind {
            Kind::Echo { bytes } => {
                let message = (0..*bytes).map(|position| (index.wrapping_mul(31) + position) as u8).collect();
                (Request::Numbered { message, number: 0 }, Reply::Echo)
            }
            Kind::Recorded { request, reply } => (Request::Fixed(request.clone()), Reply::Fixed(reply.clone())),
            Kind::Checked { request, check } => {
                (Request::Fixed(request.clone()), Reply::Checked { check: check.clone(), so_far: Vec::new() })
            }
        };
        let now = Instant::now();
        let write_bytes = messages.write_bytes;
        Self { request, reply, write_bytes, sent: 0, received: 0, due: now, begun: now, resends: 0 }
    }

    /// Turns to the next request, which was due at some time until now.
    pub fn start(&mut self, due: Instant, now: Instant) {
        if let Request::Numbered { message, number } = &mut self.request {
            *number += 1;
            let stamped = STAMP_BYTES.min(message.len());
            message[..stamped].copy_from_slice(&number.to_le_bytes()[..stamped]);
        }
        if let Reply::Checked { so_far, .. } = &mut self.reply {
            so_far.clear();
        }
        self.sent = 0;
        self.received = 0;
        self.due = due;
        self.begun = now;
        self.resends = 0;
    }

    /// Turns back to the start of the same request if it is lost; `due` stays, so that the loss is in the latency.
    pub fn restart_if_lost(&mut self, now: Instant) -> bool {
        let lost = now >= self.begun + LOST_AFTER * (self.resends + 1);
        if lost {
            self.sent = 0;
            self.resends += 1;
        }
        lost
    }

    /// Sends with one write. Returns whether there is more to send that the kernel may take now; a connection that is still
    /// being made takes nothing.
    pub fn send(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        let request = self.request.bytes();
        let unsent = &request[self.sent..];
        if unsent.is_empty() {
            return Ok(false);
        }
        match attempt(|| stream.write(&unsent[..unsent.len().min(self.write_bytes)]))? {
            None => Ok(false),
            Some(0) => Err(ErrorKind::WriteZero.into()),
            Some(written) => {
                self.sent += written;
                Ok(self.sent < request.len())
            }
        }
    }

    /// Receives what is there and checks it. `chunk` only lends its space.
    pub fn receive(&mut self, stream: &mut impl Read, chunk: &mut [u8]) -> io::Result<Progress> {
        while let Some(read) = attempt(|| stream.read(chunk))? {
            if read == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed by the server"));
            }
            if self.check(&chunk[..read])? {
                return match self.sent == self.request.bytes().len() {
                    true => Ok(Progress::Complete),
                    false => Err(invalid("the reply was complete before the request was sent")),
                };
            }
            // A short read has drained the socket: what comes next makes a new edge.
            if read < chunk.len() {
                break;
            }
        }
        Ok(Progress::Waiting)
    }

    /// Receives datagrams until one is the reply. The echo of an earlier message only comes late: it was taken for lost.
    pub fn receive_datagram(&mut self, socket: &mut impl Read, chunk: &mut [u8]) -> io::Result<Progress> {
        while let Some(read) = attempt(|| socket.read(chunk))? {
            let packet = &chunk[..read];
            let right = match (&self.reply, &self.request) {
                (Reply::Echo, request) => packet == request.bytes(),
                (Reply::Fixed(reply), _) => *packet == **reply,
                (Reply::Checked { check, .. }, _) => check(packet).map_err(invalid)?,
            };
            if right {
                return Ok(Progress::Complete);
            }
            if !self.request.is_late_echo(packet) {
                return Err(differs());
            }
        }
        Ok(Progress::Waiting)
    }

    /// Takes in what has come of a reply. Returns whether it is complete.
    fn check(&mut self, came: &[u8]) -> io::Result<bool> {
        let (expected, whole) = match &mut self.reply {
            Reply::Echo => (&self.request.bytes()[..self.sent], self.request.bytes().len()),
            Reply::Fixed(reply) => (&reply[..], reply.len()),
            Reply::Checked { check, so_far } => {
                so_far.extend_from_slice(came);
                return check(so_far).map_err(invalid);
            }
        };
        if !expected[self.received..].starts_with(came) {
            return Err(differs());
        }
        self.received += came.len();
        Ok(self.received == whole)
    }
}

impl Request {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Numbered { message, .. } => message,
            Self::Fixed(request) => request,
        }
    }

    /// Whether this could be the echo of another number.
    fn is_late_echo(&self, packet: &[u8]) -> bool {
        match self {
            Self::Numbered { message, .. } => {
                packet.len() == message.len() && packet.ends_with(&message[STAMP_BYTES.min(message.len())..])
            }
            Self::Fixed(_) => false,
        }
    }
}

/// The error of a reply that is not what it should be.
pub fn differs() -> io::Error {
    invalid("the reply differs from what was expected")
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, ErrorKind, Read};
    use std::time::Instant;

    use super::{Exchange, LOST_AFTER, Progress};
    use crate::messages::Messages;

    fn sent(messages: &Messages) -> (Exchange, Vec<u8>) {
        let mut exchange = Exchange::new(3, messages);
        let mut wire = Vec::new();
        let now = Instant::now();
        exchange.start(now, now);
        while exchange.send(&mut wire).expect("a vector takes everything") {}
        (exchange, wire)
    }

    fn echo() -> (Exchange, Vec<u8>) {
        sent(&Messages::echo(64).in_writes_of(48))
    }

    #[test]
    fn the_echo_may_come_in_pieces() {
        let (mut exchange, wire) = echo();
        let mut chunk = [0; 100];
        assert_eq!(exchange.receive(&mut &wire[..10], &mut chunk).ok(), Some(Progress::Waiting));
        assert_eq!(exchange.receive(&mut &wire[10..], &mut chunk).ok(), Some(Progress::Complete));
    }

    #[test]
    fn wrong_or_surplus_bytes_are_errors() {
        let mut chunk = [0; 100];
        let (mut exchange, mut wire) = echo();
        wire[63] ^= 1;
        assert!(exchange.receive(&mut Cursor::new(&wire), &mut chunk).is_err());
        let (mut exchange, mut wire) = echo();
        wire.push(0);
        assert!(exchange.receive(&mut Cursor::new(&wire), &mut chunk).is_err());
    }

    #[test]
    fn the_end_of_the_stream_is_an_error() {
        let (mut exchange, _) = echo();
        assert!(exchange.receive(&mut Cursor::new([]), &mut [0; 100]).is_err());
    }

    #[test]
    fn a_recorded_reply_is_compared() {
        let messages = Messages::recorded("two words\n", "2\n");
        let mut chunk = [0; 100];
        let (mut exchange, wire) = sent(&messages);
        assert_eq!(wire, b"two words\n");
        assert_eq!(exchange.receive(&mut &b"2"[..], &mut chunk).ok(), Some(Progress::Waiting));
        assert_eq!(exchange.receive(&mut &b"\n"[..], &mut chunk).ok(), Some(Progress::Complete));
        let (mut exchange, _) = sent(&messages);
        assert!(exchange.receive(&mut &b"3\n"[..], &mut chunk).is_err());
    }

    #[test]
    fn a_check_sees_the_whole_reply() {
        let messages = Messages::checked("ping", |reply| match reply {
            b"po" => Ok(false),
            b"pong" => Ok(true),
            _ => Err("no pong".to_owned()),
        });
        let mut chunk = [0; 100];
        for _ in 0..2 {
            let (mut exchange, _) = sent(&messages);
            assert_eq!(exchange.receive(&mut &b"po"[..], &mut chunk).ok(), Some(Progress::Waiting));
            assert_eq!(exchange.receive(&mut &b"ng"[..], &mut chunk).ok(), Some(Progress::Complete));
        }
        let (mut exchange, _) = sent(&messages);
        assert!(exchange.receive(&mut &b"oops"[..], &mut chunk).is_err());
    }

    #[test]
    fn a_write_has_its_size() {
        let mut exchange = Exchange::new(3, &Messages::echo(100).in_writes_of(48));
        let mut wire = Vec::new();
        let mut sizes = Vec::new();
        while sizes.last() != Some(&100) {
            exchange.send(&mut wire).expect("a vector takes everything");
            sizes.push(wire.len());
        }
        assert_eq!(sizes, [48, 96, 100]);
    }

    /// Gives a datagram for each read, and then would block.
    struct Datagrams(Vec<Vec<u8>>);

    impl Read for Datagrams {
        fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
            let next = self.0.pop().ok_or(ErrorKind::WouldBlock)?;
            next.as_slice().read(chunk)
        }
    }

    #[test]
    fn a_late_datagram_is_no_echo_and_no_error() {
        let (mut exchange, late) = sent(&Messages::echo(64));
        let again = Instant::now();
        exchange.start(again, again);
        let now = exchange.request.bytes().to_vec();
        let mut chunk = [0; 100];
        let mut receive = |datagrams| exchange.receive_datagram(&mut Datagrams(datagrams), &mut chunk).ok();
        assert_eq!(receive(vec![late.clone()]), Some(Progress::Waiting));
        assert_eq!(receive(vec![now.clone(), late]), Some(Progress::Complete));
        assert_eq!(receive(vec![now[..63].to_vec()]), None);
    }

    #[test]
    fn a_lost_message_is_sent_again_once_in_a_while() {
        let (mut exchange, _) = echo();
        let start = exchange.begun;
        assert!(!exchange.restart_if_lost(start));
        assert!(exchange.restart_if_lost(start + LOST_AFTER));
        assert!(!exchange.restart_if_lost(start + LOST_AFTER));
        assert!(exchange.restart_if_lost(start + 2 * LOST_AFTER));
    }
}
