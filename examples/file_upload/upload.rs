//! [`Store`]: the folder; [`Upload`]: a file that is not complete yet.

use std::fs::Permissions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// What a client says of a file before its bytes.
#[derive(Deserialize)]
pub struct Header {
    pub name: String,
    pub size: u64,
    pub sha256: String,
}

/// Where files are kept, and which.
pub struct Store {
    pub dir: PathBuf,
    pub max_size: u64,
    pub overwrite: bool,
}

/// A file that comes in, in the folder where it will stay. It is removed when this is dropped.
pub struct Upload {
    file: NamedTempFile,
    hash: Sha256,
    sha256: String,
    target: PathBuf,
    overwrite: bool,
}

impl Store {
    /// Begins an upload, unless it is certain now that it would be refused in the end.
    pub fn begin(&self, header: Header) -> io::Result<Upload> {
        let Header { name, sha256, .. } = header;
        check_name(&name)?;
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refused("sha256 must be 64 hexadecimal digits"));
        }
        let target = self.dir.join(&name);
        if !self.overwrite && target.symlink_metadata().is_ok() {
            return Err(taken());
        }
        // With the rights of any new file, where that of a temporary one would be for its owner alone.
        let rights = Permissions::from_mode(0o666);
        let file = tempfile::Builder::new().prefix(".upload-").permissions(rights).tempfile_in(&self.dir)?;
        Ok(Upload { file, hash: Sha256::new(), sha256, target, overwrite: self.overwrite })
    }
}

impl Upload {
    /// Adds to the file.
    pub fn write(mut self, bytes: &[u8]) -> io::Result<Upload> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(self)
    }

    /// Checks the file, and gives it its name.
    pub fn finish(self) -> io::Result<()> {
        let sha256: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if !sha256.eq_ignore_ascii_case(&self.sha256) {
            return Err(refused("the bytes that came have another sha256"));
        }
        // Before it has its name: then that never stands for half a file, also after a power failure.
        self.file.as_file().sync_data()?;
        let kept = if self.overwrite {
            self.file.persist(&self.target)
        } else {
            // Of two uploads with the same name that come at the same time, the first to end is kept.
            self.file.persist_noclobber(&self.target)
        };
        match kept {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(taken()),
            Err(error) => Err(error.error),
        }
    }
}

/// Lets through what names a file in the folder itself, and is no trap for whoever lists it.
fn check_name(name: &str) -> io::Result<()> {
    match name {
        "" => Err(refused("the name is empty")),
        _ if name.starts_with('.') => Err(refused("the name begins with a dot")),
        _ if name.contains(['/', '\\']) => Err(refused("the name contains a separator")),
        _ if name.chars().any(char::is_control) => Err(refused("the name contains a control character")),
        _ if name.len() > 255 => Err(refused("the name is longer than 255 bytes")),
        _ => Ok(()),
    }
}

fn taken() -> io::Error {
    io::Error::new(ErrorKind::AlreadyExists, "there is a file of that name")
}

fn refused(message: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, message)
}
