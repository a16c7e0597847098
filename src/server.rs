//! [`Server`]: waits for requests, gets them, verifies them, and hands them over.

mod accept;
mod busy;
mod full;
mod serving;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::accept::Backoff;
use self::busy::Busy;
use self::full::Full;
use crate::addr::{Addr, ToAddr};
use crate::backend::Backend;
use crate::deadline::deadline;
use crate::handler::HandlerFactory;
use crate::hooks::{Hooks, NoHooks};
use crate::job::Service;
use crate::limits::Limits;
use crate::listener::{Bind, Listener};
use crate::live::LiveSet;
use crate::monitor::Monitor;
use crate::shutdown::{Control, ShutdownHandle, Stop};
use crate::stats::{Counters, Stats};

/// A server: requests from a [`Listener`], run by a [`Backend`].
///
/// The crate's root has a name for each combination, such as [`ThreadingTcpServer`](crate::ThreadingTcpServer), and
/// [`AnyServer`](crate::AnyServer) for a choice at run time. All of them are made by [`bind`](Server::bind), or by
/// [`new`](Server::new) from a listener and a backend with options of their own.
///
/// [`bind`](Server::bind) opens the socket, so that clients can connect from then on. Threads, polls and wakers are made by
/// [`activate`](Server::activate), which serving does by itself: a process may bind, fork, and serve in its children. The
/// file of a Unix socket is removed when the process that bound it drops or closes its server, even if others still serve there.
///
/// Dropping a server never blocks. It closes the socket; requests that run on threads go on (a socket for datagrams is closed when they
/// have ended), those that need the serving thread are ended. [`close`](Server::close) waits.
///
/// ```
/// use std::io::{self, BufRead, Write};
/// use socketserver::{Request, TcpServer};
///
/// let hello = |request: &mut Request| -> io::Result<()> {
///     let mut name = String::new();
///     request.read_line(&mut name)?;
///     write!(request, "hello {name}")
/// };
/// let mut server = TcpServer::bind("127.0.0.1:0", hello)?;
/// let addr = server.local_addr().as_inet().unwrap();
/// let client = std::thread::spawn(move || {
///     let mut stream = std::net::TcpStream::connect(addr)?;
///     stream.write_all(b"world\n")?;
///     io::read_to_string(stream)
/// });
/// server.handle_request()?;
/// assert_eq!(client.join().unwrap()?, "hello world\n");
/// # Ok::<(), io::Error>(())
/// ```
#[doc(alias = "BaseServer")]
pub struct Server<L, B> {
    backend: B,
    listener: L,
    service: Arc<Service>,
    timeout: Option<Duration>,
    poll_interval: Option<Duration>,
    busy: Busy,
    full: Full,
    backoff: Backoff,
    /// The listener may have a request: it was ready, and has not said since that there is none.
    ready: bool,
}

/// How long what has been told to end may take to notice, when the deadline has passed.
const AFTER_CUT: Duration = Duration::from_millis(100);

/// What a serving has done: the answer of [`Server::serve_forever`] and [`Server::close`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Requests accepted in this serving: none by closing.
    pub accepted: u64,
    /// Requests that were still in progress at the deadline, and were cut off.
    pub cut: usize,
    /// Requests that have not even ended 100 ms later: their handlers compute, wait for a lock or a condition that does not hear of a
    /// cut (see [`sync`](crate::sync#when-the-server-ends)), or block outside of this crate's calls; or they wait for an event loop that
    /// is held up so, and are cut off when they begin. Or, on closing, the threads that have not ended, if those are more.
    pub unfinished: usize,
}

impl<L: Bind, B: Backend + Default> Server<L, B> {
    /// A server on `addr`, with the default of every option: text such as `"127.0.0.1:9999"`, a
    /// [`SocketAddr`](std::net::SocketAddr), a path, or an [`Addr`]. Port 0 is one of the system's choice: see
    /// [`local_addr`](Server::local_addr).
    ///
    /// `handler` makes a handler for each request (`Echo::default`, `|| Echo`), or is one
    /// (`|request: &mut Request| ..`).
    ///
    /// # Errors
    ///
    /// As [`Bind::bind`].
    #[doc(alias = "server_bind")]
    pub fn bind<Kind>(addr: impl ToAddr, handler: impl HandlerFactory<Kind>) -> io::Result<Server<L, B>> {
        Ok(Server::new(L::bind(addr)?, B::default(), handler))
    }
}

