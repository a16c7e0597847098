//! Locks and channels that park: for handlers that coordinate.
//!
//! A [`std::sync::Mutex`] that one request holds while it waits for its peer stops an event loop for good as soon as another request of
//! the same loop wants it: that blocks the thread on which the first would have to go on. These park the coroutine instead, and block
//! the thread everywhere else, so that a handler that uses them runs on every backend, and threads outside of any handler may use
//! them, too.
//!
//! They have the names and the rules of std, poisoning included, and of crossbeam's channels. A lock is for short sections all the
//! same; only these may have I/O in them.
//!
//! # When the server ends
//!
//! What a drain and a cut (see [`ShutdownHandle`](crate::ShutdownHandle)) do to a request that waits here:
//!
//! | it waits in | a drain | a cut |
//! |---|---|---|
//! | [`Mutex::lock`] | goes on waiting | goes on waiting: its holder is being cut off as well, or is no request of the server |
//! | [`Condvar::wait`], `wait_timeout` | returns early, once | returns early, once |
//! | [`Condvar::wait_while`], `wait_timeout_while` | goes on waiting, after another look at the condition | goes on waiting, likewise |
//! | a channel's `send` and `recv`, also with a timeout | goes on waiting | fails |
//!
//! So a handler that waits for work asks [`Request::is_draining`](crate::Request::is_draining) in the condition that it waits for, and
//! writes the loop itself, because `wait_while` ends by its condition alone, and `wait_timeout_while` by that or its timeout. A request
//! that a [`Sender`](crate::Sender) has closed is not draining: where that may happen, the loop asks
//! [`Request::is_cut_off`](crate::Request::is_cut_off), too. The drain comes to the request alone: what it has spawned hears of the cut,
//! but not of the drain, and threads of no request hear of neither. A wait that nothing ends lasts beyond the server's end on a thread; on
//! an event loop it is unwound (see [`EventLoop`](crate::backend::EventLoop#rules-for-handlers)).
//!
//! ```
//! use std::collections::VecDeque;
//! use std::io::{self, Read, Write};
//! use std::sync::{Arc, PoisonError};
//! use std::time::Duration;
//! use socketserver::{EventLoopTcpServer, Request, sync::{Condvar, Mutex}};
//!
//! #[derive(Default)]
//! struct Jobs {
//!     queue: Mutex<VecDeque<String>>,
//!     added: Condvar,
//! }
//!
//! impl Jobs {
//!     fn add(&self, job: &str) {
//!         self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(job.to_string());
//!         self.added.notify_one();
//!     }
//!
//!     /// The next job; none if the server ends, and nothing is left to do.
//!     fn next(&self, request: &Request) -> Option<String> {
//!         let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
//!         while queue.is_empty() && !request.is_draining() {
//!             queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
//!         }
//!         queue.pop_front()
//!     }
//! }
//!
//! let jobs = Arc::new(Jobs::default());
//! let its_jobs = jobs.clone();
//! let mut server = EventLoopTcpServer::bind("127.0.0.1:0", move |request: &mut Request| -> io::Result<()> {
//!     while let Some(job) = its_jobs.next(request) {
//!         writeln!(request, "{job}")?;
//!     }
//!     request.write_all(b"no more\n")
//! })?;
//! let (addr, handle) = (server.local_addr().as_inet().unwrap(), server.shutdown_handle());
//! let serving = std::thread::spawn(move || server.serve_forever());
//!
//! let mut worker = std::net::TcpStream::connect(addr)?;
//! jobs.add("sweep the floor");
//! let mut job = [0; 16];
//! worker.read_exact(&mut job)?;
//! assert_eq!(&job, b"sweep the floor\n");
//! // It waits for the next job now, for which a drain does not wait.
//! handle.drain(Duration::from_secs(30));
//! assert_eq!(io::read_to_string(worker)?, "no more\n");
//! assert_eq!(serving.join().unwrap()?.cut, 0);
//! # Ok::<(), io::Error>(())
//! ```

pub mod channel;
mod condvar;
mod mutex;
mod waiters;

pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
