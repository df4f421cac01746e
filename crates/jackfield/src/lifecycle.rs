//! Lifecycle: what a host does when a plugin dies, misbehaves, idles, or has a new version.
//!
//! Here they are only values, with their units and defaults. What is decided by them is decided in
//! `restarts.rs` and `breaker.rs`. A setting that a mechanism has no use for is refused in a manifest
//! (`manifest/lifecycle.rs`); set for a whole host, it holds for the plugins that have one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

/// The life of a plugin, as far as a host decides on it.
///
/// ```
/// use std::time::Duration;
///
/// let mut lifecycle = jackfield::Lifecycle::default();
/// assert_eq!(lifecycle.restart, jackfield::Restart::OnFailure);
/// lifecycle.idle_stop = Some(Duration::from_secs(300));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lifecycle {
    /// Whether a plugin that ended is started again. Default: after failures.
    ///
    /// For `process` and `grpc`. A native plugin ends with its host, and an instance of WebAssembly that
    /// failed is replaced by the next call, whatever is said here.
    pub restart: Restart,
    /// Time between a failure and the restart; doubled with each failure that follows before the plugin
    /// was well for `healthy_after`, and varied by a fifth, so that plugins which died together do not
    /// come back together. Default: 100 ms. For `process` and `grpc`.
    pub backoff: Duration,
    /// Most that `backoff` grows to, before it is varied. Default: 30 s. For `process` and `grpc`.
    pub backoff_max: Duration,
    /// Restarts within `window`. Default: 5. One more failure in that time, and the plugin is
    /// quarantined: it stays down, over restarts of the host, until its file is another one or a person
    /// lifts the quarantine. 0 quarantines at the first failure. For `process` and `grpc`.
    pub restarts_max: u32,
    /// The time in which `restarts_max` counts; it slides. Default: 60 s. For `process` and `grpc`.
    pub window: Duration,
    /// Time a plugin runs until the next failure is waited for as the first, `backoff` long. Default: 60 s.
    /// For `process` and `grpc`.
    pub healthy_after: Duration,
    /// Time without a call after which a plugin is stopped; the next call starts it again, and waits for
    /// that. Default: never stopped. For all but `native`, since a library is never unloaded.
    pub idle_stop: Option<Duration>,
    /// Whether a call during which the plugin died is made once more. Default: never. For all but
    /// `native`, where nobody is left to make it.
    pub retry: Retry,
    /// When a plugin that runs gets no calls for a while. Default: never.
    ///
    /// Not by default, because whether a failed call says anything of the next one depends on the plugin:
    /// one that panics at each bad picture still scales the good ones.
    pub breaker: Option<BreakerSpec>,
    /// How a plugin is replaced by a newer build.
    pub reload: ReloadSpec,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            restart: Restart::OnFailure,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            restarts_max: 5,
            window: Duration::from_secs(60),
            healthy_after: Duration::from_secs(60),
            idle_stop: None,
            retry: Retry::Never,
            breaker: None,
            reload: ReloadSpec::default(),
        }
    }
}

/// Whether a plugin that ended, without the host having stopped it, is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// `"never"`: it stays down.
    Never,
    /// `"on-failure"`: unless it ended by itself with exit status 0 while no call was under way.
    #[default]
    OnFailure,
    /// `"always"`: however it ended. An end with status 0 counts as a failure, so that a program which
    /// only ever ends is not started for ever.
    Always,
}

impl Restart {
    const ALL: [Restart; 3] = [Restart::Never, Restart::OnFailure, Restart::Always];

    /// `never`, `on-failure`, `always`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Restart::Never => "never",
            Restart::OnFailure => "on-failure",
            Restart::Always => "always",
        }
    }
}

/// Whether a call during which its plugin died is made once more, on the plugin's next session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// `"never"`: the caller decides.
    #[default]
    Never,
    /// `"idempotent"`: if the interface says that calling the function twice does no harm. Once, and
    /// within the call's deadline.
    Idempotent,
}

