//! Rounds of chaos, and what must be true between them.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use socketserver::{Addr, AnyServer, Limits, Request, ShutdownHandle, Stats};

use crate::Variety;
use crate::clients::{Someone, Tally};
use crate::handler::{BUSY, Doorkeeper, Enemy, serve, silence_wanted_panics};
use crate::support::cell::{Place, bind_with};
use crate::support::child::in_child_for;
use crate::support::descriptors::{mappings, open_descriptors, resident_bytes, threads};
use crate::support::random::Random;
use crate::support::running::Running;
use crate::support::{PATIENCE, until};

/// Clients at a time.
pub const CLIENTS: usize = 6;

/// Actions of all clients before anything is measured: whatever is made when it is first needed is there then.
const WARM_UP: u64 = 120;

/// Threads that a server may have beside the test's own: workers, loops, some for offloaded work.
const MOST_THREADS: usize = 32;

/// Entries of the memory map that come and go: arenas of the allocator, stacks that are kept for the next threads. They do not grow with
/// the actions, of which there are more than that.
const SPARE_MAPPINGS: usize = 128;

/// Memory that the allocator keeps: as much, however long it lasts.
const SPARE_BYTES: usize = 48 << 20;

/// How long it lasts, and with which numbers.
struct Size {
    actions: u64,
    time: Duration,
    seed: u64,
}

impl Size {
    fn from_environment() -> Size {
        let number = |name| Some(env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is a number")));
        Size {
            actions: number("CHAOS_ACTIONS").unwrap_or(240),
            time: Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(0)),
            seed: number("CHAOS_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) % 1_000_000),
        }
    }
}

/// Runs a test in a process of its own, for as long as it may last.
#[track_caller]
pub fn in_child<F: FnOnce()>(body: F) {
    let Size { actions, time, .. } = Size::from_environment();
    in_child_for(Duration::from_secs(90 + actions / 100) + time, body);
}

/// Who finds no room waits in the kernel's queue, so everything is answered in the end.
pub fn chaos_leaves_nothing(variety: Variety) {
    check(variety, false);
}

/// Who finds no room is told so.
pub fn chaos_with_busy_replies_leaves_nothing(variety: Variety) {
    check(variety, true);
}

fn check(variety: Variety, turns_away: bool) {
    silence_wanted_panics();
    let size = Size::from_environment();
    // Shown if this fails.
    eprintln!("CHAOS_SEED={}", size.seed);
    let before = (open_descriptors(), threads());
    let place = Place::new(variety.kind);
    let (enemy, enemys_thread) = Enemy::start();
    let handler = move |request: &mut Request| serve(request, &enemy);
    let mut server = bind_with(&place, variety.backend(), handler).hooks(Doorkeeper);
    if turns_away {
        server = server.busy_reply(BUSY);
    }
    let mut chaos = Chaos::start(server, turns_away, size.seed);

    // One ordinary request, and the server has all descriptors that it is going to need. There may be fewer later: for a thread that is
    // still starting, the C library has one open for a moment, to count the cores.
    chaos.check();
    let idle = open_descriptors();
    chaos.round(WARM_UP, Duration::ZERO);
    until("no descriptor is left of the first round", || open_descriptors() <= idle);
    let base = (mappings(), resident_bytes());
    let began = Instant::now();
    chaos.round(size.actions, size.time);
    println!("{:?} after {:?}: {:?}", variety.backend, began.elapsed(), chaos.tally);

    // Those that were turned away are kept for a moment.
    until("no descriptor is left", || open_descriptors() <= idle);
    until("hardly a thread is left", || threads() <= before.1 + MOST_THREADS);
    println!("{idle} descriptors, {} threads, {:?}, and before {base:?}", threads(), (mappings(), resident_bytes()));
    until("hardly a mapping is left", || mappings() <= base.0 + SPARE_MAPPINGS);
    assert!(resident_bytes() <= base.1 + SPARE_BYTES, "memory is left: {}, and before {}", resident_bytes(), base.1);

    // A handle to the limits keeps the server's waker.
    drop(chaos.limits);
    println!("{:?}", chaos.running.finish());
    drop(place);
    enemys_thread.join().unwrap();
    until("the end leaves no descriptor and no thread", || (open_descriptors(), threads()) == before);
}

/// A server, and what is known of it.
struct Chaos {
    running: Running,
    limits: Limits,
    turns_away: bool,
    /// What all clients have seen so far.
    tally: Tally,
    seed: u64,
}

impl Chaos {
    fn start(server: AnyServer, turns_away: bool, seed: u64) -> Chaos {
        let limits = server.limits();
        Chaos { running: Running::start(server), limits, turns_away, tally: Tally::default(), seed }
    }

