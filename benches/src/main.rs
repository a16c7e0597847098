//! Compares the crate's backends on standard cases, and with other servers.

mod cases;
mod rivals;

use std::process::ExitCode;

use socketserver_comparison::Comparison;

fn main() -> ExitCode {
    let comparison = cases::all().into_iter().fold(Comparison::new("socketserver's backends"), Comparison::case);
    rivals::all().into_iter().fold(comparison, Comparison::rival).version("python", rivals::python_version).run()
}
