//! [`Job`]: one request, from setup to close.

mod answer;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::addr::Addr;
use crate::catch::{Failed, catch};
use crate::handler::RequestHandler;
use crate::hooks::{Failure, FailureClass, Hooks};
use crate::limits::{Limits, Permit};
use crate::listener::Incoming;
use crate::live::{Live, LiveSet, Socket};
use crate::park::{Context, Parker};
use crate::refusals::{Lack, Refusals};
use crate::request::Request;
use crate::shutdown::Control;
use crate::stats::Counters;

pub(crate) use answer::Answer;

/// A request that a [`Backend`](crate::Backend) is to run: that is all one can do with it.
///
/// A job that is dropped instead closes its connection and counts as refused. So a backend that cannot run one, say because
/// there is no thread to be had, just drops it.
#[must_use = "a job that is not run is refused"]
pub struct Job {
    /// Taken by `run`.
    waiting: Option<(Ticket, Incoming)>,
    /// How many servings had cut off their requests when this one was accepted.
    cutoffs: usize,
}

impl Job {
    pub(crate) fn new(incoming: Incoming, service: Arc<Service>, permit: Permit) -> Job {
        let cutoffs = service.control.cutoffs();
        Job { waiting: Some((Ticket { service, permit, key: None }, incoming)), cutoffs }
    }

    /// Serves the request on the calling thread: makes the handler, calls `setup`, `handle` and `finish`, reports a failure,
    /// closes. Neither a panic of the handler nor one of a hook leaves this call.
    pub fn run(self) {
        let Some((ticket, _)) = &self.waiting else { return };
        let parker = Parker::for_thread(ticket.service.control.waker_if_serving_here());
        let context = Context::new(parker);
        if let Some(answer) = self.run_in(&context, Instant::now()) {
            answer.send_in(&context);
        }
    }

    /// Serves the request in a context that runs nothing else. The reply to a datagram is left to the caller.
    pub(crate) fn run_in(mut self, context: &Rc<Context>, began: Instant) -> Option<Answer> {
        let (mut ticket, incoming) = self.waiting.take()?;
        let timeout = incoming.timeout;
        let unparker = context.parker.unparker();
        let control = ticket.service.control.clone();
        let live = Arc::new(Live::new(incoming.socket, incoming.peer, control, unparker, began));
        context.begin(&live);
        ticket.key = Some(ticket.service.live.insert(&live, self.cutoffs));
        let service = &*ticket.service;
        let mut request = match incoming.packet {
            None => Request::connection(live, context.clone()),
            Some(packet) => Request::datagram(live, context.clone(), packet, incoming.truncated),
        };
        request.set_read_timeout(timeout);
        request.set_write_timeout(timeout);
        let reply = context.enter(|| {
            let outcome = service.serve(&mut request);
            let reply = outcome.as_ref().ok().and_then(|()| request.take_reply());
            if reply.is_none() {
                service.report(request.live(), outcome);
                request.close();
            }
            reply
        });
        if let Some(reply) = reply {
            return Some(Answer { ticket, reply });
        }
        log::debug!("closed {}", request.peer_addr());
        None
    }

    /// The address of the request's peer.
    pub fn peer_addr(&self) -> Option<&Addr> {
        self.waiting.as_ref().map(|(_, incoming)| &incoming.peer)
    }

    /// The connection's socket; `None` for a datagram, which has none of its own.
    pub(crate) fn connection(&self) -> Option<BorrowedFd<'_>> {
        match &self.waiting.as_ref()?.1.socket {
            Socket::Connection(fd) => Some(fd.as_fd()),
            Socket::Datagram { .. } => None,
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some((ticket, incoming)) = self.waiting.take() {
            ticket.service.refuse(&incoming.peer, Lack::Resources);
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("peer_addr", &self.peer_addr()).finish_non_exhaustive()
    }
}

/// A request's part in its server. Dropping it, as the last thing of the request, makes room for another.
struct Ticket {
    service: Arc<Service>,
    permit: Permit,
    /// Where the request is in the list of those in progress, once it has begun.
    key: Option<usize>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.service.live.remove(key);
        }
        self.service.limits.release(&self.permit);
    }
}

/// Passes a fresh handler to the function that it is given.
pub(crate) type Factory = dyn Fn(&mut dyn FnMut(&mut dyn RequestHandler)) + Send + Sync;

/// What all requests of a server have in common.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) factory: Arc<Factory>,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
    pub(crate) live: Arc<LiveSet>,
    pub(crate) control: Arc<Control>,
    pub(crate) refusals: Arc<Refusals>,
}

impl Service {
    /// Runs the handler through its stages. This is the one place that calls it, and the boundary of its panics.
    fn serve(&self, request: &mut Request) -> Result<(), Failed> {
        let mut outcome = Ok(());
        let life = catch(|| {
            (self.factory)(&mut |handler| outcome = run_stages(handler, request));
        });
        // The handler's constructor or destructor has panicked.
        outcome.and(life)
    }

    /// Counts the end of a request, and tells the hook of a failure.
    fn report(&self, live: &Live, outcome: Result<(), Failed>) {
        let counters = &self.counters;
        let Err(Failed { error, panicked }) = outcome else {
            counters.completed.add();
            return;
        };
        let class = if panicked { FailureClass::Panic } else { FailureClass::of(&error, live.is_cut()) };
        counters.failed.add();
        match class {
            FailureClass::Disconnect => counters.disconnected.add(),
            FailureClass::Timeout => counters.timed_out.add(),
            FailureClass::Protocol => counters.protocol_errors.add(),
            FailureClass::Cut => counters.cut.add(),
            FailureClass::Panic => counters.panicked.add(),
            FailureClass::Handler => {}
        }
        self.handle_error(error, class, &live.peer);
    }

    /// Counts a request that is turned away, and tells why.
    pub(crate) fn refuse(&self, peer: &Addr, lack: Lack) {
        self.counters.refused.add();
        self.refusals.tell(peer, lack);
    }

    /// Tells the hook of a failure. The error may be a user's own: printing it, and dropping it, may panic as the hook may.
    pub(crate) fn handle_error(&self, error: io::Error, class: FailureClass, peer: &Addr) {
        let told = catch(|| self.hooks.handle_error(&Failure { error: &error, class, peer }));
        let dropped = catch(|| drop(error));
        for panic in [told, dropped].into_iter().filter_map(Result::err) {
            log::error!("the hook handle_error, or the error that it was told, panicked for {peer}: {}", panic.error);
        }
    }
}

/// `setup`, `handle`, `finish`: a handler that was set up is finished, whatever `handle` did. The first failure counts.
fn run_stages(handler: &mut dyn RequestHandler, request: &mut Request) -> Result<(), Failed> {
    let mut set_up = false;
    let handled = stage(|| {
        handler.setup(request)?;
        set_up = true;
        handler.handle(request)
    });
    if !set_up {
        return handled;
    }
    let finished = stage(|| handler.finish(request));
    handled.and(finished)
}

fn stage(call: impl FnOnce() -> io::Result<()>) -> Result<(), Failed> {
    Ok(catch(call)??)
}
