//! `plugins.lock`: which plugins of a directory are accepted, by the hashes of their entries and manifests.
//!
//! It lies beside the plugins and is for version control: what changes it is a person who has looked. Both hashes
//! count, since a manifest says with which arguments, variables and grants an entry runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::TrustError;
use super::error::quoted;
use crate::manifest::Manifest;
use crate::private_copy::hex;
use crate::regular_file;

/// The format of the file.
const FORMAT: u32 = 1;

/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// The plugins of one directory, as a person has accepted them: `plugins.lock`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let plugins = tempfile::tempdir()?;
/// std::fs::write(plugins.path().join("resize.wasm"), "(not yet)")?;
/// let (lock, refused) = jackfield::PluginsLock::of(plugins.path())?;
/// assert_eq!((lock.plugins.len(), refused.len()), (1, 0));
/// lock.write(plugins.path())?;
/// assert_eq!(jackfield::PluginsLock::read(plugins.path())?, Some(lock));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginsLock {
    /// The plugins, sorted by name.
    pub plugins: Vec<LockedPlugin>,
}

/// A plugin as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LockedPlugin {
    /// Its name.
    pub name: String,
    /// Its version, if its manifest says one. For people.
    pub version: Option<String>,
    /// How the host reaches it. For people: the manifest says it.
    pub mechanism: String,
    /// The entry, from the directory of the lock.
    pub entry: PathBuf,
    /// SHA-256 of the entry, in hexadecimal digits.
    pub sha256: String,
    /// SHA-256 of the manifest. None for a file without one.
    pub manifest_sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    #[serde(default)]
    plugin: Vec<LockedPlugin>,
}

impl LockedPlugin {
    /// The plugin with this manifest, in `dir`. Reads its entry.
    pub(crate) fn of(dir: &Path, manifest: &Manifest) -> io::Result<Self> {
        let entry = manifest.entry.strip_prefix(dir).unwrap_or(&manifest.entry).to_owned();
        Ok(Self {
            name: manifest.name.clone(),
            version: manifest.version.as_ref().map(ToString::to_string),
            mechanism: manifest.mechanism.as_str().to_owned(),
            entry,
            sha256: hex(&Sha256::digest(&fs::read(&manifest.entry)?).into()),
            manifest_sha256: manifest.own_sha256.as_ref().map(hex),
        })
    }

    fn text(&self) -> String {
        // A string of JSON is one of TOML.
        let string = |text: &str| serde_json::Value::from(text).to_string();
        let line = |key: &str, value: Option<&str>| value.map(|value| format!("{key} = {}\n", string(value)));
        let entry = self.entry.to_string_lossy();
        let lines = [
            line("name", Some(&self.name)),
            line("version", self.version.as_deref()),
            line("mechanism", Some(&self.mechanism)),
            line("entry", Some(&entry)),
            line("sha256", Some(&self.sha256)),
            line("manifest_sha256", self.manifest_sha256.as_deref()),
        ];
        format!("\n[[plugin]]\n{}", lines.into_iter().flatten().collect::<String>())
    }
}

impl PluginsLock {
    /// The name of the file in a plugin directory.
    pub const FILE: &str = "plugins.lock";

    /// Reads that of a plugin directory. None: there is none.
    pub fn read(dir: &Path) -> Result<Option<Self>, TrustError> {
        let lock = dir.join(Self::FILE);
        let failed = |what: String| TrustError::Lock { lock: lock.clone(), what };
        let text = match regular_file::open(&lock) {
            Ok(file) => {
                io::read_to_string(io::Read::take(file, BYTES_MAX)).map_err(|error| failed(error.to_string()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        if let Some(error) = super::exposed::exposed(&lock)? {
            return Err(error);
        }
        let file: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            failed(format!("line {line}: {}", error.message().trim()))
        })?;
        match file.format {
            FORMAT => Ok(Some(Self { plugins: file.plugin })),
            other => Err(failed(format!("it has format {other}, this host knows {FORMAT}"))),
        }
    }

    /// Writes it into a plugin directory, whole or not at all. Gives the file.
    pub fn write(&self, dir: &Path) -> io::Result<PathBuf> {
        let mut text = format!("# Written by `jackfield lock`; `--locked` refuses what differs.\nformat = {FORMAT}\n");
        self.plugins.iter().for_each(|plugin| text += &plugin.text());
        let (lock, beside) = (dir.join(Self::FILE), dir.join(format!(".{}.{}", Self::FILE, std::process::id())));
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &lock));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written.map(|()| lock)
    }
}

/// Compares a plugin with the lock of its directory.
pub(super) fn compare(dir: &Path, manifest: &Manifest, source: &Path, sha256: &str) -> Result<(), TrustError> {
    let lock = dir.join(PluginsLock::FILE);
    let (plugin, accept) = (manifest.name.clone(), accept(dir));
    let Some(read) = PluginsLock::read(dir)? else { return Err(TrustError::NoLock { plugin, lock, accept }) };
    let Some(locked) = read.plugins.into_iter().find(|locked| locked.name == plugin) else {
        let (path, found) = (manifest.entry.clone(), sha256.to_owned());
        return Err(TrustError::Added { plugin, path, lock, found, accept });
    };
    let own = manifest.own_sha256.as_ref().map(hex);
    let none = || "none".to_owned();
    let (path, locked, found) = if locked.manifest_sha256 != own {
        (source, locked.manifest_sha256.unwrap_or_else(none), own.unwrap_or_else(none))
    } else if locked.sha256 != sha256 {
        (&*manifest.entry, locked.sha256, sha256.to_owned())
    } else {
        return Ok(());
    };
    Err(TrustError::Changed { plugin, path: path.to_owned(), lock, locked, found, accept })
}

/// What is said of a plugin in the lock of `dir` that is not there.
pub(super) fn missing(dir: &Path, lock: PathBuf, locked: LockedPlugin) -> TrustError {
    let LockedPlugin { name: plugin, entry, sha256: locked, .. } = locked;
    TrustError::Missing { plugin, path: dir.join(entry), lock, locked, accept: accept(dir) }
}

/// The command that accepts what lies in a plugin directory now.
fn accept(dir: &Path) -> String {
    format!("jackfield lock {}", quoted(dir))
}
