//! The numbers of a run, for a spreadsheet.

use std::io;

use anyhow::Result;

use crate::results::{Cell, Host, Results, Sample, Workload};

type Column = (&'static str, fn(&Sample) -> String);

/// The columns of a sample, with their units.
const MEASURED: [Column; 18] = [
    ("exchanges_per_second", |sample| sample.per_second.to_string()),
    ("latency_p50_us", |sample| sample.latency.p50.to_string()),
    ("latency_p99_us", |sample| sample.latency.p99.to_string()),
    ("latency_p99_9_us", |sample| sample.latency.p999.to_string()),
    ("latency_max_us", |sample| sample.latency.max.to_string()),
    ("cpu_per_exchange_ns", |sample| sample.cpu_ns.to_string()),
    ("voluntary_switches_per_exchange", |sample| sample.voluntary_switches.to_string()),
    ("involuntary_switches_per_exchange", |sample| sample.involuntary_switches.to_string()),
    ("resident_bytes", |sample| sample.resident.to_string()),
    ("resident_per_connection_bytes", |sample| sample.resident_per_connection.to_string()),
    ("page_tables_per_connection_bytes", |sample| sample.page_tables_per_connection.to_string()),
    ("threads", |sample| sample.threads.to_string()),
    ("server_busy_part", |sample| sample.server_busy.to_string()),
    ("load_busy_part", |sample| sample.load_busy.to_string()),
    ("lost_datagrams", |sample| sample.lost.to_string()),
    ("flooded_bytes_per_second", |sample| sample.flooded.to_string()),
    ("errors", |sample| sample.errors.values().sum::<u64>().to_string()),
    ("remark", |sample| {
        let errors: Vec<String> = sample.errors.iter().map(|(error, count)| format!("{count} × {error}")).collect();
        errors.join(", ")
    }),
];

const LOAD: [&str; 7] = ["case", "workload", "due_per_second", "transport", "connections", "server", "round"];

/// The facts of the host are repeated in each line, so that files of several hosts can be joined.
const HOST: [&str; 7] = ["date", "kernel", "processor", "cores", "memory_bytes", "open_files_limit", "versions"];

/// Writes one line for each cell and round; for a cell without numbers one that says why.
///
/// # Errors
///
/// What `to` fails with.
pub fn write(results: &Results, to: impl io::Write) -> Result<()> {
    let mut lines = csv::Writer::from_writer(to);
    lines.write_record(LOAD.into_iter().chain(MEASURED.map(|(name, _)| name)).chain(HOST))?;
    let host = host(&results.host);
    for cell in &results.cells {
        for (round, sample) in cell.samples().iter().enumerate() {
            let measured = MEASURED.map(|(_, column)| column(sample));
            lines.write_record(load(cell, &(round + 1).to_string()).iter().chain(&measured).chain(&host))?;
        }
        if let Some(reason) = cell.reason() {
            let mut empty = MEASURED.map(|_| String::new());
            empty[MEASURED.len() - 1] = reason;
            lines.write_record(load(cell, "").iter().chain(&empty).chain(&host))?;
        }
    }
    lines.flush()?;
    Ok(())
}

fn load(cell: &Cell, round: &str) -> [String; LOAD.len()] {
    let (workload, due) = match cell.workload {
        Workload::ClosedLoop => ("closed-loop", String::new()),
        Workload::OpenLoop { per_second } => ("open-loop", per_second.to_string()),
        Workload::Reconnect => ("reconnect", String::new()),
        Workload::Flood => ("flood", String::new()),
        Workload::Idle => ("idle", String::new()),
    };
    [
        cell.case.clone(),
        workload.to_owned(),
        due,
        cell.transport.clone(),
        cell.connections.to_string(),
        cell.server.clone(),
        round.to_owned(),
    ]
}

fn host(host: &Host) -> [String; HOST.len()] {
    let versions: Vec<String> = host.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    [
        host.date.clone(),
        host.kernel.clone(),
        host.processor.clone(),
        host.cores.to_string(),
        host.memory_bytes.to_string(),
        host.open_files.to_string(),
        versions.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::write;
    use crate::example;
    use crate::results::Results;

    fn lines_of(results: &Results) -> Vec<csv::StringRecord> {
        let mut written = Vec::new();
        write(results, &mut written).expect("memory takes what is written");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(written.as_slice());
        reader.records().map(|line| line.expect("it is well-formed")).collect()
    }

    #[test]
    fn each_round_has_a_line_with_its_numbers() {
        let lines = lines_of(&example::minimal());
        assert_eq!(lines.len(), 1 + 2 * 3);
        let column = |name: &str| lines[0].iter().position(|column| column == name).expect("the column is there");
        assert_eq!(&lines[2][column("case")], "count words");
        assert_eq!(&lines[2][column("server")], "threading");
        assert_eq!(&lines[2][column("round")], "2");
        assert_eq!(lines[2][column("exchanges_per_second")].parse(), Ok(20_000.0));
        assert_eq!(&lines[2][column("date")], "2026-11-21 12:00 UTC");
    }

    #[test]
    fn cell_without_numbers_has_one_line_that_says_why() {
        let results = example::standard();
        let lines = lines_of(&results);
        let rounds: usize = results.cells.iter().map(|cell| cell.samples().len().max(1)).sum();
        assert_eq!(lines.len(), 1 + rounds);
        assert!(lines.iter().any(|line| line.iter().any(|field| field == "cannot serve this: 40 children at most")));
    }
}
