//! Compares echo servers by what they cost: CPU time per message, datagram and connection, memory per idle connection; and by
//! how they treat connections beside one that floods.
//!
//! Each server is a process of its own on one core; the load is made by this process on another. The server's cost is read
//! from the kernel's account of its process, so that the cost of making load is not in any number.

mod connection;
mod connector;
mod cores;
mod cpu_time;
mod errors;
mod exchange;
mod fairness;
mod flood;
mod idle;
mod load;
mod memory;
mod open_files;
mod report;
mod rounds;
mod server_process;
mod server_spec;
mod spread;
mod table;
mod transport;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::load::{Reuse, Traffic};
use crate::rounds::Plan;
use crate::server_spec::ServerSpec;
use crate::transport::Transport;

/// Compares echo servers on CPU time, latency and memory.
#[derive(Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// CPU time per message: each connection sends a message, waits for the whole echo, then sends the next.
    Echo {
        /// The number of connections, all busy.
        #[arg(long, default_value = "100")]
        connections: NonZeroUsize,
        /// The size of a message in bytes.
        #[arg(long, default_value = "64")]
        size: NonZeroUsize,
        /// The most bytes in one write; of a message of several writes, the echo is read meanwhile [default: whole messages]
        #[arg(long)]
        write: Option<NonZeroUsize>,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// CPU time per datagram: each client sends one, waits for its echo, then sends the next; again, if it is lost.
    Udp {
        /// The number of clients, each with a socket of its own.
        #[arg(long, default_value = "100")]
        clients: NonZeroUsize,
        /// The size of a datagram in bytes.
        #[arg(long, default_value = "64")]
        size: NonZeroUsize,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Fairness: latency of the echoes of 64 bytes of some connections, without and with one more that floods the server.
    Flood {
        /// The number of connections that ping, beside the one that floods.
        #[arg(long, default_value = "50")]
        pings: NonZeroUsize,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Memory per idle connection: each connection is served one echo of 64 bytes and then left open.
    Idle {
        /// The number of connections, all idle.
        #[arg(long, default_value = "10000")]
        connections: NonZeroUsize,
        #[command(flatten)]
        servers: Servers,
    },
    /// CPU time per connection: connect, echo 64 bytes once, close; then the next.
    Churn {
        /// The number of connections open at a time; keep it below the shortest accept queue of the servers.
        #[arg(long, default_value = "10")]
        connections: NonZeroUsize,
        #[command(flatten)]
        rounds: Rounds,
    },
}

#[derive(Args)]
struct Rounds {
    /// The length of each measured window in seconds.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// The length of the load before each measured window in seconds.
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warmup: Duration,
    /// How often each server is measured; every round takes all servers in turn.
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    #[command(flatten)]
    servers: Servers,
}

#[derive(Args)]
struct Servers {
    /// raw-epoll, std-threads, tokio, tokio-multi, may, socketserver:BACKEND (threading, forking-style, event-loop or
    /// sequential), or NAME=COMMAND LINE, where the command's first line of output is `listening on tcp://IP:PORT` (`udp` in `compare udp`).
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<ServerSpec>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("a positive number of seconds is needed".to_owned()),
    }
}

/// The size of the message in `idle`, `churn` and `flood`, where it only proves that the connection was really served.
const PROOF_BYTES: usize = 64;

fn main() -> ExitCode {
    let measured = match CommandLine::parse().command {
        Command::Echo { connections, size, write, rounds } => {
            let write_bytes = write.unwrap_or(NonZeroUsize::MAX).get();
            let plan = rounds.plan(Traffic { write_bytes, ..traffic(connections, size.get()) });
            rounds::compare(&plan, &rounds.servers.servers)
        }
        Command::Udp { clients, size, rounds } => {
            let plan = rounds.plan(Traffic { transport: Transport::Udp, ..traffic(clients, size.get()) });
            rounds::compare(&plan, &rounds.servers.servers)
        }
        Command::Flood { pings, rounds } => {
            let plan = rounds.plan(traffic(pings, PROOF_BYTES));
            fairness::compare(&plan, &rounds.servers.servers)
        }
        Command::Churn { connections, rounds } => {
            let plan = rounds.plan(Traffic { reuse: Reuse::Reconnect, ..traffic(connections, PROOF_BYTES) });
            rounds::compare(&plan, &rounds.servers.servers)
        }
        Command::Idle { connections, servers } => idle::compare(connections.get(), PROOF_BYTES, &servers.servers),
    };
    match measured {
        Ok(errors) if errors.is_empty() => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("compare: there were errors; the rows marked with ! are not to be trusted");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Streams that are kept, and messages in one write.
fn traffic(connections: NonZeroUsize, message_bytes: usize) -> Traffic {
    Traffic {
        transport: Transport::Tcp,
        connections: connections.get(),
        message_bytes,
        write_bytes: usize::MAX,
        reuse: Reuse::Keep,
        flood: false,
    }
}

impl Rounds {
    fn plan(&self, traffic: Traffic) -> Plan {
        Plan { traffic, warmup: self.warmup, window: self.seconds, rounds: self.rounds.get() }
    }
}
