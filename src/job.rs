//! [`Job`]: one request, from setup to close.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::addr::Addr;
use crate::handler::RequestHandler;
use crate::hooks::{Failure, FailureClass, Hooks, catch};
use crate::limits::{Limits, Permit};
use crate::listener::{Content, Incoming};
use crate::live::{Live, LiveSet};
use crate::park::{Context, Parker};
use crate::request::Request;
use crate::shutdown::Control;
use crate::stats::Counters;

/// A request that a [`Backend`](crate::Backend) is to run: that is all one can do with it.
///
/// A job that is dropped instead closes its connection and counts as refused. So a backend that cannot run one, say because
/// there is no thread to be had, just drops it.
#[must_use = "a job that is not run is refused"]
pub struct Job {
    /// Taken by `run`.
    incoming: Option<Incoming>,
    service: Arc<Service>,
    permit: Permit,
}

impl Job {
    pub(crate) fn new(incoming: Incoming, service: Arc<Service>, permit: Permit) -> Job {
        Job { incoming: Some(incoming), service, permit }
    }

    /// Serves the request on the calling thread: makes the handler, calls `setup`, `handle` and `finish`, reports a failure,
    /// closes. Neither a panic of the handler nor one of a hook leaves this call.
    pub fn run(self) {
        let parker = Parker::for_thread(self.service.control.waker_if_serving_here());
        self.run_on(parker);
    }

    /// Serves the request where `parker` waits.
    pub(crate) fn run_on(mut self, parker: Parker) {
        let Some(incoming) = self.incoming.take() else { return };
        let service = &*self.service;
        service.refusing.store(false, Relaxed);
        let timeout = incoming.timeout;
        let unparker = parker.unparker();
        let context = Context::new(parker);
        let live = Arc::new(Live::new(incoming.socket, incoming.peer, service.control.clone(), unparker));
        context.begin(&live);
        let key = service.live.insert(&live);
        let mut request = match incoming.content {
            Content::Connection => Request::connection(live, context.clone()),
            Content::Packet { bytes, truncated } => Request::datagram(live, context.clone(), bytes, truncated),
        };
        request.set_read_timeout(timeout);
        request.set_write_timeout(timeout);
        context.enter(|| {
            let outcome = service.serve(&mut request);
            service.report(request.live(), outcome);
            request.close();
        });
        service.live.remove(key);
        log::debug!("closed {}", request.peer_addr());
    }

    /// The address of the request's peer.
    pub fn peer_addr(&self) -> Option<&Addr> {
        self.incoming.as_ref().map(|incoming| &incoming.peer)
    }

    /// The connection's socket; `None` for a datagram, which has none of its own.
    pub(crate) fn connection(&self) -> Option<BorrowedFd<'_>> {
        let incoming = self.incoming.as_ref()?;
        matches!(incoming.content, Content::Connection).then(|| incoming.socket.as_fd())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.service.counters.refused.add();
            if !self.service.refusing.swap(true, Relaxed) {
                log::warn!("refusing {} and whoever follows: there is nothing left to run requests on", incoming.peer);
            }
        }
        // Last, when nothing is left of the request: then there is room for another one.
        self.service.limits.release(&self.permit);
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("peer_addr", &self.peer_addr()).finish_non_exhaustive()
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
    /// Requests are being refused, and that has been logged.
    pub(crate) refusing: Arc<AtomicBool>,
}

/// How a request failed: the first failure, and whether that was a panic.
struct Failed {
    error: io::Error,
    panicked: bool,
}

impl Service {
    /// Runs the handler through its stages. This is the one place that calls it, and the boundary of its panics.
    fn serve(&self, request: &mut Request) -> Result<(), Failed> {
        let mut outcome = Ok(());
        let life = catch(|| {
            (self.factory)(&mut |handler| outcome = run_stages(handler, request));
        });
        // The handler's constructor or destructor has panicked.
        outcome = outcome.and(life.map_err(panicked));
        outcome.and_then(|()| request.send_reply().map_err(failed))
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
            FailureClass::Cut => counters.cut.add(),
            FailureClass::Panic => counters.panicked.add(),
            FailureClass::Handler => {}
        }
        self.handle_error(&Failure { error: &error, class, peer: &live.peer });
    }

    pub(crate) fn handle_error(&self, failure: &Failure<'_>) {
        if let Err(error) = catch(|| self.hooks.handle_error(failure)) {
            log::error!("the hook handle_error panicked: {error}; it was told: {failure}");
        }
    }
}

/// `setup`, `handle`, `finish`: a handler that was set up is finished, whatever `handle` did. The first failure counts.
fn run_stages(handler: &mut dyn RequestHandler, request: &mut Request) -> Result<(), Failed> {
    stage(|| handler.setup(request))?;
    let handled = stage(|| handler.handle(request));
    let finished = stage(|| handler.finish(request));
    handled.and(finished)
}

fn stage(call: impl FnOnce() -> io::Result<()>) -> Result<(), Failed> {
    match catch(call) {
        Ok(result) => result.map_err(failed),
        Err(panic) => Err(panicked(panic)),
    }
}

fn failed(error: io::Error) -> Failed {
    Failed { error, panicked: false }
}

fn panicked(error: io::Error) -> Failed {
    Failed { error, panicked: true }
}
