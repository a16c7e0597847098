//! Wake-ups: many at a time, from other threads, for a reason or for none.

use std::collections::HashSet;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use socketserver::backend::EventLoop;
use socketserver::net::{TcpStream, UdpSocket};
use socketserver::{Activity, Request, Sender};

use crate::support::cell::{Cell, bind_with};
use crate::support::client::Client;
use crate::support::running::{Running, close};
use crate::support::{PATIENCE, receive, until};

/// Eight threads write to fifty connections, whose handlers wait to read.
pub fn a_storm_of_messages_arrives_whole(cell: Cell) {
    const CONNECTIONS: usize = 50;
    const THREADS: usize = 8;
    const MESSAGES: usize = 100;
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(bind_with(&place, EventLoop::new(2), move |request: &mut Request| {
        let _ = tell.send(request.sender()?);
        crate::support::echo(request)
    }));
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(&running.addr)).collect();
    let senders: Vec<Sender> = clients.iter().map(|_| receive("a sender", &told)).collect();
    let storm: Vec<_> = (0..THREADS)
        .map(|number| {
            let senders = senders.clone();
            thread::spawn(move || {
                for message in 0..MESSAGES {
                    for sender in &senders {
                        sender.send(format!("{number} {message:10}\n").as_bytes()).expect("there is room for all");
                    }
                }
            })
        })
        .collect();
    storm.into_iter().for_each(|thread| thread.join().unwrap());
    for client in &mut clients {
        let bytes = client.take_bytes(THREADS * MESSAGES * 13);
        let mut next = [0; THREADS];
        for line in String::from_utf8(bytes).unwrap().lines() {
            let (thread, message) = line.split_once(' ').expect("a whole message");
            let (thread, message): (usize, usize) = (thread.parse().unwrap(), message.trim().parse().unwrap());
            assert_eq!(message, next[thread], "a thread's messages keep their order");
            next[thread] += 1;
        }
        // The handler is still there, and well.
        client.write_all(b"hello").unwrap();
        assert_eq!(client.take_bytes(5), b"hello");
    }
    drop(clients);
    assert_eq!(running.finish().completed, CONNECTIONS as u64);
}

/// Four threads wake everybody all the time, with messages of no bytes, while reads, sleeps and offloaded work wait.
pub fn spurious_wakes_break_no_read(cell: Cell) {
    const CONNECTIONS: usize = 10;
    let place = cell.place();
    let (tell, told) = unbounded();
    let running = Running::start(bind_with(&place, EventLoop::new(2), move |request: &mut Request| {
        let _ = tell.send(request.sender()?);
        for _ in 0..20 {
            let mut message = [0; 20];
            request.read_exact(&mut message)?;
            let began = Instant::now();
            request.sleep(Duration::from_millis(1))?;
            assert!(began.elapsed() >= Duration::from_millis(1));
            let message = request.offload(move || message.map(|byte| byte + 1))?;
            request.write_all(&message)?;
        }
        Ok(())
    }));
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(&running.addr)).collect();
    let senders: Vec<Sender> = clients.iter().map(|_| receive("a sender", &told)).collect();
    let over = Arc::new(AtomicBool::new(false));
    let storm: Vec<_> = (0..4)
        .map(|_| {
            let (senders, over) = (senders.clone(), over.clone());
            thread::spawn(move || {
                while !over.load(SeqCst) {
                    for sender in &senders {
                        // It does not matter that there is no more room, or that it is over.
                        let _ = sender.send(b"");
                    }
                }
            })
        })
        .collect();
    for _ in 0..20 {
        for byte in 0..20 {
            clients.iter_mut().for_each(|client| client.write_all(&[byte]).unwrap());
        }
        let expected: Vec<u8> = (1..=20).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.take_bytes(20), expected));
    }
    over.store(true, SeqCst);
    storm.into_iter().for_each(|thread| thread.join().unwrap());
    drop(clients);
    assert_eq!(running.finish().completed, CONNECTIONS as u64);
}

