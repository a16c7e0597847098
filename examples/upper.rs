//! Sends back what it receives with ASCII letters in upper case, and every other byte as it was.
//!
//! ```text
//! cargo run --release --example upper
//! cargo run --release --example upper -- --server event-loop --bind udp://127.0.0.1:9999
//! ```
//!
//! Then try `nc 127.0.0.1 9999` (or `nc -u`) and type.

mod options;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use clap::Parser;
use socketserver::Request;

fn upper(request: &mut Request) -> io::Result<()> {
    let (mut rfile, mut wfile) = request.split();
    loop {
        let bytes = rfile.fill_buf()?;
        // Before looking for the end: an empty datagram is answered with an empty one.
        wfile.write_all(&bytes.to_ascii_uppercase())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let count = bytes.len();
        rfile.consume(count);
    }
}

/// Sends back what it receives in upper case.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: options::Options,
}

fn main() -> ExitCode {
    Arguments::parse().options.serve(upper, options::netcat)
}
