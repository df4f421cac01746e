//! Why a plugin is not trusted.

use std::io;
use std::path::{Path, PathBuf};

use crate::private_copy::CopyError;

/// Why a plugin is not trusted. Each says what was seen, what was wanted, and, where there is one, the command that
/// mends or accepts it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Others can write to it, or it belongs to somebody else.
    #[error("`{}` cannot be trusted: {why}; `{mend}` mends that", path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Whom it belongs to or who can write to it, with the mode.
        why: String,
        /// The command.
        mend: String,
    },
    /// A symbolic link leads out of the plugin directory.
    #[error("`{}` leads out of `{}`, to `{}`", path.display(), directory.display(), target.display())]
    Outside {
        /// The link, or what it lies in.
        path: PathBuf,
        /// What it must not leave.
        directory: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The entry is longer than it may be.
    #[error("limit `module_bytes`: `{}` is longer than {bytes_max} bytes", path.display())]
    TooLong {
        /// The entry.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// The entry is not what the manifest pins.
    #[error("`{}` is not what its manifest pins: its SHA-256 is {found}, the manifest says {pinned}", path.display())]
    Pinned {
        /// The entry.
        path: PathBuf,
        /// In hexadecimal digits.
        pinned: String,
        /// The same.
        found: String,
    },
    /// It is not what the lock says.
    #[error(
        "plugin `{plugin}` has changed: the SHA-256 of `{}` is {found}, `{}` says {locked}; `{accept}` accepts that",
        path.display(), lock.display()
    )]
    Changed {
        /// The plugin.
        plugin: String,
        /// The entry or the manifest.
        path: PathBuf,
        /// The file with what is accepted.
        lock: PathBuf,
        /// In hexadecimal digits, or `none` where the lock has no such file.
        locked: String,
        /// The same, or `none` where there is no such file.
        found: String,
        /// The command.
        accept: String,
    },
    /// The lock does not have it.
    #[error(
        "plugin `{plugin}` was added: the SHA-256 of `{}` is {found}, `{}` has none; `{accept}` accepts that",
        path.display(), lock.display()
    )]
    Added {
        /// The plugin.
        plugin: String,
        /// Its entry.
        path: PathBuf,
        /// The file with what is accepted.
        lock: PathBuf,
        /// In hexadecimal digits.
        found: String,
        /// The command.
        accept: String,
    },
    /// The lock has it, and it is not there.
    #[error(
        "plugin `{plugin}` is missing: `{}` says {locked} for `{}`, and there is none; `{accept}` accepts that",
        lock.display(), path.display()
    )]
    Missing {
        /// The plugin.
        plugin: String,
        /// Its entry.
        path: PathBuf,
        /// The file with what is accepted.
        lock: PathBuf,
        /// In hexadecimal digits.
        locked: String,
        /// The command.
        accept: String,
    },
    /// There is no lock.
    #[error("plugin `{plugin}` is not locked: there is no `{}`; `{accept}` makes it", lock.display())]
    NoLock {
        /// The plugin.
        plugin: String,
        /// The file that is missing.
        lock: PathBuf,
        /// The command.
        accept: String,
    },
    /// The lock cannot be used.
    #[error("`{}` cannot be used: {what}", lock.display())]
    Lock {
        /// The file.
        lock: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It is not signed.
    #[error("`{}` is not signed: there is no `{}`", path.display(), signature.display())]
    Unsigned {
        /// The entry.
        path: PathBuf,
        /// Where its signature would be.
        signature: PathBuf,
    },
    /// It is signed by a key that is not trusted.
    #[error("`{}` is signed by {key}, which is not trusted; {trusted}", path.display())]
    UnknownKey {
        /// The entry.
        path: PathBuf,
        /// The key's number, as minisign writes it.
        key: String,
        /// Which are, and where that is said.
        trusted: String,
    },
    /// Its signature does not hold, or is none.
    #[error("the signature `{}` does not hold: {why}", signature.display())]
    Signature {
        /// The file.
        signature: PathBuf,
        /// What is wrong with it, with the number of the key where that is known.
        why: String,
    },
    /// The file of trusted keys cannot be used.
    #[error("the trusted keys in `{}` cannot be used: {what}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What runs is not a file.
    #[error("a program that runs already cannot be compared with a hash or a signature")]
    RunsAlready,
    /// There is no private copy of it to run.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// The error and its causes, on one line.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", in_full(cause)),
        None => error.to_string(),
    }
}

/// A path as a word of a command.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
