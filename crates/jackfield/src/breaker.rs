//! A circuit breaker: a plugin whose calls fail one after the other gets none for a while.
//!
//! *Closed*, it lets every call through and counts failures in a row. *Open*, it lets none through until
//! its pause is over. *Half open*, one call is under way as a probe: a success closes it, a failure opens
//! it again. What counts as a failure is in [`verdict`]; a plugin's own error never does.
//!
//! All of it is one word, so that a call of a plugin that is well costs two relaxed loads and nothing
//! waits for anything. A call that began before the breaker opened and ends while it is half open is taken
//! for the probe: it says as much about the plugin.
//!
//! The clock is passed in, and asked only when it matters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jackfield_protocol::Status;

use crate::lifecycle::BreakerSpec;

/// One plugin's breaker. It is kept from one session to the next.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// A [`Word`].
    word: AtomicU64,
    /// Failures in a row that open it; `None` for never.
    failures_max: Option<u32>,
    pause: Duration,
    /// Where its times begin.
    epoch: Instant,
}

/// What a breaker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// Every call goes through.
    Closed,
    /// No call does.
    Open,
    /// One does, to see.
    HalfOpen,
}

impl BreakerState {
    /// `closed`, `open`, `half-open`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the word of a breaker says. As a number, the kind is in its last two bits; 0 is closed, without
/// failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Closed {
        failures: u32,
    },
    /// Microseconds after the epoch when a probe may be made.
    Open {
        until: u64,
    },
    /// When the probe counts as lost: whoever made it did not say how it ended.
    HalfOpen {
        until: u64,
    },
}

/// Closed, without failures.
const WELL: u64 = 0;

impl Word {
    fn of(number: u64) -> Self {
        match number & 3 {
            0 => Word::Closed { failures: u32::try_from(number >> 2).unwrap_or(u32::MAX) },
            1 => Word::Open { until: number >> 2 },
            _ => Word::HalfOpen { until: number >> 2 },
        }
    }

    fn number(self) -> u64 {
        match self {
            Word::Closed { failures } => u64::from(failures) << 2,
            Word::Open { until } => until << 2 | 1,
            Word::HalfOpen { until } => until << 2 | 2,
        }
    }

    fn state(self) -> BreakerState {
        match self {
            Word::Closed { .. } => BreakerState::Closed,
            Word::Open { .. } => BreakerState::Open,
            Word::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

/// What the end of a call says about its plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Well,
    Failed,
    Nothing,
}

fn verdict(status: Status) -> Verdict {
    match status {
        // It works, and said yes or no.
        Status::Ok | Status::Error => Verdict::Well,
        Status::Timeout | Status::Crashed | Status::Panicked | Status::Limit | Status::Protocol => Verdict::Failed,
        // The caller's doing, or ours. A plugin that is down is restarted, and needs no breaker.
        Status::Cancelled | Status::Unavailable | Status::Refused => Verdict::Nothing,
    }
}

impl Breaker {
    /// A breaker that is closed; without `spec`, one that stays so. `now` is any time before it is used.
    pub(crate) fn new(spec: Option<&BreakerSpec>, now: Instant) -> Self {
        Self {
            word: AtomicU64::new(WELL),
            failures_max: spec.map(|spec| spec.failures_max.max(1)),
            pause: spec.map_or(Duration::ZERO, |spec| spec.pause),
            epoch: now,
        }
    }

    /// Whether a call may be made. If not, when it is worth to ask again. The call that is let through as
    /// a probe is [recorded](Self::record) like every other.
    #[inline]
    pub(crate) fn admits(&self, now: impl FnOnce() -> Instant) -> Result<(), Duration> {
        let number = self.word.load(Ordering::Relaxed);
        match number & 3 {
            0 => Ok(()),
            _ => self.probe(number, now()),
        }
    }

    /// Takes note of how a call ended; gives the new state, if that changed it.
    #[inline]
    pub(crate) fn record(&self, status: Status, now: impl FnOnce() -> Instant) -> Option<BreakerState> {
        let verdict = verdict(status);
        let number = self.word.load(Ordering::Relaxed);
        match verdict {
            Verdict::Well if number == WELL => None,
            _ => self.judge(verdict, number, now()),
        }
    }

    /// What it is doing.
    pub(crate) fn state(&self) -> BreakerState {
        Word::of(self.word.load(Ordering::Relaxed)).state()
    }

    /// Closes it: the plugin has another session.
    pub(crate) fn reset(&self) {
        self.word.store(WELL, Ordering::Relaxed);
    }

    #[cold]
    fn probe(&self, mut number: u64, now: Instant) -> Result<(), Duration> {
        let micros = self.micros(now);
        loop {
            let until = match Word::of(number) {
                Word::Closed { .. } => return Ok(()),
                Word::Open { until } | Word::HalfOpen { until } => until,
            };
            if micros < until {
                return Err(Duration::from_micros(until - micros));
            }
            let probing = Word::HalfOpen { until: self.after_pause(micros) };
            match self.change(number, probing) {
                Ok(()) => return Ok(()),
                Err(other) => number = other,
            }
        }
    }

    #[cold]
    fn judge(&self, verdict: Verdict, mut number: u64, now: Instant) -> Option<BreakerState> {
        let failures_max = self.failures_max?;
        let micros = self.micros(now);
        loop {
            let word = Word::of(number);
            let next = match (word, verdict) {
                (Word::Closed { .. } | Word::HalfOpen { .. }, Verdict::Well) => Word::Closed { failures: 0 },
                (Word::Closed { failures }, Verdict::Failed) => match failures.saturating_add(1) {
                    failures if failures >= failures_max => Word::Open { until: self.after_pause(micros) },
                    failures => Word::Closed { failures },
                },
                (Word::HalfOpen { .. }, Verdict::Failed) => Word::Open { until: self.after_pause(micros) },
                // The probe said nothing: the next call is one.
                (Word::HalfOpen { .. }, Verdict::Nothing) => Word::Open { until: micros },
                // Of a call that began earlier. Neither does it end the pause, nor is it longer for it.
                (Word::Open { .. }, _) | (Word::Closed { .. }, Verdict::Nothing) => return None,
            };
            match self.change(number, next) {
                Ok(()) => return (word.state() != next.state()).then(|| next.state()),
                Err(other) => number = other,
            }
        }
    }

    // Relaxed: the word is all there is, and nothing else is read because of it.
    fn change(&self, from: u64, to: Word) -> Result<(), u64> {
        self.word.compare_exchange(from, to.number(), Ordering::Relaxed, Ordering::Relaxed).map(drop)
    }

    fn micros(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.epoch))
    }

