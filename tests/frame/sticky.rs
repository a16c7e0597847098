//! Sticky packets: they happen without framing, and are gone with it.

use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;

use rustix::net::RecvFlags;
use socketserver::backend::{BackendName, Sequential};
use socketserver::frame::{Framing, LengthDelimited};
use socketserver::listener::Udp;
use socketserver::{Request, Server};

use crate::support::cell::{Cell, Kind};
use crate::support::client::Client;
use crate::support::record::Record;
use crate::support::running::Running;
use crate::support::{receive, until};

const CELL: Cell = Cell { backend: BackendName::Threading, kind: Kind::Tcp4 };

/// Takes every read for a message.
fn without_framing(record: &Record, request: &mut Request) -> io::Result<()> {
    loop {
        let message = request.fill_buf()?;
        if message.is_empty() {
            return Ok(());
        }
        record.add(String::from_utf8_lossy(message));
        let count = message.len();
        request.consume(count);
    }
}

fn with_framing(record: &Record, request: &mut Request) -> io::Result<()> {
    let mut frames = request.frames(LengthDelimited::new());
    while let Some(message) = frames.next()? {
        record.add(String::from_utf8_lossy(message));
    }
    Ok(())
}

/// What the system takes in of a connection that nobody reads, at the least.
const ROOM: usize = 40_000;

/// Sends each of these by itself to a handler that begins to read when all of them have arrived, or as much as has room, and returns
/// what it took for messages.
fn messages(sent: &[Vec<u8>], handler: fn(&Record, &mut Request) -> io::Result<()>) -> Vec<String> {
    let (place, record) = (CELL.place(), Record::default());
    let total: usize = sent.iter().map(Vec::len).sum();
    let noted = record.clone();
    let running = Running::start(CELL.bind(&place, move |request: &mut Request| {
        let enough = total.min(ROOM);
        until("the arrival of everything", || {
            let peeked =
                rustix::net::recv(request.as_fd(), &mut vec![0; enough], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            peeked.is_ok_and(|(_, count)| count == enough)
        });
        handler(&noted, request)
    }));
    let mut client = Client::connect(&running.addr);
    for message in sent {
        client.write_all(message).unwrap();
    }
    assert_eq!(client.ask(b""), b"");
    running.finish();
    record.events()
}

fn framed(messages: &[String]) -> Vec<Vec<u8>> {
    let frame = |message: &String| {
        let mut stream = Vec::new();
        LengthDelimited::new().write_frame(&mut stream, message.as_bytes()).unwrap();
        stream
    };
    messages.iter().map(frame).collect()
}

fn bytes(messages: &[String]) -> Vec<Vec<u8>> {
    messages.iter().map(|message| message.clone().into_bytes()).collect()
}

#[test]
fn two_messages_stick_together() {
    let sent = ["hello".to_string(), "world".to_string()];
    assert_eq!(messages(&bytes(&sent), without_framing), ["helloworld"]);
    assert_eq!(messages(&framed(&sent), with_framing), sent);
}

#[test]
fn one_message_comes_in_pieces() {
    let sent = ["x".repeat(200_000)];
    assert!(messages(&bytes(&sent), without_framing).len() >= 4, "a read gives 64 KiB at the most");
    assert_eq!(messages(&framed(&sent), with_framing), sent);
}

/// A datagram is one message, though one that is too long for the receiver loses its end.
#[test]
fn datagrams_do_not_stick_but_are_truncated() {
    let (give, taken) = crossbeam_channel::unbounded();
    let listener = Udp::options().max_packet_size(8).bind("127.0.0.1:0").expect("a free port");
    let mut server = Server::new(listener, Sequential, move |request: &mut Request| {
        let packet = request.fill_buf()?.to_vec();
        give.send((String::from_utf8_lossy(&packet).into_owned(), request.is_truncated())).map_err(io::Error::other)
    });
    let mut client = Client::connect(server.local_addr());
    for message in ["hello", "world", "much too long"] {
        client.write_all(message.as_bytes()).unwrap();
    }
    for (expected, is_truncated) in [("hello", false), ("world", false), ("much too", true)] {
        server.handle_request().unwrap();
        assert_eq!(receive("a datagram", &taken), (expected.to_string(), is_truncated));
    }
}
