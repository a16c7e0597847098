//! An echo server on tokio: a task for each connection, or one for all datagrams, on the current-thread or the multi-thread
//! runtime.

use std::io::{self, Write};
use std::net::SocketAddr;

use clap::Parser;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Builder;

/// Echoes TCP streams or UDP datagrams on tokio.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// Take the current-thread runtime: no worker threads, no stealing.
    #[arg(long, conflicts_with = "workers")]
    current_thread: bool,
    /// The number of threads of the multi-thread runtime.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Echo datagrams.
    #[arg(long)]
    udp: bool,
    /// The size of each connection's buffer in bytes; that for datagrams has room for any.
    #[arg(long, default_value_t = 4096)]
    buffer: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut builder = if args.current_thread { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if !args.current_thread {
        builder.worker_threads(args.workers);
    }
    let runtime = builder.enable_io().build()?;
    // Accepting is a task too: what `block_on` runs itself lives on the main thread, outside the multi-thread workers.
    runtime.block_on(async {
        let serving =
            if args.udp { tokio::spawn(serve_udp(args.bind)) } else { tokio::spawn(serve_tcp(args.bind, args.buffer)) };
        serving.await?
    })
}

fn greet(scheme: &str, address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {scheme}://{address}")?;
    stdout.flush()
}

async fn serve_udp(bind: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(bind).await?;
    greet("udp", socket.local_addr()?)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (read, peer) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..read], peer).await?;
    }
}

async fn serve_tcp(bind: SocketAddr, buffer_bytes: usize) -> io::Result<()> {
    let listener = TcpListener::bind(bind).await?;
    // Connections inherit it.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    greet("tcp", listener.local_addr()?)?;
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        // A connection that fails is the load's to notice: it counts the echo that never came.
        tokio::spawn(echo(stream, buffer_bytes));
    }
}

async fn echo(mut stream: TcpStream, buffer_bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer_bytes];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}
