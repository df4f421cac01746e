//! The host: finds plugins, loads them side by side, and hands them out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jackfield_protocol::call::Described;
use jackfield_protocol::runner::Profile;
use jackfield_protocol::{Capability, Encoding};
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::call::{self, CallOptions, Client, Requirements};
use crate::discover::{Found, Shadowed, discover};
use crate::error::{GetError, LoadError, Refused, UnknownPlugin};
use crate::limits::Limits;
use crate::manifest::{Isolation, Manifest, MechanismKind};
use crate::mechanism::{About, Confine, Declared, Offered, Spec, Started, WasmSpec};
use crate::plugin::{Identity, Plugin, Shared};

/// Plugins that are started at the same time. More would only wait for each other.
const STARTS_AT_ONCE: usize = 16;

/// All plugins of an application.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let host = jackfield::Host::builder().plugin_dir("plugins").build().await?;
/// for plugin in host.plugins() {
///     println!("{}: {}", plugin.name(), plugin.info().state);
/// }
/// for refused in host.refused() {
///     eprintln!("{}: {}", refused.path.display(), refused.reason);
/// }
/// host.stop().await;
/// # Ok(())
/// # }
/// ```
///
/// [`Host::stop`] ends the plugins in order. A host that is only dropped ends them, too, but its
/// programs get no time, and calls under way end as `unavailable`. Clients may outlive it and are
/// told the same.
#[derive(Debug)]
pub struct Host {
    plugins: Vec<Plugin>,
    /// Of all plugins that were found, sorted.
    names: Vec<String>,
    refused: Vec<Refused>,
    shadowed: Vec<Shadowed>,
    encoding: Option<Encoding>,
    runtime: Option<Runtime>,
}

impl Host {
    /// Begins a host without plugins.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// The loaded plugins, sorted by name.
    pub fn plugins(&self) -> Vec<Plugin> {
        self.plugins.clone()
    }

    /// What wanted to be a plugin and was set aside, sorted by name.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Plugins that were not loaded since another one has their name, sorted by name.
    pub fn shadowed(&self) -> &[Shadowed] {
        &self.shadowed
    }

    /// The plugin of this name.
    pub fn plugin(&self, name: &str) -> Result<Plugin, UnknownPlugin> {
        match self.plugins.binary_search_by(|plugin| plugin.name().cmp(name)) {
            Ok(at) => Ok(self.plugins[at].clone()),
            Err(_) => Err(self.unknown(name)),
        }
    }

    /// The plugin of this name as the trait it offers. Interface and capabilities are checked now.
    pub fn get<I: Described + ?Sized>(&self, name: &str) -> Result<Client<I>, GetError> {
        self.select().get(name)
    }

