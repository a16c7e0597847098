//! A server as a child process: started on its core, known by its address, never left behind.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use socketserver::Addr;

use crate::account::Switches;
use crate::cores::Cores;
use crate::server::Launch;
use crate::transport::Transport;

/// How long a server may take until it says where it listens. Far more than any needs, as it only ends a comparison.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server. Dropping it kills and reaps it.
pub struct ServerProcess {
    child: Child,
    /// Kept open, because a server that prints to a closed pipe fails.
    _stdout: ChildStdout,
    address: Addr,
}

impl ServerProcess {
    /// Starts the program on the servers' core and waits until it listens.
    #[allow(unsafe_code)]
    pub fn start(launch: &Launch, transport: Transport, cores: Cores) -> Result<Self> {
        let core = cores.server_set()?;
        let mut command = Command::new(&launch.program);
        command.args(&launch.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        // A group of its own, so that the end of a wrapper is also the end of what it wraps.
        command.process_group(0);
        // SAFETY: `prepare` only makes system calls and allocates nothing, as is required between fork and exec.
        unsafe { command.pre_exec(move || prepare(&core)) };
        let mut child = command.spawn().with_context(|| format!("starting {}", launch.program.display()))?;
        match greeting(&mut child, transport) {
            Ok((stdout, address)) => Ok(Self { child, _stdout: stdout, address }),
            Err(error) => {
                end(&mut child);
                Err(error.context("waiting for the server to listen"))
            }
        }
    }

    pub fn address(&self) -> &Addr {
        &self.address
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as libc::pid_t)
    }

    /// Fails when the server has ended, which no server is asked to do.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait().context("asking whether the server still runs")? {
            None => Ok(()),
            Some(status) => bail!("the server has ended: {status}"),
        }
    }

    /// Ends the server. Returns how often all threads that it ever had were switched.
    pub fn end(self) -> Result<Switches> {
        let before = Switches::of_ended_children()?;
        drop(self);
        Ok(Switches::of_ended_children()? - before)
    }

    /// Returns whether the server has processes below it, of which its own account knows nothing. A kernel that does not
    /// list children is taken to say no.
    pub fn has_children(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid())) else {
            return false;
        };
        let children = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children"));
        threads.flatten().filter_map(|thread| children(thread).ok()).any(|listed| !listed.trim().is_empty())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Runs in the child: goes to its core, and dies with the driver even when the driver is killed.
fn prepare(core: &CpuSet) -> io::Result<()> {
    sched_setaffinity(Pid::from_raw(0), core)?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

/// Kills, because a server has nothing to save, and one that hangs must not keep the comparison.
fn end(child: &mut Child) {
    let group = Pid::from_raw(child.id() as libc::pid_t);
    let killed = match killpg(group, Signal::SIGKILL) {
        // It had ended by itself, and was alone.
        Err(Errno::ESRCH) => Ok(()),
        killed => killed,
    };
    if let Err(error) = killed.map_err(io::Error::from).and_then(|()| child.wait()) {
        eprintln!("ending process {group}: {error}");
    }
}

/// What every server prints first.
fn greeting(child: &mut Child, transport: Transport) -> Result<(ChildStdout, Addr)> {
    let mut stdout = child.stdout.take().context("the server's output is not piped")?;
    let line = first_line(&mut stdout)?;
    let Some(address) = line.strip_prefix("listening on ") else {
        bail!("its first line of output is {line:?} and not `listening on {transport}://ADDRESS`");
    };
    ensure!(address.starts_with(&format!("{transport}://")), "it listens on {address}, and not on {transport}");
    let address = address.parse().with_context(|| format!("{address:?} is no address"))?;
    Ok((stdout, address))
}

/// Reads byte by byte, once per server, so that nothing behind the line is taken from the pipe.
fn first_line(stdout: &mut ChildStdout) -> Result<String> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut line = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut wanted = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        if poll(&mut wanted, timeout).context("waiting for its output")? == 0 {
            bail!("it printed no line within {} s", START_TIMEOUT.as_secs());
        }
        let mut byte = [0];
        match stdout.read(&mut byte).context("reading its output")? {
            0 => bail!("it closed its output without a line"),
            _ if byte == *b"\n" => break,
            _ => line.extend(byte),
        }
    }
    String::from_utf8(line).context("its first line is not UTF-8")
}
