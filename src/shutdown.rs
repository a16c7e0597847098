//! [`ShutdownHandle`]: ends, drains, pauses and resumes a server from anywhere.

mod control;

use std::sync::Arc;
use std::time::Duration;

use crate::deadline::deadline;

pub(crate) use control::{Control, Phase, Stop};

/// Ends a server's [`serve_forever`](crate::Server::serve_forever), from any thread, any handler and any backend.
///
/// Get it with [`Server::shutdown_handle`](crate::Server::shutdown_handle), or in a handler with
/// [`Request::shutdown_handle`](crate::Request::shutdown_handle). Its methods never block, may be called any
/// number of times, and wake the server by a descriptor, so that it reacts at once:
///
/// * asked before serving, it is remembered: the next `serve_forever` accepts nothing and returns;
/// * asked while serving, `serve_forever` returns as described below;
/// * asked when a serving has been ended since the handle was made, it does nothing: a second call that comes late does not end the
///   next `serve_forever`. To be sure to end that one, make the handle after the first has returned; while a server serves, any
///   handle works.
///
/// [`handle_request`](crate::Server::handle_request) returns `false` if it is asked to end while it waits. Asked while it serves its
/// request, or between two calls, the next call returns `false`. So `while server.handle_request()? {}` ends, whenever it is asked to.
///
/// Both [`shutdown`](ShutdownHandle::shutdown) and [`drain`](ShutdownHandle::drain) stop accepting and let requests finish:
///
/// * an *idle* connection is closed at once: its handler waits to read, with nothing buffered, and has been sent nothing
///   yet or has answered since it last read. The handler reads the end of the stream, as if the peer had closed. A peer that has not received
///   all that it was sent, but for some 3 KiB, has 2 seconds for that: what it sends meanwhile does not cut it short;
/// * a *busy* one goes on until it becomes idle or ends;
/// * what is left at the deadline, the earliest if several were given, is cut: every I/O call of its handler returns an error of kind
///   `ConnectionAborted`. What has been buffered can still be read, and so can a datagram, which gets no reply.
///
/// ```
/// use socketserver::{Request, ThreadingTcpServer};
///
/// let mut server = ThreadingTcpServer::bind("127.0.0.1:0", |_: &mut Request| Ok(()))?;
/// let handle = server.shutdown_handle();
/// let serving = std::thread::spawn(move || server.serve_forever());
/// handle.shutdown();
/// serving.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// To end with a signal, have a thread wait for it (here with the `signal-hook` crate): a signal handler itself must not call these
/// methods, as they take locks.
///
/// ```no_run
/// use std::time::Duration;
/// use signal_hook::{consts::{SIGINT, SIGTERM}, iterator::Signals};
/// use socketserver::{Request, ThreadingTcpServer};
///
/// let mut server = ThreadingTcpServer::bind("127.0.0.1:9999", |_: &mut Request| Ok(()))?;
/// let handle = server.shutdown_handle();
/// let mut signals = Signals::new([SIGINT, SIGTERM])?;
/// std::thread::spawn(move || signals.forever().for_each(|_| handle.drain(Duration::from_secs(5))));
/// server.serve_forever()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    control: Arc<Control>,
    /// The serving that it was made for.
    generation: u64,
}

impl ShutdownHandle {
    pub(crate) fn new(control: Arc<Control>) -> ShutdownHandle {
        let generation = control.generation();
        ShutdownHandle { control, generation }
    }

    /// Ends serving, with the server's own deadline for what is in progress
    /// ([`Server::shutdown_deadline`](crate::Server::shutdown_deadline), 5 seconds by default).
    ///
    /// The socket goes on listening: a client that connects meanwhile waits in the kernel's queue until the server serves
    /// again or is closed.
    pub fn shutdown(&self) {
        self.control.ask(self.generation, Stop { cut_at: deadline(Some(self.control.grace())), refuse: false });
    }

    /// Ends serving for good: new connections are refused from now on, those in the kernel's queue are reset (unless another process has the
    /// [socket, too](crate::listener#when-another-process-takes-over)), and what is in progress is cut after `grace`.
    /// `Duration::ZERO` cuts at once; `Duration::MAX` never. A `Sequential` server refuses when its handler has returned, as it does
    /// nothing else meanwhile, and a server that does not serve when it next does.
    ///
    /// To serve again, the server opens its address again, which it cannot do if it has adopted its socket. A socket for datagrams stays
    /// open, and what comes waits in its buffer.
    pub fn drain(&self, grace: Duration) {
        self.control.ask(self.generation, Stop { cut_at: deadline(Some(grace)), refuse: true });
    }

    /// Stops accepting, until [`resume`](ShutdownHandle::resume). Requests in progress go on; new connections wait in the
    /// kernel's queue, datagrams in the socket's buffer.
    pub fn pause(&self) {
        self.control.set_paused(true);
    }

    /// Accepts again after a [`pause`](ShutdownHandle::pause), beginning with what has been waiting.
    pub fn resume(&self) {
        self.control.set_paused(false);
    }
}
