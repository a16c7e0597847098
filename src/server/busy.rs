//! [`Busy`]: connections for which there is no room, and that are told so.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::socket::{self, Blocking};

/// How long a connection that was turned away is kept, so that its peer reads the reply: closing a socket with input unread would
/// reset it, and destroy the reply.
const LINGER: Duration = Duration::from_secs(1);
/// How often those connections are looked after.
const INTERVAL: Duration = Duration::from_millis(20);
/// How many are kept at the most. With one more, the oldest is closed.
const KEPT: usize = 64;

/// Turns connections away with a reply. Everything happens on the serving thread, and nothing waits.
#[derive(Default)]
pub(super) struct Busy {
    /// What they are sent; `None` to leave them in the kernel's queue instead.
    pub(super) reply: Option<Vec<u8>>,
    /// Connections that have their reply and have not closed yet, with the time at which that is over.
    lingering: VecDeque<(OwnedFd, Instant)>,
    /// When to look after them again: an event loop takes turns far more often, and each look is a call for each of them.
    next_look: Option<Instant>,
}

impl Busy {
    /// Sends the reply, which a new connection has room for, and half-closes.
    pub(super) fn turn_away(&mut self, connection: OwnedFd) {
        let Some(reply) = &self.reply else { return };
        // Whatever goes wrong with it, it is closed.
        if socket::send(connection.as_fd(), reply, Blocking::No).is_err() {
            return;
        }
        socket::shutdown_write(connection.as_fd());
        if self.lingering.len() == KEPT {
            self.lingering.pop_front();
        }
        self.lingering.push_back((connection, Instant::now() + LINGER));
    }

    /// Closes those that are through, if it is time to look, and says when to look again.
    pub(super) fn tend(&mut self) -> Option<Duration> {
        if self.lingering.is_empty() {
            return None;
        }
        let now = Instant::now();
        if self.next_look.is_none_or(|next| next <= now) {
            self.lingering.retain(|(connection, until)| now < *until && !is_over(connection));
            self.next_look = Some(now + INTERVAL);
        }
        self.next_look.filter(|_| !self.lingering.is_empty()).map(|next| next - now)
    }

    /// Closes all, where nobody will look after them any more.
    pub(super) fn close(&mut self) {
        for (connection, _) in self.lingering.drain(..) {
            // So that what has come by now does not destroy the reply.
            is_over(&connection);
        }
    }
}

/// Discards what has come in. `true` if the peer has closed, or sends without end.
fn is_over(connection: &OwnedFd) -> bool {
    /// Reads of 4 KiB in one turn.
    const READS: usize = 64;
    let mut scratch = [0; 4096];
    for _ in 0..READS {
        match socket::recv(connection.as_fd(), &mut scratch, Blocking::No) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn turned_away() -> (Busy, UnixStream) {
        let (connection, client) = UnixStream::pair().unwrap();
        let mut busy = Busy { reply: Some(b"busy".to_vec()), ..Busy::default() };
        busy.turn_away(connection.into());
        (busy, client)
    }

    /// What it says when it is time to look.
    fn look(busy: &mut Busy) -> Option<Duration> {
        busy.next_look = None;
        busy.tend()
    }

    #[test]
    fn a_connection_is_kept_until_its_peer_closes() {
        let (mut busy, mut client) = turned_away();
        assert_eq!(look(&mut busy), Some(INTERVAL));
        client.write_all(b"late").unwrap();
        assert_eq!(look(&mut busy), Some(INTERVAL));
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "busy");
        drop(client);
        assert_eq!(look(&mut busy), None);
    }

    #[test]
    fn a_connection_that_is_reset_is_not_kept() {
        let (mut busy, client) = turned_away();
        // With the reply unread.
        drop(client);
        assert_eq!(look(&mut busy), None);
    }

    /// However many turns an event loop takes meanwhile.
    #[test]
    fn nobody_is_looked_after_more_often_than_that() {
        let (mut busy, client) = turned_away();
        drop(client);
        busy.next_look = Some(Instant::now() + LINGER);
        assert!(busy.tend().is_some() && busy.lingering.len() == 1);
        assert_eq!(look(&mut busy), None);
    }

    #[test]
    fn the_oldest_of_too_many_is_closed() {
        let (mut busy, mut oldest) = turned_away();
        let mut others = [(); KEPT].map(|()| {
            let (connection, client) = UnixStream::pair().unwrap();
            busy.turn_away(connection.into());
            client
        });
        assert_eq!(busy.lingering.len(), KEPT);
        assert_eq!(oldest.write(b"late").unwrap_err().kind(), ErrorKind::BrokenPipe);
        others.iter_mut().for_each(|client| client.write_all(b"late").unwrap());
    }

    #[test]
    fn a_silent_peer_is_not_waited_for_without_end() {
        let (mut busy, _client) = turned_away();
        let until = &mut busy.lingering[0].1;
        assert!(*until <= Instant::now() + LINGER);
        *until = Instant::now();
        assert_eq!(look(&mut busy), None);
    }
}
