//! A connection that floods: it sends without waiting for echoes, and takes them as they come.

use std::io::{self, ErrorKind, Read, Write};

use super::connection::{Connection, attempt};
use super::exchange::differs;

/// One flooding connection, driven by the load's own thread between its pings.
pub struct Flood {
    connection: Connection,
    /// Twice the same messages, so that there is a whole piece from everywhere in the first half.
    messages: Vec<u8>,
    /// Bytes sent and received, modulo [`PIECE_BYTES`].
    sent: usize,
    received: usize,
    /// Whether the kernel may take or have something: cleared by the attempt that finds it does not, set by an event.
    writable: bool,
    readable: bool,
}

const MESSAGE_BYTES: usize = 64;

/// What is sent, and what is received, at a time. Many messages, so that the server has more of them to serve than this thread
/// has work with them; few enough that the pings on this thread are held up only for some microseconds.
const PIECE_BYTES: usize = 1024 * MESSAGE_BYTES;

impl Flood {
    pub fn new(connection: Connection) -> Self {
        let byte = |position: usize| (position + position / MESSAGE_BYTES) as u8;
        let messages = (0..2 * PIECE_BYTES).map(|position| byte(position % PIECE_BYTES)).collect();
        Self { connection, messages, sent: 0, received: 0, writable: true, readable: true }
    }

    /// Takes in that the kernel has or takes more.
    pub fn wake(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Whether [`Flood::push`] has something to do.
    pub fn is_ready(&self) -> bool {
        self.readable || self.writable
    }

    /// Sends and receives one piece at the most. Returns how many bytes came back. `chunk` only lends its space.
    pub fn push(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        if self.writable {
            let piece = &self.messages[self.sent..][..PIECE_BYTES];
            match attempt(|| self.connection.write(piece))? {
                None => self.writable = false,
                Some(written) => self.sent = (self.sent + written) % PIECE_BYTES,
            }
        }
        if !self.readable {
            return Ok(0);
        }
        match attempt(|| self.connection.read(chunk))? {
            None => {
                self.readable = false;
                Ok(0)
            }
            Some(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "closed by the server")),
            Some(read) => {
                if !self.messages[self.received..].starts_with(&chunk[..read]) {
                    return Err(differs());
                }
                self.received = (self.received + read) % PIECE_BYTES;
                Ok(read)
            }
        }
    }
}