pub fn offloaded_work_of_hundreds_shares_four_threads(cell: Cell) {
    const CONNECTIONS: usize = 200;
    let place = cell.place();
    let names: Arc<Mutex<HashSet<String>>> = Arc::default();
    let its_names = names.clone();
    let backend = EventLoop::new(2).offload_threads(4);
    let running = Running::start(bind_with(&place, backend, move |request: &mut Request| {
        let mut number = [0; 2];
        request.read_exact(&mut number)?;
        let mut number = u16::from_le_bytes(number);
        for _ in 0..5 {
            let names = its_names.clone();
            number = request.offload(move || {
                names.lock().unwrap().extend(thread::current().name().map(str::to_string));
                number + 1
            })?;
        }
        request.write_all(&number.to_le_bytes())
    }));
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(&running.addr)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&(number as u16).to_le_bytes()).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.take_bytes(2), (number as u16 + 5).to_le_bytes());
    }
    drop(clients);
    assert_eq!(running.finish().completed, CONNECTIONS as u64);
    let names = names.lock().unwrap();
    assert!(!names.is_empty() && names.len() <= 4, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("offload-")), "{names:?}");
}

/// Four pieces of work that need each other, and four threads: each piece has a thread of its own.
pub fn offloaded_work_may_wait_for_other_offloaded_work(cell: Cell) {
    const THREADS: usize = 4;
    for _ in 0..25 {
        let place = cell.place();
        let barrier = Arc::new(Barrier::new(THREADS));
        let backend = EventLoop::new(1).offload_threads(THREADS);
        let running = Running::start(bind_with(&place, backend, move |request: &mut Request| {
            while !request.fill_buf()?.is_empty() {
                request.consume(1);
                let barrier = barrier.clone();
                request.offload(move || {
                    barrier.wait();
                })?;
                request.write_all(b"!")?;
            }
            Ok(())
        }));
        let mut clients: Vec<Client> = (0..THREADS).map(|_| Client::connect(&running.addr)).collect();
        for _ in 0..10 {
            clients.iter_mut().for_each(|client| client.write_all(b"?").unwrap());
            clients.iter_mut().for_each(|client| assert_eq!(client.take_bytes(1), b"!"));
        }
        drop(clients);
        assert_eq!(running.finish().completed, THREADS as u64);
    }
}

/// The only thread is busy until their time is over: it does not make up for what nobody waits for any more.
pub fn work_that_nobody_waits_for_does_not_begin(cell: Cell) {
    const LATE: usize = 20;
    let (place, begun) = (cell.place(), Arc::new(AtomicUsize::new(0)));
    let its_begun = begun.clone();
    let (open, gate) = bounded::<()>(0);
    let backend = EventLoop::new(2).offload_threads(1);
    let running = Running::start(bind_with(&place, backend, move |request: &mut Request| {
        let mut kind = [0];
        request.read_exact(&mut kind)?;
        if kind[0] == b'l' {
            request.set_deadline(Some(Duration::from_millis(50)));
        }
        let (begun, gate) = (its_begun.clone(), gate.clone());
        request.offload(move || {
            begun.fetch_add(1, SeqCst);
            let _ = gate.recv();
        })
    }));
    let [mut first, mut last] = [(); 2].map(|()| Client::connect(&running.addr));
    first.write_all(b"f").unwrap();
    until("the thread is busy", || begun.load(SeqCst) == 1);
    let mut late: Vec<Client> = (0..LATE).map(|_| Client::connect(&running.addr)).collect();
    late.iter_mut().for_each(|client| client.write_all(b"l").unwrap());
    late.iter_mut().for_each(|client| assert_eq!(client.read_all(), b""));
    last.write_all(b"n").unwrap();
    drop(open);
    assert_eq!((first.read_all(), last.read_all()), (vec![], vec![]));
    let stats = running.finish();
    assert_eq!((stats.completed, stats.timed_out), (2, LATE as u64));
    assert_eq!(begun.load(SeqCst), 2);
}

/// One after the other, however many threads there may be.
pub fn work_that_comes_one_by_one_shares_few_threads(cell: Cell) {
    const TIMES: usize = 200;
    let place = cell.place();
    let (tell, told) = unbounded();
    let backend = EventLoop::new(1).offload_threads(TIMES);
    let running = Running::start(bind_with(&place, backend, move |request: &mut Request| {
        let threads: std::io::Result<HashSet<thread::ThreadId>> =
            (0..TIMES).map(|_| request.offload(|| thread::current().id())).collect();
        let _ = tell.send(threads?.len());
        Ok(())
    }));
    let mut client = Client::connect(&running.addr);
    assert_eq!(client.read_all(), b"");
    // A thread may not have counted its work out when the next comes.
    let threads = receive("the threads", &told);
    assert!(threads <= TIMES / 4, "{threads} threads");
    running.finish();
}

