//! [`Sender`]: whole messages from elsewhere, between those of the handler.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use socketserver::frame::{Frames, Framing, LengthDelimited};
use socketserver::sync::channel;
use socketserver::{Activity, Request, Sender, spawn};

use crate::peers::{WAIT, WAITS};
use crate::support::cell::{Cell, Place};
use crate::support::client::Client;
use crate::support::descriptors::{is_asleep, open_descriptors, thread_time};
use crate::support::gate::Gate;
use crate::support::running::Running;
use crate::support::{PATIENCE, echo, receive, until, within};

/// Starts a server whose handler hands its sender to the test and goes on as `handle` says.
fn start(cell: Cell, place: &Place, handle: fn(&mut Request) -> io::Result<()>) -> (Running, Receiver<Sender>) {
    let (give, senders) = unbounded();
    let server = cell.bind(place, move |request: &mut Request| {
        let _ = give.send(request.sender()?);
        handle(request)
    });
    (Running::start(server), senders)
}

/// While the handler waits to read.
pub fn a_message_of_another_thread_arrives(cell: Cell) {
    let place = cell.place();
    let (running, senders) = start(cell, &place, echo);
    let mut client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    assert_eq!(sender.peer_addr().scheme(), running.addr.scheme());
    sender.send(b"news").unwrap();
    assert_eq!(client.take_bytes(4), b"news");
    assert_eq!(running.monitor.dump()[0].bytes_written, 4, "what others send is sent, too");
    client.write_all(b"hello").unwrap();
    assert_eq!(client.take_bytes(5), b"hello");
    drop(client);
    assert_eq!(running.finish().completed, 1);
}

/// A chat of two.
pub fn a_handler_writes_to_the_peer_of_another(cell: Cell) {
    let place = cell.place();
    let members = Arc::new(Mutex::new(Vec::<Sender>::new()));
    let running = Running::start(cell.bind(&place, move |request: &mut Request| -> io::Result<()> {
        members.lock().unwrap().push(request.sender()?);
        request.write_all(b"welcome\n")?;
        let mut line = String::new();
        while request.read_line(&mut line)? > 0 {
            members.lock().unwrap().iter().for_each(|member| drop(member.send(line.as_bytes())));
            line.clear();
        }
        Ok(())
    }));
    let mut members = [(); 2].map(|()| Client::connect(&running.addr));
    members.iter_mut().for_each(|member| assert_eq!(member.take_bytes(8), b"welcome\n"));
    members[0].write_all(b"hello\n").unwrap();
    members.iter_mut().for_each(|member| assert_eq!(member.take_bytes(6), b"hello\n"));
    drop(members);
    assert_eq!(running.finish().completed, 2);
}

