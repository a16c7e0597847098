//! JSON messages in frames: of any framing, since JSON says nothing about where a message ends on a stream.

use std::io::{self, BufRead, ErrorKind, Write};

use serde::{Deserialize, Serialize};

use super::{Frames, Framing, invalid_input};

impl<R: BufRead, F: Framing> Frames<R, F> {
    /// Reads the next frame as JSON; `None` if the stream has ended after the last one. With [`Lines`](super::Lines) this reads
    /// what is called JSON Lines.
    ///
    /// A message with a large body is a frame that tells how long the body is, and then its bytes:
    ///
    /// ```
    /// use std::io::{self, Write};
    /// use serde::{Deserialize, Serialize};
    /// use socketserver::frame::{self, Frames, LengthDelimited};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Upload {
    ///     name: String,
    ///     size: u64,
    /// }
    ///
    /// let mut stream = Vec::new();
    /// frame::write_json(&LengthDelimited::new(), &mut stream, &Upload { name: "greeting".to_string(), size: 5 })?;
    /// stream.write_all(b"hello")?;
    ///
    /// let mut frames = Frames::new(&stream[..], LengthDelimited::new());
    /// while let Some(upload) = frames.next_json::<Upload>()? {
    ///     let mut file = Vec::new();
    ///     io::copy(&mut frames.body(upload.size), &mut file)?;
    ///     assert_eq!((upload.name.as_str(), &file[..]), ("greeting", &b"hello"[..]));
    /// }
    /// # Ok::<(), io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`next`](Frames::next), and `InvalidData` if the frame is not JSON, or not that of a `T`; the frame is over then,
    /// and the next call gives the next one. The message tells where, but repeats nothing of what the peer sent. A handler that answers
    /// bad JSON and goes on calls `next` instead, and reads the JSON itself: a frame over the limit is `InvalidData` as well, and there
    /// going on has no end.
    pub fn next_json<'a, T: Deserialize<'a>>(&'a mut self) -> io::Result<Option<T>> {
        let Some(frame) = self.next()? else { return Ok(None) };
        serde_json::from_slice(frame).map(Some).map_err(|error| {
            let what = if error.is_data() { "JSON of another form than expected" } else { "not JSON" };
            let message = format!("a frame is {what}, at line {} column {}", error.line(), error.column());
            io::Error::new(ErrorKind::InvalidData, message)
        })
    }
}

/// Writes a value as one frame of JSON.
///
/// # Errors
///
/// Those of [`Framing::write_frame`], and `InvalidInput` if the value cannot be expressed in JSON; nothing has been written then.
pub fn write_json<T: Serialize + ?Sized>(framing: &dyn Framing, to: &mut dyn Write, value: &T) -> io::Result<()> {
    let json = serde_json::to_vec(value).map_err(|error| invalid_input(error.to_string()))?;
    framing.write_frame(to, &json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{LengthDelimited, Lines};

    #[test]
    fn values_come_out_as_they_went_in() {
        let mut stream = Vec::new();
        for text in ["one", "with\nan end of line", "\u{1f980}"] {
            write_json(&Lines::new(), &mut stream, text).unwrap();
        }
        let mut frames = Frames::new(&stream[..], Lines::new());
        for text in ["one", "with\nan end of line", "\u{1f980}"] {
            assert_eq!(frames.next_json::<String>().unwrap().unwrap(), text);
        }
        assert_eq!(frames.next_json::<String>().unwrap(), None);
    }

    #[test]
    fn a_value_may_borrow_from_the_frame() {
        let mut frames = Frames::new(&b"\"hello\"\n"[..], Lines::new());
        assert_eq!(frames.next_json::<&str>().unwrap(), Some("hello"));
    }

    #[test]
    fn bad_json_fails_without_repeating_it() {
        let mut frames = Frames::new(&b"{\"secret\n\"secret\"\n\n[1] secret\n\xff\n{\n7\n"[..], Lines::new());
        for _ in 0..6 {
            let error = frames.next_json::<u64>().unwrap_err();
            // Also where the JSON, but not the stream, has ended too early.
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            let message = error.to_string();
            assert!(message.starts_with("a frame is ") && !message.contains("secret"), "{message}");
        }
        assert_eq!(frames.next_json::<u64>().unwrap(), Some(7));
    }

    #[test]
    fn what_cannot_be_said_is_not_written() {
        let mut stream = Vec::new();
        let by_pair = std::collections::BTreeMap::from([((1, 2), 3)]);
        let error = write_json(&Lines::new(), &mut stream, &by_pair).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let long = "x".repeat(300);
        let error = write_json(&LengthDelimited::new().length_field_length(1), &mut stream, &long).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(stream.is_empty());
    }
}
