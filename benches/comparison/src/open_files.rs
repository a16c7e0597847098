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

impl OpenFiles {
    /// Raises the soft limit to the hard limit, which servers inherit.
    pub fn raise() -> Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for the limit of open files")?;
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")?;
        }
        Ok(Self { limit: hard })
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
}
