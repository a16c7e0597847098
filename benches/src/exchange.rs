//! One message and its echo, on a connection that does not block.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

/// The message of a connection and how far it has got.
///
/// Each message is different from the one before it and from those of the other connections, so that an echo of an old
/// message, or of somebody else's, does not pass for a right one.
pub struct Exchange {
    message: Vec<u8>,
    number: u64,
    sent: usize,
    received: usize,
    /// When the message was first offered to the kernel, or its connection began to be made.
    pub started: Instant,
}

/// Whether the whole echo has arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    Waiting,
    Complete,
}

impl Exchange {
    /// Makes the exchange of the connection with this index, not started yet.
    pub fn new(index: usize, message_bytes: usize) -> Self {
        let message = (0..message_bytes).map(|position| (index.wrapping_mul(31) + position) as u8).collect();
        Self { message, number: 0, sent: 0, received: 0, started: Instant::now() }
    }

    /// Turns to the next message.
    pub fn start(&mut self, now: Instant) {
        self.number += 1;
        let number = self.number.to_le_bytes();
        let stamped = number.len().min(self.message.len());
        self.message[..stamped].copy_from_slice(&number[..stamped]);
        self.sent = 0;
        self.received = 0;
        self.started = now;
    }

    /// Sends as much as the kernel takes. A connection that is still being made takes nothing.
    pub fn send(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while self.sent < self.message.len() {
            match stream.write(&self.message[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives what is there and compares it with what was sent. `chunk` only lends its space.
    pub fn receive(&mut self, stream: &mut impl Read, chunk: &mut [u8]) -> io::Result<Progress> {
        loop {
            match stream.read(chunk) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed by the server")),
                Ok(read) => {
                    self.check(&chunk[..read])?;
                    if self.received == self.message.len() {
                        return Ok(Progress::Complete);
                    }
                    // A short read has drained the socket: what comes next makes a new edge.
                    if read < chunk.len() {
                        return Ok(Progress::Waiting);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn check(&mut self, echo: &[u8]) -> io::Result<()> {
        let expected = &self.message[self.received..self.sent];
        if !expected.starts_with(echo) {
            return Err(io::Error::new(ErrorKind::InvalidData, "the echo differs from the message"));
        }
        self.received += echo.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Instant;

    use super::{Exchange, Progress};

    fn sent(message_bytes: usize) -> (Exchange, Vec<u8>) {
        let mut exchange = Exchange::new(3, message_bytes);
        let mut wire = Vec::new();
        exchange.start(Instant::now());
        exchange.send(&mut wire).expect("a vector takes everything");
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
}
