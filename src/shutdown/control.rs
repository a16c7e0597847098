//! [`Control`]: what a server's handles ask, and how far it has come with that.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::deadline::earlier;
use crate::lock::lock;
use crate::waker::{LateWaker, Waker};

/// How a serving is to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// When to cut what is still in progress; `None` is never.
    pub(crate) cut_at: Option<Instant>,
    /// Whether new connections are to be refused rather than left in the queue.
    pub(crate) refuse: bool,
}

/// How far a server's end has come, for its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Serving = 0,
    /// Idle requests end, busy ones finish.
    Draining = 1,
    /// All requests end.
    Cut = 2,
}

/// What a server, its handles and its requests share about its end.
#[derive(Debug)]
pub(crate) struct Control {
    /// A [`Phase`]: what requests look at before they wait.
    phase: AtomicU8,
    /// Whether `state.stop` is set: what the serving thread looks at every turn.
    stopping: AtomicBool,
    paused: AtomicBool,
    state: Mutex<State>,
    /// Ends the serving thread's wait. Made when the server is first activated.
    waker: LateWaker,
    /// Requests that the end of the serving has cut off: by the serving thread, or, where they run on it, by themselves.
    cuts: AtomicUsize,
    /// How many servings have cut off all that was left of them: so one that has not begun by then knows it when it begins, even if the
    /// server serves again. Written by the serving thread.
    cutoffs: AtomicUsize,
}

#[derive(Debug)]
struct State {
    /// How many servings have ended as they were asked to: the number of the one that the next stop ends.
    generation: u64,
    serving: bool,
    /// The thread that serves, if one does.
    thread: Option<ThreadId>,
    /// Whether the end of the serving is also the requests' end.
    ends_requests: bool,
    /// The time that `shutdown` and closing leave to what is in progress.
    grace: Duration,
    stop: Option<Stop>,
}

impl Control {
    pub(crate) fn new() -> Control {
        let grace = Duration::from_secs(5);
        let state = State { generation: 0, serving: false, thread: None, ends_requests: true, grace, stop: None };
        Control {
            phase: AtomicU8::new(Phase::Serving as u8),
            stopping: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            state: Mutex::new(state),
            waker: LateWaker::default(),
            cuts: AtomicUsize::new(0),
            cutoffs: AtomicUsize::new(0),
        }
    }

    /// The number of the serving that a stop would end now.
    pub(super) fn generation(&self) -> u64 {
        lock(&self.state).generation
    }

    pub(crate) fn grace(&self) -> Duration {
        lock(&self.state).grace
    }

    pub(crate) fn set_grace(&self, grace: Duration) {
        lock(&self.state).grace = grace;
    }

    pub(crate) fn waker(&self) -> Option<&Arc<Waker>> {
        self.waker.get()
    }

    pub(crate) fn set_waker(&self, waker: Arc<Waker>) {
        self.waker.set(waker);
    }

    /// Begins a serving, by the calling thread. A stop that was asked for earlier is still there.
    pub(crate) fn begin(&self, ends_requests: bool) {
        let mut state = lock(&self.state);
        state.serving = true;
        state.thread = Some(thread::current().id());
        state.ends_requests = ends_requests;
        // What has been cut off since the last serving belongs to that one.
        self.take_cuts();
        let drain = state.stop.is_some() && ends_requests;
        self.set_phase(if drain { Phase::Draining } else { Phase::Serving });
    }

    /// Says that the stop has been obeyed. This serving is over: a stop that is asked for from now on is too late for it. As
    /// [`take_refuse`](Control::take_refuse), for one that was asked for at the last moment.
    pub(crate) fn obeyed(&self) -> bool {
        let mut state = lock(&self.state);
        state.serving = false;
        state.generation += 1;
        self.stopping.store(false, SeqCst);
        state.stop.take().is_some_and(|stop| stop.refuse)
    }

    /// Ends a serving. A stop that has come too late to be obeyed is there for the next one.
    pub(crate) fn end(&self) {
        let mut state = lock(&self.state);
        state.serving = false;
        state.thread = None;
    }

    /// The server's waker, if the calling thread serves: a request that runs on it must hear of the server's end itself.
    pub(crate) fn waker_if_serving_here(&self) -> Option<Arc<Waker>> {
        let here = lock(&self.state).thread == Some(thread::current().id());
        self.waker.get().filter(|_| here).cloned()
    }

    pub(crate) fn count_cut(&self) {
        self.cuts.fetch_add(1, SeqCst);
    }

    /// How many requests have been cut off since this was last asked.
    pub(crate) fn take_cuts(&self) -> usize {
        self.cuts.swap(0, SeqCst)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    /// Whether new connections are to be refused: asked for, and not taken before.
    pub(crate) fn take_refuse(&self) -> bool {
        lock(&self.state).stop.as_mut().is_some_and(|stop| std::mem::take(&mut stop.refuse))
    }

    /// When a stop that was asked for cuts off what is in progress.
    #[cold]
    pub(crate) fn cut_at(&self) -> Option<Instant> {
        lock(&self.state).stop?.cut_at
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Cut,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, SeqCst);
    }

