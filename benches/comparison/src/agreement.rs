//! Whether two runs say the same: each ratio of their summaries, side by side.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::report::{Ratio, summary_ratios};
use crate::results::Results;

/// Prints the ratios of both, and by how much they differ. Fails when one differs by more than `within` percent.
pub fn print(one: &Results, other: &Results, within: f64) -> Result<ExitCode> {
    let (ratios, others) = (summary_ratios(one), summary_ratios(other));
    let pairs: Vec<_> = ratios.iter().filter_map(|ratio| Some((ratio, counterpart(ratio, &others)?))).collect();
    ensure!(!pairs.is_empty(), "the two runs have no ratio in common");
    let mut worst: f64 = 0.0;
    for (ratio, other) in &pairs {
        let (first, second) = (ratio.spread.median, other.spread.median);
        let percent = difference(first, second);
        worst = worst.max(percent);
        let mark = if percent > within { " !" } else { "" };
        let Ratio { load, quantity, server, baseline, .. } = ratio;
        println!("{first:8.3} {second:8.3} {percent:5.1} %{mark}  {load}: {quantity}, {server} to {baseline}");
    }
    let alone = ratios.len() + others.len() - 2 * pairs.len();
    println!("{} ratios are in both, {alone} in one alone; the largest difference is {worst:.1} %", pairs.len());
    Ok(if worst > within { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn counterpart<'a>(ratio: &Ratio, others: &'a [Ratio]) -> Option<&'a Ratio> {
    let names = |ratio: &Ratio| (ratio.load.clone(), ratio.quantity, ratio.server.clone(), ratio.baseline.clone());
    others.iter().find(|other| names(other) == names(ratio))
}

/// In percent of the smaller one, so that it is the same in either order.
fn difference(one: f64, other: f64) -> f64 {
    100.0 * (one.max(other) / one.min(other) - 1.0)
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn a_difference_is_the_same_in_either_order() {
        assert_eq!(difference(2.0, 1.0), 100.0);
        assert_eq!(difference(1.0, 2.0), 100.0);
        assert_eq!(difference(1.5, 1.5), 0.0);
    }
}