impl Retry {
    const ALL: [Retry; 2] = [Retry::Never, Retry::Idempotent];

    /// `never`, `idempotent`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Retry::Never => "never",
            Retry::Idempotent => "idempotent",
        }
    }
}

/// A circuit breaker: a plugin whose calls fail one after the other gets none for a while.
///
/// Calls that end in `crashed`, `timeout`, `panicked`, `limit` or `protocol` count. A success or the
/// plugin's own error shows that it is well, and begins the count anew; calls that were cancelled,
/// refused or not made say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerSpec {
    /// Failed calls, one after the other, after which there are no more. Default: 5; 0 counts as 1.
    pub failures_max: u32,
    /// Time without calls. Then one is let through: if it succeeds, all are; if it fails, the time
    /// begins again. Default: 5 s.
    pub pause: Duration,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self { failures_max: 5, pause: Duration::from_secs(5) }
    }
}

/// How a plugin is replaced by a newer build while it is called.
///
/// The new one is started beside the old one, and gets calls once it has passed all steps; when one
/// fails, the old one stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReloadSpec {
    /// Time for the new one to say that it is well, and for the canary call. Default: 5 s.
    pub health_timeout: Duration,
    /// A call that the new one must answer with a success before it gets any other. Default: none.
    pub canary: Option<Canary>,
    /// Time for which the old one is kept after the change, to get the calls back if the new one turns
    /// bad. Default: not kept; it is stopped when its calls are over.
    pub observe: Option<Duration>,
    /// Failed calls of the new one within `observe` after which the old one gets the calls back. Counted
    /// as a [`BreakerSpec`] counts, though not only one after the other. When the new one dies, the old one
    /// gets them at once. Default: 3; 0 counts as 1.
    pub observe_failures_max: u32,
    /// Time that calls of the old one have to end in. Default: 30 s. Those that are left end with
    /// `unavailable`, and the old one is stopped. A native call cannot be ended: it keeps its library's
    /// state alive for as long as it takes.
    pub drain_timeout: Duration,
    /// Generations of a plugin that are alive at once, those that only end their calls included.
    /// Default: 2, and not less. A reload that would make one more waits for the oldest to end, at most
    /// its `drain_timeout`.
    pub generations_max: usize,
    /// Whether the old one's state is handed to the new one, if both know how. Calls wait meanwhile.
    /// Default: no; the new one begins afresh.
    pub state: bool,
}

impl Default for ReloadSpec {
    fn default() -> Self {
        Self {
            health_timeout: Duration::from_secs(5),
            canary: None,
            observe: None,
            observe_failures_max: 3,
            drain_timeout: Duration::from_secs(30),
            generations_max: 2,
            state: false,
        }
    }
}

/// A call that shows whether a plugin works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The function, as in a call by name: `greet`, `proto.KV/Get`.
    pub function: String,
    /// Its arguments, as in a call by name: an object of the parameters, or null for none.
    pub arguments: Value,
}

/// A setting with few values, and not one of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is none of {known}")]
pub struct UnknownSetting {
    text: String,
    known: String,
}

pub(crate) fn named<T: Copy, const N: usize>(
    text: &str,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<T, UnknownSetting> {
    all.into_iter().find(|one| name(*one) == text).ok_or_else(|| UnknownSetting {
        text: text.to_owned(),
        known: all.map(|one| format!("`{}`", name(one))).join(", "),
    })
}

impl FromStr for Restart {
    type Err = UnknownSetting;

    fn from_str(text: &str) -> Result<Self, UnknownSetting> {
        named(text, Self::ALL, Self::as_str)
    }
}

impl FromStr for Retry {
    type Err = UnknownSetting;

    fn from_str(text: &str) -> Result<Self, UnknownSetting> {
        named(text, Self::ALL, Self::as_str)
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
