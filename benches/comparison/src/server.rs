//! The servers that are compared: the crate's backends, rivals, and commands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use socketserver::backend::{Backend, BackendName, EventLoop, ForkingStyle};

use crate::case::Case;
use crate::results::Workload;
use crate::rival::Rival;
use crate::transport::Transport;

/// A program and its arguments.
#[derive(Clone, Debug)]
pub struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

impl Launch {
    /// A program, without arguments.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }

    /// With more arguments.
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }
}

/// A server to compare.
#[derive(Clone, Debug)]
pub struct Server {
    /// What the report calls it.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Own(BackendChoice),
    Rival(Rival),
    /// Any command whose first line of output is `listening on tcp://IP:PORT` (or `udp`, or `unix` with a path).
    Command(Launch),
}

/// A backend with the number of its loops, as text: `threading`, `event-loop`, `event-loop x2`, `event-loop unwatched`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackendChoice {
    name: BackendName,
    loops: usize,
    /// Whether a loop has its watchdog, which is a thread of its own.
    watched: bool,
}

/// How many connections the forking-style server keeps at a time. Its own default, said here because a cell depends on it.
const WORKERS: usize = 40;

/// What IPv4 leaves of a packet of 64 KiB for the content of a datagram.
const LARGEST_DATAGRAM: usize = 65_507;

impl Server {
    /// The crate's own, on a machine with this many cores.
    pub fn own(cores: usize) -> Vec<Self> {
        let mut choices: Vec<BackendChoice> =
            BackendName::ALL.into_iter().map(|name| BackendChoice { name, loops: 1, watched: true }).collect();
        if cores > 1 {
            choices.push(BackendChoice { name: BackendName::EventLoop, loops: cores, watched: true });
        }
        choices.into_iter().map(|choice| Self { name: choice.to_string(), kind: Kind::Own(choice) }).collect()
    }

    pub fn rival(rival: &Rival) -> Self {
        Self { name: rival.name().to_owned(), kind: Kind::Rival(rival.clone()) }
    }

    /// From text: a rival's name, `NAME=COMMAND LINE`, or a backend.
    pub fn named(text: &str, rivals: &[Rival]) -> Result<Self> {
        if let Some((name, command)) = text.split_once('=') {
            let mut words = command.split_whitespace();
            let (false, Some(program)) = (name.is_empty(), words.next()) else {
                bail!("NAME=COMMAND LINE needs both a name and a command, not {text:?}");
            };
            return Ok(Self { name: name.to_owned(), kind: Kind::Command(Launch::new(program).arguments(words)) });
        }
        if let Some(rival) = rivals.iter().find(|rival| rival.name() == text) {
            return Ok(Self::rival(rival));
        }
        match text.parse() {
            Ok(choice) => Ok(Self { name: text.to_owned(), kind: Kind::Own(choice) }),
            Err(_) => {
                let known = BackendName::ALL.map(|name| name.to_string());
                let known: Vec<&str> = known.iter().map(String::as_str).chain(rivals.iter().map(Rival::name)).collect();
                bail!(
                    "no server {text:?}: it is one of {}, or `event-loop xN`, or `event-loop unwatched`, or NAME=COMMAND LINE",
                    known.join(", ")
                )
            }
        }
    }

    /// How to start it for a cell, or why it cannot serve that. `bind` is where one of the crate's own listens.
    pub fn launch(
        &self,
        case: &Case,
        transport: Transport,
        connections: usize,
        bind: &str,
    ) -> Result<Result<Launch, String>> {
        if let Some(reason) = impossible(case, transport) {
            return Ok(Err(reason));
        }
        Ok(match &self.kind {
            Kind::Own(choice) => match choice.incapable(case, transport, connections) {
                Some(reason) => Err(reason),
                None => Ok(choice.launch(case, bind)?),
            },
            Kind::Rival(rival) => match case.closed_to_rivals() {
                Some(reason) => Err(reason.to_owned()),
                None => rival.launch(transport),
            },
            Kind::Command(launch) => match case.closed_to_rivals() {
                Some(reason) => Err(reason.to_owned()),
                None => Ok(launch.clone()),
            },
        })
    }
}

/// What no server can do.
fn impossible(case: &Case, transport: Transport) -> Option<String> {
    let (workload, messages) = (case.workload_of(), case.messages());
    if transport != Transport::Udp {
        return match workload {
            Workload::Flood if !messages.is_echo() => Some("a flood is one of echoes".to_owned()),
            _ => None,
        };
    }
    match workload {
        Workload::Reconnect | Workload::Idle => Some("datagrams have no connections".to_owned()),
        Workload::Flood => Some("a flood of datagrams is only lost".to_owned()),
        _ if messages.largest() > LARGEST_DATAGRAM => {
            Some(format!("no datagram holds more than {LARGEST_DATAGRAM} bytes"))
        }
        _ => None,
    }
}

impl BackendChoice {
    /// The backend itself.
    pub fn backend(self) -> Box<dyn Backend> {
        match self.name {
            BackendName::EventLoop if !self.watched => Box::new(EventLoop::new(self.loops).watchdog(None)),
            BackendName::EventLoop => Box::new(EventLoop::new(self.loops)),
            BackendName::ForkingStyle => Box::new(ForkingStyle::new(WORKERS)),
            other => other.backend(),
        }
    }

