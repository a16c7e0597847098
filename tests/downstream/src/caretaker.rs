//! [`Caretaker`]: the hooks.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use socketserver::{Failure, FailureClass, Hooks, Incoming};

use crate::board::Board;

/// Turns away addresses that have misbehaved three times, and keeps a journal of what is pinned.
pub struct Caretaker<W> {
    board: Arc<Board>,
    offences: Mutex<HashMap<IpAddr, u32>>,
    journal: Mutex<W>,
}

const TOLERATED: u32 = 3;

impl<W: Write> Caretaker<W> {
    pub fn new(board: Arc<Board>, journal: W) -> Caretaker<W> {
        Caretaker { board, offences: Mutex::default(), journal: Mutex::new(journal) }
    }
}

impl<W: Write + Send> Hooks for Caretaker<W> {
    fn verify_request(&self, request: &Incoming) -> io::Result<bool> {
        let offences = self.offences.lock().unwrap_or_else(PoisonError::into_inner);
        // Unix peers have no address: who may connect to the socket's file is trusted.
        let known = request.peer_addr().ip().and_then(|ip| offences.get(&ip));
        Ok(known.is_none_or(|&count| count < TOLERATED))
    }

    fn handle_error(&self, failure: &Failure<'_>) {
        failure.log();
        // Nobody is blamed for a lost line, nor for what is wrong here.
        if let (FailureClass::Protocol, Some(ip)) = (failure.class, failure.peer.ip()) {
            *self.offences.lock().unwrap_or_else(PoisonError::into_inner).entry(ip).or_default() += 1;
        }
    }

    fn service_actions(&self) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        for name in self.board.take_news() {
            // A full disk is no reason to close the board.
            let _ = writeln!(journal, "{name}");
        }
    }
}
