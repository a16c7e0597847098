#![no_main]

use libfuzzer_sys::fuzz_target;
use socketserver::frame::Fixed;
use socketserver_fuzz::{Stream, check};

fuzz_target!(|input: (u16, Stream)| {
    let (size, stream) = input;
    check(&Fixed::new(usize::from(size) + 1), &stream);
});
