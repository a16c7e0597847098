//! The file of a Unix socket: who may replace it, and who removes it.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::addr::Addr;
use crate::socket;

/// A path that a server has bound, and which file that made. Dropping it removes the file if it is still that one, in the process that
/// bound it: others, which that has forked, may still serve there. It is to be dropped before the socket is closed: another server may
/// take the path from then on, and must not lose it.
#[derive(Debug)]
pub(super) struct Claim {
    /// Absolute: the process may be in another folder by the time this is dropped, as a daemon is.
    path: PathBuf,
    device: u64,
    inode: u64,
    process: u32,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if process::id() != self.process {
            return;
        }
        if let Ok(found) = fs::symlink_metadata(&self.path) {
            if (found.dev(), found.ino()) == (self.device, self.inode) {
                let _ = fs::remove_file(&self.path);
            }
        }
    }
}

/// Binds a socket to a Unix address and makes it ready with `prepare`. For an address that is a path, returns the claim to it.
///
/// A file that is in the way is replaced only if it is a socket that nobody serves: a connect to it is refused.
pub(super) fn bind(
    fd: &OwnedFd,
    addr: &Addr,
    mode: Option<u32>,
    prepare: impl FnOnce() -> io::Result<()>,
) -> io::Result<Option<Claim>> {
    let Some(path) = addr.as_path() else {
        socket::bind(fd.as_fd(), addr)?;
        prepare()?;
        return Ok(None);
    };
    let absolute = std::path::absolute(path)?;
    // Between looking and replacing, no other server must do the same. Where there is no lock to be had, all but that is kept.
    let _lock = lock_folder(path);
    // The file is made with the socket's own mode here, so that it never has a wider one.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(mode) = mode {
        rustix::fs::fchmod(fd, Mode::from_bits_truncate(mode))?;
    }
    match socket::bind(fd.as_fd(), addr) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            match remove_stale(path, addr) {
                // Its server has just ended, and done that.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result?,
            }
            socket::bind(fd.as_fd(), addr)?;
        }
        result => result?,
    }
    let made = fs::symlink_metadata(path)?;
    let claim = Claim { path: absolute, device: made.dev(), inode: made.ino(), process: process::id() };
    if let Some(mode) = mode {
        // And what the umask has taken away is given back.
        set_mode(path, mode)?;
    }
    prepare()?;
    Ok(Some(claim))
}

/// Not by the path, where that can be: whoever may rename files in the folder could put a link there, to a file of the server's user.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use rustix::fs::FileType;
    use std::os::fd::AsRawFd;

    let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::Socket {
        return Err(in_use("it is not a socket"));
    }
    let mode = Permissions::from_mode(mode);
    match fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), mode.clone()) {
        // Without `/proc` there is no other way.
        Err(error) if error.kind() == ErrorKind::NotFound => fs::set_permissions(path, mode),
        result => result,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn lock_folder(path: &Path) -> Option<OwnedFd> {
    /// Servers hold the lock for a moment. Anybody who may read the folder could hold it for longer, and keep them from starting.
    const PATIENCE: Duration = Duration::from_secs(1);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Opening a pipe would wait for who writes to it.
    let folder = rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let until = Instant::now() + PATIENCE;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
            Err(_) => return None,
        }
    }
}

/// Removes the socket file of a server that is gone.
fn remove_stale(path: &Path, addr: &Addr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(in_use("it is not a socket"));
    }
    let probe = socket::open(addr)?;
    rustix::io::ioctl_fionbio(&probe, true)?;
    match socket::connect(probe.as_fd(), addr) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
        // Also when its queue is full, or it is a socket of the other kind: somebody is there.
        _ => Err(in_use("a server is listening there")),
    }
}

fn in_use(why: &str) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, format!("the path exists, and {why}"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_socket_is_given_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let [socket, file, link, other_link] =
            ["socket", "file", "link", "other link"].map(|name| folder.path().join(name));
        let _listener = UnixListener::bind(&socket).unwrap();
        fs::write(&file, "secret").unwrap();
        symlink(&file, &link).unwrap();
        symlink(&socket, &other_link).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let before = [mode(&file), mode(&socket)];
        for path in [&file, &link, &other_link] {
            assert_eq!(set_mode(path, 0o606).unwrap_err().kind(), ErrorKind::AddrInUse);
        }
        assert_eq!([mode(&file), mode(&socket)], before);
        set_mode(&socket, 0o606).unwrap();
        assert_eq!(mode(&socket), 0o606);
    }
}
