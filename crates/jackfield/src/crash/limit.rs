//! The limit that a plugin probably hit, by how it ended and what it wrote.
//!
//! No system says so: an allocation that fails under a limit looks like one that fails without. What is
//! said here is therefore what was seen, and whether such a limit was in force.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CrashExit, cut};

/// A limit that a plugin probably hit, and why that is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LikelyLimit {
    /// The limit, as in the manifest: `memory`, `cpu`, `files`, `processes`, `file_size`, `stack`, `sandbox`.
    pub limit: String,
    /// How much of it the plugin was allowed. None if the host set no such limit: then it was the
    /// system's or the plugin's own.
    pub in_force: Option<String>,
    /// What was seen.
    pub evidence: String,
}

impl fmt::Display for LikelyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, in_force, evidence } = self;
        match in_force {
            Some(allowed) => write!(f, "It probably hit its limit `{limit}`, {allowed}: {evidence}"),
            None => write!(f, "It probably hit a limit of `{limit}`, though not one of this host's: {evidence}"),
        }
    }
}

/// What a runtime writes when it runs short of something: anywhere in a line, or at its beginning.
enum Text {
    Anywhere(&'static str),
    AtStart(&'static str),
}

use Text::{Anywhere, AtStart};

/// Each seen with its runtime under the limit, or in the runtime's source.
const TEXTS: &[(Text, &str)] = &[
    // Rust: "memory allocation of 1048576 bytes failed".
    (AtStart("memory allocation of "), "memory"),
    // Go: "fatal error: runtime: out of memory", "runtime: out of memory: cannot allocate 4194304-byte block".
    (Anywhere("runtime: out of memory"), "memory"),
    (Anywhere("runtime: cannot allocate memory"), "memory"),
    (Anywhere("out of memory: cannot allocate"), "memory"),
    // V8.
    (Anywhere("JavaScript heap out of memory"), "memory"),
    (Anywhere("Fatal process out of memory"), "memory"),
    (Anywhere("Fatal JavaScript out of memory"), "memory"),
    // The JVM, which writes the first of them to stdout.
    (Anywhere("insufficient memory for the Java Runtime"), "memory"),
    (Anywhere("java.lang.OutOfMemoryError"), "memory"),
    // Python.
    (AtStart("MemoryError"), "memory"),
    // C++.
    (Anywhere("std::bad_alloc"), "memory"),
    // Stacks: Rust, Go, the JVM, Python.
    (Anywhere("has overflowed its stack"), "stack"),
    (Anywhere("goroutine stack exceeds"), "stack"),
    (Anywhere("java.lang.StackOverflowError"), "stack"),
    (AtStart("RecursionError"), "stack"),
    // Threads and processes: Rust, Go, glibc and the JVM.
    (Anywhere("failed to spawn thread"), "processes"),
    (Anywhere("failed to create new OS thread"), "processes"),
    (Anywhere("pthread_create failed"), "processes"),
    (Anywhere("pthread_create: Resource temporarily unavailable"), "processes"),
    (Anywhere("unable to create native thread"), "processes"),
    // The C library's texts, which most languages show.
    (Anywhere("Too many open files"), "files"),
    (Anywhere("too many open files"), "files"),
    (Anywhere("File too large"), "file_size"),
    (Anywhere("file too large"), "file_size"),
    (Anywhere("Cannot allocate memory"), "memory"),
    (Anywhere("cannot allocate memory"), "memory"),
];

impl Text {
    fn is_in(&self, line: &str) -> bool {
        match self {
            Anywhere(text) => line.contains(text),
            AtStart(text) => line.starts_with(text),
        }
    }
}

/// Whether a runtime says in this line that it got no memory.
pub(crate) fn lacks_memory(line: &str) -> bool {
    TEXTS.iter().any(|(text, limit)| *limit == "memory" && text.is_in(line))
}

/// The limit that a plugin probably hit, which ended like this and wrote this to stderr. `in_force`: the
/// limits that the host enforces on it, each with its value as people read it.
pub(crate) fn likely_limit(exit: CrashExit, stderr: &[String], in_force: &[(&str, String)]) -> Option<LikelyLimit> {
    let allowed = |limit: &str| in_force.iter().find(|(name, _)| *name == limit).map(|(_, value)| value.clone());
    let likely = |limit: &str, evidence: String| {
        Some(LikelyLimit { limit: limit.to_owned(), in_force: allowed(limit), evidence })
    };
    // What only a limit sends says more than any text.
    match signal_of(exit) {
        Some((24, seen)) => return likely("cpu", format!("{seen} is SIGXCPU, for too much processor time")),
        Some((25, seen)) => return likely("file_size", format!("{seen} is SIGXFSZ, for too large a file")),
        Some((31, seen)) if cfg!(target_os = "linux") => {
            return likely("sandbox", format!("{seen} is SIGSYS, for a system call that is not allowed"));
        }
        _ => {}
    }
    // The last line that says something: an earlier shortage may have been survived.
    let said = stderr.iter().rev().find_map(|line| {
        let text = TEXTS.iter().find(|(text, _)| text.is_in(line));
        text.map(|(_, limit)| (*limit, line))
    });
    if let Some((limit, line)) = said {
        return likely(limit, format!("it wrote {:?}", cut(line)));
    }
    match signal_of(exit) {
        // Without a limit in force it may have been anybody.
        Some((9, seen)) if allowed("memory").is_some() => {
            likely("memory", format!("{seen} is SIGKILL, with which the kernel ends what exceeds its memory"))
        }
        Some((9, seen)) if allowed("cpu").is_some() => {
            likely("cpu", format!("{seen} is SIGKILL, with which the kernel ends what goes on after SIGXCPU"))
        }
        _ => None,
    }
}

/// The signal that ended it, and where that was seen. A shell that ran the plugin adds 128 to it.
fn signal_of(exit: CrashExit) -> Option<(i32, String)> {
    match exit {
        CrashExit::Signal { number, .. } => Some((number, format!("signal {number}"))),
        CrashExit::Code(code) if code > 128 => Some((code - 128, format!("exit status {code}"))),
        CrashExit::Code(_) | CrashExit::Unknown => None,
    }
}
