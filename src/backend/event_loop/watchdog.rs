//! [`Watchdog`]: says which request holds up an event loop.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::inbox::Inbox;
use super::pulse::Pulse;
use crate::backend::threads::Threads;
use crate::catch::catch;
use crate::job::Service;
use crate::lock::lock;
use crate::park::{TaskId, Unparker};

/// A thread that looks at the loops' pulses, as often as a handler may hold one. While all loops wait, it sleeps.
pub(super) struct Watchdog {
    limit: Duration,
    shared: Arc<Shared>,
    threads: Threads,
}

/// What the watchdog's thread shares with the loops.
#[derive(Default)]
pub(super) struct Shared {
    loops: Mutex<Vec<Weak<Inbox>>>,
    thread: OnceLock<Thread>,
    /// The thread sleeps until a loop has something to do.
    asleep: AtomicBool,
    stopping: AtomicBool,
}

impl Watchdog {
    /// A watchdog that warns when one resume takes longer than `limit`, but not less than 1 ms: it looks as often.
    pub(super) fn new(limit: Duration) -> Watchdog {
        let limit = limit.max(Duration::from_millis(1));
        Watchdog { limit, shared: Arc::default(), threads: Threads::new("watchdog", None) }
    }

    /// Watches one more loop. The first one starts the thread.
    pub(super) fn watch(&mut self, inbox: &Arc<Inbox>, service: &Arc<Service>) -> io::Result<()> {
        inbox.set_watchdog(self.shared.clone());
        lock(&self.shared.loops).push(Arc::downgrade(inbox));
        if self.threads.len() == 0 {
            let (limit, shared, service) = (self.limit, self.shared.clone(), service.clone());
            self.threads.spawn(move || shared.run(limit, &service))?;
        }
        Ok(())
    }

    /// Ends the thread, and waits for that until then; says whether it has not ended.
    pub(super) fn close(&mut self, until: Option<Instant>) -> usize {
        self.shared.stop();
        self.threads.join(until)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// A loop as the watchdog saw it last.
struct Watched {
    inbox: Weak<Inbox>,
    beat: u64,
    /// When it was first seen at this beat.
    since: Instant,
    /// Who holds it up, if that has been told.
    holder: Option<String>,
}

impl Shared {
    /// Wakes the watchdog, if it sleeps: the loop of this pulse has something to do, until it rests.
    pub(super) fn wake(&self, pulse: &Pulse) {
        // The pulse before the question: either this sees that the watchdog sleeps, or that sees the pulse.
        pulse.awake.store(true, Relaxed);
        fence(SeqCst);
        if self.asleep.load(Relaxed) && self.asleep.swap(false, SeqCst) {
            self.unpark();
        }
    }

    fn stop(&self) {
        self.stopping.store(true, SeqCst);
        // Before the look for the thread: either this sees it, or it sees that it is to stop.
        fence(SeqCst);
        self.unpark();
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self, limit: Duration, service: &Service) {
        self.thread.get_or_init(thread::current);
        // See `stop`.
        fence(SeqCst);
        let mut watched: Vec<Watched> = Vec::new();
        while !self.stopping.load(SeqCst) {
            if self.look(&mut watched, limit, service) {
                thread::park_timeout(limit);
                continue;
            }
            self.asleep.store(true, SeqCst);
            if !self.look(&mut watched, limit, service) && !self.stopping.load(SeqCst) {
                thread::park();
            }
            self.asleep.store(false, SeqCst);
        }
    }

    /// Looks at all loops, and warns of those that have been at the same resume for longer than the limit, and when that is over. Says
    /// whether any has done something since the last look, or may be about to.
    fn look(&self, watched: &mut Vec<Watched>, limit: Duration, service: &Service) -> bool {
        let now = Instant::now();
        for inbox in lock(&self.loops).drain(..) {
            watched.push(Watched { inbox, beat: 0, since: now, holder: None });
        }
        watched.retain(|watched| watched.inbox.strong_count() > 0);
        let mut active = false;
        for watched in watched {
            let Some(inbox) = watched.inbox.upgrade() else { continue };
            let beat = inbox.pulse.beat.load(SeqCst);
            let running = beat % 2 == 1;
            active |= beat != watched.beat || inbox.pulse.awake.load(SeqCst);
            let time = now - watched.since;
            if beat != watched.beat {
                if let Some(holder) = watched.holder.take() {
                    inbox.pulse.held.store(false, Relaxed);
                    warn(format_args!("{holder} has let go of its event loop, after {time:.1?}"));
                }
                *watched = Watched { inbox: Arc::downgrade(&inbox), beat, since: now, holder: None };
            } else if running && watched.holder.is_none() && time >= limit {
                service.counters.held.add();
                inbox.pulse.held.store(true, Relaxed);
                let holder = watched.holder.insert(who_runs_on(&inbox, service));
                warn(format_args!("{holder} has held up its event loop for {time:.1?}, and still does"));
            }
        }
        active
    }
}

/// The program's logger may panic, which must not end the watch: nobody would see that a loop is let go.
fn warn(line: fmt::Arguments<'_>) {
    let _ = catch(|| log::warn!("{line}"));
}

/// Who runs on this loop, for the log.
fn who_runs_on(inbox: &Arc<Inbox>, service: &Service) -> String {
    let task = TaskId(inbox.pulse.task.load(Relaxed));
    match service.live.peer_of(&Unparker::new(inbox.clone(), task)) {
        Some(peer) => format!("the request of {peer}"),
        None => "something that a request has spawned".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_look_without_a_rest() {
        assert_eq!(Watchdog::new(Duration::ZERO).limit, Duration::from_millis(1));
        assert_eq!(Watchdog::new(Duration::MAX).limit, Duration::MAX);
    }
}
