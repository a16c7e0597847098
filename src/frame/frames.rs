//! [`Frames`]: reads frames one after another.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, BufRead, ErrorKind};
use std::ops::Range;

use super::{Body, Decoded, Framing};

/// How much of a read is taken at a time while the end of a frame that straddles reads is searched for.
const STEP: usize = 256;

/// Reads the frames of a stream, one after another.
///
/// The reader is anything that is [`BufRead`]: a connection, a file, a `&[u8]`. A frame that lies in the reader's buffer as a
/// whole is lent out of it, without a copy. One that straddles reads is gathered in memory, which grows as its bytes come, and is
/// given back when the next frame is asked for: between frames nothing is held.
///
/// What lies behind the last frame stays in the reader, so a `Frames` may be dropped and made again at any time between two
/// frames. A frame of which only a part has come is lost with it. What is left of a [`body`](Frames::body) is not: another `Frames` would
/// take it for frames, so read it to its end before.
///
/// ```
/// use socketserver::frame::{Frames, Lines};
///
/// let mut lines = Frames::new(&b"one\r\ntwo\n"[..], Lines::new());
/// assert_eq!(lines.next()?, Some(&b"one"[..]));
/// assert_eq!(lines.next()?, Some(&b"two"[..]));
/// assert_eq!(lines.next()?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Frames<R: BufRead, F: Framing> {
    pub(super) reader: R,
    framing: F,
    /// What the last call has given out and the next one gives back.
    lent: Lent,
    /// What has come of a frame that straddles reads. Empty unless there is such a frame.
    gathered: Vec<u8>,
    /// How much of that the framing has been given.
    seen: usize,
    /// How much of that frame makes it worth asking the framing again, if it has said so.
    until: Option<usize>,
    /// Bytes of bodies that nobody has read: they are skipped.
    pub(super) unread: u64,
    /// Tells the reader, before each read, whether a frame's first byte is waited for; and `false` once a frame is there.
    say_idle: fn(&mut R, bool),
}

enum Lent {
    Nothing,
    /// So many bytes of the reader's buffer.
    OfReader(usize),
    Gathered,
}

impl<R: BufRead, F: Framing> Frames<R, F> {
    /// Reads frames from any buffered reader. For a request's, see [`ReadHalf::frames`](crate::ReadHalf::frames).
    pub fn new(reader: R, framing: F) -> Frames<R, F> {
        Frames::with_idle(reader, framing, |_, _| {})
    }

    /// As [`new`](Frames::new), for a reader that wants to know when a frame's first byte is waited for.
    pub(crate) fn with_idle(reader: R, framing: F, say_idle: fn(&mut R, bool)) -> Frames<R, F> {
        Frames { reader, framing, lent: Lent::Nothing, gathered: Vec::new(), seen: 0, until: None, unread: 0, say_idle }
    }

