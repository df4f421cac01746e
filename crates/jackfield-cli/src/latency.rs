//! How long calls took.

use std::time::Duration;

use serde_json::{Value, json};

/// The figures of a series of calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    calls: usize,
    whole: Duration,
    min: Duration,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Latency {
    /// The figures of calls that took `each`, and all together `whole`.
    pub(crate) fn of(mut each: Vec<Duration>, whole: Duration) -> Self {
        each.sort_unstable();
        // The nearest rank: a time that was measured, not one between two.
        let rank = |percent: usize| {
            let rank = (each.len() * percent).div_ceil(100);
            each.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { calls: each.len(), whole, min: rank(0), p50: rank(50), p99: rank(99), max: rank(100) }
    }

    fn calls_per_second(&self) -> f64 {
        self.calls as f64 / self.whole.as_secs_f64().max(1e-9)
    }

    pub(crate) fn text(&self) -> String {
        let Self { calls, whole, min, p50, p99, max } = self;
        let rate = self.calls_per_second();
        let [whole, min, p50, p99, max] = [whole, min, p50, p99, max].map(|time| shown(*time));
        format!("{calls} calls in {whole}, {rate:.0} calls/s\nmin {min}, p50 {p50}, p99 {p99}, max {max}\n")
    }

    pub(crate) fn json(&self) -> Value {
        let microseconds = |time: Duration| time.as_nanos() as f64 / 1000.0;
        json!({
            "calls": self.calls,
            "seconds": self.whole.as_secs_f64(),
            "calls_per_second": self.calls_per_second(),
            "min_us": microseconds(self.min),
            "p50_us": microseconds(self.p50),
            "p99_us": microseconds(self.p99),
            "max_us": microseconds(self.max),
        })
    }
}

/// Three digits and a unit.
fn shown(time: Duration) -> String {
    let nanoseconds = time.as_nanos() as f64;
    let units = [("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)];
    let (unit, factor) = units.into_iter().find(|(_, factor)| nanoseconds >= *factor).unwrap_or(("ns", 1.0));
    let value = nanoseconds / factor;
    let digits = if value >= 100.0 || factor == 1.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(nanoseconds: impl IntoIterator<Item = u64>, expected: Expect) {
        let each: Vec<_> = nanoseconds.into_iter().map(Duration::from_nanos).collect();
        let whole = each.iter().sum();
        let latency = Latency::of(each, whole);
        expected.assert_eq(&format!("{}{}\n", latency.text(), latency.json()));
    }

    #[test]
    fn the_figures_are_times_that_were_measured() {
        check(
            (1..=1000).rev().map(|n| n * 1000),
            expect![[r#"
            1000 calls in 500 ms, 1998 calls/s
            min 1.00 µs, p50 500 µs, p99 990 µs, max 1.00 ms
            {"calls":1000,"calls_per_second":1998.0019980019981,"max_us":1000.0,"min_us":1.0,"p50_us":500.0,"p99_us":990.0,"seconds":0.5005}
        "#]],
        );
        check(
            [1_234_567_890],
            expect![[r#"
            1 calls in 1.23 s, 1 calls/s
            min 1.23 s, p50 1.23 s, p99 1.23 s, max 1.23 s
            {"calls":1,"calls_per_second":0.810000007371,"max_us":1234567.89,"min_us":1234567.89,"p50_us":1234567.89,"p99_us":1234567.89,"seconds":1.2345678900000001}
        "#]],
        );
        check(
            [40, 60, 52],
            expect![[r#"
            3 calls in 152 ns, 19736842 calls/s
            min 40 ns, p50 52 ns, p99 60 ns, max 60 ns
            {"calls":3,"calls_per_second":19736842.105263155,"max_us":0.06,"min_us":0.04,"p50_us":0.052,"p99_us":0.06,"seconds":1.52e-7}
        "#]],
        );
    }
}
