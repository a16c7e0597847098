//! [`Program`]: an example that runs, what it prints, and its end.
// Each test program uses a part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::example;

/// Nothing takes nearly as long: it only makes a hang a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A program in a process of its own, which is killed and reaped when this is dropped.
pub struct Program {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// How a program has ended, and what it had printed that nobody had taken before, line by line.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Program {
    /// Starts the example `name`, with the default of what the environment may change.
    pub fn start(name: &str, arguments: &[&str]) -> Program {
        Program::start_with(name, arguments, |_| ())
    }

    /// As [`start`](Program::start), after `configure` has had its way: with its input, for instance, which is empty otherwise.
    pub fn start_with(name: &str, arguments: &[&str], configure: impl FnOnce(&mut Command)) -> Program {
        let mut command = Command::new(example::path(name));
        command.args(arguments).env_remove("RUST_LOG").env_remove("RUST_LOG_STYLE").stdin(Stdio::null());
        configure(&mut command);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = lines(child.stdout.take().expect("a pipe"));
        let stderr = lines(child.stderr.take().expect("a pipe"));
        Program { child, stdout, stderr }
    }

    /// The next line on standard output.
    #[track_caller]
    pub fn stdout_line(&self) -> String {
        let line = self.stdout.recv_timeout(PATIENCE);
        line.unwrap_or_else(|error| panic!("no line on standard output: {error}; {:?}", self.stderr_so_far()))
    }

    /// Waits for a line on standard error that contains `text`, past all others.
    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
        panic!("no line with {text:?} on standard error: {seen:?}");
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child that has not been reaped");
    }

    /// Waits for the end that the program finds by itself.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        // Nobody else has the other ends of its pipes, so these end with the process.
        let stdout = rest(&self.stdout);
        let stderr = rest(&self.stderr);
        match (stdout, stderr) {
            (Ok(stdout), Ok(stderr)) => {
                Ended { status: self.child.wait().expect("a child of this process"), stdout, stderr }
            }
            (stdout, stderr) => panic!("the program does not end: it printed {stdout:?} and {stderr:?}"),
        }
    }

    /// The other end of its input, if that is a pipe.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a pipe that nobody has taken")
    }

    fn stderr_so_far(&self) -> Vec<String> {
        self.stderr.try_iter().collect()
    }

    /// The most memory in bytes that it had resident so far.
    #[track_caller]
    pub fn most_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux says so");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a process that runs");
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    }

    /// The system's number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both do nothing to a process that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines on a thread of their own, so that waiting for one can have an end and the pipe never fills up.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (give, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if give.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// All lines up to the end of the pipe; those that came in time if there is none.
fn rest(lines: &Receiver<String>) -> Result<Vec<String>, Vec<String>> {
    let until = Instant::now() + PATIENCE;
    let mut rest = Vec::new();
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => rest.push(line),
            Err(RecvTimeoutError::Disconnected) => return Ok(rest),
            Err(RecvTimeoutError::Timeout) => return Err(rest),
        }
    }
}
