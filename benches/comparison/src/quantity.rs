//! What is measured, with its unit: one definition for the tables, the charts and the summary.

use crate::results::{Cell, Sample};
use crate::spread::Spread;

/// A number of a [`Sample`].
#[derive(Clone, Copy)]
pub struct Quantity {
    /// As a column is headed.
    pub name: &'static str,
    /// As an axis is labelled.
    pub label: &'static str,
    pub unit: Unit,
    pub of: fn(&Sample) -> f64,
}

impl Quantity {
    /// The median over the rounds, with its extremes. What a division by no exchanges at all gave is no number.
    pub fn spread(&self, cell: &Cell) -> Option<Spread> {
        Spread::of(cell.samples().iter().map(self.of).filter(|value| value.is_finite()))
    }
}

pub const THROUGHPUT: Quantity =
    Quantity { name: "exchanges/s", label: "exchanges per second", unit: Unit::Count, of: |sample| sample.per_second };

pub const P50: Quantity =
    Quantity { name: "p50", label: "median latency", unit: Unit::Time, of: |sample| nanoseconds(sample.latency.p50) };

pub const P99: Quantity = Quantity {
    name: "p99",
    label: "99th percentile of latency",
    unit: Unit::Time,
    of: |sample| nanoseconds(sample.latency.p99),
};

pub const P999: Quantity = Quantity {
    name: "p99.9",
    label: "99.9th percentile of latency",
    unit: Unit::Time,
    of: |sample| nanoseconds(sample.latency.p999),
};

pub const MAX: Quantity =
    Quantity { name: "max", label: "longest latency", unit: Unit::Time, of: |sample| nanoseconds(sample.latency.max) };

pub const CPU: Quantity =
    Quantity { name: "CPU/exchange", label: "CPU time per exchange", unit: Unit::Time, of: |sample| sample.cpu_ns };

pub const RESIDENT: Quantity =
    Quantity { name: "resident", label: "resident memory", unit: Unit::Bytes, of: |sample| sample.resident as f64 };

pub const MEMORY: Quantity = Quantity {
    name: "memory/connection",
    label: "memory per connection",
    unit: Unit::Bytes,
    of: |sample| sample.resident_per_connection,
};

pub const PAGE_TABLES: Quantity = Quantity {
    name: "page tables/connection",
    label: "page tables per connection",
    unit: Unit::Bytes,
    of: |sample| sample.page_tables_per_connection,
};

pub const FLOODED: Quantity = Quantity {
    name: "flooded/s",
    label: "bytes per second on the connection that floods",
    unit: Unit::Bytes,
    of: |sample| sample.flooded,
};

fn nanoseconds(microseconds: f64) -> f64 {
    microseconds * 1000.0
}

/// What a number counts, which decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    /// In nanoseconds.
    Time,
    /// In bytes.
    Bytes,
}

impl Unit {
    /// Writes a measured number with three significant digits: `52.1k`, `4.32 µs`, `12.0 KiB`.
    pub fn show(self, value: f64) -> String {
        let (factor, name) = self.prefix(value);
        let scaled = value / factor;
        // A digit less where rounding reaches the next power of ten: 9.996 is 10.0.
        let decimals = match scaled.abs() {
            magnitude if magnitude >= 99.95 || value == 0.0 => 0,
            magnitude if magnitude >= 9.995 => 1,
            _ => 2,
        };
        // There is no part of a byte.
        let decimals = if factor == 1.0 && self == Self::Bytes { 0 } else { decimals };
        format!("{scaled:.decimals$}{name}")
    }

    /// Writes a round number as an axis has it: `10k`, `100 µs`, `0`.
    pub fn tick(self, value: f64) -> String {
        let (factor, name) = self.prefix(value);
        let name = if value == 0.0 { "" } else { name };
        // Not more digits than the number has, and none that come from the division alone.
        let rounded = (value / factor * 1000.0).round() / 1000.0;
        format!("{rounded}{name}")
    }

    /// The largest factor that leaves at least a one before the point, and what it is called.
    pub fn prefix(self, value: f64) -> (f64, &'static str) {
        // What is written as 1000 of the smaller has come to the larger.
        let fits = |factor: f64| value.abs() >= factor * 0.9995;
        let prefixes = self.prefixes();
        let largest = prefixes.iter().rev().find(|(factor, _)| fits(*factor));
        *largest.unwrap_or(&prefixes[0])
    }

    /// From the smallest.
    fn prefixes(self) -> [(f64, &'static str); 4] {
        const KIB: f64 = 1024.0;
        match self {
            Self::Count => [(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")],
            Self::Time => [(1.0, " ns"), (1e3, " µs"), (1e6, " ms"), (1e9, " s")],
            Self::Bytes => [(1.0, " B"), (KIB, " KiB"), (KIB * KIB, " MiB"), (KIB * KIB * KIB, " GiB")],
        }
    }
}

/// Writes a whole number with commas between its thousands.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut written = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position) % 3 == 0 {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::{Unit, thousands};

    #[test]
    fn measured_numbers_have_three_digits() {
        assert_eq!(Unit::Count.show(52_130.0), "52.1k");
        assert_eq!(Unit::Count.show(999.99), "1.00k");
        assert_eq!(Unit::Count.show(0.0), "0");
        assert_eq!(Unit::Count.show(0.04), "0.04");
        assert_eq!(Unit::Time.show(4_321.0), "4.32 µs");
        assert_eq!(Unit::Time.show(99.96), "100 ns");
        assert_eq!(Unit::Time.show(2.5e9), "2.50 s");
        assert_eq!(Unit::Bytes.show(12_288.0), "12.0 KiB");
        assert_eq!(Unit::Bytes.show(-300.0), "-300 B");
    }

    #[test]
    fn round_numbers_have_no_more_digits_than_needed() {
        assert_eq!(Unit::Count.tick(10_000.0), "10k");
        assert_eq!(Unit::Time.tick(100_000.0), "100 µs");
        assert_eq!(Unit::Time.tick(0.0), "0");
        assert_eq!(Unit::Bytes.tick(2_560.0), "2.5 KiB");
    }

    #[test]
    fn thousands_are_parted() {
        assert_eq!(thousands(1), "1");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(10_000), "10,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
