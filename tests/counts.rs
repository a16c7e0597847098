//! What a message costs in the steady state, counted and not timed: the system calls of the thread that serves it, as a tracer sees
//! them, and how often that thread goes to sleep. Allocations are counted in `allocations.rs`.
#![cfg(target_os = "linux")]

#[path = "support/example.rs"]
mod example;
#[path = "support/program.rs"]
mod program;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Instant;

use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use program::{PATIENCE, Program};
use rustix::process::Signal;
use socketserver::Addr;
use support::client::Client;
use tempfile::TempDir;

const SIZE: usize = 64;
const WARM_UP: usize = 10;
const BATCHES: usize = 50;

/// The example `echo` with some clients, and the thread of it that serves them.
struct Served {
    echo: Program,
    clients: Vec<Client>,
    thread: Pid,
    /// The system call in which that thread waits for messages.
    wait: c_long,
    _folder: TempDir,
}

impl Served {
    fn start(server: &[&str], wait: c_long, scheme: &str, clients: usize) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let bind = match scheme {
            "unix" => format!("unix://{}/socket", folder.path().display()),
            inet => format!("{inet}://127.0.0.1:0"),
        };
        let echo = Program::start("echo", &[&["--bind", &bind, "--server"], server].concat());
        let line = echo.stdout_line();
        let addr: Addr = line.strip_prefix("listening on ").expect("where it listens").parse().unwrap();
        let clients = (0..clients).map(|_| Client::connect(&addr)).collect();
        let thread = Pid::from_raw(echo.id() as i32);
        let mut served = Served { echo, clients, thread, wait, _folder: folder };
        for _ in 0..WARM_UP {
            served.send();
            served.receive();
        }
        served
    }

    /// Says that the thread of this name serves, and not the main one.
    fn by(mut self, name: &str) -> Served {
        let mut threads = fs::read_dir(format!("/proc/{}/task", self.thread)).unwrap().map(|entry| entry.unwrap());
        let named = |comm: String| comm.trim_end() == name;
        let thread = threads.find(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(named));
        let thread = thread.unwrap_or_else(|| panic!("there is no thread {name}")).file_name();
        self.thread = Pid::from_raw(thread.to_str().unwrap().parse().unwrap());
        self
    }

    /// A message on each connection.
    fn send(&mut self) {
        self.clients.iter_mut().for_each(|client| client.write_all(&[b'x'; SIZE]).unwrap());
    }

    /// The echo on each connection.
    fn receive(&mut self) {
        for client in &mut self.clients {
            let mut echo = [0; SIZE];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(echo, [b'x'; SIZE]);
        }
    }

    /// Counts the system calls of the serving thread, while each client sends one message in each batch. All messages of a batch are
    /// there before the thread goes on.
    fn count_calls(mut self) -> Calls {
        let thread = self.thread;
        ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD).expect("leave to trace a child");
        ptrace::interrupt(thread).unwrap();
        assert!(matches!(next_stop(thread), WaitStatus::PtraceEvent(..)));
        // It waits for messages, and is interrupted, and does so again.
        while next_call(thread).0 != self.wait {}
        let mut calls = Calls { messages: (BATCHES * self.clients.len()) as u64, counts: BTreeMap::new() };
        for _ in 0..BATCHES {
            self.send();
            let mut replies = 0;
            loop {
                let (call, arguments) = next_call(thread);
                *calls.counts.entry(call).or_default() += 1;
                replies += match call {
                    libc::SYS_sendto => 1,
                    // How many messages it is given.
                    libc::SYS_sendmmsg => arguments[2] as usize,
                    _ => 0,
                };
                if call == self.wait && replies == self.clients.len() {
                    break;
                }
            }
            self.receive();
        }
        ptrace::detach(thread, None).unwrap();
        calls
    }

    /// How often the serving thread goes to wait, for each message; all messages of a batch are there before the thread goes on.
    fn count_waits(mut self) -> f64 {
        let before = self.waits();
        for _ in 0..BATCHES {
            self.echo.signal(Signal::STOP);
            let stopped = waitpid(Pid::from_raw(self.echo.id() as i32), Some(WaitPidFlag::WUNTRACED)).unwrap();
            assert!(matches!(stopped, WaitStatus::Stopped(..)));
            self.send();
            self.echo.signal(Signal::CONT);
            self.receive();
        }
        (self.waits() - before) as f64 / (BATCHES * self.clients.len()) as f64
    }

    fn waits(&self) -> u64 {
        let path = format!("/proc/{}/task/{}/status", self.echo.id(), self.thread);
        let status = fs::read_to_string(path).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.expect("Linux says so").trim().parse().unwrap()
    }
}

