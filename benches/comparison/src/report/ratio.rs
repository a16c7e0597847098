//! How each server compares with the first one, in the numbers that another run would confirm.

use crate::group::Group;
use crate::quantity::{self, Quantity};
use crate::results::{Cell, Results, Workload};
use crate::spread::Spread;
use crate::table::Table;

/// What one server needs, as a multiple of what another needs for the same.
#[derive(Clone, Debug)]
pub struct Ratio {
    /// The load, in words.
    pub load: String,
    /// What was compared, in words.
    pub quantity: &'static str,
    pub server: String,
    /// The server that is 1.
    pub baseline: String,
    /// Each round gives one ratio, as the two were measured close in time; the median of these ratios is told, and not
    /// the ratio of the medians.
    pub spread: Spread,
    pub rounds: usize,
    /// Of five rounds or more, all but the lowest and the highest, which a single disturbance makes.
    middle: Spread,
}

/// How far one of the middle rounds may lie from the median, as a part of it, for the summary to tell the median.
///
/// A ratio whose rounds differ by more would differ as much in another run.
const STEADY: f64 = 0.05;

impl Ratio {
    /// Whether some rounds had the one ahead and some the other. A single round cannot tell.
    pub fn is_within_noise(&self) -> bool {
        self.rounds > 1 && self.spread.min <= 1.0 && 1.0 <= self.spread.max
    }

    /// The median, to three digits or to the unit.
    pub fn rounded(&self) -> String {
        let median = self.spread.median;
        if median < 10.0 { format!("{median:.2}") } else { format!("{median:.0}") }
    }

    /// Whether another run would confirm it.
    fn is_steady(&self) -> bool {
        let Spread { median, min, max } = self.middle;
        median > 0.0 && (max - median).max(median - min) <= STEADY * median
    }
}

/// Returns the ratios of the summary: the server's CPU time per exchange, and for idle connections its memory, against
/// the first server that could serve the same load.
///
/// Throughput and latency are not among them, as they depend on the load and on whatever else runs on the host. A
/// server that had errors is left out, and so is a ratio whose middle rounds were more than a twentieth from the median.
pub fn summary_ratios(results: &Results) -> Vec<Ratio> {
    all(results).into_iter().filter(Ratio::is_steady).collect()
}

fn all(results: &Results) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for group in Group::typical(results) {
        let Some(baseline) = group.baseline() else { continue };
        let quantity = quantity_of(group.workload);
        let others = group.cells.iter().filter(|cell| cell.server != baseline.server && cell.is_clean());
        ratios.extend(others.filter_map(|cell| ratio(&group, quantity, cell, baseline)));
    }
    ratios
}

/// What is compared under a load.
fn quantity_of(workload: &Workload) -> Quantity {
    if *workload == Workload::Idle { quantity::MEMORY } else { quantity::CPU }
}

fn ratio(group: &Group, quantity: Quantity, cell: &Cell, baseline: &Cell) -> Option<Ratio> {
    let pairs = cell.samples().iter().zip(baseline.samples());
    let mut of_rounds: Vec<f64> = pairs
        .map(|(sample, first)| ((quantity.of)(sample), (quantity.of)(first)))
        // Memory that was there before can serve the first connections, which then seem to need none.
        .filter(|(sample, first)| *sample > 0.0 && *first > 0.0)
        .map(|(sample, first)| sample / first)
        .filter(|ratio| ratio.is_finite())
        .collect();
    of_rounds.sort_by(f64::total_cmp);
    let middle = if of_rounds.len() < 5 { &of_rounds[..] } else { &of_rounds[1..of_rounds.len() - 1] };
    Some(Ratio {
        load: group.title(),
        quantity: quantity.name,
        server: cell.server.clone(),
        baseline: baseline.server.clone(),
        rounds: of_rounds.len(),
        middle: Spread::of(middle.iter().copied())?,
        spread: Spread::of(of_rounds)?,
    })
}

