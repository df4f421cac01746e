//! What a host says of the processes of its plugins: where they run, how far they are shut in, and by which
//! runner.

use std::path::{Path, PathBuf};

use jackfield_protocol::runner::Profile;
#[cfg(all(feature = "native", feature = "process"))]
use tokio::runtime::Handle;

use super::HostBuilder;
#[cfg(all(feature = "native", feature = "process"))]
use crate::error::LoadError;
use crate::manifest::{Isolation, Manifest, MechanismKind};
use crate::mechanism::Confine;
#[cfg(all(feature = "native", feature = "process"))]
use crate::mechanism::{Spec, Started};

impl HostBuilder {
    /// How far programs are shut in whose manifest has no `[sandbox]`. Default: not at all.
    ///
    /// A profile takes `jackfield-runner`; a program is refused if it is not there.
    #[must_use]
    pub fn sandbox(mut self, profile: Profile) -> Self {
        self.confine.profile = profile;
        self
    }

    /// Where native plugins run whose manifest does not say `isolation`. Default: in this process.
    ///
    /// With [`Isolation::Process`] no manifest can bring a library into this process, unless
    /// [`HostBuilder::first_party`] names the plugin: for hosts whose plugins come from elsewhere.
    #[must_use]
    pub fn third_party(mut self, isolation: Isolation) -> Self {
        self.confine.third_party = isolation;
        self
    }

    /// Loads this native plugin as its manifest says, whatever [`HostBuilder::third_party`] says of others.
    #[must_use]
    pub fn first_party(mut self, name: impl Into<String>) -> Self {
        self.confine.first_party.push(name.into());
        self
    }

    /// Where `jackfield-runner` is. Default: what the variable `JACKFIELD_RUNNER` names, else beside this
    /// program's executable. It is run only for plugins that are to be kept in bounds.
    #[must_use]
    pub fn runner(mut self, path: impl Into<PathBuf>) -> Self {
        self.confine.runner = Some(path.into());
        self
    }

    /// A directory of cgroup version 2 that is delegated to this user, without processes of its own, in which
    /// plugins get cgroups. Default: the cgroup of this process is tried, which works where it is empty.
    #[must_use]
    pub fn cgroup(mut self, directory: impl Into<PathBuf>) -> Self {
        self.confine.cgroup = Some(directory.into());
        self
    }
}

/// What holds for the processes of all plugins.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    profile: Profile,
    third_party: Isolation,
    first_party: Vec<String>,
    runner: Option<PathBuf>,
    cgroup: Option<PathBuf>,
}

impl Policy {
    /// How the process of one plugin is kept in bounds.
    pub(super) fn of(&self, manifest: &Manifest, source: &Path) -> Confine {
        let is_first = self.third_party == Isolation::None || self.first_party.contains(&manifest.name);
        let isolation = match (is_first, manifest.isolation) {
            (true, said) => said.unwrap_or_default(),
            (false, _) => Isolation::Process,
        };
        Confine {
            profile: manifest.confinement.profile.unwrap_or(self.profile),
            grants: manifest.confinement.clone(),
            best_effort: manifest.best_effort.clone(),
            library: manifest.mechanism == MechanismKind::Native && isolation == Isolation::Process,
            home: source.parent().or(manifest.entry.parent()).unwrap_or(Path::new(".")).to_owned(),
            runner: self.runner.clone(),
            cgroup: self.cgroup.clone(),
        }
    }
}

/// Starts a library in a process of its own: the copy that was checked, hosted by the runner.
#[cfg(all(feature = "native", feature = "process"))]
pub(super) async fn isolated(mut spec: Spec, runtime: &Handle) -> Result<Started, LoadError> {
    let copied = runtime.spawn_blocking(move || {
        spec.entry = crate::native::copy_for_runner(&spec)?;
        Ok::<_, crate::native::LibraryError>(spec)
    });
    let spec = copied.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    Ok(crate::process::start(&spec, runtime).await?)
}
