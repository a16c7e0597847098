//! [`Server`]: waits for requests, gets them, verifies them, and hands them over.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::accept::{Backoff, Verdict};
use crate::addr::{Addr, ToAddr};
use crate::backend::{Backend, Sources};
use crate::busy::Busy;
use crate::handler::HandlerFactory;
use crate::hooks::{Failure, FailureClass, Hooks, NoHooks, catch};
use crate::job::{Job, Service};
use crate::limits::Limits;
use crate::listener::{Bind, Content, Incoming, Listener};
use crate::live::{LiveSet, Socket};
use crate::park::deadline;
use crate::shutdown::{Control, Phase, ShutdownHandle, Stop};
use crate::stats::{Counters, Stats};
use crate::waker::Waker;

/// Requests that are got in one turn, before everything else has its turn.
const GETS_PER_TURN: usize = 64;
/// How long a request that has been cut off may take to notice, before the server returns without it.
const AFTER_CUT: Duration = Duration::from_millis(100);

/// A server: requests from a [`Listener`], run by a [`Backend`].
///
/// The crate's root has a name for each combination, such as [`ThreadingTcpServer`](crate::ThreadingTcpServer), and
/// [`AnyServer`](crate::AnyServer) for a choice at run time. All of them are made by [`bind`](Server::bind), or by
/// [`new`](Server::new) from a listener and a backend with options of their own.
///
/// [`bind`](Server::bind) opens the socket, so that clients can connect from then on. Threads, polls and wakers are made by
/// [`activate`](Server::activate), which serving does by itself: a process may bind, fork, and serve in the child.
///
/// Dropping a server never blocks. It closes the socket; requests that run on threads go on, those that need the serving thread
/// are ended. [`close`](Server::close) waits.
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
    waker: Option<Arc<Waker>>,
    timeout: Option<Duration>,
    poll_interval: Option<Duration>,
    shutdown_deadline: Duration,
    busy: Busy,
    backoff: Backoff,
    /// The listener may have a request: it was ready, and has not said since that there is none.
    ready: bool,
}

