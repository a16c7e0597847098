//! [`Outbox`]: what others write to a connection, in whole messages, beside its handler.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::lock::lock;
use crate::park::Unparker;
use crate::socket::{self, Blocking};

/// The queue of one connection. Every writer sends at once what the kernel takes. What it does not take of a message of others is
/// queued here, and the connection's own side sends it whenever it waits.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    /// Whether anything is queued: what the connection's own side looks at before it waits.
    pending: AtomicBool,
}

#[derive(Default)]
struct Queue {
    bytes: VecDeque<u8>,
    /// How many bytes of messages of others have been sent.
    sent: u64,
    /// The handler has sent a part of a message: nothing may come before the rest of it.
    mid_message: bool,
    /// Nothing more will be written: when all is sent, the peer is to read the end.
    finished: bool,
    /// The handler has ended: what is queued is the last that is sent.
    closed: bool,
    /// Why the connection is lost, if a message of others has met that. The system says it once, and who reads is still to hear it.
    lost: Option<i32>,
    /// Who waits until there is room. Each is unparked once, when there may be.
    writers: Vec<Unparker>,
}

impl Outbox {
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(SeqCst)
    }

    /// Whether the end of the stream, which has been read, is one: not if a message of others has met that the connection is lost.
    ///
    /// # Errors
    ///
    /// That, once.
    pub(crate) fn check_end(&self) -> io::Result<()> {
        lock(&self.queue).lost.take().map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }

    /// How many bytes of messages of others have been sent.
    pub(crate) fn sent(&self) -> u64 {
        lock(&self.queue).sent
    }

    /// Whether something is queued that can still be sent: not behind half a message of the handler's.
    pub(crate) fn has_message(&self) -> bool {
        self.is_pending() && !lock(&self.queue).mid_message
    }

    /// Sends a message of somebody else without waiting; `Ok(true)` if a part of it was queued.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it does not fit into `capacity` bytes beside what is queued already; nothing of it is sent then. `BrokenPipe` after
    /// [`finish`](Outbox::finish), `NotConnected` after [`close`](Outbox::close).
    pub(crate) fn post(&self, fd: BorrowedFd<'_>, message: &[u8], capacity: usize) -> io::Result<bool> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(over());
        }
        if queue.finished {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "writing to this peer has been finished"));
        }
        if queue.bytes.len() + message.len() > capacity {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "the message does not fit into the peer's queue"));
        }
        let sent = if queue.bytes.is_empty() && !queue.mid_message {
            send_some(fd, message).inspect_err(|error| queue.note_loss(error))?
        } else {
            0
        };
        queue.sent += sent as u64;
        queue.bytes.extend(&message[sent..]);
        self.pending.store(!queue.bytes.is_empty(), SeqCst);
        Ok(sent < message.len())
    }

    /// Ends the writing direction when all that has been written is sent: now, or by whoever sends the rest.
    pub(crate) fn finish(&self, fd: BorrowedFd<'_>) {
        let mut queue = lock(&self.queue);
        queue.finished = true;
        queue.end(fd);
    }

    /// Takes no more messages: the handler has ended, and nobody would send them. What is queued is still to be sent.
    pub(crate) fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.wake_writers();
    }

    /// Unparks `writer` when there may be room.
    pub(crate) fn wait_for_room(&self, writer: Unparker) {
        let mut queue = lock(&self.queue);
        queue.writers.retain(|other| *other != writer);
        queue.writers.push(writer);
    }

    /// Takes that back.
    pub(crate) fn forget(&self, writer: &Unparker) {
        lock(&self.queue).writers.retain(|other| other != writer);
    }

    /// Unparks those who wait for room.
    pub(crate) fn wake_writers(&self) {
        lock(&self.queue).wake_writers();
    }

    /// Sends what is queued, as far as the kernel takes it. `true` if the rest waits for the kernel to take more. Behind half a message
    /// of the handler's it waits for the other half instead.
    ///
    /// # Errors
    ///
    /// The system's, once: what is queued is lost then.
    pub(crate) fn flush(&self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        let mut queue = lock(&self.queue);
        if queue.mid_message {
            return Ok(false);
        }
        let sent = self.send_queued(&mut queue, fd);
        if let Err(error) = &sent {
            queue.note_loss(error);
            queue.bytes = VecDeque::new();
            queue.wake_writers();
            self.pending.store(false, SeqCst);
        }
        sent.map(|all| !all)
    }

    /// Sends a part of the handler's own message, after what was queued before it began. `sent` bytes of it are out
    /// already; returns how many are now.
    pub(crate) fn write(&self, fd: BorrowedFd<'_>, message: &[u8], sent: usize) -> io::Result<usize> {
        let mut queue = lock(&self.queue);
        if !queue.mid_message && !self.send_queued(&mut queue, fd)? {
            return Ok(sent);
        }
        let result = send_some(fd, &message[sent..]);
        let sent = sent + *result.as_ref().unwrap_or(&0);
        queue.mid_message = result.is_ok() && sent > 0 && sent < message.len();
        queue.end(fd);
        result.map(|_| sent)
    }

    /// Sends from the queue until it is empty (`true`) or the kernel takes no more.
    fn send_queued(&self, queue: &mut Queue, fd: BorrowedFd<'_>) -> io::Result<bool> {
        while !queue.bytes.is_empty() {
            let sent = send_some(fd, queue.bytes.as_slices().0)?;
            if sent == 0 {
                return Ok(false);
            }
            queue.sent += sent as u64;
            queue.bytes.drain(..sent);
            queue.wake_writers();
        }
        // A connection whose queue is empty holds no memory for it.
        queue.bytes = VecDeque::new();
        self.pending.store(false, SeqCst);
        queue.end(fd);
        Ok(true)
    }
}

impl Queue {
    /// Remembers the error by which the connection is lost, if it is one that the system does not say again, as it does `BrokenPipe`.
    fn note_loss(&mut self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut) {
            self.lost = self.lost.or(error.raw_os_error());
        }
    }

    /// Ends the writing direction if it is finished and all is sent.
    fn end(&self, fd: BorrowedFd<'_>) {
        if self.finished && self.bytes.is_empty() && !self.mid_message {
            socket::shutdown_write(fd);
        }
    }

    fn wake_writers(&mut self) {
        self.writers.drain(..).for_each(|writer| writer.unpark());
    }
}

pub(crate) fn over() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the request is over")
}

/// Sends without waiting; 0 if the kernel takes nothing now.
fn send_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    match socket::send(fd, bytes, Blocking::No) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
