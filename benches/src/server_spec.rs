//! Which server: the text of the command line, and the program it stands for.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::transport::Transport;

/// A server to compare, as asked for.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// What the report calls it.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Rival(&'static Rival),
    /// The crate's own example `echo` with this `--server`.
    Socketserver(Backend),
    /// Any command whose first line of output is `listening on tcp://IP:PORT` (or `udp`): the program and its arguments.
    Command(Vec<String>),
}

/// A server of this package.
#[derive(Debug)]
struct Rival {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// Whether it also echoes datagrams, with `--udp`.
    udp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Backend {
    Threading,
    ForkingStyle,
    EventLoop,
    Sequential,
}

/// A program that can be started, known to exist unless it is searched for in the path.
#[derive(Clone, Debug)]
pub struct Launch {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub transport: Transport,
}

/// One worker wherever a server lets one choose, because all servers have one core. `tokio-multi` has two, to tell what the
/// multi-thread runtime's synchronisation costs; it cannot tell what more cores would gain.
const RIVALS: [Rival; 5] = [
    Rival { name: "raw-epoll", program: "raw_epoll", arguments: &[], udp: true },
    Rival { name: "std-threads", program: "std_threads", arguments: &[], udp: false },
    Rival { name: "tokio", program: "tokio_echo", arguments: &["--current-thread"], udp: true },
    Rival { name: "tokio-multi", program: "tokio_echo", arguments: &["--workers", "2"], udp: true },
    Rival { name: "may", program: "may_echo", arguments: &["--workers", "1"], udp: false },
];

const BACKENDS: [(&str, Backend); 4] = [
    ("threading", Backend::Threading),
    ("forking-style", Backend::ForkingStyle),
    ("event-loop", Backend::EventLoop),
    ("sequential", Backend::Sequential),
];

impl FromStr for ServerSpec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, kind) = if let Some((name, command)) = text.split_once('=') {
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            if name.is_empty() || words.is_empty() {
                bail!("NAME=COMMAND LINE needs both a name and a command");
            }
            (name, Kind::Command(words))
        } else if let Some(wanted) = text.strip_prefix("socketserver:") {
            let Some(&(_, backend)) = BACKENDS.iter().find(|(name, _)| *name == wanted) else {
                bail!("no backend `{wanted}`: it is one of {}", BACKENDS.map(|(name, _)| name).join(", "));
            };
            (text, Kind::Socketserver(backend))
        } else {
            let Some(rival) = RIVALS.iter().find(|rival| rival.name == text) else {
                bail!(
                    "no server `{text}`: it is one of {}, or socketserver:BACKEND, or NAME=COMMAND LINE",
                    RIVALS.map(|rival| rival.name).join(", ")
                );
            };
            (text, Kind::Rival(rival))
        };
        Ok(Self { name: name.to_owned(), kind })
    }
}

impl ServerSpec {
    /// Finds the program, and completes the arguments for a load of this many connections.
    ///
    /// # Errors
    ///
    /// The program was not built - the message tells the command that builds it; or it has no server for this transport.
    pub fn resolve(&self, connections: usize, transport: Transport) -> Result<Launch> {
        let (program, arguments) = match &self.kind {
            Kind::Rival(Rival { udp: false, .. }) if transport == Transport::Udp => {
                bail!("{} has no server for datagrams", self.name);
            }
            Kind::Rival(Rival { program, arguments, .. }) => {
                let driver = std::env::current_exe().context("finding the driver's own executable")?;
                let build = "cargo build --release --manifest-path benches/Cargo.toml";
                let mut arguments = owned(arguments);
                if transport == Transport::Udp {
                    arguments.push("--udp".to_owned());
                }
                (built(driver.with_file_name(program), build)?, arguments)
            }
            Kind::Socketserver(backend) => {
                let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
                let example = package.join("../target/release/examples/echo");
                let example = built(example, "cargo build --release --examples")?;
                (example, socketserver_arguments(*backend, connections, transport))
            }
            Kind::Command(words) => (PathBuf::from(&words[0]), words[1..].to_vec()),
        };
        Ok(Launch { name: self.name.clone(), program, arguments, transport })
    }
}

fn built(program: PathBuf, build: &str) -> Result<PathBuf> {
    if !program.is_file() {
        bail!("{} is missing: build it with `{build}` from the repository's root", program.display());
    }
    Ok(program)
}

fn socketserver_arguments(backend: Backend, connections: usize, transport: Transport) -> Vec<String> {
    let mut arguments = owned(&["--bind", &format!("{}://127.0.0.1:0", transport.scheme()), "--server"]);
    arguments.extend(BACKENDS.iter().filter(|(_, of)| *of == backend).map(|(name, _)| (*name).to_owned()));
    match backend {
        Backend::EventLoop => arguments.extend(owned(&["--workers", "1"])),
        // Its workers each keep a connection until it ends; with fewer, the rest of the load would only wait.
        Backend::ForkingStyle => arguments.extend(["--workers".to_owned(), connections.to_string()]),
        Backend::Threading | Backend::Sequential => {}
    }
    arguments
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Backend, ServerSpec, socketserver_arguments};
    use crate::transport::Transport;

    #[test]
    fn a_command_is_split_into_words() {
        let spec: ServerSpec = "mine=./server  --port 0".parse().expect("a valid server");
        let launch = spec.resolve(1, Transport::Tcp).expect("a command is not searched for");
        assert_eq!(launch.name, "mine");
        assert_eq!(launch.program.to_str(), Some("./server"));
        assert_eq!(launch.arguments, ["--port", "0"]);
    }

    #[test]
    fn forking_style_has_a_worker_for_each_connection() {
        let arguments = socketserver_arguments(Backend::ForkingStyle, 7, Transport::Tcp);
        assert_eq!(arguments.join(" "), "--bind tcp://127.0.0.1:0 --server forking-style --workers 7");
    }

    #[test]
    fn unknown_names_are_refused() {
        for text in ["nginx", "socketserver:fast", "=command", "name="] {
            assert!(text.parse::<ServerSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn datagrams_are_asked_of_servers_that_have_them() {
        let arguments = socketserver_arguments(Backend::EventLoop, 7, Transport::Udp);
        assert_eq!(arguments.join(" "), "--bind udp://127.0.0.1:0 --server event-loop --workers 1");
        let may: ServerSpec = "may".parse().expect("a valid server");
        assert!(may.resolve(1, Transport::Udp).is_err());
    }
}
