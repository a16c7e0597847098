//! [`Opened`]: listening sockets that somebody else has opened.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use socketserver::listener::{Listener, Tcp, UnixStream};
use tempfile::TempDir;

/// One socket for TCP and a Unix one, which stay open for as long as this lives, whatever becomes of those that adopt them.
pub struct Opened {
    tcp: TcpListener,
    unix: UnixListener,
    _folder: TempDir,
}

impl Opened {
    pub fn new() -> Opened {
        let folder = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
        Opened { tcp: TcpListener::bind("127.0.0.1:0").unwrap(), unix, _folder: folder }
    }

    pub fn adopt(&self) -> [Box<dyn Listener>; 2] {
        self.adopt_with(None)
    }

    /// As [`adopt`](Opened::adopt), with a timeout of their requests.
    pub fn adopt_with(&self, timeout: Option<Duration>) -> [Box<dyn Listener>; 2] {
        [
            Box::new(Tcp::try_from(self.tcp.try_clone().unwrap()).unwrap().timeout(timeout)),
            Box::new(UnixStream::try_from(self.unix.try_clone().unwrap()).unwrap().timeout(timeout)),
        ]
    }
}
