//! A journal's file: made and locked by its host, read by another when that one is gone.
//!
//! A header, then [`SLOTS`] slots of [`SLOT_BYTES`]; numbers as this machine has them, since no other one
//! reads it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::map::{FILE_BYTES, LEASES_AT, Map, NAME_AT, NAME_BYTES_AT, Slot, USED_AT};
use super::{CLOSED, Doing, Suspect};
use crate::private_dir;
use crate::state_file::{new_file, unique};

/// Begins every file; the digit is the version of the format. What follows is the size of a word, since two
/// hosts of one machine may differ in that.
const MAGIC: [u8; 8] = *b"jf-jrnl1";

/// A page of its own.
pub(super) const HEADER_BYTES: usize = 4096;
const BOOT_AT: usize = 16;
const BOOT_BYTES: usize = 64;
const PROCESS_AT: usize = BOOT_AT + BOOT_BYTES;

/// Plugins that are loaded or generations that are called at once. Those beyond are counted in private
/// memory. The file has 68 KiB.
pub(super) const SLOTS: usize = 512;
pub(super) const SLOT_BYTES: usize = 128;
/// The longest name that a plugin may have.
pub(super) const NAME_BYTES: usize = 64;

/// Ends the name of a journal.
const JOURNAL: &str = "journal";
/// Ends the name of one that is not locked yet.
const PARTIAL: &str = "partial";

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Free,
    Loading,
    Calling,
}

impl Use {
    pub(super) const fn number(self) -> u32 {
        match self {
            Use::Free => 0,
            Use::Loading => 1,
            Use::Calling => 2,
        }
    }
}

/// The journal of this host.
#[derive(Debug)]
pub(super) struct Own {
    path: PathBuf,
    map: Arc<Map>,
    /// Holds the lock.
    _locked: File,
}

impl Own {
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        private_dir::make(directory)?;
        let name = format!("{:016x}", unique());
        let partial = directory.join(format!("{name}.{PARTIAL}"));
        let path = directory.join(format!("{name}.{JOURNAL}"));
        let made = new_file(&partial).and_then(|mut file| {
            // Locked before it has its name: until then nobody takes it for that of a dead host.
            file.try_lock()?;
            // Written whole, so that each page has its place on the disk.
            file.write_all(&header())?;
            file.write_all(&[0; SLOTS * SLOT_BYTES])?;
            let map = Map::of(&file)?;
            fs::rename(&partial, &path)?;
            Ok(Self { path, map, _locked: file })
        });
        if made.is_err() {
            let _ = fs::remove_file(&partial);
        }
        made
    }

    pub(super) fn slot(&self, plugin: &str, used: Use) -> Option<Slot> {
        let slot = self.map.take(plugin, used);
        if slot.is_none() {
            tracing::debug!(target: "jackfield::state", plugin, "the journal has no room for it");
        }
        slot
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Before the lock is given up, which the file does when it is closed.
        let _ = fs::remove_file(&self.path);
    }
}

fn header() -> Vec<u8> {
    let mut header = vec![0; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(&MAGIC);
    header[MAGIC.len()] = size_of::<usize>() as u8;
    header[BOOT_AT..PROCESS_AT].copy_from_slice(&boot());
    header[PROCESS_AT..PROCESS_AT + 4].copy_from_slice(&std::process::id().to_ne_bytes());
    header
}

/// What names the time since the machine was started. Empty where the system has no such name: there, a file
/// that outlived a power loss is taken for one of the present boot.
fn boot() -> [u8; BOOT_BYTES] {
    let mut boot = [0; BOOT_BYTES];
    let id = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.iter_mut().zip(id).for_each(|(to, from)| *to = from);
    boot
}

/// The suspects of all hosts that died, whose files are removed.
pub(super) fn suspects(directory: &Path) -> Vec<Suspect> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let is = |extension: &str| path.extension().is_some_and(|there| there == extension);
        let read = match () {
            () if is(JOURNAL) => of_dead_host(&path),
            // Of a host that died before it had one.
            () if is(PARTIAL) => given_up(&path).map(|()| Vec::new()),
            () => continue,
        };
        match read {
            Ok(suspects) => found.extend(suspects),
            Err(error) => {
                let path = path.display();
                tracing::warn!(target: "jackfield::state", "the journal `{path}` is passed over: {error}");
            }
        }
    }
    found.sort_by(|a, b| a.plugin.cmp(&b.plugin));
    found
}

/// The suspects of one file, if its host is gone.
fn of_dead_host(path: &Path) -> io::Result<Vec<Suspect>> {
    let Some(file) = unlocked(path)? else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let read = (&file).take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes);
    // It goes whatever is in it: what cannot be read now cannot be read the next time either.
    fs::remove_file(path)?;
    read?;
    read_slots(&bytes)
}

/// Removes a file that was never finished. One that is being made just now is locked in the next moment,
/// and its host is without a journal if we are quicker: rare, and no more than a loss of evidence.
fn given_up(path: &Path) -> io::Result<()> {
    match unlocked(path)? {
        Some(file) if file.metadata()?.modified()?.elapsed().is_ok_and(|age| age.as_secs() > 60) => {
            fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

/// The file, with a lock of ours; none if its host lives, or another host has just read it.
fn unlocked(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock() {
        // Opened before and locked after another host removed it.
        Ok(()) if file.metadata()?.nlink() == 0 => Ok(None),
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read_slots(bytes: &[u8]) -> io::Result<Vec<Suspect>> {
    let wrong = |what: &str| Err(io::Error::other(what.to_owned()));
    if bytes.len() != FILE_BYTES {
        return wrong("it has another length");
    }
    let ours = header();
    if bytes[..BOOT_AT] != ours[..BOOT_AT] {
        return wrong("it has another format");
    }
    if bytes[BOOT_AT..PROCESS_AT] != ours[BOOT_AT..PROCESS_AT] {
        // Nobody is to blame for what ended every process.
        return Ok(Vec::new());
    }
    let host = word32(bytes, PROCESS_AT);
    let mut suspects = Vec::new();
    for slot in bytes[HEADER_BYTES..].chunks_exact(SLOT_BYTES) {
        let used = word32(slot, USED_AT);
        let calls = word(slot, LEASES_AT) & !CLOSED;
        let doing = match () {
            () if used == Use::Loading.number() => Doing::Loading,
            () if used == Use::Calling.number() && calls > 0 => Doing::Calling(calls),
            () => continue,
        };
        let length = usize::try_from(word32(slot, NAME_BYTES_AT)).unwrap_or(usize::MAX).min(NAME_BYTES);
        let name = str::from_utf8(&slot[NAME_AT..NAME_AT + length]).unwrap_or_default();
        // Anything else was not written by us.
        if crate::manifest::is_plugin_name(name) {
            suspects.push(Suspect { plugin: name.to_owned(), doing, host });
        }
    }
    Ok(suspects)
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

fn word(bytes: &[u8], at: usize) -> usize {
    let mut word = [0; size_of::<usize>()];
    word.copy_from_slice(&bytes[at..at + size_of::<usize>()]);
    usize::from_ne_bytes(word)
}
