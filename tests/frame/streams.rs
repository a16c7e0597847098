//! Streams of frames, cut anywhere: no server is needed for these.

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use socketserver::frame::{Delimited, Fixed, Frames, Framing, LengthDelimited, Lines};

/// Gives a stream in pieces of these lengths, one after another and again, and is interrupted between them.
struct Pieces<'a> {
    left: &'a [u8],
    cuts: &'a [usize],
    given: usize,
    /// What is left of this piece.
    piece: usize,
}

impl<'a> Pieces<'a> {
    fn new(stream: &'a [u8], cuts: &'a [usize]) -> Pieces<'a> {
        Pieces { left: stream, cuts, given: 0, piece: 0 }
    }
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
        if self.piece == 0 && !self.left.is_empty() {
            self.piece = self.cuts[self.given % self.cuts.len()].min(self.left.len());
            self.given += 1;
            if self.given % 5 == 0 {
                return Err(ErrorKind::Interrupted.into());
            }
        }
        Ok(&self.left[..self.piece])
    }

    fn consume(&mut self, count: usize) {
        self.left = &self.left[count..];
        self.piece -= count;
    }
}

/// Counts the calls.
#[derive(Default)]
struct Writer {
    calls: usize,
    stream: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        self.stream.write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.calls += 1;
        self.stream.write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

/// What is promised of every framing.
fn check(framing: &dyn Framing, payloads: &[Vec<u8>], cuts: &[usize]) -> Result<(), TestCaseError> {
    let mut writer = Writer::default();
    // Where each frame ends.
    let mut ends = vec![0];
    for payload in payloads {
        framing.write_frame(&mut writer, payload).expect("a payload of this framing");
        ends.push(writer.stream.len());
    }
    prop_assert_eq!(writer.calls, payloads.len(), "one write a frame");
    let stream = &writer.stream[..];
    prop_assert_eq!(read(framing, stream), (payloads.to_vec(), None));
    prop_assert_eq!(read(framing, Pieces::new(stream, cuts)), (payloads.to_vec(), None));

    for length in (0..stream.len()).step_by(stream.len() / 200 + 1) {
        let (frames, end) = read(framing, Pieces::new(&stream[..length], cuts));
        let whole = ends.iter().filter(|end| **end <= length).count() - 1;
        prop_assert_eq!(&frames[..whole], &payloads[..whole], "a prefix of {} bytes", length);
        if ends.contains(&length) {
            prop_assert_eq!((frames.len(), end), (whole, None), "a prefix of {} bytes", length);
        } else if frames.len() > whole {
            // A last line.
            prop_assert_eq!((frames.len(), end), (whole + 1, None), "a prefix of {} bytes", length);
            prop_assert_eq!(&frames[whole], &stream[ends[whole]..length]);
        } else {
            prop_assert_eq!(end, Some(ErrorKind::UnexpectedEof), "a prefix of {} bytes", length);
        }
    }
    Ok(())
}

/// What is promised of every framing where a peer sends anything.
fn check_rubbish(framing: &dyn Framing, stream: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
    let (frames, end) = read(framing, stream);
    prop_assert!(
        matches!(end, None | Some(ErrorKind::UnexpectedEof | ErrorKind::InvalidData)),
        "it ended with {:?}",
        end
    );
    prop_assert_eq!(read(framing, Pieces::new(stream, cuts)), (frames.clone(), end));
    let mut again = Vec::new();
    for frame in &frames {
        framing.write_frame(&mut again, frame).expect("what was read can be written");
    }
    prop_assert_eq!(read(framing, &again[..]), (frames, None));
    Ok(())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(1..8_usize, 1..10), vec(1..2000_usize, 1..10)]
}

/// Few frames of a few bytes, or of many.
fn payloads(bytes: impl Strategy<Value = u8> + Clone) -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop_oneof![vec(vec(bytes.clone(), 0..20), 0..10), vec(vec(bytes, 0..3000), 0..4)]
}

/// Bytes in which ends of lines and delimiters are not rare, nor small lengths.
fn rubbish() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'-'), 0..6_u8, any::<u8>()];
    vec(byte, 0..300)
}

