//! What the event loop does without any unwinding, in a program whose panics abort. It succeeds if it gets to its end.

// A test is built to unwind whatever the profile says, and there is none here.
#[cfg(not(any(test, panic = "abort")))]
compile_error!("this program is about panics that abort");

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socketserver::backend::EventLoop;
use socketserver::listener::Tcp;
use socketserver::{EventLoopTcpServer, Request, Server, Stats, sync};

const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> io::Result<()> {
    serves_an_echo()?;
    cuts_parked_coroutines_at_the_deadline()?;
    leaves_a_coroutine_that_never_ends()?;
    drops_a_server_that_has_served()?;
    println!("done");
    Ok(())
}

fn bind(handler: impl Fn(&mut Request) -> io::Result<()> + Send + Sync + 'static) -> io::Result<EventLoopTcpServer> {
    Ok(Server::new(Tcp::options().bind("127.0.0.1:0")?, EventLoop::new(1), handler))
}

fn connect(server: &EventLoopTcpServer) -> io::Result<TcpStream> {
    let addr: SocketAddr = server.local_addr().as_inet().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Serves until `client` is done and the server has been told to end after `grace`.
fn serve(
    mut server: EventLoopTcpServer,
    grace: Duration,
    client: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<(EventLoopTcpServer, Stats)> {
    let handle = server.shutdown_handle();
    let clients = thread::spawn(move || {
        let result = client();
        handle.drain(grace);
        result
    });
    server.serve_forever()?;
    clients.join().expect("a panic would have aborted")?;
    let stats = server.stats();
    Ok((server, stats))
}

fn echo(request: &mut Request) -> io::Result<()> {
    let (mut rfile, mut wfile) = request.split();
    loop {
        let bytes = rfile.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        wfile.write_all(bytes)?;
        let count = bytes.len();
        rfile.consume(count);
    }
}

fn serves_an_echo() -> io::Result<()> {
    let server = bind(echo)?;
    let clients: Vec<TcpStream> = (0..50).map(|_| connect(&server)).collect::<io::Result<_>>()?;
    let (server, stats) = serve(server, PATIENCE, move || {
        for mut client in clients {
            client.write_all(b"hello")?;
            client.shutdown(std::net::Shutdown::Write)?;
            assert_eq!(io::read_to_string(client)?, "hello");
        }
        Ok(())
    })?;
    assert_eq!((stats.completed, stats.failed), (50, 0));
    server.close().map(|_| ())
}

/// One sleeps, one reads, one writes, one waits for a sibling: each leaves by an error.
fn cuts_parked_coroutines_at_the_deadline() -> io::Result<()> {
    let (began, beginning) = mpsc::channel();
    let server = bind(move |request| {
        let mut way = [0];
        request.read_exact(&mut way)?;
        began.send(()).map_err(io::Error::other)?;
        match way[0] {
            0 => request.sleep(2 * PATIENCE),
            1 => request.read_exact(&mut way),
            2 => request.write_all(&vec![0; 64 << 20]),
            _ => {
                let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
                let mut upstream = socketserver::net::TcpStream::connect(silent.local_addr()?)?;
                socketserver::spawn(move || upstream.read(&mut [0]))?.join()?.map(|_| ())
            }
        }
    })?;
    let mut clients: Vec<TcpStream> = (0..4).map(|_| connect(&server)).collect::<io::Result<_>>()?;
    let (server, stats) = serve(server, Duration::from_millis(50), move || {
        for (way, client) in clients.iter_mut().enumerate() {
            client.write_all(&[way as u8])?;
            beginning.recv_timeout(PATIENCE).map_err(io::Error::other)?;
        }
        // They are open until the drain is over.
        std::mem::forget(clients);
        Ok(())
    })?;
    assert_eq!(stats.cut, 4, "{stats:?}");
    server.close().map(|_| ())
}

/// It waits for a lock that is never given back, which no cut ends: what cannot be unwound is leaked.
fn leaves_a_coroutine_that_never_ends() -> io::Result<()> {
    let lock: &'static sync::Mutex<()> = Box::leak(Box::default());
    std::mem::forget(lock.lock());
    let (began, beginning) = mpsc::channel();
    let server = bind(move |request| {
        began.send(()).map_err(io::Error::other)?;
        drop(lock.lock());
        request.write_all(b"never")
    })?;
    let client = connect(&server)?;
    let (server, stats) =
        serve(server, Duration::from_millis(50), move || beginning.recv_timeout(PATIENCE).map_err(io::Error::other))?;
    assert_eq!((stats.completed, stats.failed, stats.live), (0, 0, 1), "{stats:?}");
    drop(server);
    drop(client);
    Ok(())
}

fn drops_a_server_that_has_served() -> io::Result<()> {
    let server = bind(echo)?;
    let mut client = connect(&server)?;
    let (server, _) = serve(server, PATIENCE, move || {
        client.write_all(b"hello")?;
        client.read_exact(&mut [0; 5])
    })?;
    drop(server);
    drop(bind(echo)?);
    Ok(())
}
