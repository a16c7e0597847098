//! The hooks: who is let in, what is remembered of failures, what happens now and then.

#[allow(dead_code)]
mod support;

use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use downstream::{Board, Caretaker, Visit};
use socketserver::EventLoopTcpServer;
use support::{Guest, PATIENCE, Serving};

#[test]
fn who_misbehaves_three_times_is_turned_away() {
    let board = Arc::new(Board::default());
    let shared = board.clone();
    let server = EventLoopTcpServer::bind("127.0.0.1:0", move || Visit::new(shared.clone())).unwrap();
    let server = server.hooks(Caretaker::new(board.clone(), io::sink()));
    let serving = Serving::start(server);

    for offence in ["SHOUT", "COUNT what", &format!("PIN long {}", "x".repeat(2000))] {
        let mut guest = Guest::connect(&serving.addr);
        assert_eq!(guest.ask("GUESTS"), "1");
        assert_eq!(guest.ask(offence), "", "it hangs up");
    }
    assert_eq!(Guest::connect(&serving.addr).leave(), "", "it is not even asked what it wants");

    let (_, stats) = serving.end();
    assert_eq!((stats.failed, stats.rejected), (3, 1), "{stats:?}");
    assert_eq!(board.guests(), 0, "those that failed have left as well");
}

#[test]
fn the_journal_names_what_is_pinned() {
    let board = Arc::new(Board::default());
    let shared = board.clone();
    let (journal, reader) = UnixStream::pair().unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = EventLoopTcpServer::bind("127.0.0.1:0", move || Visit::new(shared.clone())).unwrap();
    // What a visit pins wakes nobody up: the caretaker has to come by.
    let server = server.hooks(Caretaker::new(board.clone(), journal)).poll_interval(Some(Duration::from_millis(10)));
    let serving = Serving::start(server);

    assert_eq!(Guest::connect(&serving.addr).ask("PIN lunch soup"), "pinned");
    board.pin("dinner", "bread");
    let mut lines = BufReader::new(reader).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "lunch");
    assert_eq!(lines.next().unwrap().unwrap(), "dinner");
}
