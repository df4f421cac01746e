//! Discovery: which plugins lie in the directories of a host. Reads names and manifests, starts nothing.
//!
//! In a plugin directory, a subdirectory with a `plugin.toml` or `plugin.json` is a plugin, and so is
//! a manifest that lies in the directory itself. A file without a manifest is a plugin when it is
//! called like a library of this platform (`native`), is called `*.wasm` (`wasm`, executable or not)
//! or is executable (`process`); it is called after the file. Everything else is no plugin, hidden
//! files never are.
//!
//! Of plugins with one name, the one given by path wins, then the one in the earlier directory, then
//! the higher version, then the path that sorts first; the others are reported as shadowed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::error::{FileError, LoadError, Refused};
use crate::manifest::{LibraryName, Manifest, is_plugin_name, is_wasm};
use crate::regular_file;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    /// The plugins, sorted by name; no two have the same.
    pub(crate) found: Vec<Found>,
    /// What wanted to be a plugin and is none, sorted by name and path.
    pub(crate) refused: Vec<Refused>,
    /// Plugins whose name another one has taken, sorted by name, the strongest first.
    pub(crate) shadowed: Vec<Shadowed>,
}

/// A plugin, found and not yet loaded.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// What is known of it; for a bare file its name, entry and mechanism.
    pub(crate) manifest: Manifest,
    pub(crate) source: Source,
}

/// Where a plugin was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A manifest.
    Manifest(PathBuf),
    /// A file without one.
    Bare(PathBuf),
}

impl Source {
    /// The manifest, or the file without one.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Source::Manifest(path) | Source::Bare(path) => path,
        }
    }
}

/// A plugin that is not loaded, because another one of the same name comes before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// The name both have.
    pub name: String,
    /// The manifest or file of the one that is not loaded.
    pub path: PathBuf,
    /// The manifest or file of the one that is.
    pub by: PathBuf,
}

/// Looks through the plugin directories `dirs`, and at the paths in `explicit`, each a library, a
/// program, a WebAssembly file, a manifest or a directory with one.
pub(crate) fn discover(dirs: &[PathBuf], explicit: &[PathBuf]) -> Discovery {
    let mut search = Search::default();
    for path in explicit {
        search.rank += 1;
        search.note(path, look_at(path).unwrap_or_else(|| Err(FileError::NoPlugin.into())));
    }
    for dir in dirs {
        search.rank += 1;
        search.directory(dir);
    }
    search.finish()
}

/// The directories in a plugin directory that are a plugin's, or may become one.
#[cfg(feature = "watch")]
pub(crate) fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !is_hidden(path)).collect()
}

#[derive(Debug, Default)]
struct Search {
    candidates: Vec<(usize, Found)>,
    refused: Vec<Refused>,
    /// Position of the directory or path that is being looked at: a lower one wins.
    rank: usize,
    /// Manifests, bare files, and the entries of manifests, symbolic links resolved. One that is met
    /// again is the same plugin, and not one that shadows itself.
    seen: BTreeSet<PathBuf>,
}

impl Search {
    fn directory(&mut self, dir: &Path) {
        let listed = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut paths: Vec<PathBuf> = match listed {
            Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
            Err(source) => return self.refuse(dir, FileError::Unreadable { source }.into()),
        };
        // Files last: by then it is known which of them belong to a manifest.
        paths.sort_by_cached_key(|path| (!path.is_dir() && !is_manifest(path), path.clone()));
        let manifests = paths.iter().filter(|path| is_manifest(path)).count();
        if manifests > 1 {
            self.refuse(dir, FileError::TwoManifests.into());
            paths.retain(|path| !is_manifest(path));
        }
        for path in paths {
            if let Some(found) = look_at(&path).filter(|_| !is_hidden(&path)) {
                self.note(&path, found);
            }
        }
    }

    fn note(&mut self, path: &Path, found: Result<Found, LoadError>) {
        let found = match found {
            Ok(found) => found,
            Err(reason) => return self.refuse(path, reason),
        };
        let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if self.seen.insert(resolved(found.source.path())) {
            self.seen.insert(resolved(&found.manifest.entry));
            self.candidates.push((self.rank, found));
        }
    }

    fn refuse(&mut self, path: &Path, reason: LoadError) {
        self.refused.push(Refused { name: name_of(path), path: path.to_owned(), reason });
    }

