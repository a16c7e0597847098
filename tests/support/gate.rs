//! [`Gate`]: holds handlers in the middle of their requests, on any backend.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use socketserver::Request;

use super::PATIENCE;

/// Handlers enter it and wait until it is opened. It counts them, so that a test knows when they are there.
#[derive(Clone, Default)]
pub struct Gate {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    open: bool,
    inside: usize,
    most: usize,
}

impl Gate {
    /// Waits here, as a request does, until the gate is open.
    pub fn pass(&self, request: &mut Request) -> io::Result<()> {
        self.change(|state| {
            state.inside += 1;
            state.most = state.most.max(state.inside);
        });
        let mut result = Ok(());
        while result.is_ok() && !self.shared.0.lock().unwrap().open {
            result = request.sleep(Duration::from_millis(1));
        }
        self.change(|state| state.inside -= 1);
        result
    }

    pub fn open(&self) {
        self.change(|state| state.open = true);
    }

    /// For those who come from now on.
    pub fn close(&self) {
        self.change(|state| state.open = false);
    }

    /// Waits until this many handlers are at the gate.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let state = self.shared.0.lock().unwrap();
        let (state, timeout) = self.shared.1.wait_timeout_while(state, PATIENCE, |state| state.inside < count).unwrap();
        assert!(!timeout.timed_out(), "waited for {count} handlers at the gate, and there are {}", state.inside);
    }

    /// The most handlers that were here at a time.
    pub fn most(&self) -> usize {
        self.shared.0.lock().unwrap().most
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.0.lock().unwrap());
        self.shared.1.notify_all();
    }
}
