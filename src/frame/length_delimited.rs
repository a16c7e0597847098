//! [`LengthDelimited`]: a header tells the length.
//!
//! A frame is a header with a length, then so many bytes. It costs 4 bytes a frame and no search: the end is known from the
//! beginning. It is the wrong one for what people type. The options are those of tokio-util's `LengthDelimitedCodec`, and Netty's
//! `LengthFieldBasedFrameDecoder` before it.

use std::io::{self, ErrorKind, Write};

use super::{Decoded, Framing, MAX_FRAME_LENGTH, check_incoming, check_outgoing, invalid_input, write_pieces};

/// Frames that begin with their length: by default 4 bytes, big-endian, and not counted in the length.
///
/// The options are for protocols whose header is a struct, and mean what they mean in tokio-util:
///
/// * the length field lies `length_field_offset` bytes behind the frame's start and is `length_field_length` bytes long;
/// * the first `num_skip` bytes are left out of what is given; if not set, all up to the end of the length field;
/// * behind these come as many bytes as the field says plus `length_adjustment`, and they are what is given.
///
/// | the protocol's frame | options |
/// |---|---|
/// | 4 bytes of length, payload | none |
/// | 2 bytes of length in little-endian order, payload | `length_field_length(2)`, `little_endian()` |
/// | 2 bytes of length, which count themselves | `length_field_length(2)`, `length_adjustment(-2)` |
/// | type, 2 bytes of length, payload, and the header is wanted, too | `length_field_offset(1)`, `length_field_length(2)`, `num_skip(0)`, `length_adjustment(3)` |
///
/// ```
/// use socketserver::frame::{Frames, Framing, LengthDelimited};
///
/// // A byte that tells the type, two of length, the payload: with the header, which the program takes apart by itself.
/// const FRAMING: LengthDelimited =
///     LengthDelimited::new().length_field_offset(1).length_field_length(2).num_skip(0).length_adjustment(3);
///
/// let mut stream = Vec::new();
/// FRAMING.write_frame(&mut stream, b"A\x00\x05hello")?;
/// let mut frames = Frames::new(&stream[..], FRAMING);
/// assert_eq!(frames.next()?, Some(&b"A\x00\x05hello"[..]));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Writing is the reverse of reading: header bytes that are skipped are written as zeros; those that are given must be in the payload,
/// with the right length.
///
/// Two things are stricter than in tokio-util: a length that would end the frame within its own header is an error, and the
/// limit is for what is given, both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthDelimited {
    field_offset: usize,
    /// 1 to 8.
    field_length: usize,
    adjustment: isize,
    /// How many bytes of the frame are not given; `None` is all to the end of the field.
    num_skip: Option<usize>,
    big_endian: bool,
    max_frame_length: usize,
}

impl LengthDelimited {
    /// Frames after their length in 4 bytes, big-endian.
    pub const fn new() -> LengthDelimited {
        LengthDelimited {
            field_offset: 0,
            field_length: 4,
            adjustment: 0,
            num_skip: None,
            big_endian: true,
            max_frame_length: MAX_FRAME_LENGTH,
        }
    }

    /// How many bytes the length field has: 1 to 8; 4 by default.
    ///
    /// # Panics
    ///
    /// If it is not 1 to 8.
    pub const fn length_field_length(mut self, bytes: usize) -> LengthDelimited {
        assert!(1 <= bytes && bytes <= 8, "a length field has 1 to 8 bytes");
        self.field_length = bytes;
        self
    }

    /// How many bytes of the header come before the length field: 0 by default.
    pub const fn length_field_offset(mut self, bytes: usize) -> LengthDelimited {
        self.field_offset = bytes;
        self
    }

    /// What to add to the length field's number to get the number of bytes that follow those that are skipped: 0 by default;
    /// negative if the field counts bytes of the header, too.
    pub const fn length_adjustment(mut self, bytes: isize) -> LengthDelimited {
        self.adjustment = bytes;
        self
    }

    /// How many bytes at the frame's start are not given. By default all up to the end of the length field.
    pub const fn num_skip(mut self, bytes: usize) -> LengthDelimited {
        self.num_skip = Some(bytes);
        self
    }

    /// The length field's first byte is the most significant one: the default.
    pub const fn big_endian(mut self) -> LengthDelimited {
        self.big_endian = true;
        self
    }

    /// The length field's first byte is the least significant one.
    pub const fn little_endian(mut self) -> LengthDelimited {
        self.big_endian = false;
        self
    }

    /// The length field is in this machine's byte order: for processes on one machine.
    pub const fn native_endian(mut self) -> LengthDelimited {
        self.big_endian = cfg!(target_endian = "big");
        self
    }

