//! What an idle connection costs in memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use crate::connector::{Connector, PATIENCE};
use crate::cores::Cores;
use crate::cpu_time::CpuAccount;
use crate::errors::Errors;
use crate::memory::Memory;
use crate::open_files;
use crate::report;
use crate::server_process::ServerProcess;
use crate::server_spec::{Launch, ServerSpec};
use crate::transport::Transport;

/// One server's memory without and with its idle connections.
pub struct Growth {
    /// Of the fresh server, before the first connection.
    pub before: Memory,
    pub after: Memory,
}

/// Measures and reports; returns the errors. A server that cannot hold the connections does not end the comparison, as that
/// is a result, too.
pub fn compare(connections: usize, message_bytes: usize, servers: &[ServerSpec]) -> Result<Errors> {
    open_files::make_room_for(connections)?;
    let launches: Vec<Launch> =
        servers.iter().map(|server| server.resolve(connections, Transport::Tcp)).collect::<Result<_>>()?;
    let cores = Cores::claim()?;
    let mut errors = Errors::default();
    let mut all = Vec::new();
    for launch in &launches {
        let growth = measure(connections, message_bytes, launch, cores);
        if let Err(error) = &growth {
            errors.add(format!("{}: {error:#}", launch.name));
        }
        all.push((launch.name.clone(), growth));
    }
    report::idle(connections, message_bytes, &all);
    Ok(errors)
}

fn measure(connections: usize, message_bytes: usize, launch: &Launch, cores: Cores) -> Result<Growth> {
    let mut server = ServerProcess::start(launch, cores)?;
    let account = CpuAccount::of(server.pid())?;
    // At rest, a server that starts its workers after its greeting has them, and one that was just served waits again.
    account.read_at_rest()?;
    let before = Memory::of(server.pid())?;
    let open = open(server.address(), connections, message_bytes)?;
    account.read_at_rest()?;
    let after = Memory::of(server.pid())?;
    server.check_running()?;
    ensure!(!server.has_children(), "it has processes below it, whose memory is not counted");
    drop(open);
    Ok(Growth { before, after })
}

/// Opens connections one after the other, so that no accept queue overflows.
fn open(server: SocketAddr, connections: usize, message_bytes: usize) -> Result<Vec<TcpStream>> {
    let mut connector = Connector::new(server, Transport::Tcp);
    let message: Vec<u8> = (0..message_bytes).map(|position| position as u8).collect();
    let mut echo = vec![0; message_bytes];
    let mut open = Vec::with_capacity(connections);
    for index in 0..connections {
        let stream = serve_once(&mut connector, &message, &mut echo)
            .with_context(|| format!("connection {} of {connections}", index + 1))?;
        open.push(stream);
    }
    Ok(open)
}

fn serve_once(connector: &mut Connector, message: &[u8], echo: &mut [u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::from(connector.connect().context("connecting")?);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(message).context("sending")?;
    stream.read_exact(echo).context("waiting for its echo")?;
    ensure!(echo == message, "the echo differs from the message");
    Ok(stream)
}
