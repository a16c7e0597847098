//! One message and its echo, on a connection that does not block.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use crate::connection::attempt;

/// The message of a connection and how far it has got.
///
/// Each message is different from the one before it and from those of the other connections, so that an echo of an old
/// message, or of somebody else's, does not pass for a right one.
pub struct Exchange {
    message: Vec<u8>,
    /// The most that one write offers.
    write_bytes: usize,
    number: u64,
    sent: usize,
    received: usize,
    /// When the message was first offered to the kernel, or its connection began to be made.
    pub started: Instant,
    resends: u32,
}

/// Whether the whole echo has arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    Waiting,
    Complete,
}

/// A datagram without an echo for this long is lost. On one machine only a server that is stuck, or a full socket, takes so
/// long.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// The part of a message that tells its number.
const STAMP_BYTES: usize = size_of::<u64>();

impl Exchange {
    /// Makes the exchange of the connection with this index, not started yet.
    pub fn new(index: usize, message_bytes: usize, write_bytes: usize) -> Self {
        let message = (0..message_bytes).map(|position| (index.wrapping_mul(31) + position) as u8).collect();
        Self { message, write_bytes, number: 0, sent: 0, received: 0, started: Instant::now(), resends: 0 }
    }

    /// Turns to the next message.
    pub fn start(&mut self, now: Instant) {
        self.number += 1;
        let stamped = self.stamped();
        self.message[..stamped].copy_from_slice(&self.number.to_le_bytes()[..stamped]);
        self.sent = 0;
        self.received = 0;
        self.started = now;
        self.resends = 0;
    }

    /// Turns back to the start of the same message if it is lost; `started` stays, so that the loss is in the latency.
    pub fn restart_if_lost(&mut self, now: Instant) -> bool {
        let lost = now >= self.started + LOST_AFTER * (self.resends + 1);
        if lost {
            self.sent = 0;
            self.resends += 1;
        }
        lost
    }

    /// Sends with one write. Returns whether there is more to send that the kernel may take now; a connection that is still
    /// being made takes nothing.
    pub fn send(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        let unsent = &self.message[self.sent..];
        if unsent.is_empty() {
            return Ok(false);
        }
        match attempt(|| stream.write(&unsent[..unsent.len().min(self.write_bytes)]))? {
            None => Ok(false),
            Some(0) => Err(ErrorKind::WriteZero.into()),
            Some(written) => {
                self.sent += written;
                Ok(self.sent < self.message.len())
            }
        }
    }

    /// Receives what is there and compares it with what was sent. `chunk` only lends its space.
    pub fn receive(&mut self, stream: &mut impl Read, chunk: &mut [u8]) -> io::Result<Progress> {
        while let Some(read) = attempt(|| stream.read(chunk))? {
            if read == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed by the server"));
            }
            self.check(&chunk[..read])?;
            if self.received == self.message.len() {
                return Ok(Progress::Complete);
            }
            // A short read has drained the socket: what comes next makes a new edge.
            if read < chunk.len() {
                break;
            }
        }
        Ok(Progress::Waiting)
    }

    /// Receives datagrams until one is the echo. That of an earlier message only comes late: it was taken for lost.
    pub fn receive_datagram(&mut self, socket: &mut impl Read, chunk: &mut [u8]) -> io::Result<Progress> {
        while let Some(read) = attempt(|| socket.read(chunk))? {
            let echo = &chunk[..read];
            if echo == self.message {
                return Ok(Progress::Complete);
            }
            if echo.len() != self.message.len() || !echo.ends_with(&self.message[self.stamped()..]) {
                return Err(differs());
            }
        }
        Ok(Progress::Waiting)
    }

    fn stamped(&self) -> usize {
        STAMP_BYTES.min(self.message.len())
    }

    fn check(&mut self, echo: &[u8]) -> io::Result<()> {
        let expected = &self.message[self.received..self.sent];
        if !expected.starts_with(echo) {
            return Err(differs());
        }
        self.received += echo.len();
        Ok(())
    }
}

/// The error of an echo that is not what was sent.
pub fn differs() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the echo differs from the message")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, ErrorKind, Read};
    use std::time::Instant;

    use super::{Exchange, LOST_AFTER, Progress};

    fn sent(message_bytes: usize) -> (Exchange, Vec<u8>) {
        let mut exchange = Exchange::new(3, message_bytes, 48);
        let mut wire = Vec::new();
        exchange.start(Instant::now());
        while exchange.send(&mut wire).expect("a vector takes everything") {}
        (exchange, wire)
    }

    #[test]
    fn the_echo_may_come_in_pieces() {
        let (mut exchange, wire) = sent(64);
        let mut chunk = [0; 100];
        assert_eq!(exchange.receive(&mut &wire[..10], &mut chunk).ok(), Some(Progress::Waiting));
        assert_eq!(exchange.receive(&mut &wire[10..], &mut chunk).ok(), Some(Progress::Complete));
    }

    #[test]
    fn wrong_or_surplus_bytes_are_errors() {
        let mut chunk = [0; 100];
        let (mut exchange, mut wire) = sent(64);
        wire[63] ^= 1;
        assert!(exchange.receive(&mut Cursor::new(&wire), &mut chunk).is_err());
        let (mut exchange, mut wire) = sent(64);
        wire.push(0);
        assert!(exchange.receive(&mut Cursor::new(&wire), &mut chunk).is_err());
    }

    #[test]
    fn the_end_of_the_stream_is_an_error() {
        let (mut exchange, _) = sent(64);
        assert!(exchange.receive(&mut Cursor::new([]), &mut [0; 100]).is_err());
    }

    #[test]
    fn a_write_has_its_size() {
        let mut exchange = Exchange::new(3, 100, 48);
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
        let (mut exchange, late) = sent(64);
        exchange.start(Instant::now());
        let now = exchange.message.clone();
        let mut chunk = [0; 100];
        let mut receive = |datagrams| exchange.receive_datagram(&mut Datagrams(datagrams), &mut chunk).ok();
        assert_eq!(receive(vec![late.clone()]), Some(Progress::Waiting));
        assert_eq!(receive(vec![now.clone(), late]), Some(Progress::Complete));
        assert_eq!(receive(vec![now[..63].to_vec()]), None);
    }

    #[test]
    fn a_lost_message_is_sent_again_once_in_a_while() {
        let (mut exchange, _) = sent(64);
        let start = exchange.started;
        assert!(!exchange.restart_if_lost(start));
        assert!(exchange.restart_if_lost(start + LOST_AFTER));
        assert!(!exchange.restart_if_lost(start + LOST_AFTER));
        assert!(exchange.restart_if_lost(start + 2 * LOST_AFTER));
    }
}
