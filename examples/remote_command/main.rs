//! Runs shell commands for its clients.
//!
//! ```text
//! cargo run --release --example remote_command
//! cargo run --release --example remote_command -- --server event-loop --bind unix:///tmp/commands.sock --limit 60
//! ```
//!
//! Then try `cargo run --release --example client -- 127.0.0.1:9999 run 'uname -a; exit 3'`, and `echo $?`.
//!
//! On a connection, a request is the length of a command in 4 bytes, big-endian, and the command in UTF-8; there may be many, and
//! they need not wait for each other's replies. A reply is the length of a header in 4 bytes and the header in JSON,
//! `{"status": 3, "stdout": 123, "stderr": 0}`, and then so many bytes of both. If a command was killed, its status is 137, as a
//! shell says it; if none was run, 255; and the header has an `"error"` that says why. A datagram is a command, and is answered
//! with one that has what the command wrote to both.
//!
//! Whoever can connect is given the rights of this program's user. So it listens where only this machine can connect, unless it is
//! told otherwise.
//!
//! A command is the leader of a process group, which is killed as a whole when the command ends, takes too long or writes too
//! much, when the connection is reset or the server ends. A client that closes a TCP connection in the normal way looks like one
//! that waits for its reply, so its command may go on up to its limit. Out of reach are processes that leave the group (`setsid`),
//! and what runs when this program itself is killed, or ended at once by a second signal.

#[path = "../options/mod.rs"]
mod options;
mod shell;

use std::io::{self, Cursor, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use shell::{Outcome, Shell, Stream};
use socketserver::frame::{LengthDelimited, write_json};
use socketserver::{Addr, Request, RequestHandler};
use tempfile::SpooledTempFile;

/// Linux takes arguments of less than 128 KiB, and a command is one.
const FRAMING: LengthDelimited = LengthDelimited::new().max_frame_length(128 * 1024 - 1);

/// The longest reply to a datagram. A UDP datagram has room for 65,507 bytes.
const DATAGRAM: usize = 60_000;

/// Output up to this is not worth a file.
const IN_MEMORY: usize = 64 * 1024;

/// How much of a reply is in memory at a time.
const PIECE: u64 = 256 * 1024;

/// What the status is if no command was run: ssh's number.
const NOT_RUN: i32 = 255;

struct RemoteCommand {
    shell: Arc<Shell>,
}

impl RequestHandler for RemoteCommand {
    fn handle(&mut self, request: &mut Request) -> io::Result<()> {
        if request.is_datagram() { self.answer_datagram(request) } else { self.answer_frames(request) }
    }
}

impl RemoteCommand {
    fn answer_frames(&self, request: &mut Request) -> io::Result<()> {
        let mut commands = request.frames(FRAMING);
        loop {
            let command = match commands.next() {
                Ok(None) => return Ok(()),
                Ok(Some(bytes)) => text(bytes),
                Err(error) => {
                    let may_listen =
                        matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::TimedOut | ErrorKind::UnexpectedEof);
                    if may_listen {
                        send(commands.get_mut(), not_run(&error)?)?;
                    }
                    // Nobody knows where the next command would begin.
                    return Err(error);
                }
            };
            let request = commands.get_mut();
            let reply = match command {
                Ok(command) => self.run(request, command)?,
                Err(error) => not_run(&error)?,
            };
            send(request, reply)?;
        }
    }

    /// Runs a command to its end, with its output spooled: the header must say how much there is before the first byte of it.
    fn run(&self, request: &mut Request, command: String) -> io::Result<Reply> {
        let shell = self.shell.clone();
        let connection = request.as_fd().try_clone_to_owned()?;
        log::info!("{} runs {command:?}", request.peer_addr());
        request.offload(move || {
            // Files without a name: whatever happens, nothing of them is left.
            let [mut stdout, mut stderr] = [(); 2].map(|()| tempfile::spooled_tempfile(IN_MEMORY));
            let outcome = shell.run(&command, Some(connection), |stream, bytes| match stream {
                Stream::Stdout => stdout.write_all(bytes),
                Stream::Stderr => stderr.write_all(bytes),
            });
            match outcome {
                Ok(outcome) => reply(outcome, stdout, stderr),
                // There is nobody to reply to.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => Err(error),
                Err(error) => not_run(&error),
            }
        })?
    }

    fn answer_datagram(&self, request: &mut Request) -> io::Result<()> {
        let mut command = Vec::new();
        request.read_to_end(&mut command)?;
        let command = if request.is_truncated() { Err(invalid("the command is cut off")) } else { text(&command) };
        let reply = match command {
            Ok(command) => {
                log::info!("{} runs {command:?}", request.peer_addr());
                let shell = self.shell.clone();
                request.offload(move || run_combined(&shell, &command))?
            }
            Err(error) => Err(error),
        };
        request.write_all(&reply.unwrap_or_else(|error| format!("error: {error}\n").into_bytes()))
    }
}