/// The work goes on without it.
pub fn a_cut_ends_the_wait_for_offloaded_work(cell: Cell) {
    let place = cell.place();
    let (open, gate) = bounded::<()>(0);
    let (tell, told) = unbounded();
    let running = Running::start(bind_with(&place, EventLoop::new(1), move |request: &mut Request| {
        let mut way = [0];
        request.read_exact(&mut way)?;
        let gate = gate.clone();
        let work = move || {
            let _ = gate.recv();
        };
        let result = if way == *b"r" { request.offload(work) } else { socketserver::offload(work) };
        let _ = tell.send(result.as_ref().err().map(std::io::Error::kind));
        result
    }));
    let _clients = [b"r", b"f"].map(|way| Client::sending(&running.addr, way));
    until("both wait", || {
        running.monitor.dump().iter().filter(|request| request.activity == Activity::Offloading).count() == 2
    });
    running.handle.drain(Duration::ZERO);
    for _ in 0..2 {
        assert_eq!(receive("an outcome", &told), Some(ErrorKind::ConnectionAborted));
    }
    drop(open);
    close(running.ended().0);
}

/// However it is typed. The only thread of the pool is busy.
pub fn connecting_to_an_address_waits_for_no_thread(cell: Cell) {
    let place = cell.place();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = upstream.local_addr().unwrap();
    let (open, gate) = bounded::<()>(0);
    let (begin, begun) = bounded(1);
    let backend = EventLoop::new(1).offload_threads(1);
    let running = Running::start(bind_with(&place, backend, move |request: &mut Request| {
        let mut way = [0];
        request.read_exact(&mut way)?;
        if way == *b"o" {
            let (begin, gate) = (begin.clone(), gate.clone());
            return request.offload(move || {
                begin.send(()).unwrap();
                let _ = gate.recv();
            });
        }
        let (ip, port) = (Ipv4Addr::LOCALHOST, addr.port());
        TcpStream::connect(addr)?;
        TcpStream::connect(SocketAddrV4::new(ip, port))?;
        TcpStream::connect(addr.to_string())?;
        TcpStream::connect((addr.ip(), port))?;
        TcpStream::connect((ip, port))?;
        TcpStream::connect(("127.0.0.1", port))?;
        TcpStream::connect(("127.0.0.1".to_string(), port))?;
        UdpSocket::connect(addr)?;
        // There may be no IPv6 here, which is told at once as well.
        let _ = UdpSocket::connect((Ipv6Addr::LOCALHOST, port));
        let _ = UdpSocket::connect(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0));
        request.write_all(b"connected")
    }));
    let mut busy = Client::connect(&running.addr);
    busy.write_all(b"o").unwrap();
    receive("the pool's work", &begun);
    assert_eq!(Client::connect(&running.addr).ask(b"c"), b"connected");
    drop(open);
    assert_eq!(busy.read_all(), b"");
    assert_eq!(running.finish().completed, 2);
}

/// All at a time, on two loops.
pub fn a_dump_tells_what_each_request_does(cell: Cell) {
    let place = cell.place();
    let (open, gate) = bounded::<()>(0);
    let running = Running::start(bind_with(&place, EventLoop::new(2), move |request: &mut Request| {
        let mut way = [0];
        request.read_exact(&mut way)?;
        match way[0] {
            b'r' => request.read_exact(&mut [0]),
            b'w' => request.write_all(&vec![0; 64 << 20]),
            b's' => request.sleep(PATIENCE * 2),
            _ => {
                let gate = gate.clone();
                request.offload(move || {
                    let _ = gate.recv();
                })
            }
        }
    }));
    let mut clients = Vec::new();
    for way in [b"r", b"w", b"s", b"o"] {
        let client = Client::sending(&running.addr, way);
        clients.push(client);
    }
    let activities = [Activity::Reading, Activity::Writing, Activity::Sleeping, Activity::Offloading];
    until("each waits for something else", || {
        let dump = running.monitor.dump();
        // Before its first byte, each waits to read.
        dump.len() == 4
            && dump.iter().all(|request| request.bytes_read == 1)
            && activities.iter().all(|activity| dump.iter().any(|request| request.activity == *activity))
    });
    for request in running.monitor.dump() {
        assert!(request.to_string().contains(&request.activity.to_string()), "{request}");
        assert!(request.age <= PATIENCE, "{request}");
    }
    running.handle.drain(Duration::ZERO);
    let (server, served) = running.ended();
    assert_eq!(served.cut, 4);
    // Those of the other loop may take a moment longer. Only then the work may end: a result that is there is taken, cut or not.
    until("all have ended", || server.monitor().dump().is_empty());
    drop(open);
    assert_eq!(close(server).cut, 4);
}
