//! Where plugins lie, and what a look at them shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::Signal;
use super::events::Events;
use super::settle::{Digest, Pace, Shape, Stamp};
use crate::discover::{Discovery, directories, discover};
use crate::regular_file;
use crate::trust::PluginsLock;

/// Symbolic links that are followed on the way to one file, as on Linux.
const LINKS_MAX: usize = 40;

/// The directories that are watched.
pub(super) struct Places {
    dirs: Vec<PathBuf>,
    explicit: Vec<PathBuf>,
    /// `None` where the operating system reports nothing.
    events: Option<Events>,
    /// Which directory is watched under each path: another one may have taken its place.
    watched: BTreeMap<PathBuf, Option<Identity>>,
    /// Whether a directory is not watched that should be.
    blind: bool,
}

/// Device and inode. Unix only; elsewhere all are equal.
type Identity = [u64; 2];

impl Places {
    pub(super) fn new(dirs: Vec<PathBuf>, explicit: Vec<PathBuf>, signal: Arc<Signal>) -> Self {
        Self { dirs, explicit, events: Events::new(signal), watched: BTreeMap::new(), blind: false }
    }

    /// As where nothing is reported.
    #[cfg(test)]
    pub(super) fn close_eyes(&mut self) {
        self.events = None;
    }

    /// Time between two looks without a reason.
    pub(super) fn idle(&self, pace: &Pace) -> Duration {
        let is_blind = self.blind || self.events.is_none();
        // Looks are all there is then.
        if is_blind { (pace.idle / 4).max(pace.quiet) } else { pace.idle }
    }

    /// Looks at all plugins, and watches the directories that matter to them from then on. Gives the files of each
    /// plugin that is there, whole or not. The directories `removed` are not watched any more.
    pub(super) fn look(&mut self, removed: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Shape> {
        self.unwatch(removed.iter().cloned().collect());
        loop {
            let mut seen = Seen::default();
            seen.look(&self.dirs, &self.explicit);
            // What happened in a directory before it was watched nobody reports.
            if !self.watch(seen.places) {
                return seen.shapes;
            }
        }
    }

    fn unwatch(&mut self, dirs: Vec<PathBuf>) {
        for dir in dirs {
            self.watched.remove(&dir);
            if let Some(events) = &mut self.events {
                events.unwatch(&dir);
            }
        }
    }

    /// Watches these directories and no others. True if one was added.
    fn watch(&mut self, wanted: BTreeSet<PathBuf>) -> bool {
        let with_identity = |dir: PathBuf| (dir.clone(), identity(&dir));
        let wanted: BTreeMap<PathBuf, Option<Identity>> = wanted.into_iter().map(with_identity).collect();
        let is_wanted = |dir: &PathBuf, known: &Option<Identity>| wanted.get(dir) == Some(known);
        let gone = self.watched.iter().filter(|(dir, known)| !is_wanted(dir, known));
        let gone = gone.map(|(dir, _)| dir.clone()).collect();
        self.unwatch(gone);
        let Some(events) = &mut self.events else { return false };
        let mut added = false;
        self.blind = false;
        for (dir, identity) in wanted {
            if self.watched.contains_key(&dir) {
                continue;
            }
            match events.watch(&dir) {
                Ok(()) => {
                    self.watched.insert(dir, identity);
                    added = true;
                }
                // It may not be there; there may be no more watches for this user. Then it is looked at.
                Err(_) => self.blind = true,
            }
        }
        added
    }
}

#[derive(Default)]
struct Seen {
    shapes: BTreeMap<PathBuf, Shape>,
    places: BTreeSet<PathBuf>,
}

impl Seen {
    fn look(&mut self, dirs: &[PathBuf], explicit: &[PathBuf]) {
        let Discovery { found, refused, shadowed } = discover(dirs, explicit);
        for dir in dirs {
            self.directory(dir);
            // One without a manifest may be about to get one.
            directories(dir).iter().for_each(|dir| self.directory(dir));
        }
        for path in explicit.iter().filter(|path| path.is_dir()) {
            self.directory(path);
        }
        for found in &found {
            let source = found.source.path();
            // What vouches for it counts as its file, once it is there.
            let lock = dirs.iter().find(|dir| source.starts_with(dir)).map(|dir| dir.join(PluginsLock::FILE));
            let mut signature = found.manifest.entry.clone().into_os_string();
            signature.push(".minisig");
            let vouching: Vec<_> = lock.into_iter().chain([signature.into()]).filter(|file| file.is_file()).collect();
            let files = [source].into_iter().chain(found.manifest.files());
            self.plugin(source, files.chain(vouching.iter().map(PathBuf::as_path)), true);
        }
        for shadowed in &shadowed {
            self.plugin(&shadowed.path, [&*shadowed.path].into_iter(), true);
        }
        for refused in &refused {
            // A directory of plugins that cannot be read is none.
            if !dirs.contains(&refused.path) {
                let manifests = ["plugin.toml", "plugin.json"].map(|name| refused.path.join(name));
                let source = manifests.into_iter().find(|path| path.exists()).unwrap_or_else(|| refused.path.clone());
                self.plugin(&source, [&*source].into_iter(), false);
            }
        }
    }

