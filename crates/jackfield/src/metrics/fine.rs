//! Times in buckets so narrow that any quantile of them is exact to half a percent: what Prometheus calls a native
//! histogram.
//!
//! Its bounds are powers of the 64th root of 2 (schema 6), in seconds: each bucket is 1.1 % wide, and only those that
//! were ever used take room. <https://prometheus.io/docs/specs/native_histograms/>

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets by factors of 2^(2^-SCHEMA).
pub(crate) const SCHEMA: i32 = 6;

/// Buckets of an octave.
const PER_OCTAVE: usize = 1 << SCHEMA;

/// A nanosecond is in the octave of 2^-30 s to 2^-29 s, and what 64 bits hold of them in the one up to 2^35 s.
const FIRST_OCTAVE: i32 = -30;
const OCTAVES: usize = 65;

type Octave = [AtomicU64; PER_OCTAVE];

/// How many times were in which bucket.
#[derive(Debug)]
pub(crate) struct Fine {
    /// Times of 0 ns.
    zero: AtomicU64,
    /// From [`FIRST_OCTAVE`] on; made when a time is in it.
    octaves: [OnceLock<Box<Octave>>; OCTAVES],
}

impl Default for Fine {
    fn default() -> Self {
        Self { zero: AtomicU64::new(0), octaves: array::from_fn(|_| OnceLock::new()) }
    }
}

/// [`Fine`] at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FineTaken {
    pub(crate) zero: u64,
    /// Buckets that have any, by index, sorted: that of index `i` ends at 2^(i/64) seconds, and includes that.
    pub(crate) buckets: Vec<(i32, u64)>,
}

impl FineTaken {
    pub(crate) fn count(&self) -> u64 {
        self.zero + self.buckets.iter().map(|(_, count)| count).sum::<u64>()
    }
}

impl Fine {
    pub(crate) fn add(&self, nanos: u64) {
        if nanos == 0 {
            self.zero.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let at = index(nanos as f64 / 1e9) - first_index();
        // Every number of nanoseconds is in one of the octaves.
        let at = usize::try_from(at).unwrap_or(0).min(OCTAVES * PER_OCTAVE - 1);
        let octave = self.octaves[at / PER_OCTAVE].get_or_init(|| Box::new(array::from_fn(|_| AtomicU64::new(0))));
        octave[at % PER_OCTAVE].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> FineTaken {
        let mut buckets = Vec::new();
        for (octave, at) in self.octaves.iter().zip(0i32..) {
            for (bucket, within) in octave.get().into_iter().flat_map(|octave| octave.iter()).zip(0i32..) {
                let count = bucket.load(Ordering::Relaxed);
                if count > 0 {
                    buckets.push((first_index() + at * PER_OCTAVE as i32 + within, count));
                }
            }
        }
        FineTaken { zero: self.zero.load(Ordering::Relaxed), buckets }
    }
}

/// The bucket that begins [`FIRST_OCTAVE`]: an octave ends with a power of 2, and includes it.
const fn first_index() -> i32 {
    FIRST_OCTAVE * PER_OCTAVE as i32 + 1
}

/// The bucket of a number of seconds, above 0: the least `i` with `seconds <= 2^(i/64)`.
fn index(seconds: f64) -> i32 {
    let guess = (seconds.log2() * PER_OCTAVE as f64).ceil();
    // A logarithm may be off by its last bit, and so, beside a bound, the bucket by one.
    let guess = guess as i32;
    match guess {
        below if bound(below) < seconds => below + 1,
        above if bound(above - 1) >= seconds => above - 1,
        right => right,
    }
}

/// Where a bucket ends, in seconds.
pub(crate) fn bound(index: i32) -> f64 {
    (f64::from(index) / PER_OCTAVE as f64).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_whose_bounds_are_around_it() {
        let fine = Fine::default();
        let times = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]).chain([u64::MAX, 777]);
        let mut all = 0;
        for nanos in times {
            fine.add(nanos);
            all += 1;
            if nanos > 0 {
                let (seconds, at) = (nanos as f64 / 1e9, index(nanos as f64 / 1e9));
                assert!(bound(at - 1) < seconds && seconds <= bound(at), "{nanos}");
            }
        }
        let taken = fine.read();
        assert_eq!((taken.count(), taken.zero), (all, 1));
        assert!(taken.buckets.is_sorted_by(|one, next| one.0 < next.0));
    }

    #[test]
    fn powers_of_two_are_included_where_their_octave_ends() {
        for exponent in -29..30 {
            assert_eq!(index(f64::from(exponent).exp2()), exponent * PER_OCTAVE as i32);
        }
    }

    #[test]
    fn only_octaves_that_are_used_take_room() {
        let fine = Fine::default();
        (0..1_000).for_each(|number| fine.add(1_000_000 + number));
        assert_eq!(fine.octaves.iter().filter(|octave| octave.get().is_some()).count(), 1);
        assert_eq!(fine.read().buckets, [(index(0.001), 1_000)].map(|(at, _)| (at, fine.read().count())));
    }
}
