//! What is to be measured, in which order, and how long that takes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::load::Traffic;
use crate::open_files::OpenFiles;
use crate::results::Workload;
use crate::server::{Launch, Server};
use crate::transport::Transport;

/// The groups of a run.
pub struct Plan {
    pub groups: Vec<Group>,
}

/// The cells that differ in their server alone; they are measured in turn.
pub struct Group {
    pub case: String,
    pub traffic: Traffic,
    /// How many servers may run at the same time.
    pub together: usize,
    pub entries: Vec<Entry>,
}

/// One server in a group, and why not, if it cannot serve it.
pub struct Entry {
    pub server: String,
    pub launch: Result<Launch, String>,
}

/// What was asked for.
#[derive(Debug, Default)]
pub struct Selection {
    /// Of names; none for all that need not be named.
    pub cases: Vec<String>,
    /// None for those of the case.
    pub transports: Vec<Transport>,
    /// None for those of the case.
    pub connections: Vec<usize>,
    pub quick: bool,
    /// The most bytes of a write, if not those of the case.
    pub write_bytes: Option<usize>,
}

impl Plan {
    /// Plans the cells of all cases that are selected. `directory` is where Unix sockets may be made.
    ///
    /// # Errors
    ///
    /// Nothing is selected.
    pub fn new(
        cases: &[Case],
        servers: &[Server],
        selection: &Selection,
        files: OpenFiles,
        directory: &Path,
    ) -> Result<Self> {
        let mut groups = Vec::new();
        for case in selection.cases(cases)? {
            for transport in selection.transports(case) {
                for &connections in selection.connections(case) {
                    let entry = |(index, server): (usize, &Server)| -> Result<Entry> {
                        let bind = match transport {
                            Transport::Unix => format!("unix://{}", directory.join(index.to_string()).display()),
                            Transport::Tcp | Transport::Udp => format!("{transport}://127.0.0.1:0"),
                        };
                        let launch = match files.too_few_for(connections) {
                            Some(reason) => Err(reason),
                            None => server.launch(case, transport, connections, &bind)?,
                        };
                        Ok(Entry { server: server.name.clone(), launch })
                    };
                    let messages = case.messages().clone();
                    let messages = match (transport, selection.write_bytes) {
                        // A part of a datagram is another datagram.
                        (Transport::Udp, _) => messages.in_writes_of(usize::MAX),
                        (_, Some(bytes)) => messages.in_writes_of(bytes),
                        (_, None) => messages,
                    };
                    groups.push(Group {
                        case: case.name().to_owned(),
                        together: files.times(connections),
                        traffic: Traffic { transport, connections, messages, workload: case.workload_of().clone() },
                        entries: servers.iter().enumerate().map(entry).collect::<Result<_>>()?,
                    });
                }
            }
        }
        ensure!(!groups.is_empty(), "nothing is selected");
        Ok(Self { groups })
    }

    /// The number of cells, and of those that will be measured.
    pub fn cells(&self) -> (usize, usize) {
        let entries = || self.groups.iter().flat_map(|group| &group.entries);
        (entries().count(), entries().filter(|entry| entry.launch.is_ok()).count())
    }
}

impl Group {
    /// How long one sample takes, roughly: the window and the load before it; starting a server, waiting until it rests (around
    /// each slice, too), and ending it; making the connections, and for most of them a coroutine or a thread.
    pub fn sample_takes(&self, warmup: Duration, window: Duration) -> Duration {
        let Traffic { connections, workload, messages, .. } = &self.traffic;
        let each = match workload {
            Workload::Reconnect => Duration::ZERO,
            _ => CONNECTED + PER_BYTE * u32::try_from(messages.largest()).unwrap_or(u32::MAX),
        };
        let run = if *workload == Workload::Idle { Duration::ZERO } else { warmup + window };
        AROUND + run + each * u32::try_from(*connections).unwrap_or(u32::MAX)
    }
}

/// Measured on a virtual machine of 2026, between what an event loop and what threads take.
const AROUND: Duration = Duration::from_millis(110);
const CONNECTED: Duration = Duration::from_micros(180);
/// The last messages of a window and of the warm-up are waited for.
const PER_BYTE: Duration = Duration::from_nanos(3);

