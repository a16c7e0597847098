//! The load: connections in a closed loop, all on one thread with one poll.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::connector::{Connector, PATIENCE};
use crate::errors::Errors;
use crate::exchange::{Exchange, Progress};

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reuse {
    /// It serves the next exchange.
    Keep,
    /// It is closed, and the next exchange makes a new one; connecting is part of the exchange.
    Reconnect,
}

/// A number of slots, each of which has one exchange under way at a time.
pub struct Load {
    poll: Poll,
    connector: Connector,
    reuse: Reuse,
    slots: Vec<Slot>,
    /// Where every slot receives, as nothing is kept of an echo once it has been compared.
    chunk: Vec<u8>,
}

struct Slot {
    /// Made before the first run with [`Reuse::Keep`], by each exchange with [`Reuse::Reconnect`].
    connection: Option<TcpStream>,
    exchange: Exchange,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Resting,
    Exchanging,
    /// It had an error, which was counted once; it takes no part any more.
    Failed,
}

/// What a run has achieved.
pub struct Run {
    pub exchanges: u64,
    /// From the first start to the last complete echo.
    pub elapsed: Duration,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
    pub errors: Errors,
    started: Instant,
}

const EVENTS_PER_TURN: usize = 1024;

/// Enough for any message to be received in few reads; a message that is shorter costs one.
const CHUNK_BYTES: usize = 64 * 1024;

/// Latencies are told apart to one part in a thousand, up to a minute.
const LATENCY_DIGITS: u8 = 3;
const LONGEST_LATENCY: Duration = Duration::from_secs(60);

/// Makes an empty histogram of latencies in nanoseconds.
pub fn latencies() -> Result<Histogram<u64>> {
    Histogram::new_with_max(LONGEST_LATENCY.as_nanos() as u64, LATENCY_DIGITS).context("making a histogram")
}

impl Load {
    /// Makes the load, and with [`Reuse::Keep`] all its connections.
    pub fn new(server: SocketAddr, connections: usize, message_bytes: usize, reuse: Reuse) -> Result<Self> {
        let slots = (0..connections).map(|index| Slot {
            connection: None,
            exchange: Exchange::new(index, message_bytes),
            state: State::Resting,
        });
        let mut load = Self {
            poll: Poll::new().context("making the load's poll")?,
            connector: Connector::new(server),
            reuse,
            slots: slots.collect(),
            chunk: vec![0; CHUNK_BYTES],
        };
        if reuse == Reuse::Keep {
            for index in 0..connections {
                load.connect(index).with_context(|| format!("making the load's connection {index}"))?;
            }
        }
        Ok(load)
    }

    /// Runs for this long, and then until the last exchange that was started is complete.
    ///
    /// A run starts and ends with no message under way, so the exchanges it counts are exactly those whose cost falls between
    /// a reading of the server's account before it and one after it.
    pub fn run(&mut self, duration: Duration) -> Result<Run> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut run = Run::new()?;
        let deadline = run.started + duration;
        for index in 0..self.slots.len() {
            self.start(index, Instant::now(), &mut run);
        }
        while self.slots.iter().any(|slot| slot.state == State::Exchanging) {
            self.turn(&mut events, deadline, &mut run)?;
            if Instant::now() > deadline + PATIENCE {
                self.give_up(&mut run);
            }
        }
        Ok(run)
    }

    /// Waits, then drives every exchange that is ready.
    fn turn(&mut self, events: &mut Events, deadline: Instant, run: &mut Run) -> Result<()> {
        match self.poll.poll(events, Some(PATIENCE)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled.context("waiting for echoes")?,
        }
        for event in events.iter() {
            let index = event.token().0;
            let readable = event.is_readable() || event.is_read_closed() || event.is_error();
            if self.slots[index].state != State::Exchanging {
                continue;
            }
            match self.slots[index].drive(readable, &mut self.chunk) {
                Ok(Progress::Waiting) => {}
                Ok(Progress::Complete) => self.complete(index, deadline, run),
                Err(error) => self.slots[index].fail(&error, run),
            }
        }
        Ok(())
    }

    /// Counts an exchange and starts the next one, unless the run is over. One look at the clock serves for both.
    fn complete(&mut self, index: usize, deadline: Instant, run: &mut Run) {
        let slot = &mut self.slots[index];
        slot.state = State::Resting;
        if self.reuse == Reuse::Reconnect {
            slot.connection = None;
        }
        let now = Instant::now();
        run.count(now, slot.exchange.started);
        if now < deadline {
            self.start(index, now, run);
        }
    }

    fn start(&mut self, index: usize, now: Instant, run: &mut Run) {
        if self.slots[index].state == State::Failed {
            return;
        }
        let connected = if self.reuse == Reuse::Reconnect { self.connect(index) } else { Ok(()) };
        let slot = &mut self.slots[index];
        slot.state = State::Exchanging;
        slot.exchange.start(now);
        // There is nothing to receive yet, so this does not try.
        if let Err(error) = connected.and_then(|()| slot.drive(false, &mut [])) {
            slot.fail(&error, run);
        }
    }

    fn connect(&mut self, index: usize) -> io::Result<()> {
        let stream = self.connector.connect()?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        self.slots[index].connection = Some(stream);
        Ok(())
    }

    /// Counts what is still under way as failed.
    fn give_up(&mut self, run: &mut Run) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Exchanging) {
            slot.fail(&format_args!("no echo within {} s", PATIENCE.as_secs()), run);
        }
    }
}

impl Slot {
    /// Does what can be done without waiting.
    fn drive(&mut self, readable: bool, chunk: &mut [u8]) -> io::Result<Progress> {
        let stream = self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        self.exchange.send(stream)?;
        if readable { self.exchange.receive(stream, chunk) } else { Ok(Progress::Waiting) }
    }

    fn fail(&mut self, error: &dyn fmt::Display, run: &mut Run) {
        run.errors.add(error);
        self.state = State::Failed;
        self.connection = None;
    }
}

impl Run {
    fn new() -> Result<Self> {
        let started = Instant::now();
        Ok(Self { exchanges: 0, elapsed: Duration::ZERO, latency: latencies()?, errors: Errors::default(), started })
    }

    fn count(&mut self, now: Instant, exchange_started: Instant) {
        self.exchanges += 1;
        self.elapsed = now - self.started;
        let latency = now - exchange_started;
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }
}
