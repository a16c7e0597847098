//! [`Framing`]: where messages end on a stream; [`Frames`] reads them.
//!
//! # Sticky packets: why a stream needs framing
//!
//! TCP and Unix stream sockets carry *bytes*. They keep the order of the bytes and lose none, but they do not know where one
//! `send` ended and the next one began. The receiver is given what has arrived:
//!
//! | sent | what reads may give |
//! |---|---|
//! | `hello`, `world` | `helloworld`: two messages stick together, since both were there before the first read |
//! | `hello`, `world` | `hel`, `loworld`: the network cut them elsewhere |
//! | a message of 100,000 bytes | two reads or more, each of up to 64 KiB, which is this crate's buffer |
//!
//! Each of these is rare on a quiet loopback interface and common on a busy network, so a program that takes one read for one
//! message passes its tests and fails in use. Here is the first line, without framing and with it:
//!
//! ```
//! use std::io::{BufReader, Read, Write};
//! use std::net::{TcpListener, TcpStream};
//! use socketserver::frame::{Frames, Framing, LengthDelimited};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//!
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! client.write_all(b"hello")?;
//! client.write_all(b"world")?;
//! drop(client);
//! let mut text = String::new();
//! listener.accept()?.0.read_to_string(&mut text)?;
//! assert_eq!(text, "helloworld"); // And where did the first message end?
//!
//! let framing = LengthDelimited::new();
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! framing.write_frame(&mut client, b"hello")?;
//! framing.write_frame(&mut client, b"world")?;
//! drop(client);
//! let mut frames = Frames::new(BufReader::new(listener.accept()?.0), framing);
//! assert_eq!(frames.next()?, Some(&b"hello"[..]));
//! assert_eq!(frames.next()?, Some(&b"world"[..]));
//! assert_eq!(frames.next()?, None);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! UDP and Unix datagram sockets do keep the boundaries: one `send` is one datagram, which comes whole or not at all. But UDP
//! loses datagrams, doubles and reorders them, and one that is longer than the receiver's buffer is truncated
//! ([`Request::is_truncated`](crate::Request::is_truncated)). So there a datagram is the frame. Several frames in one datagram
//! are read like those of a stream that ends after them.
//!
//! # Which one when
//!
//! | framing | a frame is | right for | wrong for |
//! |---|---|---|---|
//! | [`LengthDelimited`] | its length and then so many bytes | anything, and the first choice | what people type |
//! | [`Lines`] | the bytes before LF or CRLF | text, people, `nc` | binary data, which may contain an LF |
//! | [`Delimited`] | the bytes before some byte string | protocols that say so | payloads that may contain it |
//! | [`Fixed`] | always so many bytes | records | messages of different lengths |
//!
//! With the feature `json`, a frame of any framing may be JSON: `Frames::next_json`, `write_json`. A large body is not a frame at
//! all: send a frame that says how long it is, then the bytes; [`Frames::body`] streams them.
//!
//! # On a request
//!
//! [`ReadHalf::frames`](crate::ReadHalf::frames) and [`Request::frames`](crate::Request::frames) give the frames of a
//! connection, and let a drain know where it may end it: at once while it waits for a frame's first byte, and not before a frame
//! that has begun is answered.
//!
//! ```
//! use std::io;
//! use socketserver::frame::{Framing, LengthDelimited};
//! use socketserver::{EventLoopTcpServer, Request};
//!
//! const FRAMING: LengthDelimited = LengthDelimited::new();
//!
//! fn echo(request: &mut Request) -> io::Result<()> {
//!     let (rfile, mut wfile) = request.split();
//!     let mut frames = rfile.frames(FRAMING);
//!     while let Some(frame) = frames.next()? {
//!         FRAMING.write_frame(&mut wfile, frame)?;
//!     }
//!     Ok(())
//! }
//! # let _ = EventLoopTcpServer::bind("127.0.0.1:0", echo)?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! # Limits
//!
//! Every framing has a limit for what one frame may be: 8 MiB, for [`Lines`] 64 KiB, until `max_frame_length` changes it; for [`Fixed`],
//! its size. It is checked as soon as a frame's length is known, before anything is allocated; what is allocated then grows with the bytes
//! that really come.

mod body;
mod delimited;
mod fixed;
mod frames;
#[cfg(feature = "json")]
mod json;
mod length_delimited;
mod lines;
mod pieces;

use std::io::{self, ErrorKind, Write};
use std::ops::Range;

pub use body::Body;
pub use delimited::Delimited;
pub use fixed::Fixed;
pub use frames::Frames;
#[cfg(feature = "json")]
pub use json::write_json;
pub use length_delimited::LengthDelimited;
pub use lines::Lines;
pub use pieces::write_pieces;

/// The most that a frame may be by default: 8 MiB. (tokio-util's number.)
const MAX_FRAME_LENGTH: usize = 8 * 1024 * 1024;

