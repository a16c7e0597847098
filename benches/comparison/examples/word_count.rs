//! Compares a handler of one's own, which is not an echo, on every backend:
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml -p socketserver-comparison --example word_count
//! ```
//!
//! `-- --help` says how to choose among servers, transports and numbers of connections.

use std::io;
use std::process::ExitCode;

use socketserver::Request;
use socketserver::frame::{Framing, Lines};
use socketserver_comparison::{Case, Comparison, Messages, Transport, Workload};

/// Answers each line with the number of its words.
fn count_words(request: &mut Request) -> io::Result<()> {
    let mut lines = request.frames(Lines::new());
    while let Some(line) = lines.next()? {
        let count = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
        Lines::new().write_frame(lines.get_mut(), count.to_string().as_bytes())?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let messages = || Messages::recorded("the same handler on every server\n", "6\n");
    Comparison::new("A word counter on every backend")
        .case(Case::new("count words", count_words, messages()).transports([Transport::Tcp, Transport::Unix]))
        .case(
            Case::new("count words at 5,000/s", count_words, messages())
                .workload(Workload::OpenLoop { per_second: 5000.0 })
                .connections([40]),
        )
        .run()
}
