//! The file of a Unix socket: replaced only if it is stale, removed only if it is ours.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use log::LevelFilter;
use rustix::fs::{FlockOperation, flock};
use rustix::net::SocketAddrUnix;
use socketserver::backend::{BackendName, Sequential};
use socketserver::listener::{Bind, Listener, UnixDatagram, UnixStream};
use socketserver::{Addr, Request, Server, ToAddr, UnixName, UnixStreamServer};
use tempfile::TempDir;

use crate::support::cell::{Cell, Kind as SocketKind};
use crate::support::child::{in_child, keep_log_from, kept_lines};
use crate::support::client::Client;
use crate::support::running::Running;
use crate::support::{assert_cut_at, echo, receive, within};

/// Both kinds of listener, by the same name.
#[derive(Clone, Copy)]
enum Kind {
    Stream,
    Datagram,
}

const KINDS: [Kind; 2] = [Kind::Stream, Kind::Datagram];

impl Kind {
    fn bind(&self, addr: impl ToAddr) -> io::Result<Box<dyn Listener>> {
        Ok(match self {
            Kind::Stream => Box::new(UnixStream::bind(addr)?),
            Kind::Datagram => Box::new(UnixDatagram::bind(addr)?),
        })
    }

    /// Binds and forgets, as a server that was killed.
    fn leave_stale(&self, path: &Path) {
        match self {
            Kind::Stream => drop(net::UnixListener::bind(path).unwrap()),
            Kind::Datagram => drop(net::UnixDatagram::bind(path).unwrap()),
        }
        assert!(path.exists());
    }

    /// Checks that binding fails, that the error says where and why, and that the file is as it was.
    #[track_caller]
    fn assert_in_use(&self, path: &Path, why: &str) {
        let before = fs::symlink_metadata(path).unwrap();
        let error = self.bind(path).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let message = error.to_string();
        assert!(message.contains(why) && message.contains(&path.display().to_string()), "{message}");
        let after = fs::symlink_metadata(path).unwrap();
        assert_eq!(before.modified().unwrap(), after.modified().unwrap());
        assert_eq!(before.file_type(), after.file_type());
    }
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    (folder, path)
}

#[test]
fn a_stale_socket_is_replaced() {
    for kind in KINDS {
        let (_folder, path) = folder();
        kind.leave_stale(&path);
        let listener = kind.bind(&path).unwrap();
        assert_eq!(listener.local_addr().as_path(), Some(&*path));
        assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        drop(listener);
        assert!(!path.exists());
    }
}

/// Whatever kind of socket it is: a stale one of the other kind cannot be told from a live one.
#[test]
fn a_live_servers_socket_is_not_touched() {
    for kind in KINDS {
        for live in KINDS {
            let (_folder, path) = folder();
            let _live = live.bind(&path).unwrap();
            kind.assert_in_use(&path, "a server is listening there");
        }
    }
}

/// Not even if the live server is too busy to take a connection.
#[test]
fn a_live_server_with_a_full_queue_is_alive() {
    let (_folder, path) = folder();
    let live = UnixStream::options().request_queue_size(0).bind(&*path).unwrap();
    let _queued = Client::connect(live.local_addr());
    let next = Client::open(live.local_addr());
    rustix::io::ioctl_fionbio(&next, true).unwrap();
    assert_eq!(next.join().unwrap_err().kind(), ErrorKind::WouldBlock, "the queue is full");
    Kind::Stream.assert_in_use(&path, "a server is listening there");
}

#[test]
fn a_regular_file_is_not_touched() {
    for kind in KINDS {
        let (_folder, path) = folder();
        fs::write(&path, "precious").unwrap();
        kind.assert_in_use(&path, "it is not a socket");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}

/// It would be waited for until somebody writes to it.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_no_folder() {
    let (_folder, path) = folder();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for kind in KINDS {
        let below = path.join("socket");
        let error = within("binding", move || kind.bind(below).map(|_| ())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADirectory);
    }
}

/// Neither one to a stale socket, nor one to nothing.
#[test]
fn a_symlink_is_not_touched() {
    for kind in KINDS {
        let (folder, path) = folder();
        let target = folder.path().join("target");
        symlink(&target, &path).unwrap();
        kind.assert_in_use(&path, "it is not a socket");
        assert!(!target.exists());
        kind.leave_stale(&target);
        kind.assert_in_use(&path, "it is not a socket");
        assert!(target.exists());
    }
}

#[test]
fn a_file_that_is_another_by_now_stays() {
    for kind in KINDS {
        let (_folder, path) = folder();
        let listener = kind.bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(listener);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
    }
}

