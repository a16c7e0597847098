//! [`Served`]: an example that serves, on a cell of the table of servers; and the table of its tests.
// Each test program uses a part of this.
#![allow(dead_code)]

use socketserver::Addr;

use super::program::Program;
use super::support::cell::{Cell, Place};
use super::support::client::Client;

/// A serving example in a process of its own. Dropped, it is killed.
pub struct Served {
    pub addr: Addr,
    pub program: Program,
    /// Where it listens.
    _place: Place,
}

impl Served {
    /// Starts the example `name` on `cell` and waits until it listens.
    #[track_caller]
    pub fn start(name: &str, cell: Cell, arguments: &[&str]) -> Served {
        let place = cell.place();
        let server = cell.backend.to_string();
        let program = Program::start(name, &[&["--server", &server, "--bind", &place.url], arguments].concat());
        let line = program.stdout_line();
        let addr =
            line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).parse().expect("an address");
        Served { addr, program, _place: place }
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(&self.addr)
    }
}

/// Makes each of some functions of a [`Cell`] a test on each of some cells: `threading::tcp4::lines_go_to_everybody_else`.
macro_rules! table {
    ($($backend:ident [$($kind:ident)*])* => $behaviours:tt) => {
        $(mod $backend {
            $(mod $kind {
                table_cell! { $backend $kind $behaviours }
            })*
        })*
    };
}

macro_rules! table_cell {
    ($backend:ident $kind:ident [$($behaviour:ident)*]) => {
        $(#[test]
        fn $behaviour() {
            crate::$behaviour(crate::support::cell::Cell::named(stringify!($backend), stringify!($kind)));
        })*
    };
}
