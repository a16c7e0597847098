//! Locks and channels that park: on every backend the same handlers, on one loop where that is a loop.

#[macro_use]
#[path = "support/on_every_backend.rs"]
mod on_every_backend;
mod support;

use std::io::{self, BufRead, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use socketserver::backend::{Backend, BackendName, EventLoop};
use socketserver::sync::channel::SendTimeoutError;
use socketserver::sync::{Condvar, Mutex, channel};
use socketserver::{Activity, HandlerFactory, Request, spawn};

use support::cell::{Kind, Place, bind_with};
use support::client::Client;
use support::running::Running;

/// One loop, so that whoever blocked it would block everybody.
fn backend(name: BackendName) -> Box<dyn Backend> {
    match name {
        BackendName::EventLoop => Box::new(EventLoop::new(1)),
        name => name.backend(),
    }
}

fn serve<K>(name: BackendName, handler: impl HandlerFactory<K>) -> Running {
    Running::start(bind_with(&Place::new(Kind::Tcp4), backend(name), handler))
}

/// Ends serving, and says how many requests had to be cut off.
fn stop(running: Running, grace: Duration) -> usize {
    running.handle.drain(grace);
    running.ended().1.cut
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

fn a_condvar_wakes_whom_it_concerns(name: BackendName) {
    let running = serve(name, |request: &mut Request| {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let siblings = (0..4)
            .map(|number| {
                let shared = shared.clone();
                spawn(move || {
                    let (turn, changed) = &*shared;
                    let mut turn = changed.wait_while(turn.lock().unwrap(), |turn| *turn != number).unwrap();
                    *turn += 1;
                    changed.notify_all();
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (turn, changed) = &*shared;
        let guard = turn.lock().unwrap();
        let guard = changed.wait_while(guard, |turn| *turn < 4).unwrap();
        let (guard, timed_out) = changed.wait_timeout_while(guard, Duration::MAX, |turn| *turn < 4).unwrap();
        write!(request, "{} {timed_out}", *guard)?;
        drop(guard);
        siblings.into_iter().try_for_each(|sibling| sibling.join())
    });
    assert_eq!(io::read_to_string(Client::connect(&running.addr)).expect("a reply"), "4 false");
    assert_eq!(stop(running, Duration::from_secs(5)), 0);
}

/// It is notified in time, by one who keeps the mutex until the time is over.
fn who_is_notified_in_time_is_not_timed_out(name: BackendName) {
    const TIMEOUT: Duration = Duration::from_millis(200);
    let running = serve(name, |request: &mut Request| {
        let shared = Arc::new((Mutex::new(()), Condvar::new()));
        let (mutex, changed) = &*shared;
        let guard = mutex.lock().unwrap();
        let over = Instant::now() + TIMEOUT;
        let its_shared = shared.clone();
        let other = spawn(move || {
            let guard = its_shared.0.lock().unwrap();
            its_shared.1.notify_one();
            let in_time = Instant::now() < over;
            // Somewhat longer: the wait began after the clock was read.
            socketserver::sleep(TIMEOUT * 2).map(|()| drop(guard))?;
            io::Result::Ok(in_time)
        })?;
        let (guard, timed_out) = changed.wait_timeout(guard, TIMEOUT).unwrap();
        drop(guard);
        // On a machine that is too busy it was not in time, and then that may be said.
        let in_time = other.join()??;
        write!(request, "{}", in_time && timed_out)
    });
    assert_eq!(io::read_to_string(Client::connect(&running.addr)).expect("a reply"), "false");
    assert_eq!(stop(running, Duration::from_secs(5)), 0);
}

fn who_is_not_notified_is_timed_out(name: BackendName) {
    let running = serve(name, |request: &mut Request| {
        let (mutex, changed) = (Mutex::new(()), Condvar::new());
        let over = Instant::now() + Duration::from_millis(20);
        let mut guard = mutex.lock().unwrap();
        let mut timed_out = false;
        while !timed_out {
            (guard, timed_out) = changed.wait_timeout(guard, over.saturating_duration_since(Instant::now())).unwrap();
        }
        write!(request, "{}", Instant::now() >= over)?;
        (guard, timed_out) = changed.wait_timeout_while(guard, Duration::from_millis(20), |()| true).unwrap();
        drop(guard);
        write!(request, " {timed_out} {}", over.elapsed() >= Duration::from_millis(20))
    });
    assert_eq!(io::read_to_string(Client::connect(&running.addr)).expect("a reply"), "true true true");
    assert_eq!(stop(running, Duration::from_secs(5)), 0);
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

/// The other one takes the mutex in the moment in which it is given back, and notifies who has given it back.
fn who_gives_the_mutex_back_to_wait_misses_no_notification(name: BackendName) {
    const ROUNDS: u32 = 500;
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let its_shared = shared.clone();
    let running = serve(name, move |request: &mut Request| {
        let (turn, changed) = &*its_shared;
        let mut turn = turn.lock().unwrap();
        for round in 0..ROUNDS {
            *turn = 2 * round + 1;
            let over = Instant::now() + Duration::from_secs(30);
            while *turn == 2 * round + 1 && Instant::now() < over {
                turn = changed.wait_timeout(turn, over.saturating_duration_since(Instant::now())).unwrap().0;
            }
            assert!(Instant::now() < over, "a notification was missed");
        }
        request.write_all(b"all")
    });
    let client = Client::connect(&running.addr);
    for round in 0..ROUNDS {
        loop {
            if let Ok(mut turn) = shared.0.try_lock() {
                if *turn == 2 * round + 1 {
                    *turn += 1;
                    shared.1.notify_one();
                    break;
                }
            }
            thread::yield_now();
        }
    }
    assert_eq!(io::read_to_string(client).expect("a reply"), "all");
    assert_eq!(stop(running, Duration::from_secs(5)), 0);
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

/// Who looks for the drain before each wait leaves at once, however long the drain would wait.
fn a_drain_ends_one_wait_for_a_condition(name: BackendName) {
    for timeout in [None, Some(Duration::MAX)] {
        let running = serve(name, move |request: &mut Request| {
            let (mutex, changed) = (Mutex::new(()), Condvar::new());
            request.write_all(b"!")?;
            let mut guard = mutex.lock().unwrap();
            while !request.is_draining() {
                guard = match timeout {
                    None => changed.wait(guard).unwrap(),
                    Some(timeout) => {
                        let (guard, timed_out) = changed.wait_timeout(guard, timeout).unwrap();
                        assert!(!timed_out);
                        guard
                    }
                };
            }
            drop(guard);
            request.write_all(b"bye")
        });
        let mut client = Client::connect(&running.addr);
        client.read_exact(&mut [0]).expect("the handler runs");
        assert_eq!(stop(running, Duration::from_secs(30)), 0);
        assert_eq!(io::read_to_string(client).expect("a farewell"), "bye");
    }
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
    assert_eq!(outcome.recv_timeout(Duration::from_secs(30)), Ok(true));
}

on_every_backend! {
    a_mutex_is_held_across_io
    a_panic_poisons_and_only_that_mutex
    a_channel_carries_everything_in_order
    who_sends_waits_for_room_for_so_long
    a_thread_may_be_at_the_other_end
    a_condvar_wakes_whom_it_concerns
    nobody_who_waits_for_a_mutex_is_passed
    who_is_notified_in_time_is_not_timed_out
    who_is_not_notified_is_timed_out
    who_gives_the_mutex_back_to_wait_misses_no_notification
    a_drain_ends_one_wait_for_a_condition
    a_cut_ends_the_wait_for_a_channel
    a_cut_hangs_up_although_the_handler_waits_for_a_lock
}

/// A server of one loop, on which something waits for a client.
struct Waiting {
    running: Running,
    /// Something is about to wait.
    told: channel::Receiver<()>,
    client: Client,
}

impl Waiting {
    /// Returns when `wait` waits: in a request, or (`way` is `s`) in a sibling whose request is over.
    fn start(way: u8, wait: impl Fn() + Clone + Send + Sync + 'static) -> Waiting {
        let (tell, told) = channel::unbounded();
        let running = serve(BackendName::EventLoop, move |request: &mut Request| {
            let mut way = [0];
            request.read_exact(&mut way)?;
            let (tell, wait) = (tell.clone(), wait.clone());
            let waits = move || {
                tell.send(()).expect("the test listens");
                wait();
            };
            match way[0] {
                b'w' => waits(),
                b's' => drop(spawn(waits)?),
                _ => {}
            }
            request.write_all(b"!")
        });
        let client = Waiting::another(&running, way, &told);
        Waiting { running, told, client }
    }

    /// Returns when another one waits on the same loop.
    fn another(running: &Running, way: u8, told: &channel::Receiver<()>) -> Client {
        let client = Client::sending(&running.addr, &[way]);
        told.recv_timeout(Duration::from_secs(30)).expect("it is about to wait");
        // It runs until it waits; only then the loop serves another.
        let mut other = Client::sending(&running.addr, b"?");
        other.read_exact(&mut [0]).expect("a reply");
        client
    }
}

/// Two servers wait for the same, and the first one ends: what comes then is for the second.
fn a_wake_is_for_those_who_are_left(wait: impl Fn() + Clone + Send + Sync + 'static, wake: impl FnOnce()) {
    let gone = [b'w', b's'].map(|way| Waiting::start(way, wait.clone()));
    for waiting in gone {
        stop(waiting.running, Duration::ZERO);
    }
    let mut left = Waiting::start(b'w', wait);
    wake();
    left.client.read_exact(&mut [0]).expect("it is woken");
    assert_eq!(stop(left.running, Duration::from_secs(5)), 0);
}

#[test]
fn an_unwound_waiter_takes_no_mutex_with_it() {
    let mutex = Arc::new(Mutex::new(()));
    let its_mutex = mutex.clone();
    let guard = mutex.lock();
    a_wake_is_for_those_who_are_left(move || drop(its_mutex.lock()), move || drop(guard));
}

#[test]
fn an_unwound_waiter_takes_no_notification_with_it() {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let (ready, changed) = &*shared;
    let its_shared = shared.clone();
    let wait = move || drop(its_shared.1.wait_while(its_shared.0.lock().unwrap(), |ready| !*ready));
    let wake = || {
        *ready.lock().unwrap() = true;
        changed.notify_one();
    };
    a_wake_is_for_those_who_are_left(wait, wake);
}

/// It is notified, but the mutex is held until it is gone.
#[test]
fn a_notified_waiter_that_never_gets_its_mutex_takes_no_notification_with_it() {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let (ready, changed) = &*shared;
    let its_shared = shared.clone();
    let wait = move || drop(its_shared.1.wait_while(its_shared.0.lock().unwrap(), |ready| !*ready));
    let gone = Waiting::start(b'w', wait.clone());
    let mut left = Waiting::start(b'w', wait);
    let mut guard = ready.lock().unwrap();
    *guard = true;
    changed.notify_one();
    stop(gone.running, Duration::ZERO);
    drop(guard);
    left.client.read_exact(&mut [0]).expect("it is notified instead");
    assert_eq!(stop(left.running, Duration::from_secs(5)), 0);
}

/// The holder is unwound with the waiter behind it: what it gives back then is for the next one, who is elsewhere.
#[test]
fn an_unwound_waiter_whose_turn_has_come_leaves_it_to_the_next() {
    let mutex = Arc::new(Mutex::new(()));
    let its_mutex = mutex.clone();
    let first = Waiting::start(b'w', move || match its_mutex.try_lock() {
        Ok(_held) => {
            let (other, never) = (Mutex::new(()), Condvar::new());
            drop(never.wait_while(other.lock().unwrap(), |()| true));
        }
        Err(_) => drop(its_mutex.lock()),
    });
    let _second = Waiting::another(&first.running, b'w', &first.told);
    let mut left = Waiting::start(b'w', move || drop(mutex.lock()));
    stop(first.running, Duration::ZERO);
    left.client.read_exact(&mut [0]).expect("it has its turn");
    assert_eq!(stop(left.running, Duration::from_secs(5)), 0);
}

#[test]
fn an_unwound_waiter_takes_no_value_with_it() {
    let (sender, receiver) = channel::unbounded();
    let wait = move || {
        let _ = receiver.recv();
    };
    a_wake_is_for_those_who_are_left(wait, || sender.send(()).expect("somebody receives"));
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
