//! Times, counted by how long they are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use super::fine::FineTaken;
use super::own::{self, Adders};

/// The upper bounds of the buckets, in nanoseconds: 1, 2, 5 and so on, from 1 µs to 10 s. A native call is below the
/// first, a call that nearly ran out of time in the last.
pub(crate) const BOUNDS: [u64; 22] = bounds();

const fn bounds() -> [u64; 22] {
    let (mut bounds, mut at, mut decade) = ([0; 22], 0, 1_000);
    while at < 22 {
        bounds[at] = decade * [1, 2, 5][at % 3];
        if at % 3 == 2 {
            decade *= 10;
        }
        at += 1;
    }
    bounds
}

/// For each number of bits, the first bucket in which a number of so many may be.
const FIRST: [u8; 65] = first();

const fn first() -> [u8; 65] {
    let (mut first, mut bits) = ([0; 65], 1);
    while bits <= 64 {
        // The least number of so many bits.
        let least = 1u64 << (bits - 1);
        let mut at = 0;
        while at < BOUNDS.len() && BOUNDS[at] < least {
            at += 1;
        }
        first[bits] = at as u8;
        bits += 1;
    }
    first
}

/// Times of late: a word for each bound, and one for what is longer. In each how many there were, in the lower
/// [`COUNT_BITS`], and above them their sum in nanoseconds: one word, so that a time is one addition.
#[derive(Debug, Default)]
pub(super) struct Words([AtomicU64; BOUNDS.len() + 1]);

/// How many times were how long. Adding one is one addition, and takes no lock but once in millions.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    recent: Words,
    /// What was taken out of words before they overflowed, and times too long for them.
    rest: Mutex<Rest>,
    /// Times of calls that were traced; most have none.
    exemplars: OnceLock<Mutex<BTreeMap<usize, Exemplar>>>,
}

const COUNT_BITS: u32 = 24;

/// From here on a time is not added to a word: about a second, of which it holds 500.
const LONG: u64 = 1 << 30;

/// The upper half of either part of such a word is in use.
const FULL: u64 = 1 << 63 | 1 << (COUNT_BITS - 1);

#[derive(Debug, Default)]
struct Rest {
    buckets: [u64; BOUNDS.len() + 1],
    nanos: u64,
}

impl Rest {
    fn add(&mut self, at: usize, word: u64) {
        self.buckets[at] += word & ((1 << COUNT_BITS) - 1);
        self.nanos += word >> COUNT_BITS;
    }
}

/// A time whose trace is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) trace: [u8; 16],
    pub(crate) nanos: u64,
    pub(crate) at: SystemTime,
}

/// [`Durations`] at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    pub(crate) nanos: u64,
    pub(crate) exemplars: BTreeMap<usize, Exemplar>,
    /// The same times in narrow buckets, where they are counted so, too.
    pub(crate) fine: Option<FineTaken>,
}

impl Taken {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Durations {
    pub(crate) fn add(&self, nanos: u64) {
        self.add_to(&self.recent, Adders::Anybody, nanos);
    }

    /// Adds a time to words that belong to these durations, and may belong to this thread alone.
    #[inline]
    pub(super) fn add_to(&self, words: &Words, adders: Adders, nanos: u64) {
        let at = bucket(nanos);
        if nanos >= LONG {
            return self.add_long(at, nanos);
        }
        if own::add(&words.0[at], nanos << COUNT_BITS | 1, adders) & FULL != 0 {
            self.make_room(at, &words.0[at]);
        }
    }

    /// The words that all threads may add to.
    #[inline]
    pub(super) fn common(&self) -> &Words {
        &self.recent
    }

    #[cold]
    #[inline(never)]
    fn add_long(&self, at: usize, nanos: u64) {
        let mut rest = self.rest();
        rest.buckets[at] += 1;
        rest.nanos = rest.nanos.saturating_add(nanos);
    }

