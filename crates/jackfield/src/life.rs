//! A plugin's life: the states it can be in, and the ways from one to the next.
//!
//! One value, one function for each way. A way that does not begin in the present state leaves it as it is:
//! what a plugin does and what its host wants of it cross on the way. Generic over what a session is, so that
//! the tests need none.
//!
//! Not here: when which way is taken (`supervise.rs`), and what is done on it (`reload.rs`).

use std::fmt;
use std::time::SystemTime;

/// Where a plugin is in its life.
///
/// ```text
/// discovered → starting → ready → draining → stopped
///                  ↑        ↓
///                  └──── failed → quarantined
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It was found and not started yet.
    Discovered,
    /// It is being started.
    Starting,
    /// It takes calls.
    Ready,
    /// It takes no new calls and finishes those it has. Where its state is being handed to a new build,
    /// new calls wait for that.
    Draining,
    /// It was stopped.
    Stopped {
        /// Why.
        why: Rest,
    },
    /// It died, broke the protocol, or did not start again.
    Failed {
        /// How.
        why: String,
        /// When it is started again; none if it stays down until somebody starts it.
        restart: Option<SystemTime>,
    },
    /// It was set aside: it is not started again before its file is another one or a person says so.
    Quarantined {
        /// Why.
        why: String,
    },
}

impl State {
    /// `discovered`, `starting`, `ready`, `draining`, `stopped`, `failed`, `quarantined`.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Discovered => "discovered",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Stopped { .. } => "stopped",
            State::Failed { .. } => "failed",
            State::Quarantined { .. } => "quarantined",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Failed { why, .. } => write!(f, "failed: {why}"),
            State::Quarantined { why } => write!(f, "quarantined: {why}"),
            State::Stopped { why: Rest::Disabled } => f.write_str("stopped: it is disabled"),
            State::Stopped { why: Rest::Idle } => f.write_str("stopped: it was idle"),
            State::Stopped { why: Rest::Ended } => f.write_str("stopped: it ended by itself"),
            other => f.write_str(other.as_str()),
        }
    }
}

/// Why a plugin is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rest {
    /// Its host stopped, or forgot it.
    Asked,
    /// Somebody disabled it.
    Disabled,
    /// It had no calls for `idle_stop`. The next one starts it.
    Idle,
    /// It ended by itself, well, and its `restart` leaves it there.
    Ended,
}

/// [`State`], with the session that a state has.
#[derive(Debug)]
pub(crate) enum Life<G> {
    Discovered,
    Starting,
    Ready { generation: G },
    /// Its state is being handed on: calls under way end, new ones wait.
    Moving { generation: G },
    Draining { generation: G, then: Rest },
    Stopped { why: Rest },
    Failed { why: String, restart: Option<SystemTime> },
    Quarantined { why: String },
}

impl<G> Life<G> {
    /// As others see it.
    pub(crate) fn state(&self) -> State {
        match self {
            Life::Discovered => State::Discovered,
            Life::Starting => State::Starting,
            Life::Ready { .. } => State::Ready,
            Life::Moving { .. } | Life::Draining { .. } => State::Draining,
            Life::Stopped { why } => State::Stopped { why: *why },
            Life::Failed { why, restart } => State::Failed { why: why.clone(), restart: *restart },
            Life::Quarantined { why } => State::Quarantined { why: why.clone() },
        }
    }

    /// Begins to start it, unless it runs, or may not.
    pub(crate) fn start(self) -> Self {
        match self {
            Life::Discovered | Life::Stopped { .. } | Life::Failed { .. } => Life::Starting,
            other => other,
        }
    }

    /// It runs: the first time, again, or in place of another generation.
    pub(crate) fn ready(self, generation: G) -> Self {
        match self {
            Life::Starting | Life::Ready { .. } | Life::Moving { .. } => Life::Ready { generation },
            other => other,
        }
    }

    /// Its calls wait while its state is handed on.
    pub(crate) fn hand_over(self) -> Self {
        match self {
            Life::Ready { generation } => Life::Moving { generation },
            other => other,
        }
    }

    /// It did not start, or is over. It is started again at `restart`, if at all; that may be known later than that
    /// it failed.
    pub(crate) fn fail(self, why: String, restart: Option<SystemTime>) -> Self {
        match self {
            Life::Starting | Life::Ready { .. } | Life::Moving { .. } | Life::Failed { .. } => {
                Life::Failed { why, restart }
            }
            other => other,
        }
    }

    /// It ended by itself, and on a second look nothing is wrong with that.
    pub(crate) fn end(self) -> Self {
        match self {
            Life::Failed { .. } => Life::Stopped { why: Rest::Ended },
            other => other,
        }
    }

    /// It is set aside. Not while it runs, when it is first drained or dead.
    pub(crate) fn quarantine(self, why: String) -> Self {
        match self {
            Life::Discovered | Life::Starting | Life::Failed { .. } | Life::Stopped { .. } => Life::Quarantined { why },
            other => other,
        }
    }

