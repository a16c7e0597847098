//! [`Visit`]: the handler.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use socketserver::{Request, RequestHandler};

use crate::board::Board;

/// Bytes of the longest line that is taken. Without a limit a client could fill the memory.
const MAX_LINE: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// One client at the board: a connection with any number of commands, or a datagram with a few.
pub struct Visit {
    board: Arc<Board>,
    /// The number that the board has given this guest.
    guest: u64,
}

impl Visit {
    pub fn new(board: Arc<Board>) -> Visit {
        Visit { board, guest: 0 }
    }

    fn obey(&self, command: &str, request: &mut Request) -> io::Result<()> {
        let mut words = command.splitn(3, ' ');
        match (words.next().unwrap_or_default(), words.next(), words.next()) {
            ("PIN", Some(name), Some(text)) => {
                self.board.pin(name, text);
                request.write_all(b"pinned\n")
            }
            ("READ", Some(name), None) => {
                let text = self.board.read(name).unwrap_or_else(|| "nothing".to_string());
                request.write_all(format!("{text}\n").as_bytes())
            }
            ("COUNT", None, None) => request.write_all(format!("{}\n", self.board.count()).as_bytes()),
            ("GUESTS", None, None) => request.write_all(format!("{}\n", self.board.guests()).as_bytes()),
            ("FOLLOW", None, None) => {
                self.board.follow(self.guest, request.sender()?);
                request.write_all(b"following\n")
            }
            _ => Err(wrong("there is no such command")),
        }
    }
}

impl RequestHandler for Visit {
    fn setup(&mut self, request: &mut Request) -> io::Result<()> {
        request.set_read_timeout(Some(PATIENCE));
        request.set_nodelay(true)?;
        self.guest = self.board.enter();
        Ok(())
    }

    fn handle(&mut self, request: &mut Request) -> io::Result<()> {
        let mut line = String::new();
        while Read::take(&mut *request, MAX_LINE).read_line(&mut line)? > 0 {
            match line.strip_suffix('\n') {
                Some(command) => self.obey(command, request)?,
                None if line.len() as u64 == MAX_LINE => return Err(wrong("a line is too long")),
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
            line.clear();
        }
        Ok(())
    }

    /// Also after a failure, or a panic: the guest has left in any case.
    fn finish(&mut self, request: &mut Request) -> io::Result<()> {
        self.board.leave(self.guest);
        if request.is_draining() && !request.is_datagram() {
            request.write_all(b"the board closes\n")?;
        }
        Ok(())
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
