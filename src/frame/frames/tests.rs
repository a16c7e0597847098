use std::collections::VecDeque;
use std::io::{BufReader, Read};

use super::*;
use crate::frame::{Fixed, LengthDelimited, Lines};

/// Gives one piece or error after another, and notes what it is told.
#[derive(Default)]
struct Script {
    pieces: VecDeque<io::Result<&'static [u8]>>,
    idle: Vec<bool>,
}

impl Script {
    fn new(pieces: impl IntoIterator<Item = io::Result<&'static [u8]>>) -> Script {
        Script { pieces: pieces.into_iter().collect(), idle: Vec::new() }
    }
}

impl Read for Script {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Script {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(Err(_)) = self.pieces.front() {
            return Err(self.pieces.pop_front().unwrap().unwrap_err());
        }
        Ok(self.pieces.front().map_or(&[], |piece| piece.as_ref().unwrap()))
    }

    fn consume(&mut self, count: usize) {
        if let Some(Ok(piece)) = self.pieces.front_mut() {
            *piece = &piece[count..];
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_frame_in_the_buffer_is_not_copied() {
    let stream = b"\0\0\0\x05hello\0\0\0\x05world";
    let mut frames = Frames::new(&stream[..], LengthDelimited::new());
    for at in [4, 13] {
        let frame = frames.next().unwrap().unwrap();
        assert_eq!(frame.as_ptr(), stream[at..].as_ptr());
    }
    assert_eq!(frames.gathered.capacity(), 0);
}

#[test]
fn a_straddling_frame_is_gathered_and_given_back() {
    let stream = [&b"\0\0\x03\xe8"[..], &[7; 1000], b"\0\0\0\x02hi"].concat();
    let mut frames = Frames::new(BufReader::with_capacity(600, &stream[..]), LengthDelimited::new());
    assert_eq!(frames.next().unwrap(), Some(&[7; 1000][..]));
    assert!(frames.gathered.capacity() >= 1004);
    assert_eq!(frames.next().unwrap(), Some(&b"hi"[..]));
    assert_eq!(frames.gathered.capacity(), 0);
    assert_eq!(frames.next().unwrap(), None);
}

#[test]
fn a_lying_header_costs_no_memory() {
    for (framing, announced) in [
        (LengthDelimited::new().max_frame_length(usize::MAX), b"\xff\xff\xff\xff--------"),
        (
            LengthDelimited::new().length_field_length(8).max_frame_length(usize::MAX),
            b"\x7f\xff\xff\xff\xff\xff\xff\xff----",
        ),
    ] {
        let mut frames = Frames::new(BufReader::with_capacity(6, &announced[..]), framing);
        assert_eq!(kind(frames.next()), ErrorKind::UnexpectedEof);
        assert_eq!(frames.gathered.len(), announced.len());
        assert!(frames.gathered.capacity() < 64);
    }
    let mut frames = Frames::new(&b"\xff\xff\xff\xff--------"[..], LengthDelimited::new());
    let error = frames.next().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(error.to_string(), "a frame of at least 4294967295 bytes comes in, and the limit is 8388608");
    assert_eq!(frames.gathered.capacity(), 0);
}

#[test]
fn what_is_gathered_stays_near_what_has_come() {
    let stream = [b'x'; 200_000];
    let mut frames = Frames::new(BufReader::with_capacity(4096, &stream[..]), Lines::new());
    assert_eq!(kind(frames.next()), ErrorKind::InvalidData);
    assert!(frames.gathered.len() <= 65_537);
    assert!(frames.gathered.capacity() <= 2 * 65_537);
}

#[test]
fn seen_is_only_what_the_framing_has_been_given() {
    /// Lines of four bytes at the least, all of them ASCII.
    struct Ascii;

    impl Framing for Ascii {
        fn decode(&self, bytes: &[u8], seen: usize) -> io::Result<Decoded> {
            if !bytes[seen..].is_ascii() {
                return Err(ErrorKind::InvalidData.into());
            }
            if bytes.len() < 4 {
                return Ok(Decoded::More { until: Some(4) });
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            Ok(end.map_or(Decoded::More { until: None }, |end| Decoded::Frame { length: end + 1, payload: 0..end }))
        }

        fn write_frame(&self, _: &mut dyn io::Write, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    for capacity in 1..8 {
        for at in 0..6 {
            let mut stream = *b"abcdef\n";
            stream[at] = 0xff;
            let mut frames = Frames::new(BufReader::with_capacity(capacity, &stream[..]), Ascii);
            assert_eq!(kind(frames.next()), ErrorKind::InvalidData, "byte {at}, {capacity} at a time");
        }
    }
}

#[test]
fn a_failure_stays() {
    let mut frames = Frames::new(BufReader::with_capacity(2, &b"abcdef\n"[..]), Lines::new().max_frame_length(3));
    for _ in 0..3 {
        assert_eq!(kind(frames.next()), ErrorKind::InvalidData);
    }
    let mut frames = Frames::new(&b"abcd"[..], Fixed::new(5));
    for _ in 0..3 {
        let error = frames.next().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), "the stream ended in the middle of a frame, after 4 bytes of it");
    }
}

#[test]
fn a_timeout_can_be_retried() {
    let script = Script::new([
        Ok(&b"he"[..]),
        Err(ErrorKind::TimedOut.into()),
        Err(ErrorKind::Interrupted.into()),
        Ok(b"llo\nwo"),
        Err(ErrorKind::TimedOut.into()),
        Ok(b"rld\n"),
    ]);
    let mut frames = Frames::new(script, Lines::new());
    assert_eq!(kind(frames.next()), ErrorKind::TimedOut);
    assert_eq!(frames.next().unwrap(), Some(&b"hello"[..]));
    assert_eq!(kind(frames.next()), ErrorKind::TimedOut);
    assert_eq!(frames.next().unwrap(), Some(&b"world"[..]));
    assert_eq!(frames.next().unwrap(), None);
}

#[test]
fn only_the_wait_for_a_first_byte_is_idle() {
    let script = Script::new([Ok(&b"one\ntw"[..]), Ok(b"o\n"), Ok(b"body"), Ok(b"end"), Ok(b"\n")]);
    let mut frames = Frames::with_idle(script, Lines::new(), |script, idle| script.idle.push(idle));
    let said = |frames: &mut Frames<Script, Lines>| std::mem::take(&mut frames.get_mut().idle);
    assert_eq!(frames.next().unwrap(), Some(&b"one"[..]));
    assert_eq!(said(&mut frames), [true, false]);
    // Of this one a part is there already; what waits is the second read.
    assert_eq!(frames.next().unwrap(), Some(&b"two"[..]));
    assert_eq!(said(&mut frames), [true, false, false]);
    let mut body = frames.body(4);
    assert_eq!(body.fill_buf().unwrap(), b"body");
    body.read_exact(&mut [0; 2]).unwrap();
    drop(body);
    assert_eq!(said(&mut frames), [false, false]);
    // The rest of the body is skipped first.
    assert_eq!(frames.next().unwrap(), Some(&b"end"[..]));
    assert_eq!(said(&mut frames), [false, true, false, false]);
    assert_eq!(frames.next().unwrap(), None);
    assert_eq!(said(&mut frames), [true]);
}

#[test]
fn what_follows_stays_in_the_reader() {
    let mut reader = &b"one\ntwo\nrest"[..];
    Frames::new(&mut reader, Lines::new()).next().unwrap();
    let mut frames = Frames::new(&mut reader, Lines::new());
    assert_eq!(frames.next().unwrap(), Some(&b"two"[..]));
    assert_eq!(*frames.get_mut(), &mut &b"rest"[..]);
    drop(frames);
    assert_eq!(reader, b"rest");
}

#[test]
fn a_framing_that_contradicts_itself_is_an_error() {
    /// Says the same whatever it is asked.
    struct Stubborn(Decoded);

    impl Framing for Stubborn {
        fn decode(&self, bytes: &[u8], _seen: usize) -> io::Result<Decoded> {
            // Straddling frames, too.
            Ok(if bytes.len() < 3 { Decoded::More { until: Some(1) } } else { self.0.clone() })
        }

        fn write_frame(&self, _: &mut dyn io::Write, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    for capacity in [1, 2, 8] {
        for (length, payload) in [(0, 0..0), (1, 0..2), (2, 0..1), (9, 0..9), (usize::MAX, 3..usize::MAX), (3, 2..9)] {
            let framing = Stubborn(Decoded::Frame { length, payload });
            let mut frames = Frames::new(BufReader::with_capacity(capacity, &b"abcdef"[..]), framing);
            // No panic, and an end.
            for _ in 0..10 {
                let _ = frames.next();
            }
        }
    }
}