    /// The most bytes that a frame gives: 8 MiB by default.
    pub const fn max_frame_length(mut self, bytes: usize) -> LengthDelimited {
        self.max_frame_length = bytes;
        self
    }

    fn field_end(&self) -> usize {
        self.field_offset.saturating_add(self.field_length)
    }

    fn skip(&self) -> usize {
        self.num_skip.unwrap_or(self.field_end())
    }

    fn field_value(&self, field: &[u8]) -> u64 {
        let mut number = [0; 8];
        if self.big_endian {
            number[8 - field.len()..].copy_from_slice(field);
            u64::from_be_bytes(number)
        } else {
            number[..field.len()].copy_from_slice(field);
            u64::from_le_bytes(number)
        }
    }

    /// What the length field says of a frame that gives `given` bytes: its bytes are the first of the array.
    fn field_of(&self, given: usize) -> io::Result<[u8; 8]> {
        let bits = 8 * self.field_length as u32;
        match u64::try_from(given as i128 - self.adjustment as i128) {
            Ok(value) if bits == 64 || value >> bits == 0 => {
                Ok(if self.big_endian { (value << (64 - bits)).to_be_bytes() } else { value.to_le_bytes() })
            }
            _ => Err(invalid_input(format!("{given} bytes do not fit a length field of {} bytes", self.field_length))),
        }
    }
}

impl Default for LengthDelimited {
    fn default() -> LengthDelimited {
        LengthDelimited::new()
    }
}