/// A drain ends the socket, so that its file goes at once; another server may take its place, and keeps it.
#[test]
fn after_a_drain_the_path_is_free() {
    let (_folder, path) = folder();
    let mut first = UnixStreamServer::bind(&*path, echo).unwrap();
    first.shutdown_handle().drain(std::time::Duration::ZERO);
    let first = within("a drained serving", move || first.serve_forever().map(|_| first)).unwrap();
    assert!(!path.exists());
    let second = UnixStream::bind(&*path).unwrap();
    first.close().unwrap();
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[test]
fn a_drained_server_does_not_take_its_path_from_another() {
    let (_folder, path) = folder();
    let mut first = UnixStreamServer::bind(&*path, echo).unwrap();
    first.shutdown_handle().drain(std::time::Duration::ZERO);
    let mut first = within("a drained serving", move || first.serve_forever().map(|_| first)).unwrap();
    let _second = UnixStream::bind(&*path).unwrap();
    let error = first.activate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(path.exists());
}

/// Nobody replaces the file of a server that ends, which then would remove the other's: it goes before the socket does.
#[test]
fn who_ends_takes_no_path_from_who_begins() {
    const ROUNDS: usize = 1000;
    let take_turns = |kind: Kind, path: &Path| {
        let mut taken = 0;
        while taken < ROUNDS {
            match kind.bind(path) {
                Ok(_listener) => {
                    taken += 1;
                    thread::yield_now();
                    assert!(path.exists(), "another server has removed it");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}"),
            }
        }
    };
    for kind in KINDS {
        let (_folder, path) = folder();
        within("taking turns", move || {
            thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(|| take_turns(kind, &path)))));
        });
    }
}

/// As a server that forks its workers before they serve: one that ends does not take the path from the others.
#[test]
fn a_forked_process_leaves_the_path() {
    in_child(|| {
        let (_folder, path) = folder();
        let mut server = UnixStreamServer::bind(&path, echo).unwrap();
        // SAFETY: of the threads of this process only this one does anything, and its copy calls nothing that another may hold a lock of.
        match unsafe { libc::fork() } {
            0 => {
                drop(server);
                // SAFETY: it ends the process, without the destructors of what was copied.
                unsafe { libc::_exit(0) }
            }
            child => {
                let child = rustix::process::Pid::from_raw(child).expect("a process");
                rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap();
            }
        }
        let client = Client::connect(server.local_addr());
        let asking = std::thread::spawn(move || client.ask(b"hello"));
        assert!(server.handle_request().unwrap());
        assert_eq!(asking.join().unwrap(), b"hello");
        drop(server);
        assert!(!path.exists());
    });
}

/// As a daemon, which goes to the root after it has bound; a path to a deep folder would be too long for the system.
#[test]
fn a_relative_path_is_removed_from_another_folder() {
    in_child(|| {
        for kind in KINDS {
            let (folder, path) = folder();
            std::env::set_current_dir(&folder).unwrap();
            let listener = kind.bind(Path::new("socket")).unwrap();
            assert_eq!(listener.local_addr().as_path(), Some(Path::new("socket")));
            std::env::set_current_dir("/").unwrap();
            assert!(path.exists());
            drop(listener);
            assert!(!path.exists());
        }
    });
}

/// Whichever folder it is in when it serves again.
#[test]
fn a_relative_path_is_opened_again_where_it_was() {
    in_child(|| {
        let ((bound_in, path), (other, other_path)) = (folder(), folder());
        std::env::set_current_dir(&bound_in).unwrap();
        let mut listener = UnixStream::bind("socket").unwrap();
        for now_in in [&other, &bound_in] {
            std::env::set_current_dir(now_in).unwrap();
            listener.refuse();
            assert!(!path.exists());
            listener.reopen().unwrap();
            assert!(path.exists() && !other_path.exists());
        }
    });
}

