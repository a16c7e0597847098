//! Write a request handler once, in plain blocking style; choose on one line how it is served.
//!
//! ```no_run
//! use std::io::{self, BufRead, Write};
//! use socketserver::{EventLoopTcpServer, Request, RequestHandler};
//!
//! #[derive(Default)]
//! struct Echo;
//!
//! impl RequestHandler for Echo {
//!     fn handle(&mut self, request: &mut Request) -> io::Result<()> {
//!         let (mut rfile, mut wfile) = request.split();
//!         loop {
//!             let bytes = rfile.fill_buf()?;
//!             wfile.write_all(bytes)?;
//!             if bytes.is_empty() {
//!                 return Ok(());
//!             }
//!             let count = bytes.len();
//!             rfile.consume(count);
//!         }
//!     }
//! }
//!
//! fn main() -> io::Result<()> {
//!     let mut server = EventLoopTcpServer::bind("127.0.0.1:9999", Echo::default)?;
//!     server.serve_forever()?;
//!     Ok(())
//! }
//! ```
//!
//! Another server is another name in that line; the handler stays as it is.
//!
//! | | TCP | UDP | Unix stream | Unix datagram |
//! |---|---|---|---|---|
//! | one at a time | [`TcpServer`] | [`UdpServer`] | [`UnixStreamServer`] | [`UnixDatagramServer`] |
//! | a thread per request | [`ThreadingTcpServer`] | [`ThreadingUdpServer`] | [`ThreadingUnixStreamServer`] | [`ThreadingUnixDatagramServer`] |
//! | a pool of workers | [`ForkingStyleTcpServer`] | [`ForkingStyleUdpServer`] | [`ForkingStyleUnixStreamServer`] | [`ForkingStyleUnixDatagramServer`] |
//! | coroutines on an event loop | [`EventLoopTcpServer`] | [`EventLoopUdpServer`] | [`EventLoopUnixStreamServer`] | [`EventLoopUnixDatagramServer`] |
//!
//! Each is a [`Server`] of a [`Listener`] and a [`Backend`]; [`backend`] says which server when, with figures. [`AnyServer`]
//! is chosen at run time, from text.
//!
//! # How a request travels
//!
//! 1. The [`Server`] waits, and gets a request from its listener: a connection, or a datagram.
//! 2. It asks [`Hooks::verify_request`], and looks whether there is room.
//! 3. It hands the request, as a [`Job`], to the backend, which decides where it runs.
//! 4. There the job makes a handler and calls [`setup`](RequestHandler::setup), [`handle`](RequestHandler::handle) and
//!    [`finish`](RequestHandler::finish) with the [`Request`]; a failure goes to [`Hooks::handle_error`].
//! 5. The connection is closed so that the peer gets everything; a datagram's reply is sent.
//!
//! A connection is a stream of bytes: [`frame`] has the messages on it.
//!
//! # Logging
//!
//! Through the [`log`] crate, so that it takes a logger to see anything, and never what peers send:
//!
//! | level | |
//! |---|---|
//! | error | a handler or a hook failed or panicked |
//! | warn | accepting pauses, requests are refused, a stop cuts some off, an event loop is held up |
//! | info | listening, stopping, stopped; a limit is reached, such as that of the pool; a request timed out, sent what cannot be read, or was cut off |
//! | debug | accepted, rejected by a hook, refused, closed, left by its peer |
//!
//! A shortage, or a limit that is reached, is logged when it begins, and not again until it has been over for a minute.
//!
//! # What this crate is not
//!
//! It is no async runtime: there are no futures, and the event loop runs this crate's handlers, not tasks at large. It speaks no
//! protocol above the sockets, neither [TLS](Request#tls) nor HTTP. It starts no thread and prints nothing until asked, and installs no
//! signal handler but the event loop's, which names a stack overflow. It is tested on Linux; it compiles for macOS and FreeBSD, and is
//! untested there.

#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(unix))]
compile_error!("socketserver needs a Unix system");

