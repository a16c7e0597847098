//! [`Board`]: the state that all visits share.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use socketserver::Sender;

/// The notes and the guests. Its lock is never held while anybody waits for a peer: [`Sender::send`] does not wait.
#[derive(Default)]
pub struct Board {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    notes: BTreeMap<String, String>,
    /// Names of notes that nobody has asked for with [`Board::take_news`] yet.
    news: Vec<String>,
    /// The guests by their number; with a sender if they follow what is pinned.
    guests: HashMap<u64, Option<Sender>>,
    last_guest: u64,
}

impl Board {
    /// Pins a note, and tells the followers. One that reads too slowly to be told stays behind without this note; one whose
    /// visit is over is about to leave by itself.
    pub fn pin(&self, name: &str, text: &str) {
        let mut inside = self.lock();
        inside.notes.insert(name.to_string(), text.to_string());
        inside.news.push(name.to_string());
        let line = format!("{name}: {text}\n");
        for follower in inside.guests.values().flatten() {
            let _ = follower.send(line.as_bytes());
        }
    }

    pub fn read(&self, name: &str) -> Option<String> {
        self.lock().notes.get(name).cloned()
    }

    pub fn count(&self) -> usize {
        self.lock().notes.len()
    }

    pub fn guests(&self) -> usize {
        self.lock().guests.len()
    }

    /// Names of the notes that have been pinned since this was called last.
    pub fn take_news(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().news)
    }

    /// A guest comes, and gets a number.
    pub(crate) fn enter(&self) -> u64 {
        let mut inside = self.lock();
        inside.last_guest += 1;
        let guest = inside.last_guest;
        inside.guests.insert(guest, None);
        guest
    }

    pub(crate) fn follow(&self, guest: u64, sender: Sender) {
        self.lock().guests.insert(guest, Some(sender));
    }

    pub(crate) fn leave(&self, guest: u64) {
        self.lock().guests.remove(&guest);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
