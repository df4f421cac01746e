//! Those who call while all this happens, and what they get.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::Connection;
use crate::kind_of;
use crate::random::Random;

/// How a call may end that is not answered: the kinds that `docs/api.md` has for calls, of which `refused` and
/// `unknown_function` would be our own mistake.
const KINDS: [&str; 7] = ["timeout", "cancelled", "crashed", "panicked", "limit", "unavailable", "protocol"];

/// Time within which a call has ended, whatever happens to its plugin: its own time is one second.
const ENDS: Duration = Duration::from_secs(10);

/// How calls ended.
#[derive(Debug, Default)]
pub struct Tally {
    pub right: u64,
    pub failed: BTreeMap<String, u64>,
    longest: Duration,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.right += other.right;
        self.longest = self.longest.max(other.longest);
        for (kind, count) in other.failed {
            *self.failed.entry(kind).or_default() += count;
        }
    }
}

/// Calls one plugin after the other until it is over.
pub fn call(socket: &Path, names: &[String], mut random: Random, is_over: &AtomicBool) -> Tally {
    let mut host = Connection::to(socket);
    let mut tally = Tally::default();
    while !is_over.load(Ordering::Acquire) {
        let name = random.one_of(names);
        let text = format!("{:x}", random.next());
        let began = Instant::now();
        let (status, answer) = match random.below(100) {
            // It takes longer than its time, unless something else ends it first. Of a library nothing would.
            0 if *name != names[names.len() - 1] => host.call(name, "hang", json!([200]), "50ms"),
            _ => host.call(name, "echo", json!([text]), "1s"),
        };
        let took = began.elapsed();
        assert!(took < ENDS, "a call of `{name}` took {took:?}: {answer}");
        tally.longest = tally.longest.max(took);
        match kind_of(&answer) {
            "" => {
                assert_eq!((status, answer["status"].as_str()), (200, Some("ok")), "`{name}`: {answer}");
                assert!(
                    answer["answer"] == text.as_str() || answer["answer"].is_null(),
                    "`{name}` was asked {text}: {answer}"
                );
                tally.right += 1;
            }
            kind => {
                assert!(KINDS.contains(&kind), "`{name}`: {status}: {answer}");
                *tally.failed.entry(kind.to_owned()).or_default() += 1;
            }
        }
    }
    tally
}