impl Selection {
    fn cases<'a>(&self, all: &'a [Case]) -> Result<Vec<&'a Case>> {
        if self.cases.is_empty() {
            return Ok(all.iter().filter(|case| !case.is_only_if_named()).collect());
        }
        for text in &self.cases {
            let names: Vec<&str> = all.iter().map(Case::name).collect();
            ensure!(all.iter().any(|case| case.is_named(text)), "no case {text:?}: there are {}", names.join(", "));
        }
        // Who says a whole name means no other that contains it.
        let means = |text: &String, case: &Case| match all.iter().find(|case| case.name().eq_ignore_ascii_case(text)) {
            Some(named) => named.name() == case.name(),
            None => case.is_named(text),
        };
        Ok(all.iter().filter(|case| self.cases.iter().any(|text| means(text, case))).collect())
    }

    /// Of those of the case. A quick run takes the first one alone.
    fn transports<'a>(&'a self, case: &'a Case) -> impl Iterator<Item = Transport> + 'a {
        let selected = |transport: &&Transport| self.transports.is_empty() || self.transports.contains(transport);
        let most = if self.quick { 1 } else { usize::MAX };
        case.all_transports().iter().filter(selected).take(most).copied()
    }

    /// A case that a quick run leaves out is measured all the same if it is named.
    fn connections<'a>(&'a self, case: &'a Case) -> &'a [usize] {
        match self {
            Self { connections, .. } if !connections.is_empty() => connections,
            Self { quick: true, cases, .. } if cases.is_empty() || !case.quick_connections().is_empty() => {
                case.quick_connections()
            }
            _ => case.all_connections(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Plan, Selection};
    use crate::open_files::OpenFiles;
    use crate::server::Server;
    use crate::{Case, Messages, Transport};

    /// `CASE TRANSPORT CONNECTIONS` of each group.
    fn planned(selection: &Selection) -> Vec<String> {
        let case = |name| Case::new(name, |_: &mut socketserver::Request| Ok(()), Messages::echo(64));
        let cases = [
            case("echo 64 B").transports([Transport::Tcp, Transport::Udp]).connections([1, 10]).quick([10]),
            case("echo 64 B slowly").connections([5]).quick([]),
            case("flood").connections([7]).only_if_named(),
        ];
        let plan = Plan::new(&cases, &Server::own(1), selection, OpenFiles { limit: 1024 }, Path::new("/tmp"));
        let groups = plan.map(|plan| plan.groups).unwrap_or_default();
        let line = |traffic: &crate::load::Traffic| format!("{} {}", traffic.transport, traffic.connections);
        groups.iter().map(|group| format!("{} {}", group.case, line(&group.traffic))).collect()
    }

    #[test]
    fn without_a_selection_all_is_planned_that_need_not_be_named() {
        let all =
            ["echo 64 B tcp 1", "echo 64 B tcp 10", "echo 64 B udp 1", "echo 64 B udp 10", "echo 64 B slowly tcp 5"];
        assert_eq!(planned(&Selection::default()), all);
    }

    #[test]
    fn a_quick_run_has_its_own_numbers() {
        let quick = Selection { quick: true, ..Selection::default() };
        assert_eq!(planned(&quick), ["echo 64 B tcp 10"]);
        let quick = Selection { transports: vec![Transport::Udp], ..quick };
        assert_eq!(planned(&quick), ["echo 64 B udp 10"]);
    }

    #[test]
    fn a_whole_name_means_that_case_and_a_part_means_all_that_have_it() {
        let named = |text: &str| {
            let transports = vec![Transport::Tcp];
            planned(&Selection { cases: vec![text.to_owned()], transports, ..Selection::default() })
        };
        assert_eq!(named("Echo 64 B"), ["echo 64 B tcp 1", "echo 64 B tcp 10"]);
        assert_eq!(named("echo"), ["echo 64 B tcp 1", "echo 64 B tcp 10", "echo 64 B slowly tcp 5"]);
        assert_eq!(named("flood"), ["flood tcp 7"]);
        assert_eq!(named("else"), [""; 0]);
    }

    #[test]
    fn a_datagram_is_one_write() {
        let messages = Messages::echo(64).in_writes_of(48);
        let case = Case::new("echo", |_: &mut socketserver::Request| Ok(()), messages).connections([1]);
        let cases = [case.transports([Transport::Tcp, Transport::Udp])];
        let writes = |write_bytes| {
            let selection = Selection { write_bytes, ..Selection::default() };
            let plan = Plan::new(&cases, &Server::own(1), &selection, OpenFiles { limit: 1024 }, Path::new("/tmp"));
            let groups = plan.expect("something is selected").groups;
            groups.into_iter().map(|group| group.traffic.messages.write_bytes).collect::<Vec<_>>()
        };
        assert_eq!(writes(None), [48, usize::MAX]);
        assert_eq!(writes(Some(7)), [7, usize::MAX]);
    }

    #[test]
    fn numbers_of_connections_may_be_chosen() {
        let chosen = Selection { connections: vec![3], transports: vec![Transport::Udp], ..Selection::default() };
        assert_eq!(planned(&chosen), ["echo 64 B udp 3"]);
    }
}
