//! Waiting for a condition, and what ends that.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socketserver::backend::BackendName;
use socketserver::sync::{Condvar, Mutex, channel};
use socketserver::{Activity, Request, spawn};

use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::{serve, stop};

on_every_backend! {
    a_condvar_wakes_whom_it_concerns
    who_is_notified_in_time_is_not_timed_out
    who_is_not_notified_is_timed_out
    who_gives_the_mutex_back_to_wait_misses_no_notification
    a_drain_ends_one_wait_for_a_condition
    a_close_ends_one_wait_for_a_condition
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

/// Who looks for that before each wait leaves at once.
fn a_close_ends_one_wait_for_a_condition(name: BackendName) {
    let (told, outcome) = channel::unbounded();
    let running = serve(name, move |request: &mut Request| {
        let sender = request.sender()?;
        told.send((request.is_cut_off(), Some(sender))).map_err(io::Error::other)?;
        let (mutex, changed) = (Mutex::new(()), Condvar::new());
        let mut guard = mutex.lock().unwrap();
        while !request.is_cut_off() {
            guard = changed.wait(guard).unwrap();
        }
        drop(guard);
        told.send((request.is_draining(), None)).map_err(io::Error::other)?;
        request.write_all(b"bye")
    });
    let mut client = Client::connect(&running.addr);
    let (was_cut_off, sender) = outcome.recv_timeout(PATIENCE).expect("the handler runs");
    running.wait_for_activity(Activity::Waiting);
    sender.expect("a sender").close();
    assert!(client.is_hung_up());
    let (was_draining, _) = outcome.recv_timeout(PATIENCE).expect("the handler goes on");
    assert!(!was_cut_off && !was_draining);
    assert_eq!(running.finish().cut, 1);
}
