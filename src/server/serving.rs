//! Serving: the turn, and its end.

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accept::Verdict;
use super::{AFTER_CUT, Served, Server};
use crate::addr::Addr;
use crate::backend::{Backend, Sources};
use crate::catch::{Failed, catch};
use crate::deadline::deadline;
use crate::hooks::{FailureClass, Hooks};
use crate::job::Job;
use crate::limits::Permit;
use crate::listener::{Incoming, Listener};
use crate::live::Socket;
use crate::refusals::Lack;
use crate::shutdown::Control;
use crate::socket;
use crate::waker::Waker;

/// Requests that are got in one turn, before everything else has its turn.
const GETS_PER_TURN: usize = 64;

impl<L: Listener, B: Backend> Server<L, B> {
    /// Runs `serve` as the serving thread.
    pub(super) fn serving<T>(&mut self, serve: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.enter()?;
        self.service.control.begin(self.backend.block_on_close());
        // A listener or a backend of somebody's own may panic. What runs on this thread ends here all the same: nobody else could end it.
        let result = catch_unwind(AssertUnwindSafe(|| serve(self)));
        self.service.control.end();
        self.backend.deactivate();
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    pub(super) fn enter(&mut self) -> io::Result<()> {
        // Nothing is accepted where a stop has been asked for.
        if !self.service.control.is_stopping() {
            self.listener.reopen()?;
        }
        let waker = match self.service.control.waker() {
            Some(waker) => waker.clone(),
            None => {
                let waker = Arc::new(Waker::new()?);
                self.service.control.set_waker(waker.clone());
                self.service.limits.set_waker(waker.clone());
                waker
            }
        };
        // What an earlier poll has announced may be lost: look once.
        self.ready = true;
        self.backend.activate(&Sources { listener: self.listener.as_fd(), waker: &waker, service: &self.service })?;
        Ok(())
    }

    /// Waits, gets what there is, and does what is due.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        self.wait_for_request(self.poll_interval)?;
        // A stop that came while this waited wins: nothing more is accepted.
        if self.service.control.is_stopping() {
            return Ok(());
        }
        if self.ready {
            self.get_requests(GETS_PER_TURN);
        }
        // What the backend does may be what peers wait for.
        self.backend.service_actions();
        self.hook("service_actions", |hooks| hooks.service_actions());
        Ok(())
    }

    /// Waits until there may be a request to get, at the most for `timeout`.
    pub(super) fn wait_for_request(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // Asked for before looking whether there is room: so the end of a request that makes room is not missed.
        self.service.limits.want_end(true);
        // Looked at once: a pause that ended between two looks would keep the server from accepting, and end no wait.
        let pause = self.backoff.remaining();
        let may_get = pause.is_none() && self.may_get();
        self.service.limits.want_end(!may_get);
        self.full.set(if may_get { None } else { self.lack().filter(|_| !self.turns_away()) });
        let now = if may_get && self.ready { Some(Duration::ZERO) } else { None };
        let due = [timeout, now, pause, self.busy.tend()].into_iter().flatten().min();
        self.wait(may_get, due)
    }

    pub(super) fn wait(&mut self, accepting: bool, timeout: Option<Duration>) -> io::Result<()> {
        let Some(waker) = self.service.control.waker() else { return Ok(()) };
        let sources = Sources { listener: self.listener.as_fd(), waker, service: &self.service };
        self.ready |= self.backend.wait(&sources, accepting, timeout)?;
        Ok(())
    }

    /// Whether another request may be got now.
    fn may_get(&self) -> bool {
        (self.lack().is_none() || self.turns_away())
            && !self.service.control.is_paused()
            && self.backoff.remaining().is_none()
    }

    /// Why there is no room for one more request; `None` if there is.
    fn lack(&self) -> Option<Lack> {
        let limits = &self.service.limits;
        if !limits.has_room() {
            Some(Lack::Connections(limits.max_connections()))
        } else {
            (!self.backend.has_room()).then_some(Lack::Backend)
        }
    }

    /// Whether requests for which there is no room are told so, rather than left where they are.
    fn turns_away(&self) -> bool {
        self.busy.reply.is_some() && matches!(self.local_addr(), Addr::Tcp(_) | Addr::Unix(_))
    }

