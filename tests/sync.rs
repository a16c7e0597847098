//! Locks and channels that park: on every backend the same handlers, on one loop where that is a loop.

#[macro_use]
#[path = "support/on_every_backend.rs"]
mod on_every_backend;
mod support;

#[path = "sync/channels.rs"]
mod channels;
#[path = "sync/conditions.rs"]
mod conditions;
#[path = "sync/mutexes.rs"]
mod mutexes;
#[path = "sync/unwound.rs"]
mod unwound;

use std::time::Duration;

use socketserver::HandlerFactory;
use socketserver::backend::{Backend, BackendName, EventLoop};
use support::cell::{Kind, Place, bind_with};
use support::running::Running;

/// One loop, so that whoever blocked it would block everybody.
fn backend(name: BackendName) -> Box<dyn Backend> {
    match name {
        BackendName::EventLoop => Box::new(EventLoop::new(1)),
        name => name.backend(),
    }
}

fn serve<K>(name: BackendName, handler: impl HandlerFactory<K>) -> Running {
    Running::start(bind_with(&Place::new(Kind::Tcp4), backend(name), handler))
}

/// Ends serving, and says how many requests had to be cut off.
fn stop(running: Running, grace: Duration) -> usize {
    running.handle.drain(grace);
    running.ended().1.cut
}
