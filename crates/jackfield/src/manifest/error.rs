//! What is wrong with a manifest, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use jackfield_protocol::InterfaceError;

use super::limits::LimitRefusal;
use super::{MechanismKind, UnknownMechanism};

/// A manifest that cannot be used.
///
/// Shown as compilers show theirs: ``plugin.toml:3:9: unknown key `memroy`; did you mean `memory`?``
#[derive(Debug)]
#[non_exhaustive]
pub struct ManifestError {
    /// The manifest.
    pub file: PathBuf,
    /// Where in it; none when the file could not be read.
    pub position: Option<Position>,
    /// What is wrong there.
    pub problem: ManifestProblem,
}

/// A place in a text, as editors count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The place of a byte of `text`.
    pub(super) fn of(text: &str, byte: usize) -> Self {
        let byte = (0..=byte.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        let before = &text[..byte.unwrap_or(0)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestProblem {
    /// The file cannot be read.
    #[error("cannot be read")]
    Unreadable {
        /// Why.
        source: io::Error,
    },
    /// Nobody wrote this by hand.
    #[error("is longer than {bytes_max} bytes")]
    TooLong {
        /// Most bytes that are read.
        bytes_max: u64,
    },
    /// It is no text.
    #[error("not UTF-8")]
    NotUtf8,
    /// It does not have the form of its format.
    #[error("not {format}: {what}")]
    Syntax {
        /// `TOML` or `JSON`.
        format: &'static str,
        /// The parser's words.
        what: String,
    },
    /// A key that means nothing here.
    #[error("unknown key `{key}`{hint}")]
    UnknownKey {
        /// The key, with the table it stands in: `limits.call_timout`.
        key: String,
        /// The nearest known key, or nothing.
        hint: String,
    },
    /// A key that is there twice.
    #[error("`{key}` is there twice")]
    Twice {
        /// The key.
        key: String,
    },
    /// A required key that is absent.
    #[error("`{key}` is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value of another type.
    #[error("`{key}` is {wanted}, got {got}")]
    WrongType {
        /// The key, with the position in a list: `args[1]`.
        key: String,
        /// `a string`.
        wanted: &'static str,
        /// `the integer 5`.
        got: String,
    },
    /// A value of the right type that means nothing.
    #[error("`{key}`: {why}")]
    BadValue {
        /// The key.
        key: String,
        /// What was written, and what should be.
        why: String,
    },
    /// A mechanism that this host does not have.
    #[error(transparent)]
    Mechanism(#[from] UnknownMechanism),
    /// `entry` has a file for other platforms, and none for this one; or `sha256` a hash.
    #[error("`{key}` has {} for {written}; this platform is `{here}`", if key == "entry" { "a file" } else { "a hash" })]
    OtherPlatforms {
        /// `entry` or `sha256`.
        key: String,
        /// The platforms written.
        written: String,
        /// This one.
        here: String,
    },
    /// A path that leads nowhere, or where it must not.
    #[error("`{key}`: `{path}` {why}")]
    Path {
        /// The key.
        key: String,
        /// The path as written.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something set that the mechanism has no use for.
    #[error("`{key}` is set, and {why}")]
    NoUse {
        /// The key.
        key: &'static str,
        /// The mechanism.
        mechanism: MechanismKind,
        /// Why it has no use for it.
        why: &'static str,
    },
    /// A limit that would not hold.
    #[error(transparent)]
    Limit(#[from] LimitRefusal),
    /// A file of `descriptions` does not describe an interface.
    #[error("`{path}` does not describe an interface")]
    Description {
        /// The path as written.
        path: String,
        /// What is wrong with it.
        source: InterfaceError,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.problem)
    }
}

impl std::error::Error for ManifestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.problem)
    }
}

/// A problem at a byte of the text, on its way to becoming a [`ManifestError`].
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: ManifestProblem,
}

impl Fault {
    pub(super) fn at(byte: usize, problem: impl Into<ManifestProblem>) -> Self {
        Self { at: byte, problem: problem.into() }
    }
}

/// `; did you mean \`limits.memory\`?`, or nothing. `prefix` is what stands before the known names.
pub(super) fn did_you_mean<'a>(prefix: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    jackfield_protocol::nearest(name, known)
        .map_or_else(String::new, |near| format!("; did you mean `{prefix}{near}`?"))
}
