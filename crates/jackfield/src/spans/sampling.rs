//! Which calls are recorded, decided before anything is made; and the numbers of those that are.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr;

use jackfield_protocol::TraceContext;

/// Which calls and steps are recorded. Default: what the caller records, and all that have no caller.
///
/// As text it is one of OpenTelemetry's samplers: `always_on`, `always_off`, `traceidratio:0.01`, and with
/// `parentbased_` before them, by which the caller's decision counts where there is a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Whether the caller's decision counts.
    by_parent: bool,
    /// Traces whose number, 63 bits of it, is below this.
    below: u64,
}

/// A text that is no sampler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no sampler; there are always_on, always_off, traceidratio, parentbased_always_on, \
     parentbased_always_off and parentbased_traceidratio, with a ratio from 0 to 1 behind a colon"
)]
pub struct SamplingError {
    text: String,
}

/// Of all numbers.
const ALL: u64 = 1 << 63;

impl Default for Sampling {
    fn default() -> Self {
        Self { by_parent: true, below: ALL }
    }
}

impl FromStr for Sampling {
    type Err = SamplingError;

    fn from_str(text: &str) -> Result<Self, SamplingError> {
        let error = || SamplingError { text: text.to_owned() };
        let (by_parent, root) = match text.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, text),
        };
        let ratio = match root.split_once(':') {
            Some(("traceidratio", ratio)) => ratio.parse::<f64>().map_err(|_| error())?,
            None if root == "traceidratio" || root == "always_on" => 1.0,
            None if root == "always_off" => 0.0,
            _ => return Err(error()),
        };
        if !(0.0..=1.0).contains(&ratio) {
            return Err(error());
        }
        // Exact at both ends; in between it need not be.
        Ok(Self { by_parent, below: (ratio * ALL as f64) as u64 })
    }
}

impl Sampling {
    /// The trace of what is recorded; of what is not, the context that is handed on.
    ///
    /// What has no caller and is not recorded has no context either: there is nobody whom it could tell anything.
    #[inline]
    pub(super) fn decide(&self, parent: Option<TraceContext>) -> Result<[u8; 16], Option<TraceContext>> {
        match parent {
            Some(parent) => {
                let sampled = if self.by_parent { parent.sampled } else { self.is_below(&parent.trace_id) };
                match sampled {
                    true => Ok(parent.trace_id),
                    false => Err(Some(TraceContext { sampled: false, ..parent })),
                }
            }
            None if self.below == 0 => Err(None),
            None => {
                let trace_id = trace_id();
                if self.is_below(&trace_id) { Ok(trace_id) } else { Err(None) }
            }
        }
    }

    /// As OpenTelemetry's SDKs do it, so that all of them decide alike on one trace.
    #[inline]
    fn is_below(&self, trace_id: &[u8; 16]) -> bool {
        let low = u64::from_be_bytes(*trace_id.last_chunk().expect("16 bytes are more than 8"));
        low >> 1 < self.below
    }
}

thread_local! {
    /// xoroshiro128++; all zero before its first number.
    static STATE: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
}

/// A random number. Nobody must not guess it.
#[inline]
fn random() -> u64 {
    STATE.with(|state| {
        let [s0, s1] = match state.get() {
            [0, 0] => seed(),
            state => state,
        };
        let number = s0.wrapping_add(s1).rotate_left(17).wrapping_add(s0);
        let s1 = s1 ^ s0;
        state.set([s0.rotate_left(49) ^ s1 ^ (s1 << 21), s1.rotate_left(28)]);
        number
    })
}

/// Different for each thread: std has random keys, and hashes with them.
#[cold]
fn seed() -> [u64; 2] {
    let keys = RandomState::new();
    [keys.hash_one(1), keys.hash_one(2) | 1]
}

#[inline]
fn trace_id() -> [u8; 16] {
    let number = u128::from(random()) << 64 | u128::from(random());
    // 0 is no number of a trace.
    number.max(1).to_be_bytes()
}

pub(super) fn span_id() -> [u8; 8] {
    random().max(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(sampled: bool) -> Option<TraceContext> {
        Some(TraceContext { trace_id: [0xff; 16], span_id: [1; 8], sampled })
    }

    fn decided(sampling: &str, parent: Option<TraceContext>) -> &'static str {
        match sampling.parse::<Sampling>().expect("a sampler").decide(parent) {
            Ok(trace_id) if parent.is_none_or(|parent| parent.trace_id == trace_id) => "recorded",
            Ok(_) => "in another trace",
            Err(Some(handed_on)) if !handed_on.sampled => "handed on",
            Err(Some(_)) => "handed on as recorded",
            Err(None) => "nothing",
        }
    }

    #[test]
    fn the_caller_decides_or_the_sampler() {
        for (sampling, sampled, unsampled, root) in [
            ("always_on", "recorded", "recorded", "recorded"),
            ("always_off", "handed on", "handed on", "nothing"),
            ("traceidratio:0.5", "handed on", "handed on", "either"),
            ("parentbased_always_on", "recorded", "handed on", "recorded"),
            ("parentbased_always_off", "recorded", "handed on", "nothing"),
            ("parentbased_traceidratio:0", "recorded", "handed on", "nothing"),
            ("parentbased_traceidratio", "recorded", "handed on", "recorded"),
        ] {
            assert_eq!(decided(sampling, parent(true)), sampled, "{sampling}");
            assert_eq!(decided(sampling, parent(false)), unsampled, "{sampling}");
            assert!(root == "either" || decided(sampling, None) == root, "{sampling}");
        }
        assert_eq!("parentbased_always_on".parse(), Ok(Sampling::default()));
    }

    #[test]
    fn a_ratio_is_kept() {
        let sampling: Sampling = "parentbased_traceidratio:0.1".parse().expect("a sampler");
        let recorded = (0..100_000).filter(|_| sampling.decide(None).is_ok()).count();
        // Ten standard deviations.
        assert!((9_000..11_000).contains(&recorded), "{recorded}");
    }

    #[test]
    fn what_is_no_sampler_is_refused() {
        for text in [
            "",
            "on",
            "parentbased",
            "traceidratio:",
            "traceidratio:2",
            "traceidratio:-1",
            "always_on:1",
            "traceidratio:NaN",
        ] {
            assert!(text.parse::<Sampling>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_those_of_one_span() {
        let numbers = || (0..1000).map(|_| span_id()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(numbers)).collect();
        let all: std::collections::BTreeSet<_> =
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!(all.len(), 4000);
    }
}