impl Framing for LengthDelimited {
    fn decode(&self, bytes: &[u8], _seen: usize) -> io::Result<Decoded> {
        let Some(field) = bytes.get(self.field_offset..self.field_end()) else {
            return Ok(Decoded::More { until: Some(self.field_end()) });
        };
        // As i128, nothing of this overflows.
        let announced = self.field_value(field) as i128 + self.adjustment as i128;
        let shortest = self.field_end() as i128 - self.skip() as i128;
        if announced < shortest.max(0) {
            let message = format!("a frame is announced that is shorter than its own header ({announced} bytes)");
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        check_incoming(announced as u128, self.max_frame_length)?;
        let length = self.skip().saturating_add(announced as usize);
        if bytes.len() < length {
            return Ok(Decoded::More { until: Some(length) });
        }
        Ok(Decoded::Frame { length, payload: self.skip()..length })
    }

    fn write_frame(&self, to: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
        check_outgoing(payload, self.max_frame_length)?;
        let field = self.field_of(payload.len())?;
        let field = &field[..self.field_length];
        // As much of the field as is skipped is written here; the rest the payload must contain.
        let cut = self.skip().saturating_sub(self.field_offset).min(field.len());
        let (skipped, given) = field.split_at(cut);
        let before = self.field_offset.saturating_sub(self.skip());
        if payload.get(before..).is_none_or(|payload| !payload.starts_with(given)) {
            let message =
                format!("the payload of {} bytes must contain its own length field, and does not", payload.len());
            return Err(invalid_input(message));
        }
        let (mut small, mut large) = ([0; 16], Vec::new());
        let header = match small.get_mut(..self.skip()) {
            Some(header) => header,
            None => {
                large.try_reserve_exact(self.skip())?;
                large.resize(self.skip(), 0);
                &mut large[..]
            }
        };
        if let Some(place) = header.get_mut(self.field_offset..self.field_offset + cut) {
            place.copy_from_slice(skipped);
        }
        write_pieces(to, [header, payload])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: LengthDelimited = LengthDelimited::new();
    const TWO: LengthDelimited = NEW.length_field_length(2);

    fn decode(framing: LengthDelimited, bytes: &[u8]) -> io::Result<&[u8]> {
        match framing.decode(bytes, 0)? {
            Decoded::Frame { length, payload } if length == bytes.len() => Ok(&bytes[payload]),
            other => panic!("{other:?} of {bytes:?}"),
        }
    }

    fn encode(framing: LengthDelimited, payload: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = Vec::new();
        let result = framing.write_frame(&mut stream, payload);
        assert!(result.is_ok() || stream.is_empty());
        result.map(|()| stream)
    }

    #[test]
    fn headers_of_all_kinds_are_read_and_written() {
        let cases: [(LengthDelimited, &[u8], &[u8]); 14] = [
            (NEW, b"\0\0\0\x05hello", b"hello"),
            (NEW, b"\0\0\0\0", b""),
            (NEW.little_endian(), b"\x05\0\0\0hello", b"hello"),
            (NEW.length_field_length(1), b"\x05hello", b"hello"),
            (NEW.length_field_length(3), b"\0\0\x05hello", b"hello"),
            (NEW.length_field_length(8), b"\0\0\0\0\0\0\0\x05hello", b"hello"),
            (NEW.length_field_length(8).little_endian(), b"\x05\0\0\0\0\0\0\0hello", b"hello"),
            // The length counts its own field.
            (TWO.length_adjustment(-2), b"\0\x07hello", b"hello"),
            // The header is given, too.
            (TWO.num_skip(0).length_adjustment(2), b"\0\x05hello", b"\0\x05hello"),
            (TWO.num_skip(0), b"\0\x07hello", b"\0\x07hello"),
            // So is what of it follows the field.
            (TWO.length_field_offset(1).length_adjustment(1), b"\0\0\x05Ahello", b"Ahello"),
            // More than the field is skipped.
            (TWO.num_skip(4), b"\0\x05\0\0hello", b"hello"),
            (TWO.length_field_offset(20), b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05hello", b"hello"),
            // Half of the field is.
            (TWO.num_skip(1).length_adjustment(1), b"\0\x05hello", b"\x05hello"),
        ];
        for (framing, stream, payload) in cases {
            assert_eq!(decode(framing, stream).unwrap(), payload, "{framing:?}");
            assert_eq!(encode(framing, payload).unwrap(), stream, "{framing:?}");
        }
        assert_eq!(encode(NEW.native_endian(), b"hello").unwrap(), [&5_u32.to_ne_bytes()[..], b"hello"].concat());
    }

    #[test]
    fn skipped_bytes_may_be_anything() {
        let framing = TWO.length_field_offset(1).num_skip(4);
        assert_eq!(decode(framing, b"A\0\x05Bhello").unwrap(), b"hello");
    }

    #[test]
    fn says_how_much_is_missing() {
        let framing = TWO.length_field_offset(1);
        assert_eq!(framing.decode(b"A\0", 0).unwrap(), Decoded::More { until: Some(3) });
        assert_eq!(framing.decode(b"A\0\x05he", 0).unwrap(), Decoded::More { until: Some(8) });
    }

    #[test]
    fn a_header_that_cannot_be_is_an_error() {
        // Shorter than the header itself.
        for (framing, bytes) in [
            (TWO.length_adjustment(-2), b"\0\x01"),
            (TWO.num_skip(0), b"\0\0"),
            (TWO.num_skip(0), b"\0\x01"),
            (TWO.length_adjustment(isize::MIN), b"\xff\xff"),
        ] {
            assert_eq!(framing.decode(bytes, 0).unwrap_err().kind(), ErrorKind::InvalidData, "{framing:?}");
        }
        // More than any machine has.
        let framing = NEW.length_field_length(8);
        for framing in [framing, framing.max_frame_length(usize::MAX).length_adjustment(isize::MAX)] {
            assert_eq!(framing.decode(&[0xff; 8], 0).unwrap_err().kind(), ErrorKind::InvalidData);
        }
        let all = framing.max_frame_length(usize::MAX);
        assert_eq!(all.decode(&[0xff; 8], 0).unwrap(), Decoded::More { until: Some(usize::MAX) });
        let far = NEW.length_field_offset(usize::MAX);
        assert_eq!(far.decode(b"hello", 0).unwrap(), Decoded::More { until: Some(usize::MAX) });
    }

    #[test]
    fn the_limit_is_for_what_is_given() {
        let framing = TWO.length_adjustment(-2).max_frame_length(5);
        assert_eq!(decode(framing, b"\0\x07hello").unwrap(), b"hello");
        assert_eq!(framing.decode(b"\0\x08", 0).unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(encode(framing, b"hello").is_ok());
        assert_eq!(encode(framing, b"hello!").unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let one = NEW.length_field_length(1);
        assert_eq!(encode(one, &[0; 255]).unwrap().len(), 256);
        let cases: [(LengthDelimited, &[u8]); 7] = [
            (one, &[0; 256]),
            (one.length_adjustment(-1), &[0; 255]),
            (one.length_adjustment(1), b""),
            // The payload's own header is missing, or lies.
            (TWO.num_skip(0), b""),
            (TWO.num_skip(0), b"\0"),
            (TWO.num_skip(0), b"\0\x08hello"),
            (TWO.length_field_offset(2).num_skip(1), b"A"),
        ];
        for (framing, payload) in cases {
            assert_eq!(encode(framing, payload).unwrap_err().kind(), ErrorKind::InvalidInput, "{framing:?}");
        }
    }
}
