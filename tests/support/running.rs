//! [`Running`]: a server that serves on a thread of its own.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use socketserver::{Activity, Addr, AnyServer, Monitor, Served, ShutdownHandle, Stats};

use super::{receive, until, within};

/// A server in `serve_forever`. Dropped by a failing test, it is stopped, so that the others have the machine.
pub struct Running {
    pub addr: Addr,
    pub handle: ShutdownHandle,
    pub monitor: Monitor,
    ended: Receiver<(AnyServer, io::Result<Served>)>,
    /// Taken when serving has ended.
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start(mut server: AnyServer) -> Running {
        let (give, ended) = bounded(1);
        let (addr, handle, monitor) = (server.local_addr().clone(), server.shutdown_handle(), server.monitor());
        let thread = thread::spawn(move || {
            let served = server.serve_forever();
            let _ = give.send((server, served));
        });
        Running { addr, handle, monitor, ended, thread: Some(thread) }
    }

    pub fn stats(&self) -> Stats {
        self.monitor.stats()
    }

    /// Waits until the only request does this.
    #[track_caller]
    pub fn wait_for_activity(&self, activity: Activity) {
        until(
            &format!("a request that is {activity}"),
            || matches!(&*self.monitor.dump(), [request] if request.activity == activity),
        );
    }

    /// Asks for the end of serving and waits for it.
    #[track_caller]
    pub fn stop(self) -> (AnyServer, Served) {
        self.handle.shutdown();
        self.ended()
    }

    /// Waits for the end of serving.
    #[track_caller]
    pub fn ended(mut self) -> (AnyServer, Served) {
        let (server, served) = receive("the end of serving", &self.ended);
        self.thread.take().map(JoinHandle::join);
        (server, served.expect("serving ends well"))
    }

    /// Whether serving has ended already.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Stops, closes, and checks that the books balance.
    #[track_caller]
    pub fn finish(self) -> Stats {
        close(self.stop().0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.handle.drain(Duration::ZERO);
        }
    }
}

/// Closes a server and checks that its counters balance.
#[track_caller]
pub fn close(server: AnyServer) -> Stats {
    let monitor = server.monitor();
    within("closing the server", move || server.close()).expect("the server closes well");
    let stats = monitor.stats();
    assert_eq!(stats.live, 0, "requests are left: {stats:?}");
    let ended = stats.rejected + stats.refused + stats.completed + stats.failed;
    assert_eq!(stats.accepted, ended, "the counters do not balance: {stats:?}");
    stats
}
