//! [`Talk`]: sends lines and prints what comes, at the same time.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use socketserver::frame::{Frames, Framing, LengthDelimited};

use crate::connection::{Connection, LONGEST_DATAGRAM};

/// A conversation.
pub struct Talk {
    /// What to send in place of the input, if that is anything.
    pub lines: Vec<String>,
    pub framing: Option<LengthDelimited>,
    /// How long to wait for the next piece of an answer, once everything is sent.
    pub timeout: Duration,
}

/// What the two threads of a conversation tell.
enum Event {
    /// Everything is sent, or cannot be.
    Sent(io::Result<()>),
    /// Something came, and is printed.
    Received,
    /// Nothing more comes.
    Ended(io::Result<()>),
}

impl Talk {
    /// Talks until the server ends the conversation, or has nothing more to say after everything is sent.
    pub fn talk(self, connection: Connection) -> io::Result<()> {
        let Talk { lines, framing, timeout } = self;
        let is_datagram = connection.is_datagram();
        // Of so many datagrams it is known that an answer to each would be the end.
        let mut awaited = if lines.is_empty() || !is_datagram { None } else { Some(lines.len()) };
        let (tell, events) = channel();
        start("reader", tell.clone(), {
            let (connection, tell) = (connection.for_thread(), tell.clone());
            move || Event::Ended(receive(connection, framing, || tell.send(Event::Received).is_ok()))
        })?;
        let writing = connection.for_thread();
        start("writer", tell, move || {
            let sent = match lines.is_empty() {
                true => send(writing, framing, io::stdin().lock()),
                false => send(writing, framing, lines.join("\n").as_bytes().chain(&b"\n"[..])),
            };
            Event::Sent(sent)
        })?;

        let mut sent = None;
        let mut received = false;
        loop {
            // While somebody types, the server may be silent.
            let event = match &sent {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => events.recv_timeout(timeout),
            };
            match event {
                // The server does not want to hear more, but may have more to say.
                Ok(Event::Sent(Err(error))) if !is_hang_up(&error) => return Err(error),
                Ok(Event::Sent(result)) => sent = Some(result),
                Ok(Event::Received) => {
                    received = true;
                    awaited = awaited.map(|count| count.saturating_sub(1));
                }
                // It is the server's to say when a conversation is over.
                Ok(Event::Ended(result)) => return result,
                // Datagrams have no end but silence.
                Err(RecvTimeoutError::Timeout) if is_datagram && received => return sent.unwrap_or(Ok(())),
                Err(RecvTimeoutError::Timeout) => {
                    // What could not be sent is why nothing comes.
                    sent.unwrap_or(Ok(()))?;
                    return Err(io::Error::new(ErrorKind::TimedOut, format!("timed out: no answer for {timeout:?}")));
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if awaited == Some(0) && sent.is_some() {
                return sent.unwrap_or(Ok(()));
            }
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Starts a thread whose last word is an event. It is not joined: it may be reading what never comes.
fn start(name: &str, tell: Sender<Event>, work: impl FnOnce() -> Event + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_string()).spawn(move || {
        let _ = tell.send(work());
    })?;
    Ok(())
}

/// Sends the input to its end, and says so to the server.
fn send(mut connection: Connection, framing: Option<LengthDelimited>, mut input: impl BufRead) -> io::Result<()> {
    if framing.is_none() && !connection.is_datagram() {
        // As it comes: whatever it is.
        io::copy(&mut input, &mut connection)?;
        return connection.half_close();
    }
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        let line_alone = line.strip_suffix(b"\n").unwrap_or(&line);
        match framing {
            Some(framing) => framing.write_frame(&mut connection, line_alone)?,
            None => connection.write(line_alone).map(|_| ())?,
        }
        line.clear();
    }
    connection.half_close()
}

/// Prints what comes, to the end or until nobody wants to hear of it.
fn receive(
    mut connection: Connection,
    framing: Option<LengthDelimited>,
    mut received: impl FnMut() -> bool,
) -> io::Result<()> {
    let mut stdout = io::stdout();
    if connection.is_datagram() {
        let mut datagram = vec![0; LONGEST_DATAGRAM];
        loop {
            let count = connection.read(&mut datagram)?;
            match framing {
                Some(framing) => {
                    let mut frames = Frames::new(&datagram[..count], framing);
                    while let Some(frame) = frames.next()? {
                        print_line(&mut stdout, frame)?;
                    }
                }
                None => print_line(&mut stdout, &datagram[..count])?,
            }
            if !received() {
                return Ok(());
            }
        }
    }
    if let Some(framing) = framing {
        let mut frames = Frames::new(BufReader::new(connection), framing);
        while let Some(frame) = frames.next()? {
            print_line(&mut stdout, frame)?;
            if !received() {
                break;
            }
        }
        return Ok(());
    }
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = connection.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        stdout.write_all(&piece[..count])?;
        stdout.flush()?;
        if !received() {
            return Ok(());
        }
    }
}

/// Prints a message, which may end with an end of line already.
fn print_line(stdout: &mut io::Stdout, message: &[u8]) -> io::Result<()> {
    stdout.write_all(message)?;
    if !message.ends_with(b"\n") {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}
