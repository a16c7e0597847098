//! [`Body`]: the bytes between two frames.

use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read};

use super::{Frames, Framing};

/// A body of a known length behind a frame, to be read as it comes: from [`Frames::body`].
///
/// It ends after exactly that many bytes, or fails with `UnexpectedEof` if the stream ends before. What is not read of it,
/// [`Frames::next`] skips.
///
/// A body is [`BufRead`], so it can be read without a copy; with [`io::copy`] it goes to a file through 8 KiB on the stack.
pub struct Body<'a, R: BufRead, F: Framing> {
    frames: &'a mut Frames<R, F>,
    left: u64,
}

impl<'a, R: BufRead, F: Framing> Body<'a, R, F> {
    pub(super) fn new(frames: &'a mut Frames<R, F>, length: u64) -> Body<'a, R, F> {
        Body { frames, left: length }
    }

    /// How many bytes are still to be read.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// As much of `length` as belongs to the body.
    fn limit(&self, length: usize) -> usize {
        usize::try_from(self.left).map_or(length, |left| left.min(length))
    }
}

impl<R: BufRead, F: Framing> Read for Body<'_, R, F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.limit(into.len());
        if count == 0 {
            return Ok(0);
        }
        self.frames.skip_body()?;
        // Not through `fill_buf`: a reader may fill a large buffer without using its own.
        let read = self.frames.read(&mut into[..count])?.min(count);
        if read == 0 {
            return Err(cut_short(self.left));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl<R: BufRead, F: Framing> BufRead for Body<'_, R, F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        self.frames.skip_body()?;
        let count = self.frames.fill(false)?;
        if count == 0 {
            return Err(cut_short(self.left));
        }
        let count = self.limit(count);
        let bytes = self.frames.reader.fill_buf()?;
        Ok(&bytes[..count.min(bytes.len())])
    }

    fn consume(&mut self, count: usize) {
        let count = self.limit(count);
        self.frames.reader.consume(count);
        self.left -= count as u64;
    }
}

impl<R: BufRead, F: Framing> Drop for Body<'_, R, F> {
    fn drop(&mut self) {
        self.frames.unread = self.frames.unread.saturating_add(self.left);
    }
}

impl<R: BufRead, F: Framing> fmt::Debug for Body<'_, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("left", &self.left).finish_non_exhaustive()
    }
}

pub(super) fn cut_short(left: u64) -> io::Error {
    let message = format!("the stream ended in the middle of a body, {left} bytes before its end");
    io::Error::new(ErrorKind::UnexpectedEof, message)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::frame::Lines;

    fn frames(stream: &[u8]) -> Frames<BufReader<&[u8]>, Lines> {
        Frames::new(BufReader::with_capacity(3, stream), Lines::new())
    }

    #[test]
    fn two_bodies_follow_one_frame() {
        let mut frames = frames(b"3 4\nonefourlast\n");
        assert_eq!(frames.next().unwrap(), Some(&b"3 4"[..]));
        let mut text = String::new();
        frames.body(3).read_to_string(&mut text).unwrap();
        frames.body(4).read_to_string(&mut text).unwrap();
        frames.body(0).read_to_string(&mut text).unwrap();
        assert_eq!(text, "onefour");
        assert_eq!(frames.next().unwrap(), Some(&b"last"[..]));
    }

    #[test]
    fn what_is_not_read_is_skipped() {
        let mut frames = frames(b"first\n0123456789abcdefgh\n");
        frames.next().unwrap();
        frames.body(5).read_exact(&mut [0; 2]).unwrap();
        let _ = frames.body(5);
        let mut body = frames.body(4);
        assert_eq!(body.left(), 4);
        let mut text = String::new();
        assert_eq!(body.read_to_string(&mut text).unwrap(), 4);
        assert_eq!((text.as_str(), body.left()), ("abcd", 0));
        drop(body);
        let _ = frames.body(2);
        assert_eq!(frames.next().unwrap(), Some(&b"gh"[..]));
    }

    #[test]
    fn a_body_that_is_cut_short_is_an_error() {
        let mut frames = frames(b"first\n01234");
        frames.next().unwrap();
        let mut body = frames.body(u64::MAX);
        let mut bytes = Vec::new();
        let error = body.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(bytes, b"01234");
        assert_eq!(body.fill_buf().unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(body.left(), u64::MAX - 5);
        drop(body);
        let _ = frames.body(u64::MAX);
        assert_eq!(frames.next().unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(frames.body(1).read(&mut [0]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn consuming_ends_at_the_end() {
        let mut frames = frames(b"first\nabcd\n");
        frames.next().unwrap();
        let mut body = frames.body(2);
        assert_eq!(body.fill_buf().unwrap(), b"ab");
        body.consume(10);
        assert_eq!(body.fill_buf().unwrap(), b"");
        drop(body);
        assert_eq!(frames.next().unwrap(), Some(&b"cd"[..]));
    }
}