    /// Gives the payload of the next frame; `None` if the stream has ended after the last one. What is left of a
    /// [`body`](Frames::body) is skipped before.
    ///
    /// # Errors
    ///
    /// * `UnexpectedEof`: the stream ended in the middle of a frame, or of a body.
    /// * `InvalidData`: the frame is over the limit, or is none. There is no way to tell where the next one would begin, so this
    ///   call fails again.
    /// * Those of the reader. What has come of the frame is kept: after a timeout, the next call goes on.
    // It cannot be an iterator, whose items outlive the next call.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.take_back();
        self.skip_body()?;
        let Some(payload) = self.find()? else { return Ok(None) };
        (self.say_idle)(&mut self.reader, false);
        let bytes = match self.lent {
            Lent::Gathered => &self.gathered[..],
            // These bytes are there already: this reads nothing.
            _ => self.reader.fill_buf()?,
        };
        bytes.get(payload).map(Some).ok_or_else(contradiction)
    }

    /// Reads, between this frame and the next one, a body of exactly `length` bytes, which the frame has announced. It is never
    /// held as a whole.
    ///
    /// ```
    /// use std::io::Read;
    /// use socketserver::frame::{Frames, Lines};
    ///
    /// let mut frames = Frames::new(&b"PUT 5\nhelloQUIT\n"[..], Lines::new());
    /// assert_eq!(frames.next()?, Some(&b"PUT 5"[..]));
    /// let mut text = String::new();
    /// frames.body(5).read_to_string(&mut text)?;
    /// assert_eq!(text, "hello");
    /// assert_eq!(frames.next()?, Some(&b"QUIT"[..]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn body(&mut self, length: u64) -> Body<'_, R, F> {
        self.take_back();
        Body::new(self, length)
    }

    /// The reader, which stands behind the last frame: to write to the connection, to read something that is no frame, or to do
    /// work in between.
    pub fn get_mut(&mut self) -> &mut R {
        self.take_back();
        &mut self.reader
    }

    /// How frames are told apart.
    pub fn framing(&self) -> &F {
        &self.framing
    }

    /// Has the reader read if it has nothing, and says how much it has then: 0 is the end of the stream.
    pub(super) fn fill(&mut self, idle: bool) -> io::Result<usize> {
        (self.say_idle)(&mut self.reader, idle);
        loop {
            match self.reader.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result.map(<[u8]>::len),
            }
        }
    }

    /// Reads what is not a frame.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (self.say_idle)(&mut self.reader, false);
        self.reader.read(into)
    }

    /// Waits for the next frame, and says where in what is lent then its payload lies.
    fn find(&mut self) -> io::Result<Option<Range<usize>>> {
        loop {
            let begun = !self.gathered.is_empty();
            if self.fill(!begun)? == 0 {
                return if begun { self.last().map(Some) } else { Ok(None) };
            }
            let payload = if begun { self.gather()? } else { self.look()? };
            if payload.is_some() {
                return Ok(payload);
            }
        }
    }

    /// Looks for a frame in the reader's buffer, and takes what is only the beginning of one.
    fn look(&mut self) -> io::Result<Option<Range<usize>>> {
        let bytes = self.reader.fill_buf()?;
        match self.framing.decode(bytes, 0)? {
            Decoded::Frame { length, payload } if (1..=bytes.len()).contains(&length) => {
                self.lent = Lent::OfReader(length);
                Ok(Some(payload))
            }
            Decoded::Frame { .. } => Err(contradiction()),
            Decoded::More { until } => {
                let count = bytes.len();
                self.gathered.extend_from_slice(bytes);
                self.seen = count;
                self.until = until;
                self.reader.consume(count);
                Ok(None)
            }
        }
    }

    /// Adds to a frame that has begun, and not much beyond its end: the rest need not be copied.
    fn gather(&mut self) -> io::Result<Option<Range<usize>>> {
        let before = self.gathered.len();
        let until = self.until.filter(|until| *until > before);
        let wanted = until.map_or(before.max(STEP), |until| until - before);
        let bytes = self.reader.fill_buf()?;
        let count = bytes.len().min(wanted);
        self.gathered.extend_from_slice(&bytes[..count]);
        if until.is_some_and(|until| self.gathered.len() < until) {
            self.reader.consume(count);
            return Ok(None);
        }
        match self.framing.decode(&self.gathered, self.seen) {
            Ok(Decoded::Frame { length, payload }) if (before + 1..=before + count).contains(&length) => {
                self.gathered.truncate(length);
                self.reader.consume(length - before);
                self.lent = Lent::Gathered;
                Ok(Some(payload))
            }
            Ok(Decoded::More { until }) => {
                self.seen = self.gathered.len();
                self.until = until;
                self.reader.consume(count);
                Ok(None)
            }
            failed => {
                // As before, so that the next call fails in the same way.
                self.gathered.truncate(before);
                Err(failed.err().unwrap_or_else(contradiction))
            }
        }
    }

    /// Takes what came before the end of the stream for the last frame, if the framing does.
    fn last(&mut self) -> io::Result<Range<usize>> {
        let payload = self.framing.decode_end(&self.gathered)?;
        self.lent = Lent::Gathered;
        Ok(payload)
    }

    fn take_back(&mut self) {
        match std::mem::replace(&mut self.lent, Lent::Nothing) {
            Lent::Nothing => {}
            Lent::OfReader(count) => self.reader.consume(count),
            Lent::Gathered => self.gathered = Vec::new(),
        }
    }

    /// Reads and drops what is left of earlier bodies.
    pub(super) fn skip_body(&mut self) -> io::Result<()> {
        while self.unread > 0 {
            let count = self.fill(false)?;
            if count == 0 {
                return Err(super::body::cut_short(self.unread));
            }
            let skipped = self.unread.min(count as u64);
            self.reader.consume(skipped as usize);
            self.unread -= skipped;
        }
        Ok(())
    }
}

/// Leaves the reader behind the last frame.
impl<R: BufRead, F: Framing> Drop for Frames<R, F> {
    fn drop(&mut self) {
        self.take_back();
    }
}

impl<R: BufRead, F: Framing + fmt::Debug> fmt::Debug for Frames<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("framing", &self.framing).finish_non_exhaustive()
    }
}

fn contradiction() -> io::Error {
    io::Error::other("the framing found a frame where there is none, or the reader took back what it had")
}
