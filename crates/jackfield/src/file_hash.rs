//! SHA-256 of a plugin's file: read in a quiet moment, or when somebody must know it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

const PIECE_BYTES: usize = 256 * 1024;

/// The hash of a file as it was when this was made. A file that is another one by the time it is read has none.
#[derive(Debug, Default)]
pub(crate) struct FileHash {
    path: PathBuf,
    stamp: Option<FileStamp>,
    read: OnceLock<Option<String>>,
}

/// What tells a file from the one that lay there before.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp {
    bytes: u64,
    modified: SystemTime,
    #[cfg(unix)]
    inode: (u64, u64),
}

impl FileHash {
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), stamp: stamp(path), read: OnceLock::new() }
    }

    /// The same, of a file that somebody has read.
    pub(crate) fn already(path: &Path, hash: String) -> Self {
        Self { read: OnceLock::from(Some(hash)), ..Self::of(path) }
    }

    /// Whether `other` speaks of the same file, as it is now.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.stamp.is_some() && self.path == other.path && self.stamp == other.stamp
    }

    /// In hexadecimal, if it has been read.
    pub(crate) fn known(&self) -> Option<&str> {
        self.read.get()?.as_deref()
    }

    /// Whether there is nothing left to read.
    pub(crate) fn is_read(&self) -> bool {
        self.stamp.is_none() || self.read.get().is_some()
    }

    /// In hexadecimal, reading the file if that has not been done. Blocks for as long as that takes.
    pub(crate) fn read(&self) -> Option<&str> {
        let unchanged = || self.stamp.is_some() && stamp(&self.path) == self.stamp;
        let read = || Some(hash_of(&self.path).ok()).filter(|_| unchanged()).flatten();
        self.read.get_or_init(read).as_deref()
    }
}

fn stamp(path: &Path) -> Option<FileStamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(FileStamp {
        bytes: metadata.len(),
        modified: metadata.modified().ok()?,
        #[cfg(unix)]
        inode: {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.dev(), metadata.ino())
        },
    })
}

/// SHA-256 of a file, in hexadecimal. With the processor's own instructions where it has any: plugins are large.
pub(crate) fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_before_it_was_read_has_no_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin");
        fs::write(&path, "abc").unwrap();
        let (first, read) = (FileHash::of(&path), FileHash::of(&path));
        assert!(first.is(&read) && !first.is_read());
        assert_eq!(read.read(), Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
        fs::write(dir.path().join("new"), "abd").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!((first.read(), first.is_read()), (None, true));
        assert!(!first.is(&FileHash::of(&path)));
        // What has been read stays.
        assert_eq!(read.known(), read.read());
        assert!(!FileHash::default().is(&FileHash::default()), "no file is like no other one");
    }
}
