//! The load: connections with one exchange each at a time, all on one thread with one poll.

mod connection;
mod connector;
mod exchange;
mod flood;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Events, Poll, Token};
use socketserver::Addr;

use self::connection::Connection;
use self::connector::{Connector, PATIENCE};
use self::exchange::{Exchange, Progress};
use self::flood::Flood;
use crate::errors::Errors;
use crate::interrupt::Interrupt;
use crate::messages::Messages;
use crate::results::Workload;
use crate::transport::Transport;

/// What a load does to its server.
#[derive(Clone, Debug)]
pub struct Traffic {
    pub transport: Transport,
    pub connections: usize,
    pub messages: Messages,
    pub workload: Workload,
}

/// A number of slots, each of which has one exchange under way at a time.
pub struct Load {
    poll: Poll,
    connector: Connector,
    traffic: Traffic,
    slots: Vec<Slot>,
    /// Of the slots, those whose exchange is under way.
    under_way: usize,
    /// Only with [`Workload::Flood`]; its token is the one behind the slots'. `None` also once it has failed.
    flood: Option<Flood>,
    /// When to look for lost datagrams again.
    next_look: Instant,
    /// Where every slot receives, as nothing is kept of a reply once it has been compared.
    chunk: Vec<u8>,
    /// Whether the load may keep its core busy while it waits for the time of the next request.
    has_own_core: bool,
    interrupt: Interrupt,
}

struct Slot {
    /// Made before the first run, or by each exchange with [`Workload::Reconnect`].
    connection: Option<Connection>,
    exchange: Exchange,
    state: State,
    /// The exchanges begun in this run.
    begun: u64,
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
    /// Datagrams that had no reply for long and were sent again.
    pub lost: u64,
    /// Bytes that the flooding connection got back.
    pub flooded: usize,
    /// From the first start to the last complete reply.
    pub elapsed: Duration,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
    pub errors: Errors,
    started: Instant,
    deadline: Instant,
    schedule: Option<Schedule>,
}

/// When the requests of an open loop are due: number `n` at `n` intervals from the start, and the slots take turns.
struct Schedule {
    started: Instant,
    interval: f64,
    /// The number of the first request that is not due yet.
    next: u64,
}

/// How often to look for lost datagrams: often enough that one is sent again when it is due, and rarely enough to cost
/// nothing.
const LOOK_FOR_LOST: Duration = Duration::from_millis(20);

/// How long an open loop without a core of its own sleeps at a time: the least that a poll can.
const NAP: Duration = Duration::from_millis(1);

/// The connections that are made at a time before one of them is served, so that no accept queue overflows: half of what std's
/// listener queues, which is the shortest queue of the servers here.
const CONNECTED_AT_A_TIME: usize = 64;

const EVENTS_PER_TURN: usize = 1024;

/// Enough for any message to be received in few reads, and for any datagram; a message that is shorter costs one.
const CHUNK_BYTES: usize = 64 * 1024;

/// Latencies are told apart to one part in a thousand, up to a minute.
const LATENCY_DIGITS: u8 = 3;
const LONGEST_LATENCY: Duration = Duration::from_secs(60);

impl Load {
    /// Makes the load, and all its connections, unless each exchange makes its own.
    pub fn new(server: &Addr, traffic: Traffic, has_own_core: bool, interrupt: Interrupt) -> Result<Self> {
        let slots = (0..traffic.connections).map(|index| Slot {
            connection: None,
            exchange: Exchange::new(index, &traffic.messages),
            state: State::Resting,
            begun: 0,
        });
        let mut load = Self {
            poll: Poll::new().context("making the load's poll")?,
            connector: Connector::new(server).context("making the load")?,
            slots: slots.collect(),
            traffic,
            under_way: 0,
            flood: None,
            next_look: Instant::now(),
            chunk: vec![0; CHUNK_BYTES],
            has_own_core,
            interrupt,
        };
        if load.traffic.workload != Workload::Reconnect {
            load.connect_all()?;
        }
        if load.traffic.workload == Workload::Flood {
            let connected = load.connect(load.slots.len()).context("making the flooding connection")?;
            load.flood = Some(Flood::new(connected));
        }
        Ok(load)
    }

