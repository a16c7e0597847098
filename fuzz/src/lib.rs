//! What the fuzz targets check of every framing: it panics on no bytes; it finds the same frames however they are cut; and what it
//! has found, it writes so that it finds it again.
//!
//! Run one with `cargo +nightly fuzz run lines`.

use std::io::{self, BufRead, ErrorKind, Read};

use arbitrary::Arbitrary;
use socketserver::frame::{Frames, Framing};

/// A stream, and how it is cut.
#[derive(Arbitrary, Debug)]
pub struct Stream {
    pub bytes: Vec<u8>,
    /// The lengths of the pieces, one after another and again.
    pub cuts: Vec<u8>,
}

/// Gives a stream piece by piece.
struct Pieces<'a> {
    left: &'a [u8],
    /// What is left of this piece.
    piece: usize,
    cuts: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece == 0 {
            self.piece = self.cuts.next().map_or(self.left.len(), |cut| usize::from(*cut).max(1));
        }
        Ok(&self.left[..self.piece.min(self.left.len())])
    }

    fn consume(&mut self, count: usize) {
        self.left = &self.left[count..];
        self.piece = self.piece.saturating_sub(count);
    }
}

/// All frames, and how the stream ends.
fn read(framing: &dyn Framing, reader: impl BufRead) -> (Vec<Vec<u8>>, Option<ErrorKind>) {
    let mut frames = Frames::new(reader, framing);
    let mut found = Vec::new();
    loop {
        match frames.next() {
            Ok(Some(frame)) => found.push(frame.to_vec()),
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error.kind())),
        }
    }
}

/// Checks a framing on a stream.
pub fn check(framing: &dyn Framing, stream: &Stream) {
    let (frames, end) = read(framing, &stream.bytes[..]);
    let pieces = Pieces { left: &stream.bytes, piece: 0, cuts: stream.cuts.iter().cycle() };
    assert_eq!(read(framing, pieces), (frames.clone(), end), "cut, the stream reads otherwise");
    assert!(matches!(end, None | Some(ErrorKind::UnexpectedEof | ErrorKind::InvalidData)), "it ended with {end:?}");

    let mut again = Vec::new();
    for frame in &frames {
        framing.write_frame(&mut again, frame).expect("what was read can be written");
    }
    assert_eq!(read(framing, &again[..]), (frames, None), "written again, the frames read otherwise");
}
