//! [`Scheme`]: a kind of socket.

use std::fmt;
use std::io;

use super::{Addr, invalid, parse_inet, parse_unix};

/// A kind of socket, as the scheme of an [`Addr`] names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
    /// `unix`: Unix stream
    Unix,
    /// `unixgram`: Unix datagram
    Unixgram,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Scheme::Tcp => "tcp",
            Scheme::Udp => "udp",
            Scheme::Unix => "unix",
            Scheme::Unixgram => "unixgram",
        }
    }

    /// Fails unless `addr` is one of this kind of socket.
    pub(crate) fn check(self, addr: &Addr) -> io::Result<()> {
        if addr.scheme() == self {
            return Ok(());
        }
        Err(invalid(format!("expected the address of a {self} socket, not {addr}")))
    }

    /// Reads what follows `scheme://`.
    pub(super) fn parse(self, rest: &str) -> io::Result<Addr> {
        match self {
            Scheme::Tcp => parse_inet(rest).map(Addr::Tcp),
            Scheme::Udp => parse_inet(rest).map(Addr::Udp),
            Scheme::Unix => parse_unix(rest).map(Addr::Unix),
            Scheme::Unixgram => parse_unix(rest).map(Addr::Unixgram),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
