//! The load: connections in a closed loop, all on one thread with one poll.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::connection::Connection;
use crate::connector::{Connector, PATIENCE};
use crate::errors::Errors;
use crate::exchange::{Exchange, Progress};
use crate::flood::Flood;
use crate::transport::Transport;

/// What a load does to its server.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub transport: Transport,
    pub connections: usize,
    pub message_bytes: usize,
    /// The most that one write offers to the kernel.
    pub write_bytes: usize,
    pub reuse: Reuse,
    /// Whether one more connection floods the server meanwhile.
    pub flood: bool,
}

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
    traffic: Traffic,
    slots: Vec<Slot>,
    /// Its token is the one behind the slots'. `None` also once it has failed.
    flood: Option<Flood>,
    /// When to look for lost datagrams again.
    next_look: Instant,
    /// Where every slot receives, as nothing is kept of an echo once it has been compared.
    chunk: Vec<u8>,
}

struct Slot {
    /// Made before the first run with [`Reuse::Keep`], by each exchange with [`Reuse::Reconnect`].
    connection: Option<Connection>,
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
    /// Datagrams that had no echo for long and were sent again.
    pub lost: u64,
    /// Bytes that the flooding connection got back.
    pub flooded: usize,
    /// From the first start to the last complete echo.
    pub elapsed: Duration,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
    pub errors: Errors,
    started: Instant,
}

/// How often to look for lost datagrams: often enough that one is sent again when it is due, and rarely enough to cost
/// nothing.
const LOOK_FOR_LOST: Duration = Duration::from_millis(20);

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
    pub fn new(server: SocketAddr, traffic: Traffic) -> Result<Self> {
        let Traffic { transport, connections, message_bytes, write_bytes, reuse, flood } = traffic;
        let slots = (0..connections).map(|index| Slot {
            connection: None,
            exchange: Exchange::new(index, message_bytes, write_bytes),
            state: State::Resting,
        });
        let mut load = Self {
            poll: Poll::new().context("making the load's poll")?,
            connector: Connector::new(server, transport),
            traffic,
            slots: slots.collect(),
            flood: None,
            next_look: Instant::now(),
            chunk: vec![0; CHUNK_BYTES],
        };
        if reuse == Reuse::Keep {
            for index in 0..connections {
                let connected = load.connect(index);
                load.slots[index].connection =
                    Some(connected.with_context(|| format!("making the load's connection {index}"))?);
            }
        }
        if flood {
            load.flood = Some(Flood::new(load.connect(connections).context("making the flooding connection")?));
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
        match self.poll.poll(events, Some(self.patience())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled.context("waiting for echoes")?,
        }
        for event in events.iter() {
            self.serve(event, deadline, run);
        }
        self.push_flood(run);
        if self.traffic.transport == Transport::Udp {
            self.resend_lost(run);
        }
        Ok(())
    }

    /// How long a turn may wait for events.
    fn patience(&self) -> Duration {
        match &self.flood {
            Some(flood) if flood.is_ready() => Duration::ZERO,
            _ if self.traffic.transport == Transport::Udp => LOOK_FOR_LOST,
            _ => PATIENCE,
        }
    }

    fn serve(&mut self, event: &Event, deadline: Instant, run: &mut Run) {
        let index = event.token().0;
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        let Some(slot) = self.slots.get_mut(index) else {
            if let Some(flood) = &mut self.flood {
                flood.wake(readable, event.is_writable());
            }
            return;
        };
        if slot.state != State::Exchanging {
            return;
        }
        match slot.drive(readable, &mut self.chunk) {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Complete) => self.complete(index, deadline, run),
            Err(error) => slot.fail(&error, run),
        }
    }

    fn push_flood(&mut self, run: &mut Run) {
        let Some(flood) = &mut self.flood else { return };
        match flood.push(&mut self.chunk) {
            Ok(bytes) => run.flooded += bytes,
            Err(error) => {
                run.errors.add(format_args!("the flood: {error}"));
                self.flood = None;
            }
        }
    }

    /// Of datagrams, nobody promises that they arrive.
    fn resend_lost(&mut self, run: &mut Run) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_FOR_LOST;
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Exchanging) {
            if slot.exchange.restart_if_lost(now) {
                run.lost += 1;
                if let Err(error) = slot.drive(false, &mut self.chunk) {
                    slot.fail(&error, run);
                }
            }
        }
    }

    /// Counts an exchange and starts the next one, unless the run is over. One look at the clock serves for both.
    fn complete(&mut self, index: usize, deadline: Instant, run: &mut Run) {
        let slot = &mut self.slots[index];
        slot.state = State::Resting;
        if self.traffic.reuse == Reuse::Reconnect {
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
        let connected = match self.traffic.reuse {
            Reuse::Keep => Ok(()),
            Reuse::Reconnect => self.connect(index).map(|made| self.slots[index].connection = Some(made)),
        };
        let slot = &mut self.slots[index];
        slot.state = State::Exchanging;
        slot.exchange.start(now);
        // A message of one write has nothing to receive yet, so this does not try.
        if let Err(error) = connected.and_then(|()| slot.drive(false, &mut self.chunk)) {
            slot.fail(&error, run);
        }
    }

    fn connect(&mut self, index: usize) -> io::Result<Connection> {
        let socket = self.connector.connect()?;
        Connection::register(socket, self.traffic.transport, self.poll.registry(), Token(index))
    }

    /// Counts what is still under way as failed.
    fn give_up(&mut self, run: &mut Run) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Exchanging) {
            slot.fail(&format_args!("no echo within {} s", PATIENCE.as_secs()), run);
        }
    }
}

impl Slot {
    /// Does what can be done without waiting. A message of several writes is received while it is sent.
    fn drive(&mut self, readable: bool, chunk: &mut [u8]) -> io::Result<Progress> {
        let connection = self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        loop {
            let more = self.exchange.send(connection)?;
            if !readable && !more {
                return Ok(Progress::Waiting);
            }
            let progress = match connection {
                Connection::Stream(_) => self.exchange.receive(connection, chunk)?,
                Connection::Datagrams(_) => self.exchange.receive_datagram(connection, chunk)?,
            };
            if progress == Progress::Complete || !more {
                return Ok(progress);
            }
        }
    }

    fn fail(&mut self, error: &dyn fmt::Display, run: &mut Run) {
        run.errors.add(error);
        self.state = State::Failed;
        self.connection = None;
    }
}

impl Run {
    fn new() -> Result<Self> {
        Ok(Self {
            exchanges: 0,
            lost: 0,
            flooded: 0,
            elapsed: Duration::ZERO,
            latency: latencies()?,
            errors: Errors::default(),
            started: Instant::now(),
        })
    }

    fn count(&mut self, now: Instant, exchange_started: Instant) {
        self.exchanges += 1;
        self.elapsed = now - self.started;
        let latency = now - exchange_started;
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }
}
