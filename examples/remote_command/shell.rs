//! [`Shell`]: runs commands, and leaves no process behind.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// What runs commands, with limits on each of them.
pub struct Shell {
    limit: Duration,
    max_output: u64,
    /// Its other end is in [`Commands`]; when that is closed, commands end.
    end: UnixStream,
    /// Dropped with the shell: then there are no commands any more.
    _alive: Sender<()>,
}

/// All commands of a shell.
pub struct Commands {
    end: UnixStream,
    /// Ends with the shell.
    alive: Receiver<()>,
}

impl Commands {
    /// Kills all commands and waits for that. A process that the system itself holds up may take longer than is worth waiting for.
    pub fn end(self) {
        drop(self.end);
        let _ = self.alive.recv_timeout(Duration::from_secs(5));
    }
}

/// What a command writes to.
#[derive(Clone, Copy)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a command has ended.
pub struct Outcome {
    /// As a shell says it: of a signal, 128 and its number.
    pub status: i32,
    /// Why it was killed, if it was.
    pub killed: Option<String>,
}

impl Shell {
    pub fn new(limit: Duration, max_output: u64) -> io::Result<(Shell, Commands)> {
        let (end, other_end) = UnixStream::pair()?;
        let (give, alive) = channel();
        Ok((Shell { limit, max_output, end, _alive: give }, Commands { end: other_end, alive }))
    }

    /// Runs a command, and gives `sink` what it writes. Blocks until it has ended, and nothing of its process group is left.
    ///
    /// Fails with `ConnectionAborted` if the connection is broken meanwhile, or the server ends.
    pub fn run(
        &self,
        command: &str,
        connection: Option<OwnedFd>,
        mut sink: impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> io::Result<Outcome> {
        let until = Instant::now().checked_add(self.limit);
        let (mut group, mut pipes) = Group::start(command)?;
        let mut buffer = vec![0; 64 * 1024];
        let (mut written, mut killed) = (0, None);
        while killed.is_none() {
            let seen = self.wait(&group, connection.as_ref(), &pipes, until)?;
            if seen.exited {
                // Those that it has started may hold its pipes open. What they have written is there.
                group.kill();
            }
            let mut open = Vec::new();
            for ((stream, mut pipe), is_ready) in pipes.into_iter().zip(&seen.ready) {
                if *is_ready {
                    let count = pipe.read(&mut buffer)?;
                    if count == 0 {
                        continue;
                    }
                    written += count as u64;
                    sink(stream, &buffer[..count])?;
                }
                open.push((stream, pipe));
            }
            pipes = open;
            if written > self.max_output {
                killed = Some(format!("killed: it wrote more than {} bytes", self.max_output));
            } else if seen.exited && !seen.ready.contains(&true) {
                break;
            } else if until.is_some_and(|until| Instant::now() >= until) {
                killed = Some(format!("killed: it took longer than {} s", self.limit.as_secs_f64()));
            }
        }
        let status = group.end()?;
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ok(Outcome { status: if killed.is_some() { 128 + Signal::KILL.as_raw() } else { status }, killed })
    }

    /// Waits until there is something to do for a command.
    fn wait(
        &self,
        group: &Group,
        connection: Option<&OwnedFd>,
        pipes: &[(Stream, File)],
        until: Option<Instant>,
    ) -> io::Result<Seen> {
        let mut fds = vec![PollFd::new(&group.exited, PollFlags::IN), PollFd::new(&self.end, PollFlags::IN)];
        fds.extend(pipes.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)));
        // Whether more comes in is not asked: only whether both directions have ended, or it was reset. The server's cutting it
        // off shows here, too.
        fds.extend(connection.map(|connection| PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::empty())));
        let left = until.and_then(|until| Timespec::try_from(until.saturating_duration_since(Instant::now())).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (pipes_ready, connection_ended) = is_ready[2..].split_at(pipes.len());
        if is_ready[1] || connection_ended.contains(&true) {
            return Err(io::Error::new(ErrorKind::ConnectionAborted, "nobody waits for the command any more"));
        }
        Ok(Seen { exited: is_ready[0], ready: pipes_ready.to_vec() })
    }
}

struct Seen {
    exited: bool,
    /// Of each pipe, whether a read would not wait.
    ready: Vec<bool>,
}

/// A command and the processes that it starts. Killed when this is dropped.
struct Group {
    child: Child,
    /// Ends when the command does.
    exited: UnixStream,
    /// Waits for that. Taken when it is joined.
    waiter: Option<JoinHandle<()>>,
    reaped: bool,
}

impl Group {
    fn start(command: &str) -> io::Result<(Group, Vec<(Stream, File)>)> {
        let (exited, tell) = UnixStream::pair()?;
        let mut child = Command::new("sh")
            .args(["-c", "--", command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let stdout = child.stdout.take().map(|pipe| (Stream::Stdout, File::from(OwnedFd::from(pipe))));
        let stderr = child.stderr.take().map(|pipe| (Stream::Stderr, File::from(OwnedFd::from(pipe))));
        let pid = Pid::from_child(&child);
        let mut group = Group { child, exited, waiter: None, reaped: false };
        let waiter = thread::Builder::new().name("waiter".to_string()).spawn(move || {
            // Without reaping it: until that is done, nobody else is given the number of its group, so that can be killed.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            drop(tell);
        })?;
        group.waiter = Some(waiter);
        Ok((group, stdout.into_iter().chain(stderr).collect()))
    }

    /// Kills what there is of the group. Only until the command is reaped.
    fn kill(&mut self) {
        // It fails if there is nothing left to kill.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }

    fn end(mut self) -> io::Result<ExitStatus> {
        self.reap()
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
        self.reaped = true;
        self.child.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.reap();
        }
    }
}
