//! JSON headers that tell the length of a body each, as an upload does.
#![no_main]

use std::io::{ErrorKind, Read};

use libfuzzer_sys::fuzz_target;
use socketserver::frame::{Frames, Lines};

fuzz_target!(|bytes: &[u8]| {
    let mut frames = Frames::new(bytes, Lines::new());
    loop {
        let length = match frames.next_json::<serde_json::Value>() {
            Ok(None) => break,
            Ok(Some(header)) => header["size"].as_u64().unwrap_or(0),
            // Of the frames themselves none fails: no line is too long.
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof));
                if error.kind() == ErrorKind::InvalidData && bytes.len() <= 64 * 1024 {
                    continue;
                }
                break;
            }
        };
        let mut body = Vec::new();
        match frames.body(length).read_to_end(&mut body) {
            Ok(count) => assert_eq!(count as u64, length),
            Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
        }
        assert!(body.len() <= bytes.len());
    }
});
