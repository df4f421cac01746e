//! Crash reports: what is known of a plugin that died, as one record and one readable paragraph.
//!
//! A report is written once, when the plugin is gone and what it wrote was read to the end. The last
//! ones are kept, in memory and, for a host with a state directory, in a file each.
//!
//! Not here: seeing that a plugin died (each mechanism), deciding what comes next (`restarts.rs`).

mod kept;
mod limit;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::manifest::MechanismKind;
use crate::rfc3339;

pub(crate) use kept::Crashes;
pub use limit::LikelyLimit;
pub(crate) use limit::{lacks_memory, likely_limit};

/// What is known of a plugin that died.
///
/// Shown, it is one paragraph for people; with serde, an object with every member.
///
/// ```no_run
/// # fn example(host: jackfield::Host, report: jackfield::CrashReport) {
/// eprintln!("{report}");
/// if let Some(limit) = &report.limit {
///     eprintln!("raise `{}`?", limit.limit);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CrashReport {
    /// The plugin's name in this host.
    pub plugin: String,
    /// The version it said it has; none if it died before it said one.
    pub version: Option<String>,
    /// SHA-256 of its file, in hexadecimal digits, if it was read.
    pub hash: Option<String>,
    /// How the host reached it.
    #[serde(with = "mechanism")]
    pub mechanism: MechanismKind,
    /// Its session's number.
    pub generation: u64,
    /// What it was doing.
    pub phase: CrashPhase,
    /// Operating system's number of its process, if it had one of its own.
    pub process: Option<u32>,
    /// Time from its start to its end.
    #[serde(rename = "uptime_ms", with = "millis")]
    pub uptime: Duration,
    /// When it ended.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// The functions it was asked for and had not answered, with the number of calls of each.
    pub calls_in_flight: BTreeMap<String, usize>,
    /// What the host saw: `signal 6 (SIGABRT)`, `it closed its output`.
    pub how: String,
    /// How its process ended.
    pub exit: CrashExit,
    /// The limit that it probably hit.
    pub limit: Option<LikelyLimit>,
    /// The last lines that it wrote to stderr or logged.
    pub stderr: Vec<String>,
    /// How often it had been restarted before, since the host began.
    pub restarts: u32,
    /// What happens now.
    pub next: CrashNext,
    /// The host and its version, `jackfield/0.1.0`.
    pub host: String,
}

/// What a plugin was doing when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CrashPhase {
    /// It had been started, and had said nothing yet.
    Start,
    /// It was saying who it is.
    Hello,
    /// It was asked whether it is well, before its first call.
    Check,
    /// It was at a call, or at several.
    Call,
    /// It was at no call.
    Idle,
    /// It was ending its last calls.
    Drain,
    /// It had been told to end.
    Stop,
}

/// How a plugin's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CrashExit {
    /// With an exit status.
    Code(i32),
    /// By a signal.
    Signal {
        /// Its number.
        number: i32,
        /// Whether the operating system kept its memory in a file.
        core_dumped: bool,
    },
    /// It had none of its own, or nobody knows.
    Unknown,
}

/// What becomes of a plugin that died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CrashNext {
    /// It is started again.
    Restart {
        /// After this time.
        #[serde(rename = "after_ms", with = "millis")]
        after: Duration,
    },
    /// It is started again by the next call.
    OnDemand,
    /// Another generation of it has its calls.
    Kept {
        /// Which one.
        generation: u64,
    },
    /// It is set aside.
    Quarantined {
        /// The command that lifts the quarantine.
        lift: String,
    },
    /// It stays down.
    Down {
        /// The command that starts it.
        start: String,
    },
}

/// Lines of stderr in the paragraph; the record has more.
const LINES_SHOWN: usize = 3;

/// Characters of each of them.
const LINE_CHARS_SHOWN: usize = 200;

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin `{}`", self.plugin)?;
        if let Some(version) = &self.version {
            write!(f, " {version}")?;
        }
        write!(f, " ({}, generation {}", self.mechanism, self.generation)?;
        if let Some(process) = self.process {
            write!(f, ", process {process}")?;
        }
        if let Some(hash) = &self.hash {
            write!(f, ", sha256 {}", hash.get(..12).unwrap_or(hash))?;
        }
        write!(f, ") died at {} after {:.1?} {}: {}", rfc3339::text(self.at), self.uptime, self.doing(), self.how)?;
        if let CrashExit::Signal { core_dumped: true, .. } = self.exit {
            f.write_str(", core dumped")?;
        }
        f.write_str(".")?;
        if let Some(limit) = &self.limit {
            write!(f, " {limit}.")?;
        }
        let shown = &self.stderr[self.stderr.len().saturating_sub(LINES_SHOWN)..];
        match shown {
            [] => f.write_str(" It wrote nothing to stderr.")?,
            [line] => write!(f, " Last on stderr: {:?}.", cut(line))?,
            lines => {
                let quoted: Vec<_> = lines.iter().map(|line| format!("{:?}", cut(line))).collect();
                write!(f, " Last on stderr: {}.", quoted.join(", "))?;
            }
        }
        match self.restarts {
            0 => f.write_str(" It had not been restarted before;")?,
            1 => f.write_str(" It had been restarted once before;")?,
            times => write!(f, " It had been restarted {times} times before;")?,
        }
        write!(f, " {} ({})", self.next, self.host)
    }
}

impl CrashReport {
    fn doing(&self) -> String {
        let calls = || {
            let calls = self.calls_in_flight.iter().map(|(function, calls)| match calls {
                1 => format!("a call of `{function}`"),
                calls => format!("{calls} calls of `{function}`"),
            });
            match calls.collect::<Vec<_>>().join(" and ") {
                calls if calls.is_empty() => "a call".to_owned(),
                calls => calls,
            }
        };
        match self.phase {
            CrashPhase::Start => "while it was being started".to_owned(),
            CrashPhase::Hello => "before it had said who it is".to_owned(),
            CrashPhase::Check => "while it was asked whether it is well".to_owned(),
            CrashPhase::Call => format!("in {}", calls()),
            CrashPhase::Idle => "without a call under way".to_owned(),
            CrashPhase::Drain => format!("while it ended its last calls, in {}", calls()),
            CrashPhase::Stop => "while it was being stopped".to_owned(),
        }
    }
}

impl fmt::Display for CrashNext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CrashNext::Restart { after } => write!(f, "it is restarted in {after:?}"),
            CrashNext::OnDemand => f.write_str("it is started again by the next call"),
            CrashNext::Kept { generation } => write!(f, "its calls go to generation {generation}"),
            CrashNext::Quarantined { lift } => write!(f, "it is quarantined until `{lift}`"),
            CrashNext::Down { start } => write!(f, "it stays down until `{start}`"),
        }
    }
}

/// The beginning of a line.
fn cut(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// A duration as a whole number of milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// A mechanism by its name.
mod mechanism {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::MechanismKind;

    pub(super) fn serialize<S: Serializer>(mechanism: &MechanismKind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(mechanism.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<MechanismKind, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