    fn finish(mut self) -> Discovery {
        self.candidates.sort_by(|(rank, a), (other, b)| {
            let key = |found: &Found| Reverse(found.manifest.version.clone());
            (rank, key(a), &a.source).cmp(&(other, key(b), &b.source))
        });
        let mut winners: BTreeMap<String, Found> = BTreeMap::new();
        let mut shadowed = Vec::new();
        for (_, found) in self.candidates {
            let name = found.manifest.name.clone();
            match winners.get(&name) {
                Some(winner) => {
                    let [path, by] = [&found, winner].map(|found| found.source.path().to_owned());
                    shadowed.push(Shadowed { name, path, by });
                }
                None => {
                    winners.insert(name, found);
                }
            }
        }
        shadowed.sort_by(|a, b| a.name.cmp(&b.name));
        self.refused.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
        Discovery { found: winners.into_values().collect(), refused: self.refused, shadowed }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "plugin.toml" || name == "plugin.json")
}

/// The plugin at a path, the reason why it is none, or `None` when it does not even look like one.
pub(crate) fn look_at(path: &Path) -> Option<Result<Found, LoadError>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(source) => return Some(Err(FileError::Unreadable { source }.into())),
    };
    if metadata.is_dir() {
        let [toml, json] = ["plugin.toml", "plugin.json"].map(|name| path.join(name));
        match (toml.try_exists(), json.try_exists()) {
            (Err(source), _) | (_, Err(source)) => Some(Err(FileError::Unreadable { source }.into())),
            (Ok(true), Ok(true)) => Some(Err(FileError::TwoManifests.into())),
            (Ok(true), Ok(false)) => Some(described(toml)),
            (Ok(false), Ok(true)) => Some(described(json)),
            (Ok(false), Ok(false)) => None,
        }
    } else if is_manifest(path) {
        Some(described(path.to_owned()))
    } else if metadata.is_file() {
        match bare_name(path, &metadata) {
            Ok(name) => name.map(|name| bare(name, path)),
            Err(reason) => Some(Err(reason.into())),
        }
    } else {
        None
    }
}

fn described(file: PathBuf) -> Result<Found, LoadError> {
    let manifest = Manifest::read(&file)?;
    Ok(Found { manifest, source: Source::Manifest(file) })
}

fn bare(name: String, path: &Path) -> Result<Found, LoadError> {
    if !is_plugin_name(&name) {
        return Err(FileError::Name { name }.into());
    }
    Ok(Found { manifest: Manifest::bare(name, path), source: Source::Bare(path.to_owned()) })
}

/// The name of a file or directory as that of a plugin: `libResize_fast.so` is `resize-fast`.
fn name_of(path: &Path) -> String {
    let stem = match LibraryName::of(path) {
        Some(LibraryName { stem, .. }) => {
            stem.strip_prefix("lib").filter(|rest| !rest.is_empty()).unwrap_or(stem).into()
        }
        None if is_manifest(path) => path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy(),
        None => path.file_stem().unwrap_or_default().to_string_lossy(),
    };
    stem.to_lowercase().replace('_', "-")
}

/// What a file without a manifest is called, if it is a plugin.
fn bare_name(path: &Path, metadata: &fs::Metadata) -> Result<Option<String>, FileError> {
    if let Some(LibraryName { extension, system, .. }) = LibraryName::of(path) {
        if extension != std::env::consts::DLL_EXTENSION {
            let here = std::env::consts::OS;
            return Err(FileError::OtherPlatform { extension, system, here });
        }
        return Ok(Some(name_of(path)));
    }
    if is_wasm(path) || is_executable(path, metadata) {
        return Ok(Some(name_of(path)));
    }
    // What cannot be read and cannot be executed is somebody else's.
    match begins_like_script(path).unwrap_or(false) {
        true => Err(FileError::NotExecutable),
        false => Ok(None),
    }
}

#[cfg(unix)]
fn is_executable(_: &Path, metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(path: &Path, _: &fs::Metadata) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("exe"))
}

fn begins_like_script(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    regular_file::open(path)?.take(2).read_to_end(&mut start)?;
    Ok(start == b"#!")
}

// Named by `/`, and executable by permission.
#[cfg(all(test, unix))]
mod tests;
