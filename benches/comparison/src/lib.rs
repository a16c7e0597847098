//! Compares how a handler runs on each backend of [`socketserver`], and beside other servers: throughput, latency, CPU time, memory,
//! as tables and charts.
//!
//! A program of some ten lines is a [`Comparison`] of a [`Case`], which is a handler with its [`Messages`]:
//!
//! ```no_run
//! use std::io;
//! use std::process::ExitCode;
//!
//! use socketserver::Request;
//! use socketserver::frame::{Framing, Lines};
//! use socketserver_comparison::{Case, Comparison, Messages};
//!
//! /// Answers each line with the number of its words.
//! fn count_words(request: &mut Request) -> io::Result<()> {
//!     let mut lines = request.frames(Lines::new());
//!     while let Some(line) = lines.next()? {
//!         let count = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
//!         Lines::new().write_frame(lines.get_mut(), count.to_string().as_bytes())?;
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> ExitCode {
//!     let messages = Messages::recorded("three short words\n", "3\n");
//!     Comparison::new("word counter").case(Case::new("count words", count_words, messages)).run()
//! }
//! ```
//!
//! It is a binary, or a benchmark with `harness = false`; its command line (`--help`) chooses cases, transports, numbers of
//! connections, servers, rounds and lengths. Linux only.
//!
//! # How it is measured
//!
//! * A server is a process of its own (the same executable, started again) with all its threads on one core; the load is one thread on
//!   another core, and checks every byte of every reply. A server with more threads does not look cheaper by using more of the machine.
//! * CPU time is the process's own CPU clock, read before and after a window that starts and ends with no message under way, so
//!   it belongs to exactly the messages that are counted.
//! * The servers under the same load run side by side and are measured in turns (A, B, C, A, B, C, ...) of some 50 ms, in several
//!   rounds, each with fresh processes and a warm-up.
//! * In an open loop, latency counts from when a request was due, so that a stall is in the latency of all that it delayed.
//! * What a server cannot serve is said, and not measured.
//! * Nothing but loopback and Unix sockets.

#![deny(unsafe_code)]
#![warn(missing_docs)]

// What is compared.
mod comparison;
mod case;
mod messages;
mod transport;
mod rival;
mod server;
// The program.
mod command_line;
mod plan;
mod run;
mod measure;
mod progress;
mod interrupt;
mod serve;
mod agreement;
// The machine.
mod cores;
mod host;
mod open_files;
// One sample: the server, what it has used, and the load.
mod server_process;
mod account;
mod load;
mod errors;
// What was measured, and how it is told.
pub mod results;
mod spread;
mod quantity;
mod group;
mod report;
mod csv;
mod chart;
mod readme;
mod table;
#[cfg(test)]
mod example;

pub use account::Memory;
pub use case::Case;
pub use comparison::Comparison;
pub use messages::Messages;
pub use results::Workload;
pub use rival::Rival;
pub use server::Launch;
pub use spread::Spread;
pub use transport::Transport;
