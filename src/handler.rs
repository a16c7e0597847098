//! [`RequestHandler`]: what you write.

use std::io;

use crate::request::Request;

/// Serves one request: a connection from its first byte to its last, or one datagram.
///
/// A server makes a fresh handler for each request with its factory (see [`HandlerFactory`]) and calls [`setup`],
/// [`handle`] and [`finish`] in this order, all on the thread, or the coroutine, that the request runs on. So a handler
/// need not be `Send`, and what it keeps in its fields belongs to one request. State that requests share goes into the
/// factory, in an [`Arc`](std::sync::Arc).
///
/// | when | then |
/// |---|---|
/// | `setup` fails or panics | neither `handle` nor `finish` is called |
/// | `handle` fails or panics | `finish` is called all the same |
/// | any of them fails or panics | [`Hooks::handle_error`](crate::Hooks::handle_error) hears of the first failure, once; only this request ends |
///
/// A closure `Fn(&mut Request) -> io::Result<()>` is a handler without `setup` and `finish`.
///
/// ```
/// use std::io::{self, BufRead, Write};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use socketserver::{Request, RequestHandler, TcpServer};
///
/// /// Answers each line with its length; counts the lines of all clients.
/// struct Lengths {
///     total: Arc<AtomicU64>,
/// }
///
/// impl RequestHandler for Lengths {
///     fn handle(&mut self, request: &mut Request) -> io::Result<()> {
///         let mut line = String::new();
///         while request.read_line(&mut line)? > 0 {
///             self.total.fetch_add(1, Ordering::Relaxed);
///             writeln!(request, "{}", line.trim_end().len())?;
///             line.clear();
///         }
///         Ok(())
///     }
/// }
///
/// let total = Arc::new(AtomicU64::new(0));
/// let server = TcpServer::bind("127.0.0.1:0", move || Lengths { total: total.clone() })?;
/// # drop(server);
/// # Ok::<(), io::Error>(())
/// ```
///
/// [`setup`]: RequestHandler::setup
/// [`handle`]: RequestHandler::handle
/// [`finish`]: RequestHandler::finish
#[doc(alias("BaseRequestHandler", "StreamRequestHandler", "DatagramRequestHandler"))]
pub trait RequestHandler {
    /// Prepares for [`handle`](RequestHandler::handle). Does nothing unless overridden.
    fn setup(&mut self, request: &mut Request) -> io::Result<()> {
        let _ = request;
        Ok(())
    }

    /// Serves the request. After [`finish`](RequestHandler::finish), the connection is closed, or the datagram's reply is sent. Input that
    /// is still unread is read and dropped before the close, so that it does not cut the answer short: until the peer ends or has been
    /// silent for half a second, for 2 seconds or 64 MiB at the most. On a server that runs one request at a time, the others wait for
    /// that, too. Nothing is waited for where no input has come yet: a handler that turns a message away before the rest of it has come
    /// says [`set_busy`](Request::set_busy) after its answer.
    fn handle(&mut self, request: &mut Request) -> io::Result<()>;

    /// Cleans up after [`handle`](RequestHandler::handle), also when that failed. Does nothing unless overridden.
    fn finish(&mut self, request: &mut Request) -> io::Result<()> {
        let _ = request;
        Ok(())
    }
}

impl<F: FnMut(&mut Request) -> io::Result<()>> RequestHandler for F {
    fn handle(&mut self, request: &mut Request) -> io::Result<()> {
        self(request)
    }
}

/// Makes a handler for each request: the second argument of [`Server::bind`](crate::Server::bind).
///
/// It is implemented for whatever one would pass there; `Kind` tells the implementations apart:
///
/// * a function or closure that takes nothing and gives a [`RequestHandler`]: `Echo::default`, `|| Echo`,
///   `move || Chat::new(room.clone())`; one that chooses among several gives a `Box<dyn RequestHandler>`;
/// * a function or closure that *is* the handler, `Fn(&mut Request) -> io::Result<()>`. A closure must spell the type of
///   its argument: `|request: &mut Request| ..`.
///
/// Requests may run at the same time, so the factory is shared between threads: `Send + Sync + 'static`.
///
/// ```
/// use std::io::{self, Write};
/// use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
/// use socketserver::{Request, RequestHandler, TcpServer};
///
/// struct Greeter;
/// struct Sorry;
///
/// impl RequestHandler for Greeter {
///     fn handle(&mut self, request: &mut Request) -> io::Result<()> {
///         writeln!(request, "hello")
///     }
/// }
///
/// impl RequestHandler for Sorry {
///     fn handle(&mut self, request: &mut Request) -> io::Result<()> {
///         writeln!(request, "come back tomorrow")
///     }
/// }
///
/// static OPEN: AtomicBool = AtomicBool::new(true);
/// let server = TcpServer::bind("127.0.0.1:0", || -> Box<dyn RequestHandler> {
///     if OPEN.load(SeqCst) { Box::new(Greeter) } else { Box::new(Sorry) }
/// })?;
/// # let mut server = server;
/// # for (open, answer) in [(true, "hello\n"), (false, "come back tomorrow\n")] {
/// #     OPEN.store(open, SeqCst);
/// #     let mut client = std::net::TcpStream::connect(server.local_addr().as_inet().unwrap())?;
/// #     server.handle_request()?;
/// #     assert_eq!(io::read_to_string(&mut client)?, answer);
/// # }
/// # Ok::<(), io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no request handler",
    note = "pass a factory such as `|| Echo::default()`, or a handler `|request: &mut Request| -> io::Result<()> {{ .. }}`"
)]
pub trait HandlerFactory<Kind>: Send + Sync + 'static {
    /// Makes the handler for one request and passes it to `serve`.
    fn with_handler(&self, serve: impl FnOnce(&mut dyn RequestHandler));
}

/// The [`HandlerFactory`] that makes handlers.
#[derive(Debug)]
pub struct Makes<H>(std::marker::PhantomData<fn() -> H>);

impl<F, H> HandlerFactory<Makes<H>> for F
where
    F: Fn() -> H + Send + Sync + 'static,
    H: RequestHandler,
{
    fn with_handler(&self, serve: impl FnOnce(&mut dyn RequestHandler)) {
        serve(&mut self());
    }
}

/// The [`HandlerFactory`] that makes handlers of a type that it chooses each time.
#[derive(Debug)]
pub struct Chooses;

impl<F> HandlerFactory<Chooses> for F
where
    F: Fn() -> Box<dyn RequestHandler> + Send + Sync + 'static,
{
    fn with_handler(&self, serve: impl FnOnce(&mut dyn RequestHandler)) {
        serve(&mut *self());
    }
}

/// The [`HandlerFactory`] that is itself the handler of every request.
#[derive(Debug)]
pub struct Handles;

impl<F> HandlerFactory<Handles> for F
where
    F: Fn(&mut Request) -> io::Result<()> + Send + Sync + 'static,
{
    fn with_handler(&self, serve: impl FnOnce(&mut dyn RequestHandler)) {
        serve(&mut |request: &mut Request| self(request));
    }
}
