//! The two directions of a connection.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::core::Core;
use crate::buffer;
use crate::outbox::Outbox;
use crate::readiness::Readiness;
use crate::socket::{self, Blocking};

/// The reading direction.
#[derive(Default)]
pub(super) struct Input {
    /// What was received last. While that is nothing, it has no memory.
    buffer: Vec<u8>,
    /// How much of it has been consumed.
    start: usize,
}

impl Input {
    /// What is buffered; if that is nothing, what the next read gives. Empty at the end of the stream.
    pub(super) fn fill_buf(&mut self, core: &Core) -> io::Result<&[u8]> {
        if self.buffered().is_empty() {
            let received = receive(core, buffer::SIZE, |fd, blocking| {
                if self.buffer.capacity() == 0 {
                    self.buffer = buffer::take();
                }
                let received = socket::recv_into(fd, &mut self.buffer, blocking);
                // Who waits holds no buffer.
                if !matches!(received, Ok(1..)) {
                    self.give_back();
                }
                received
            });
            core.or_spend(received)?;
        } else {
            // The beginning of another message, it may be, which came together with one that has been answered.
            core.busy.set(true);
        }
        Ok(self.buffered())
    }

    #[inline]
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.buffer.len().min(self.start.saturating_add(count));
        if self.start == self.buffer.len() {
            self.give_back();
        }
    }

    pub(super) fn read(&mut self, core: &Core, into: &mut [u8]) -> io::Result<usize> {
        // What would fill the buffer anyway need not pass through it.
        if self.buffered().is_empty() && into.len() >= buffer::SIZE {
            return core.or_spend(receive(core, into.len(), |fd, blocking| socket::recv(fd, into, blocking)));
        }
        if into.is_empty() {
            return Ok(0);
        }
        let count = io::Read::read(&mut self.fill_buf(core)?, into)?;
        self.consume(count);
        Ok(count)
    }

    pub(super) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    #[inline]
    fn give_back(&mut self) {
        self.start = 0;
        if self.buffer.capacity() > 0 {
            buffer::give(std::mem::take(&mut self.buffer));
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Reads once, with `recv`, and waits until there is something to read. 0 is the end of the stream.
///
/// This is where a drain ends an idle connection: before the read that would wait.
#[inline]
fn receive(
    core: &Core,
    wanted: usize,
    mut recv: impl FnMut(BorrowedFd<'_>, Blocking) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut reading = core.attempt(Readiness::READ);
    loop {
        core.say_idle(!core.busy.get());
        // Asked for after saying that it is idle: either this sees the drain, or the drain sees that.
        if let Some(blocking) = reading.next_call() {
            let received = reading.call(wanted, blocking, &mut recv);
            if !matches!(received, Ok(None)) {
                core.say_idle(false);
            }
            match received? {
                Some(0) => {
                    core.live.check()?;
                    core.live.outbox().map_or(Ok(()), Outbox::check_end)?;
                    // A drain ends the read of a thread, and says nothing of the peer: that may be sending.
                    core.at_end.set(!core.live.is_draining());
                    return Ok(0);
                }
                Some(count) => {
                    core.busy.set(true);
                    core.live.count_read(count);
                    return Ok(count);
                }
                None if core.live.is_draining() && !core.busy.get() => {
                    core.live.check()?;
                    core.spend(0);
                    return Ok(0);
                }
                None => {}
            }
        }
        reading.wait().inspect_err(|_| core.say_idle(false))?;
    }
}

/// Sends all bytes, as one message among those of others.
pub(super) fn write_all(core: &Core, bytes: &[u8]) -> io::Result<()> {
    let mut writing = core.attempt(Readiness::WRITE);
    let mut sent = 0;
    core.check()?;
    while sent < bytes.len() {
        let rest = &bytes[sent..];
        let count = match core.live.outbox() {
            None => match writing.next_call() {
                None => None,
                Some(blocking) => {
                    writing.call(rest.len(), blocking, |fd, blocking| socket::send(fd, rest, blocking))?
                }
            },
            Some(outbox) => {
                // Asked without regard to what is known to be ready: others write, too.
                let count = core.live.unless_cut(outbox.write(core.fd(), bytes, sent))? - sent;
                core.spend(count);
                (count > 0).then_some(count)
            }
        };
        match count {
            Some(count) => sent += count,
            None => writing.wait()?,
        }
    }
    core.live.count_written(bytes.len());
    core.set_idle();
    Ok(())
}

/// Sends all pieces, as one message.
pub(super) fn write_all_vectored(core: &Core, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let total = length(pieces);
    let mut writing = core.attempt(Readiness::WRITE);
    let mut sent = 0;
    if let Some(blocking) = writing.next_call().filter(|_| core.live.outbox().is_none() && total > 0) {
        let first = socket::first_pieces(pieces);
        let count = writing.call(length(first), blocking, |fd, blocking| socket::send_vectored(fd, first, blocking))?;
        sent = count.unwrap_or(0);
    }
    core.live.count_written(sent);
    if sent < total {
        write_all(core, &rest(pieces, sent))?;
    }
    core.set_idle();
    Ok(total)
}

fn length(pieces: &[IoSlice<'_>]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// The pieces as one, without the first `sent` bytes.
fn rest(pieces: &[IoSlice<'_>], mut sent: usize) -> Vec<u8> {
    let mut rest = Vec::with_capacity(length(pieces) - sent);
    for piece in pieces {
        let skipped = sent.min(piece.len());
        rest.extend_from_slice(&piece[skipped..]);
        sent -= skipped;
    }
    rest
}

/// How long a closing connection is read from after its last byte has been sent, at the most.
const LINGER: Duration = Duration::from_secs(2);
/// How long a silent peer is waited for then.
const LINGER_SILENCE: Duration = Duration::from_millis(500);
/// How many bytes are read then, at the most.
const LINGER_BYTES: usize = 64 << 20;

/// Ends the connection so that the peer gets everything that was sent to it.
///
/// A socket that is closed with input unread resets the connection, and the reset destroys what the peer has not read
/// yet. So where there is such input, this half-closes and reads on, for at most 2 seconds, half a second of silence and 64 MiB.
/// (nginx calls this `lingering_close`.) Where the peer has ended its direction, to close is all there is to do; an extra half-close
/// would cost 2 % of a connection that is opened for one short message. But where the handler was given the descriptor, there may be a
/// copy of it, and a close alone would not end the connection.
///
/// Input that comes after the close does the same harm. So it is waited for where the handler has said that it is in the middle of a message.
/// And where a drain ends the connection, of which the peer knows nothing and may go on sending, the peer first receives what it was sent.
/// That comes before the half-close: where the drain has ended the reading direction, input that comes after both resets the connection.
pub(super) fn close(core: &Core, input: &Input) {
    flush_outbox(core);
    if !core.at_end.get() || core.lent.get() {
        if core.live.is_draining() {
            deliver(core);
        }
        socket::shutdown_write(core.fd());
        linger(core, core.held_busy.get() || !input.buffered().is_empty());
    }
}

/// Sends the last of what others have written, for as long as a write may take.
fn flush_outbox(core: &Core) {
    let Some(outbox) = core.live.outbox() else { return };
    outbox.close();
    let mut writing = core.attempt(Readiness::WRITE);
    writing.limit(core.write_timeout.get().unwrap_or(LINGER));
    while outbox.has_message() && writing.wait().is_ok() {}
}

/// Waits until the peer has received what it was sent, for at most 2 seconds.
fn deliver(core: &Core) {
    let mut writing = core.attempt(Readiness::WRITE);
    writing.limit(LINGER);
    while !socket::is_delivered(core.fd()) && writing.wait().is_ok() {}
}

/// Reads and discards input, if there is some or is `more` to come, until the peer's end.
fn linger(core: &Core, mut more: bool) {
    let until = Instant::now() + LINGER;
    let mut left = LINGER_BYTES;
    let mut scratch = buffer::take();
    let mut reading = core.attempt(Readiness::READ);
    reading.limit(LINGER_SILENCE);
    while left > 0 && Instant::now() < until {
        match reading.call(buffer::SIZE, Blocking::No, |fd, blocking| socket::recv_into(fd, &mut scratch, blocking)) {
            Ok(Some(0)) | Err(_) => break,
            Ok(Some(count)) => {
                more = true;
                left = left.saturating_sub(count);
                reading.limit(LINGER_SILENCE.min(until.saturating_duration_since(Instant::now())));
            }
            Ok(None) if more && reading.wait().is_ok() => {}
            Ok(None) => break,
        }
    }
    buffer::give(scratch);
}
