//! [`Request`]: what a handler is given.

mod core;
mod datagram;
mod halves;
mod sender;
mod stream;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use self::core::Core;
use self::datagram::Datagram;
pub(crate) use self::datagram::Reply;
use self::stream::Input;
use crate::addr::{Addr, Scheme};
use crate::deadline::deadline;
use crate::frame::{Frames, Framing};
use crate::live::Live;
use crate::park::Context;
use crate::shutdown::ShutdownHandle;
use crate::socket;
pub use halves::{ReadHalf, WriteHalf};
pub use sender::Sender;

/// A connection, or one datagram and its reply: the same to a handler.
///
/// | | connection | datagram |
/// |---|---|---|
/// | reading gives | the stream, through a buffer of 64 KiB | the packet, then the end |
/// | writing | sends at once, and returns when the system has taken all of it | gathers the reply, which is sent as one datagram at the end |
/// | if the handler fails | what was written is out | no reply is sent |
/// | if the handler writes more than a datagram holds | | no reply is sent, and the request has failed |
/// | if the handler writes nothing | | no reply is sent (writing no bytes is a reply: an empty one) |
///
/// [`split`](Request::split) gives the reading and the writing half at once (CPython's `rfile` and `wfile`), so that what
/// was read can be written without a copy.
///
/// # Buffering
///
/// Reads are buffered: use [`BufRead`](io::BufRead). On an event loop, a request that waits with nothing buffered holds no buffer; a
/// thread keeps its own, of which only as much is resident as the largest read has filled. Writes are not buffered: each `write` goes out at
/// once and takes all bytes, as `sendall` does in Python, and so does each `write!`, however many pieces its text is put together from.
/// Where many small writes belong together, wrap the request, or its writing half, in a [`BufWriter`](std::io::BufWriter), and flush it.
///
/// A peer may send a line that never ends, so limit it: with [`frame::Lines`](crate::frame::Lines), or with
/// `Read::take(&mut *request, 1000).read_line(&mut line)`.
///
/// # Waiting
///
/// Reads, writes, [`sleep`](Request::sleep) and [`offload`](Request::offload) wait: on [`EventLoop`](crate::backend::EventLoop)
/// they park the coroutine, on every other backend they block the thread. How long a read or write may take is set by
/// [`set_read_timeout`](Request::set_read_timeout) and [`set_write_timeout`](Request::set_write_timeout) (none by default), and for
/// the request as a whole by [`set_deadline`](Request::set_deadline).
///
/// # Errors
///
/// The same on every backend:
///
/// | situation | kind |
/// |---|---|
/// | a timeout or the deadline has passed | `TimedOut` |
/// | the server cuts the request off, or a [`Sender`] closed it | `ConnectionAborted` |
/// | the peer has reset the connection | `ConnectionReset` |
/// | writing to a peer that is gone | `BrokenPipe`, `ConnectionReset` |
///
/// An interrupted system call is repeated, and `SIGPIPE` is never raised.
///
/// # TLS
///
/// What works over `Read` and `Write` works over a connection, on every backend: with rustls, `rustls::Stream::new(&mut tls, request)`. The
/// handshake belongs in the handler, under a [deadline](Request::set_deadline). A drain knows the bytes below alone, so such a handler
///
/// * says [`set_idle`](Request::set_idle) after the handshake, the last bytes of which may be the peer's, and never answered;
/// * says [`set_busy`](Request::set_busy) before it waits for more while TLS or a buffer above it has half a message;
/// * reads the drain's end of the stream as one without close_notify, in rustls the error `UnexpectedEof`: if the request
///   [is draining](Request::is_draining), that is no failure, and there is time to send close_notify.
///
/// A drain ends a handshake while it waits for the peer.
pub struct Request {
    core: Core,
    kind: Kind,
}

enum Kind {
    Stream(Input),
    Datagram(Datagram),
}

impl Request {
    pub(crate) fn connection(live: Arc<Live>, context: Rc<Context>) -> Request {
        Request { core: Core::new(live, context), kind: Kind::Stream(Input::default()) }
    }

    pub(crate) fn datagram(live: Arc<Live>, context: Rc<Context>, packet: Vec<u8>, truncated: bool) -> Request {
        Request { core: Core::new(live, context), kind: Kind::Datagram(Datagram::new(packet, truncated)) }
    }

    pub(crate) fn live(&self) -> &Live {
        &self.core.live
    }

    /// The reply of a datagram whose handler succeeded, if it has written one.
    pub(crate) fn take_reply(&mut self) -> Option<Reply> {
        match &mut self.kind {
            Kind::Stream(_) => None,
            Kind::Datagram(datagram) => datagram.take_reply(&self.core),
        }
    }

