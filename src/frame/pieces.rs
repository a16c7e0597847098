//! [`write_pieces`]: what stands around a payload and the payload itself, in one write.

use std::io::{self, ErrorKind, IoSlice, Write};

/// Writes all pieces as if they were one: with one call of [`Write::write_vectored`] if that takes everything, else with as many
/// as it needs.
///
/// # Errors
///
/// Those of the writer, and `WriteZero` if it takes nothing; some of the bytes may have been written then.
pub fn write_pieces<const N: usize>(to: &mut dyn Write, pieces: [&[u8]; N]) -> io::Result<()> {
    let mut slices = pieces.map(IoSlice::new);
    let mut rest = &mut slices[..];
    // Empty ones are no reason to write.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match to.write_vectored(rest) {
            Ok(0) => return Err(io::Error::new(ErrorKind::WriteZero, "the writer takes no more of a frame")),
            Ok(count) => {
                // A writer that claims more than it was given would be a panic.
                let left = rest.iter().map(|slice| slice.len()).sum();
                IoSlice::advance_slices(&mut rest, count.min(left));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, and counts the calls.
    struct Few {
        at_a_time: usize,
        calls: usize,
        taken: Vec<u8>,
    }

    impl Write for Few {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls % 3 == 0 {
                return Err(ErrorKind::Interrupted.into());
            }
            let before = self.taken.len();
            let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
            self.taken.extend(bytes.take(self.at_a_time));
            Ok(self.taken.len() - before)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn few(at_a_time: usize) -> Few {
        Few { at_a_time, calls: 0, taken: Vec::new() }
    }

    #[test]
    fn pieces_are_one_write() {
        let mut writer = few(usize::MAX);
        write_pieces(&mut writer, [b"", b"one", b"", b"two", b""]).unwrap();
        assert_eq!((writer.calls, &writer.taken[..]), (1, &b"onetwo"[..]));
        write_pieces(&mut writer, [b"", b""]).unwrap();
        assert_eq!(writer.calls, 1);
    }

    #[test]
    fn a_partial_write_goes_on() {
        for at_a_time in 1..7 {
            let mut writer = few(at_a_time);
            write_pieces(&mut writer, [b"one", b"two", b""]).unwrap();
            assert_eq!(writer.taken, b"onetwo");
        }
        let error = write_pieces(&mut few(0), [b"one"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
    }

    #[test]
    fn a_writer_that_claims_too_much_does_no_harm() {
        struct Boaster;

        impl Write for Boaster {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Ok(usize::MAX)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        write_pieces(&mut Boaster, [b"one", b"two"]).unwrap();
    }
}
