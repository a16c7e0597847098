//! [`Full`]: the server at its limit, where it accepts nothing and turns nobody away.

use crate::episode::Episode;
use crate::limits::Limits;

/// Logs that the limit on connections is reached. A busy server reaches it again whenever a request has ended and the next begins:
/// all of that is one episode.
#[derive(Default)]
pub(super) struct Full {
    is_full: bool,
    episode: Episode,
}

impl Full {
    /// Takes in whether the server is full now. Only a change costs a look at the clock.
    pub(super) fn set(&mut self, is_full: bool, limits: &Limits) {
        if is_full == self.is_full {
            return;
        }
        self.is_full = is_full;
        // The quiet time is counted from when there was room again: so that is a part of the episode, too.
        let begins = self.episode.trouble();
        if is_full && begins {
            let max = limits.max_connections();
            log::info!(
                "max_connections is reached, which is {max}: who comes now waits in the kernel's queue \
                 (Server::max_connections or Limits::set_max_connections changes it)"
            );
        }
    }
}
