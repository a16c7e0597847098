//! [`LiveSet`]: the requests in progress of one server.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use slab::Slab;

use super::{Live, LiveRequest};
use crate::addr::Addr;
use crate::lock::lock;
use crate::park::Unparker;
use crate::shutdown::Phase;

/// All requests in progress of one server.
#[derive(Default)]
pub(crate) struct LiveSet {
    requests: Mutex<Slab<Arc<Live>>>,
}

impl LiveSet {
    /// Adds a request that begins, and returns its key. It is cut off if all have been since it was accepted, when there had been so many
    /// `cutoffs`.
    pub(crate) fn insert(&self, live: &Arc<Live>, cutoffs: usize) -> usize {
        let key = lock(&self.requests).insert(live.clone());
        if live.control.cutoffs() != cutoffs {
            match live.control.phase() {
                Phase::Cut => live.cut_at_end(),
                // Another serving has begun, which has not cut it off.
                _ => live.cut(),
            }
        }
        key
    }

    pub(crate) fn remove(&self, key: usize) {
        // Dropped without the lock: this may be what closes the socket.
        let removed = lock(&self.requests).try_remove(key);
        drop(removed);
    }

    /// Ends the idle requests.
    pub(crate) fn drain(&self) {
        /// A thread may just have been given the beginning of a message. It has this long to run, and to say that it is not idle.
        const MOMENT: Duration = Duration::from_millis(2);
        let blocked = |(_, live): (usize, &Arc<Live>)| live.drain().then(|| live.clone());
        let blocked: Vec<Arc<Live>> = lock(&self.requests).iter().filter_map(blocked).collect();
        if !blocked.is_empty() {
            thread::sleep(MOMENT);
        }
        blocked.iter().for_each(|live| live.end_read());
    }

    /// Cuts all requests off.
    pub(crate) fn cut(&self) {
        lock(&self.requests).iter().for_each(|(_, live)| live.cut_at_end());
    }

    /// The peer of the request that `unparker` wakes.
    pub(crate) fn peer_of(&self, unparker: &Unparker) -> Option<Addr> {
        let requests = lock(&self.requests);
        requests.iter().find(|(_, live)| live.unparker == *unparker).map(|(_, live)| live.peer.clone())
    }

    /// Describes all requests.
    pub(crate) fn describe(&self) -> Vec<LiveRequest> {
        lock(&self.requests).iter().map(|(_, live)| live.describe()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;
    use crate::addr::UnixName;
    use crate::live::Socket;
    use crate::park::Parker;
    use crate::shutdown::Control;

    /// Its thread has not had the processor since the message began to come.
    #[test]
    fn a_drain_spares_who_has_something_to_read() {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let socket = Socket::Connection(ours.try_clone().unwrap().into());
        let (control, unparker) = (Arc::new(Control::new()), Parker::for_thread(None).unparker());
        let live = Arc::new(Live::new(socket, Addr::Unix(UnixName::Unnamed), control, unparker, Instant::now()));
        let requests = LiveSet::default();
        requests.insert(&live, 0);
        live.set_idle(true);
        peer.write_all(b"he").unwrap();
        requests.drain();
        peer.write_all(b"llo").unwrap();
        (&ours).read_exact(&mut [0; 5]).unwrap();
        requests.drain();
        assert_eq!(peer.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
