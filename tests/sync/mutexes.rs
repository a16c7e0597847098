//! Locks that are held across I/O.

use std::io::{self, BufRead, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use socketserver::backend::BackendName;
use socketserver::sync::{Mutex, channel};
use socketserver::{Activity, Request, spawn};

use crate::support::client::Client;
use crate::{serve, stop};

on_every_backend! {
    a_mutex_is_held_across_io
    a_panic_poisons_and_only_that_mutex
    nobody_who_waits_for_a_mutex_is_passed
    a_cut_hangs_up_although_the_handler_waits_for_a_lock
}

/// Each client's request holds the lock while it waits for its client twice: no two are ever in there.
fn a_mutex_is_held_across_io(name: BackendName) {
    let inside = Arc::new(Mutex::new(0));
    let shared = inside.clone();
    let running = serve(name, move |request: &mut Request| {
        let mut line = String::new();
        request.read_line(&mut line)?;
        let mut count = shared.lock().expect("nobody panics");
        *count += 1;
        let before = *count;
        request.write_all(b"in\n")?;
        request.read_line(&mut line)?;
        request.sleep(Duration::from_millis(1))?;
        assert_eq!(*count, before);
        writeln!(request, "{count}")
    });
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = Client::connect(&running.addr);
            thread::spawn(move || {
                stream.write_all(b"a\nb\n").expect("a write");
                let mut text = String::new();
                stream.read_to_string(&mut text).expect("a reply");
                text
            })
        })
        .collect();
    let mut replies: Vec<String> = clients.into_iter().map(|client| client.join().expect("no panic")).collect();
    replies.sort_by_key(String::len);
    let mut numbers: Vec<usize> = replies.iter().map(|text| text[3..].trim().parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
    assert_eq!(stop(running, Duration::from_secs(5)), 0);
    assert_eq!(*inside.lock().expect("nobody panicked"), 16);
}

fn a_panic_poisons_and_only_that_mutex(name: BackendName) {
    let mutexes = Arc::new((Mutex::new(()), Mutex::new(())));
    let shared = mutexes.clone();
    let running = serve(name, move |request: &mut Request| {
        let mut line = String::new();
        request.read_line(&mut line)?;
        if line == "panic\n" {
            let _guard = shared.0.lock();
            panic!("as it is told");
        }
        let _guard = shared.1.lock();
        request.read_line(&mut line)?;
        Ok(())
    });
    // A sequential server would serve nobody beside it.
    let innocent = (name != BackendName::Sequential).then(|| Client::sending(&running.addr, b"hold\n"));
    let mut guilty = Client::sending(&running.addr, b"panic\n");
    assert_eq!(guilty.read(&mut [0]).expect("the end"), 0);
    drop(innocent);
    assert_eq!(stop(running, Duration::from_secs(5)), 0);
    assert!(mutexes.0.is_poisoned() && !mutexes.1.is_poisoned());
    mutexes.0.clear_poison();
    assert!(mutexes.0.lock().is_ok());
}

/// One who holds the mutex nearly always, across I/O, lets those have it who wait.
fn nobody_who_waits_for_a_mutex_is_passed(name: BackendName) {
    let running = serve(name, |request: &mut Request| {
        let (mutex, rounds) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
        let (tell, told) = channel::unbounded();
        let (shared, counted) = (mutex.clone(), rounds.clone());
        let greedy = spawn(move || {
            for _ in 0..1000 {
                let _guard = shared.lock().unwrap();
                let _ = tell.send(());
                counted.fetch_add(1, SeqCst);
                socketserver::sleep(Duration::from_millis(1)).unwrap();
            }
        })?;
        told.recv().map_err(io::Error::other)?;
        let before = rounds.load(SeqCst);
        let guard = mutex.lock().unwrap();
        let passed = rounds.load(SeqCst) - before;
        drop(guard);
        greedy.join()?;
        write!(request, "{passed}")
    });
    let passed: usize = io::read_to_string(Client::connect(&running.addr)).expect("a reply").parse().expect("a number");
    assert!(passed < 10, "passed {passed} times");
    stop(running, Duration::from_secs(30));
}

/// The lock hears of no cut. But nobody waits for its holder to tell the peer.
fn a_cut_hangs_up_although_the_handler_waits_for_a_lock(name: BackendName) {
    let mutex = Arc::new(Mutex::new(()));
    let its_mutex = mutex.clone();
    let running = serve(name, move |request: &mut Request| {
        request.write_all(b"!")?;
        drop(its_mutex.lock());
        Ok(())
    });
    let guard = mutex.lock();
    let mut client = Client::connect(&running.addr);
    client.read_exact(&mut [0]).expect("the handler runs");
    running.wait_for_activity(Activity::Waiting);
    running.handle.drain(Duration::from_millis(50));
    assert!(client.is_hung_up());
    drop(guard);
    assert_eq!(running.ended().1.cut, 1);
}

/// A thread's locals are gone one by one when it ends, and what a lock needs is among them.
#[test]
fn a_lock_is_taken_in_the_destructor_of_a_thread_local() {
    static COUNT: LazyLock<Mutex<u32>> = LazyLock::new(Mutex::default);
    struct AtEnd;

    impl Drop for AtEnd {
        fn drop(&mut self) {
            *COUNT.lock().expect("nobody panicked") += 1;
        }
    }

    thread_local! {
        static AT_END: AtEnd = const { AtEnd };
    }
    let thread = thread::spawn(|| {
        // In this order: so what the lock needs is gone first.
        AT_END.with(|_| ());
        *COUNT.lock().expect("nobody panicked") += 1;
    });
    thread.join().expect("no panic");
    assert_eq!(*COUNT.lock().expect("nobody panicked"), 2);
}
