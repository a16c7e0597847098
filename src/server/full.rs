//! [`Full`]: the server at its limit, where it accepts nothing and turns nobody away.

use crate::episode::Episode;
use crate::refusals::Lack;

/// Logs that a limit is reached. A busy server reaches it again whenever a request has ended and the next begins: all of that is one
/// episode.
#[derive(Default)]
pub(super) struct Full {
    is_full: bool,
    episode: Episode,
}

impl Full {
    /// Takes in what the server lacks now, so that it leaves requests where they are. Only a change costs a look at the clock.
    pub(super) fn set(&mut self, lack: Option<Lack>) {
        if lack.is_some() == self.is_full {
            return;
        }
        self.is_full = lack.is_some();
        // The quiet time is counted from when there was room again: so that is a part of the episode, too.
        let begins = self.episode.trouble();
        if let Some(lack) = lack.filter(|_| begins) {
            log::info!("{lack}: who comes now waits in the kernel's queue");
        }
    }
}
