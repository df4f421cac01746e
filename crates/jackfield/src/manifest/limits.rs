//! The `[limits]` of a manifest: what was written, before it is known whether it can hold.

use std::time::Duration;

use super::MechanismKind;
use super::document::{Keys, Named, Table, Value};
use super::error::Fault;
use super::units::{parse_duration, parse_size};
use crate::limits::Limits;

/// The limits a manifest sets. What is `None` keeps the host's value.
///
/// Durations are written `"250ms"`, `"5s"`, `"2m"` or `"1h"`; sizes `"16MiB"` (2^20), `"10MB"`
/// (10^6) or as an integer of bytes. [`Limits`] has the meaning and the default of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitsSpec {
    /// `start_timeout`; at least 1 ms. `process` only.
    pub start_timeout: Option<Duration>,
    /// `call_timeout`; at least 1 ms. `process` only.
    pub call_timeout: Option<Duration>,
    /// `stop_grace`; 0 kills without waiting. `process` only.
    pub stop_grace: Option<Duration>,
    /// `answer_bytes`; at least 1.
    pub answer_bytes: Option<u64>,
    /// `calls_in_flight`; at least 1. `process` only.
    pub calls_in_flight: Option<usize>,
    /// `call_bytes_in_flight`; at least 1. `process` only.
    pub call_bytes_in_flight: Option<usize>,
}

/// A limit that was set and that the mechanism cannot enforce.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{limit}` is set, and {why}")]
pub struct LimitRefusal {
    /// The limit, as in the manifest.
    pub limit: &'static str,
    /// The mechanism that cannot enforce it.
    pub mechanism: MechanismKind,
    why: &'static str,
}

impl MechanismKind {
    /// The limits that the mechanism cannot enforce, by their names in a manifest, each with the reason.
    pub const fn unenforced(self) -> &'static [(&'static str, &'static str)] {
        match self {
            MechanismKind::Process => &[],
            MechanismKind::Native => &[
                ("start_timeout", "the operating system cannot be interrupted while it loads a native plugin"),
                ("call_timeout", "a native plugin cannot be stopped in the middle of a call"),
                ("stop_grace", "a native plugin stays in memory, so that nothing waits for its end"),
                ("calls_in_flight", "a native plugin is called on its callers' threads, however many they are"),
                ("call_bytes_in_flight", "a native plugin reads its arguments from its callers' memory"),
            ],
        }
    }
}

impl LimitsSpec {
    /// The limits set here that `mechanism` cannot enforce, each with the reason.
    ///
    /// ```
    /// # use jackfield::{LimitsSpec, MechanismKind};
    /// let mut limits = LimitsSpec::default();
    /// limits.call_timeout = Some(std::time::Duration::from_secs(5));
    /// assert!(limits.refusals(MechanismKind::Process).is_empty());
    /// assert_eq!(
    ///     limits.refusals(MechanismKind::Native)[0].to_string(),
    ///     "`call_timeout` is set, and a native plugin cannot be stopped in the middle of a call",
    /// );
    /// ```
    pub fn refusals(&self, mechanism: MechanismKind) -> Vec<LimitRefusal> {
        let is_set = |limit: &str| match limit {
            "start_timeout" => self.start_timeout.is_some(),
            "call_timeout" => self.call_timeout.is_some(),
            "stop_grace" => self.stop_grace.is_some(),
            "answer_bytes" => self.answer_bytes.is_some(),
            "calls_in_flight" => self.calls_in_flight.is_some(),
            _ => self.call_bytes_in_flight.is_some(),
        };
        let refused = mechanism.unenforced().iter().filter(|(limit, _)| is_set(limit));
        refused.map(|&(limit, why)| LimitRefusal { limit, mechanism, why }).collect()
    }

    /// `limits` with what is set here in place of what is there.
    pub fn apply(&self, limits: &Limits) -> Limits {
        let bytes_in_flight = self.call_bytes_in_flight;
        let mut applied = limits.clone();
        applied.start_timeout = self.start_timeout.unwrap_or(limits.start_timeout);
        applied.call_timeout = self.call_timeout.unwrap_or(limits.call_timeout);
        applied.stop_grace = self.stop_grace.unwrap_or(limits.stop_grace);
        applied.answer_bytes_max = self.answer_bytes.unwrap_or(limits.answer_bytes_max);
        applied.calls_in_flight_max = self.calls_in_flight.unwrap_or(limits.calls_in_flight_max);
        applied.call_bytes_in_flight_max = bytes_in_flight.unwrap_or(limits.call_bytes_in_flight_max);
        applied
    }

    /// Reads the table, and refuses where it stands what `mechanism` cannot enforce.
    pub(super) fn read(table: Table, mechanism: MechanismKind) -> Result<Self, Fault> {
        const KEYS: [&str; 6] =
            ["start_timeout", "call_timeout", "stop_grace", "answer_bytes", "calls_in_flight", "call_bytes_in_flight"];
        let mut keys = Keys::new("limits.", table, &KEYS)?;
        let written = KEYS.map(|key| keys.take(key));
        let [start_timeout, call_timeout, stop_grace, answer_bytes, calls, call_bytes] = &written;
        let spec = Self {
            start_timeout: start_timeout.as_ref().map(duration_above_zero).transpose()?,
            call_timeout: call_timeout.as_ref().map(duration_above_zero).transpose()?,
            stop_grace: stop_grace.as_ref().map(duration).transpose()?,
            answer_bytes: answer_bytes.as_ref().map(size).transpose()?,
            calls_in_flight: calls.as_ref().map(count).transpose()?,
            call_bytes_in_flight: call_bytes.as_ref().map(memory_size).transpose()?,
        };
        if let Some(refusal) = spec.refusals(mechanism).into_iter().next() {
            let culprit = KEYS.iter().zip(&written).find(|(key, _)| **key == refusal.limit);
            let place = culprit.and_then(|(_, value)| value.as_ref()).map(|named| named.value.at);
            return Err(Fault::at(place.unwrap_or(0), refusal));
        }
        Ok(spec)
    }
}

fn duration(written: &Named) -> Result<Duration, Fault> {
    match &written.value.value {
        Value::Text(text) => parse_duration(text).map_err(|error| written.bad(error)),
        _ => Err(written.wrong_type("a duration, as in \"5s\"")),
    }
}

fn duration_above_zero(written: &Named) -> Result<Duration, Fault> {
    match duration(written)? {
        Duration::ZERO => Err(written.bad("no time at all; the least is \"1ms\"")),
        duration => Ok(duration),
    }
}

fn size(written: &Named) -> Result<u64, Fault> {
    let bytes = match &written.value.value {
        Value::Text(text) => parse_size(text).map_err(|error| written.bad(error))?,
        Value::Integer(bytes) => {
            u64::try_from(*bytes).map_err(|_| written.bad(format_args!("{bytes} bytes; the least is 1")))?
        }
        _ => return Err(written.wrong_type("a size, as in \"16MiB\" or 4096")),
    };
    match bytes {
        0 => Err(written.bad("0 bytes; the least is 1")),
        bytes => Ok(bytes),
    }
}

/// A size of something held in memory.
fn memory_size(written: &Named) -> Result<usize, Fault> {
    let bytes = size(written)?;
    usize::try_from(bytes).map_err(|_| written.bad(format_args!("{bytes} bytes do not fit this platform")))
}

fn count(written: &Named) -> Result<usize, Fault> {
    let number = written.integer()?;
    match usize::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(written.bad(format_args!("{number} calls; the least is 1"))),
    }
}
