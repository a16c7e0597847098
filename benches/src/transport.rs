//! What carries the messages.

/// Chosen by the command; a server is told it, and says it back in its greeting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// As in the addresses on the servers' command lines and in their greetings.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
