//! [`Record`]: what happened, in order.

use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// A list of events that any thread appends to.
#[derive(Clone, Default)]
pub struct Record {
    shared: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Record {
    pub fn add(&self, event: impl Into<String>) {
        self.shared.0.lock().unwrap().push(event.into());
        self.shared.1.notify_all();
    }

    /// Waits until this many events have happened.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let events = self.shared.0.lock().unwrap();
        let too_few = |events: &mut Vec<String>| events.len() < count;
        let (events, timeout) = self.shared.1.wait_timeout_while(events, PATIENCE, too_few).unwrap();
        assert!(!timeout.timed_out(), "waited for {count} events, and these are all that came: {events:?}");
    }

    pub fn events(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().clone()
    }
}
