//! What the server does, as each request's first byte says.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::panic::panic_any;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};
use socketserver::{Addr, Failure, Hooks, Incoming, Request, UnixName};

use crate::support::{PATIENCE, echo};

/// How long the handler waits for those of whom the test knows that they will do nothing.
pub const SHORT: Duration = Duration::from_millis(5);

/// The length of a message that comes in two halves.
pub const MESSAGE: usize = 10;

/// The length of a long answer, which is more than the buffers on the way hold of a Unix socket.
pub const MUCH: usize = 300_000;

/// What a connection is told for which there is no room. No answer begins like this.
pub const BUSY: &[u8] = b"busy, try again";

/// Whom the server does not want.
pub const UNWELCOME: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// What each panic says that is part of the test.
const WANTED: &str = "as the test wants";

/// Ends requests from a thread of its own, a moment after they have asked for that.
#[derive(Clone)]
pub struct Enemy {
    victims: Sender<socketserver::Sender>,
}

impl Enemy {
    /// The thread ends with the last clone.
    pub fn start() -> (Enemy, JoinHandle<()>) {
        let (victims, next) = unbounded::<socketserver::Sender>();
        let thread = thread::spawn(move || {
            for victim in next {
                // It may be too late for that.
                let _ = victim.send(b"last words");
                victim.close();
            }
        });
        (Enemy { victims }, thread)
    }
}

/// The handler.
pub fn serve(request: &mut Request, enemy: &Enemy) -> io::Result<()> {
    let mut wish = [0];
    if request.read(&mut wish)? == 0 {
        return Ok(());
    }
    match wish[0] {
        b'e' => echo(request),
        b'h' => {
            request.set_read_timeout(Some(SHORT));
            request.read_exact(&mut [0; MESSAGE])
        }
        b'd' => {
            request.set_deadline(Some(SHORT));
            request.read_exact(&mut [0; MESSAGE])
        }
        b'm' => request.write_all(&much()),
        b'w' => {
            request.set_write_timeout(Some(SHORT));
            write_without_end(request)
        }
        b'f' => {
            request.set_write_timeout(Some(SHORT));
            echo(request)
        }
        b'o' => {
            let answer = request.offload(much)?;
            request.write_all(&answer)
        }
        b's' => {
            request.sleep(SHORT)?;
            echo(request)
        }
        b'b' => {
            let mut bytes = Vec::new();
            request.read_to_end(&mut bytes)?;
            let bytes = request.offload(|| bytes)?;
            request.write_all(&bytes)
        }
        b'n' => Ok(()),
        b'p' => panic!("{WANTED}"),
        b'v' => panic_any(17_u8),
        b'x' => Err(io::Error::other(WANTED)),
        b'R' => {
            enemy.meets(request)?;
            request.read_exact(&mut [0])
        }
        b'W' => {
            enemy.meets(request)?;
            write_without_end(request)
        }
        b'S' => {
            enemy.meets(request)?;
            request.sleep(PATIENCE)
        }
        wish => panic!("no client wishes for {wish}"),
    }
}

impl Enemy {
    fn meets(&self, request: &mut Request) -> io::Result<()> {
        self.victims.send(request.sender()?).map_err(io::Error::other)
    }
}

/// A long answer.
pub fn much() -> Vec<u8> {
    (0..MUCH).map(|number| (number % 251) as u8).collect()
}

fn write_without_end(request: &mut Request) -> io::Result<()> {
    loop {
        request.write_all(&[b'w'; 16 * 1024])?;
    }
}

/// Turns away who is not welcome.
pub struct Doorkeeper;

impl Hooks for Doorkeeper {
    fn verify_request(&self, request: &Incoming) -> io::Result<bool> {
        Ok(match request.peer_addr() {
            Addr::Unix(name) => *name == UnixName::Unnamed,
            Addr::Unixgram(name) => *name != UnixName::Unnamed,
            addr => addr.ip() != Some(UNWELCOME),
        })
    }

    /// There is nobody to read it.
    fn handle_error(&self, _: &Failure<'_>) {}
}

/// Keeps the panics that are part of the test out of its output.
pub fn silence_wanted_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>();
        if !info.payload().is::<u8>() && text.is_none_or(|text| text != WANTED) {
            loud(info);
        }
    }));
}
