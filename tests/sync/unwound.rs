//! Those who wait on a loop that ends: what would have woken them wakes somebody else.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use socketserver::backend::BackendName;
use socketserver::sync::{Condvar, Mutex, channel};
use socketserver::{Request, spawn};

use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::running::Running;
use crate::{serve, stop};

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
        told.recv_timeout(PATIENCE).expect("it is about to wait");
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
