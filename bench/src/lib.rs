//! What the benchmarks share: rows that take turns, and how their figures are shown.
//!
//! Every row is measured in rounds that take turns, so that a machine whose speed drifts slows all
//! of them alike; the figure is the median of the rounds' medians, and what counts is the ratio.

use std::time::{Duration, Instant};

/// Rounds of each row.
pub const ROUNDS: usize = 15;

/// One way to do the work.
pub struct Row {
    /// What is measured.
    pub name: String,
    /// Calls in one round.
    calls: usize,
    call: Box<dyn FnMut()>,
    medians: Vec<Duration>,
}

impl Row {
    /// A row that makes `calls` calls in each round.
    pub fn new(name: impl Into<String>, calls: usize, call: impl FnMut() + 'static) -> Self {
        Self { name: name.into(), calls, call: Box::new(call), medians: Vec::new() }
    }

    /// Median of the rounds' medians.
    pub fn median(&mut self) -> Duration {
        median(&mut self.medians)
    }

    /// A round. Quick calls are timed together: the clock costs as much as they do.
    fn round(&mut self) {
        let batch = if self.calls > 10_000 { 100 } else { 1 };
        let mut times = Vec::with_capacity(self.calls / batch);
        for _ in 0..self.calls / batch {
            let begun = Instant::now();
            for _ in 0..batch {
                (self.call)();
            }
            times.push(begun.elapsed() / batch as u32);
        }
        self.medians.push(median(&mut times));
    }
}

/// Measures all rows in turn. The first round warms up and is forgotten.
pub fn take_turns(rows: &mut [Row]) {
    for round in 0..=ROUNDS {
        for row in &mut *rows {
            row.round();
            if round == 0 {
                row.medians.clear();
            }
        }
    }
}

/// The median; the times are sorted.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// `364 ns`, `12.1 µs`, `3.2 ms`.
pub fn shown(time: Duration) -> String {
    match time.as_nanos() {
        nanos @ 0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{:.1} µs", time.as_secs_f64() * 1e6),
        _ => format!("{:.1} ms", time.as_secs_f64() * 1e3),
    }
}
