//! Restarts: whether a plugin that ended is started again, and when.
//!
//! The wait doubles with each failure, up to a cap, and is varied by a fifth. More restarts than allowed
//! in a sliding window, and the plugin is to be quarantined. A plugin that ran for long enough is waited
//! for as at its first failure.
//!
//! Only decisions: the time and the dice are passed in. Not here: starting it (the host's to do),
//! remembering that it is set aside (`quarantine.rs`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::lifecycle::{Lifecycle, Restart};

/// How a plugin ended that the host did not stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with exit status 0, while no call was under way: it had nothing more to do.
    Clean,
    /// In any other way. A start that fails is one, too.
    Failed,
}

impl End {
    /// Of a program with this exit status, if it had one, and this many calls under way.
    pub(crate) fn of(status: Option<i32>, calls: usize) -> Self {
        match (status, calls) {
            (Some(0), 0) => End::Clean,
            _ => End::Failed,
        }
    }
}

/// What becomes of a plugin that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is started again after this time.
    RestartIn(Duration),
    /// It is set aside.
    Quarantine {
        /// What was seen: how often, in which time.
        why: String,
    },
    /// It stays down, and a person may start it.
    Stay,
}

/// What is known of a plugin's failures. It is kept from one session to the next.
#[derive(Clone, Debug)]
pub(crate) struct Restarts {
    policy: Restart,
    backoff: Duration,
    backoff_max: Duration,
    restarts_max: usize,
    window: Duration,
    healthy_after: Duration,
    /// Failures since it was last well.
    failures: u32,
    /// When it was restarted, or will be: as many of the last times as count.
    recent: VecDeque<Instant>,
    total: u32,
}

impl Restarts {
    pub(crate) fn new(lifecycle: &Lifecycle) -> Self {
        Self {
            policy: lifecycle.restart,
            backoff: lifecycle.backoff,
            backoff_max: lifecycle.backoff_max,
            restarts_max: usize::try_from(lifecycle.restarts_max).unwrap_or(usize::MAX),
            window: lifecycle.window,
            healthy_after: lifecycle.healthy_after,
            failures: 0,
            recent: VecDeque::new(),
            total: 0,
        }
    }

    /// Decides about a plugin that ended `now`, after it had been ready for `uptime`; zero for one that
    /// did not get so far. `dice`: a random number.
    pub(crate) fn ended(&mut self, end: End, now: Instant, uptime: Duration, dice: u64) -> Decision {
        match (self.policy, end) {
            (Restart::Never, _) | (Restart::OnFailure, End::Clean) => return Decision::Stay,
            (Restart::OnFailure, End::Failed) | (Restart::Always, _) => {}
        }
        if uptime >= self.healthy_after {
            self.failures = 0;
        }
        // A restart counts at the time when it happens, not when it was decided: then no two that are within
        // a window are seen as further apart than they were.
        while self.recent.front().is_some_and(|at| now.saturating_duration_since(*at) >= self.window) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.restarts_max {
            return Decision::Quarantine { why: self.too_many(now) };
        }
        let doubled = self.backoff.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let wait = varied(doubled.min(self.backoff_max), dice);
        self.failures = self.failures.saturating_add(1);
        self.total = self.total.saturating_add(1);
        self.recent.push_back(now.checked_add(wait).unwrap_or(now));
        Decision::RestartIn(wait)
    }

    /// Restarts since the host began, or since [`reset`](Self::reset).
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Forgets all failures: a person started it, or it has another file.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
        self.recent.clear();
        self.total = 0;
    }

    fn too_many(&self, now: Instant) -> String {
        let allowed = match self.restarts_max {
            0 => "it failed, and is not restarted at all".to_owned(),
            1 => format!("it failed again; 1 restart is allowed within {:?}", self.window),
            max => format!("it failed again; {max} restarts are allowed within {:?}", self.window),
        };
        let Some(first) = self.recent.front() else { return allowed };
        let within = now.saturating_duration_since(*first);
        let times = match self.recent.len() {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        format!("it was restarted {times} within {within:.1?}, and {allowed}")
    }
}

