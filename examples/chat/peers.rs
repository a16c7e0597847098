//! [`Peers`]: the room for datagrams.

use std::collections::HashMap;
use std::io::{self, BufRead, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socketserver::{Addr, Request};

use crate::speech::{self, Wish};

/// How many peers there may be: who sends a datagram with a sender of its choice takes up a place until that is forgotten.
const MOST_PEERS: usize = 1000;

/// Bytes of nicks in the answer to `/who`: one packet on every path, and not much for four bytes with a forged sender.
const LONGEST_LIST: usize = 1000;

/// How many datagrams in a row may find a peer's queue full. It happens now and then, as that of a Unix datagram socket may be as
/// short as ten.
const MOST_LOST: u32 = 64;

/// Everybody who has been heard of lately. A clone is the same room.
#[derive(Clone)]
pub struct Peers {
    room: Arc<Mutex<Room>>,
}

impl Peers {
    /// An empty room that forgets a peer after `idle`.
    pub fn new(idle: Duration) -> Peers {
        Peers { room: Arc::new(Mutex::new(Room { peers: HashMap::new(), idle })) }
    }

    /// Serves one datagram, which is one line.
    pub fn serve(&self, request: &mut Request) -> io::Result<()> {
        let from = request.peer_addr().clone();
        if from.is_unnamed() {
            // Nobody could tell it anything.
            return Ok(());
        }
        // What cannot be sent at once is lost, as datagrams are: a peer that does not read delays nobody.
        request.set_write_timeout(Some(Duration::ZERO));
        let packet = request.fill_buf()?;
        let line = packet.strip_suffix(b"\n").unwrap_or(packet);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut mail = self.lock().hear(&from, line, Instant::now());
        while !mail.is_empty() {
            mail = self.post(request, mail);
        }
        Ok(())
    }

    /// Sends mail, and returns the mail about those who do not take theirs. The room is not locked while this sends: it may let
    /// other requests run in between.
    fn post(&self, request: &mut Request, mail: Vec<Mail>) -> Vec<Mail> {
        let mut outcomes = Vec::new();
        for Mail { line, to } in mail {
            for addr in to {
                let outcome = match request.send_to(line.as_bytes(), &addr) {
                    Ok(_) => Outcome::Sent,
                    // A Unix socket that is closed, or whose file is gone.
                    Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                        Outcome::Gone
                    }
                    Err(_) => Outcome::Lost,
                };
                outcomes.push((addr, outcome));
            }
        }
        self.lock().learn(outcomes)
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line and who is to get it.
struct Mail {
    line: String,
    to: Vec<Addr>,
}

/// What became of a datagram.
enum Outcome {
    Sent,
    Lost,
    Gone,
}

/// The room while it is locked. It says what is to be sent, and sends nothing.
struct Room {
    peers: HashMap<Addr, Peer>,
    idle: Duration,
}

struct Peer {
    nick: String,
    /// When its last datagram came.
    heard: Instant,
    /// Datagrams to it that were lost, since one was not.
    lost: u32,
}

impl Room {
    /// Takes in a line, and says what is to be sent now.
    fn hear(&mut self, from: &Addr, line: &[u8], now: Instant) -> Vec<Mail> {
        let mut mail = self.forget_idle(now);
        mail.extend(match self.peers.get_mut(from) {
            Some(peer) => {
                peer.heard = now;
                let nick = peer.nick.clone();
                self.fulfil(from, &nick, line)
            }
            None => self.join(from, line, now),
        });
        mail
    }

    /// Nobody has a timer for this: a peer that is silent too long is found out when somebody else is not.
    fn forget_idle(&mut self, now: Instant) -> Vec<Mail> {
        let is_idle = |peer: &Peer| now.saturating_duration_since(peer.heard) >= self.idle;
        let idle: Vec<Addr> =
            self.peers.iter().filter(|(_, peer)| is_idle(peer)).map(|(addr, _)| addr.clone()).collect();
        let nicks: Vec<String> = idle.iter().filter_map(|addr| self.peers.remove(addr)).map(|peer| peer.nick).collect();
        nicks.iter().map(|nick| self.to_all_but(None, speech::left(nick))).collect()
    }

    fn join(&mut self, from: &Addr, line: &[u8], now: Instant) -> Option<Mail> {
        if line.is_empty() || line.starts_with(b"!") {
            // A sign of life of one who was forgotten; or a complaint, perhaps of another room, told that this one speaks to it.
            // Answers to those would go back and forth for ever.
            return None;
        }
        let nick = match speech::nick(line) {
            Ok(nick) if self.peers.values().any(|peer| peer.nick == nick) => Err(speech::TAKEN.to_string()),
            Ok(_) if self.peers.len() >= MOST_PEERS => Err("the room is full".to_string()),
            other => other,
        };
        match nick {
            Ok(nick) => {
                let mail = self.to_all_but(None, speech::joined(nick));
                self.peers.insert(from.clone(), Peer { nick: nick.to_string(), heard: now, lost: 0 });
                Some(mail)
            }
            Err(complaint) => Some(to(from, speech::complaint(&complaint))),
        }
    }

    fn fulfil(&mut self, from: &Addr, nick: &str, line: &[u8]) -> Option<Mail> {
        match speech::wish(line) {
            Ok(Wish::Say(text)) => Some(self.to_all_but(Some(from), speech::said(nick, text))),
            Ok(Wish::Me(deed)) => Some(self.to_all_but(Some(from), speech::did(nick, deed))),
            Ok(Wish::Who) => {
                let mut nicks: Vec<&String> = self.peers.values().map(|peer| &peer.nick).collect();
                nicks.sort();
                Some(to(from, speech::here(nicks.into_iter(), LONGEST_LIST)))
            }
            Ok(Wish::Quit) => {
                self.peers.remove(from);
                Some(self.to_all_but(None, speech::left(nick)))
            }
            Ok(Wish::Nothing) => None,
            Err(complaint) => Some(to(from, speech::complaint(&complaint))),
        }
    }

    /// Takes in what became of mail, and says what is to be sent about that.
    fn learn(&mut self, outcomes: Vec<(Addr, Outcome)>) -> Vec<Mail> {
        let mut news = Vec::new();
        // If nothing could be sent to anybody, it may be the server's own buffer that is full, which is not this peer's fault.
        let any_sent = outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Sent));
        for (addr, outcome) in outcomes {
            let Some(peer) = self.peers.get_mut(&addr) else { continue };
            let line = match outcome {
                Outcome::Sent => {
                    peer.lost = 0;
                    continue;
                }
                Outcome::Lost if !any_sent => continue,
                Outcome::Lost if peer.lost < MOST_LOST => {
                    peer.lost += 1;
                    continue;
                }
                Outcome::Lost => speech::dropped(&peer.nick),
                Outcome::Gone => speech::left(&peer.nick),
            };
            self.peers.remove(&addr);
            news.push(line);
        }
        news.into_iter().map(|line| self.to_all_but(None, line)).collect()
    }

    fn to_all_but(&self, except: Option<&Addr>, line: String) -> Mail {
        let to = self.peers.keys().filter(|addr| except != Some(addr)).cloned().collect();
        Mail { line, to }
    }
}

fn to(addr: &Addr, line: String) -> Mail {
    Mail { line, to: vec![addr.clone()] }
}