    /// [`Host::get`] with requirements.
    pub fn select(&self) -> Select<'_> {
        Select {
            host: self,
            required: Vec::new(),
            wanted: Requirements { encoding: self.encoding, ..Requirements::default() },
        }
    }

    /// Every plugin that offers the trait's interface and can be had as it, sorted by name.
    pub fn all<I: Described + ?Sized>(&self) -> Vec<Client<I>> {
        self.plugins.iter().filter_map(|plugin| self.get(plugin.name()).ok()).collect()
    }

    /// Stops every plugin: calls under way and then the plugin itself each get `stop_grace` to end.
    pub async fn stop(&self) {
        let Some(handle) = self.plugins.first().map(|plugin| plugin.shared.runtime.clone()) else { return };
        let mut stops = JoinSet::new();
        for plugin in &self.plugins {
            let shared = Arc::clone(&plugin.shared);
            stops.spawn_on(async move { shared.stop(shared.limits.stop_grace).await }, &handle);
        }
        stops.join_all().await;
    }

    /// [`Host::stop`] for a host made by [`HostBuilder::build_blocking`]. Of another host it does nothing:
    /// that one is stopped where its runtime is. Must not be called in async code.
    pub fn stop_blocking(&self) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(self.stop());
        }
    }

    fn unknown(&self, name: &str) -> UnknownPlugin {
        let refused = self.refused.iter().find(|refused| refused.name == name);
        let names = || self.names.iter().map(String::as_str);
        let hint = match (refused, jackfield_protocol::nearest(name, names())) {
            (Some(refused), _) => format!("; it was refused: {}", refused.reason),
            (None, Some(near)) if near != name => format!("; did you mean `{near}`?"),
            (None, Some(_)) => "; it was found and not started".to_owned(),
            (None, None) if self.names.is_empty() => "; there are none".to_owned(),
            (None, None) => format!("; there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        UnknownPlugin { name: name.to_owned(), hint }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.plugins.iter().for_each(|plugin| plugin.shared.abandon());
        // A runtime that is dropped waits for its tasks, which an async context forbids.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a host requires of a plugin, before it has it.
///
/// ```no_run
/// # #[jackfield::interface("demo:greeter/greeter@1.0.0", crate = jackfield)]
/// # pub trait Greeter { fn greet(&self, name: String) -> String; }
/// # fn example(host: &jackfield::Host) -> Result<(), jackfield::GetError> {
/// let greeter: jackfield::Client<dyn Greeter> = host.select().require("batch@2").get("english")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Select<'a> {
    host: &'a Host,
    required: Vec<String>,
    wanted: Requirements,
}

impl Select<'_> {
    /// Requires a capability, `name@version`, in this version or a later one.
    #[must_use]
    pub fn require(mut self, capability: impl Into<String>) -> Self {
        self.required.push(capability.into());
        self
    }

    /// Accepts that the plugin lacks this function; calling it is then `refused`.
    #[must_use]
    pub fn optional(mut self, function: impl Into<String>) -> Self {
        self.wanted.optional.push(function.into());
        self
    }

    /// How this client calls.
    #[must_use]
    pub fn options(mut self, options: CallOptions) -> Self {
        self.wanted.options = options;
        self
    }

    /// The plugin of this name as the trait it offers.
    pub fn get<I: Described + ?Sized>(mut self, name: &str) -> Result<Client<I>, GetError> {
        let required = self.required.iter().map(|text| text.parse::<Capability>());
        self.wanted.capabilities = required.collect::<Result<_, _>>()?;
        call::client(&self.host.plugin(name)?, self.wanted)
    }
}

/// Where plugins are, and what holds for all of them.
#[derive(Clone, Debug, Default)]
pub struct HostBuilder {
    dirs: Vec<PathBuf>,
    paths: Vec<PathBuf>,
    limits: Limits,
    cache_dir: Option<PathBuf>,
    encoding: Option<Encoding>,
    only: Option<String>,
    required: Vec<Capability>,
    confine: Policy,
}

impl HostBuilder {
    /// Loads the plugins in a directory. Of two with one name, the earlier directory's is loaded.
    #[must_use]
    pub fn plugin_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dirs.push(dir.into());
        self
    }

    /// Loads one plugin: a library, a program, or a directory with a manifest. It comes before those
    /// in directories.
    #[must_use]
    pub fn plugin(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// Starts this plugin and no other, as for a single call. The others are known by name.
    #[must_use]
    pub fn only(mut self, name: impl Into<String>) -> Self {
        self.only = Some(name.into());
        self
    }

    /// Requires a capability of every plugin, in this version or a later one. One that lacks it is refused
    /// before any call of it. To require it of one plugin alone, [`Select::require`].
    #[must_use]
    pub fn require(mut self, capability: Capability) -> Self {
        self.required.push(capability);
        self
    }

    /// Limits of every plugin, where its manifest has no other. Default: [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where private copies of libraries are kept; made if it is missing, readable only for us.
    /// Default: `jackfield` in the user's cache directory.
    #[must_use]
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

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

    /// Uses this encoding for values, where the plugin allows it. Default: the binary one where both
    /// sides have the same interface, JSON otherwise. For tests, and for a look at what is sent.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = Some(encoding);
        self
    }

    /// Finds and loads the plugins, side by side. A plugin that cannot be loaded is in
    /// [`Host::refused`]; it never keeps the others from being loaded.
    ///
    /// Plugins are served by the tokio runtime that this runs on, or by one of their own where there
    /// is none. The only error is that this one cannot be made.
    pub async fn build(self) -> std::io::Result<Host> {
        let (handle, runtime) = match Handle::try_current() {
            Ok(handle) => (handle, None),
            Err(_) => {
                let runtime = own_runtime()?;
                (runtime.handle().clone(), Some(runtime))
            }
        };
        let loaded = handle.spawn(self.load(handle.clone())).await;
        let mut host = loaded.map_err(std::io::Error::other)?;
        host.runtime = runtime;
        Ok(host)
    }

    /// [`HostBuilder::build`] for code that is not async: the plugins are served by a runtime of their
    /// own, and clients are used through `client.blocking()`.
    pub fn build_blocking(self) -> std::io::Result<Host> {
        let runtime = own_runtime()?;
        let handle = runtime.handle().clone();
        let mut host = runtime.block_on(self.load(handle));
        host.runtime = Some(runtime);
        Ok(host)
    }

    async fn load(self, runtime: Handle) -> Host {
        let found = discover(&self.dirs, &self.paths);
        let mut refused = found.refused;
        let cache_dir = self.cache_dir.unwrap_or_else(default_cache_dir);
        let turns = Arc::new(Semaphore::new(STARTS_AT_ONCE));
        let mut starts = JoinSet::new();
        let names = found.found.iter().map(|found| found.manifest.name.clone()).collect();
        for Found { manifest, source } in found.found {
            if self.only.as_ref().is_some_and(|only| *only != manifest.name) {
                continue;
            }
            let spec = Spec {
                name: manifest.name.clone(),
                entry: manifest.entry.clone(),
                args: manifest.args.clone(),
                env: manifest.env.clone().into_iter().collect(),
                limits: manifest.limits.apply(&self.limits),
                cache_dir: cache_dir.clone(),
                declared: Declared {
                    version: manifest.version.clone(),
                    interfaces: manifest.interfaces.clone(),
                    descriptions: manifest.descriptions.clone(),
                    capabilities: manifest.capabilities.clone(),
                },
                wasm: WasmSpec {
                    instances: manifest.instances.clone(),
                    config: manifest.config.clone(),
                    abi: manifest.abi,
                    grants: manifest.sandbox.clone(),
                },
                grpc: manifest.grpc.clone(),
                confine: self.confine.of(&manifest, source.path()),
            };
            let (turns, runtime) = (Arc::clone(&turns), runtime.clone());
            let required = self.required.clone();
            let path = source.path().to_owned();
            starts.spawn(async move {
                let _turn = turns.acquire_owned().await;
                let name = manifest.name.clone();
                let loaded = load(manifest, spec, &required, &path, &runtime).await;
                loaded.map_err(|reason| Refused { name, path, reason })
            });
        }
        let mut plugins = Vec::new();
        while let Some(loaded) = starts.join_next().await {
            match loaded {
                Ok(Ok(plugin)) => plugins.push(plugin),
                Ok(Err(reason)) => refused.push(reason),
                // Nothing in `load` panics; if it does, it is a mistake of ours, and not to be hidden.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        plugins.sort_by(|a: &Plugin, b| a.name().cmp(b.name()));
        refused.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
        Host { plugins, names, refused, shadowed: found.shadowed, encoding: self.encoding, runtime: None }
    }
}

/// What holds for the processes of all plugins.
#[derive(Clone, Debug, Default)]
struct Policy {
    profile: Profile,
    third_party: Isolation,
    first_party: Vec<String>,
    runner: Option<PathBuf>,
    cgroup: Option<PathBuf>,
}

impl Policy {
    /// How the process of one plugin is kept in bounds.
    fn of(&self, manifest: &Manifest, source: &Path) -> Confine {
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

async fn load(
    manifest: Manifest,
    spec: Spec,
    required: &[Capability],
    source: &Path,
    runtime: &Handle,
) -> Result<Plugin, LoadError> {
    let identity = Identity {
        name: spec.name.clone(),
        mechanism: manifest.mechanism,
        source: source.to_owned(),
        entry: spec.entry.clone(),
        limits: spec.limits.clone(),
    };
    let started = start(manifest.mechanism, spec, runtime).await?;
    let session = Arc::clone(&started.session);
    let believed = believe(session.about(), manifest).and_then(|about| match about.lacks(required) {
        Some((required, offered)) => Err(LoadError::Capability { required: required.clone(), offered }),
        None => Ok(about),
    });
    match believed {
        Ok(about) => {
            let shared = Shared::new(identity, runtime.clone(), started, about);
            Ok(Plugin { shared: Arc::new(shared) })
        }
        Err(reason) => {
            session.stop(true).await;
            Err(reason)
        }
    }
}

#[allow(unused_variables, unused_mut, reason = "without mechanisms nothing is started")]
async fn start(mechanism: MechanismKind, mut spec: Spec, runtime: &Handle) -> Result<Started, LoadError> {
    match mechanism {
        #[cfg(all(feature = "native", feature = "process"))]
        MechanismKind::Native if spec.confine.library => {
            let copied = runtime.spawn_blocking(move || {
                spec.entry = crate::native::copy_for_runner(&spec)?;
                Ok::<_, crate::native::LibraryError>(spec)
            });
            let spec = copied.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            Ok(crate::process::start(&spec, runtime).await?)
        }
        #[cfg(not(feature = "process"))]
        MechanismKind::Native if spec.confine.library => Err(LoadError::NotBuiltIn { mechanism: "process" }),
        #[cfg(feature = "native")]
        MechanismKind::Native => {
            let loaded = runtime.spawn_blocking(move || crate::native::start(&spec)).await;
            Ok(loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
        }
        #[cfg(feature = "process")]
        MechanismKind::Process => Ok(crate::process::start(&spec, runtime).await?),
        #[cfg(feature = "grpc")]
        MechanismKind::Grpc => Ok(crate::grpc::start(&spec, runtime).await?),
        #[cfg(feature = "wasm")]
        MechanismKind::Wasm => Ok(crate::wasm::start(spec, runtime).await?),
        #[allow(unreachable_patterns)]
        other => Err(LoadError::NotBuiltIn { mechanism: other.as_str() }),
    }
}

/// Compares what a plugin says with what its manifest says, and adds the descriptions of the latter.
fn believe(about: &About, manifest: Manifest) -> Result<About, LoadError> {
    let mut about = about.clone();
    if about.interfaces.is_empty() && about.services.is_empty() {
        return Err(LoadError::NoInterface);
    }
    let twice =
        |(at, offered): &(usize, &Offered)| about.interfaces[..*at].iter().any(|other| other.id.same_name(&offered.id));
    if let Some((_, offered)) = about.interfaces.iter().enumerate().find(twice) {
        // A method is called by the interface's name, which would not tell the two apart.
        return Err(LoadError::OfferedTwice { interface: offered.id.unversioned() });
    }
    let differs = |what, manifest: String, plugin: String| Err(LoadError::NotAsDeclared { what, manifest, plugin });
    if let Some(version) = &manifest.version
        && about.version != version.to_string()
    {
        return differs("version", version.to_string(), about.version);
    }
    if let Some(missing) =
        manifest.interfaces.iter().find(|id| !about.interfaces.iter().any(|offered| offered.id == **id))
    {
        let offered: Vec<_> = about.interfaces.iter().map(|offered| offered.id.to_string()).collect();
        return differs("interface", missing.to_string(), offered.join(", "));
    }
    if let Some(missing) = manifest.capabilities.iter().find(|capability| !about.capabilities.contains(capability)) {
        let offered: Vec<_> = about.capabilities.iter().map(ToString::to_string).collect();
        return differs("capability", missing.to_string(), offered.join(", "));
    }
    for description in manifest.descriptions {
        let undescribed = |offered: &&mut Offered| offered.id == description.id && offered.description.is_none();
        if let Some(offered) = about.interfaces.iter_mut().find(undescribed) {
            offered.description = Some(Arc::new(description));
        }
    }
    Ok(about)
}

fn own_runtime() -> std::io::Result<Runtime> {
    runtime::Builder::new_multi_thread().worker_threads(1).thread_name("jackfield").enable_all().build()
}

/// `jackfield` in the user's cache directory, or, for a user without one, in the temporary directory.
fn default_cache_dir() -> PathBuf {
    let set = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = match std::env::consts::OS {
        "windows" => set("LOCALAPPDATA"),
        "macos" => set("HOME").map(|home| home.join("Library/Caches")),
        _ => set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache"))),
    };
    base.unwrap_or_else(std::env::temp_dir).join("jackfield")
}