/// The handler's long lines and the short ones of two other threads, of which each takes several system calls.
pub fn messages_are_never_mixed(cell: Cell) {
    const LONG: usize = 600_000;
    const SHORT: usize = 5_000;
    let place = cell.place();
    let handle = |request: &mut Request| {
        let mut line = vec![b'h'; LONG];
        line.push(b'\n');
        for _ in 0..10 {
            request.write_all(&line)?;
        }
        // While it waits here, the rest of the others' goes out.
        echo(request)
    };
    let (running, senders) = start(cell, &place, handle);
    let client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    let others: Vec<_> = [b'a', b'b']
        .into_iter()
        .map(|letter| {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut line = vec![letter; SHORT];
                line.push(b'\n');
                for _ in 0..100 {
                    while let Err(error) = sender.send(&line) {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let client = within("reading the messages", move || {
        let mut client = io::BufReader::new(client);
        let mut counts = [0; 3];
        for _ in 0..210 {
            let mut line = Vec::new();
            client.read_until(b'\n', &mut line).unwrap();
            assert_eq!(line.pop(), Some(b'\n'));
            let letter = line[0];
            assert!(line.iter().all(|byte| *byte == letter), "a message with another in it");
            let (index, length) = match letter {
                b'h' => (0, LONG),
                b'a' => (1, SHORT),
                _ => (2, SHORT),
            };
            assert_eq!(line.len(), length);
            counts[index] += 1;
        }
        assert_eq!(counts, [10, 100, 100]);
        client
    });
    others.into_iter().for_each(|other| other.join().unwrap());
    drop(client);
    running.finish();
}

/// The peer does not read. What was taken is in order, and nothing of the rest is in it.
pub fn a_full_queue_takes_no_message(cell: Cell) {
    const MESSAGE: usize = 50_000;
    let place = cell.place();
    let (running, senders) = start(cell, &place, echo);
    let mut client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders).capacity(100_000);
    let mut taken = 0;
    let error = loop {
        match sender.send(&[taken as u8; MESSAGE]) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 5_000, "the queue has no end");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    for number in 0..taken {
        assert!(client.take_bytes(MESSAGE).iter().all(|byte| *byte == number as u8));
    }
    let all = (taken * MESSAGE) as u64;
    until("what was queued is counted", || running.monitor.dump()[0].bytes_written == all);
    client.half_close().unwrap();
    assert_eq!(client.read_all(), b"");
    assert_eq!(running.finish().completed, 1);
}

/// The handler waits to read, and is told that the request was ended.
pub fn a_sender_may_end_the_request(cell: Cell) {
    let place = cell.place();
    let (running, senders) = start(cell, &place, |request| match request.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionAborted => Err(error),
        other => panic!("not {other:?}"),
    });
    let mut client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    sender.close();
    assert_eq!(client.read_all(), b"");
    match sender.send(b"too late").unwrap_err().kind() {
        ErrorKind::ConnectionAborted | ErrorKind::NotConnected => {}
        other => panic!("not {other:?}"),
    }
    let stats = running.finish();
    assert_eq!((stats.failed, stats.cut), (1, 1));
}

/// The system tells of a reset once. The sender has heard it, and the read is no less cut short: it does not end as if that were all.
pub fn a_reset_that_a_sender_has_heard_is_an_error_of_the_read(cell: Cell) {
    let (place, gate) = (cell.place(), Gate::default());
    let (its_gate, (give, senders)) = (gate.clone(), unbounded());
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.write_all(b"hello")?;
        let _ = give.send(request.sender()?);
        its_gate.pass(request)?;
        request.read_to_end(&mut Vec::new()).map(|_| ())
    }));
    let mut client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    // Closed with input unread, which resets the connection.
    assert_eq!(client.take_bytes(1), b"h");
    drop(client);
    until("the sender hears of the reset", || sender.send(b"news").is_err());
    gate.open();
    let stats = running.finish();
    assert_eq!((stats.failed, stats.disconnected), (1, 1));
}

/// The same of what is queued. The handler waits for something else meanwhile, which the reset does not end.
pub fn a_reset_that_the_queue_has_met_is_an_error_of_the_read(cell: Cell) {
    let place = cell.place();
    let read = Arc::new(AtomicBool::new(false));
    let (its_read, (give, senders)) = (read.clone(), unbounded());
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let _ = give.send(request.sender()?);
        while !its_read.load(SeqCst) {
            socketserver::sleep(Duration::from_millis(1))?;
        }
        request.read_to_end(&mut Vec::new()).map(|_| ())
    }));
    let client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    let fails_with = |kind| sender.send(&[b'x'; 10_000]).is_err_and(|error| error.kind() == kind);
    until("the queue is full", || fails_with(ErrorKind::WouldBlock));
    drop(client);
    until("the queue is given up", || fails_with(ErrorKind::BrokenPipe));
    read.store(true, SeqCst);
    let stats = running.finish();
    assert_eq!((stats.failed, stats.disconnected), (1, 1));
}

/// It does not keep the request alive, and says that it is over.
pub fn a_sender_outlives_its_request(cell: Cell) {
    let place = cell.place();
    let (running, senders) = start(cell, &place, echo);
    assert_eq!(Client::connect(&running.addr).ask(b"hello"), b"hello");
    let sender = receive("the sender", &senders);
    assert_eq!(running.finish().completed, 1);
    assert_eq!(sender.send(b"too late").unwrap_err().kind(), ErrorKind::NotConnected);
    sender.close();
}

