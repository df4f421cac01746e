//! What a host says of trust, and what its locks say of plugins that are not there.

use std::path::{Path, PathBuf};

use super::HostBuilder;
use crate::discover::{Discovery, discover};
use crate::error::{FileError, Refused};
use crate::manifest::{Exposure, Signatures};
use crate::trust::{LockedPlugin, PluginsLock, Trust};

impl HostBuilder {
    /// Loads only plugins that are in the `plugins.lock` of their directory, with the entry and the manifest that are
    /// there ([`PluginsLock`]). One that differs, was added or is missing is refused, with both hashes. Default: no.
    #[must_use]
    pub fn locked(mut self, locked: bool) -> Self {
        self.trust.locked = locked;
        self
    }

    /// What a signature by minisign, `<entry>.minisig`, is needed for. Default: [`Signatures::Off`].
    #[must_use]
    pub fn signatures(mut self, signatures: Signatures) -> Self {
        self.trust.signatures = signatures;
        self
    }

    /// A file with the public keys of minisign whose signatures count, one a line; read at each load. Default: none,
    /// and so no signature holds.
    #[must_use]
    pub fn trusted_keys(mut self, file: impl Into<PathBuf>) -> Self {
        self.trust.trusted_keys = Some(file.into());
        self
    }

    /// Lets pass what a plugin is refused for otherwise; [`Trusted::let_pass`](crate::Trusted::let_pass) says what
    /// it was. Default: nothing.
    #[must_use]
    pub fn allow(mut self, exposure: Exposure) -> Self {
        self.trust.allow.push(exposure);
        self
    }
}

impl PluginsLock {
    /// The plugins that lie in a plugin directory now, and what wanted to be one and is none. Reads their entries,
    /// starts nothing. An error is that the directory cannot be read.
    pub fn of(dir: &Path) -> std::io::Result<(Self, Vec<Refused>)> {
        std::fs::read_dir(dir)?;
        let Discovery { found, mut refused, .. } = discover(&[dir.to_owned()], &[]);
        let mut lock = Self::default();
        for found in found {
            match LockedPlugin::of(dir, &found.manifest) {
                Ok(locked) => lock.plugins.push(locked),
                Err(source) => refused.push(Refused {
                    name: found.manifest.name,
                    path: found.manifest.entry,
                    reason: FileError::Unreadable { source }.into(),
                }),
            }
        }
        Ok((lock, refused))
    }
}

/// Which plugins there are, and among the refused those that are locked and missing.
pub(super) fn look(trust: &Trust) -> Discovery {
    let mut looked = discover(&trust.dirs, &trust.paths);
    let found = looked.found.iter().map(|found| (&*found.manifest.name, found.source.path()));
    let shadowed = looked.shadowed.iter().map(|shadowed| (&*shadowed.name, &*shadowed.path));
    let refused = looked.refused.iter().map(|refused| (&*refused.name, &*refused.path));
    let seen: Vec<_> = found.chain(shadowed).chain(refused).collect();
    for (name, path, reason) in trust.missing(&seen) {
        looked.refused.push(Refused { name, path, reason: reason.into() });
    }
    looked.refused.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    looked
}
