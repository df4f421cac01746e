//! The state directory of a host, looked at while no host runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use crate::crash::{CrashReport, Crashes};
use crate::quarantine::{Quarantine, Quarantined};

/// What hosts with a [`HostBuilder::state_dir`] left there.
///
/// A host that runs sees at once what is lifted here, and does not start the plugin for it:
/// [`Host::lift_quarantine`] does.
///
/// [`HostBuilder::state_dir`]: struct.HostBuilder.html#method.state_dir
/// [`Host::lift_quarantine`]: struct.Host.html#method.lift_quarantine
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// for report in jackfield::StateDir::open("/var/lib/jackfield")?.crashes() {
///     println!("{report}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// An error if there is no such directory: a path that is misspelt has no crashes either.
    pub fn open(directory: impl AsRef<Path>) -> io::Result<Self> {
        let directory = directory.as_ref();
        fs::read_dir(directory).map(|_| Self(directory.to_owned()))
    }

    /// How plugins died, the oldest first.
    pub fn crashes(&self) -> Vec<Arc<CrashReport>> {
        Crashes::open(Some(&self.0)).list()
    }

    /// What is quarantined, sorted by name.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        Quarantine::open(Some(&self.0)).list()
    }

    /// Lets a plugin back; whether it was quarantined.
    pub fn lift_quarantine(&self, plugin: &str) -> bool {
        Quarantine::open(Some(&self.0)).lift(plugin)
    }
}
