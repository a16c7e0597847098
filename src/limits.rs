//! [`Limits`]: how many requests may be in progress at a time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crate::lock::lock;
use crate::refusals::Lack;
use crate::waker::{LateWaker, Waker};

/// A server's limits on concurrent requests, which may be changed while it serves, from any thread.
///
/// Get it with [`Server::limits`](crate::Server::limits); clones are handles to the same limits. A limit that is lowered
/// ends no request: nothing new is accepted until enough of them have ended.
#[derive(Clone, Debug)]
pub struct Limits {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Requests in progress: counted up by the serving thread, down where they end.
    live: AtomicUsize,
    max: AtomicUsize,
    max_per_peer: AtomicUsize,
    /// Requests in progress by peer, kept only while there is a limit by peer.
    peers: Mutex<HashMap<IpAddr, usize>>,
    /// Whether the serving thread sleeps until a request ends. Written by that thread.
    wanted: AtomicBool,
    waker: LateWaker,
}

impl Limits {
    pub(crate) fn new() -> Limits {
        Limits {
            shared: Arc::new(Shared {
                live: AtomicUsize::new(0),
                max: AtomicUsize::new(usize::MAX),
                max_per_peer: AtomicUsize::new(usize::MAX),
                peers: Mutex::default(),
                wanted: AtomicBool::new(false),
                waker: LateWaker::default(),
            }),
        }
    }

    /// Requests in progress.
    pub fn live(&self) -> usize {
        self.shared.live.load(SeqCst)
    }

    /// How many requests may be in progress at a time; `usize::MAX`, the default, is no limit.
    pub fn max_connections(&self) -> usize {
        self.shared.max.load(SeqCst)
    }

    /// Sets how many requests may be in progress at a time. At the limit the server accepts nothing: the kernel's queue
    /// holds the rest (see the listener's `request_queue_size`), unless there is a
    /// [`busy_reply`](crate::Server::busy_reply).
    pub fn set_max_connections(&self, max: usize) {
        self.shared.max.store(max, SeqCst);
        self.shared.waker.ring();
    }

    /// How many requests of one IP address may be in progress at a time; `usize::MAX`, the default, is no limit.
    pub fn max_per_peer(&self) -> usize {
        self.shared.max_per_peer.load(SeqCst)
    }

    /// Sets how many requests of one IP address may be in progress at a time; `usize::MAX`, the default, is no limit. One
    /// more is accepted and closed at once, a datagram dropped. Unix peers have no address and are not limited.
    ///
    /// Without a limit nobody is counted: one that is set while requests are in progress applies to those that begin from then on. A
    /// connection counts until it is closed, which its peer may see a moment earlier: if the limit is tight, a peer that connects again at
    /// once may be one too many.
    pub fn set_max_per_peer(&self, max: usize) {
        self.shared.max_per_peer.store(max, SeqCst);
    }

    /// Whether one more request is within [`max_connections`](Limits::max_connections).
    pub(crate) fn has_room(&self) -> bool {
        self.live() < self.max_connections()
    }

    /// Counts one more request, until the permit is given back. Fails if its peer has too many already.
    pub(crate) fn admit(&self, peer: Option<IpAddr>) -> Result<Permit, Lack> {
        let max = self.max_per_peer();
        let peer = peer.filter(|_| max != usize::MAX);
        if let Some(peer) = peer {
            let mut peers = lock(&self.shared.peers);
            // No entry is made for a peer that is turned away: there may be very many.
            if peers.get(&peer).copied().unwrap_or(0) >= max {
                return Err(Lack::PerPeer(max));
            }
            *peers.entry(peer).or_default() += 1;
        }
        self.shared.live.fetch_add(1, SeqCst);
        Ok(Permit { peer })
    }

    /// Counts one request less, as the last thing of it: there is room for another.
    pub(crate) fn release(&self, permit: &Permit) {
        if let Some(peer) = permit.peer {
            let mut peers = lock(&self.shared.peers);
            if let Some(count) = peers.get_mut(&peer) {
                *count -= 1;
                if *count == 0 {
                    peers.remove(&peer);
                }
            }
        }
        self.shared.live.fetch_sub(1, SeqCst);
        if self.shared.wanted.load(SeqCst) {
            self.shared.waker.ring();
        }
    }

    /// Says whether the serving thread is to be woken when a request ends.
    pub(crate) fn want_end(&self, wanted: bool) {
        self.shared.wanted.store(wanted, SeqCst);
    }

    pub(crate) fn set_waker(&self, waker: Arc<Waker>) {
        self.shared.waker.set(waker);
    }
}

/// One request in progress, to be given back by [`Limits::release`]. It holds no reference to the limits: the job that it belongs to
/// has one to all that its server shares.
#[derive(Debug)]
#[must_use = "it is to be given back"]
pub(crate) struct Permit {
    /// The peer that it is counted for, if it is.
    peer: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_room_taken_and_given_back() {
        let limits = Limits::new();
        limits.set_max_connections(1);
        let permit = limits.admit(None);
        assert!(permit.is_ok() && !limits.has_room());
        limits.release(&permit.unwrap());
        assert!(limits.has_room());
    }

    #[test]
    fn each_peer_has_its_own_count() {
        let limits = Limits::new();
        limits.set_max_per_peer(1);
        assert_eq!(limits.max_per_peer(), 1);
        let [one, two] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        let first = limits.admit(Some(one)).unwrap();
        assert!(limits.admit(Some(one)).is_err());
        let second = limits.admit(Some(two)).unwrap();
        limits.release(&first);
        limits.release(&second);
        limits.release(&limits.admit(Some(one)).unwrap());
        limits.set_max_per_peer(0);
        assert!(limits.admit(Some(one)).is_err());
        assert!(limits.shared.peers.lock().unwrap().is_empty());
    }
}
