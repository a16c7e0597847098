#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketserver::frame::LengthDelimited;
use socketserver_fuzz::{Stream, check};

#[derive(Arbitrary, Debug)]
struct Input {
    length: u8,
    offset: u8,
    /// Half of them small, so that frames are found.
    adjustment: Result<i8, isize>,
    skip: Option<u8>,
    little_endian: bool,
    limit: Result<u8, usize>,
    stream: Stream,
}

fuzz_target!(|input: Input| {
    let mut framing = LengthDelimited::new()
        .length_field_length(usize::from(input.length % 8) + 1)
        .length_field_offset(usize::from(input.offset))
        .length_adjustment(input.adjustment.map_or_else(|any| any, isize::from))
        .max_frame_length(input.limit.map_or_else(|any| any, usize::from));
    if let Some(skip) = input.skip {
        framing = framing.num_skip(usize::from(skip));
    }
    if input.little_endian {
        framing = framing.little_endian();
    }
    check(&framing, &input.stream);
});
