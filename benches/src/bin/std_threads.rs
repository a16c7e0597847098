//! The classic: a thread for each connection, and in it a bare loop of `read` and `write_all`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use clap::Parser;
use socket2::SockRef;

/// Echoes TCP streams, each on a thread of its own.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// The size of each connection's buffer in bytes.
    #[arg(long, default_value_t = 4096)]
    buffer: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = TcpListener::bind(args.bind)?;
    // Connections inherit it.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{}", listener.local_addr()?)?;
    stdout.flush()?;

    loop {
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            // The peer was gone before it was accepted; the standard library has retried an interrupted call already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        // A connection that fails is the load's to notice: it counts the echo that never came.
        thread::Builder::new().spawn(move || echo(stream, args.buffer))?;
    }
}

fn echo(mut stream: TcpStream, buffer_bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer_bytes];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read])?,
        }
    }
}
