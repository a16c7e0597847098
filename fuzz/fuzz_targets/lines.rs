#![no_main]

use libfuzzer_sys::fuzz_target;
use socketserver::frame::Lines;
use socketserver_fuzz::{Stream, check};

fuzz_target!(|input: (u8, bool, Stream)| {
    let (limit, crlf, stream) = input;
    let framing = Lines::new().max_frame_length(usize::from(limit));
    check(&if crlf { framing.crlf() } else { framing }, &stream);
});