/// Tells where frames end in a stream of bytes, and writes them so.
///
/// The duties of a framing: it decides by the bytes alone, however they were cut on their way; it says no to a frame that is over
/// its limit as soon as that is certain; it panics on no input; and what [`write_frame`](Framing::write_frame) has written,
/// [`decode`](Framing::decode) gives back.
///
/// ```
/// use std::io::{self, Write};
/// use socketserver::frame::{Decoded, Frames, Framing, write_pieces};
///
/// /// Frames of up to 255 bytes, after a byte that tells their length.
/// struct Short;
///
/// impl Framing for Short {
///     fn decode(&self, bytes: &[u8], _seen: usize) -> io::Result<Decoded> {
///         let end = 1 + usize::from(bytes[0]);
///         if bytes.len() < end {
///             return Ok(Decoded::More { until: Some(end) });
///         }
///         Ok(Decoded::Frame { length: end, payload: 1..end })
///     }
///
///     fn write_frame(&self, to: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
///         let length = u8::try_from(payload.len()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
///         write_pieces(to, [&[length], payload])
///     }
/// }
///
/// let mut frames = Frames::new(&b"\x02hi\x03you"[..], Short);
/// assert_eq!(frames.next()?, Some(&b"hi"[..]));
/// assert_eq!(frames.next()?, Some(&b"you"[..]));
/// # Ok::<(), io::Error>(())
/// ```
pub trait Framing {
    /// Looks for a frame at the start of `bytes`, which are not empty. Earlier calls have been given the first `seen` of them and
    /// asked for more; a framing that searches need not search those again.
    ///
    /// # Errors
    ///
    /// `InvalidData` if this is no frame, or one over the limit.
    fn decode(&self, bytes: &[u8], seen: usize) -> io::Result<Decoded>;

    /// Says what of `rest` is a payload when the stream has ended within a frame. `rest` is what has come of that frame, at least one
    /// byte.
    ///
    /// # Errors
    ///
    /// By default, `UnexpectedEof`.
    fn decode_end(&self, rest: &[u8]) -> io::Result<Range<usize>> {
        let message = format!("the stream ended in the middle of a frame, after {} bytes of it", rest.len());
        Err(io::Error::new(ErrorKind::UnexpectedEof, message))
    }

    /// Writes one frame, with one call of [`Write::write_vectored`] if that takes everything, as a [`Request`](crate::Request)'s
    /// does. A [`TcpStream`](std::net::TcpStream) takes what has room, and is called again for the rest.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the payload is over the limit, or this framing cannot express it; nothing has been written then. Those of
    /// the writer; a part of the frame may have been written then.
    fn write_frame(&self, to: &mut dyn Write, payload: &[u8]) -> io::Result<()>;
}

/// What a [`Framing`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The beginning of a frame.
    More {
        /// How many bytes there must be, with those that there are, before it is worth asking again; `None` if any could be the
        /// last.
        until: Option<usize>,
    },
    /// A whole frame.
    Frame {
        /// How many bytes it is, with all that is around its payload; not 0.
        length: usize,
        /// Where in it the payload lies.
        payload: Range<usize>,
    },
}

impl<F: Framing + ?Sized> Framing for &F {
    fn decode(&self, bytes: &[u8], seen: usize) -> io::Result<Decoded> {
        (**self).decode(bytes, seen)
    }

    fn decode_end(&self, rest: &[u8]) -> io::Result<Range<usize>> {
        (**self).decode_end(rest)
    }

    fn write_frame(&self, to: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
        (**self).write_frame(to, payload)
    }
}

/// So that a program can choose one at run time.
impl<F: Framing + ?Sized> Framing for Box<F> {
    fn decode(&self, bytes: &[u8], seen: usize) -> io::Result<Decoded> {
        (**self).decode(bytes, seen)
    }

    fn decode_end(&self, rest: &[u8]) -> io::Result<Range<usize>> {
        (**self).decode_end(rest)
    }

    fn write_frame(&self, to: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
        (**self).write_frame(to, payload)
    }
}

/// Fails if a frame that comes in is over the limit. `length` may be what its header claims.
fn check_incoming(length: u128, limit: usize) -> io::Result<()> {
    if length > limit as u128 {
        let message = format!("a frame of at least {length} bytes comes in, and the limit is {limit}");
        return Err(io::Error::new(ErrorKind::InvalidData, message));
    }
    Ok(())
}

/// Fails if a payload that is to go out is over the limit.
fn check_outgoing(payload: &[u8], limit: usize) -> io::Result<()> {
    if payload.len() > limit {
        return Err(invalid_input(format!(
            "a frame of {} bytes is to be sent, and the limit is {limit}",
            payload.len()
        )));
    }
    Ok(())
}

fn invalid_input(message: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framing_is_chosen_at_run_time() {
        let framings: [Box<dyn Framing>; 3] =
            [Box::new(Lines::new()), Box::new(LengthDelimited::new()), Box::new(Delimited::new("\0"))];
        for framing in framings {
            let mut stream = Vec::new();
            framing.write_frame(&mut stream, b"hello").unwrap();
            assert_eq!(Frames::new(&stream[..], &framing).next().unwrap(), Some(&b"hello"[..]));
        }
    }
}