/// What is formatted is one message, of the handler as of the others.
pub fn formatted_lines_are_never_mixed(cell: Cell) {
    const LINES: usize = 2_000;
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let siblings = ["a", "b", "c"].map(|name| {
            let mut sender = request.sender()?;
            socketserver::spawn(move || (0..LINES).try_for_each(|line| writeln!(sender, "{name}:{line}:{name}")))
        });
        (0..LINES).try_for_each(|line| writeln!(request, "h:{line}:h"))?;
        let (_, mut wfile) = request.split();
        writeln!(wfile, "h:{LINES}:h")?;
        siblings.into_iter().try_for_each(|sibling| sibling?.join()?)
    }));
    let mut client = Client::connect(&running.addr);
    let text = String::from_utf8(client.read_all()).unwrap();
    for name in ["a", "b", "c", "h"] {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
        let expected: Vec<String> = (0..lines.len()).map(|line| format!("{name}:{line}:{name}")).collect();
        assert_eq!(lines, expected);
    }
    assert_eq!(text.lines().count(), 4 * LINES + 1);
    assert_eq!(running.finish().completed, 1);
}

/// A frame is put together from several pieces, and is one message.
pub fn frames_are_never_mixed(cell: Cell) {
    const FRAMES: usize = 100;
    /// So long that the system does not take all of them at once.
    const LENGTH: usize = 50_000;
    const FRAMING: LengthDelimited = LengthDelimited::new();
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let siblings = [1, 2, 3].map(|number| {
            let mut sender = request.sender()?;
            socketserver::spawn(move || {
                (0..FRAMES).try_for_each(|_| FRAMING.write_frame(&mut sender, &[number; LENGTH]))
            })
        });
        (0..FRAMES).try_for_each(|_| FRAMING.write_frame(request, &[0; LENGTH]))?;
        siblings.into_iter().try_for_each(|sibling| sibling?.join()?)
    }));
    let mut client = Client::connect(&running.addr);
    running.wait_for_activity(Activity::Writing);
    let all = client.read_all();
    let mut frames = Frames::new(&all[..], FRAMING);
    let mut counts = [0; 4];
    while let Some(frame) = frames.next().unwrap() {
        let number = frame[0];
        assert!(frame == [number; LENGTH], "a frame with another in it");
        counts[usize::from(number)] += 1;
    }
    assert_eq!(counts, [FRAMES; 4]);
    assert_eq!(running.finish().completed, 1);
}

/// More than the system takes at once, when the handler ends: the connection ends with the last byte, and not with the write timeout.
pub fn what_is_queued_at_the_end_is_sent_without_delay(cell: Cell) {
    const MESSAGE: usize = 16 << 20;
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        request.set_write_timeout(Some(10 * PATIENCE));
        request.sender()?.capacity(MESSAGE).send(&vec![b'x'; MESSAGE])
    }));
    let mut client = Client::connect(&running.addr);
    assert_eq!(client.read_all().len(), MESSAGE);
    assert_eq!(running.finish().completed, 1);
}

/// It could never be sent.
pub fn what_is_queued_behind_half_a_message_does_not_delay_the_end(cell: Cell) {
    let place = cell.place();
    let (failed, failing) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let sender = request.sender()?;
        request.set_write_timeout(Some(Duration::from_millis(50)));
        let half = request.write_all(&vec![0; 16 << 20]).map_err(|error| error.kind());
        request.set_write_timeout(Some(10 * PATIENCE));
        let _ = failed.send((half, sender.send(b"hello").is_ok()));
        Ok(())
    }));
    let mut client = Client::connect(&running.addr);
    assert_eq!(receive("half a message", &failing), (Err(ErrorKind::TimedOut), true));
    assert!(!client.read_all().ends_with(b"hello"));
    running.finish();
}

/// Fills the queue of a peer that does not read, and has a thread wait for room. What becomes of its write is received.
fn write_beyond(mut writer: Sender, length: usize) -> (thread::JoinHandle<()>, Receiver<Result<(), ErrorKind>>) {
    while writer.send(&[0; 1024]).is_ok() {}
    let ((begin, begun), (tell, told)) = (unbounded(), unbounded());
    let writing = thread::spawn(move || {
        let _ = begin.send(rustix::thread::gettid());
        let _ = tell.send(writer.write_all(&vec![0; length]).map_err(|error| error.kind()));
    });
    let thread = receive("the writer", &begun);
    until("it waits for room", || is_asleep(thread));
    (writing, told)
}

