//! [`Reception`]: a backend that serves important peers first.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use socketserver::backend::{Backend, Sources};
use socketserver::{Addr, Job, Waker};

/// A few desks (threads), and a waiting room with a bounded number of seats. Who is important is called to a desk before all
/// others; otherwise it goes by order of arrival. When all seats are taken, nobody else is let in.
pub struct Reception {
    desks: usize,
    is_important: Box<dyn Fn(&Addr) -> bool + Send>,
    room: Arc<WaitingRoom>,
    threads: Vec<JoinHandle<()>>,
    /// Nothing is ever sent: each thread has a clone of the one, and when all have been dropped, the other hears of it.
    running: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl Reception {
    pub fn new(desks: usize, seats: usize, is_important: impl Fn(&Addr) -> bool + Send + 'static) -> Reception {
        let (running, ended) = channel();
        let room = Arc::new(WaitingRoom { seats: seats.max(1), ..WaitingRoom::default() });
        let is_important = Box::new(is_important);
        Reception { desks: desks.max(1), is_important, room, threads: Vec::new(), running: Some(running), ended }
    }
}

impl Backend for Reception {
    /// Called at the beginning of every serving: the threads of an earlier one are still there.
    fn activate(&mut self, sources: &Sources<'_>) -> io::Result<()> {
        self.room.lock().waker = Some(sources.waker().clone());
        while self.threads.len() < self.desks {
            let (room, running) = (self.room.clone(), self.running.clone());
            let desk = Builder::new().name(format!("desk-{}", self.threads.len()));
            self.threads.push(desk.spawn(move || {
                let _running = running;
                room.serve();
            })?);
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.room.lock().waiting.len() < self.room.seats
    }

    fn process_request(&mut self, job: Job) {
        let important = job.peer_addr().is_some_and(&self.is_important);
        let mut inside = self.room.lock();
        let place = if important { inside.waiting.partition_point(|(first, _)| *first) } else { inside.waiting.len() };
        inside.waiting.insert(place, (important, job));
        self.room.changed.notify_one();
    }

    fn server_close(&mut self, until: Option<Instant>) -> usize {
        self.room.close();
        self.running = None;
        let all_ended = match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(left) => self.ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected),
            None => self.ended.recv().is_err(),
        };
        if !all_ended {
            // Those who are idle have been told, and end without being waited for.
            self.threads.clear();
            return self.room.lock().busy;
        }
        // A job never panics, so neither does its thread.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
        0
    }
}

/// Nobody need have closed the server: its threads end all the same.
impl Drop for Reception {
    fn drop(&mut self) {
        self.room.close();
    }
}

/// What the serving thread and the desks share.
#[derive(Default)]
struct WaitingRoom {
    seats: usize,
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    /// The important ones are in front.
    waiting: VecDeque<(bool, Job)>,
    /// Desks at which somebody is served.
    busy: usize,
    closed: bool,
    /// Rung when there is a seat again: the server asks `has_room` by itself only when a job has *ended*.
    waker: Option<Arc<Waker>>,
}

impl WaitingRoom {
    /// What a desk does all day.
    fn serve(&self) {
        while let Some(job) = self.next() {
            job.run();
            self.lock().busy -= 1;
        }
    }

    fn next(&self) -> Option<Job> {
        let inside = self.lock();
        let mut inside = self
            .changed
            .wait_while(inside, |inside| inside.waiting.is_empty() && !inside.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let was_full = inside.waiting.len() == self.seats;
        let (_, job) = inside.waiting.pop_front()?;
        inside.busy += 1;
        if was_full {
            inside.waker.iter().for_each(|waker| waker.wake());
        }
        Some(job)
    }

    /// Sends those home who still wait, and the desks when they have finished.
    fn close(&self) {
        let waiting = {
            let mut inside = self.lock();
            inside.closed = true;
            self.changed.notify_all();
            std::mem::take(&mut inside.waiting)
        };
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
