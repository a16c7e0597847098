//! What carries the messages.

use std::fmt;

use clap::ValueEnum;

/// A kind of socket that servers and the load both speak; a server is told it, and says it back in its greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// TCP, on the loopback interface.
    Tcp,
    /// UDP, on the loopback interface; a connection is a client with a socket of its own.
    Udp,
    /// Unix stream sockets, in a temporary directory.
    Unix,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Unix];

    /// As in the addresses on the servers' command lines and in their greetings.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}
