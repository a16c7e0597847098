//! [`Episode`]: trouble that comes again and again, and is told once.

use std::time::{Duration, Instant};

/// How long there must be no trouble before the next is told again: so a limit that is met all day long is a line a minute at the most.
const QUIET: Duration = Duration::from_secs(60);

/// Trouble that comes again and again. It is over when there has been none for a minute.
#[derive(Debug, Default)]
pub(crate) struct Episode {
    /// When there was trouble last.
    last: Option<Instant>,
}

impl Episode {
    /// Notes that there is trouble. `true` if that begins an episode, and is to be told.
    pub(crate) fn trouble(&mut self) -> bool {
        let now = Instant::now();
        let before = self.last.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) >= QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_begins_once() {
        let mut episode = Episode::default();
        assert!(episode.trouble());
        assert!(!episode.trouble());
        // Half a minute without trouble does not end it, however often.
        for _ in 0..3 {
            episode.last = episode.last.map(|last| last - QUIET / 2);
            assert!(!episode.trouble());
        }
        episode.last = episode.last.map(|last| last - QUIET);
        assert!(episode.trouble());
    }
}
