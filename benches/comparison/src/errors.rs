//! What went wrong in a run, counted by what it was.

use std::collections::BTreeMap;
use std::fmt;

/// The errors of a run. None is dropped: a run with any is marked in the report.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    by_text: BTreeMap<String, u64>,
}

impl Errors {
    pub fn add(&mut self, error: impl fmt::Display) {
        *self.by_text.entry(error.to_string()).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (text, count) in &other.by_text {
            *self.by_text.entry(text.clone()).or_default() += count;
        }
    }

    pub fn into_counts(self) -> BTreeMap<String, u64> {
        self.by_text
    }

    pub fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }
}

/// Prints like `3 x connection reset, 1 x timed out`.
impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (text, count)) in self.by_text.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{count} x {text}")?;
        }
        Ok(())
    }
}
