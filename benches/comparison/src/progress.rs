//! How far a run is, on standard error, so that standard output has the report alone.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal, a line for each group elsewhere.
pub struct Progress {
    /// Drawn only between samples: a bar that moves by itself would take time from the load.
    bar: Option<ProgressBar>,
    started: Instant,
    /// By the estimate.
    whole: Duration,
    done: Duration,
}

impl Progress {
    pub fn start(whole: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(whole.as_millis() as u64);
            // A template that does not parse leaves the default one, which is legible as well.
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}\n[{bar:40}] {percent}%, {prefix}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, started: Instant::now(), whole, done: Duration::ZERO }
    }

    /// A group of cells begins.
    pub fn group(&self, name: &str) {
        if self.bar.is_none() {
            eprintln!("{name}; {}", self.left());
        }
    }

    /// A sample begins.
    pub fn sample(&self, name: String) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(self.left());
            bar.set_message(name);
        }
    }

    /// Something ended that was estimated to take this long.
    pub fn advance(&mut self, by: Duration) {
        self.done += by;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done.as_millis() as u64);
        }
    }

    /// Something that the reader should know now.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The estimate of what is left, corrected by how wrong it was so far once there is enough to tell.
    fn left(&self) -> String {
        let left = self.whole.saturating_sub(self.done);
        let known = self.done > self.whole / 50;
        let factor = if known { self.started.elapsed().as_secs_f64() / self.done.as_secs_f64() } else { 1.0 };
        format!("about {} left", rough(left.mul_f64(factor)))
    }
}

/// Like `40 s` or `12 min`.
pub fn rough(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 100.0 => format!("{seconds:.0} s"),
        seconds => format!("{:.0} min", seconds / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rough;

    #[test]
    fn a_time_is_told_roughly() {
        assert_eq!(rough(Duration::from_millis(41_400)), "41 s");
        assert_eq!(rough(Duration::from_secs(1000)), "17 min");
    }
}