// What you write, and what you are given.
mod handler;
mod request;
mod addr;
// The server, and what can be said to it.
mod server;
mod hooks;
mod shutdown;
mod limits;
mod refusals;
mod episode;
mod one_line;
mod stats;
mod monitor;
// Where requests come from, and where they run.
pub mod listener;
pub mod backend;
// Messages on a stream.
pub mod frame;
// What handlers use beside their request.
pub mod net;
pub mod sync;
mod sibling;
// One request, from setup to close, and what others may do with it meanwhile.
mod job;
mod live;
mod outbox;
// Where a request waits, a thread or a coroutine, and until when.
mod park;
mod coroutine;
mod readiness;
mod deadline;
mod waker;
// The system's calls, the memory that they fill, and what the system has few of.
mod socket;
mod buffer;
mod map_entries;
// Panics: caught where a user's code runs, and no reason to give up a lock.
mod catch;
mod lock;

pub use addr::{Addr, Scheme, ToAddr, UnixName};
pub use backend::Backend;
pub use handler::{Chooses, HandlerFactory, Handles, Makes, RequestHandler};
pub use hooks::{Failure, FailureClass, Hooks};
pub use job::Job;
pub use limits::Limits;
pub use listener::Incoming;
pub use live::{Activity, LiveRequest};
pub use monitor::Monitor;
pub use park::{offload, sleep};
pub use request::{ReadHalf, Request, Sender, WriteHalf};
pub use server::{Served, Server};
pub use shutdown::ShutdownHandle;
pub use sibling::{JoinHandle, spawn};
pub use stats::Stats;
pub use waker::Waker;

use backend::{EventLoop, ForkingStyle, Sequential, Threading};
use listener::{Listener, Tcp, Udp, UnixDatagram, UnixStream};

/// A server whose listener and backend are chosen at run time.
///
/// ```
/// use socketserver::{AnyServer, Request, backend::BackendName, listener};
///
/// let (addr, backend) = ("udp://127.0.0.1:0", "event-loop");
/// let backend = backend.parse::<BackendName>()?.backend();
/// let server = AnyServer::new(listener::bind(addr)?, backend, |_: &mut Request| Ok(()));
/// # drop(server);
/// # Ok::<(), std::io::Error>(())
/// ```
pub type AnyServer = Server<Box<dyn Listener>, Box<dyn Backend>>;

/// TCP, one connection at a time.
#[doc(alias = "TCPServer")]
pub type TcpServer = Server<Tcp, Sequential>;
/// UDP, one datagram at a time.
#[doc(alias = "UDPServer")]
pub type UdpServer = Server<Udp, Sequential>;
/// Unix stream sockets, one connection at a time.
pub type UnixStreamServer = Server<UnixStream, Sequential>;
/// Unix datagram sockets, one datagram at a time.
pub type UnixDatagramServer = Server<UnixDatagram, Sequential>;

/// TCP, a thread for each connection.
#[doc(alias = "ThreadingTCPServer")]
pub type ThreadingTcpServer = Server<Tcp, Threading>;
/// UDP, a thread for each datagram.
#[doc(alias = "ThreadingUDPServer")]
pub type ThreadingUdpServer = Server<Udp, Threading>;
/// Unix stream sockets, a thread for each connection.
pub type ThreadingUnixStreamServer = Server<UnixStream, Threading>;
/// Unix datagram sockets, a thread for each datagram.
pub type ThreadingUnixDatagramServer = Server<UnixDatagram, Threading>;

/// TCP, connections served by a pool of workers.
#[doc(alias = "ForkingTCPServer")]
pub type ForkingStyleTcpServer = Server<Tcp, ForkingStyle>;
/// UDP, datagrams served by a pool of workers.
#[doc(alias = "ForkingUDPServer")]
pub type ForkingStyleUdpServer = Server<Udp, ForkingStyle>;
/// Unix stream sockets, connections served by a pool of workers.
#[doc(alias = "ForkingUnixStreamServer")]
pub type ForkingStyleUnixStreamServer = Server<UnixStream, ForkingStyle>;
/// Unix datagram sockets, datagrams served by a pool of workers.
#[doc(alias = "ForkingUnixDatagramServer")]
pub type ForkingStyleUnixDatagramServer = Server<UnixDatagram, ForkingStyle>;

/// TCP, a coroutine for each connection.
pub type EventLoopTcpServer = Server<Tcp, EventLoop>;
/// UDP, a coroutine for each datagram.
pub type EventLoopUdpServer = Server<Udp, EventLoop>;
/// Unix stream sockets, a coroutine for each connection.
pub type EventLoopUnixStreamServer = Server<UnixStream, EventLoop>;
/// Unix datagram sockets, a coroutine for each datagram.
pub type EventLoopUnixDatagramServer = Server<UnixDatagram, EventLoop>;

/// The README's example, to be compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