    /// Connects every slot. When a connection has been served, those before it were accepted, as queues are served in order;
    /// idle ones are served each, since that is what they are measured after.
    fn connect_all(&mut self) -> Result<()> {
        let batch = if self.traffic.workload == Workload::Idle { 1 } else { CONNECTED_AT_A_TIME };
        let of = self.slots.len();
        for index in 0..of {
            let connected = self.connect(index);
            let named = || format!("making connection {} of {of}", index + 1);
            self.slots[index].connection = Some(connected.with_context(named)?);
            if (index + 1) % batch == 0 && self.traffic.transport != Transport::Udp {
                self.serve_once(index).with_context(named)?;
            }
        }
        Ok(())
    }

    /// One exchange on one connection, outside of every run.
    fn serve_once(&mut self, index: usize) -> Result<()> {
        let mut run = Run::empty()?;
        self.start(index, Instant::now(), &mut run);
        self.finish(&mut run)?;
        anyhow::ensure!(run.errors.is_empty(), "{}", run.errors);
        Ok(())
    }

    /// Runs for this long, and then until the last exchange that was started is complete.
    ///
    /// A run starts and ends with no message under way, so the exchanges it counts are exactly those whose cost falls between
    /// a reading of the server's account before it and one after it.
    pub fn run(&mut self, duration: Duration) -> Result<Run> {
        let schedule = match self.traffic.workload {
            Workload::OpenLoop { per_second } => Some(1.0 / per_second),
            _ => None,
        };
        let mut run = Run::new(duration, schedule)?;
        for slot in &mut self.slots {
            slot.begun = 0;
        }
        if run.schedule.is_none() {
            for index in 0..self.slots.len() {
                self.start(index, Instant::now(), &mut run);
            }
        }
        self.finish(&mut run)?;
        Ok(run)
    }

    /// Takes turns until the run is over and nothing is under way.
    fn finish(&mut self, run: &mut Run) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while self.under_way > 0 || run.is_scheduling() {
            self.interrupt.check()?;
            self.turn(&mut events, run)?;
            if Instant::now() > run.deadline + PATIENCE {
                self.give_up(run);
            }
        }
        Ok(())
    }

    /// Waits, then drives every exchange that is ready.
    fn turn(&mut self, events: &mut Events, run: &mut Run) -> Result<()> {
        match self.poll.poll(events, Some(self.patience(run))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled.context("waiting for replies")?,
        }
        for event in events.iter() {
            self.serve(event, run);
        }
        self.start_due(run);
        self.push_flood(run);
        if self.traffic.transport == Transport::Udp {
            self.resend_lost(run);
        }
        Ok(())
    }

    /// How long a turn may wait for events.
    fn patience(&self, run: &Run) -> Duration {
        match &self.flood {
            Some(flood) if flood.is_ready() => Duration::ZERO,
            // A poll sleeps for whole milliseconds, in which many requests may be due.
            _ if run.is_scheduling() && self.has_own_core => Duration::ZERO,
            _ if run.is_scheduling() => NAP,
            _ if self.traffic.transport == Transport::Udp => LOOK_FOR_LOST,
            _ => PATIENCE,
        }
    }

    fn serve(&mut self, event: &Event, run: &mut Run) {
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
            Ok(Progress::Complete) => self.complete(index, run),
            Err(error) => self.fail(index, &error, run),
        }
    }

    /// Starts the requests of an open loop that have become due, where the slot is free; [`Load::complete`] starts the others.
    fn start_due(&mut self, run: &mut Run) {
        let now = Instant::now();
        let deadline = run.deadline;
        loop {
            let Some(schedule) = &mut run.schedule else { return };
            let due = schedule.due(schedule.next);
            if due > now || due >= deadline {
                return;
            }
            let index = (schedule.next % self.slots.len() as u64) as usize;
            schedule.next += 1;
            if self.slots[index].state == State::Resting {
                self.start(index, due, run);
            }
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
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.state == State::Exchanging && slot.exchange.restart_if_lost(now) {
                run.lost += 1;
                if let Err(error) = slot.drive(false, &mut self.chunk) {
                    self.fail(index, &error, run);
                }
            }
        }
    }

    /// Counts an exchange and starts the next one, if there is one to start now. One look at the clock serves for both.
    fn complete(&mut self, index: usize, run: &mut Run) {
        let slots = self.slots.len() as u64;
        let slot = &mut self.slots[index];
        slot.state = State::Resting;
        self.under_way -= 1;
        if self.traffic.workload == Workload::Reconnect {
            slot.connection = None;
        }
        let now = Instant::now();
        run.count(now, slot.exchange.due);
        match &run.schedule {
            None if now < run.deadline => self.start(index, now, run),
            None => {}
            Some(schedule) => {
                let number = index as u64 + slot.begun * slots;
                if number < schedule.next {
                    let due = schedule.due(number);
                    self.start(index, due, run);
                }
            }
        }
    }

    fn start(&mut self, index: usize, due: Instant, run: &mut Run) {
        if self.slots[index].state == State::Failed {
            return;
        }
        let connected = match self.traffic.workload {
            Workload::Reconnect => self.connect(index).map(|made| self.slots[index].connection = Some(made)),
            _ => Ok(()),
        };
        let slot = &mut self.slots[index];
        slot.state = State::Exchanging;
        self.under_way += 1;
        slot.begun += 1;
        slot.exchange.start(due, if run.schedule.is_some() { Instant::now() } else { due });
        // A message of one write has nothing to receive yet, so this does not try.
        if let Err(error) = connected.and_then(|()| slot.drive(false, &mut self.chunk)) {
            self.fail(index, &error, run);
        }
    }

    fn connect(&mut self, index: usize) -> io::Result<Connection> {
        let socket = self.connector.connect()?;
        Connection::register(socket, self.traffic.transport, self.poll.registry(), Token(index))
    }

    /// The slot's exchange, which is under way, ends with an error.
    fn fail(&mut self, index: usize, error: &dyn fmt::Display, run: &mut Run) {
        run.errors.add(error);
        self.under_way -= 1;
        let slot = &mut self.slots[index];
        slot.state = State::Failed;
        slot.connection = None;
    }

    /// Counts what is still under way as failed; a datagram only as lost, once more.
    fn give_up(&mut self, run: &mut Run) {
        for index in 0..self.slots.len() {
            if self.slots[index].state != State::Exchanging {
                continue;
            }
            if self.traffic.transport == Transport::Udp {
                run.lost += 1;
                self.under_way -= 1;
                self.slots[index].state = State::Resting;
            } else {
                self.fail(index, &format_args!("no reply within {} s", PATIENCE.as_secs()), run);
            }
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
                Connection::Tcp(_) | Connection::Unix(_) => self.exchange.receive(connection, chunk)?,
                Connection::Datagrams(_) => self.exchange.receive_datagram(connection, chunk)?,
            };
            if progress == Progress::Complete || !more {
                return Ok(progress);
            }
        }
    }
}