    /// All requests that have been accepted so far end.
    pub(crate) fn cut_off(&self) {
        // In this order: who sees that it is cut off sees by whom.
        self.set_phase(Phase::Cut);
        self.cutoffs.fetch_add(1, SeqCst);
    }

    pub(crate) fn cutoffs(&self) -> usize {
        self.cutoffs.load(SeqCst)
    }

    /// Stops accepting and ends the requests as `stop` says, or a stop that has been asked for: the server is being closed.
    pub(crate) fn close(&self, stop: Stop) {
        let mut state = lock(&self.state);
        state.serving = true;
        state.add(stop);
        self.set_phase(Phase::Draining);
    }

    /// Asks for the end of serving `generation`.
    pub(super) fn ask(&self, generation: u64, stop: Stop) {
        let mut state = lock(&self.state);
        if !state.serving && generation < state.generation {
            return;
        }
        state.add(stop);
        if state.serving && state.ends_requests && self.phase() == Phase::Serving {
            self.set_phase(Phase::Draining);
        }
        self.stopping.store(true, SeqCst);
        self.waker.ring();
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, SeqCst);
        self.waker.ring();
    }
}

impl State {
    /// Adds a stop. Of several, the earliest deadline counts.
    fn add(&mut self, stop: Stop) {
        self.stop = Some(match self.stop {
            Some(asked) => Stop { cut_at: earlier(asked.cut_at, stop.cut_at), refuse: asked.refuse || stop.refuse },
            None => stop,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::ShutdownHandle;

    fn control() -> Arc<Control> {
        Arc::new(Control::new())
    }

    #[test]
    fn an_early_stop_is_remembered() {
        let control = control();
        ShutdownHandle::new(control.clone()).shutdown();
        control.begin(true);
        assert!(control.is_stopping());
        assert_eq!(control.phase(), Phase::Draining);
    }

    #[test]
    fn a_late_stop_spares_the_next_serving() {
        let control = control();
        let handle = ShutdownHandle::new(control.clone());
        control.begin(true);
        handle.shutdown();
        control.obeyed();
        handle.shutdown();
        control.end();
        handle.shutdown();
        control.begin(true);
        assert!(!control.is_stopping());
        handle.shutdown();
        assert!(control.is_stopping());
    }

    #[test]
    fn a_stop_that_no_serving_has_obeyed_is_remembered() {
        let control = control();
        let handle = ShutdownHandle::new(control.clone());
        for _ in 0..2 {
            control.begin(true);
            control.end();
        }
        handle.shutdown();
        control.begin(true);
        control.end();
        control.begin(true);
        assert!(control.is_stopping());
    }

    #[test]
    fn a_serving_counts_its_own_cuts() {
        let control = control();
        control.begin(true);
        control.obeyed();
        control.end();
        // It had not even begun when the time was over, and waited for its loop.
        control.count_cut();
        control.begin(true);
        control.count_cut();
        assert_eq!(control.take_cuts(), 1);
    }

    #[test]
    fn a_stop_during_the_cut_takes_nothing_back() {
        let control = control();
        control.begin(true);
        let handle = ShutdownHandle::new(control.clone());
        handle.shutdown();
        control.cut_off();
        handle.shutdown();
        assert_eq!(control.phase(), Phase::Cut);
    }

    #[test]
    fn requests_that_outlive_their_server_hear_of_no_stop() {
        let control = control();
        ShutdownHandle::new(control.clone()).shutdown();
        control.begin(false);
        assert_eq!(control.phase(), Phase::Serving);
        ShutdownHandle::new(control.clone()).shutdown();
        assert_eq!(control.phase(), Phase::Serving);
    }

    #[test]
    fn a_server_that_is_closed_listens_to_every_handle() {
        let control = control();
        let handle = ShutdownHandle::new(control.clone());
        control.begin(true);
        control.obeyed();
        control.end();
        control.close(Stop { cut_at: None, refuse: true });
        handle.drain(Duration::ZERO);
        assert!(control.cut_at().is_some());
    }

    /// Whichever of the two stops is the one that refuses, and however late it comes.
    #[test]
    fn of_two_stops_one_may_refuse() {
        for drain_comes_first in [true, false] {
            let control = control();
            control.begin(true);
            let handle = ShutdownHandle::new(control.clone());
            if drain_comes_first {
                handle.drain(Duration::ZERO);
            }
            handle.shutdown();
            if !drain_comes_first {
                handle.drain(Duration::ZERO);
            }
            assert!(control.obeyed());
        }
    }

    #[test]
    fn of_two_stops_the_earlier_deadline_counts() {
        let control = control();
        let handle = ShutdownHandle::new(control.clone());
        handle.drain(Duration::MAX);
        assert!(control.cut_at().is_none() && control.is_stopping());
        handle.drain(Duration::from_secs(1));
        let first = control.cut_at().unwrap();
        handle.drain(Duration::from_secs(100));
        assert_eq!(control.cut_at().unwrap(), first);
        // Closing is one as well.
        control.close(Stop { cut_at: None, refuse: true });
        assert_eq!(control.cut_at().unwrap(), first);
    }
}
