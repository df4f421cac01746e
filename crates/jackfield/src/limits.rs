//! Limits: what a plugin may use, and how long it may take.
//!
//! Here they are only values, with their units and defaults; `docs/guarantees.md` says who enforces
//! each for which mechanism. A limit that a mechanism cannot enforce is refused when the plugin is
//! loaded, so that none is believed to hold where it does not.

use std::time::Duration;

/// The limits of one plugin.
///
/// ```
/// let limits = jackfield::Limits::default();
/// assert_eq!(limits.answer_bytes_max, 16 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Time from the start of the program to its answer to `hello`. Default: 10 s.
    ///
    /// Enforced for `process`: the program is ended. A native library is loaded by the operating
    /// system, which cannot be interrupted.
    pub start_timeout: Duration,
    /// Time for a call, from the moment it is made, waiting in a queue included. Default: 30 s.
    ///
    /// Enforced for `process`: the call ends with `timeout`, the plugin is told, and keeps running.
    /// A native call runs on the caller's thread and cannot be stopped.
    pub call_timeout: Duration,
    /// Time that a plugin is given at each step of stopping: to end by itself after its input was
    /// closed, and again after SIGTERM, before it is killed. Default: 2 s.
    pub stop_grace: Duration,
    /// Largest answer, in bytes as it is encoded. Default: 16 MiB.
    ///
    /// A longer one ends the call with `limit`; the plugin keeps running. A native plugin shares
    /// our memory: more than this is not copied, but nothing stops it from allocating.
    pub answer_bytes_max: u64,
    /// Calls that a plugin is given at once; more wait their turn until their time is over.
    /// Default: 256. Enforced for `process`.
    pub calls_in_flight_max: usize,
    /// Bytes of arguments sent and not yet answered, of all calls of a plugin together. Default:
    /// 64 MiB. A call with more waits its turn; a single call above it is refused. Enforced for
    /// `process`.
    pub call_bytes_in_flight_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(2),
            answer_bytes_max: 16 << 20,
            calls_in_flight_max: 256,
            call_bytes_in_flight_max: 64 << 20,
        }
    }
}