/// Whatever the umask says.
#[test]
fn the_mode_is_as_asked_for() {
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let (_folder, path) = folder();
        let _stream = UnixStream::options().mode(mode).bind(&*path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        let (_folder, path) = folder();
        let _datagram = UnixDatagram::options().mode(mode).bind(&*path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_path_that_is_too_long_is_explained() {
    let (folder, _) = folder();
    let room = 107 - folder.path().as_os_str().len() - 1;
    let longest = folder.path().join("x".repeat(room));
    drop(UnixStream::bind(&*longest).unwrap());
    let too_long = folder.path().join("x".repeat(room + 1));
    for kind in KINDS {
        let error = kind.bind(&too_long).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("108 bytes, and the system takes at most 107"), "{error}");
    }
}

#[test]
fn without_a_name_there_is_nothing_to_listen_on() {
    for (kind, addr) in
        [(Kind::Stream, Addr::Unix(UnixName::Unnamed)), (Kind::Datagram, Addr::Unixgram(UnixName::Unnamed))]
    {
        let error = kind.bind(addr).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("expected a path or an abstract name"), "{error}");
    }
}

#[test]
fn a_missing_folder_is_an_error_with_the_path() {
    let (folder, _) = folder();
    let path = folder.path().join("missing/socket");
    let error = UnixStream::bind(&*path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

/// Linux takes 108 bytes, without a final zero, which this crate does not; a client may have such a path all the same.
#[test]
fn a_client_may_have_the_longest_path_of_all() {
    for kind in KINDS {
        let (folder, path) = folder();
        let (tell, told) = unbounded();
        let mut server = Server::new(kind.bind(&path).unwrap(), Sequential, move |request: &mut Request| {
            let _ = tell.send(request.peer_addr().is_unnamed());
            Ok(())
        });
        let mut client = Client::open(server.local_addr());
        let longest = 108 - folder.path().as_os_str().len() - 1;
        bind_to_bytes(&client, folder.path().join("x".repeat(longest)).as_os_str().as_bytes());
        rustix::net::connect(&client, &SocketAddrUnix::new(&*path).unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        let server = within("one request", move || server.handle_request().map(|_| server)).unwrap();
        assert!(receive("the peer's name", &told), "it is taken for one without a name");
        server.close().unwrap();
    }
}

/// Binds to a path that fills an address to the last byte.
fn bind_to_bytes(socket: impl AsFd, path: &[u8]) {
    // SAFETY: all zeros are an address.
    let mut addr: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    addr.sun_family = libc::AF_UNIX as libc::sa_family_t;
    assert_eq!(path.len(), addr.sun_path.len());
    addr.sun_path.iter_mut().zip(path).for_each(|(to, from)| *to = *from as libc::c_char);
    let length = size_of_val(&addr) as libc::socklen_t;
    // SAFETY: the address lives as long as the call.
    let result = unsafe { libc::bind(socket.as_fd().as_raw_fd(), (&raw const addr).cast(), length) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Anybody may lock a folder that he may read: a server starts there all the same, after it has waited for who might be replacing the file.
#[test]
fn somebody_may_have_locked_the_folder() {
    in_child(|| {
        let (folder, path) = folder();
        std::env::set_current_dir(&folder).unwrap();
        let locked = fs::File::open(folder.path()).unwrap();
        flock(&locked, FlockOperation::LockExclusive).unwrap();
        for (kind, path) in [(Kind::Stream, path), (Kind::Datagram, "datagrams".into())] {
            let began = Instant::now();
            let listener = within("binding", move || kind.bind(&path)).unwrap();
            assert_cut_at(Duration::from_secs(1), began.elapsed());
            drop(listener);
        }
    });
}

/// It has no file, and is free when its socket is closed.
#[test]
fn an_abstract_name_serves_and_is_free_again() {
    let (folder, _) = folder();
    let name = format!("@{}", folder.path().display());
    for scheme in ["unix", "unixgram"] {
        for _ in 0..2 {
            let url = format!("{scheme}://{name}");
            let listener = socketserver::listener::bind(&url).unwrap();
            assert_eq!(listener.local_addr().to_string(), url);
            assert_eq!(socketserver::listener::bind(&url).map(|_| ()).unwrap_err().kind(), ErrorKind::AddrInUse);
            let mut server = Server::new(listener, Sequential, echo);
            let mut client = Client::sending(server.local_addr(), b"hello");
            if scheme == "unix" {
                client.half_close().unwrap();
            }
            let server = within("one request", move || server.handle_request().map(|_| server)).unwrap();
            assert_eq!(client.take_bytes(5), b"hello");
            server.close().unwrap();
        }
    }
}

/// A client chooses its name by itself, and the log has it in many lines: when it is accepted, refused, and fails, and when it is gone.
#[test]
fn no_name_writes_lines_of_its_own_into_the_log() {
    in_child(|| {
        keep_log_from(LevelFilter::Debug);
        for (backend, refuses) in BackendName::ALL.into_iter().flat_map(|backend| [(backend, false), (backend, true)]) {
            let cell = Cell { backend, kind: SocketKind::UnixStream };
            let place = cell.place();
            let mut server = cell.bind(&place, |_: &mut Request| Err(io::Error::other("one\ntwo")));
            if refuses {
                server = server.max_connections(0).busy_reply("busy");
            }
            let running = Running::start(server);
            let mut client = Client::open(&running.addr);
            let name = format!("{}\nthree", place.url);
            rustix::net::bind(&client, &SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap()).unwrap();
            client.join().unwrap();
            assert!(client.is_hung_up());
            running.finish();
        }
        assert_eq!(kept_lines("\n"), [""; 0]);
        for what in ["accepted", "closed", "refusing", "refused", "request of"] {
            assert!(kept_lines(what).iter().any(|line| line.contains("\\nthree")), "{what}");
        }
    });
}

/// Two servers of one abstract name are told apart by nothing but the bytes of it.
#[test]
fn an_abstract_name_may_have_any_bytes() {
    let (folder, _) = folder();
    let mut name = folder.path().as_os_str().as_encoded_bytes().to_vec();
    name.extend([0, 255, b'/']);
    let addr = Addr::Unix(UnixName::Abstract(name));
    let listener = UnixStream::bind(&addr).unwrap();
    let _client = Client::connect(listener.local_addr());
    assert_eq!(listener.local_addr(), &addr);
}
