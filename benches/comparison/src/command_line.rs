//! The command line of every comparison.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use socketserver::Addr;

use crate::server::BackendChoice;
use crate::transport::Transport;

/// Compares servers on throughput, latency, CPU time and memory.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub run: RunOptions,

    /// Given by `cargo bench`, and nothing to know.
    #[arg(long, hide = true, global = true)]
    pub bench: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints the report of an earlier run again, and draws its charts and writes its CSV beside it
    Draw {
        /// The JSON of the run
        results: PathBuf,
        /// Where to draw [default: beside the JSON]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Prints what a README says of a run, in Markdown
    Readme {
        /// The JSON of the run
        results: PathBuf,
        /// Only these charts, by the names of their files: `cpu`, `throughput`, ..
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        charts: Vec<String>,
    },
    /// Compares the ratios of two runs
    Agree {
        /// The JSON of one run
        one: PathBuf,
        /// The JSON of the other
        other: PathBuf,
        /// Fails when a ratio differs by more than this
        #[arg(long, value_name = "PERCENT", default_value = "10")]
        within: f64,
    },
    /// Serves one case until it is killed: how a comparison starts itself
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        case: String,
        #[arg(long)]
        backend: BackendChoice,
        #[arg(long)]
        bind: Addr,
    },
}

#[derive(Args, Debug)]
pub struct RunOptions {
    /// Few cells, few rounds and short windows: less than two minutes
    #[arg(long)]
    pub quick: bool,

    /// Only cases whose name contains this
    #[arg(long = "case", value_name = "NAME")]
    pub cases: Vec<String>,

    /// Only these transports
    #[arg(long = "transport", value_name = "NAME", value_delimiter = ',')]
    pub transports: Vec<Transport>,

    /// These numbers of connections, in place of those of the cases
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = positive)]
    pub connections: Vec<usize>,

    /// Only these servers: a backend, a rival, or NAME=COMMAND LINE, where the command's first line of output is `listening on
    /// tcp://IP:PORT`
    #[arg(long = "server", value_name = "SERVER")]
    pub servers: Vec<String>,

    /// All rivals as well
    #[arg(long)]
    pub rivals: bool,

    /// How often each cell is measured; every round takes all servers in turn [default: 5; quick: 3]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub rounds: Option<usize>,

    /// The length of a measured window [default: 0.4; quick: 0.3]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: Option<Duration>,

    /// The length of the load before it [default: 0.1]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub warmup: Option<Duration>,

    /// The most bytes of one write, for messages that are to be sent in pieces, which no datagram is
    #[arg(long, value_name = "BYTES", value_parser = positive)]
    pub write: Option<usize>,

    /// Where the results go: JSON, CSV and charts
    #[arg(long, value_name = "DIR", default_value = "target/comparison")]
    pub out: PathBuf,

    /// Tells the cases and the servers, and measures nothing
    #[arg(long)]
    pub list: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a positive whole number is needed".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("a positive number of seconds is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Command, CommandLine};

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn cargo_bench_may_add_its_flag_anywhere() {
        for line in [&["compare", "--quick", "--bench"][..], &["compare", "draw", "results.json", "--bench"]] {
            assert!(CommandLine::try_parse_from(line).expect("a valid command line").bench);
        }
    }

    #[test]
    fn a_server_is_started_with_a_backend_and_an_address() {
        let line =
            ["compare", "serve", "--case", "a b", "--backend", "event-loop x2", "--bind", "unix:///tmp/a b.sock"];
        let parsed = CommandLine::try_parse_from(line).expect("a valid command line");
        assert!(matches!(parsed.command, Some(Command::Serve { .. })));
    }

    #[test]
    fn numbers_are_positive() {
        for option in ["--rounds=0", "--seconds=0", "--connections=1,0", "--warmup=-1", "--write=x"] {
            assert!(CommandLine::try_parse_from(["compare", option]).is_err(), "{option}");
        }
    }
}
