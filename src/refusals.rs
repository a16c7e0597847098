//! [`Refusals`]: the lines about requests that are turned away for lack of room.

use std::fmt;
use std::sync::Mutex;

use crate::addr::Addr;
use crate::episode::Episode;
use crate::lock::lock;

/// What a request is refused for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lack {
    /// As many requests are in progress as may be: so many.
    Connections(usize),
    /// As many of its peer's are: so many.
    PerPeer(usize),
    /// The backend can run no more.
    Backend,
    /// There is no thread or stack to be had.
    Resources,
}

/// Logs refusals: each on level `debug`, and the first of an episode as a warning. Each lack has its own episodes, so that a peer that
/// always wants too much does not hide that the server is full.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    episodes: Mutex<Episodes>,
}

#[derive(Debug, Default)]
struct Episodes {
    connections: Episode,
    per_peer: Episode,
    backend: Episode,
    resources: Episode,
}

impl Refusals {
    /// Tells that `peer` is refused.
    pub(crate) fn tell(&self, peer: &Addr, lack: Lack) {
        if self.begins_episode(lack) {
            log::warn!("refusing {peer} and whoever follows: {lack}");
        }
        log::debug!("refused {peer}: {lack}");
    }

    fn begins_episode(&self, lack: Lack) -> bool {
        let mut episodes = lock(&self.episodes);
        let episode = match lack {
            Lack::Connections(_) => &mut episodes.connections,
            Lack::PerPeer(_) => &mut episodes.per_peer,
            Lack::Backend => &mut episodes.backend,
            Lack::Resources => &mut episodes.resources,
        };
        episode.trouble()
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Connections(max) => write!(
                f,
                "max_connections is {max}, and as many requests are in progress \
                 (Server::max_connections or Limits::set_max_connections changes it)"
            ),
            Lack::PerPeer(max) => write!(
                f,
                "max_per_peer is {max}, and as many requests of this address are in progress \
                 (Server::max_per_peer or Limits::set_max_per_peer changes it)"
            ),
            Lack::Backend => f.write_str("the backend is full (ForkingStyle::new sets the number of workers)"),
            Lack::Resources => f.write_str("there is nothing left to run requests on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lack_does_not_hide_another() {
        let refusals = Refusals::default();
        for lack in [Lack::Connections(1), Lack::PerPeer(1), Lack::Backend, Lack::Resources] {
            assert!(refusals.begins_episode(lack), "{lack}");
            assert!(!refusals.begins_episode(lack), "{lack}");
        }
    }
}
