//! A server that runs on a thread, and the guests that come to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socketserver::backend::Backend;
use socketserver::listener::Listener;
use socketserver::{Addr, Served, Server, ShutdownHandle, Stats};

/// Nothing takes nearly as long: it only makes a hang a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server that serves until it is ended, or the test fails.
pub struct Serving {
    pub addr: Addr,
    pub handle: ShutdownHandle,
    thread: Option<JoinHandle<(Served, Stats)>>,
}

impl Serving {
    pub fn start<L: Listener + 'static, B: Backend + 'static>(mut server: Server<L, B>) -> Serving {
        let (addr, handle) = (server.local_addr().clone(), server.shutdown_handle());
        let serve = move || {
            let served = server.serve_forever().unwrap();
            let stats = server.stats();
            assert_eq!(server.close().unwrap().unfinished, 0);
            (served, stats)
        };
        Serving { addr, handle, thread: Some(thread::spawn(serve)) }
    }

    /// Shuts the server down and closes it; says what it has done.
    pub fn end(mut self) -> (Served, Stats) {
        self.handle.shutdown();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.handle.drain(Duration::ZERO);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client with a connection.
pub struct Guest {
    stream: BufReader<Box<dyn Stream>>,
}

pub trait Stream: Read + Write {
    fn half_close(&self);
}

impl Guest {
    pub fn connect(addr: &Addr) -> Guest {
        let stream: Box<dyn Stream> = match addr.as_inet() {
            Some(addr) => {
                let stream = TcpStream::connect(addr).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
            None => {
                let stream = UnixStream::connect(addr.as_path().unwrap()).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
        };
        Guest { stream: BufReader::new(stream) }
    }

    pub fn say(&mut self, command: &str) {
        self.stream.get_mut().write_all(format!("{command}\n").as_bytes()).unwrap();
    }

    /// The next line; nothing at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.say(command);
        self.line()
    }

    /// Leaves; returns what the server still had to say. After that, the visit is over for the server, too.
    pub fn leave(mut self) -> String {
        self.stream.get_ref().half_close();
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Stream for TcpStream {
    fn half_close(&self) {
        // The server may have closed already.
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Stream for UnixStream {
    fn half_close(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}
