//! Takes files and keeps them in a folder.
//!
//! ```text
//! cargo run --release --example file_upload
//! cargo run --release --example file_upload -- --server event-loop --dir /tmp/uploads --overwrite
//! ```
//!
//! Then try `cargo run --release --example client -- 127.0.0.1:9999 upload README.md`.
//!
//! A request is a header and the bytes of a file. The header comes after its length in 4 bytes, big-endian, and is JSON:
//! `{"name": "README.md", "size": 1234, "sha256": "64 hexadecimal digits"}`. The reply is JSON after its length, too: `{"ok": true}`,
//! or `{"ok": false, "error": "..."}`. It may come before all bytes were sent. Many files may be sent over a connection.
//!
//! A file appears under its name when it is complete and its checksum is right, or not at all. Until then it has a name that begins
//! with a dot, which no upload can have.
//!
//! Whoever can connect can fill the disk: `--max-size` is for each file, and nothing limits how many there are.

#[path = "../options/mod.rs"]
mod options;
mod upload;

use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use socketserver::frame::{Frames, LengthDelimited, write_json};
use socketserver::{Addr, Request, RequestHandler};
use upload::{Header, Store};

/// A name has 255 bytes at the most, which JSON may write as six times as many.
const FRAMING: LengthDelimited = LengthDelimited::new().max_frame_length(4 * 1024);

/// How much of a file is in memory at a time: enough that going to another thread with it does not matter.
const PIECE: u64 = 256 * 1024;

/// How often an upload is logged.
const PROGRESS: Duration = Duration::from_secs(1);

struct FileUpload {
    store: Arc<Store>,
}

type Requests<'a> = Frames<&'a mut Request, LengthDelimited>;

impl RequestHandler for FileUpload {
    fn handle(&mut self, request: &mut Request) -> io::Result<()> {
        let mut requests = request.frames(FRAMING);
        loop {
            match requests.next_json::<Header>() {
                Ok(None) => return Ok(()),
                Ok(Some(header)) => self.receive(&mut requests, header)?,
                // Nobody knows where the next header would begin.
                Err(error) => return Err(say(&mut requests, error)),
            }
        }
    }
}

impl FileUpload {
    /// Receives a file. Fails only if the connection cannot go on.
    fn receive(&self, requests: &mut Requests<'_>, header: Header) -> io::Result<()> {
        if header.size > self.store.max_size {
            // So much is not even skipped.
            let message = format!("{} bytes are more than the {} that are allowed", header.size, self.store.max_size);
            return Err(say(requests, io::Error::new(ErrorKind::InvalidData, message)));
        }
        let peer = requests.get_mut().peer_addr().clone();
        let mut left = header.size;
        log::info!("{peer} sends {:?}, {left} bytes", header.name);
        let stored = self.store_body(requests, header, &mut left);
        // A client that sends everything before it reads finds its answer then.
        let rest = requests.body(left);
        drop(rest);
        match stored {
            Ok(()) => write_json(&FRAMING, requests.get_mut(), &Reply { ok: true, error: None }),
            Err(Failed::Connection(error)) => Err(say(requests, error)),
            Err(Failed::Upload(error)) => {
                log::warn!("{peer}: not stored: {error}");
                tell(requests, &error)
            }
        }
    }

    /// Everything that may wait for a disk is offloaded. Says in `left` what of the body is still to come.
    fn store_body(&self, requests: &mut Requests<'_>, header: Header, left: &mut u64) -> Result<(), Failed> {
        let (name, size) = (header.name.clone(), header.size);
        let store = self.store.clone();
        let mut upload = offload(requests, move || store.begin(header))?;
        let mut piece = Vec::new();
        let mut logged = Instant::now();
        while *left > 0 {
            let length = PIECE.min(*left);
            piece.resize(length as usize, 0);
            requests.body(length).read_exact(&mut piece).map_err(Failed::Connection)?;
            *left -= length;
            (upload, piece) = offload(requests, move || upload.write(&piece).map(|upload| (upload, piece)))?;
            if logged.elapsed() >= PROGRESS {
                logged = Instant::now();
                let percent = 100 * u128::from(size - *left) / u128::from(size);
                log::info!("{} sends {name:?}: {percent}% of {size} bytes", requests.get_mut().peer_addr());
            }
        }
        offload(requests, move || upload.finish())?;
        log::info!("{} has sent {name:?}, {size} bytes", requests.get_mut().peer_addr());
        Ok(())
    }
}

/// Why an upload was not stored.
enum Failed {
    /// The client is told, and may send the next one.
    Upload(io::Error),
    Connection(io::Error),
}

fn offload<T: Send + 'static>(
    requests: &mut Requests<'_>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failed> {
    requests.get_mut().offload(work).map_err(Failed::Connection)?.map_err(Failed::Upload)
}

#[derive(Serialize)]
struct Reply {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn tell(requests: &mut Requests<'_>, error: &io::Error) -> io::Result<()> {
    write_json(&FRAMING, requests.get_mut(), &Reply { ok: false, error: Some(error.to_string()) })
}

/// Tells the client, if it may be listening, why the connection ends, and gives that back.
fn say(requests: &mut Requests<'_>, error: io::Error) -> io::Error {
    if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::TimedOut | ErrorKind::UnexpectedEof) {
        // It was worth trying.
        let _ = tell(requests, &error);
    }
    error
}

/// Takes files and keeps them in a folder.
#[derive(Parser)]
struct Arguments {
    /// Where to keep the files; it is made if it does not exist
    #[arg(long, value_name = "FOLDER", default_value = "uploads")]
    dir: PathBuf,

    /// The largest file that is taken [default: 4 GiB]
    #[arg(long, value_name = "BYTES", default_value = "4294967296", hide_default_value = true)]
    max_size: u64,

    /// Replace files that exist, rather than refuse their names
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    options: options::Options,
}

fn main() -> ExitCode {
    let Arguments { dir, max_size, overwrite, options } = Arguments::parse();
    if let Addr::Udp(_) | Addr::Unixgram(_) = options.bind() {
        eprintln!("error: files come over a connection, not in datagrams: --bind tcp://HOST:PORT or unix:///PATH");
        return ExitCode::from(2);
    }
    if let Err(error) = std::fs::create_dir_all(&dir) {
        eprintln!("error: cannot make the folder {}: {error}", dir.display());
        return ExitCode::FAILURE;
    }
    let store = Arc::new(Store { dir, max_size, overwrite });
    options.serve(move || FileUpload { store: store.clone() }, client)
}

fn client(addr: &Addr) -> String {
    format!("cargo run --release --example client -- {addr} upload README.md")
}