    /// Somebody says that it may be started again.
    pub(crate) fn lift(self) -> Self {
        match self {
            Life::Quarantined { .. } => Life::Discovered,
            other => other,
        }
    }

    /// It takes no calls any more, and then rests.
    pub(crate) fn drain(self, then: Rest) -> Self {
        match self {
            Life::Ready { generation } | Life::Moving { generation } => Life::Draining { generation, then },
            Life::Discovered | Life::Starting | Life::Failed { .. } => Life::Stopped { why: then },
            // One that rests of itself, and now by order.
            Life::Stopped { .. } => Life::Stopped { why: then },
            other => other,
        }
    }

    /// Its calls are over, and so is its session.
    pub(crate) fn stopped(self) -> Self {
        match self {
            Life::Draining { then, .. } => Life::Stopped { why: then },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Every state, with sessions called `old`.
    fn all() -> Vec<Life<&'static str>> {
        vec![
            Life::Discovered,
            Life::Starting,
            Life::Ready { generation: "old" },
            Life::Moving { generation: "old" },
            Life::Draining { generation: "old", then: Rest::Disabled },
            Life::Stopped { why: Rest::Idle },
            Life::Failed { why: "signal 9".to_owned(), restart: None },
            Life::Quarantined { why: "5 crashes".to_owned() },
        ]
    }

    /// Where a way leads, from every state that it leaves.
    fn check(way: impl Fn(Life<&'static str>) -> Life<&'static str>, expected: Expect) {
        let mut text = String::new();
        for (before, after) in all().into_iter().zip(all().into_iter().map(way)) {
            let (before, after) = (format!("{before:?}"), format!("{after:?}"));
            if before != after {
                text += &format!("{before} -> {after}\n");
            }
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn only_what_does_not_run_and_may_is_started() {
        check(
            Life::start,
            expect![[r#"
                Discovered -> Starting
                Stopped { why: Idle } -> Starting
                Failed { why: "signal 9", restart: None } -> Starting
            "#]],
        );
    }

    #[test]
    fn a_session_that_is_ready_takes_the_place_of_another() {
        check(
            |life| life.ready("new"),
            expect![[r#"
                Starting -> Ready { generation: "new" }
                Ready { generation: "old" } -> Ready { generation: "new" }
                Moving { generation: "old" } -> Ready { generation: "new" }
            "#]],
        );
    }

    #[test]
    fn what_starts_or_runs_can_fail() {
        check(
            |life| life.fail("it hung".to_owned(), None),
            expect![[r#"
                Starting -> Failed { why: "it hung", restart: None }
                Ready { generation: "old" } -> Failed { why: "it hung", restart: None }
                Moving { generation: "old" } -> Failed { why: "it hung", restart: None }
                Failed { why: "signal 9", restart: None } -> Failed { why: "it hung", restart: None }
            "#]],
        );
    }

    #[test]
    fn state_is_handed_on_by_what_is_ready() {
        check(
            Life::hand_over,
            expect![[r#"
                Ready { generation: "old" } -> Moving { generation: "old" }
            "#]],
        );
    }

    #[test]
    fn what_does_not_run_is_set_aside_and_what_is_set_aside_is_let_back() {
        check(
            |life| life.quarantine("too often".to_owned()),
            expect![[r#"
                Discovered -> Quarantined { why: "too often" }
                Starting -> Quarantined { why: "too often" }
                Stopped { why: Idle } -> Quarantined { why: "too often" }
                Failed { why: "signal 9", restart: None } -> Quarantined { why: "too often" }
            "#]],
        );
        check(
            Life::lift,
            expect![[r#"
                Quarantined { why: "5 crashes" } -> Discovered
            "#]],
        );
    }

    #[test]
    fn what_runs_is_drained_before_it_rests() {
        check(
            |life| life.drain(Rest::Asked),
            expect![[r#"
                Discovered -> Stopped { why: Asked }
                Starting -> Stopped { why: Asked }
                Ready { generation: "old" } -> Draining { generation: "old", then: Asked }
                Moving { generation: "old" } -> Draining { generation: "old", then: Asked }
                Stopped { why: Idle } -> Stopped { why: Asked }
                Failed { why: "signal 9", restart: None } -> Stopped { why: Asked }
            "#]],
        );
        check(
            Life::stopped,
            expect![[r#"
                Draining { generation: "old", then: Disabled } -> Stopped { why: Disabled }
            "#]],
        );
        check(
            Life::end,
            expect![[r#"
                Failed { why: "signal 9", restart: None } -> Stopped { why: Ended }
            "#]],
        );
    }

    #[test]
    fn a_state_says_what_it_is_and_why() {
        let failed = State::Failed { why: "signal 9 (SIGKILL)".to_owned(), restart: None };
        assert_eq!(failed.to_string(), "failed: signal 9 (SIGKILL)");
        assert_eq!(State::Stopped { why: Rest::Idle }.to_string(), "stopped: it was idle");
        assert_eq!(State::Stopped { why: Rest::Asked }.to_string(), "stopped");
        assert_eq!(State::Ready.to_string(), "ready");
    }
}
