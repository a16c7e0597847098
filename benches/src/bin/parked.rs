//! What does a coroutine cost that only waits? One handler on an event loop starts many siblings, which park on a channel; told are
//! the kernel's map entries and the resident memory without them and with all of them.

use std::fs;
use std::io::{self, Read};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::unistd::Pid;
use socketserver::backend::EventLoop;
use socketserver::listener::Tcp;
use socketserver::sync::channel;
use socketserver::{Request, Server};
use socketserver_comparison::Memory;

/// Tells what coroutines cost that are parked without a socket.
#[derive(Parser)]
struct Args {
    /// The number of coroutines.
    #[arg(long, default_value = "100000")]
    coroutines: NonZeroUsize,
    /// How many are started at a time, and park on the same channel: one that begins to wait is looked for among those that wait
    /// on it already.
    #[arg(long, default_value = "100")]
    per_channel: NonZeroUsize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (coroutines, per_channel) = (args.coroutines.get(), args.per_channel.get());
    let (tell, told) = mpsc::channel();
    let handler = move |_: &mut Request| {
        // Whoever asks learns of a failure as well; the handler has nothing else to do with it.
        let _ = tell.send(park(coroutines, per_channel));
        Ok::<(), io::Error>(())
    };
    let mut server = Server::new(Tcp::options().bind("127.0.0.1:0")?, EventLoop::new(1), handler);
    let address = server.local_addr().as_inet().context("the server has no IP address")?;
    let handle = server.shutdown_handle();
    let client = thread::spawn(move || {
        // The server closes the connection when the handler has ended.
        let ended = TcpStream::connect(address).and_then(|mut stream| stream.read_to_end(&mut Vec::new()));
        handle.shutdown();
        ended
    });
    server.serve_forever()?;
    server.close()?;
    client.join().expect("the client does not panic").context("waiting for the handler")?;
    let measured = told.recv().context("the handler was never called")??;
    measured.print(coroutines);
    Ok(())
}

/// The process at one moment.
struct Moment {
    map_entries: usize,
    memory: Memory,
}

impl Moment {
    fn now() -> Result<Self> {
        let maps = fs::read_to_string("/proc/self/maps").context("reading the map entries")?;
        Ok(Self { map_entries: maps.lines().count(), memory: Memory::of(Pid::this())? })
    }
}

struct Measured {
    before: Moment,
    parked: Moment,
    parking: Duration,
    ending: Duration,
}

/// Runs on the event loop: starts the coroutines, measures once all are parked, and ends them.
fn park(coroutines: usize, per_channel: usize) -> Result<Measured> {
    let before = Moment::now()?;
    let started = Instant::now();
    let mut siblings = Vec::with_capacity(coroutines);
    let mut ends = Vec::new();
    while siblings.len() < coroutines {
        // Nothing is ever sent: that the last sender is gone says that all of them have begun, or are to end.
        let (begins, begun) = channel::bounded::<()>(1);
        let (end, ended) = channel::bounded::<()>(1);
        for _ in 0..per_channel.min(coroutines - siblings.len()) {
            let (begins, ended) = (begins.clone(), ended.clone());
            siblings.push(socketserver::spawn(move || {
                drop(begins);
                ended.recv().is_err()
            })?);
        }
        ends.push(end);
        drop(begins);
        // All are coroutines of this thread, so when this one goes on, the last that has begun is parked. Waiting here, and not
        // once for all, keeps what starting takes for a while out of what is measured.
        ensure!(begun.recv().is_err(), "nobody sends");
    }
    ensure!(siblings.iter().all(|sibling| !sibling.is_finished()), "not all could be parked");
    let parked = Moment::now()?;
    let parking = started.elapsed();
    let ending = Instant::now();
    drop(ends);
    for sibling in siblings {
        ensure!(sibling.join()?, "a parked coroutine received something");
    }
    Ok(Measured { before, parked, parking, ending: ending.elapsed() })
}

impl Measured {
    fn print(&self, coroutines: usize) {
        let Self { before, parked, parking, ending } = self;
        let each = |before: u64, parked: u64| (parked as f64 - before as f64) / coroutines as f64;
        println!("parked: {coroutines} coroutines on one event loop, without sockets");
        println!("kernel map entries: {} before, {} with all parked", before.map_entries, parked.map_entries);
        println!("resident, bytes/coroutine: {:.0}", each(before.memory.resident, parked.memory.resident));
        println!("page tables, bytes/coroutine: {:.0}", each(before.memory.page_tables, parked.memory.page_tables));
        println!("threads: {}; parked in {parking:.2?}, ended in {ending:.2?}", parked.memory.threads);
    }
}