/// Gives what a command writes to both, up to what goes into a datagram.
fn run_combined(shell: &Shell, command: &str) -> io::Result<Vec<u8>> {
    let (mut output, mut total) = (Vec::new(), 0);
    // By the shell, so that both are in the order in which they were written.
    let outcome = shell.run(&format!("exec 2>&1\n{command}"), None, |_, bytes| {
        total += bytes.len();
        output.extend_from_slice(&bytes[..bytes.len().min(DATAGRAM - output.len())]);
        Ok(())
    })?;
    let cut = (total > DATAGRAM).then(|| format!("cut: there were {total} bytes"));
    let mut remarks: String = cut.into_iter().chain(outcome.killed).map(|remark| format!("[{remark}]\n")).collect();
    if !remarks.is_empty() && !output.is_empty() {
        remarks.insert(0, '\n');
    }
    output.truncate(DATAGRAM - remarks.len());
    output.extend_from_slice(remarks.as_bytes());
    Ok(output)
}

#[derive(Serialize)]
struct Header {
    status: i32,
    stdout: u64,
    stderr: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Everything that a client gets for a command, from the first byte to the last.
type Reply = Box<dyn Read + Send>;

fn reply(outcome: Outcome, mut stdout: SpooledTempFile, mut stderr: SpooledTempFile) -> io::Result<Reply> {
    let written = [stdout.stream_position()?, stderr.stream_position()?];
    stdout.rewind()?;
    stderr.rewind()?;
    let Outcome { status, killed } = outcome;
    let header = frame(&Header { status, stdout: written[0], stderr: written[1], error: killed })?;
    Ok(Box::new(header.chain(stdout).chain(stderr)))
}

fn not_run(error: &io::Error) -> io::Result<Reply> {
    Ok(Box::new(frame(&Header { status: NOT_RUN, stdout: 0, stderr: 0, error: Some(error.to_string()) })?))
}

fn frame(header: &Header) -> io::Result<Cursor<Vec<u8>>> {
    let mut frame = Vec::new();
    write_json(&FRAMING, &mut frame, header)?;
    Ok(Cursor::new(frame))
}

/// Streams a reply. A short one is a single write, so that no part of it waits for the acknowledgement of another.
fn send(request: &mut Request, mut reply: Reply) -> io::Result<()> {
    loop {
        // A file may have to be read from the disk.
        let (rest, piece) = request.offload(move || {
            let mut piece = Vec::new();
            reply.by_ref().take(PIECE).read_to_end(&mut piece).map(|_| (reply, piece))
        })??;
        if piece.is_empty() {
            return Ok(());
        }
        request.write_all(&piece)?;
        reply = rest;
    }
}

fn text(bytes: &[u8]) -> io::Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid("the command is not UTF-8"))
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

/// Runs shell commands for its clients.
#[derive(Parser)]
struct Arguments {
    /// How long a command may take before it is killed, with all that it has started
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = options::seconds, allow_negative_numbers = true)]
    limit: Duration,

    /// How much a command may write before it is killed: until it is sent, that is on the disk
    #[arg(long, value_name = "BYTES", default_value = "67108864")]
    max_output: u64,

    /// Listen also where other machines can connect, which lets them do everything that you can
    #[arg(long)]
    allow_remote: bool,

    #[command(flatten)]
    options: options::Options,
}

fn main() -> ExitCode {
    let Arguments { limit, max_output, allow_remote, options } = Arguments::parse();
    if !allow_remote && !is_local(options.bind()) {
        eprintln!(
            "error: {} is not a loopback address: whoever connects could run anything (--allow-remote)",
            options.bind()
        );
        return ExitCode::from(2);
    }
    let (shell, commands) = match Shell::new(limit, max_output) {
        Ok((shell, commands)) => (Arc::new(shell), commands),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit_code = options.serve(move || RemoteCommand { shell: shell.clone() }, client);
    commands.end();
    exit_code
}

fn is_local(addr: &Addr) -> bool {
    addr.ip().is_none_or(|ip| ip.to_canonical().is_loopback())
}

fn client(addr: &Addr) -> String {
    format!("cargo run --release --example client -- {addr} run 'uname -a'")
}