    /// Half of a word is left when this is begun: more than is added until it is done.
    #[cold]
    #[inline(never)]
    fn make_room(&self, at: usize, word: &AtomicU64) {
        let mut rest = self.rest();
        let taken = word.swap(0, Ordering::Relaxed);
        rest.add(at, taken);
    }

    /// Whoever reads holds this, so that what moves from one to the other is seen once.
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the trace of a time that was added.
    pub(crate) fn note(&self, exemplar: Exemplar) {
        let exemplars = self.exemplars.get_or_init(Mutex::default);
        exemplars.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket(exemplar.nanos), exemplar);
    }

    pub(crate) fn read(&self) -> Taken {
        self.read_with(std::iter::empty())
    }

    /// All that was added, to words of threads as well.
    pub(super) fn read_with<'a>(&'a self, own: impl Iterator<Item = &'a Words>) -> Taken {
        let exemplars = self.exemplars.get().map(|known| known.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let rest = self.rest();
        let mut all = Rest { buckets: rest.buckets, nanos: rest.nanos };
        for words in own.chain([&self.recent]) {
            words.0.iter().enumerate().for_each(|(at, word)| all.add(at, word.load(Ordering::Relaxed)));
        }
        Taken { buckets: all.buckets, nanos: all.nanos, exemplars: exemplars.unwrap_or_default(), fine: None }
    }
}

#[inline]
fn bucket(nanos: u64) -> usize {
    let mut at = usize::from(FIRST[(u64::BITS - nanos.leading_zeros()) as usize]);
    // At most twice: numbers of one length lie in three buckets at most.
    while at < BOUNDS.len() && BOUNDS[at] < nanos {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_go_from_a_microsecond_to_ten_seconds() {
        assert_eq!(BOUNDS[..4], [1_000, 2_000, 5_000, 10_000]);
        assert_eq!(BOUNDS.last(), Some(&10_000_000_000));
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn a_time_is_in_the_first_bucket_that_is_long_enough() {
        let slow = |nanos: u64| BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
        let near = BOUNDS.iter().flat_map(|bound| [bound - 1, *bound, bound + 1]);
        let powers = (0..64).map(|bit| 1 << bit);
        for nanos in near.chain(powers).chain([0, u64::MAX]) {
            assert_eq!(bucket(nanos), slow(nanos), "{nanos}");
        }
    }

    #[test]
    fn nothing_is_lost_where_a_word_is_full() {
        let durations = Durations::default();
        // More than a word counts, and more nanoseconds than it holds.
        let times = (1 << COUNT_BITS) + 17;
        (0..times).for_each(|_| durations.add(700));
        (0..2_000).for_each(|_| durations.add(LONG - 1));
        durations.add(LONG);
        let taken = durations.read();
        assert_eq!((taken.buckets[0], taken.count()), (times, times + 2_001));
        assert_eq!(taken.nanos, times * 700 + 2_000 * (LONG - 1) + LONG);
    }

    #[test]
    fn threads_that_add_at_once_lose_nothing_and_readers_never_see_less() {
        let durations = Durations::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..200_000).for_each(|number| durations.add((number % 4) * (LONG / 4) + 1)));
            }
            let mut before = 0;
            while before < 600_000 {
                let taken = durations.read();
                assert!(taken.count() >= before);
                before = taken.count();
            }
        });
        assert_eq!(durations.read().nanos, 3 * 50_000 * (4 + 6 * (LONG / 4)));
    }

    #[test]
    fn times_are_counted_and_summed() {
        let durations = Durations::default();
        [40, 1_000, 1_001, 11_000_000_000].into_iter().for_each(|nanos| durations.add(nanos));
        let taken = durations.read();
        assert_eq!((taken.buckets[0], taken.buckets[1], taken.buckets[22]), (2, 1, 1));
        assert_eq!((taken.count(), taken.nanos), (4, 11_000_002_041));
    }
}
