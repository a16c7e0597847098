//! An echo server on `may`: a stackful coroutine for each connection, the nearest relative of socketserver's event loop.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use clap::Parser;
use may::go;
use may::net::{TcpListener, TcpStream};

/// Echoes TCP streams on may's coroutines.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// The number of scheduler threads.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// The size of each connection's buffer in bytes.
    #[arg(long, default_value_t = 4096)]
    buffer: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    may::config().set_workers(args.workers);
    // Whoever starts the server chooses its core; a scheduler that pins its own threads would override the choice.
    may::config().set_worker_pin(false);
    let serving = go!(move || serve(args.bind, args.buffer));
    serving.join().unwrap_or_else(|_| Err(io::Error::other("the accepting coroutine panicked")))
}

fn serve(bind: SocketAddr, buffer_bytes: usize) -> io::Result<()> {
    let listener = TcpListener::bind(bind)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{}", listener.local_addr()?)?;
    stdout.flush()?;

    loop {
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        // A connection that fails is the load's to notice: it counts the echo that never came.
        go!(move || echo(stream, buffer_bytes));
    }
}

fn echo(mut stream: TcpStream, buffer_bytes: usize) -> io::Result<()> {
    // On the heap, because the coroutine's stack is 32 KiB by default and a larger buffer may be asked for.
    let mut buffer = vec![0; buffer_bytes];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read])?,
        }
    }
}
