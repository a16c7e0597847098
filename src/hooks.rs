//! [`Hooks`]: what a server asks and tells while it serves.

use std::fmt;
use std::io::{self, ErrorKind};

use crate::addr::Addr;
use crate::listener::Incoming;
use crate::one_line::one_line;

/// Filters requests, hears of failures, and does something now and then: the methods of Python's `BaseServer` that one overrides.
///
/// Every method has a default. A hook that panics does not end the server: `verify_request` has failed then, and of the others there is a
/// line in the log, on level `error`.
///
/// ```
/// use std::io;
/// use socketserver::{Failure, Hooks, Incoming, Request, ThreadingTcpServer};
///
/// struct OnlyLoopback;
///
/// impl Hooks for OnlyLoopback {
///     fn verify_request(&self, request: &Incoming) -> io::Result<bool> {
///         Ok(request.peer_addr().ip().is_some_and(|ip| ip.is_loopback()))
///     }
///
///     fn handle_error(&self, failure: &Failure<'_>) {
///         eprintln!("{failure}");
///     }
/// }
///
/// let server = ThreadingTcpServer::bind("127.0.0.1:0", |_: &mut Request| Ok(()))?.hooks(OnlyLoopback);
/// # drop(server);
/// # Ok::<(), io::Error>(())
/// ```
pub trait Hooks: Send + Sync {
    /// Whether to serve this request. Asked on the serving thread before anything else happens to the request, so it should
    /// not wait. If it says `Ok(false)` or fails, the request is closed; a failure goes to [`handle_error`](Hooks::handle_error), as of class
    /// [`Handler`](FailureClass::Handler) whatever the kind of its error, or [`Panic`](FailureClass::Panic). By default everything is
    /// served.
    fn verify_request(&self, request: &Incoming) -> io::Result<bool> {
        let _ = request;
        Ok(true)
    }

    /// Hears that a request failed: once per failed request, on the thread that it ran on, before it is closed. It cannot answer: what
    /// the peer is to be told of a failure, the handler tells it. By default the failure is logged, on the level of its
    /// [`FailureClass`].
    fn handle_error(&self, failure: &Failure<'_>) {
        failure.log();
    }

    /// [`handle_request`](crate::Server::handle_request) has waited for its timeout, and no request has come.
    fn handle_timeout(&self) {}

    /// Called on the serving thread, once in every turn of [`serve_forever`](crate::Server::serve_forever): after each wait for requests,
    /// which lasts for a [`poll_interval`](crate::Server::poll_interval) at the most, and after those that run on this thread. By default
    /// there is no such interval, unlike CPython's of half a second, so that nothing calls this while nobody comes. It is not called at the
    /// end: last things are done after `serve_forever` has returned. To end the server from here, keep a
    /// [`ShutdownHandle`](crate::ShutdownHandle), made before the hooks are set.
    fn service_actions(&self) {}
}

/// The hooks of a server that was given none.
pub(crate) struct NoHooks;

impl Hooks for NoHooks {}

/// Why a request failed: for [`Hooks::handle_error`]. It prints as one line: control characters, as in the message of a panic or the name
/// of a peer, are escaped.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// What the handler, or the hook `verify_request`, returned; for a panic, an error with its message.
    pub error: &'a io::Error,
    /// What kind of failure that is.
    pub class: FailureClass,
    /// Whose request it was.
    pub peer: &'a Addr,
}

/// What kind of [`Failure`] it was, as the kind of its error tells: also where that is the error of something else than the request, such
/// as a handler's own socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureClass {
    /// The peer went away: `ConnectionReset`, `ConnectionAborted`, `BrokenPipe`, `NotConnected`, or `UnexpectedEof`, which
    /// std's `read_exact` gives; `NotConnected` also for a datagram whose reply cannot be sent to its peer. Logged on level `debug`.
    Disconnect,
    /// A timeout or the request's deadline has passed: `TimedOut`. Logged on level `info`: any peer can bring it about.
    Timeout,
    /// The peer sent what it should not have: `InvalidData`, as the framings give. Logged on level `info`: any peer can bring it
    /// about.
    Protocol,
    /// The server ended and cut the request off, or a [`Sender`](crate::Sender) closed it: its handler returned `ConnectionAborted`, or
    /// never, so that its stack was unwound. Logged on level `info`.
    Cut,
    /// Any other error. Logged on level `error`.
    Handler,
    /// A panic. Logged on level `error`.
    Panic,
}

impl FailureClass {
    pub(crate) fn of(error: &io::Error, was_cut: bool) -> FailureClass {
        match error.kind() {
            ErrorKind::ConnectionAborted if was_cut => FailureClass::Cut,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => FailureClass::Disconnect,
            ErrorKind::TimedOut => FailureClass::Timeout,
            ErrorKind::InvalidData => FailureClass::Protocol,
            _ => FailureClass::Handler,
        }
    }
}

impl Failure<'_> {
    /// Logs the failure, as [`Hooks::handle_error`] does by default.
    pub fn log(&self) {
        let level = match self.class {
            FailureClass::Disconnect => log::Level::Debug,
            FailureClass::Timeout | FailureClass::Protocol | FailureClass::Cut => log::Level::Info,
            FailureClass::Handler | FailureClass::Panic => log::Level::Error,
        };
        log::log!(level, "{self}");
    }
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.class {
            FailureClass::Disconnect => "was left by its peer",
            FailureClass::Timeout => "timed out",
            FailureClass::Protocol => "sent what cannot be read",
            FailureClass::Cut => "was cut off",
            FailureClass::Handler => "failed",
            FailureClass::Panic => "panicked",
        };
        write!(f, "request of {} {what}: {}", self.peer, one_line(&self.error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::UnixName;

    /// Or whoever names a socket could write lines of his own into the log.
    #[test]
    fn a_failure_is_one_line() {
        let error = io::Error::other("`left == right` failed\n  left: \"é\"\r\x1b[2J");
        let peer = Addr::Unix(UnixName::Abstract(b"a\nb".to_vec()));
        let failure = Failure { error: &error, class: FailureClass::Panic, peer: &peer };
        let line = r#"request of unix://@a\nb panicked: `left == right` failed\n  left: "é"\r\u{1b}[2J"#;
        assert_eq!(failure.to_string(), line);
    }
}