    /// Gets up to `max` requests and starts them. Says how many it has got, including those that were turned away.
    pub(super) fn get_requests(&mut self, max: usize) -> usize {
        let mut got = 0;
        for _ in 0..max {
            if !self.may_get() || self.service.control.is_stopping() {
                break;
            }
            match self.listener.get_request() {
                Ok(incoming) => {
                    got += 1;
                    self.backoff.reset();
                    self.start(incoming);
                }
                Err(error) => match Verdict::of(&error) {
                    Verdict::NothingThere => {
                        self.ready = false;
                        break;
                    }
                    Verdict::LostConnection => {
                        self.service.counters.accept_errors.add();
                        log::debug!("a connection was lost before it was accepted: {error}");
                    }
                    Verdict::OutOfResources => {
                        self.service.counters.accept_errors.add();
                        self.backoff.fail(&error);
                        break;
                    }
                },
            }
        }
        got
    }

    /// Verifies a request and hands it over.
    fn start(&mut self, incoming: Incoming) {
        let counters = &self.service.counters;
        counters.accepted.add();
        log::debug!("accepted {}", incoming.peer);
        if incoming.truncated {
            counters.truncated.add();
        }
        if !self.verify(&incoming) {
            counters.rejected.add();
            log::debug!("rejected {}", incoming.peer);
            if let Socket::Connection(fd) = &incoming.socket {
                socket::shutdown_write(fd.as_fd());
            }
            return;
        }
        // If none is turned away, there was room when this one was got: it stays, even if the limit has been lowered since.
        let admitted = match self.lack().filter(|_| self.turns_away()) {
            Some(lack) => Err(lack),
            None => self.admit(&incoming.peer),
        };
        match admitted {
            Ok(permit) => self.backend.process_request(Job::new(incoming, self.service.clone(), permit)),
            Err(lack) => {
                self.service.refuse(&incoming.peer, lack);
                if let Socket::Connection(connection) = incoming.socket {
                    self.busy.turn_away(connection);
                }
            }
        }
    }

    fn admit(&mut self, peer: &Addr) -> Result<Permit, Lack> {
        let limits = &self.service.limits;
        limits.admit(peer.ip()).or_else(|_| {
            // The backend may have datagrams of this peer, or replies to it, that wait for others.
            self.backend.service_actions();
            limits.admit(peer.ip())
        })
    }

    fn verify(&self, incoming: &Incoming) -> bool {
        let (error, class) = match catch(|| self.service.hooks.verify_request(incoming)) {
            Ok(Ok(verified)) => return verified,
            Ok(Err(error)) => (error, FailureClass::Handler),
            Err(panic) => (panic.error, FailureClass::Panic),
        };
        self.service.handle_error(error, class, &incoming.peer);
        false
    }

    /// Ends the requests in progress as the stop says: idle ones at once, the others when they have finished or the deadline has
    /// passed.
    pub(super) fn drain(&mut self) -> io::Result<Served> {
        let mut served = Served::default();
        self.backend.forget_listener(self.listener.as_fd());
        self.refuse(Control::take_refuse);
        if !self.backend.block_on_close() {
            return Ok(served);
        }
        self.service.limits.want_end(true);
        self.service.live.drain();
        // Asked again each time: another stop may have brought the deadline forward, or want new connections to be refused.
        self.wait_for_end(Control::cut_at)?;
        if self.service.limits.live() > 0 {
            self.service.control.cut_off();
            self.service.live.cut();
            let noticed = deadline(Some(AFTER_CUT));
            self.wait_for_end(|_| noticed)?;
        }
        served.cut = self.service.control.take_cuts();
        if served.cut > 0 {
            log::warn!("requests that were still in progress at the deadline and have been cut off: {}", served.cut);
        }
        served.unfinished = self.service.limits.live();
        self.service.limits.want_end(false);
        self.backend.service_actions();
        Ok(served)
    }

    /// Says that the stop has been obeyed, also by refusing new connections, if that was asked for last. Who was turned away is let go.
    pub(super) fn obeyed(&mut self) {
        self.busy.close();
        self.refuse(Control::obeyed);
    }

    /// Makes the system refuse new connections, if that has been asked for.
    fn refuse(&mut self, asked: impl FnOnce(&Control) -> bool) {
        if asked(&self.service.control) {
            self.listener.refuse();
        }
    }

    /// Waits until no request is in progress, or the deadline has passed.
    fn wait_for_end(&mut self, until: impl Fn(&Control) -> Option<Instant>) -> io::Result<()> {
        while self.service.limits.live() > 0 {
            self.refuse(Control::take_refuse);
            let left = until(&self.service.control).map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            let due = [left, self.busy.tend()].into_iter().flatten().min();
            self.wait(false, due)?;
        }
        Ok(())
    }

    pub(super) fn hook(&self, name: &str, call: impl FnOnce(&dyn Hooks)) {
        if let Err(Failed { error, .. }) = catch(|| call(&*self.service.hooks)) {
            log::error!("the hook {name} panicked: {error}");
        }
    }
}