    /// Ends a connection so that its peer gets everything that was sent.
    pub(crate) fn close(&mut self) {
        if let Kind::Stream(input) = &self.kind {
            stream::close(&self.core, input);
        }
    }

    /// The peer's address. A Unix client that did not bind has none: [`Addr::is_unnamed`].
    #[doc(alias = "client_address")]
    pub fn peer_addr(&self) -> &Addr {
        &self.core.live.peer
    }

    /// The address on which the request came in. On a server that listens on all interfaces, a connection tells which.
    ///
    /// # Errors
    ///
    /// The system's, if it cannot tell.
    pub fn local_addr(&self) -> io::Result<Addr> {
        socket::local_addr(self.core.fd(), self.core.live.peer.scheme())
    }

    /// The two halves, to be used at the same time: an echo needs no buffer of its own. While they are in use, the functions
    /// [`sleep`](crate::sleep()) and [`offload`](crate::offload()) stand in for the request's methods; they do not heed its deadline.
    ///
    /// ```
    /// use std::io::{self, BufRead, Write};
    /// use socketserver::Request;
    ///
    /// fn echo(request: &mut Request) -> io::Result<()> {
    ///     let (mut rfile, mut wfile) = request.split();
    ///     loop {
    ///         let bytes = rfile.fill_buf()?;
    ///         wfile.write_all(bytes)?;
    ///         if bytes.is_empty() {
    ///             return Ok(());
    ///         }
    ///         let count = bytes.len();
    ///         rfile.consume(count);
    ///     }
    /// }
    /// # let _ = socketserver::TcpServer::bind("127.0.0.1:0", echo)?;
    /// # Ok::<(), io::Error>(())
    /// ```
    #[doc(alias("rfile", "wfile"))]
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        let core = &self.core;
        match &mut self.kind {
            Kind::Stream(input) => (ReadHalf::of_stream(core, input), WriteHalf::of_stream(core)),
            Kind::Datagram(Datagram { packet, reply, .. }) => {
                (ReadHalf::of_datagram(packet), WriteHalf::of_datagram(reply))
            }
        }
    }

    /// Limits the time that one read may wait; `None`, the default, is no limit. A datagram's read never waits. With `Duration::ZERO`
    /// none waits, so that a handler that waits for something else can ask how its peer is: if `fill_buf` fails with `TimedOut`, the peer
    /// is silent; if it gives no bytes, the peer has ended.
    #[doc(alias("timeout", "settimeout"))]
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.core.read_timeout.set(timeout);
    }

    /// Limits the time that a read may wait for the first byte of the next message, in place of the read timeout: how long a
    /// connection may be idle. Which read that is, [`set_idle`](Request::set_idle) says. With `None`, the default, the read
    /// timeout applies to those reads, too.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.core.idle_timeout.set(timeout);
    }

    /// Limits the time that one write may take until the system has all of its bytes, however many pieces it takes them in;
    /// `None`, the default, is no limit. Of a write that times out, a part may have been sent. For a datagram, the default and `None` are
    /// 1 second. A [`Sender`] that is made afterwards waits for room no longer than that, either.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.core.write_timeout.set(timeout);
    }

    /// Gives this request as a whole `time` from now. After that every read, write and sleep that would wait fails with `TimedOut`, and
    /// every offload, however lively the peer is. `None`, the default, is no limit. It does not concern sockets in [`net`](crate::net),
    /// which have timeouts of their own, nor waits in [`sync`](crate::sync), for a [sibling](crate::JoinHandle::join), or for room in the
    /// queue of a [`Sender`].
    pub fn set_deadline(&mut self, time: Option<Duration>) {
        self.core.deadline.set(deadline(time));
    }

    /// Whether small writes go out at once (`TCP_NODELAY`), as they do unless [`TcpOptions::nodelay`] says otherwise, or wait for the
    /// acknowledgement of earlier ones. It does nothing where the socket is not a TCP one.
    ///
    /// [`TcpOptions::nodelay`]: crate::listener::TcpOptions::nodelay
    ///
    /// # Errors
    ///
    /// The system's.
    #[doc(alias = "disable_nagle_algorithm")]
    pub fn set_nodelay(&mut self, nodelay: bool) -> io::Result<()> {
        match self.core.live.peer.scheme() {
            Scheme::Tcp => Ok(rustix::net::sockopt::set_tcp_nodelay(self.core.fd(), nodelay)?),
            _ => Ok(()),
        }
    }

    /// Waits for `duration`: parks the coroutine or blocks the thread. `Duration::ZERO` lets the other requests of an event loop have
    /// their turn. Where there is no request at hand, there is [`sleep`](crate::sleep()).
    ///
    /// # Errors
    ///
    /// `TimedOut` at the request's deadline, `ConnectionAborted` if the request is cut off meanwhile.
    pub fn sleep(&mut self, duration: Duration) -> io::Result<()> {
        self.core.or_spend(self.core.sleep(duration))
    }

    /// Runs blocking or long work and returns its result: on the event loop on a thread of a bounded pool, while other
    /// requests are served; elsewhere in place, since the thread is this request's own.
    ///
    /// If the work panics, so does this call. If the request has been cut off, or its deadline has passed, the work does not begin. If
    /// that happens meanwhile, the call fails at once on the event loop: work that still waits for a thread is dropped; work that has
    /// begun runs to its end, and its result is dropped. Elsewhere, the work runs to its end, and the call gives its result.
    ///
    /// On the event loop the work is outside of the request: a cut ends neither what it waits for nor what it has spawned.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the request's deadline, `ConnectionAborted` if the request is cut off; the system's, if no thread can be started
    /// for it.
    ///
    /// ```
    /// use socketserver::Request;
    /// use std::io::{self, Write};
    ///
    /// fn hosts(request: &mut Request) -> io::Result<()> {
    ///     let text = request.offload(|| std::fs::read("/etc/hosts"))??;
    ///     request.write_all(&text)
    /// }
    /// # let _ = socketserver::EventLoopTcpServer::bind("127.0.0.1:0", hosts)?;
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn offload<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        self.core.or_spend(self.core.offload(work))
    }

    /// A handle by which other threads and other handlers write to this request's peer, or end the request.
    ///
    /// # Errors
    ///
    /// The system's: on a thread, this takes a descriptor.
    pub fn sender(&mut self) -> io::Result<Sender> {
        self.core.open_outbox()?;
        Ok(Sender::new(&self.core.live, self.core.write_timeout.get()))
    }

    /// The handle that ends the server of this request: a command that a client may give. (CPython's `self.server.shutdown()`, which
    /// blocks where the server runs on the same thread; this never does.)
    ///
    /// ```
    /// use socketserver::{Request, TcpServer};
    /// use std::io::{self, BufRead};
    ///
    /// fn control(request: &mut Request) -> io::Result<()> {
    ///     let mut line = String::new();
    ///     request.read_line(&mut line)?;
    ///     if line == "stop\n" {
    ///         request.shutdown_handle().shutdown();
    ///     }
    ///     Ok(())
    /// }
    /// let mut server = TcpServer::bind("127.0.0.1:0", control)?;
    /// # let mut client = std::net::TcpStream::connect(server.local_addr().as_inet().unwrap())?;
    /// # io::Write::write_all(&mut client, b"stop\n")?;
    /// server.serve_forever()?;
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::new(self.core.live.control.clone())
    }

    /// Sends a datagram to `addr` at once, beside the reply. Where the system has no room for it, this waits, up to the write timeout.
    ///
    /// # Errors
    ///
    /// `Unsupported` if this request is a connection; `InvalidInput` for the address of another kind of socket; `TimedOut`;
    /// `ConnectionAborted` if the request is cut off; the system's otherwise.
    pub fn send_to(&mut self, bytes: &[u8], addr: &Addr) -> io::Result<usize> {
        self.core.or_spend(datagram::send_to(&self.core, bytes, addr))
    }

    /// Whether this datagram was longer than the listener's `max_packet_size`, so that its end is missing. Never for a
    /// connection.
    pub fn is_truncated(&self) -> bool {
        matches!(&self.kind, Kind::Datagram(datagram) if datagram.truncated)
    }

    /// Whether this request is a datagram.
    pub fn is_datagram(&self) -> bool {
        matches!(&self.kind, Kind::Datagram(_))
    }

    /// Whether the server is ending: a handler that serves many messages on a connection, or sends without being asked, may
    /// want to say goodbye.
    ///
    /// A drain ends the wait of an idle connection for its peer, and one wait for a [`Condvar`](crate::sync::Condvar), so that a loop that
    /// asks this before it waits ends at once. No other wait heeds a drain: not `wait_while`, no lock, no channel, no `sleep`. See
    /// [`sync`](crate::sync#when-the-server-ends).
    pub fn is_draining(&self) -> bool {
        self.core.live.is_draining()
    }

    /// Whether this request has been cut off, at the deadline of a drain or by [`Sender::close`]: whatever it would wait for fails then, but
    /// for locks and conditions. A loop that waits for a [`Condvar`](crate::sync::Condvar), and for nothing else, asks this before each
    /// wait: it would not hear of the cut otherwise.
    pub fn is_cut_off(&self) -> bool {
        self.core.live.is_cut()
    }

    /// Says that the handler is between two messages of its protocol, so that a drain may end the connection if it waits to
    /// read now. Any byte that is read ends this state.
    ///
    /// A handler that has written since it last read is taken to be between messages without this call; one that does not
    /// answer every message needs it. [`frames`](Request::frames) says it by itself.
    pub fn set_idle(&mut self) {
        self.core.set_idle();
    }

    /// Says that the handler is in the middle of a message of its protocol although it has written: after a prompt, such as the `354`
    /// of SMTP, or between two [`frames`](Request::frames) of one message, such as the lines of a mail or of an HTTP head. A drain then
    /// does not end the connection here, but waits for it until the deadline. The next write ends this state.
    ///
    /// A handler that returns in this state expects more of the message, which is read and dropped before the connection is closed, so that
    /// it does not cut the answer short (see [`handle`](crate::RequestHandler::handle)): the refusal of an upload whose body is still to come.
    pub fn set_busy(&mut self) {
        self.core.set_busy();
    }

    /// What has been read from the peer and not been consumed yet: reading that much does not wait. Empty if a read would have to ask
    /// the system. A handler may gather its replies while there is a whole message in here, and then send them together. Half a message is
    /// no reason to keep them: the peer may wait for them before it sends the rest.
    ///
    /// ```
    /// use std::io::{self, BufRead, BufWriter, Write};
    /// use socketserver::{EventLoopTcpServer, Request};
    ///
    /// /// Answers each line, and lines that came together with one write.
    /// fn lengths(request: &mut Request) -> io::Result<()> {
    ///     let (mut rfile, wfile) = request.split();
    ///     let mut wfile = BufWriter::new(wfile);
    ///     let mut line = String::new();
    ///     while rfile.read_line(&mut line)? > 0 {
    ///         writeln!(wfile, "{}", line.trim_end().len())?;
    ///         line.clear();
    ///         if !rfile.buffer().contains(&b'\n') {
    ///             wfile.flush()?;
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// # let mut server = EventLoopTcpServer::bind("127.0.0.1:0", lengths)?;
    /// # let mut client = std::net::TcpStream::connect(server.local_addr().as_inet().unwrap())?;
    /// # client.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    /// # std::thread::spawn(move || server.handle_request());
    /// # client.write_all(b"one\nthree\nfo")?;
    /// # let mut answers = [0; 4];
    /// # io::Read::read_exact(&mut client, &mut answers)?;
    /// # assert_eq!(&answers, b"3\n5\n");
    /// # client.write_all(b"ur\n")?;
    /// # client.shutdown(std::net::Shutdown::Write)?;
    /// # assert_eq!(io::read_to_string(client)?, "4\n");
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn buffer(&self) -> &[u8] {
        match &self.kind {
            Kind::Stream(input) => input.buffered(),
            Kind::Datagram(datagram) => datagram.packet.unread(),
        }
    }

    /// Reads the request frame by frame, as [`ReadHalf::frames`] does, for handlers that do more than read and write between two
    /// frames: [`Frames::get_mut`] gives the request.
    ///
    /// ```
    /// use std::io;
    /// use socketserver::frame::{Framing, Lines};
    /// use socketserver::Request;
    ///
    /// /// Answers each line, the name of a file, with the file's length.
    /// fn lengths(request: &mut Request) -> io::Result<()> {
    ///     let mut names = request.frames(Lines::new());
    ///     while let Some(name) = names.next()? {
    ///         let name = String::from_utf8_lossy(name).into_owned();
    ///         let request = names.get_mut();
    ///         let length = request.offload(move || std::fs::metadata(name))??.len();
    ///         Lines::new().write_frame(request, length.to_string().as_bytes())?;
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = socketserver::EventLoopTcpServer::bind("127.0.0.1:0", lengths)?;
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn frames<F: Framing>(&mut self, framing: F) -> Frames<&mut Request, F> {
        Frames::with_idle(self, framing, |request, idle| request.core.set_between_frames(idle))
    }
}

/// The socket: the connection's own, or the datagram server's. What this crate has no method for is set through it, for
/// instance with `socket2::SockRef::from(&request)`.
///
/// Reading and writing through it goes past the request's buffer and, on the event loop, blocks the loop. A copy of it does not keep
/// the connection open: the end of the request ends the writing direction for all copies.
impl AsFd for Request {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.core.lent.set(true);
        self.core.fd()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("peer_addr", self.peer_addr()).finish_non_exhaustive()
    }
}
