//! What a host says to `jackfield-runner`, and what the runner says back before it becomes the plugin.
//!
//! The orders are JSON, one argument of the runner. Not a descriptor: a host of many threads cannot hand
//! one to one child alone. Not a variable: whoever forgets to remove it hands it on. The argument is gone
//! from the process list when the plugin is there, and has no secrets in it.
//!
//! The report is the first line on stderr, before anything of the plugin runs, so that no plugin can say
//! it in the runner's place. It says what is really in force, by which means, and what is not and why.
//!
//! Not here: what is done (`jackfield-runner`), and what a manifest may say (`jackfield::manifest`).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Version of orders and report. Host and runner are built together; another version is refused.
pub const ORDERS_VERSION: u32 = 1;

/// Exit status of a runner that could not prepare the process. The report says why.
pub const EXIT_NOT_PREPARED: u8 = 125;

/// Exit status of a runner that was prepared and could not run the program.
pub const EXIT_NOT_RUN: u8 = 126;

/// What a runner shall do before it becomes the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Orders {
    /// [`ORDERS_VERSION`].
    pub version: u32,
    /// Limits of the operating system.
    pub limits: ProcessLimits,
    /// How far the plugin is shut in.
    pub profile: Profile,
    /// Directories and files that it may read and execute, beside those of the system.
    pub read: Vec<PathBuf>,
    /// Directories in which it may read, write, make and remove.
    pub write: Vec<PathBuf>,
    /// Whether it may use the network.
    pub net: bool,
    /// Whether it may make Unix sockets under the profile `strict`: a gRPC plugin must.
    pub unix_sockets: bool,
    /// What may be left out where it cannot be had: names as in [`Enforced::limit`].
    pub best_effort: Vec<String>,
    /// A delegated directory of cgroup v2. None: the runner's own cgroup is tried.
    pub cgroup: Option<PathBuf>,
    /// The process whose thread's death is the plugin's. None: it may outlive whoever started it.
    pub parent: Option<u32>,
}

/// Limits that the operating system keeps. What is `None` is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessLimits {
    /// `memory`: bytes that the plugin may have as its own. cgroup v2 where it is delegated, and counts all
    /// its processes together; else `RLIMIT_DATA`, for each of its processes.
    pub memory: Option<u64>,
    /// `address_space`: bytes of `RLIMIT_AS`. Go, Node.js and Java reserve far more than they use.
    pub address_space: Option<u64>,
    /// `cpu_time`: seconds of processor time in its whole life, of each of its processes.
    pub cpu_time: Option<u64>,
    /// `cpu_rate`: thousandths of one processor. cgroup v2 alone.
    pub cpu_rate: Option<u64>,
    /// `processes`: how many it may be at once. cgroup v2, which counts threads, too; for 1, the filter of
    /// system calls.
    pub processes: Option<u64>,
    /// `files`: open files of each process.
    pub files: Option<u64>,
    /// `file_size`: bytes of a file that it writes.
    pub file_size: Option<u64>,
}

impl ProcessLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How far a program is shut in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Profile {
    /// Not at all: it may do what the host's user may.
    #[default]
    None,
    /// The system's files to read, its own directory, no network, no other process, no system call that
    /// a plugin has no use for. What runs elsewhere runs here.
    Default,
    /// As `default`, and it makes no processes and no sockets, and sees nothing of `/proc` and `/sys` but
    /// what language runtimes ask for.
    Strict,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 3] = [Profile::None, Profile::Default, Profile::Strict];

    /// `none`, `default`, `strict`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::None => "none",
            Profile::Default => "default",
            Profile::Strict => "strict",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        let known = Self::ALL.into_iter().find(|profile| profile.as_str() == text);
        known.ok_or_else(|| UnknownProfile { name: text.to_owned() })
    }
}

/// The name of no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no profile; there are `none`, `default` and `strict`")]
pub struct UnknownProfile {
    name: String,
}

/// One limit or one part of the sandbox, and whether it is really in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// What: a limit as in a manifest, or `fs`, `net`, `signals`, `system_calls`, `capabilities`, …
    pub limit: String,
    /// How much: `67108864`, `default`.
    pub value: String,
    /// By which means: `cgroup`, `rlimit_data`, `landlock`, `seccomp`. None: it is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What is to be known about it; where it is not in force, why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Enforced {
    /// In force.
    pub fn by(limit: &str, value: impl fmt::Display, by: &str) -> Self {
        Self { limit: limit.to_owned(), value: value.to_string(), by: Some(by.to_owned()), note: None }
    }

    /// Not in force, with the reason.
    pub fn not(limit: &str, value: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self { limit: limit.to_owned(), value: value.to_string(), by: None, note: Some(why.to_string()) }
    }

    /// With a note.
    #[must_use]
    pub fn note(mut self, note: impl fmt::Display) -> Self {
        self.note = Some(note.to_string());
        self
    }
}

/// `memory 67108864 by rlimit_data (for each process)`, `cpu_rate 500 not in force: …`.
impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.limit, self.value)?;
        match (&self.by, &self.note) {
            (Some(by), None) => write!(f, " by {by}"),
            (Some(by), Some(note)) => write!(f, " by {by} ({note})"),
            (None, Some(why)) => write!(f, " not in force: {why}"),
            (None, None) => f.write_str(" not in force"),
        }
    }
}

/// What a runner has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`ORDERS_VERSION`] of the runner.
    pub version: u32,
    /// What was ordered, and whether it is in force.
    #[serde(default)]
    pub enforced: Vec<Enforced>,
    /// The cgroup it made, which whoever started it removes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// Why it will not run the plugin. Then it ends with [`EXIT_NOT_PREPARED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Unenforced>,
}

/// What was ordered, is not in force, and may not be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unenforced {
    /// As [`Enforced::limit`].
    pub limit: String,
    /// Why it is not in force.
    pub why: String,
}

/// What a report begins with on stderr.
const REPORT_PREFIX: &str = "jackfield-runner/report ";

impl Report {
    /// The line on stderr, with its end.
    pub fn to_line(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{REPORT_PREFIX}{json}\n")
    }

    /// Reads the line; none if it is another.
    pub fn from_line(line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix(REPORT_PREFIX)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_from_its_line() {
        let report = Report {
            version: ORDERS_VERSION,
            enforced: vec![
                Enforced::by("memory", 10, "rlimit_data").note("for each process"),
                Enforced::not("cpu_rate", 500, "no cgroup"),
            ],
            cgroup: None,
            refused: Some(Unenforced { limit: "cpu_rate".into(), why: "no cgroup".into() }),
        };
        assert_eq!(Report::from_line(report.to_line().trim_end()), Some(report.clone()));
        let texts: Vec<_> = report.enforced.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["memory 10 by rlimit_data (for each process)", "cpu_rate 500 not in force: no cgroup"]);
        assert_eq!(Report::from_line("{}"), None);
    }

    #[test]
    fn orders_with_a_word_that_is_unknown_are_none() {
        let orders: Orders = serde_json::from_str(r#"{"version":1,"profile":"strict"}"#).expect("orders");
        assert_eq!(orders, Orders { version: 1, profile: Profile::Strict, ..Orders::default() });
        assert!(serde_json::from_str::<Orders>(r#"{"version":1,"jail":true}"#).is_err());
    }
}
