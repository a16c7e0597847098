//! [`Fixed`]: every frame has the same size.
//!
//! It costs nothing, on the wire or on the way. It is the wrong one for messages of different lengths. As in Netty's
//! `FixedLengthFrameDecoder`.

use std::io::{self, Write};

use super::{Decoded, Framing, invalid_input, write_pieces};

/// Frames of always the same size, with nothing around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    size: usize,
}

impl Fixed {
    /// Frames of `size` bytes each. The size is the limit, too.
    ///
    /// # Panics
    ///
    /// If the size is 0.
    pub const fn new(size: usize) -> Fixed {
        assert!(size > 0, "a frame has at least one byte");
        Fixed { size }
    }
}

impl Framing for Fixed {
    fn decode(&self, bytes: &[u8], _seen: usize) -> io::Result<Decoded> {
        if bytes.len() < self.size {
            return Ok(Decoded::More { until: Some(self.size) });
        }
        Ok(Decoded::Frame { length: self.size, payload: 0..self.size })
    }

    fn write_frame(&self, to: &mut dyn Write, payload: &[u8]) -> io::Result<()> {
        if payload.len() != self.size {
            let message = format!("a frame of {} bytes is to be sent, and all have {}", payload.len(), self.size);
            return Err(invalid_input(message));
        }
        write_pieces(to, [payload])
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn every_frame_has_its_size() {
        let framing = Fixed::new(3);
        assert_eq!(framing.decode(b"on", 0).unwrap(), Decoded::More { until: Some(3) });
        assert_eq!(framing.decode(b"onetwo", 0).unwrap(), Decoded::Frame { length: 3, payload: 0..3 });
        let mut stream = Vec::new();
        framing.write_frame(&mut stream, b"one").unwrap();
        for other in [&b"on"[..], b"four", b""] {
            assert_eq!(framing.write_frame(&mut stream, other).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(stream, b"one");
    }
}
