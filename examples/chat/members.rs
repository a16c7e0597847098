//! [`Members`]: the room for connections.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socketserver::frame::Lines;
use socketserver::{Request, Sender};

use crate::speech::{self, LONGEST_LINE, Wish};

/// Bytes that may wait for a member, beside what the system holds: sixteen of the longest lines, thousands of usual ones. A
/// thousand members who do not read hold 64 MB until they are dropped.
pub const QUEUE: usize = 64 * 1024;

/// What more may wait for one who is dropped: the notice of that.
const NOTICE: usize = 256;

/// How long one who is dropped has to read what waits for it.
const GRACE: Duration = Duration::from_secs(5);

const LINES: Lines = Lines::new().max_frame_length(LONGEST_LINE);

/// Everybody whose connection has said its nick. A clone is the same room.
#[derive(Clone)]
pub struct Members {
    room: Arc<Mutex<Room>>,
}

impl Members {
    /// An empty room.
    ///
    /// # Errors
    ///
    /// The system's, if it has no thread to close the connections of those who are dropped.
    pub fn new() -> io::Result<Members> {
        let (dropped, to_close) = mpsc::channel();
        thread::Builder::new().name("dropped".to_string()).spawn(move || close_after_grace(to_close))?;
        Ok(Members { room: Arc::new(Mutex::new(Room { members: BTreeMap::new(), count: 0, dropped })) })
    }

    /// Serves one connection, from its nick to its end.
    pub fn serve(&self, request: &mut Request) -> io::Result<()> {
        let sender = request.sender()?.capacity(QUEUE);
        let mut member = None;
        let result = self.converse(request, &sender, &mut member);
        let Some(member) = member else { return result };
        if !self.lock().has(&member) {
            // It was dropped, and that is what has ended it.
            log::info!("{} read too slowly and was dropped", request.peer_addr());
            return Ok(());
        }
        if request.is_draining() {
            // To tell a thousand members of a thousand departures would take a while.
            self.lock().forget(&member);
            return result.and_then(|()| request.write_all(speech::news("the server is closing").as_bytes()));
        }
        result
    }

    /// Reads lines until the member leaves. `member` is who it has become.
    fn converse(&self, request: &mut Request, sender: &Sender, member: &mut Option<Member>) -> io::Result<()> {
        let (rfile, mut wfile) = request.split();
        let mut lines = rfile.frames(LINES);
        loop {
            let next = match lines.next() {
                Ok(Some(line)) => self.hear(line, sender, member),
                Ok(None) => return Ok(()),
                // Where the next line begins, nobody knows.
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    return wfile.write_all(speech::complaint(&format!("{}; goodbye", speech::too_long())).as_bytes());
                }
                Err(error) => return Err(error),
            };
            match next {
                Next::Listen => {}
                // The room is not locked here: if this waits, nobody else does.
                Next::Answer(line) => wfile.write_all(line.as_bytes())?,
                Next::End => return Ok(()),
            }
        }
    }

    /// Takes in one line of a connection.
    fn hear(&self, line: &[u8], sender: &Sender, member: &mut Option<Member>) -> Next {
        let complain = |complaint: String| Next::Answer(speech::complaint(&complaint));
        match member {
            Some(member) => match speech::wish(line) {
                Ok(wish) => self.lock().fulfil(member, wish),
                Err(complaint) => complain(complaint),
            },
            None => match speech::nick(line).and_then(|nick| self.join(nick, sender)) {
                Ok(joined) => {
                    *member = Some(joined);
                    Next::Listen
                }
                Err(complaint) => complain(complaint),
            },
        }
    }

    fn join(&self, nick: &str, sender: &Sender) -> Result<Member, String> {
        let number = self.lock().join(nick, sender)?;
        Ok(Member { nick: nick.to_string(), number, members: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done after a line.
enum Next {
    Listen,
    Answer(String),
    End,
}

/// Who a connection is in the room. Dropped, however its handler ends, it leaves.
struct Member {
    nick: String,
    /// The nick alone would not do: another one may have it after this one was dropped.
    number: u64,
    members: Members,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.members.lock().leave(self);
    }
}

/// The room while it is locked. Nothing in here waits: [`Sender::send`] never does. As whoever speaks has the lock, all members
/// hear everything in the same order.
struct Room {
    members: BTreeMap<String, Seat>,
    /// How many have ever joined: the next one's number.
    count: u64,
    dropped: mpsc::Sender<(Instant, Sender)>,
}

/// What the room has of a member.
struct Seat {
    number: u64,
    sender: Sender,
}

impl Room {
    /// Gives a number to whoever takes a nick that nobody has.
    fn join(&mut self, nick: &str, sender: &Sender) -> Result<u64, String> {
        if self.members.contains_key(nick) {
            return Err(speech::TAKEN.to_string());
        }
        self.tell(speech::joined(nick), None);
        self.count += 1;
        self.members.insert(nick.to_string(), Seat { number: self.count, sender: sender.clone() });
        Ok(self.count)
    }

    fn fulfil(&mut self, member: &Member, wish: Wish<'_>) -> Next {
        if !self.has(member) {
            return Next::End;
        }
        let nick = &member.nick;
        match wish {
            Wish::Say(text) => self.tell(speech::said(nick, text), Some(nick)),
            Wish::Me(deed) => self.tell(speech::did(nick, deed), Some(nick)),
            Wish::Who => return Next::Answer(speech::here(self.members.keys(), usize::MAX)),
            Wish::Quit => return Next::End,
            Wish::Nothing => {}
        }
        Next::Listen
    }

    /// Takes a member out and tells the others, unless it is out already.
    fn leave(&mut self, member: &Member) {
        if self.forget(member) {
            self.tell(speech::left(&member.nick), None);
        }
    }

    fn forget(&mut self, member: &Member) -> bool {
        self.has(member) && self.members.remove(&member.nick).is_some()
    }

    fn has(&self, member: &Member) -> bool {
        self.members.get(&member.nick).is_some_and(|seat| seat.number == member.number)
    }

    /// Sends a line to everybody but one, and drops those who have no room for it, which is the next news for the others.
    fn tell(&mut self, line: String, except: Option<&str>) {
        let mut slow = self.send(&line, except);
        while let Some(nick) = slow.pop() {
            if let Some(seat) = self.members.remove(&nick) {
                let notice = speech::complaint("you read too slowly, and are out");
                // It gets this behind what waits for it already, if it reads that.
                let _ = seat.sender.clone().capacity(QUEUE + NOTICE).send(notice.as_bytes());
                let _ = self.dropped.send((Instant::now(), seat.sender));
                slow.extend(self.send(&speech::dropped(&nick), None));
            }
        }
    }

    /// Sends a line to everybody but one, and returns who has no room for it.
    fn send(&self, line: &str, except: Option<&str>) -> Vec<String> {
        let mut slow = Vec::new();
        for (nick, seat) in &self.members {
            if except != Some(nick) {
                match seat.sender.send(line.as_bytes()) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => slow.push(nick.clone()),
                    // Of any other failure the member's own handler hears, too, and leaves.
                    _ => {}
                }
            }
        }
        slow
    }
}

/// Ends the connections of those who are dropped, when they have had their time.
fn close_after_grace(dropped: mpsc::Receiver<(Instant, Sender)>) {
    for (since, sender) in dropped {
        thread::sleep((since + GRACE).saturating_duration_since(Instant::now()));
        sender.close();
    }
}
