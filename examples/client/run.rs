//! [`run`]: has the example `remote_command` run a command.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::process::ExitCode;

use serde::Deserialize;
use socketserver::frame::{Frames, Framing};

use crate::FRAMING;
use crate::connection::{Connection, LONGEST_DATAGRAM};

#[derive(Deserialize)]
struct Header {
    status: i32,
    stdout: u64,
    stderr: u64,
    /// Why the command was killed, or not run.
    error: Option<String>,
}

/// Prints what the command prints, and returns its status. A datagram's reply has no status: it is 0.
pub fn run(mut connection: Connection, command: &str) -> io::Result<ExitCode> {
    if connection.is_datagram() {
        connection.write_all(command.as_bytes())?;
        let mut output = vec![0; LONGEST_DATAGRAM];
        let count = connection.read(&mut output)?;
        io::stdout().write_all(&output[..count])?;
        return Ok(ExitCode::SUCCESS);
    }
    FRAMING.write_frame(&mut connection, command.as_bytes())?;
    let mut replies = Frames::new(BufReader::new(connection), FRAMING);
    let Some(header) = replies.next_json::<Header>()? else {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server has closed the connection without an answer"));
    };
    io::copy(&mut replies.body(header.stdout), &mut io::stdout())?;
    io::stdout().flush()?;
    io::copy(&mut replies.body(header.stderr), &mut io::stderr())?;
    if let Some(error) = header.error {
        eprintln!("error: {error}");
    }
    // The system has room for no more; what does not fit is no success.
    Ok(ExitCode::from(u8::try_from(header.status).unwrap_or(u8::MAX)))
}