fn length_delimited() -> impl Strategy<Value = LengthDelimited> {
    (2..=8_usize, 0..20_usize, -3..3_isize, any::<bool>()).prop_map(|(length, offset, adjustment, little)| {
        let framing = LengthDelimited::new().length_field_length(length).length_field_offset(offset);
        // A frame whose number would be negative cannot be said.
        let framing = framing.length_adjustment(adjustment.min(0));
        if little { framing.little_endian() } else { framing }
    })
}

proptest! {
    #[test]
    fn length_delimited_frames(framing in length_delimited(), payloads in payloads(any::<u8>()), cuts in cuts()) {
        check(&framing, &payloads, &cuts)?;
    }

    #[test]
    fn frames_with_their_header(payloads in payloads(any::<u8>()), offset in 0..9_usize, cuts in cuts()) {
        let framing = LengthDelimited::new().length_field_length(2).length_field_offset(offset).num_skip(0);
        let with_header = |payload: &Vec<u8>| {
            let length = (offset + 2 + payload.len()) as u16;
            [&vec![7; offset][..], &length.to_be_bytes(), payload].concat()
        };
        check(&framing, &payloads.iter().map(with_header).collect::<Vec<_>>(), &cuts)?;
    }

    #[test]
    fn lines(payloads in payloads(prop_oneof![Just(b'\r'), any::<u8>()]), crlf: bool, cuts in cuts()) {
        let framing = if crlf { Lines::new().crlf() } else { Lines::new() };
        let lines: Vec<_> = payloads.into_iter().map(|mut line| { line.retain(|byte| *byte != b'\n'); line }).collect();
        check(&framing, &lines, &cuts)?;
        let with_end = |line: &Vec<u8>| [line, &b"\n"[..]].concat();
        check(&framing.keep_end(), &lines.iter().map(with_end).collect::<Vec<_>>(), &cuts)?;
    }

    #[test]
    fn delimited_frames(payloads in payloads(any::<u8>()), delimiter in "[ab]{1,4}", cuts in cuts()) {
        let framing = Delimited::new(&delimiter);
        let allowed: Vec<_> = payloads
            .into_iter()
            .filter(|payload| framing.write_frame(&mut io::sink(), payload).is_ok())
            .collect();
        check(&framing, &allowed, &cuts)?;
    }

    #[test]
    fn frames_of_one_size((size, payloads) in (1..3000_usize).prop_flat_map(|size| (Just(size), vec(vec(any::<u8>(), size), 0..4))), cuts in cuts()) {
        check(&Fixed::new(size), &payloads, &cuts)?;
    }

    #[test]
    fn rubbish_does_no_harm(
        stream in rubbish(),
        cuts in cuts(),
        length in 1..=8_usize,
        offset in 0..9_usize,
        skip in proptest::option::of(0..20_usize),
        adjustment in -9..9_isize,
        limit in 0..100_usize,
    ) {
        let framing = LengthDelimited::new().length_field_length(length).length_field_offset(offset);
        let framing = framing.length_adjustment(adjustment).max_frame_length(limit);
        check_rubbish(&framing, &stream, &cuts)?;
        check_rubbish(&skip.map_or(framing, |skip| framing.num_skip(skip)).little_endian(), &stream, &cuts)?;
        check_rubbish(&Lines::new().max_frame_length(limit), &stream, &cuts)?;
        check_rubbish(&Delimited::new("-\r-").max_frame_length(limit), &stream, &cuts)?;
        check_rubbish(&Fixed::new(limit + 1), &stream, &cuts)?;
    }
}

/// A body between frames comes out as it went in, too.
#[test]
fn bodies_stream_in_any_pieces() {
    let body: Vec<u8> = (0..5000).map(|count| (count % 251) as u8).collect();
    let stream = [&b"first\n"[..], &body, b"second\n"].concat();
    for cuts in [1, 2, 3, 7, 1000, 5006, 10_000].map(|length| [length]) {
        let mut frames = Frames::new(Pieces::new(&stream, &cuts), Lines::new());
        assert_eq!(frames.next().unwrap(), Some(&b"first"[..]));
        let mut copy = Vec::new();
        io::copy(&mut frames.body(body.len() as u64), &mut copy).unwrap();
        assert_eq!(copy, body);
        assert_eq!(frames.next().unwrap(), Some(&b"second"[..]));
        assert_eq!(frames.next().unwrap(), None);
    }
}
