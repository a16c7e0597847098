//! Cells that are compared with each other.

use crate::quantity::thousands;
use crate::results::{Cell, Outcome, Results, Workload};

/// The cells of one load: each of its servers had the same to do.
#[derive(Clone)]
pub struct Group<'a> {
    pub case: &'a str,
    pub workload: &'a Workload,
    pub transport: &'a str,
    pub connections: usize,
    /// In the order in which the servers were named.
    pub cells: Vec<&'a Cell>,
}

impl<'a> Group<'a> {
    /// Returns the groups of a run, in the order in which they were measured.
    pub fn all(results: &'a Results) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for cell in &results.cells {
            match groups.iter_mut().find(|group| group.holds(cell)) {
                Some(group) => group.cells.push(cell),
                None => groups.push(Self {
                    case: &cell.case,
                    workload: &cell.workload,
                    transport: &cell.transport,
                    connections: cell.connections,
                    cells: vec![cell],
                }),
            }
        }
        groups
    }

    /// Returns one group for each case and transport: the one to look at when there is room for one.
    ///
    /// Of the numbers of connections that most servers could serve, it is the one nearest to 100: a server is busy
    /// with them, and a latency still is that of a server and not of the queue before it.
    pub fn typical(results: &'a Results) -> Vec<Self> {
        let mut typical: Vec<Self> = Vec::new();
        for set in sets(&Self::all(results)) {
            let most = set.iter().map(Self::measured).max().unwrap_or(0);
            let served = set.iter().filter(|group| group.measured() * 4 >= most * 3);
            let distance = |group: &&Self| ((group.connections as f64).ln() - 100_f64.ln()).abs();
            typical.extend(served.min_by(|one, other| distance(one).total_cmp(&distance(other))).cloned());
        }
        typical
    }

    fn holds(&self, cell: &Cell) -> bool {
        let Cell { case, workload, transport, connections, .. } = cell;
        (self.case, self.workload, self.transport, self.connections) == (case, workload, transport, *connections)
    }

    /// Whether the two differ in nothing but the number of connections.
    fn is_kin_of(&self, other: &Self) -> bool {
        (self.case, self.workload, self.transport) == (other.case, other.workload, other.transport)
    }

    /// How many of its servers have numbers.
    pub fn measured(&self) -> usize {
        self.cells.iter().filter(|cell| !cell.samples().is_empty()).count()
    }

    pub fn cell(&self, server: &str) -> Option<&'a Cell> {
        self.cells.iter().copied().find(|cell| cell.server == server)
    }

    /// The server that the others are compared with: the first that did what it was asked to.
    pub fn baseline(&self) -> Option<&'a Cell> {
        self.cells.iter().copied().find(|cell| !cell.samples().is_empty() && cell.is_clean())
    }

    /// `echo 64 B, tcp, 1,000 connections`.
    pub fn title(&self) -> String {
        let connections = self.connections;
        let plural = if connections == 1 { "" } else { "s" };
        format!("{}, {}, {} connection{plural}", self.case, self.transport, thousands(connections))
    }
}

/// Whether the load goes as fast as the server does: at a fixed rate, the rate would be all that there is to see.
pub fn has_throughput(group: &Group) -> bool {
    !matches!(group.workload, Workload::Idle | Workload::OpenLoop { .. })
}

/// Parts groups into sets that differ in nothing but the number of connections.
pub fn sets<'a>(groups: &[Group<'a>]) -> Vec<Vec<Group<'a>>> {
    let mut sets: Vec<Vec<Group>> = Vec::new();
    for group in groups {
        match sets.iter_mut().find(|set| set[0].is_kin_of(group)) {
            Some(set) => set.push(group.clone()),
            None => sets.push(vec![group.clone()]),
        }
    }
    sets
}

impl Results {
    /// The servers of the run, in the order in which they were named.
    pub fn servers(&self) -> Vec<&str> {
        let mut servers = Vec::new();
        for cell in &self.cells {
            if !servers.contains(&cell.server.as_str()) {
                servers.push(&cell.server);
            }
        }
        servers
    }
}

impl Cell {
    /// Why it has no numbers, if it has none.
    pub fn reason(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Measured(samples) if samples.is_empty() => Some("not measured".to_owned()),
            Outcome::Measured(_) => None,
            Outcome::Unable(why) => Some(format!("cannot serve this: {why}")),
            Outcome::Failed(error) => Some(format!("failed: {error}")),
        }
    }
}
