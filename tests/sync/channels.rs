//! Channels between requests, what they have spawned, and threads.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use socketserver::backend::BackendName;
use socketserver::sync::channel::{self, SendTimeoutError};
use socketserver::{Request, spawn};

use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::{serve, stop};

on_every_backend! {
    a_channel_carries_everything_in_order
    who_sends_waits_for_room_for_so_long
    a_thread_may_be_at_the_other_end
    a_cut_ends_the_wait_for_a_channel
}

/// A bounded channel between a request and its sibling, far smaller than what goes through it.
fn a_channel_carries_everything_in_order(name: BackendName) {
    let running = serve(name, |request: &mut Request| {
        let (sender, receiver) = channel::bounded(3);
        let other = spawn(move || (0..10_000u64).try_for_each(|number| sender.send(number)))?;
        let mut expected = 0;
        for number in &receiver {
            assert_eq!(number, expected);
            expected += 1;
        }
        assert!(other.join()?.is_ok());
        write!(request, "{expected}")
    });
    let clients: Vec<_> = (0..4).map(|_| Client::connect(&running.addr)).collect();
    for client in clients {
        assert_eq!(io::read_to_string(client).expect("a reply"), "10000");
    }
    assert_eq!(stop(running, Duration::from_secs(5)), 0);
}

/// The other end is slow, and then gone.
fn who_sends_waits_for_room_for_so_long(name: BackendName) {
    const TIMEOUT: Duration = Duration::from_millis(20);
    let running = serve(name, |request: &mut Request| {
        let (sender, receiver) = channel::bounded(1);
        let other = spawn(move || receiver.into_iter().take(2).collect::<Vec<_>>())?;
        assert_eq!(sender.send_timeout(1, Duration::MAX), Ok(()));
        assert_eq!(sender.send_timeout(2, Duration::MAX), Ok(()));
        assert_eq!(other.join()?, [1, 2]);
        assert_eq!(sender.send_timeout(3, TIMEOUT), Err(SendTimeoutError::Disconnected(3)));

        let (sender, receiver) = channel::bounded(1);
        sender.send(1).map_err(io::Error::other)?;
        let began = Instant::now();
        assert_eq!(sender.send_timeout(2, TIMEOUT), Err(SendTimeoutError::Timeout(2)));
        assert!(began.elapsed() >= TIMEOUT);
        drop(sender);
        write!(request, "{:?}", Vec::from_iter(receiver))
    });
    assert_eq!(io::read_to_string(Client::connect(&running.addr)).expect("a reply"), "[1]");
    assert_eq!(stop(running, Duration::from_secs(5)), 0);
}

/// A thread that belongs to no server sends; requests wait for it.
fn a_thread_may_be_at_the_other_end(name: BackendName) {
    let (sender, receiver) = channel::unbounded::<String>();
    let running = serve(name, move |request: &mut Request| {
        let word = receiver.recv().map_err(io::Error::other)?;
        request.write_all(word.as_bytes())
    });
    let first = Client::connect(&running.addr);
    sender.send("one".to_string()).expect("somebody receives");
    assert_eq!(io::read_to_string(first).expect("a reply"), "one");
    sender.send("two".to_string()).expect("somebody receives");
    assert_eq!(io::read_to_string(Client::connect(&running.addr)).expect("a reply"), "two");
    assert_eq!(stop(running, Duration::from_secs(5)), 0);
}

fn a_cut_ends_the_wait_for_a_channel(name: BackendName) {
    let (_keep, receiver) = channel::unbounded::<()>();
    let (told, outcome) = channel::unbounded();
    let running = serve(name, move |request: &mut Request| {
        request.write_all(b"!")?;
        told.send(receiver.recv().is_err()).map_err(io::Error::other)
    });
    let mut client = Client::connect(&running.addr);
    client.read_exact(&mut [0]).expect("the handler runs");
    assert_eq!(stop(running, Duration::from_millis(50)), 1);
    assert_eq!(outcome.recv_timeout(PATIENCE), Ok(true));
}

#[test]
fn ends_that_are_gone_are_told() {
    let (sender, receiver) = channel::bounded::<u8>(1);
    drop(receiver);
    assert!(sender.send(1).is_err());
    let (sender, receiver) = channel::bounded::<u8>(1);
    sender.send(1).expect("there is room");
    drop(sender);
    assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Err(channel::RecvError)));
    let (_sender, receiver) = channel::bounded::<u8>(1);
    assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(channel::RecvTimeoutError::Timeout));
}
