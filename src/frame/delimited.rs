//! [`Delimited`]: a byte string ends a frame.
//!
//! A frame is what comes before the delimiter. It costs a search of every byte. It is the wrong one for payloads that may contain
//! the delimiter, for which there is no escape here. As in Netty's `DelimiterBasedFrameDecoder`.

use std::io::{self, Write};

use memchr::memmem::Finder;

use super::{Decoded, Framing, MAX_FRAME_LENGTH, check_incoming, check_outgoing, invalid_input, write_pieces};

/// Frames that end with a byte string of one's choice, which is not given with them.
///
/// ```
/// use socketserver::frame::{Delimited, Frames};
///
/// let mut frames = Frames::new(&b"one--two--"[..], Delimited::new("--"));
/// assert_eq!(frames.next()?, Some(&b"one"[..]));
/// assert_eq!(frames.next()?, Some(&b"two"[..]));
/// assert_eq!(frames.next()?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Delimited {
    /// Looks for the delimiter, and contains it.
    finder: Finder<'static>,
    max_frame_length: usize,
}

impl Delimited {
    /// Frames of up to 8 MiB that end with `delimiter`.
    ///
    /// # Panics
    ///
    /// If the delimiter is empty.
    pub fn new(delimiter: impl AsRef<[u8]>) -> Delimited {
        assert!(!delimiter.as_ref().is_empty(), "a delimiter has at least one byte");
        Delimited { finder: Finder::new(delimiter.as_ref()).into_owned(), max_frame_length: MAX_FRAME_LENGTH }
    }

    /// The most bytes that a frame may have without its delimiter: 8 MiB by default.
    pub fn max_frame_length(mut self, bytes: usize) -> Delimited {
        self.max_frame_length = bytes;
        self
    }

    fn delimiter(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Whether the delimiter would be found in the payload, or begin in it and end behind it.
    fn is_in(&self, payload: &[u8]) -> bool {
        let delimiter = self.delimiter();
        let overlaps = |length| payload.ends_with(&delimiter[..length]) && delimiter.starts_with(&delimiter[length..]);
        self.finder.find(payload).is_some() || (1..delimiter.len()).any(overlaps)
    }
}

impl Framing for Delimited {
    fn decode(&self, bytes: &[u8], seen: usize) -> io::Result<Decoded> {
        // The delimiter may have begun in what was seen.
        let spanning = self.delimiter().len() - 1;
        let from = seen.min(bytes.len()).saturating_sub(spanning);
        let found = self.finder.find(&bytes[from..]).map(|at| from + at);
        // Without a delimiter, all that cannot be the beginning of one is payload.
        check_incoming(found.unwrap_or(bytes.len().saturating_sub(spanning)) as u128, self.max_frame_length)?;
        Ok(match found {
            Some(end) => Decoded::Frame { length: end + self.delimiter().len(), payload: 0..end },
            None => Decoded::More { until: None },
        })
    }

    fn write_frame(&self, to: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
        check_outgoing(payload, self.max_frame_length)?;
        if self.is_in(payload) {
            return Err(invalid_input("a payload cannot contain the delimiter that ends it"));
        }
        write_pieces(to, [payload, self.delimiter()])
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    fn write(delimiter: &str, payload: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = Vec::new();
        let result = Delimited::new(delimiter).max_frame_length(5).write_frame(&mut stream, payload);
        assert!(result.is_ok() || stream.is_empty());
        result.map(|()| stream)
    }

    #[test]
    fn a_delimiter_may_come_in_pieces() {
        let framing = Delimited::new("\r\n.\r\n");
        let stream = b"hello\r\n.\r\n";
        for seen in 0..stream.len() {
            assert_eq!(framing.decode(&stream[..stream.len() - 1], seen).unwrap(), Decoded::More { until: None });
            let found = framing.decode(stream, seen).unwrap();
            assert_eq!(found, Decoded::Frame { length: 10, payload: 0..5 });
        }
    }

    #[test]
    fn the_limit_is_without_the_delimiter() {
        let framing = Delimited::new("--").max_frame_length(3);
        assert_eq!(framing.decode(b"one--", 0).unwrap(), Decoded::Frame { length: 5, payload: 0..3 });
        assert_eq!(framing.decode(b"one-", 0).unwrap(), Decoded::More { until: None });
        assert_eq!(framing.decode(b"four--", 0).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(framing.decode(b"fours", 0).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn an_end_without_the_delimiter_is_an_error() {
        assert_eq!(Delimited::new("\n").decode_end(b"hello").unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_would_come_out_otherwise_is_not_written() {
        assert_eq!(write("--", b"one").unwrap(), b"one--");
        assert_eq!(write("--", b"").unwrap(), b"--");
        assert_eq!(write("ab", b"xa").unwrap(), b"xaab");
        for (delimiter, payload) in [("--", "a--b"), ("--", "one-"), ("aba", "xab"), ("--", "longer"), ("\0", "\0")] {
            assert_eq!(write(delimiter, payload.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidInput, "{payload}");
        }
    }
}