/// At once, although its handler blocks in what is not of this crate.
pub fn who_waits_for_room_hears_that_the_request_is_closed(cell: Cell) {
    let place = cell.place();
    let (give, senders) = unbounded();
    let (go_on, gate) = bounded::<()>(0);
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let _ = give.send(request.sender()?);
        let _ = gate.recv();
        Ok(())
    }));
    let _client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    let (writing, told) = write_beyond(sender.clone(), 1024);
    sender.close();
    assert_eq!(receive("the end of the write", &told), Err(ErrorKind::ConnectionAborted));
    // However much has been queued, and will never be sent.
    assert_eq!(sender.send(b"").unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(sender.finish().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    drop(go_on);
    writing.join().unwrap();
    running.finish();
}

/// At once, although its handler waits for somebody else.
pub fn who_waits_for_room_hears_that_the_peer_is_gone(cell: Cell) {
    let place = cell.place();
    let (go_on, gate) = channel::bounded::<()>(1);
    let (give, senders) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let _ = give.send(request.sender()?);
        let _ = gate.recv();
        Ok(())
    }));
    let client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    let (writing, told) = write_beyond(sender, 32 << 20);
    drop(client);
    assert!(receive("the end of the write", &told).is_err());
    drop(go_on);
    writing.join().unwrap();
    running.finish();
}

/// Its handler has returned, and its peer never reads.
pub fn who_waits_for_room_hears_that_the_request_is_over(cell: Cell) {
    const WRITE_TIMEOUT: Duration = Duration::from_millis(50);
    let place = cell.place();
    let (running, senders) = start(cell, &place, |request| {
        request.set_write_timeout(Some(WRITE_TIMEOUT));
        request.read_exact(&mut [0])
    });
    let mut client = Client::connect(&running.addr);
    let (writing, told) = write_beyond(receive("the sender", &senders), 32 << 20);
    let ended = Instant::now();
    client.write_all(b"x").unwrap();
    assert!(receive("the end of the write", &told).is_err());
    assert!(ended.elapsed() < 20 * WRITE_TIMEOUT, "it took {:?}", ended.elapsed());
    writing.join().unwrap();
    running.finish();
}

/// Each of them is told of the room that there is, however often the other one takes it.
pub fn two_may_wait_for_room(cell: Cell) {
    const MESSAGES: usize = 8 << 20;
    let place = cell.place();
    let running = Running::start(cell.bind(&place, |request: &mut Request| {
        let writers = [(); 2].map(|()| {
            let mut sender = request.sender()?;
            spawn(move || sender.write_all(&vec![b'x'; MESSAGES]))
        });
        writers.into_iter().try_for_each(|writer| writer?.join()?)
    }));
    assert_eq!(Client::connect(&running.addr).read_all().len(), 2 * MESSAGES);
    assert_eq!(running.finish().completed, 1);
}

/// However many have been cut off while they waited for one peer, and that goes on not reading.
pub fn who_gave_up_waiting_for_room_is_forgotten(cell: Cell) {
    let place = cell.place();
    let deaf = Arc::new(OnceLock::<Sender>::new());
    let (its_deaf, (give, senders)) = (deaf.clone(), unbounded());
    let server = cell.bind(&place, move |request: &mut Request| {
        let _ = give.send(request.sender()?);
        match its_deaf.get() {
            None => request.read_exact(&mut [0]),
            Some(deaf) => deaf.clone().write_all(&vec![0; 32 << 20]),
        }
    });
    let monitor = server.monitor();
    let running = Running::start(server);
    let _deaf = Client::connect(&running.addr);
    let _ = deaf.set(receive("the first sender", &senders));
    let give_up = || {
        let mut writer = Client::connect(&running.addr);
        let sender = receive("a writer's sender", &senders);
        until("it waits", || monitor.dump().iter().any(|request| request.activity == Activity::Waiting));
        sender.close();
        assert!(writer.is_hung_up());
        until("it is over", || running.stats().live == 1);
    };
    give_up();
    let before = open_descriptors();
    (0..20).for_each(|_| give_up());
    until("all descriptors are closed", || open_descriptors() <= before);
}

