//! The other side of a comparison: this executable, started again as the server of one case.

use std::io::{self, Write};

use anyhow::{Context, Result};
use socketserver::listener::{self, Listener, Tcp};
use socketserver::{Addr, AnyServer};

use crate::case::Case;
use crate::server::BackendChoice;

/// Serves until it is killed.
pub fn serve(case: Case, backend: BackendChoice, bind: &Addr) -> Result<()> {
    let listener = listen(bind, case.is_nodelay()).with_context(|| format!("listening on {bind}"))?;
    let mut server = case.server(listener, backend.backend());
    server.activate().context("activating the server")?;
    greet(&server)?;
    server.serve_forever().context("serving")?;
    Ok(())
}

fn listen(bind: &Addr, nodelay: bool) -> io::Result<Box<dyn Listener>> {
    match bind {
        Addr::Tcp(_) => Ok(Box::new(Tcp::options().nodelay(nodelay).bind(bind)?)),
        _ => listener::bind(bind),
    }
}

fn greet(server: &AnyServer) -> Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {}", server.local_addr())?;
    stdout.flush().context("saying where the server listens")
}
