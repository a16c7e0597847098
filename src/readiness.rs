//! [`Readiness`]: what a socket can do without waiting.

/// In which ways a socket is ready, or is waited for: what a park is told, and tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness(u8);

impl Readiness {
    pub(crate) const NONE: Readiness = Readiness(0);
    /// A read will not block.
    pub(crate) const READ: Readiness = Readiness(1);
    /// A write will not block.
    pub(crate) const WRITE: Readiness = Readiness(2);
    /// The peer has closed, has sent urgent data, or the connection is broken: no further event need come, so reads must be tried to
    /// the end.
    pub(crate) const CLOSED: Readiness = Readiness(4);
    /// The loop ends: cut the request off.
    pub(crate) const CUT: Readiness = Readiness(8);
    /// The loop is gone: unwind the stack. (See `coroutine::Unwound`.)
    pub(crate) const UNWIND: Readiness = Readiness(16);

    pub(crate) fn with(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Readiness) -> Readiness {
        Readiness(self.0 & !other.0)
    }

    pub(crate) fn has(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }
}