/// The peer never reads.
pub fn a_sender_waits_for_the_write_timeout(cell: Cell) {
    let (place, (give, given)) = (cell.place(), unbounded());
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        request.set_write_timeout(Some(Duration::from_millis(20)));
        let mut peer = request.sender()?;
        let writing = spawn(move || peer.write_all(&vec![0; 32 << 20]))?;
        let _ = give.send(writing.join()?.map_err(|error| error.kind()));
        Ok(())
    }));
    let _deaf = Client::connect(&running.addr);
    assert_eq!(receive("the outcome", &given), Err(ErrorKind::TimedOut));
    running.stop();
}

/// The peer reads the end, and the handler goes on reading.
pub fn a_sender_may_end_the_writing_alone(cell: Cell) {
    const MESSAGE: usize = 16 << 20;
    let place = cell.place();
    let (running, senders) = start(cell, &place, |request| {
        let mut message = String::new();
        request.read_to_string(&mut message)?;
        assert_eq!(message, "still here");
        assert_eq!(request.write_all(b"too late").unwrap_err().kind(), ErrorKind::BrokenPipe);
        Ok(())
    });
    let mut client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders).capacity(MESSAGE);
    // More than the system takes at once: the end comes after it.
    sender.send(&vec![b'x'; MESSAGE]).unwrap();
    sender.finish().unwrap();
    assert_eq!(sender.send(b"too late").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(client.read_all().len(), MESSAGE);
    client.write_all(b"still here").unwrap();
    client.half_close().unwrap();
    assert_eq!(running.finish().completed, 1);
}

/// The system has taken a part of it, and the peer reads no more than that.
pub fn the_end_of_the_writing_comes_after_the_handlers_message(cell: Cell) {
    const MESSAGE: usize = 16 << 20;
    let place = cell.place();
    let (running, senders) = start(cell, &place, |request| {
        request.write_all(&vec![b'x'; MESSAGE])?;
        assert_eq!(request.write_all(b"too late").unwrap_err().kind(), ErrorKind::BrokenPipe);
        request.read_to_end(&mut Vec::new()).map(|_| ())
    });
    let mut client = Client::connect(&running.addr);
    let sender = receive("the sender", &senders);
    running.wait_for_activity(Activity::Writing);
    sender.finish().unwrap();
    assert_eq!(client.read_all().len(), MESSAGE);
    client.half_close().unwrap();
    assert_eq!(running.finish().completed, 1);
}

/// A write timeout has cut a message of the handler's: what others write waits for its other half, and nobody computes meanwhile.
pub fn behind_half_a_message_others_wait(cell: Cell) {
    let place = cell.place();
    let (failed, failing) = unbounded();
    let (tell, told) = unbounded();
    let running = Running::start(cell.bind(&place, move |request: &mut Request| {
        let sender = request.sender()?;
        request.set_write_timeout(Some(Duration::from_millis(100)));
        let half = request.write_all(&vec![0; 16 << 20]);
        let _ = failed.send((sender, half.map_err(|error| error.kind())));
        request.set_read_timeout(Some(WAIT));
        let (began, before) = (Instant::now(), thread_time());
        while request.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
            let _ = tell.send((began.elapsed(), thread_time() - before));
        }
        Ok(())
    }));
    let mut client = Client::connect(&running.addr);
    let (sender, half) = receive("half a message", &failing);
    assert_eq!(half, Err(ErrorKind::TimedOut));
    sender.send(b"hello").unwrap();
    // Now the system would take more.
    client.read_timeout(Duration::from_millis(250));
    let read = client.read_to_end(&mut Vec::new());
    assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock, "the other half never comes");
    (1..WAITS).for_each(|_| _ = receive("another wait", &told));
    let (time, spent) = receive("the last wait", &told);
    assert!(spent < time / 2, "it waited by computing for {spent:?} of {time:?}");
    client.write_all(b"x").unwrap();
    drop(client);
    running.finish();
}
