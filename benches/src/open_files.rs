//! The limit of open files, of this process and so of the servers it starts.

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a process opens besides its connections: standard streams, polls, wakers, its listener.
const BESIDES_CONNECTIONS: u64 = 64;

/// Raises the soft limit to the hard limit, which servers inherit.
///
/// # Errors
///
/// The hard limit leaves no room for `connections` - the message tells the number that is needed.
pub fn make_room_for(connections: usize) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for the limit of open files")?;
    let needed = connections as u64 + BESIDES_CONNECTIONS;
    if hard < needed {
        bail!(
            "{connections} connections need {needed} open files in each process, but the hard limit is {hard}: \
             raise it (`ulimit -Hn {needed}`) or ask for fewer connections"
        );
    }
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")?;
    }
    Ok(())
}