/// A wait, made up to a fifth longer or shorter.
fn varied(wait: Duration, dice: u64) -> Duration {
    let thousandths = 800 + u32::try_from(dice % 401).unwrap_or_default();
    // Divided first: the longest of durations cannot be multiplied.
    match wait.checked_mul(thousandths) {
        Some(multiplied) => multiplied / 1000,
        None => wait,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The middle of the dice: neither longer nor shorter.
    const EVEN: u64 = 200;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn restarts(change: impl FnOnce(&mut Lifecycle)) -> Restarts {
        let mut lifecycle = Lifecycle::default();
        change(&mut lifecycle);
        Restarts::new(&lifecycle)
    }

    #[test]
    fn the_wait_doubles_up_to_its_cap() {
        let mut restarts = restarts(|life| {
            life.restarts_max = 100;
            life.backoff_max = ms(1000);
        });
        let now = Instant::now();
        let waits: Vec<_> = (0..6).map(|_| restarts.ended(End::Failed, now, ms(0), EVEN)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000].map(|wait| Decision::RestartIn(ms(wait))));
        assert_eq!(restarts.total(), 6);
    }

    #[test]
    fn a_wait_is_varied_by_a_fifth() {
        let wait = |dice| restarts(|_| ()).ended(End::Failed, Instant::now(), ms(0), dice);
        assert_eq!([0, 400].map(wait), [80, 120].map(|wait| Decision::RestartIn(ms(wait))));
    }

    #[test]
    fn one_failure_more_than_allowed_is_quarantine() {
        let mut restarts = restarts(|life| life.restarts_max = 2);
        let start = Instant::now();
        let mut ended = |after| restarts.ended(End::Failed, start + ms(after), ms(10), EVEN);
        assert_eq!(ended(0), Decision::RestartIn(ms(100)));
        assert_eq!(ended(200), Decision::RestartIn(ms(200)));
        let Decision::Quarantine { why } = ended(2000) else { panic!("it is too much") };
        assert_eq!(why, "it was restarted 2 times within 1.9s, and it failed again; 2 restarts are allowed within 60s");
    }

    #[test]
    fn no_restarts_are_quarantine_at_once() {
        let decision = restarts(|life| life.restarts_max = 0).ended(End::Failed, Instant::now(), ms(0), EVEN);
        assert_eq!(decision, Decision::Quarantine { why: "it failed, and is not restarted at all".to_owned() });
    }

    #[test]
    fn the_window_slides() {
        let mut restarts = restarts(|life| {
            life.restarts_max = 1;
            life.window = ms(1000);
        });
        let start = Instant::now();
        let mut ended = |after| restarts.ended(End::Failed, start + ms(after), ms(10), EVEN);
        assert_eq!(ended(0), Decision::RestartIn(ms(100)));
        // The restart was at 100 ms.
        assert!(matches!(ended(1099), Decision::Quarantine { .. }));
        assert_eq!(ended(1100), Decision::RestartIn(ms(200)));
    }

    #[test]
    fn a_plugin_that_was_well_is_waited_for_as_at_first() {
        let mut restarts = restarts(|life| life.restarts_max = 100);
        let mut now = Instant::now();
        let mut ended = |uptime: Duration| {
            now += uptime;
            restarts.ended(End::Failed, now, uptime, EVEN)
        };
        assert_eq!(ended(ms(0)), Decision::RestartIn(ms(100)));
        assert_eq!(ended(ms(59_999)), Decision::RestartIn(ms(200)));
        assert_eq!(ended(ms(60_000)), Decision::RestartIn(ms(100)));
    }

    #[test]
    fn what_is_restarted_is_the_policy_s_to_say() {
        let decided = |policy, end| restarts(|life| life.restart = policy).ended(end, Instant::now(), ms(0), EVEN);
        let again = Decision::RestartIn(ms(100));
        for (policy, failed, clean) in [
            (Restart::Never, Decision::Stay, Decision::Stay),
            (Restart::OnFailure, again.clone(), Decision::Stay),
            (Restart::Always, again.clone(), again),
        ] {
            assert_eq!(decided(policy, End::Failed), failed, "{policy}");
            assert_eq!(decided(policy, End::Clean), clean, "{policy}");
        }
        assert_eq!(End::of(Some(0), 0), End::Clean);
        // Whoever ends while it is asked failed, whatever it says.
        assert_eq!(End::of(Some(0), 1), End::Failed);
        assert_eq!(End::of(Some(1), 0), End::Failed);
        assert_eq!(End::of(None, 0), End::Failed);
    }

    #[test]
    fn what_is_reset_begins_anew() {
        let mut restarts = restarts(|life| life.restarts_max = 1);
        let now = Instant::now();
        assert_eq!(restarts.ended(End::Failed, now, ms(0), EVEN), Decision::RestartIn(ms(100)));
        restarts.reset();
        assert_eq!(restarts.total(), 0);
        assert_eq!(restarts.ended(End::Failed, now, ms(0), EVEN), Decision::RestartIn(ms(100)));
    }

    #[test]
    fn the_longest_of_waits_is_a_wait() {
        let mut restarts = restarts(|life| {
            (life.backoff, life.backoff_max, life.restarts_max) = (Duration::MAX, Duration::MAX, u32::MAX);
        });
        for _ in 0..70 {
            let decision = restarts.ended(End::Failed, Instant::now(), ms(0), u64::MAX);
            assert_eq!(decision, Decision::RestartIn(Duration::MAX));
        }
    }

    proptest! {
        /// A plugin that dies again and again, after runs of any length, and is started when we said.
        #[test]
        fn no_wait_and_no_window_is_exceeded(
            runs in proptest::collection::vec((0_u64..200_000, any::<u64>()), 1..60),
            backoff in 1_u64..5_000,
            backoff_max in 1_u64..60_000,
            restarts_max in 0_u32..8,
            window in 1_u64..300_000,
            healthy_after in 0_u64..120_000,
        ) {
            let mut restarts = restarts(|life| {
                (life.backoff, life.backoff_max, life.restarts_max) = (ms(backoff), ms(backoff_max), restarts_max);
                (life.window, life.healthy_after) = (ms(window), ms(healthy_after));
            });
            let begin = Instant::now();
            let mut now = begin;
            let mut restarted = Vec::new();
            for (run, dice) in runs {
                now += ms(run);
                match restarts.ended(End::Failed, now, ms(run), dice) {
                    Decision::RestartIn(wait) => {
                        prop_assert!(wait <= ms(backoff_max).mul_f64(1.2), "{wait:?}");
                        prop_assert!(wait >= ms(backoff.min(backoff_max)).mul_f64(0.8), "{wait:?}");
                        if run >= healthy_after {
                            prop_assert!(wait <= ms(backoff).mul_f64(1.2), "{wait:?} after it was well");
                        }
                        now += wait;
                        restarted.push(now);
                    }
                    Decision::Quarantine { .. } => {
                        let within = restarted.iter().filter(|at| now - **at < ms(window)).count();
                        prop_assert!(within >= restarts_max as usize, "{within} restarts are allowed");
                        // A person lifts it.
                        restarts.reset();
                        restarted.clear();
                    }
                    Decision::Stay => prop_assert!(false, "it failed"),
                }
                for last in &restarted {
                    let within = restarted.iter().filter(|at| *at <= last && *last - **at < ms(window)).count();
                    prop_assert!(within <= restarts_max as usize, "{within} restarts in a window");
                }
            }
        }
    }
}
