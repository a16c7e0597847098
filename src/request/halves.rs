//! [`ReadHalf`] and [`WriteHalf`]: the two directions of a request, to be used at the same time; and the request as both in one.

use std::fmt;
use std::io::{self, BufRead, IoSlice, Read, Write};

use super::core::Core;
use super::datagram::Packet;
use super::stream::{self, Input};
use super::{Kind, Request};
use crate::frame::{Frames, Framing};

/// The reading half of a [`Request`], from [`Request::split`](Request::split).
pub struct ReadHalf<'a> {
    side: Reading<'a>,
}

enum Reading<'a> {
    Stream(&'a Core, &'a mut Input),
    Datagram(&'a mut Packet),
}

impl ReadHalf<'_> {
    /// As [`Request::set_idle`](Request::set_idle).
    pub fn set_idle(&mut self) {
        if let Reading::Stream(core, _) = &self.side {
            core.set_idle();
        }
    }

    /// As [`Request::set_busy`](Request::set_busy).
    pub fn set_busy(&mut self) {
        if let Reading::Stream(core, _) = &self.side {
            core.set_busy();
        }
    }

    /// As [`Request::buffer`](Request::buffer).
    pub fn buffer(&self) -> &[u8] {
        match &self.side {
            Reading::Stream(_, input) => input.buffered(),
            Reading::Datagram(packet) => packet.unread(),
        }
    }
}

impl<'a> ReadHalf<'a> {
    pub(super) fn of_stream(core: &'a Core, input: &'a mut Input) -> ReadHalf<'a> {
        ReadHalf { side: Reading::Stream(core, input) }
    }

    pub(super) fn of_datagram(packet: &'a mut Packet) -> ReadHalf<'a> {
        ReadHalf { side: Reading::Datagram(packet) }
    }

    /// Reads the request frame by frame, and says where a drain may end the connection: at once while it waits for a frame's
    /// first byte, also if no frame is answered; not between that byte and the answer, or the next call.
    ///
    /// See [`frame`](crate::frame) for an example.
    pub fn frames<F: Framing>(self, framing: F) -> Frames<ReadHalf<'a>, F> {
        Frames::with_idle(self, framing, |half, idle| {
            if let Reading::Stream(core, _) = &half.side {
                core.set_between_frames(idle);
            }
        })
    }
}

impl Read for ReadHalf<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.side {
            Reading::Stream(core, input) => input.read(core, into),
            Reading::Datagram(packet) => {
                let count = Read::read(&mut packet.unread(), into)?;
                packet.consume(count);
                Ok(count)
            }
        }
    }
}

impl BufRead for ReadHalf<'_> {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.side {
            Reading::Stream(core, input) => input.fill_buf(core),
            Reading::Datagram(packet) => Ok(packet.unread()),
        }
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        match &mut self.side {
            Reading::Stream(_, input) => input.consume(count),
            Reading::Datagram(packet) => packet.consume(count),
        }
    }
}

impl fmt::Debug for ReadHalf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHalf").finish_non_exhaustive()
    }
}

/// The writing half of a [`Request`], from [`Request::split`](Request::split).
pub struct WriteHalf<'a> {
    side: Writing<'a>,
}

enum Writing<'a> {
    Stream(&'a Core),
    Datagram(&'a mut Option<Vec<u8>>),
}

impl<'a> WriteHalf<'a> {
    pub(super) fn of_stream(core: &'a Core) -> WriteHalf<'a> {
        WriteHalf { side: Writing::Stream(core) }
    }

    pub(super) fn of_datagram(reply: &'a mut Option<Vec<u8>>) -> WriteHalf<'a> {
        WriteHalf { side: Writing::Datagram(reply) }
    }
}

impl Write for WriteHalf<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.side {
            Writing::Stream(core) => core.or_spend(stream::write_all(core, bytes))?,
            Writing::Datagram(Some(reply)) => reply.extend_from_slice(bytes),
            Writing::Datagram(reply) => **reply = Some(bytes.to_vec()),
        }
        Ok(bytes.len())
    }

    /// One write, also of no bytes: to a datagram that is an empty reply.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).map(|_| ())
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.side {
            Writing::Stream(core) => core.or_spend(stream::write_all_vectored(core, pieces)),
            Writing::Datagram(reply) => {
                let reply = reply.get_or_insert_default();
                let before = reply.len();
                pieces.iter().for_each(|piece| reply.extend_from_slice(piece));
                Ok(reply.len() - before)
            }
        }
    }

    /// One write, whatever the text is put together from: the default makes one of each piece.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(fmt::format(text).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for WriteHalf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteHalf").finish_non_exhaustive()
    }
}

impl Read for Request {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.split().0.read(into)
    }
}

impl BufRead for Request {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.kind {
            Kind::Stream(input) => input.fill_buf(&self.core),
            Kind::Datagram(datagram) => Ok(datagram.packet.unread()),
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.kind {
            Kind::Stream(input) => input.consume(count),
            Kind::Datagram(datagram) => datagram.packet.consume(count),
        }
    }
}

impl Write for Request {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.split().1.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.split().1.write_all(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.split().1.write_vectored(pieces)
    }

    /// One write, whatever the text is put together from: the default makes one of each piece.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(fmt::format(text).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
