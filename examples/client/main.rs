//! Talks with any of the example servers.
//!
//! ```text
//! cargo run --release --example client -- 127.0.0.1:9999
//! cargo run --release --example client -- udp://127.0.0.1:9999 --send hello
//! cargo run --release --example client -- unix:///tmp/commands.sock run 'ls -l; exit 3'
//! cargo run --release --example client -- 127.0.0.1:9999 upload FILE
//! printf 'one\ntwo\n' | cargo run --release --example client -- 127.0.0.1:9999 --frame length:4
//! ```
//!
//! Without a command it sends what you type, and prints what comes. At the end of the input (Ctrl-D) it says so to the server, and
//! prints what still comes. To a datagram socket it sends each line as a datagram.
//!
//! It ends with 0; with 1 and a line that says why, if nobody listens, an answer does not come in time, or the connection ends
//! where it should not; with 2 if it was called wrongly. `run` ends with the status of the command, or with 0 where a datagram does
//! not tell it.

mod connection;
mod run;
mod talk;
mod upload;

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use connection::Connection;
use socketserver::Addr;
use socketserver::frame::LengthDelimited;
use talk::Talk;

/// The framing of `remote_command` and `file_upload`.
const FRAMING: LengthDelimited = LengthDelimited::new();

/// Talks with any of the example servers: sends what you type, and prints what comes.
#[derive(Parser)]
#[command(name = "client")]
struct Arguments {
    /// The server: tcp://HOST:PORT, udp://HOST:PORT, unix:///PATH, unixgram:///PATH, or HOST:PORT for TCP
    #[arg(value_name = "ADDR")]
    addr: String,

    /// Send this line in place of the input; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    send: Vec<String>,

    /// Send each line as a message after its length, in length:1, length:2, length:4 or length:8 bytes, big-endian; and print each
    /// message that comes as a line
    #[arg(long, value_name = "FRAMING", value_parser = framing)]
    frame: Option<LengthDelimited>,

    /// How long connecting may take
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, allow_negative_numbers = true, global = true)]
    connect_timeout: Duration,

    /// How long one write may take, and the next piece of an answer once everything is sent [default: 30, for a conversation in
    /// datagrams 1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true, global = true)]
    timeout: Option<Duration>,

    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Sends files to the example `file_upload`
    Upload {
        /// The files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Has the example `remote_command` run a command: its output comes here, and its status is this program's
    Run {
        /// The command, as for `sh -c`; several words are put together with spaces
        #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let addr = match arguments.addr.parse::<Addr>() {
        Ok(addr) => addr,
        Err(error) if error.kind() == ErrorKind::InvalidInput => wrong_usage(&error.to_string()),
        Err(error) => return fail(&error),
    };
    if arguments.task.is_some() && (arguments.frame.is_some() || !arguments.send.is_empty()) {
        wrong_usage("--send and --frame are for a conversation");
    }
    if let (Some(Task::Upload { .. }), Addr::Udp(_) | Addr::Unixgram(_)) = (&arguments.task, &addr) {
        wrong_usage("files are sent over a connection, not in datagrams");
    }
    match talk_with(&addr, arguments) {
        Ok(exit_code) => exit_code,
        Err(error) => fail(&error),
    }
}

fn talk_with(addr: &Addr, arguments: Arguments) -> io::Result<ExitCode> {
    let connection = Connection::open(addr, arguments.connect_timeout)?;
    // Silence is the only end that a conversation in datagrams has.
    let is_talk_in_datagrams = connection.is_datagram() && arguments.task.is_none();
    let default = Duration::from_secs(if is_talk_in_datagrams { 1 } else { 30 });
    let timeout = arguments.timeout.unwrap_or(default);
    connection.set_write_timeout(timeout)?;
    if arguments.task.is_some() {
        connection.set_read_timeout(timeout)?;
    }
    match arguments.task {
        Some(Task::Upload { files }) => upload::upload(connection, &files)?,
        Some(Task::Run { command }) => return run::run(connection, &command.join(" ")),
        None => Talk { lines: arguments.send, framing: arguments.frame, timeout }.talk(connection)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn fail(error: &io::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn wrong_usage(message: &str) -> ! {
    Arguments::command().error(clap::error::ErrorKind::ValueValidation, message).exit()
}

fn framing(text: &str) -> Result<LengthDelimited, String> {
    match text.strip_prefix("length:").map(str::parse) {
        Some(Ok(bytes @ (1 | 2 | 4 | 8))) => Ok(LengthDelimited::new().length_field_length(bytes)),
        _ => Err("expected length:1, length:2, length:4 or length:8".to_string()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.filter(|seconds| !seconds.is_zero());
    seconds.ok_or_else(|| "expected a number of seconds above 0, such as 5 or 0.5".to_string())
}
