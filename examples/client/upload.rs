//! [`upload`]: sends files to the example `file_upload`.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use socketserver::frame::{Frames, LengthDelimited, write_json};

use crate::FRAMING;
use crate::connection::Connection;

/// How much is read and sent at a time.
const PIECE: usize = 256 * 1024;

#[derive(Serialize)]
struct Header<'a> {
    name: &'a str,
    size: u64,
    sha256: String,
}

#[derive(Deserialize)]
struct Reply {
    ok: bool,
    error: Option<String>,
}

/// Sends the files one after another, each under its own name.
pub fn upload(connection: Connection, files: &[impl AsRef<Path>]) -> io::Result<()> {
    let mut replies = Frames::new(BufReader::new(connection.for_thread()), FRAMING);
    for path in files.iter().map(AsRef::as_ref) {
        upload_one(&connection, &mut replies, path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

fn upload_one(
    connection: &Connection,
    replies: &mut Frames<BufReader<Connection>, LengthDelimited>,
    path: &Path,
) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the file needs a name in UTF-8"))?;
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let sha256 = sha256(&mut file, &bar(name, "checksum", size))?;
    file.rewind()?;

    let mut connection = connection.for_thread();
    let sent = write_json(&FRAMING, &mut connection, &Header { name, size, sha256 })
        .and_then(|()| send(&mut connection, &mut file, size, &bar(name, "sending", size)));
    match (sent, replies.next_json::<Reply>()) {
        // Also where it could not be sent to the end: the server knows why.
        (_, Ok(Some(Reply { ok: false, error }))) => {
            Err(io::Error::other(format!("refused: {}", error.as_deref().unwrap_or("the server does not say why"))))
        }
        (Err(error), _) => Err(error),
        (Ok(()), Ok(Some(_))) => {
            println!("{name}: {size} bytes");
            Ok(())
        }
        (Ok(()), Ok(None)) => {
            Err(io::Error::new(ErrorKind::UnexpectedEof, "the server has closed the connection without an answer"))
        }
        (Ok(()), Err(error)) => Err(error),
    }
}

fn sha256(file: &mut File, bar: &ProgressBar) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        hash.update(&piece[..count]);
        bar.inc(count as u64);
    }
    bar.finish_and_clear();
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Sends `size` bytes, or fewer if the server answers before it has all of them: then it does not want them.
fn send(connection: &mut Connection, file: &mut File, size: u64, bar: &ProgressBar) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut left = size;
    while left > 0 && !has_answered(connection)? {
        let wanted = left.min(PIECE as u64) as usize;
        let count = file.read(&mut piece[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file has become shorter meanwhile"));
        }
        connection.write_all(&piece[..count])?;
        left -= count as u64;
        bar.inc(count as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

fn has_answered(connection: &Connection) -> io::Result<bool> {
    let mut fds = [PollFd::new(connection, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}

/// A bar on standard error, if that is a terminal.
fn bar(name: &str, what: &str, size: u64) -> ProgressBar {
    let template = "{prefix}: {msg} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(size).with_style(style).with_prefix(name.to_string()).with_message(what.to_string())
}
