//! Messages after their length in 4 bytes, as the examples `remote_command` and `file_upload` have them; and bad ones.
// Each test program uses a part of this.
#![allow(dead_code)]

use std::io::Read;
use std::thread;

use serde_json::Value;

use super::support::client::Client;

/// A message as it is sent.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short message");
    [&length.to_be_bytes()[..], payload].concat()
}

/// The next message, which is JSON.
#[track_caller]
pub fn take_json(client: &mut Client) -> Value {
    let length = client.take_bytes(4).try_into().expect("4 bytes");
    let json = client.take_bytes(u32::from_be_bytes(length) as usize);
    serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&json)))
}

/// Sends what does not end with a message, on a thread if that is long; takes the last message, and sees the connection closed.
#[track_caller]
pub fn last_json(mut client: Client, bytes: Vec<u8>, then: Then) -> Value {
    let mut writer = client.duplicate();
    let writing = thread::spawn(move || {
        // The server need not read it to its end.
        let _ = std::io::Write::write_all(&mut writer, &bytes);
        if then == Then::HalfClose {
            let _ = writer.half_close();
        }
    });
    let last = take_json(&mut client);
    assert!(client.read(&mut [0]).is_ok_and(|count| count == 0), "nothing follows {last}");
    drop(client);
    writing.join().expect("the writing thread is well");
    last
}

/// What a client does when it has sent everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Wait,
    HalfClose,
}

/// What no server of messages understands.
pub fn rubbish() -> [(&'static str, Vec<u8>, Then); 4] {
    [
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Then::Wait),
        ("a header of 4 GB", vec![0xff; 4], Then::Wait),
        ("10 MB without an end of line", vec![b'x'; 10_000_000], Then::Wait),
        ("half a message", b"\0\0\0\x0aecho".to_vec(), Then::HalfClose),
    ]
}
