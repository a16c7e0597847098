//! The command line that all serving examples share, and what it makes of a handler.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socketserver::backend::{Backend, BackendName, EventLoop, ForkingStyle};
use socketserver::listener::{Listener, Tcp, Udp, UnixDatagram, UnixStream};
use socketserver::{Addr, AnyServer, HandlerFactory, UnixName};

/// The options of every serving example.
#[derive(Debug, Parser)]
pub struct Options {
    /// Where to listen: tcp://HOST:PORT, udp://HOST:PORT, unix:///PATH, unixgram:///PATH
    #[arg(long, value_name = "ADDR", default_value = "tcp://127.0.0.1:9999")]
    bind: Addr,

    /// What runs the requests: sequential, threading, forking-style or event-loop
    #[arg(long, value_name = "SERVER", default_value = "threading")]
    server: BackendName,

    /// Workers of the forking-style server [default: 40], loops of the event-loop server [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,

    /// How many connections may be open at a time [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: Option<u32>,

    /// How long one read or write of a connection may take [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    /// How long connections may go on after SIGINT or SIGTERM
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    drain: Duration,
}

impl Options {
    /// Serves until a signal comes. `hint` makes the line that says what to try, from the address.
    pub fn serve<Kind>(self, handler: impl HandlerFactory<Kind>, hint: impl FnOnce(&Addr) -> String) -> ExitCode {
        if self.workers.is_some() && !matches!(self.server, BackendName::ForkingStyle | BackendName::EventLoop) {
            eprintln!("error: --workers is for the forking-style and event-loop servers, not for {}", self.server);
            return ExitCode::from(2);
        }
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
        match self.try_serve(handler, hint) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// The address that was asked for.
    // Not every example looks at it.
    #[allow(dead_code)]
    pub fn bind(&self) -> &Addr {
        &self.bind
    }

    fn try_serve<Kind>(self, handler: impl HandlerFactory<Kind>, hint: impl FnOnce(&Addr) -> String) -> io::Result<()> {
        let mut server = AnyServer::new(self.listener()?, self.backend(), handler).shutdown_deadline(self.drain);
        if let Some(max) = self.max_connections {
            server = server.max_connections(max as usize);
        }
        server.activate()?;
        drain_on_signals(&server, self.drain)?;

        let addr = server.local_addr().clone();
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "listening on {addr}")?;
        stdout.flush()?;
        drop(stdout);
        eprintln!("try: {}", hint(&addr));

        server.serve_forever()?;
        server.close()?;
        Ok(())
    }

    fn listener(&self) -> io::Result<Box<dyn Listener>> {
        Ok(match &self.bind {
            Addr::Tcp(_) => Box::new(Tcp::options().timeout(self.timeout).bind(&self.bind)?),
            Addr::Unix(_) => Box::new(UnixStream::options().timeout(self.timeout).bind(&self.bind)?),
            Addr::Udp(_) => Box::new(Udp::options().bind(&self.bind)?),
            Addr::Unixgram(_) => Box::new(UnixDatagram::options().bind(&self.bind)?),
        })
    }

    fn backend(&self) -> Box<dyn Backend> {
        match (self.server, self.workers) {
            (BackendName::ForkingStyle, Some(workers)) => Box::new(ForkingStyle::new(workers.into())),
            (BackendName::EventLoop, Some(loops)) => Box::new(EventLoop::new(loops.into())),
            (server, _) => server.backend(),
        }
    }
}

/// The command that talks to a server at `addr`.
// Not every example is for it.
#[allow(dead_code)]
pub fn netcat(addr: &Addr) -> String {
    let path = || addr.as_path().map_or_else(|| addr.to_string(), |path| path.display().to_string());
    let host = |addr: &SocketAddr| match addr {
        // A link-local address is none without its interface.
        SocketAddr::V6(addr) if addr.scope_id() != 0 => format!("{}%{}", addr.ip(), addr.scope_id()),
        addr => addr.ip().to_string(),
    };
    match addr {
        Addr::Tcp(addr) => format!("nc {} {}", host(addr), addr.port()),
        Addr::Udp(addr) => format!("nc -u {} {}", host(addr), addr.port()),
        Addr::Unix(UnixName::Abstract(name)) => format!("socat - ABSTRACT:{}", String::from_utf8_lossy(name)),
        Addr::Unix(_) => format!("nc -U {}", path()),
        Addr::Unixgram(UnixName::Abstract(name)) => {
            format!("socat - ABSTRACT-SENDTO:{},bind=echo-client", String::from_utf8_lossy(name))
        }
        Addr::Unixgram(_) => format!("socat - UNIX-SENDTO:{},bind=/tmp/client.sock", path()),
    }
}

/// The first SIGINT or SIGTERM drains the server; a second one ends the process at once.
fn drain_on_signals(server: &AnyServer, grace: Duration) -> io::Result<()> {
    let handle = server.shutdown_handle();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_string()).spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            if asked {
                std::process::exit(128 + signal);
            }
            asked = true;
            log::info!("draining for {grace:?} at the most; a second signal ends this at once");
            handle.drain(grace);
        }
    })?;
    Ok(())
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a number of seconds, such as 5 or 0.5, not {text:?}");
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}