    fn plugin<'a>(&mut self, source: &Path, files: impl Iterator<Item = &'a Path>, whole: bool) {
        let mut seen: Vec<(PathBuf, Option<Stamp>)> = Vec::new();
        for file in files {
            let file = self.resolve(file);
            if !seen.iter().any(|(other, _)| *other == file) {
                let stamp = fs::metadata(&file).ok().map(|metadata| stamp(&metadata));
                seen.push((file, stamp));
            }
        }
        self.shapes.insert(source.to_owned(), Shape { files: seen, whole });
    }

    /// A directory whose entries matter, by its own path.
    fn directory(&mut self, dir: &Path) {
        let dir = self.resolve(dir);
        self.places.insert(dir);
    }

    /// A file by its own path. The directory that it lies in matters, and so does each in which a link on the way to
    /// it lies: by setting that link to another one, a new version is put in place.
    fn resolve(&mut self, path: &Path) -> PathBuf {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let parts = |path: &Path| path.components().rev().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
        // From the last to the first.
        let mut left = parts(&path);
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match Path::new(&part).components().next() {
                Some(Component::ParentDir) => {
                    at.pop();
                    continue;
                }
                Some(Component::CurDir) | None => continue,
                // A root puts itself in the place of all before it.
                Some(_) => {}
            }
            let next = at.join(&part);
            match fs::read_link(&next) {
                Ok(target) if links < LINKS_MAX => {
                    links += 1;
                    self.place(&at);
                    left.extend(parts(&target));
                }
                _ => at = next,
            }
        }
        if let Some(parent) = at.parent() {
            self.place(parent);
        }
        at
    }

    fn place(&mut self, dir: &Path) {
        // What is in the root directory is the system's: watching it brings much, and nothing of ours.
        if dir.parent().is_some() {
            self.places.insert(dir.to_owned());
        }
    }
}

/// Whether somebody is at the files of a plugin: one is empty, which is how most begin, or is being written.
pub(super) fn is_held(plugin: &Path, shape: &Shape, written: &BTreeSet<PathBuf>) -> bool {
    let is_begun = |(file, stamp): &(PathBuf, Option<Stamp>)| {
        stamp.as_ref().is_some_and(|stamp| stamp.len == 0) || written.contains(file)
    };
    // Which files the manifest of a broken plugin names is not known; they lie with it.
    let beside = || plugin.parent().is_some_and(|dir| written.iter().any(|file| file.starts_with(dir)));
    shape.files.iter().any(is_begun) || (!shape.whole && beside())
}

/// Reads a plugin's files: what they contain, and where they lie, so that a link that leads to another directory is
/// another version even where the file is the same.
pub(super) fn digest(shape: &Shape) -> Option<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    for (path, stamp) in &shape.files {
        let name = path.as_os_str().as_encoded_bytes();
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        let Some(stamp) = stamp else { continue };
        hash.update(stamp.len.to_le_bytes());
        let mut file = regular_file::open(path).ok()?;
        loop {
            match file.read(&mut buffer).ok()? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
    }
    Some(hash.finalize().into())
}

#[cfg(unix)]
fn stamp(metadata: &fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;

    let node = [metadata.dev().into(), metadata.ino().into(), metadata.ctime().into(), metadata.ctime_nsec().into()];
    Stamp { len: metadata.len(), modified: metadata.modified().ok(), node }
}

#[cfg(not(unix))]
fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp { len: metadata.len(), modified: metadata.modified().ok(), node: [0; 4] }
}

#[cfg(unix)]
fn identity(dir: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;

    fs::metadata(dir).ok().map(|metadata| [metadata.dev(), metadata.ino()])
}

#[cfg(not(unix))]
fn identity(dir: &Path) -> Option<Identity> {
    fs::metadata(dir).ok().map(|_| [0; 2])
}
