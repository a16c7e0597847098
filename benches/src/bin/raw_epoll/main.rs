//! The floor to compare with: an echo server that is nothing but an epoll loop on one thread.
//!
//! A message costs one `recv`, one `send` and a share of one `epoll_wait`, and allocates nothing. Only a peer that does not read
//! makes its connection own a buffer. What it leaves out is what a server adds: fairness between connections, limits,
//! deadlines, an orderly end.

mod datagrams;
mod streams;
mod system;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use clap::Parser;
use socket2::SockRef;

/// Echoes TCP streams or UDP datagrams from one hand-written epoll loop.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// Echo datagrams.
    #[arg(long)]
    udp: bool,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    if args.udp {
        let socket = UdpSocket::bind(args.bind)?;
        socket.set_nonblocking(true)?;
        greet("udp", socket.local_addr()?)?;
        let mut server = datagrams::Server::new(socket)?;
        loop {
            server.turn()?;
        }
    }
    let listener = TcpListener::bind(args.bind)?;
    // Connections inherit it.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    listener.set_nonblocking(true)?;
    greet("tcp", listener.local_addr()?)?;
    let mut server = streams::Server::new(listener)?;
    loop {
        server.turn()?;
    }
}

fn greet(scheme: &str, address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {scheme}://{address}")?;
    stdout.flush()
}
