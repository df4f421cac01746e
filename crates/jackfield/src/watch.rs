//! Watching: notices that files of plugins have changed, and tells of it when they are whole.
//!
//! What the operating system reports says only when to look, and is looked for in directories, never at files: a
//! file that is replaced takes a watch on it along. What counts is what a look shows; there is one now and then in
//! any case, so that nothing is missed where nothing is reported: on network file systems, in some containers, after an
//! overflow, and outside Linux. A plugin is told of when it is still and two reads of its files agree (`watch/settle.rs`), and never while
//! a program that was seen writing one of them has not closed it (Linux).
//!
//! A plugin's files are its manifest and what that names, or the file without one. What else lies beside them may
//! change as it likes: plugins write there.
//!
//! Not here: what is done about a change (`host.rs`).

mod events;
mod places;
mod settle;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use places::Places;
pub(crate) use settle::Pace;
use settle::Settle;

/// The plugins whose files have changed and are whole again, or gone.
///
/// Of the others nothing is said: one of them may be half written at this moment, and is not to be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Settled(BTreeSet<PathBuf>);

impl Settled {
    /// Whether the plugin that was found, refused or loaded there is one of them: by its manifest, its directory, or
    /// its file without a manifest.
    pub(crate) fn concerns(&self, source: &Path) -> bool {
        let manifests = || ["plugin.toml", "plugin.json"].map(|name| source.join(name));
        self.0.contains(source) || manifests().iter().any(|manifest| self.0.contains(manifest))
    }
}

/// A watch that has begun and tells nobody yet. Changes are noticed from here on: begun before the plugins are
/// loaded, it misses none.
pub(crate) struct Beginning {
    signal: Arc<Signal>,
    places: Places,
    settle: Settle,
    pace: Pace,
}

/// Begins to watch the plugin directories `dirs` and the plugins at the paths in `explicit`.
pub(crate) fn begin(dirs: Vec<PathBuf>, explicit: Vec<PathBuf>, pace: Pace) -> Beginning {
    let signal = Arc::new(Signal::default());
    let mut places = Places::new(dirs, explicit, Arc::clone(&signal));
    let settle = Settle::new(pace, places.look(&BTreeSet::new()));
    Beginning { signal, places, settle, pace }
}

impl Beginning {
    /// Tells of changes from now on, on a thread of its own. While `on_settled` runs, changes gather.
    pub(crate) fn tell(self, on_settled: impl FnMut(&Settled) + Send + 'static) -> io::Result<Watcher> {
        let signal = Arc::clone(&self.signal);
        thread::Builder::new().name("jackfield-watch".to_owned()).spawn(move || self.run(on_settled))?;
        Ok(Watcher { signal })
    }

    fn run(mut self, mut on_settled: impl FnMut(&Settled)) {
        let mut looked = Instant::now();
        loop {
            let earliest = looked + self.pace.quiet / 4;
            let due = self.settle.due(looked).min(looked + self.places.idle(&self.pace)).max(earliest);
            let Some(Hints { written, removed, .. }) = self.signal.wait(earliest, due) else { return };
            looked = Instant::now();
            let shapes = self.places.look(&removed);
            let settled = self.settle.see(
                shapes,
                looked,
                |plugin, shape| places::is_held(plugin, shape, &written),
                places::digest,
            );
            if !settled.is_empty() && !self.signal.hints().stopped {
                on_settled(&Settled(settled));
            }
        }
    }
}

/// A watch that tells. Dropped, it tells no more; what it has begun to tell it does not take back.
#[derive(Debug)]
pub(crate) struct Watcher {
    signal: Arc<Signal>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.signal.hints().stopped = true;
        self.signal.changed.notify_all();
    }
}

/// What the operating system reports, for the thread that looks.
#[derive(Debug, Default)]
struct Signal {
    hints: Mutex<Hints>,
    changed: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Hints {
    stopped: bool,
    /// There is a reason to look.
    look: bool,
    /// Files that were written and not closed since.
    written: BTreeSet<PathBuf>,
    /// Directories that are not watched any more since the last look.
    removed: BTreeSet<PathBuf>,
}

impl Signal {
    fn hints(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `due`, or for a reason to look after `earliest`: a storm is looked at now and then. `None` at the end
    /// of the watch.
    fn wait(&self, earliest: Instant, due: Instant) -> Option<Hints> {
        let mut hints = self.hints();
        loop {
            let now = Instant::now();
            let until = if hints.look { earliest } else { due };
            if hints.stopped {
                return None;
            }
            if now >= until {
                let taken = hints.clone();
                (hints.look, hints.removed) = (false, BTreeSet::new());
                return Some(taken);
            }
            (hints, _) = self.changed.wait_timeout(hints, until - now).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A file was written, by somebody who has it open still.
    fn written(&self, file: PathBuf) {
        self.hint(|hints| _ = hints.written.insert(file));
    }

    /// Whoever wrote a file has closed it, or it is another one now.
    fn closed(&self, file: &Path) {
        self.hint(|hints| _ = hints.written.remove(file));
    }

    fn changed(&self) {
        self.hint(|_| {});
    }

    /// Nothing is reported of a directory any more: it is gone.
    fn unwatched(&self, dir: PathBuf) {
        self.hint(|hints| {
            hints.written.retain(|file| !file.starts_with(&dir));
            hints.removed.insert(dir);
        });
    }

    /// Reports were lost. Who closed his file may be among them.
    fn lost(&self) {
        self.hint(|hints| hints.written.clear());
    }

    fn hint(&self, note: impl FnOnce(&mut Hints)) {
        let mut hints = self.hints();
        note(&mut hints);
        hints.look = true;
        self.changed.notify_all();
    }
}

#[cfg(all(test, unix))]
mod tests;
