//! [`Stats`]: what a server has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of a server's counters, from [`Server::stats`](crate::Server::stats). All count requests since the
        /// server was bound, unless they say otherwise.
        ///
        /// They balance: `accepted = rejected + refused + completed + failed + live`. A snapshot is taken counter by
        /// counter, so under load a sum may be off by the requests of that moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Requests that have been accepted and have not ended.
            pub live: u64,
        }

        /// The counters themselves. Each is written by the room that sees the event.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self, live: usize) -> Stats {
                Stats { $($name: self.$name.get(),)* live: live as u64 }
            }
        }
    };
}

counters! {
    /// Connections accepted and datagrams received.
    accepted,
    /// Turned away by [`Hooks::verify_request`](crate::Hooks::verify_request).
    rejected,
    /// Turned away for lack of room: a limit is reached, the backend is full, or there is no thread or stack to be had.
    refused,
    /// Served, and every call of the handler returned `Ok`.
    completed,
    /// Ended by an error or a panic. The next five count these requests again, by the class of the failure; one that is in none of them
    /// has failed with any other error ([`FailureClass::Handler`](crate::FailureClass::Handler)).
    failed,
    /// Failed because the peer went away.
    disconnected,
    /// Failed because a timeout or the request's deadline passed.
    timed_out,
    /// Failed because the peer sent what it should not have.
    protocol_errors,
    /// Failed by a panic.
    panicked,
    /// Failed because the server cut them off when it ended, or a [`Sender`](crate::Sender) closed them.
    cut,
    /// Datagrams that were longer than the listener's `max_packet_size`; the handler saw the beginning.
    truncated,
    /// Times that the [`watchdog`](crate::backend::EventLoop::watchdog) has found a handler that held up its event loop.
    held,
    /// Times that accepting failed, whatever the reason.
    accept_errors,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
