//! Chaos: clients that do everything that clients do, and more, while the limits change. Afterwards a server of any kind serves on, its
//! books balance, and nothing is left of what it had: descriptors, threads, memory. And a peer that vanishes gives its place back.
//!
//! By default there are a few hundred connections for each server. The long run, for one of them with all of its output:
//!
//!     CHAOS_ACTIONS=100000 SOCKETSERVER_TEST_CHILD=1 \
//!         cargo test --release --test chaos -- --nocapture --exact event_loop::tcp4::chaos_leaves_nothing
//!
//! and chaos for 60 seconds on each of them, one after another:
//!
//!     CHAOS_SECONDS=60 cargo test --release --test chaos -- --test-threads=1 chaos_
//!
//! With both, it goes on until there is enough of both. `CHAOS_SEED=17` chooses the clients' actions; a failing test says with which seed
//! it began. (What the system and the threads make of them is another matter.)
#![cfg(target_os = "linux")]

mod support;

#[path = "chaos/clients.rs"]
mod clients;
#[path = "chaos/handler.rs"]
mod handler;
#[path = "chaos/packets.rs"]
mod packets;
#[path = "chaos/rounds.rs"]
mod rounds;
#[path = "chaos/silence.rs"]
mod silence;

use socketserver::backend::{Backend, EventLoop, ForkingStyle};
use support::cell::{Cell, Kind};

/// A kind of server: as a [`Cell`], but an event loop may be one or several.
#[derive(Clone, Copy)]
struct Variety {
    backend: &'static str,
    kind: Kind,
}

impl Variety {
    fn backend(self) -> Box<dyn Backend> {
        match self.backend {
            "event_loop" => Box::new(EventLoop::new(1)),
            "event_loops" => Box::new(EventLoop::new(3)),
            // As many as there are clients at a time, so that all workers are busy now and then.
            "forking_style" => Box::new(ForkingStyle::new(rounds::CLIENTS)),
            name => Cell::named(name, "tcp4").backend.backend(),
        }
    }
}

macro_rules! table {
    ($($backend:ident [$($stream:ident)*] [$($datagram:ident)*])*) => {
        $(mod $backend {
            fn variety(kind: &str) -> crate::Variety {
                let kind = crate::support::cell::Cell::named("sequential", kind).kind;
                crate::Variety { backend: stringify!($backend), kind }
            }

            $(mod $stream {
                use super::variety;

                #[test]
                fn chaos_leaves_nothing() {
                    crate::rounds::in_child(|| crate::rounds::chaos_leaves_nothing(variety(stringify!($stream))));
                }

                #[test]
                fn chaos_with_busy_replies_leaves_nothing() {
                    crate::rounds::in_child(|| {
                        crate::rounds::chaos_with_busy_replies_leaves_nothing(variety(stringify!($stream)))
                    });
                }

                #[test]
                fn a_peer_that_has_vanished_gives_its_place_back() {
                    crate::silence::a_peer_that_has_vanished_gives_its_place_back(variety(stringify!($stream)));
                }
            })*

            $(mod $datagram {
                use super::variety;

                #[test]
                fn chaos_leaves_nothing() {
                    crate::rounds::in_child(|| crate::rounds::chaos_leaves_nothing(variety(stringify!($datagram))));
                }
            })*
        })*
    };
}

table! {
    sequential [tcp4 unix_stream] [udp4 unix_datagram]
    threading [tcp4 unix_stream] [udp4 unix_datagram]
    forking_style [tcp4 unix_stream] [udp4 unix_datagram]
    event_loop [tcp4 unix_stream] [udp4 unix_datagram]
    event_loops [tcp4 unix_stream] [udp4 unix_datagram]
}