/// Lets the thread run to the beginning of its next system call, and returns that with its arguments.
fn next_call(thread: Pid) -> (c_long, [u64; 6]) {
    loop {
        ptrace::syscall(thread, None).unwrap();
        match next_stop(thread) {
            WaitStatus::PtraceSyscall(_) => {
                let info = ptrace::syscall_info(thread).unwrap();
                if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
                    // SAFETY: the operation says which part of the union is filled in.
                    let entry = unsafe { info.u.entry };
                    return (entry.nr as c_long, entry.args);
                }
            }
            // The end of the stop in which the tracing began.
            WaitStatus::PtraceEvent(..) => {}
            other => panic!("the server has met {other:?}"),
        }
    }
}

fn next_stop(thread: Pid) -> WaitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive => assert!(Instant::now() < until, "it does not make the call that is waited for"),
            stop => return stop,
        }
        thread::yield_now();
    }
}

struct Calls {
    messages: u64,
    counts: BTreeMap<c_long, u64>,
}

impl Calls {
    #[track_caller]
    fn assert(mut self, call: c_long, range: RangeInclusive<u64>) -> Calls {
        let count = self.counts.remove(&call).unwrap_or(0);
        assert!(range.contains(&count), "call {call}: {count} times, beside {:?}", self.counts);
        self
    }

    /// One read and one write for each message.
    #[track_caller]
    fn assert_exchanges(self) -> Calls {
        let messages = self.messages;
        self.assert(libc::SYS_recvfrom, messages..=messages).assert(libc::SYS_sendto, messages..=messages)
    }

    #[track_caller]
    fn assert_no_others(self) {
        assert!(self.counts.is_empty(), "{:?}", self.counts);
    }
}

const CONNECTIONS: usize = 20;
const EVENT_LOOP: &[&str] = &["event-loop", "--workers", "1"];

#[test]
fn a_message_costs_the_event_loop_one_read_one_write_and_a_share_of_one_wait() {
    for scheme in ["tcp", "unix"] {
        let calls = Served::start(EVENT_LOOP, libc::SYS_epoll_wait, scheme, CONNECTIONS).count_calls();
        let batches = BATCHES as u64;
        calls
            .assert_exchanges()
            .assert(libc::SYS_epoll_wait, batches..=batches)
            // The watchdog is woken when it sleeps.
            .assert(libc::SYS_futex, 0..=batches)
            .assert_no_others();
    }
}

#[test]
fn a_datagram_costs_the_event_loop_one_read_one_write_at_the_most_and_a_share_of_two_calls() {
    let mut calls = Served::start(EVENT_LOOP, libc::SYS_epoll_wait, "udp", CONNECTIONS).count_calls();
    let (messages, batches) = (calls.messages, BATCHES as u64);
    // One write at the most: replies leave together if little time has passed between them, and tracing makes it much.
    let alone = calls.counts.remove(&libc::SYS_sendto).unwrap_or(0);
    let together = calls.counts.remove(&libc::SYS_sendmmsg).unwrap_or(0);
    assert!(
        (batches..=messages).contains(&(alone + together)),
        "{alone} replies alone, {together} times some together"
    );
    calls
        // One more finds that there is none left.
        .assert(libc::SYS_recvfrom, messages + batches..=messages + batches)
        .assert(libc::SYS_epoll_wait, batches..=batches)
        .assert(libc::SYS_futex, 0..=batches)
        // A look at the clock is a call where the processor has no counter that the kernel trusts.
        .assert(libc::SYS_clock_gettime, 0..=messages)
        .assert_no_others();
}

#[test]
fn a_message_costs_a_thread_one_read_and_one_write() {
    Served::start(&["threading"], libc::SYS_recvfrom, "tcp", 1)
        .by("request-0")
        .count_calls()
        .assert_exchanges()
        .assert_no_others();
    Served::start(&["forking-style", "--workers", "1"], libc::SYS_recvfrom, "tcp", 1)
        .by("worker-0")
        .count_calls()
        .assert_exchanges()
        .assert_no_others();
}

/// Beside the read and the write there is a wait: a serving thread listens to whoever ends it, too.
#[test]
fn a_message_costs_the_sequential_server_one_read_one_write_and_one_wait() {
    let calls = Served::start(&["sequential"], libc::SYS_ppoll, "tcp", 1).count_calls();
    let messages = calls.messages;
    calls.assert_exchanges().assert(libc::SYS_ppoll, messages..=messages).assert_no_others();
}

#[test]
fn an_event_loop_waits_once_for_many_messages_and_a_thread_for_each() {
    let waits = Served::start(EVENT_LOOP, libc::SYS_epoll_wait, "tcp", CONNECTIONS).count_waits();
    // One for the messages, one for the stop, and as many to spare.
    assert!(waits <= 4.0 / CONNECTIONS as f64, "{waits} for each message");
    let waits = Served::start(&["threading"], libc::SYS_recvfrom, "tcp", 1).by("request-0").count_waits();
    assert!((1.0..=4.0).contains(&waits), "{waits} for each message");
}