    /// So many actions, and for so long; after which the server is well.
    fn round(&mut self, actions: u64, time: Duration) {
        let (stop, stopped) = bounded(0);
        let (limits, handle, turns_away) = (self.limits.clone(), self.running.handle.clone(), self.turns_away);
        let random = Random::new(self.next_seed());
        let changing = thread::spawn(move || change_limits(&limits, &handle, turns_away, random, &stopped));
        let end = Instant::now() + time;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (addr, seed) = (self.running.addr.clone(), self.next_seed());
                thread::spawn(move || live(&addr, seed, actions / CLIENTS as u64, end))
            })
            .collect();
        let tallies: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        drop(stop);
        changing.join().expect("the limits can be changed");
        for tally in tallies {
            self.tally.add(tally.unwrap_or_else(|panic| resume_unwind(panic)));
        }
        self.check();
    }

    /// A clean request is served, after all others have been accepted. Then none is left, and the server's books say the same as its
    /// clients.
    fn check(&mut self) {
        let seed = self.next_seed();
        let mut client = Someone::new(&self.running.addr, seed);
        let end = Instant::now() + PATIENCE;
        // The last of the others may still be ending.
        while !client.exchange() {
            assert!(self.turns_away && Instant::now() < end, "a clean request is not served");
        }
        self.tally.add(client.tally);
        drop(client);
        // Datagrams that others have sent before may come later, where the system takes them in on several processors.
        until("the last request comes", || self.running.stats().accepted >= self.tally.connections);
        until("the last request ends", || self.running.stats().live == 0);
        self.compare(&self.running.stats());
    }

    fn compare(&self, stats: &Stats) {
        let tally = &self.tally;
        let both = format!("{stats:?} {tally:?}");
        assert_eq!(stats.accepted, stats.rejected + stats.refused + stats.completed + stats.failed, "{both}");
        assert_eq!((stats.accepted, stats.rejected), (tally.connections, tally.unwelcome), "{both}");
        assert_eq!((stats.panicked, stats.cut), (tally.panics, tally.cuts), "{both}");
        let known = stats.disconnected + stats.timed_out + stats.protocol_errors + stats.panicked + stats.cut;
        assert_eq!(stats.failed - known, tally.errors, "{both}");
        assert!(stats.completed >= tally.answered, "{both}");
        // Not everybody listens.
        assert!(stats.refused >= tally.refused && (self.turns_away || stats.refused == 0), "{both}");
        assert_eq!((stats.accept_errors, stats.truncated), (0, 0), "{both}");
    }

    fn next_seed(&mut self) -> u64 {
        self.seed += 1;
        self.seed
    }
}

/// What one client does in a round.
fn live(addr: &Addr, seed: u64, actions: u64, end: Instant) -> Tally {
    let mut someone = Someone::new(addr, seed);
    let mut done = 0;
    while done < actions || Instant::now() < end {
        someone.act();
        done += 1;
    }
    someone.wait_for_the_silent();
    someone.tally
}

/// Changes everything that can be changed from outside while a server serves, all the time, and takes it back in the end.
fn change_limits(
    limits: &Limits,
    handle: &ShutdownHandle,
    turns_away: bool,
    mut random: Random,
    stopped: &Receiver<()>,
) {
    while stopped.recv_timeout(Duration::from_micros(random.below(1000))).is_err_and(|error| error.is_timeout()) {
        handle.resume();
        match random.below(8) {
            0 => handle.pause(),
            // One too many of an address is closed without a word, if nobody is told anything.
            1 if turns_away => limits.set_max_per_peer(1 + random.below(CLIENTS as u64) as usize),
            2 => limits.set_max_connections(usize::MAX),
            _ => limits.set_max_connections(random.below(2 * CLIENTS as u64) as usize),
        }
    }
    limits.set_max_connections(usize::MAX);
    limits.set_max_per_peer(usize::MAX);
    handle.resume();
}
