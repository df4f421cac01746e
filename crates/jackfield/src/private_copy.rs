//! Private, content-addressed copies: `<cache>/<kind>/<sha256>/<file name>`.
//!
//! What is loaded is never the file that a person edits, and never anything but the bytes that were checked.
//! `dlopen` knows a library by its path: a new file under an old path gives the old code, a file written in place
//! gives a crash. A program is read by the operating system, and a script once more by its interpreter, each by
//! its path: the file under that path must not be another one by then.
//!
//! Nothing removes old copies.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::private_dir::{self, Closed};

/// What a copy is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A shared library, in `native/`.
    Library,
    /// A program or a script, in `programs/`.
    Program,
}

impl Kind {
    fn directory(self) -> &'static str {
        match self {
            Kind::Library => "native",
            Kind::Program => "programs",
        }
    }

    #[cfg(unix)]
    fn mode(self) -> u32 {
        match self {
            Kind::Library => 0o600,
            Kind::Program => 0o500,
        }
    }
}

/// Why there is no private copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// It could not be made.
    #[error("cannot keep a private copy in `{}`", directory.display())]
    Make {
        /// Where.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory of the private copies belongs to somebody else or can be written by others.
    #[error("`{}` cannot hold private copies: {why}", directory.display())]
    NotPrivate {
        /// Where.
        directory: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Path of a copy with exactly `bytes`, made now or before, under the file name of `entry`.
pub(crate) fn private_copy(cache_dir: &Path, kind: Kind, bytes: &[u8], entry: &Path) -> Result<PathBuf, CopyError> {
    let root = cache_dir.join(kind.directory());
    let directory = root.join(hex(&Sha256::digest(bytes).into()));
    let failed = |source| CopyError::Make { directory: directory.clone(), source };
    private_dir::make(&root).map_err(failed)?;
    check_private(&root)?;
    private_dir::make(&directory).map_err(failed)?;
    check_private(&directory)?;
    let copy = directory.join(entry.file_name().unwrap_or(entry.as_os_str()));
    // A copy that is there is compared, not trusted: it may have been cut short or changed.
    if fs::read(&copy).is_ok_and(|there| there == bytes) {
        return Ok(copy);
    }
    // Beside its place and then renamed, so that no other host ever sees half of it.
    let unique = format!(".{}-{:?}", std::process::id(), std::thread::current().id());
    let partial = directory.join(unique);
    let written = write_new(&partial, kind, bytes).and_then(|()| fs::rename(&partial, &copy));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written.map_err(failed)?;
    Ok(copy)
}

/// A hash in hexadecimal digits.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_new(path: &Path, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, kind.mode());
    #[cfg(not(unix))]
    let _ = kind;
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Refuses a directory in which somebody else could change a copy between check and load.
fn check_private(directory: &Path) -> Result<(), CopyError> {
    let directory = directory.to_owned();
    match private_dir::check(&directory, Closed::ToWriters) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(CopyError::NotPrivate { directory, why }),
        Err(source) => Err(CopyError::Make { directory, source }),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_copy_is_found_again_and_a_changed_one_is_made_anew() {
        let cache = tempfile::tempdir().expect("a directory");
        let copy = |bytes: &[u8], entry: &str| {
            private_copy(cache.path(), Kind::Library, bytes, Path::new(entry)).expect("a copy")
        };
        let first = copy(b"bytes", "/x/libp.so");
        assert_eq!(first, copy(b"bytes", "/y/libp.so"));
        fs::write(&first, b"evil").expect("written");
        copy(b"bytes", "libp.so");
        assert_eq!(fs::read(&first).expect("read"), b"bytes");
        assert_ne!(first, copy(b"other", "libp.so"));
    }

    #[test]
    fn a_program_can_be_run_and_not_written_to() {
        let cache = tempfile::tempdir().expect("a directory");
        let copy = private_copy(cache.path(), Kind::Program, b"#!/bin/sh\n", Path::new("/x/p")).expect("a copy");
        assert_eq!(copy.metadata().expect("it is there").permissions().mode() & 0o777, 0o500);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let cache = tempfile::tempdir().expect("a directory");
        let root = cache.path().join("native");
        fs::create_dir(&root).expect("made");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).expect("set");
        let error = private_copy(cache.path(), Kind::Library, b"bytes", Path::new("libp.so")).expect_err("refused");
        assert!(error.to_string().contains("others can write to it (mode 777)"), "{error}");
    }
}
