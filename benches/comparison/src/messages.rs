//! [`Messages`]: what a connection sends, and what must come back.

use std::fmt;
use std::sync::Arc;

/// The request of each exchange and its reply.
#[derive(Clone)]
pub struct Messages {
    pub(crate) kind: Kind,
    /// The most that one write offers to the kernel.
    pub(crate) write_bytes: usize,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Echo { bytes: usize },
    Recorded { request: Arc<[u8]>, reply: Arc<[u8]> },
    Checked { request: Arc<[u8]>, check: Arc<Check> },
}

/// Given all bytes of a reply so far, says whether it is complete; or what is wrong with it.
pub(crate) type Check = dyn Fn(&[u8]) -> Result<bool, String>;

impl Messages {
    /// Messages of this size, whose replies are the same bytes. Each is different from the one before it and from those of
    /// the other connections, so that the reply to another one does not pass for the right one.
    ///
    /// # Panics
    ///
    /// `bytes` is zero: there would be nothing to wait for.
    pub fn echo(bytes: usize) -> Self {
        assert!(bytes > 0, "a message needs at least one byte");
        Self::new(Kind::Echo { bytes })
    }

    /// The same request over and over, and the reply that it must have, byte for byte.
    ///
    /// # Panics
    ///
    /// One of them is empty: there would be nothing to wait for.
    pub fn recorded(request: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) -> Self {
        let (request, reply) = (request.as_ref(), reply.as_ref());
        assert!(!request.is_empty() && !reply.is_empty(), "a request and its reply need at least one byte each");
        Self::new(Kind::Recorded { request: request.into(), reply: reply.into() })
    }

    /// The same request over and over, and a function that looks at all bytes of a reply so far: whether it is complete, or
    /// what is wrong with it. A datagram is always complete.
    ///
    /// # Panics
    ///
    /// The request is empty.
    pub fn checked(request: impl AsRef<[u8]>, check: impl Fn(&[u8]) -> Result<bool, String> + 'static) -> Self {
        let request = request.as_ref();
        assert!(!request.is_empty(), "a request needs at least one byte");
        Self::new(Kind::Checked { request: request.into(), check: Arc::new(check) })
    }

    /// Sends a request in writes of this many bytes at the most, and reads the reply meanwhile. By default whole, as a datagram
    /// always is.
    pub fn in_writes_of(mut self, bytes: usize) -> Self {
        self.write_bytes = bytes.max(1);
        self
    }

    fn new(kind: Kind) -> Self {
        Self { kind, write_bytes: usize::MAX }
    }

    /// The larger one of request and reply, if that is known.
    pub(crate) fn largest(&self) -> usize {
        match &self.kind {
            Kind::Echo { bytes } => *bytes,
            Kind::Recorded { request, reply } => request.len().max(reply.len()),
            Kind::Checked { request, .. } => request.len(),
        }
    }

    pub(crate) fn is_echo(&self) -> bool {
        matches!(self.kind, Kind::Echo { .. })
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("largest", &self.largest()).finish_non_exhaustive()
    }
}
