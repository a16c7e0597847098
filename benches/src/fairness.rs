//! What one flooding connection does to the others.

use anyhow::Result;

use crate::cores::Cores;
use crate::errors::Errors;
use crate::load::Traffic;
use crate::report;
use crate::rounds::{self, Entry, Plan};
use crate::server_spec::ServerSpec;

/// Measures and reports; returns the errors. Each round has every server twice, without and with the flood, one right after the
/// other.
pub fn compare(plan: &Plan, servers: &[ServerSpec]) -> Result<Errors> {
    let mut entries = Vec::new();
    for launch in rounds::launches(plan, servers)? {
        let flooded = Entry {
            name: format!("{} with flood", launch.name),
            launch: launch.clone(),
            traffic: Traffic { flood: true, ..plan.traffic },
        };
        entries.push(Entry { name: launch.name.clone(), launch, traffic: plan.traffic });
        entries.push(flooded);
    }
    let cores = Cores::claim()?;
    let all = rounds::alternate(plan, cores, &entries)?;
    report::flood(plan, cores, &all)?;
    Ok(rounds::errors(&all))
}