    /// Why it cannot serve a cell, if it cannot.
    fn incapable(self, case: &Case, transport: Transport, connections: usize) -> Option<String> {
        let keeps = transport != Transport::Udp && *case.workload_of() != Workload::Reconnect;
        // The one that floods stays open, too.
        let kept = connections + usize::from(*case.workload_of() == Workload::Flood);
        match self.name {
            BackendName::Sequential if keeps && kept > 1 => Some("serves one connection at a time".to_owned()),
            BackendName::ForkingStyle if keeps && kept > WORKERS => {
                Some(format!("its {WORKERS} workers keep a connection each"))
            }
            _ => None,
        }
    }

    fn launch(self, case: &Case, bind: &str) -> Result<Launch> {
        let program = std::env::current_exe().context("finding the own executable")?;
        let backend = self.to_string();
        Ok(Launch::new(program).arguments(["serve", "--case", case.name(), "--backend", &backend, "--bind", bind]))
    }
}

/// How the text of an event loop without its watchdog ends.
const UNWATCHED: &str = " unwatched";

impl std::fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)?;
        if self.loops > 1 {
            write!(f, " x{}", self.loops)?;
        }
        f.write_str(if self.watched { "" } else { UNWATCHED })
    }
}

impl FromStr for BackendChoice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (text, watched) = text.strip_suffix(UNWATCHED).map_or((text, true), |text| (text, false));
        let (name, loops) = match text.split_once(" x") {
            Some((name, loops)) => (name, loops.parse().with_context(|| format!("{loops:?} is no number of loops"))?),
            None => (text, 1),
        };
        let name: BackendName = name.parse()?;
        let plain = loops == 1 && watched;
        anyhow::ensure!(
            plain || (name == BackendName::EventLoop && loops > 0),
            "only an event loop has loops to choose, at least one, and a watchdog"
        );
        Ok(Self { name, loops, watched })
    }
}

#[cfg(test)]
mod tests {
    use super::{BackendChoice, Server};
    use crate::{Case, Launch, Messages, Rival, Transport, Workload};

    fn case(workload: Workload, bytes: usize) -> Case {
        Case::new("echo", |_: &mut socketserver::Request| Ok(()), Messages::echo(bytes)).workload(workload)
    }

    fn launch(server: &str, case: &Case, transport: Transport, connections: usize) -> Result<Launch, String> {
        let rivals = [Rival::new("mute", |_| Err("it is mute".to_owned()))];
        let server = Server::named(server, &rivals).expect("a known server");
        server.launch(case, transport, connections, "tcp://127.0.0.1:0").expect("an executable")
    }

    #[test]
    fn a_command_is_split_into_words() {
        let case = case(Workload::ClosedLoop, 64);
        let launch = launch("mine=./server  --port 0", &case, Transport::Tcp, 1).expect("a command serves anything");
        assert_eq!(launch.program.to_str(), Some("./server"));
        assert_eq!(launch.arguments, ["--port", "0"]);
    }

    #[test]
    fn a_backend_is_named_by_text() {
        for name in ["threading", "event-loop", "event-loop x4", "event-loop unwatched", "event-loop x4 unwatched"] {
            assert_eq!(Server::named(name, &[]).expect("a backend").name, name);
            assert_eq!(name.parse::<BackendChoice>().expect("a backend").to_string(), name);
        }
        for text in
            ["nginx", "threading x2", "threading unwatched", "event-loop x0", "event-loop x", "=command", "name="]
        {
            assert!(Server::named(text, &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn the_machine_decides_on_the_number_of_loops() {
        let names = |cores| Server::own(cores).into_iter().map(|server| server.name).collect::<Vec<_>>();
        assert_eq!(names(1), ["sequential", "threading", "forking-style", "event-loop"]);
        assert_eq!(names(2)[4..], ["event-loop x2"]);
    }

    #[test]
    fn a_cell_that_a_server_cannot_serve_says_why() {
        let kept = case(Workload::ClosedLoop, 64);
        let made_anew = case(Workload::Reconnect, 64);
        fn unable(server: &str, case: &Case, transport: Transport, connections: usize) -> Option<String> {
            launch(server, case, transport, connections).err()
        }
        assert_eq!(unable("sequential", &kept, Transport::Tcp, 1), None);
        assert!(unable("sequential", &kept, Transport::Unix, 2).is_some());
        assert_eq!(unable("sequential", &kept, Transport::Udp, 100), None);
        assert_eq!(unable("sequential", &made_anew, Transport::Tcp, 10), None);
        assert_eq!(unable("forking-style", &kept, Transport::Tcp, 40), None);
        assert!(unable("forking-style", &kept, Transport::Tcp, 41).is_some());
        assert!(unable("forking-style", &case(Workload::Flood, 64), Transport::Tcp, 40).is_some());
        assert!(unable("threading", &made_anew, Transport::Udp, 10).is_some());
        assert!(unable("threading", &case(Workload::ClosedLoop, 65_508), Transport::Udp, 1).is_some());
        assert_eq!(unable("mute", &kept, Transport::Tcp, 1).as_deref(), Some("it is mute"));
        let computing = kept.without_rivals("it computes");
        assert_eq!(unable("mine=true", &computing, Transport::Tcp, 1).as_deref(), Some("it computes"));
    }
}