impl<L: Listener, B: Backend> Server<L, B> {
    /// A server of a listener and a backend.
    ///
    /// ```
    /// use socketserver::{Request, Server, backend::ForkingStyle, listener::Tcp};
    ///
    /// let listener = Tcp::options().only_v6(true).bind("127.0.0.1:0")?;
    /// let server = Server::new(listener, ForkingStyle::new(8), |_: &mut Request| Ok(()));
    /// # drop(server);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new<Kind>(listener: L, backend: B, handler: impl HandlerFactory<Kind>) -> Server<L, B> {
        let service = Service {
            factory: Arc::new(move |serve| handler.with_handler(|handler| serve(handler))),
            hooks: Arc::new(NoHooks),
            counters: Arc::new(Counters::default()),
            limits: Limits::new(),
            live: Arc::new(LiveSet::default()),
            control: Arc::new(Control::new()),
            refusals: Arc::default(),
        };
        Server {
            backend,
            listener,
            service: Arc::new(service),
            timeout: None,
            poll_interval: None,
            busy: Busy::default(),
            full: Full::default(),
            backoff: Backoff::default(),
            ready: false,
        }
    }

    /// Sets the hooks: see [`Hooks`].
    pub fn hooks(mut self, hooks: impl Hooks + 'static) -> Server<L, B> {
        Arc::make_mut(&mut self.service).hooks = Arc::new(hooks);
        self
    }

    /// How many requests may be in progress at a time: any number by default. At the limit the server accepts nothing, and the
    /// kernel's queue holds the rest; a line on level `info` says so, at the most once a minute. [`limits`](Server::limits) changes it
    /// later.
    pub fn max_connections(self, max: usize) -> Server<L, B> {
        self.service.limits.set_max_connections(max);
        self
    }

    /// How many requests of one IP address may be in progress at a time: any number by default. One more is closed at once, a datagram
    /// dropped; the log warns when that begins.
    pub fn max_per_peer(self, max: usize) -> Server<L, B> {
        self.service.limits.set_max_per_peer(max);
        self
    }

    /// What to send to a connection for which there is no room, because of [`max_connections`](Server::max_connections), of
    /// [`max_per_peer`](Server::max_per_peer), or because the backend is full. It must fit into a new connection's buffer: some ten
    /// kilobytes at the most. The log warns when turning away begins. Without a reply, such a connection waits in the kernel's queue;
    /// one too many of its peer is closed. Datagrams get none: they wait, but for those too many of their peer, which are lost.
    pub fn busy_reply(mut self, reply: impl Into<Vec<u8>>) -> Server<L, B> {
        self.busy.reply = Some(reply.into());
        self
    }

    /// How long [`handle_request`](Server::handle_request) waits for a request: for ever by default.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Server<L, B> {
        self.timeout = timeout;
        self
    }

    /// How long [`serve_forever`](Server::serve_forever) may wait before it calls
    /// [`Hooks::service_actions`] again: for ever by default, since nothing here needs polling.
    pub fn poll_interval(mut self, interval: Option<Duration>) -> Server<L, B> {
        self.poll_interval = interval;
        self
    }

    /// How long [`ShutdownHandle::shutdown`] and [`close`](Server::close) leave to requests in progress: 5 seconds by default.
    pub fn shutdown_deadline(self, deadline: Duration) -> Server<L, B> {
        self.service.control.set_grace(deadline);
        self
    }

    /// The address that the server listens on, with the port that the system chose if it was asked to.
    #[doc(alias = "server_address")]
    pub fn local_addr(&self) -> &Addr {
        self.listener.local_addr()
    }

    /// A handle that ends, drains, pauses and resumes this server from anywhere.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::new(self.service.control.clone())
    }

    /// A handle that changes the limits on concurrent requests from anywhere.
    pub fn limits(&self) -> Limits {
        self.service.limits.clone()
    }

    /// The counters, as they are now.
    pub fn stats(&self) -> Stats {
        self.monitor().stats()
    }

    /// A handle that looks at the counters and at the requests in progress from anywhere.
    pub fn monitor(&self) -> Monitor {
        let Service { counters, limits, live, .. } = &*self.service;
        Monitor { counters: counters.clone(), limits: limits.clone(), live: live.clone() }
    }

    /// The listener.
    pub fn listener(&self) -> &L {
        &self.listener
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Makes what serving needs, threads for instance, so that an error shows here. Serving does it by itself.
    ///
    /// # Errors
    ///
    /// The system's, if there are no descriptors or threads to be had. After a drain, `AddrInUse` if the address has been taken
    /// meanwhile, and `Unsupported` if the listening socket was adopted.
    #[doc(alias = "server_activate")]
    pub fn activate(&mut self) -> io::Result<()> {
        self.enter()?;
        self.backend.deactivate();
        Ok(())
    }

    /// Serves until a [`ShutdownHandle`] ends it, and then until the requests in progress have ended or been cut off. It can be
    /// called again.
    ///
    /// A failing accept does not end it. Connections that are lost before they are accepted are passed over; if the system has
    /// no descriptors or memory, accepting pauses for 5 ms, then 10 ms and so on up to a second. That is logged once, until accepting
    /// has worked for a minute.
    ///
    /// # Errors
    ///
    /// As [`activate`](Server::activate), and the system's if it cannot wait.
    pub fn serve_forever(&mut self) -> io::Result<Served> {
        self.serving(|server| {
            let before = server.service.counters.accepted.get();
            log::info!("listening on {}", server.local_addr());
            while !server.service.control.is_stopping() {
                server.turn()?;
            }
            log::info!("stopping on {}", server.local_addr());
            let served = server.drain()?;
            server.obeyed();
            log::info!("stopped on {}", server.local_addr());
            Ok(Served { accepted: server.service.counters.accepted.get() - before, ..served })
        })
    }

    /// Serves one request, or calls [`Hooks::handle_timeout`] if none has come within the [`timeout`](Server::timeout); says
    /// which. A [`ShutdownHandle`] ends the wait, and the requests in progress, as it ends `serve_forever`; the answer is `false`, or that
    /// of the next call if this one has got a request.
    ///
    /// With [`Sequential`](crate::backend::Sequential) and [`EventLoop`](crate::backend::EventLoop) the request has ended when
    /// this returns (unless another loop has taken it); with threads it has begun, and closing the server then ends a connection whose
    /// peer has not said a word yet. A request that `verify_request` turns away, or for which there is no room, counts as served.
    ///
    /// # Errors
    ///
    /// As [`serve_forever`](Server::serve_forever).
    pub fn handle_request(&mut self) -> io::Result<bool> {
        self.serving(|server| {
            let until = deadline(server.timeout);
            loop {
                if server.service.control.is_stopping() {
                    server.drain()?;
                    server.obeyed();
                    return Ok(false);
                }
                if server.get_requests(1) > 0 {
                    while server.backend.needs_thread() && !server.service.control.is_stopping() {
                        server.wait(false, None)?;
                    }
                    if server.service.control.is_stopping() {
                        server.drain()?;
                    }
                    return Ok(true);
                }
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) {
                    server.hook("handle_timeout", |hooks| hooks.handle_timeout());
                    server.backend.handle_timeout();
                    return Ok(false);
                }
                server.wait_for_request(left)?;
            }
        })
    }

    /// Ends the server: refuses new connections, drains the requests in progress and cuts them off at the
    /// [`shutdown_deadline`](Server::shutdown_deadline), or earlier if a [`ShutdownHandle`] says so (unless the backend is one that does
    /// not wait for them), and joins the threads. A request that a drain has cut off before, and that goes on all the same, is waited for
    /// once more, until that deadline.
    ///
    /// # Errors
    ///
    /// The system's, if it cannot wait.
    #[doc(alias = "server_close")]
    pub fn close(mut self) -> io::Result<Served> {
        let mut served = Served::default();
        let until = deadline(Some(self.service.control.grace()));
        if self.backend.block_on_close() {
            self.service.control.close(Stop { cut_at: until, refuse: true });
            served = self.drain()?;
        } else {
            self.backend.forget_listener(self.listener.as_fd());
            self.listener.refuse();
        }
        // Threads that have nothing left to do need a moment to end, even where the requests have used up the time.
        let until = until.map(|until| until.max(Instant::now() + AFTER_CUT));
        served.unfinished = served.unfinished.max(self.backend.server_close(until));
        Ok(served)
    }
}

/// The listener's socket (Python's `fileno`).
impl<L: Listener, B> AsFd for Server<L, B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl<L: Listener, B> fmt::Debug for Server<L, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("local_addr", self.listener.local_addr()).finish_non_exhaustive()
    }
}
