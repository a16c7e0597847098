//! The limit of open files, of this process and so of the servers it starts.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many files each process may open.
#[derive(Clone, Copy, Debug)]
pub struct OpenFiles {
    pub limit: u64,
}

/// What a process opens besides its connections: standard streams, polls, wakers, its listener.
const BESIDES_CONNECTIONS: u64 = 64;

/// As many as one server may have to serve, and some more; what all of them need is memory of the kernel's.
const MOST_CONNECTIONS: u64 = 15_000;

impl OpenFiles {
    /// Raises the soft limit to the hard limit, which servers inherit.
    pub fn raise() -> Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for the limit of open files")?;
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")?;
        }
        Ok(Self { limit: hard })
    }

    /// How often this many connections may be open at the same time; at least once.
    pub fn times(self, connections: usize) -> usize {
        let most = self.limit.saturating_sub(BESIDES_CONNECTIONS).min(MOST_CONNECTIONS);
        usize::try_from(most).unwrap_or(usize::MAX).checked_div(connections).map_or(1, |times| times.max(1))
    }

    /// Why there is no room for this many connections, if there is none.
    pub fn too_few_for(self, connections: usize) -> Option<String> {
        let needed = connections as u64 + BESIDES_CONNECTIONS;
        (self.limit < needed).then(|| {
            format!("{connections} connections need {needed} open files, but the hard limit is {}", self.limit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::OpenFiles;

    #[test]
    fn the_limit_counts_what_is_open_besides() {
        let files = OpenFiles { limit: 1024 };
        assert_eq!(files.too_few_for(960), None);
        let reason = files.too_few_for(961).expect("too many connections");
        assert!(reason.contains("1025 open files"), "{reason}");
    }

    #[test]
    fn few_connections_may_be_open_several_times() {
        assert_eq!(OpenFiles { limit: 1024 }.times(100), 9);
        assert_eq!(OpenFiles { limit: 1024 }.times(2_000), 1);
        assert_eq!(OpenFiles { limit: 1 << 20 }.times(10_000), 1);
    }
}