pub(super) fn summary(results: &Results) -> String {
    let (steady, unsteady): (Vec<Ratio>, Vec<Ratio>) = all(results).into_iter().partition(Ratio::is_steady);
    if steady.is_empty() && unsteady.is_empty() {
        return "Summary: nothing to compare with.\n".to_owned();
    }
    let mut table = Table::new(["load", "", "server", "against", "ratio", "rounds", ""]);
    let mut last = "";
    for ratio in &steady {
        let Spread { min, max, .. } = ratio.spread;
        // What is the same as in the line above is not repeated.
        let (load, quantity) = if last == ratio.load { ("", "") } else { (ratio.load.as_str(), ratio.quantity) };
        last = &ratio.load;
        table.row(vec![
            load.to_owned(),
            quantity.to_owned(),
            ratio.server.clone(),
            ratio.baseline.clone(),
            ratio.rounded(),
            if ratio.rounds > 1 { format!("{min:.2}..{max:.2}") } else { "one".to_owned() },
            if ratio.is_within_noise() { "within the noise" } else { "" }.to_owned(),
        ]);
    }
    let mut text =
        "Summary: what each server needs, as a multiple of what the first one needs for the same\n".to_owned();
    text += &if table.is_empty() { "No ratio is steady enough to be told.\n".to_owned() } else { table.to_string() };
    if steady.iter().any(|ratio| ratio.rounds == 1) {
        text += "One round has no spread: whether a difference is more than noise takes a run with several.\n";
    }
    text + &left_out(&unsteady)
}

/// Names what is not told, a line for each load.
fn left_out(unsteady: &[Ratio]) -> String {
    if unsteady.is_empty() {
        return String::new();
    }
    let mut text = format!("Left out, as their middle rounds lay more than {:.0} % from the median:\n", STEADY * 100.0);
    for of_load in unsteady.chunk_by(|one, other| one.load == other.load) {
        let servers: Vec<&str> = of_load.iter().map(|ratio| ratio.server.as_str()).collect();
        text += &format!("  {}: {}\n", of_load[0].load, servers.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{summary, summary_ratios};
    use crate::example;
    use crate::spread::Spread;

    #[test]
    fn ratio_is_the_median_of_the_ratios_within_rounds() {
        let mut results = example::minimal();
        // Each host's moment of slowness slows both servers, so that the ratios agree where the medians do not.
        for (cell, costs) in [(0, [10.0, 20.0, 40.0]), (1, [5.0, 10.4, 19.5])] {
            for (sample, cost) in example::samples(&mut results.cells[cell]).iter_mut().zip(costs) {
                sample.cpu_ns = cost;
            }
        }
        let ratios = summary_ratios(&results);
        let ratio = ratios.first().expect("there are two servers to compare");
        assert_eq!((ratio.server.as_str(), ratio.baseline.as_str()), ("event-loop", "threading"));
        assert_eq!(ratio.spread, Spread { median: 0.5, min: 0.4875, max: 0.52 });
        assert!(!ratio.is_within_noise());
    }

    #[test]
    fn difference_that_changes_sides_is_within_the_noise() {
        let mut results = example::minimal();
        for (cell, costs) in [(0, [10.0, 10.0, 10.0]), (1, [9.8, 10.1, 10.3])] {
            for (sample, cost) in example::samples(&mut results.cells[cell]).iter_mut().zip(costs) {
                sample.cpu_ns = cost;
            }
        }
        assert!(summary_ratios(&results)[0].is_within_noise());
        assert!(summary(&results).contains("0.98..1.03  within the noise"), "{}", summary(&results));
    }

    #[test]
    fn unsteady_ratio_is_named_but_not_told() {
        let mut results = example::minimal();
        for (sample, cost) in example::samples(&mut results.cells[1]).iter_mut().zip([1000.0, 2000.0, 3000.0]) {
            sample.cpu_ns = cost;
        }
        assert!(summary_ratios(&results).is_empty());
        let text = summary(&results);
        let expected = "more than 5 % from the median:\n  count words, tcp, 10 connections: event-loop\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn one_disturbed_round_of_five_does_not_matter() {
        let mut results = example::minimal();
        for (cell, costs) in [(0, [10.0; 5]), (1, [5.0, 5.1, 5.2, 5.1, 9.0])] {
            let samples = example::samples(&mut results.cells[cell]);
            samples.resize(5, samples[0].clone());
            for (sample, cost) in samples.iter_mut().zip(costs) {
                sample.cpu_ns = cost;
            }
        }
        assert_eq!(summary_ratios(&results)[0].spread, Spread { median: 0.51, min: 0.5, max: 0.9 });
    }

    #[test]
    fn server_with_errors_has_no_ratio() {
        let mut results = example::minimal();
        example::samples(&mut results.cells[1])[2].errors.insert("timed out".to_owned(), 1);
        assert!(summary_ratios(&results).is_empty());
    }

    #[test]
    fn idle_connections_are_compared_by_memory() {
        let ratios = summary_ratios(&example::standard());
        assert!(ratios.iter().any(|ratio| ratio.load.starts_with("idle") && ratio.quantity == "memory/connection"));
    }
}
