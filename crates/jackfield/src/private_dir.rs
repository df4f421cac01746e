//! Directories of ours that nobody else may change or read.
//!
//! What lies in one was put there by this user. Whoever believes a file because of where it lies asks
//! [`check`] first, each time: a directory that was private may not be so any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What others may not do with a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Closed {
    /// They may not write to it.
    ToWriters,
    /// They may not even read it.
    ToAll,
}

/// Makes a directory, and those above it that are missing, open to its owner alone.
#[cfg(unix)]
pub(crate) fn make(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(directory)
}

/// Makes a directory, and those above it that are missing.
#[cfg(not(unix))]
pub(crate) fn make(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// What is wrong with a directory that is there; `None` if it is ours and closed to others.
pub(crate) fn check(directory: &Path, closed: Closed) -> io::Result<Option<String>> {
    let seen = fs::symlink_metadata(directory)?;
    Ok(match seen.is_dir() {
        true => exposed(&seen, closed),
        false => Some("it is no directory".to_owned()),
    })
}

/// Whom a file or directory belongs to or is open to, if not to us alone.
#[cfg(unix)]
pub(crate) fn exposed(seen: &fs::Metadata, closed: Closed) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;

    let me = rustix::process::geteuid().as_raw();
    let (mask, can) = match closed {
        Closed::ToWriters => (0o022, "write to it"),
        Closed::ToAll => (0o077, "read it or write to it"),
    };
    if seen.uid() != me {
        Some(format!("it belongs to user {}, this host runs as {me}", seen.uid()))
    } else if seen.mode() & mask != 0 {
        Some(format!("others can {can} (mode {:o})", seen.mode() & 0o7777))
    } else {
        None
    }
}

/// A user's local application data is private to that user on Windows.
#[cfg(not(unix))]
pub(crate) fn exposed(_: &fs::Metadata, _: Closed) -> Option<String> {
    None
}

/// `jackfield` in the user's cache directory, or, for a user without one, in the temporary directory.
pub(crate) fn default_cache_dir() -> PathBuf {
    let set = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = match std::env::consts::OS {
        "windows" => set("LOCALAPPDATA"),
        "macos" => set("HOME").map(|home| home.join("Library/Caches")),
        _ => set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache"))),
    };
    base.unwrap_or_else(std::env::temp_dir).join("jackfield")
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_is_made_private_and_is_not_when_it_is_opened() {
        let outer = tempfile::tempdir().expect("a directory");
        let directory = outer.path().join("a/b");
        make(&directory).expect("made");
        let seen = |closed| check(&directory, closed).expect("seen").unwrap_or_default();
        assert_eq!([seen(Closed::ToWriters), seen(Closed::ToAll)], ["", ""]);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("set");
        let readable = "others can read it or write to it (mode 755)";
        assert_eq!([seen(Closed::ToWriters), seen(Closed::ToAll)], ["", readable]);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("set");
        assert_eq!(seen(Closed::ToWriters), "others can write to it (mode 777)");
    }

    #[test]
    fn a_link_to_a_private_directory_is_none() {
        let outer = tempfile::tempdir().expect("a directory");
        make(&outer.path().join("a")).expect("made");
        std::os::unix::fs::symlink("a", outer.path().join("link")).expect("a link");
        let wrong = check(&outer.path().join("link"), Closed::ToWriters).expect("seen");
        assert_eq!(wrong.as_deref(), Some("it is no directory"));
    }
}
