#![no_main]

use libfuzzer_sys::fuzz_target;
use socketserver::frame::Delimited;
use socketserver_fuzz::{Stream, check};

fuzz_target!(|input: (u8, Vec<u8>, Stream)| {
    let (limit, delimiter, stream) = input;
    if !delimiter.is_empty() {
        check(&Delimited::new(delimiter).max_frame_length(usize::from(limit)), &stream);
    }
});
