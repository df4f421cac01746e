//! Trust: whether what lies in a plugin's place may be loaded.
//!
//! One way for every mechanism, and for the first load, restart and reload alike. Order: who can write there and
//! where links lead (`exposed`); the entry is read once; its hash is compared with the manifest's pin and with
//! `plugins.lock` (`lock`), its signature verified (`signature`). The bytes that passed are handed on, and they are
//! what is loaded: a file that is replaced after the check is not seen any more. Where nothing asks for the bytes,
//! they are not read here.
//!
//! Not here: what a manifest says (`manifest.rs`), private copies (`private_copy.rs`), which plugins there are.

mod error;
mod exposed;
mod lock;
mod signature;

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::manifest::{Exposure, Manifest, MechanismKind, Signatures};
use crate::mechanism::Checked;
use crate::private_copy::{Kind, hex, private_copy};
use crate::regular_file;

pub use error::TrustError;
pub use lock::{LockedPlugin, PluginsLock};

use exposed::Place;

/// What vouches for the bytes that were loaded of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Trusted {
    /// Its manifest says their SHA-256.
    pub pinned: bool,
    /// `plugins.lock` says their SHA-256 and that of the manifest, and drift is refused.
    pub locked: bool,
    /// The number of the trusted key that signed them, as minisign writes it.
    pub signed_by: Option<String>,
    /// What is not as it should be, and was let pass.
    pub let_pass: Vec<String>,
}

/// `pinned / locked / signed by 1234567890ABCDEF`.
impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = self.signed_by.as_ref().map(|key| format!("signed by {key}"));
        let said = [self.pinned.then(|| "pinned".to_owned()), self.locked.then(|| "locked".to_owned()), signed];
        let said: Vec<_> = said.into_iter().flatten().collect();
        match said.is_empty() {
            true => f.write_str("nothing vouches for it"),
            false => f.write_str(&said.join(" / ")),
        }
    }
}

/// What a host asks of a plugin before it loads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    pub(crate) locked: bool,
    pub(crate) signatures: Signatures,
    pub(crate) trusted_keys: Option<PathBuf>,
    pub(crate) allow: Vec<Exposure>,
    /// Where plugins are looked for, as the host was told.
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) paths: Vec<PathBuf>,
}

/// A plugin that may be loaded.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// What to load in place of the entry; none where nothing asks for its bytes.
    pub(crate) checked: Option<Checked>,
    /// Its SHA-256, if it was read.
    pub(crate) sha256: Option<String>,
    pub(crate) trusted: Trusted,
}

impl Trust {
    /// Whether the bytes of a plugin count, and not only who can write them. Then there is something to read.
    pub(crate) fn asks_for_bytes(&self, manifest: &Manifest) -> bool {
        manifest.sha256.is_some() || self.locked || self.signatures != Signatures::Off
    }

    /// Whether a plugin may be loaded, and what of it. `bytes_max` bounds what is read. Blocks.
    pub(crate) fn admit(
        &self,
        manifest: &Manifest,
        source: &Path,
        cache_dir: &Path,
        bytes_max: u64,
    ) -> Result<Admitted, TrustError> {
        let mut admitted = Admitted::default();
        let place = Place::of(&self.dirs, &self.paths, source);
        place.check(source, &manifest.entry, &self.allow, &mut admitted.trusted.let_pass)?;
        if !self.asks_for_bytes(manifest) {
            return Ok(admitted);
        }
        if manifest.grpc.reattach.is_some() {
            return Err(TrustError::RunsAlready);
        }
        let bytes = read(&manifest.entry, bytes_max)?;
        let sha256 = hex(&Sha256::digest(&bytes).into());
        if let Some(pinned) = manifest.sha256.as_ref().map(hex) {
            if pinned != sha256 {
                return Err(TrustError::Pinned { path: manifest.entry.clone(), pinned, found: sha256 });
            }
            admitted.trusted.pinned = true;
        }
        if self.locked {
            lock::compare(&place.locked_in, manifest, source, &sha256)?;
            admitted.trusted.locked = true;
        }
        match (self.signatures, signature::verify(&bytes, &manifest.entry, self.signatures, self.keys())) {
            (Signatures::Off, _) => {}
            (_, Ok(key)) => admitted.trusted.signed_by = Some(key),
            (Signatures::Warn, Err(error)) => {
                let why = error::in_full(&error);
                tracing::warn!(target: "jackfield::trust", plugin = manifest.name, "{why}");
                admitted.trusted.let_pass.push(why);
            }
            (Signatures::Require, Err(error)) => return Err(error),
        }
        admitted.checked = Some(match manifest.mechanism {
            MechanismKind::Process | MechanismKind::Grpc => {
                Checked::Copy(private_copy(cache_dir, Kind::Program, &bytes, &manifest.entry)?)
            }
            _ => Checked::Bytes(bytes),
        });
        admitted.sha256 = Some(sha256);
        Ok(admitted)
    }

    fn keys(&self) -> Option<(&Path, bool)> {
        self.trusted_keys.as_deref().map(|file| (file, self.allow.contains(&Exposure::Writable)))
    }

    /// What is in a lock and was not found. `found`: names and sources of what was.
    pub(crate) fn missing(&self, found: &[(&str, &Path)]) -> Vec<(String, PathBuf, TrustError)> {
        let mut missing = Vec::new();
        for dir in self.dirs.iter().filter(|_| self.locked) {
            // One that cannot be read refuses each plugin by itself.
            let Ok(Some(lock)) = PluginsLock::read(dir) else { continue };
            for locked in lock.plugins {
                let is_it = |(name, source): &(&str, &Path)| *name == locked.name && source.starts_with(dir);
                if !found.iter().any(is_it) {
                    let file = dir.join(PluginsLock::FILE);
                    missing.push((locked.name.clone(), file.clone(), lock::missing(dir, file, locked)));
                }
            }
        }
        missing
    }

    /// Why the place of a plugin is refused, if it is.
    pub(crate) fn misplaced(&self, source: &Path, entry: &Path) -> Option<String> {
        let place = Place::of(&self.dirs, &self.paths, source);
        let refused = place.check(source, entry, &self.allow, &mut Vec::new()).err();
        refused.map(|error| error::in_full(&error))
    }

    /// What counts for a plugin beside what is in its files and where they lie, as one number: another one says that
    /// it may be loaded now that could not be before, or the reverse.
    pub(crate) fn vouched(&self, name: &str, source: &Path, entry: &Path) -> [u8; 32] {
        let mut hash = Sha256::new();
        if self.locked {
            let place = Place::of(&self.dirs, &self.paths, source);
            let lock = PluginsLock::read(&place.locked_in).ok().flatten();
            let locked = lock.and_then(|lock| lock.plugins.into_iter().find(|locked| locked.name == name));
            hash.update(format!("{locked:?}"));
        }
        if self.signatures != Signatures::Off {
            let read = |file: &Path| regular_file::read(file, signature::BYTES_MAX).unwrap_or_default();
            hash.update(read(&signature::beside(entry)));
            hash.update(self.trusted_keys.as_deref().map(read).unwrap_or_default());
        }
        hash.finalize().into()
    }
}

/// Reads a file, once.
fn read(path: &Path, bytes_max: u64) -> Result<Arc<[u8]>, TrustError> {
    let failed = |source| TrustError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = regular_file::open(path).map_err(failed)?;
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(TrustError::TooLong { path: path.to_owned(), bytes_max }),
        false => Ok(bytes.into()),
    }
}

#[cfg(all(test, unix))]
mod tests;