    fn after_pause(&self, micros_now: u64) -> u64 {
        micros_now.saturating_add(micros(self.pause)).min(MICROS_MAX)
    }
}

/// What two bits fewer than a word hold: a hundred thousand years.
const MICROS_MAX: u64 = u64::MAX >> 2;

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(MICROS_MAX).min(MICROS_MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    fn breaker(failures_max: u32) -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(Some(&BreakerSpec { failures_max, pause: PAUSE }), now), now)
    }

    /// The clock, where it must not be asked.
    fn no_clock() -> Instant {
        panic!("the clock was asked")
    }

    fn opened() -> (Breaker, Instant) {
        let (breaker, now) = breaker(1);
        assert_eq!(breaker.record(Status::Crashed, || now), Some(BreakerState::Open));
        (breaker, now)
    }

    #[test]
    fn a_plugin_that_is_well_never_asks_the_clock() {
        let (breaker, _) = breaker(1);
        for _ in 0..10 {
            assert_eq!(breaker.admits(no_clock), Ok(()));
            assert_eq!(breaker.record(Status::Ok, no_clock), None);
            assert_eq!(breaker.record(Status::Error, no_clock), None);
        }
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let (breaker, now) = breaker(3);
        for status in [Status::Crashed, Status::Timeout, Status::Ok, Status::Limit, Status::Protocol] {
            assert_eq!(breaker.record(status, || now), None);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert_eq!(breaker.record(Status::Panicked, || now), Some(BreakerState::Open));
        assert_eq!(breaker.admits(|| now + Duration::from_secs(1)), Err(Duration::from_secs(4)));
    }

    #[test]
    fn own_errors_never_open_it_and_show_that_it_is_well() {
        let (breaker, now) = breaker(2);
        for status in Status::ALL {
            let counts =
                [Status::Timeout, Status::Crashed, Status::Panicked, Status::Limit, Status::Protocol].contains(&status);
            for _ in 0..5 {
                breaker.record(status, || now);
            }
            assert_eq!(breaker.state() == BreakerState::Open, counts, "{status}");
            breaker.reset();
        }
        for _ in 0..5 {
            breaker.record(Status::Crashed, || now);
            breaker.record(Status::Error, || now);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        // These say nothing, and so do not begin the count anew either.
        breaker.record(Status::Crashed, || now);
        for status in [Status::Cancelled, Status::Unavailable, Status::Refused] {
            breaker.record(status, || now);
        }
        assert_eq!(breaker.record(Status::Crashed, || now), Some(BreakerState::Open));
    }

    #[test]
    fn one_probe_decides_after_the_pause() {
        let (breaker, now) = opened();
        let later = now + PAUSE;
        assert_eq!(breaker.admits(|| later), Ok(()));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert_eq!(breaker.admits(|| later), Err(PAUSE), "one alone");
        assert_eq!(breaker.record(Status::Timeout, || later), Some(BreakerState::Open));
        assert_eq!(breaker.admits(|| later), Err(PAUSE));
        assert_eq!(breaker.admits(|| later + PAUSE), Ok(()));
        assert_eq!(breaker.record(Status::Error, || later + PAUSE), Some(BreakerState::Closed));
        assert_eq!(breaker.admits(no_clock), Ok(()));
    }

    #[test]
    fn a_probe_that_says_nothing_gives_its_place_to_the_next_call() {
        let (breaker, now) = opened();
        let later = now + PAUSE;
        assert_eq!(breaker.admits(|| later), Ok(()));
        assert_eq!(breaker.record(Status::Cancelled, || later), Some(BreakerState::Open));
        assert_eq!(breaker.admits(|| later), Ok(()));
        // Nobody said how this one ended.
        assert_eq!(breaker.admits(|| later + PAUSE), Ok(()));
    }

    #[test]
    fn calls_that_end_while_it_is_open_change_nothing() {
        let (breaker, now) = opened();
        for status in Status::ALL {
            assert_eq!(breaker.record(status, || now + Duration::from_secs(1)), None);
        }
        assert_eq!(breaker.admits(|| now + Duration::from_secs(1)), Err(Duration::from_secs(4)));
    }

    #[test]
    fn without_a_spec_it_never_opens() {
        let now = Instant::now();
        let breaker = Breaker::new(None, now);
        for _ in 0..100 {
            breaker.record(Status::Crashed, || now);
        }
        assert_eq!((breaker.state(), breaker.admits(no_clock)), (BreakerState::Closed, Ok(())));
    }

    #[test]
    fn a_word_is_the_number_it_was() {
        for word in [
            Word::Closed { failures: 0 },
            Word::Closed { failures: u32::MAX },
            Word::Open { until: 0 },
            Word::Open { until: MICROS_MAX },
            Word::HalfOpen { until: 7 },
            Word::HalfOpen { until: MICROS_MAX },
        ] {
            assert_eq!(Word::of(word.number()), word);
        }
        let now = Instant::now();
        let spec = BreakerSpec { failures_max: 0, pause: Duration::MAX };
        let breaker = Breaker::new(Some(&spec), now);
        assert_eq!(breaker.record(Status::Crashed, || now), Some(BreakerState::Open), "0 counts as 1");
        assert!(breaker.admits(|| now + Duration::from_secs(1 << 30)).is_err());
    }

    /// Threads at once, each with the same clock: one alone is let through as a probe, and one alone closes it.
    #[test]
    fn of_many_threads_one_makes_the_probe() {
        let (breaker, begin) = breaker(1);
        for round in 0..2_000_u32 {
            let opened = begin + 2 * round * PAUSE;
            let due = opened + PAUSE;
            assert_eq!(breaker.record(Status::Crashed, || opened), Some(BreakerState::Open));
            let (admitted, closed) = (AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        if breaker.admits(|| due).is_ok() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(admitted.into_inner(), 1, "round {round}");
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        if breaker.record(Status::Ok, || due) == Some(BreakerState::Closed) {
                            closed.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(closed.into_inner(), 1, "round {round}");
        }
    }

    /// Failures from many threads, none lost: the breaker opens at the last one and not before.
    #[test]
    fn of_many_threads_no_failure_is_lost() {
        for _ in 0..200 {
            let (breaker, now) = breaker(400);
            let fail = || (0..100).for_each(|_| _ = breaker.record(Status::Crashed, || now));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(fail);
                }
            });
            assert_eq!(breaker.state(), BreakerState::Open);
        }
        let (breaker, now) = breaker(401);
        let fail = || (0..100).for_each(|_| _ = breaker.record(Status::Crashed, || now));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(fail);
            }
        });
        assert_eq!(breaker.record(Status::Crashed, || now), Some(BreakerState::Open));
    }
}