impl Run {
    fn new(duration: Duration, interval: Option<f64>) -> Result<Self> {
        let started = Instant::now();
        Ok(Self {
            exchanges: 0,
            lost: 0,
            flooded: 0,
            elapsed: Duration::ZERO,
            latency: Histogram::new_with_max(LONGEST_LATENCY.as_nanos() as u64, LATENCY_DIGITS)
                .context("making a histogram")?,
            errors: Errors::default(),
            started,
            deadline: started + duration,
            schedule: interval.map(|interval| Schedule { started, interval, next: 0 }),
        })
    }

    /// One that has not begun, to add others to.
    pub fn empty() -> Result<Self> {
        Self::new(Duration::ZERO, None)
    }

    /// Takes in what another run of the same load has achieved.
    pub fn add(&mut self, other: Self) -> Result<()> {
        self.exchanges += other.exchanges;
        self.lost += other.lost;
        self.flooded += other.flooded;
        self.elapsed += other.elapsed;
        self.latency.add(&other.latency).context("adding to a histogram")?;
        self.errors.merge(&other.errors);
        Ok(())
    }

    /// Exchanges per second; 0 if there were none.
    pub fn per_second(&self) -> f64 {
        if self.exchanges == 0 { 0.0 } else { self.exchanges as f64 / self.elapsed.as_secs_f64() }
    }

    /// Whether requests will become due.
    fn is_scheduling(&self) -> bool {
        self.schedule.as_ref().is_some_and(|schedule| schedule.due(schedule.next) < self.deadline)
    }

    fn count(&mut self, now: Instant, due: Instant) {
        self.exchanges += 1;
        self.elapsed = now - self.started;
        let latency = now.saturating_duration_since(due);
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.started + Duration::from_secs_f64(number as f64 * self.interval)
    }
}
