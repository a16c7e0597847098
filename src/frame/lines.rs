//! [`Lines`]: text, line by line.
//!
//! A frame is what comes before an LF or a CRLF. It costs a search of every byte, which is fast. It is the wrong one for payloads
//! that may contain an LF. As in std's `BufRead::lines`, and every protocol that people can type.

use std::io::{self, Write};
use std::ops::Range;

use super::{Decoded, Framing, check_incoming, check_outgoing, invalid_input, write_pieces};

/// What a line may be: no more than a person would type, and short enough to hold one for each of many connections.
const MAX_LINE_LENGTH: usize = 64 * 1024;

/// Lines that end with LF or CRLF. They are given without the end, and written with an LF, unless the options say otherwise.
///
/// If the stream ends without an end of line, what came is the last line, as in std's [`lines`](std::io::BufRead::lines), so that
/// `printf hello | nc` works. To take a line without its end for broken, use [`Delimited`](super::Delimited) with `"\n"`.
///
/// Lines are bytes: check them with [`str::from_utf8`](std::str::from_utf8) where they are to be text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    keep_end: bool,
    crlf: bool,
    max_frame_length: usize,
}

impl Lines {
    /// Lines of up to 64 KiB, given without their end.
    pub const fn new() -> Lines {
        Lines { keep_end: false, crlf: false, max_frame_length: MAX_LINE_LENGTH }
    }

    /// Gives lines with the end that they had: LF, CRLF, or none if it is the last one. Such a line is written as it is, and one
    /// without an end gets one.
    pub const fn keep_end(mut self) -> Lines {
        self.keep_end = true;
        self
    }

    /// Ends lines that are written with CRLF, as SMTP and HTTP do. Both ends are always understood.
    pub const fn crlf(mut self) -> Lines {
        self.crlf = true;
        self
    }

    /// The most bytes that a line may have without its end: 64 KiB by default.
    pub const fn max_frame_length(mut self, bytes: usize) -> Lines {
        self.max_frame_length = bytes;
        self
    }
}

impl Default for Lines {
    fn default() -> Lines {
        Lines::new()
    }
}

impl Framing for Lines {
    fn decode(&self, bytes: &[u8], seen: usize) -> io::Result<Decoded> {
        let seen = seen.min(bytes.len());
        let Some(end) = memchr::memchr(b'\n', &bytes[seen..]).map(|at| seen + at) else {
            // The last byte may be half of an end.
            check_incoming(without_cr(bytes).len() as u128, self.max_frame_length)?;
            return Ok(Decoded::More { until: None });
        };
        let line = without_cr(&bytes[..end]).len();
        check_incoming(line as u128, self.max_frame_length)?;
        Ok(Decoded::Frame { length: end + 1, payload: 0..if self.keep_end { end + 1 } else { line } })
    }

    fn decode_end(&self, rest: &[u8]) -> io::Result<Range<usize>> {
        check_incoming(rest.len() as u128, self.max_frame_length)?;
        Ok(0..rest.len())
    }

    fn write_frame(&self, to: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
        let (line, end) = match payload.strip_suffix(b"\n") {
            Some(line) if self.keep_end => (without_cr(line), &b""[..]),
            // A CR at the end of the line itself is read as such only if another one follows.
            _ if self.crlf || payload.ends_with(b"\r") => (payload, &b"\r\n"[..]),
            _ => (payload, &b"\n"[..]),
        };
        check_outgoing(line, self.max_frame_length)?;
        if memchr::memchr(b'\n', line).is_some() {
            return Err(invalid_input("a line cannot contain a line feed"));
        }
        write_pieces(to, [payload, end])
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::frame::Frames;

    fn read(framing: Lines, stream: &[u8]) -> io::Result<Vec<String>> {
        let mut frames = Frames::new(stream, framing);
        let mut lines = Vec::new();
        while let Some(line) = frames.next()? {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
        }
        Ok(lines)
    }

    fn write(framing: Lines, line: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = Vec::new();
        let result = framing.write_frame(&mut stream, line);
        assert!(result.is_ok() || stream.is_empty());
        result.map(|()| stream)
    }

    #[test]
    fn both_ends_are_understood() {
        let stream = b"one\ntwo\r\n\n\r\n\r\r\nlast";
        assert_eq!(read(Lines::new(), stream).unwrap(), ["one", "two", "", "", "\r", "last"]);
        let kept = ["one\n", "two\r\n", "\n", "\r\n", "\r\r\n", "last"];
        assert_eq!(read(Lines::new().keep_end(), stream).unwrap(), kept);
        assert_eq!(read(Lines::new(), b"half an end\r").unwrap(), ["half an end\r"]);
        assert!(read(Lines::new(), b"").unwrap().is_empty());
    }

    #[test]
    fn lines_are_written_with_their_end() {
        assert_eq!(write(Lines::new(), b"one").unwrap(), b"one\n");
        assert_eq!(write(Lines::new(), b"").unwrap(), b"\n");
        assert_eq!(write(Lines::new().crlf(), b"one").unwrap(), b"one\r\n");
        // This comes out as it went in.
        assert_eq!(write(Lines::new(), b"one\r").unwrap(), b"one\r\r\n");
        let keep = Lines::new().keep_end();
        assert_eq!(write(keep, b"one\n").unwrap(), b"one\n");
        assert_eq!(write(keep.crlf(), b"one\n").unwrap(), b"one\n");
        assert_eq!(write(keep, b"one\r\n").unwrap(), b"one\r\n");
        assert_eq!(write(keep, b"one").unwrap(), b"one\n");
    }

    #[test]
    fn two_lines_are_not_one() {
        assert_eq!(write(Lines::new(), b"one\ntwo").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(write(Lines::new(), b"one\n").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(write(Lines::new().keep_end(), b"one\ntwo\n").unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn the_limit_is_without_the_end() {
        for framing in [Lines::new().max_frame_length(3), Lines::new().keep_end().max_frame_length(3)] {
            for fits in [&b"one\n"[..], b"one\r\n", b"one"] {
                assert_eq!(read(framing, fits).unwrap().len(), 1, "{fits:?}");
            }
            for too_long in [&b"four\n"[..], b"four\r\n", b"four", b"one\r", b"one\r\r\n"] {
                assert_eq!(read(framing, too_long).unwrap_err().kind(), ErrorKind::InvalidData, "{too_long:?}");
            }
            assert_eq!(framing.decode(b"one\r", 0).unwrap(), Decoded::More { until: None });
            assert!(framing.decode(b"four", 0).is_err());
            assert!(write(framing, b"one").is_ok());
            assert_eq!(write(framing, b"four").unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn what_was_seen_is_not_searched_again() {
        let found = Lines::new().decode(b"a\nb\n", 2).unwrap();
        assert_eq!(found, Decoded::Frame { length: 4, payload: 0..3 });
        assert_eq!(Lines::new().decode(b"a\n", 100).unwrap(), Decoded::More { until: None });
    }
}
