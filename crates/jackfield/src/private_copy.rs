//! Private, content-addressed copies: `<cache>/native/<sha256>/<file name>`.
//!
//! `dlopen` knows a library by its path: a new file under an old path gives the old code, a file
//! written in place gives a crash. So what is loaded is never the file that a person edits, and
//! never anything but the bytes that were checked.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::LibraryError;
use crate::private_dir::{self, Closed};

/// Path of a copy with exactly `bytes`, made now or before.
pub(super) fn private_copy(cache_dir: &Path, bytes: &[u8], entry: &Path) -> Result<PathBuf, LibraryError> {
    let hash: String = hmac_sha256::Hash::hash(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let root = cache_dir.join("native");
    let directory = root.join(hash);
    let failed = |source| LibraryError::Copy { directory: directory.clone(), source };
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
    let written = write_new(&partial, bytes).and_then(|()| fs::rename(&partial, &copy));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written.map_err(failed)?;
    Ok(copy)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Refuses a directory in which somebody else could change a copy between check and load.
fn check_private(directory: &Path) -> Result<(), LibraryError> {
    let directory = directory.to_owned();
    match private_dir::check(&directory, Closed::ToWriters) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(LibraryError::CopiesNotPrivate { directory, why }),
        Err(source) => Err(LibraryError::Copy { directory, source }),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_copy_is_found_again_and_a_changed_one_is_made_anew() {
        let cache = tempfile::tempdir().expect("a directory");
        let first = private_copy(cache.path(), b"bytes", Path::new("/x/libp.so")).expect("a copy");
        let again = private_copy(cache.path(), b"bytes", Path::new("/y/libp.so")).expect("a copy");
        assert_eq!(first, again);
        fs::write(&first, b"evil").expect("written");
        private_copy(cache.path(), b"bytes", Path::new("libp.so")).expect("a copy");
        assert_eq!(fs::read(&first).expect("read"), b"bytes");
        let other = private_copy(cache.path(), b"other", Path::new("libp.so")).expect("a copy");
        assert_ne!(first, other);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let cache = tempfile::tempdir().expect("a directory");
        let root = cache.path().join("native");
        fs::create_dir(&root).expect("made");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).expect("set");
        let error = private_copy(cache.path(), b"bytes", Path::new("libp.so")).expect_err("refused");
        assert!(error.to_string().contains("others can write to it (mode 777)"), "{error}");
    }
}
