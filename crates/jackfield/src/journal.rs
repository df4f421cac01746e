//! The journal: which plugins a host was loading or calling, for the next host to read when this one died.
//!
//! A native plugin that crashes takes its host along, and nobody is left to report it. So a host has a
//! file in its state directory, locked for as long as it lives, with a slot for each plugin that is being
//! loaded or called in its process. The slots are mapped: a call's lease is counted there, at the price of
//! a counter elsewhere, and what was counted survives however the host ends, since the pages are the
//! kernel's. A host that ends well removes its file.
//!
//! A file that is there and not locked belongs to a host that died. The plugins in it are *suspects*, no
//! more: a host that was killed from outside leaves the same file. After a power loss nothing in such a
//! file can be relied on, nor was anybody to blame, so that only files of the present boot count.
//!
//! Without a state directory, without room in the file, and on Windows, the same counters are in private
//! memory, and a host that dies leaves no suspects.
//!
//! Not here: what becomes of suspects. [`Journal::open`] reads and writes files and so blocks its thread;
//! nothing else of it does, but the operating system may make the first count after it wrote a page to
//! disk wait until that is done.

#[cfg(unix)]
mod file;
#[cfg(unix)]
mod map;

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

/// A host's journal. Dropped, its file is gone: the host ended well. Slots that are still in use stay
/// usable.
#[derive(Debug)]
pub(crate) struct Journal {
    #[cfg(unix)]
    file: Option<file::Own>,
}

/// A plugin that a host was loading or calling when it died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) plugin: String,
    pub(crate) doing: Doing,
    /// Number of the host's process.
    pub(crate) host: u32,
}

/// What a host was doing with a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Loading,
    /// This many calls were under way.
    Calling(usize),
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, doing, host } = self;
        match doing {
            Doing::Loading => write!(f, "the host with process {host} died while it loaded `{plugin}`"),
            Doing::Calling(1) => write!(f, "the host with process {host} died during a call of `{plugin}`"),
            Doing::Calling(calls) => write!(f, "the host with process {host} died during {calls} calls of `{plugin}`"),
        }
    }
}

/// The bit of a counter that is no lease: the generation gives no more of them.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl Journal {
    /// Begins a journal in `<state_dir>/journal`, and gives the suspects of the hosts that died there since
    /// the machine was started. Each is given to one host, once.
    #[cfg(unix)]
    pub(crate) fn open(state_dir: Option<&Path>) -> (Self, Vec<Suspect>) {
        let Some(directory) = state_dir.map(|directory| directory.join("journal")) else {
            return (Self { file: None }, Vec::new());
        };
        let suspects = file::suspects(&directory);
        match file::Own::create(&directory) {
            Ok(file) => (Self { file: Some(file) }, suspects),
            Err(error) => {
                let directory = directory.display();
                tracing::warn!(target: "jackfield::state", "`{directory}` cannot hold a journal: {error}");
                (Self { file: None }, suspects)
            }
        }
    }

    /// Without mapped files of ours here, nothing is remembered.
    #[cfg(not(unix))]
    pub(crate) fn open(_: Option<&Path>) -> (Self, Vec<Suspect>) {
        (Self {}, Vec::new())
    }

    /// Notes that a plugin is being loaded into this process, until the guard is dropped. Not for a
    /// program: that dies alone.
    pub(crate) fn loading(&self, plugin: &str) -> Loading {
        let _ = plugin;
        Loading {
            #[cfg(unix)]
            _slot: self.file.as_ref().and_then(|file| file.slot(plugin, file::Use::Loading)),
        }
    }

    /// A counter of a plugin's leases, 0 at first, for one generation. `counts`: the plugin runs in this
    /// process, so that a host which dies during a call may have died of it.
    pub(crate) fn leases(&self, plugin: &str, counts: bool) -> Leases {
        #[cfg(unix)]
        if counts && let Some(slot) = self.file.as_ref().and_then(|file| file.slot(plugin, file::Use::Calling)) {
            return Leases(Counter::Mapped(slot));
        }
        let _ = (plugin, counts);
        Leases(Counter::Private(AtomicUsize::new(0)))
    }
}

/// A plugin is being loaded.
#[derive(Debug)]
#[must_use]
pub(crate) struct Loading {
    #[cfg(unix)]
    _slot: Option<map::Slot>,
}

/// The leases of a generation: a counter, wherever it is. Its top bit counts for nothing here.
#[derive(Debug)]
pub(crate) struct Leases(Counter);

#[derive(Debug)]
enum Counter {
    Private(AtomicUsize),
    #[cfg(unix)]
    Mapped(map::Slot),
}

impl Deref for Leases {
    type Target = AtomicUsize;

    #[inline]
    fn deref(&self) -> &AtomicUsize {
        match &self.0 {
            Counter::Private(leases) => leases,
            #[cfg(unix)]
            Counter::Mapped(slot) => slot.leases(),
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