/// What a serving has done: the answer of [`Server::serve_forever`] and [`Server::close`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Requests accepted.
    pub accepted: u64,
    /// Requests that were still in progress at the deadline, and were cut off.
    pub cut: usize,
    /// Of these, the ones that have not even ended since: their handlers compute, or block outside of this crate's calls. On
    /// closing, threads that have not ended.
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
    /// `InvalidInput` for a bad address, or one of another kind of socket; `AddrInUse`, `PermissionDenied`,
    /// `AddrNotAvailable` from the system.
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
    /// let listener = Tcp::options().nodelay(true).bind("127.0.0.1:0")?;
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
            serving: Arc::default(),
            refusing: Arc::default(),
        };
        Server {
            backend,
            listener,
            service: Arc::new(service),
            waker: None,
            timeout: None,
            poll_interval: None,
            shutdown_deadline: Duration::from_secs(5),
            busy: Busy::default(),
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
    /// kernel's queue holds the rest. [`limits`](Server::limits) changes it later.
    pub fn max_connections(self, max: usize) -> Server<L, B> {
        self.service.limits.set_max_connections(max);
        self
    }

    /// How many requests of one IP address may be in progress at a time: any number by default. One more is closed at once.
    pub fn max_per_peer(self, max: usize) -> Server<L, B> {
        self.service.limits.set_max_per_peer(max);
        self
    }

    /// What to tell a connection for which there is no room, by [`max_connections`](Server::max_connections), by the limit for
    /// its peer, or because the backend is full. Without this it waits in the kernel's queue (or is closed, if it is its peer's
    /// limit). Some ten kilobytes at the most: it must fit into a new connection's buffer. Datagrams always wait.
    pub fn busy_reply(mut self, reply: impl Into<Vec<u8>>) -> Server<L, B> {
        self.busy.reply = Some(reply.into().into());
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
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Server<L, B> {
        self.service.control.set_grace(deadline);
        self.shutdown_deadline = deadline;
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
        self.service.counters.snapshot(self.service.limits.live())
    }

    /// A function that takes the counters' snapshot from any thread, while this one serves.
    pub fn stats_reader(&self) -> impl Fn() -> Stats + Clone + Send + Sync + use<L, B> {
        let (counters, limits) = (self.service.counters.clone(), self.service.limits.clone());
        move || counters.snapshot(limits.live())
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
    /// The system's, if there are no descriptors or threads to be had; `AddrInUse` if the address, closed by a drain, has been
    /// taken meanwhile.
    #[doc(alias = "server_activate")]
    pub fn activate(&mut self) -> io::Result<()> {
        self.enter()?;
        self.leave();
        Ok(())
    }

    /// Serves until a [`ShutdownHandle`] ends it, and then until the requests in progress have ended or been cut off. It can be
    /// called again.
    ///
    /// A failing accept does not end it. Connections that are lost before they are accepted are passed over; if the system has
    /// no descriptors or memory, accepting pauses for 5 ms, then 10 ms and so on up to a second, and logs that once.
    ///
    /// # Errors
    ///
    /// As [`activate`](Server::activate), and the system's if it cannot wait.
    pub fn serve_forever(&mut self) -> io::Result<Served> {
        self.serving(|server| {
            log::info!("listening on {}", server.local_addr());
            while !server.service.control.is_stopping() {
                server.turn()?;
            }
            log::info!("stopping on {}", server.local_addr());
            let served = server.drain()?;
            log::info!("stopped on {}", server.local_addr());
            Ok(served)
        })
    }

    /// Serves one request, or calls [`Hooks::handle_timeout`] if none has come within the [`timeout`](Server::timeout); says
    /// which. A [`ShutdownHandle`] ends the wait.
    ///
    /// With [`Sequential`](crate::backend::Sequential) and [`EventLoop`](crate::backend::EventLoop) the request has ended when
    /// this returns (unless another loop has taken it); with threads it has begun. A request that `verify_request` turns away
    /// counts as served.
    ///
    /// # Errors
    ///
    /// As [`serve_forever`](Server::serve_forever).
    pub fn handle_request(&mut self) -> io::Result<bool> {
        self.serving(|server| {
            let until = deadline(server.timeout);
            while !server.service.control.is_stopping() {
                if server.may_get() && server.get_requests(1) > 0 {
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
                    break;
                }
                server.wait_for_request(left)?;
            }
            Ok(false)
        })
    }

    /// Ends the server: refuses new connections, drains the requests in progress and cuts them off at the
    /// [`shutdown_deadline`](Server::shutdown_deadline) (unless the backend is one that does not wait for them), and joins the
    /// threads.
    ///
    /// # Errors
    ///
    /// The system's, if it cannot wait.
    #[doc(alias = "server_close")]
    pub fn close(mut self) -> io::Result<Served> {
        self.listener.refuse();
        let mut served = Served::default();
        let mut until = deadline(Some(self.shutdown_deadline));
        if self.backend.block_on_close() {
            self.service.control.close(Stop { cut_at: until, refuse: true });
            served = self.drain()?;
            if served.cut > 0 {
                // They had their time, and `drain` has waited for them to notice.
                until = Some(Instant::now());
            }
        }
        served.unfinished = served.unfinished.max(self.backend.server_close(until));
        Ok(served)
    }

    /// Runs `serve` as the serving thread.
    fn serving<T>(&mut self, serve: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.enter()?;
        self.service.control.begin(self.backend.block_on_close());
        let result = serve(self);
        self.service.control.end();
        self.leave();
        result
    }

    fn enter(&mut self) -> io::Result<()> {
        self.listener.reopen()?;
        let waker = match &self.waker {
            Some(waker) => waker.clone(),
            None => {
                let waker = Arc::new(Waker::new()?);
                self.service.control.set_waker(waker.clone());
                self.service.limits.set_waker(waker.clone());
                self.waker.insert(waker).clone()
            }
        };
        // A new poll announces what has been ready before, but the old one's news are lost: look once.
        self.ready = true;
        self.backend.activate(&Sources { listener: self.listener.as_fd(), waker: &waker })?;
        *self.service.serving.lock().unwrap_or_else(PoisonError::into_inner) = Some((thread::current().id(), waker));
        Ok(())
    }

    fn leave(&mut self) {
        self.backend.deactivate();
        *self.service.serving.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits, gets what there is, and does what is due.
    fn turn(&mut self) -> io::Result<()> {
        self.wait_for_request(self.poll_interval)?;
        // A stop that came while this waited wins: nothing more is accepted.
        if self.service.control.is_stopping() {
            return Ok(());
        }
        if self.ready && self.may_get() {
            self.get_requests(GETS_PER_TURN);
        }
        self.hook("service_actions", |hooks| hooks.service_actions());
        self.backend.service_actions();
        Ok(())
    }

    /// Waits until there may be a request to get, at the most for `timeout`.
    fn wait_for_request(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // Asked for before looking whether there is room: so the end of a request that makes room is not missed.
        self.service.limits.want_end(true);
        let may_get = self.may_get();
        self.service.limits.want_end(!may_get);
        let now = if may_get && self.ready { Some(Duration::ZERO) } else { None };
        let due = [timeout, now, self.backoff.remaining(), self.busy.tend()].into_iter().flatten().min();
        self.wait(may_get, due)
    }

    fn wait(&mut self, accepting: bool, timeout: Option<Duration>) -> io::Result<()> {
        let Some(waker) = &self.waker else { return Ok(()) };
        let sources = Sources { listener: self.listener.as_fd(), waker };
        self.ready |= self.backend.wait(&sources, accepting, timeout)?;
        Ok(())
    }

    /// Whether another request may be got now.
    fn may_get(&self) -> bool {
        let room = self.has_room() || (self.busy.reply.is_some() && self.serves_connections());
        room && !self.service.control.is_paused() && self.backoff.remaining().is_none()
    }

    fn has_room(&self) -> bool {
        self.service.limits.has_room() && self.backend.has_room()
    }

    fn serves_connections(&self) -> bool {
        matches!(self.local_addr(), Addr::Tcp(_) | Addr::Unix(_))
    }

    /// Gets up to `max` requests and starts them. Says how many it has got, including those that were turned away.
    fn get_requests(&mut self, max: usize) -> usize {
        let mut got = 0;
        for _ in 0..max {
            if !self.may_get() || self.service.control.is_stopping() {
                break;
            }
            match self.listener.get_request() {
                Ok(incoming) => {
                    got += 1;
                    self.backoff.reset();
                    self.start(incoming);
                }
                Err(error) => match Verdict::of(&error) {
                    Verdict::NothingThere => {
                        self.ready = false;
                        break;
                    }
                    Verdict::LostConnection => {
                        self.service.counters.accept_errors.add();
                        log::debug!("a connection was lost before it was accepted: {error}");
                    }
                    Verdict::OutOfResources => {
                        self.service.counters.accept_errors.add();
                        self.backoff.fail(&error);
                        break;
                    }
                },
            }
        }
        got
    }

    /// Verifies a request and hands it over.
    fn start(&mut self, incoming: Incoming) {
        let counters = &self.service.counters;
        counters.accepted.add();
        log::debug!("accepted {}", incoming.peer);
        if incoming.is_truncated() {
            counters.truncated.add();
        }
        if !self.verify(&incoming) {
            self.service.counters.rejected.add();
            if let (Content::Connection, Socket::Connection(fd)) = (&incoming.content, &incoming.socket) {
                crate::socket::shutdown_write(fd.as_fd());
            }
            return;
        }
        let permit = if self.has_room() { self.service.limits.admit(incoming.peer.ip()) } else { None };
        match permit {
            Some(permit) => self.backend.process_request(Job::new(incoming, self.service.clone(), permit)),
            None => {
                self.service.counters.refused.add();
                if let Socket::Connection(connection) = incoming.socket {
                    self.busy.turn_away(connection);
                }
            }
        }
    }

    fn verify(&self, incoming: &Incoming) -> bool {
        let (error, class) = match catch(|| self.service.hooks.verify_request(incoming)) {
            Ok(Ok(verified)) => return verified,
            Ok(Err(error)) => (error, FailureClass::Handler),
            Err(panic) => (panic, FailureClass::Panic),
        };
        self.service.handle_error(&Failure { error: &error, class, peer: &incoming.peer });
        false
    }

    /// Ends the requests in progress as the stop says: idle ones at once, the others when they have finished or the deadline has
    /// passed.
    fn drain(&mut self) -> io::Result<Served> {
        let accepted = self.service.counters.accepted.get();
        let mut served = Served { accepted, ..Served::default() };
        let Some(stop) = self.service.control.stop() else { return Ok(served) };
        if stop.refuse {
            self.listener.refuse();
        }
        if !self.backend.block_on_close() {
            return Ok(served);
        }
        self.service.limits.want_end(true);
        self.service.live.drain();
        // Asked again each time: another stop may have brought the deadline forward.
        self.wait_for_end(|control| control.stop().and_then(|stop| stop.cut_at))?;
        if self.service.limits.live() > 0 {
            self.service.control.set_phase(Phase::Cut);
            served.cut = self.service.live.cut();
            log::warn!("{} requests were still in progress at the deadline, and have been cut off", served.cut);
            let noticed = deadline(Some(AFTER_CUT));
            self.wait_for_end(|_| noticed)?;
        }
        served.unfinished = self.service.limits.live();
        self.service.limits.want_end(false);
        self.backend.service_actions();
        Ok(served)
    }

    /// Waits until no request is in progress, or the deadline has passed.
    fn wait_for_end(&mut self, until: impl Fn(&Control) -> Option<Instant>) -> io::Result<()> {
        while self.service.limits.live() > 0 {
            let left = until(&self.service.control).map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            self.wait(false, left)?;
        }
        Ok(())
    }

    fn hook(&self, name: &str, call: impl FnOnce(&dyn Hooks)) {
        if let Err(error) = catch(|| call(&*self.service.hooks)) {
            log::error!("the hook {name} panicked: {error}");
        }
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
