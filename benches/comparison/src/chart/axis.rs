//! An axis whose labels are round numbers with units.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::quantity::Unit;

/// A range of numbers, where they lie in pixels, and which of them are labelled.
#[derive(Clone, Debug)]
pub struct Axis {
    range: Range<f64>,
    is_logarithmic: bool,
    ticks: Vec<f64>,
    unit: Unit,
}

impl Axis {
    /// Covers `values`, with a margin on both sides and labels at round numbers that are `apart`, as a part of the axis.
    /// Numbers below or equal to zero have no place on it.
    pub fn logarithmic(values: impl IntoIterator<Item = f64>, unit: Unit, apart: f64) -> Self {
        let (low, high) = extremes(values.into_iter().filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        // Numbers that are close would be far apart on an axis that just holds them: it spans a factor of seven at least, in which there are two labels.
        let widened = (7.0 / (high / low)).max(1.0).sqrt();
        let margin = (high / low).powf(0.06) * widened;
        let mut axis = Self { range: low / margin..high * margin, is_logarithmic: true, ticks: Vec::new(), unit };
        for multiples in [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]] {
            let steps = axis.steps(multiples);
            axis = axis.labelled_at(steps.iter().copied(), apart);
            if axis.ticks == steps {
                break;
            }
        }
        axis
    }

    /// Covers zero and `values`, and leaves `room` beyond the largest, as a part of it.
    pub fn from_zero(values: impl IntoIterator<Item = f64>, room: f64, unit: Unit, labels: usize) -> Self {
        let (_, high) = extremes(values).unwrap_or((0.0, 1.0));
        let high = if high > 0.0 { high } else { 1.0 };
        // Ticks are round in the unit in which they are written: 5 KiB, not 5000 B.
        let (factor, _) = unit.prefix(high);
        let raw = high / factor / labels as f64;
        let decade = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|multiple| multiple * decade).into_iter().find(|step| *step >= raw);
        let step = step.unwrap_or(raw) * factor;
        let ticks = (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= high * 1.001).collect();
        Self { range: 0.0..high * (1.0 + room), is_logarithmic: false, ticks, unit }
    }

    /// One place for each of `count` rows, from the top.
    pub fn rows(count: usize) -> Self {
        Self { range: count as f64..0.0, is_logarithmic: false, ticks: Vec::new(), unit: Unit::Count }
    }

    /// The same axis with labels at `values`, but for those that come closer than `apart` to the one before, as a part
    /// of the axis.
    pub fn labelled_at(mut self, values: impl IntoIterator<Item = f64>, apart: f64) -> Self {
        self.ticks.clear();
        for value in values {
            let is_apart = |last: &f64| self.place(value) - self.place(*last) >= apart;
            if self.ticks.last().is_none_or(is_apart) {
                self.ticks.push(value);
            }
        }
        self
    }

    /// The numbers that are one of `multiples` times a power of ten.
    fn steps(&self, multiples: &[f64]) -> Vec<f64> {
        let decades = self.range.start.log10().floor() as i32..=self.range.end.log10().ceil() as i32;
        let steps = decades.flat_map(|decade| multiples.iter().map(move |multiple| multiple * 10_f64.powi(decade)));
        // A label at the very end would reach into the next panel.
        steps.filter(|step| (0.02..0.96).contains(&self.place(*step))).collect()
    }

    /// Where a number lies: 0 is the start of the axis, 1 its end.
    fn place(&self, value: f64) -> f64 {
        let Range { start, end } = self.range;
        if self.is_logarithmic { (value / start).ln() / (end / start).ln() } else { (value - start) / (end - start) }
    }
}

fn extremes(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().fold(None, |extremes, value| match extremes {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        // What is not on the axis is drawn at its end, rather than far away.
        let place = self.place(*value).clamp(0.0, 1.0);
        limit.0 + (f64::from(limit.1 - limit.0) * place).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.unit.tick(*value)
    }
}

#[cfg(test)]
mod tests {
    use plotters::coord::ranged1d::ValueFormatter;

    use super::Axis;
    use crate::quantity::Unit;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.format_ext(tick)).collect()
    }

    #[test]
    fn logarithmic_axis_has_powers_of_ten() {
        assert_eq!(labels(&Axis::logarithmic([9_000.0, 3e6], Unit::Time, 0.25)), ["10 µs", "100 µs", "1 ms"]);
    }

    #[test]
    fn short_logarithmic_axis_has_steps_between() {
        assert_eq!(labels(&Axis::logarithmic([40_000.0, 90_000.0], Unit::Count, 0.2)), ["50k", "100k"]);
    }

    #[test]
    fn axis_from_zero_is_round_in_its_unit() {
        let axis = Axis::from_zero([12_300.0, 4_000.0], 0.3, Unit::Bytes, 4);
        assert_eq!(labels(&axis), ["0", "5 KiB", "10 KiB"]);
    }

    #[test]
    fn labels_that_are_too_close_are_left_out() {
        let axis = Axis::logarithmic([1.0, 10_000.0], Unit::Count, 0.2);
        assert_eq!(labels(&axis.labelled_at([1.0, 2.0, 100.0, 10_000.0], 0.1)), ["1", "100", "10k"]);
    }

    #[test]
    fn nothing_still_makes_an_axis() {
        assert_eq!(labels(&Axis::logarithmic([0.0], Unit::Count, 0.2)).first().map(String::as_str), Some("1"));
        assert_eq!(labels(&Axis::from_zero([], 0.3, Unit::Time, 4)).first().map(String::as_str), Some("0"));
    }
}
