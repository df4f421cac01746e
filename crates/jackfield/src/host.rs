//! The host: finds plugins, loads them side by side, and hands them out.

mod loader;
mod policy;
mod trusted;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use jackfield_protocol::call::Described;
use jackfield_protocol::{Capability, Encoding};
use sha2::{Digest as _, Sha256};
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinSet;

use crate::call::{self, CallOptions, Client, Requirements};
use crate::crash::{CrashReport, Crashes};
use crate::discover::{Found, Shadowed};
use crate::error::{EnableError, GetError, LoadError, Refused, ReloadError, ReloadStep, UnknownPlugin};
use crate::event::{Event, Records};
use crate::file_hash::{FileHash, hash_of};
use crate::journal::Journal;
use crate::life::Rest;
use crate::lifecycle::Lifecycle;
use crate::limits::Limits;
use crate::log::{LIVE_LINES_MAX, LogLine};
use crate::metrics::AllMeters;
use crate::plugin::{Command, Generation, Plugin, Reloaded};
use crate::private_dir;
use crate::quarantine::{Quarantine, Quarantined};
use crate::regular_file;
use crate::reload::{self, Starter};
use crate::tap::Tap;
use crate::trust::{Trust, TrustError};
use loader::Loader;
use policy::Policy;

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
pub struct Host {
    inner: Arc<Inner>,
    runtime: Option<Runtime>,
    /// Looks for changes as long as the host is there.
    #[cfg(feature = "watch")]
    _watcher: Option<crate::watch::Watcher>,
}

/// What a host is, apart from what it runs on.
struct Inner {
    loader: Arc<Loader>,
    only: Option<String>,
    encoding: Option<Encoding>,
    registry: Mutex<Registry>,
    /// Held while the directories are looked through.
    scanning: tokio::sync::Mutex<()>,
}

/// What is known of plugins, by name.
#[derive(Default)]
struct Registry {
    plugins: BTreeMap<String, Plugin>,
    /// Of all plugins that were found, sorted.
    names: Vec<String>,
    refused: Vec<Arc<Refused>>,
    shadowed: Vec<Shadowed>,
    /// What was loaded, or refused, from which files.
    seen: BTreeMap<String, Stamp>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = self.inner.registry();
        f.debug_struct("Host")
            .field("plugins", &registry.plugins.keys())
            .field("refused", &registry.refused)
            .finish_non_exhaustive()
    }
}

/// What [`Host::rescan`] found changed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Rescanned {
    /// New plugins, and refused ones that could be loaded now.
    pub loaded: Vec<String>,
    /// Plugins whose files were others, and that were replaced.
    pub reloaded: Vec<Reloaded>,
    /// What was not loaded or not replaced, by name and with all causes.
    pub failed: Vec<(String, String)>,
    /// Plugins whose files are gone.
    pub removed: Vec<String>,
}

impl Host {
    /// Begins a host without plugins.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// The plugins, sorted by name, those among them that are stopped, failed or quarantined.
    pub fn plugins(&self) -> Vec<Plugin> {
        self.inner.registry().plugins.values().cloned().collect()
    }

    /// What wanted to be a plugin and was set aside, sorted by name.
    pub fn refused(&self) -> Vec<Arc<Refused>> {
        self.inner.registry().refused.clone()
    }

    /// Plugins that were not loaded since another one has their name, sorted by name.
    pub fn shadowed(&self) -> Vec<Shadowed> {
        self.inner.registry().shadowed.clone()
    }

    /// The plugin of this name.
    pub fn plugin(&self, name: &str) -> Result<Plugin, UnknownPlugin> {
        self.inner.plugin(name)
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
            wanted: Requirements { encoding: self.inner.encoding, ..Requirements::default() },
        }
    }

    /// Every plugin that offers the trait's interface and can be had as it, sorted by name.
    pub fn all<I: Described + ?Sized>(&self) -> Vec<Client<I>> {
        self.plugins().iter().filter_map(|plugin| self.get(plugin.name()).ok()).collect()
    }

    /// Replaces a plugin by what lies in its place now, without losing a call; a plugin that does not run, or was
    /// refused, is started.
    ///
    /// The new build is started beside the old one. It must be what the manifest says and offer what the old one
    /// does, say that it is well, and answer its canary call; then calls go to it, and the old one ends those it
    /// has, within `drain_timeout`. Whatever fails before that leaves the old one as it is. [`Lifecycle::reload`]
    /// has the settings.
    pub async fn reload(&self, name: &str) -> Result<Reloaded, ReloadError> {
        self.inner.reload(name).await
    }

    /// Looks through the directories again: loads what is new, replaces what has changed, forgets what is gone.
    ///
    /// A plugin has changed when its manifest or entry is another file or has other content.
    pub async fn rescan(&self) -> Rescanned {
        self.inner.rescan().await
    }

    /// Stops a plugin, and keeps it from being started until it is enabled again; over restarts of the host, if that
    /// has a [`HostBuilder::state_dir`]. Calls under way get `stop_grace`.
    pub async fn disable(&self, name: &str) -> Result<(), EnableError> {
        let shared = Arc::clone(&self.plugin(name)?.shared);
        let store = |source| EnableError::Store { plugin: name.to_owned(), source };
        self.inner.loader.records.quarantine.disable(name).map_err(store)?;
        let grace = shared.limits().stop_grace;
        let stopped = shared.ask(|reply| Command::Stop { grace, why: Rest::Disabled, reply }).await;
        stopped.ok_or_else(|| EnableError::Stopping { plugin: name.to_owned() })
    }

    /// Starts a plugin that was disabled, stopped or has failed. One that runs is left as it is.
    pub async fn enable(&self, name: &str) -> Result<(), EnableError> {
        let shared = Arc::clone(&self.plugin(name)?.shared);
        self.inner.loader.records.quarantine.enable(name);
        let started = shared.ask(|reply| Command::Start { reply }).await;
        started.unwrap_or_else(|| Err(EnableError::Stopping { plugin: name.to_owned() }))
    }

    /// Lets a quarantined plugin back, and starts it.
    pub async fn lift_quarantine(&self, name: &str) -> Result<(), EnableError> {
        let shared = Arc::clone(&self.plugin(name)?.shared);
        self.inner.loader.records.quarantine.lift(name);
        let lifted = shared.ask(|reply| Command::Lift { reply }).await;
        lifted.unwrap_or_else(|| Err(EnableError::Stopping { plugin: name.to_owned() }))
    }

    /// What is quarantined, with the reason and what was seen, sorted by name.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.inner.loader.records.quarantine.list()
    }

    /// How plugins died, the oldest first; those of former hosts, too, if there is a [`HostBuilder::state_dir`].
    pub fn crashes(&self) -> Vec<Arc<CrashReport>> {
        self.inner.loader.records.crashes.list()
    }

    /// What happens to plugins from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.loader.records.events()
    }

    /// What is measured of plugins: every series of theirs, as text for Prometheus or in a registry.
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> crate::scrape::Metrics {
        crate::scrape::Metrics::new(&self.inner)
    }

    /// What plugins print and log from now on. A listener that is slow misses lines, and is told how many.
    pub fn log_lines(&self) -> broadcast::Receiver<LogLine> {
        self.inner.loader.lines.listen()
    }

    /// Stops every plugin: calls under way and then the plugin itself each get `stop_grace` to end.
    pub async fn stop(&self) {
        let mut stops = JoinSet::new();
        for plugin in self.plugins() {
            let shared = plugin.shared;
            let handle = shared.runtime.clone();
            stops.spawn_on(
                async move {
                    let grace = shared.limits().stop_grace;
                    // Without a keeper it has ended already.
                    let _ = shared.ask(|reply| Command::Stop { grace, why: Rest::Asked, reply }).await;
                },
                &handle,
            );
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
}

#[cfg(feature = "metrics")]
impl crate::scrape::Source for Inner {
    fn look(&self) -> (Vec<Plugin>, &Records) {
        (self.registry().plugins.values().cloned().collect(), &self.loader.records)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.inner.registry().plugins.values().for_each(|plugin| plugin.shared.abandon());
        // A runtime that is dropped waits for its tasks, which an async context forbids.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plugin(&self, name: &str) -> Result<Plugin, UnknownPlugin> {
        let registry = self.registry();
        registry.plugins.get(name).cloned().ok_or_else(|| registry.unknown(name))
    }

    /// What lies there now.
    fn stamp(&self, name: &str, source: &Path, entry: &Path) -> Stamp {
        let misplaced = self.loader.trust.misplaced(source, entry);
        Stamp { misplaced, ..self.stamp_of_files(name, source, entry) }
    }

    /// The same, but for where it lies.
    fn stamp_of_files(&self, name: &str, source: &Path, entry: &Path) -> Stamp {
        Stamp::of(source, entry, self.loader.trust.vouched(name, source, entry))
    }

    async fn reload(&self, name: &str) -> Result<Reloaded, ReloadError> {
        let unknown = match self.plugin(name) {
            Ok(plugin) => return self.replace(&plugin).await,
            Err(unknown) => unknown,
        };
        let _scanning = self.scanning.lock().await;
        let refused = self.registry().refused.iter().find(|refused| refused.name == name).map(|it| it.path.clone());
        let Some(path) = refused else { return Err(unknown.into()) };
        let begun = Instant::now();
        let failed = |step, source| ReloadError::Failed { plugin: name.to_owned(), step, kept: None, source };
        let found = self.loader.find(name, &path).map_err(|error| {
            self.loader.records.tally.not_loaded(ReloadStep::Find.as_str());
            failed(ReloadStep::Find, error)
        })?;
        match Box::pin(self.load(found)).await {
            Ok(plugin) => {
                let info = plugin.info();
                let (to, version, took) = (info.generation, info.version, begun.elapsed());
                Ok(Reloaded { plugin: name.to_owned(), from: 0, to, version, took })
            }
            Err((step, error)) => Err(failed(step, error)),
        }
    }

    /// Replaces a plugin that there is.
    async fn replace(&self, plugin: &Plugin) -> Result<Reloaded, ReloadError> {
        let name = plugin.name();
        let stamp = self.stamp(name, &plugin.shared.identity().source, &plugin.shared.identity().entry);
        let done = plugin.shared.ask(|reply| Command::Reload { reply }).await;
        let hash = done.as_ref().is_some_and(Result::is_ok).then(|| plugin.shared.last()).flatten();
        self.registry().seen.insert(name.to_owned(), stamp.hashed_by(hash.as_deref()));
        done.unwrap_or_else(|| {
            Err(ReloadError::NotNow { plugin: name.to_owned(), state: plugin.shared.state().to_string() })
        })
    }

    /// Loads what was found, and puts it into the registry: as a plugin, or as one that was refused.
    async fn load(&self, found: Found) -> Result<Plugin, reload::Stopped> {
        let (name, path) = (found.manifest.name.clone(), found.source.path().to_owned());
        let entry = found.manifest.entry.clone();
        let mut stamp = self.stamp_of_files(&name, &path, &entry);
        let loaded = Loader::load(&self.loader, found).await;
        let first = loaded.as_ref().ok().and_then(|plugin| plugin.shared.last());
        // Where it lies was looked at before it was started, and is not looked at again.
        stamp.misplaced = match &loaded {
            Ok(_) if first.is_some() => None,
            Err((_, LoadError::Trust(why @ (TrustError::Exposed { .. } | TrustError::Outside { .. })))) => {
                Some(crate::error::in_full(why))
            }
            _ => self.loader.trust.misplaced(&path, &entry),
        };
        let mut registry = self.registry();
        registry.seen.insert(name.clone(), stamp.hashed_by(first.as_deref()));
        registry.refused.retain(|refused| refused.name != name);
        match loaded {
            Ok(plugin) => {
                registry.plugins.insert(name, plugin.clone());
                Ok(plugin)
            }
            Err((step, reason)) => {
                self.loader.records.tally.not_loaded(step.as_str());
                let refused = Arc::new(Refused { name, path, reason });
                self.loader
                    .records
                    .tell(Event::Refused { plugin: refused.name.clone(), why: crate::error::in_full(&refused.reason) });
                registry.refuse(Arc::clone(&refused));
                drop(registry);
                // The reason is kept where it is listed; whoever asked for this is told the same in words.
                Err((step, LoadError::Refused { refused }))
            }
        }
    }

    async fn rescan(&self) -> Rescanned {
        self.rescan_those(|_| true).await
    }

    /// Looks again at the plugins whose manifests or files are `those`. Others are as they were, whatever lies there.
    async fn rescan_those(&self, those: impl Fn(&Path) -> bool) -> Rescanned {
        let _scanning = self.scanning.lock().await;
        let loader = Arc::clone(&self.loader);
        let looked = self.loader.runtime.spawn_blocking(move || trusted::look(&loader.trust)).await;
        let found = looked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let wanted = |name: &str| self.only.as_ref().is_none_or(|only| only == name);
        let names: Vec<_> = found.found.iter().map(|found| found.manifest.name.clone()).collect();
        let mut done = Rescanned::default();

        let gone: Vec<Plugin> = {
            let mut registry = self.registry();
            // One whose manifest cannot be read just now is not gone: what runs goes on.
            let unreadable = |plugin: &Plugin| {
                let source = plugin.shared.identity().source;
                found.refused.iter().any(|refused| source.starts_with(&refused.path))
            };
            let is_gone = |plugin: &Plugin| !names.iter().any(|name| name == plugin.name()) && !unreadable(plugin);
            let is_asked = |plugin: &Plugin| those(&plugin.shared.identity().source);
            let gone = registry.plugins.values().filter(|plugin| is_gone(plugin) && is_asked(plugin));
            let gone: Vec<_> = gone.cloned().collect();
            for plugin in &gone {
                registry.plugins.remove(plugin.name());
                registry.seen.remove(plugin.name());
            }
            let started_and_refused = |refused: &Refused| names.contains(&refused.name);
            let before = std::mem::take(&mut registry.refused);
            for refused in found.refused {
                // Whoever looks again sees the same again; it failed once.
                if !before.iter().any(|before| before.is(&refused)) {
                    self.loader.records.tally.not_loaded(ReloadStep::of_discovery(&refused.reason).as_str());
                }
                registry.refuse(Arc::new(refused));
            }
            before.into_iter().filter(|refused| started_and_refused(refused)).for_each(|old| registry.refuse(old));
            (registry.names, registry.shadowed) = (names, found.shadowed);
            gone
        };
        for plugin in gone {
            self.loader.forget(&plugin).await;
            done.removed.push(plugin.name().to_owned());
        }
        for found in found.found {
            let name = found.manifest.name.clone();
            if !wanted(&name) {
                continue;
            }
            let stamp = self.stamp(&name, found.source.path(), &found.manifest.entry);
            let (plugin, seen) = {
                let registry = self.registry();
                (registry.plugins.get(&name).cloned(), registry.seen.get(&name).cloned())
            };
            let asked = those(found.source.path())
                || plugin.as_ref().is_some_and(|plugin| those(&plugin.shared.identity().source));
            if !asked || seen.is_some_and(|seen| seen.is(&stamp)) {
                continue;
            }
            match plugin {
                // Another file of its name comes first now: that is another plugin's place.
                Some(plugin) if plugin.shared.identity().source != found.source.path() => {
                    self.registry().plugins.remove(&name);
                    self.loader.forget(&plugin).await;
                    Box::pin(self.load_and_note(found, &mut done)).await;
                }
                Some(plugin) => match Box::pin(self.replace(&plugin)).await {
                    Ok(reloaded) => done.reloaded.push(reloaded),
                    Err(error) => done.failed.push((name, crate::error::in_full(&error))),
                },
                None => Box::pin(self.load_and_note(found, &mut done)).await,
            }
        }
        done
    }

    async fn load_and_note(&self, found: Found, done: &mut Rescanned) {
        let name = found.manifest.name.clone();
        match self.load(found).await {
            Ok(_) => done.loaded.push(name),
            Err((_, error)) => done.failed.push((name, crate::error::in_full(&error))),
        }
    }
}

impl Registry {
    fn refuse(&mut self, refused: Arc<Refused>) {
        self.refused.push(refused);
        self.refused.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
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

/// What the files of a plugin were when it was loaded.
#[derive(Clone, Debug)]
struct Stamp {
    /// SHA-256 of the manifest, where there is one.
    manifest: Option<[u8; 32]>,
    /// What vouches for it beside its files.
    vouched: [u8; 32],
    /// Why its place is refused, if it is.
    misplaced: Option<String>,
    entry: EntryStamp,
    /// SHA-256 of the entry, once somebody has read it all.
    hash: Arc<FileHash>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct EntryStamp {
    /// Symbolic links followed.
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(source: &Path, entry: &Path, vouched: [u8; 32]) -> Self {
        let path = entry.canonicalize().unwrap_or_else(|_| entry.to_owned());
        let metadata = path.metadata().ok();
        let manifest = (source != entry).then(|| regular_file::read(source, u64::MAX).ok()).flatten();
        Self {
            manifest: manifest.map(|bytes| Sha256::digest(&bytes).into()),
            vouched,
            misplaced: None,
            entry: EntryStamp {
                bytes: metadata.as_ref().map_or(0, std::fs::Metadata::len),
                modified: metadata.and_then(|metadata| metadata.modified().ok()),
                path,
            },
            hash: Arc::default(),
        }
    }

    /// With the hash that a generation has, or will have.
    fn hashed_by(self, generation: Option<&Generation>) -> Self {
        Self { hash: generation.map_or(self.hash, |generation| Arc::clone(&generation.hash)), ..self }
    }

    /// Whether what lies there `now` is the same plugin. A file that was only touched, or moved behind a link, is
    /// no other one.
    fn is(&self, now: &Stamp) -> bool {
        self.manifest == now.manifest
            && self.vouched == now.vouched
            && self.misplaced == now.misplaced
            && (self.entry == now.entry
                || self.hash.known().is_some_and(|hash| hash_of(&now.entry.path).is_ok_and(|other| hash == other)))
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
    lifecycle: Lifecycle,
    state_dir: Option<PathBuf>,
    #[cfg(feature = "watch")]
    watch: bool,
    cache_dir: Option<PathBuf>,
    encoding: Option<Encoding>,
    only: Option<String>,
    required: Vec<Capability>,
    confine: Policy,
    trust: Trust,
    unmeasured: bool,
    native_histograms: bool,
    #[cfg(feature = "otel")]
    spans: Option<crate::spans::Spans>,
    #[cfg(feature = "wasm")]
    functions: Vec<crate::host_function::HostFunction>,
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

    /// What happens when a plugin dies, idles or is replaced, where its manifest says nothing else. Default:
    /// [`Lifecycle::default`].
    #[must_use]
    pub fn lifecycle(mut self, lifecycle: Lifecycle) -> Self {
        self.lifecycle = lifecycle;
        self
    }

    /// Where the host remembers, over its own end, what is quarantined and disabled, how plugins died, and which
    /// plugin it was just loading or calling in its own process; made if it is missing, readable only for us.
    /// Default: nowhere, and what it remembers ends with it. Hosts may share one.
    #[must_use]
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(dir.into());
        self
    }

    /// [Rescans](Host::rescan) by itself, when the files of plugins have changed and rest for a moment. Default: no.
    #[cfg(feature = "watch")]
    #[must_use]
    pub fn watch(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }

    /// Measures calls, for [`Host::metrics`]. Default: yes. Otherwise they are counted, and not timed.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self, metrics: bool) -> Self {
        self.unmeasured = !metrics;
        self
    }

    /// Counts the times of calls in narrow buckets as well, 1.1 % wide: quantiles are then exact to half a percent,
    /// where Prometheus reads [native histograms](https://prometheus.io/docs/specs/native_histograms/), from
    /// [`Metrics::protobuf`](crate::Metrics::protobuf) or an application's own registry. Default: no. An octave that a
    /// method's times are in takes 512 bytes; a call, some ten nanoseconds.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn native_histograms(mut self, native: bool) -> Self {
        self.native_histograms = native;
        self
    }

    /// Records a span for each call and for each step of a plugin's life, and takes those of plugins home. Default: none.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn spans(mut self, spans: crate::spans::Spans) -> Self {
        self.spans = Some(spans);
        self
    }

    /// Where private copies of libraries are kept; made if it is missing, readable only for us.
    /// Default: `jackfield` in the user's cache directory.
    #[must_use]
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

    /// Uses this encoding for values, where the plugin allows it. Default: the binary one where both
    /// sides have the same interface, JSON otherwise. For tests, and for a look at what is sent.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = Some(encoding);
        self
    }

    /// Offers a function of the application's to Extism plugins. A plugin gets it if its manifest grants it, by
    /// `host_functions` in `[sandbox]`. Of two with one name, the later one is offered.
    #[cfg(feature = "wasm")]
    #[must_use]
    pub fn host_function(mut self, function: crate::host_function::HostFunction) -> Self {
        self.functions.push(function);
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
        let mut host = loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        host.runtime = runtime;
        Ok(host)
    }

    /// [`HostBuilder::build`] for code that is not async: the plugins are served by a runtime of their
    /// own, and clients are used through `client.blocking()`.
    pub fn build_blocking(self) -> std::io::Result<Host> {
        let runtime = own_runtime()?;
        let handle = runtime.handle().clone();
        let mut host = runtime.block_on(self.load(handle))?;
        host.runtime = Some(runtime);
        Ok(host)
    }

    async fn load(self, runtime: Handle) -> std::io::Result<Host> {
        let state_dir = self.state_dir.as_deref();
        if let Some(dir) = state_dir {
            private_dir::make(dir)?;
        }
        let (journal, suspects) = Journal::open(state_dir);
        let records = Records::new(Crashes::open(state_dir), Quarantine::open(state_dir));
        for suspect in suspects {
            let why = suspect.to_string();
            records.set_aside(Quarantined::now(&suspect.plugin, None, why.clone(), vec![why]));
        }
        let trust = Trust { dirs: self.dirs.clone(), paths: self.paths.clone(), ..self.trust };
        let loader = Arc::new(Loader {
            limits: self.limits,
            lifecycle: self.lifecycle,
            confine: self.confine,
            required: self.required,
            trust,
            cache_dir: self.cache_dir.unwrap_or_else(private_dir::default_cache_dir),
            turns: Arc::new(Semaphore::new(STARTS_AT_ONCE)),
            runtime,
            records: Arc::new(records),
            journal,
            meters: AllMeters::new(!self.unmeasured, self.native_histograms),
            hashes: Mutex::default(),
            #[cfg(feature = "otel")]
            spans: self.spans,
            #[cfg(not(feature = "otel"))]
            spans: None,
            #[cfg(feature = "wasm")]
            functions: self.functions.into(),
            lines: Arc::new(Tap::new(LIVE_LINES_MAX)),
        });
        // Before it is looked what is there, so that no change falls between.
        #[cfg(feature = "watch")]
        let begun = self
            .watch
            .then(|| crate::watch::begin(self.dirs.clone(), self.paths.clone(), crate::watch::Pace::default()));
        let found = trusted::look(&loader.trust);
        for refused in &found.refused {
            loader.records.tally.not_loaded(ReloadStep::of_discovery(&refused.reason).as_str());
        }
        let inner = Arc::new(Inner {
            only: self.only,
            encoding: self.encoding,
            registry: Mutex::new(Registry {
                names: found.found.iter().map(|found| found.manifest.name.clone()).collect(),
                refused: found.refused.into_iter().map(Arc::new).collect(),
                shadowed: found.shadowed,
                ..Registry::default()
            }),
            scanning: tokio::sync::Mutex::new(()),
            loader,
        });
        let mut starts = JoinSet::new();
        for found in found.found {
            if inner.only.as_ref().is_some_and(|only| *only != found.manifest.name) {
                continue;
            }
            let inner = Arc::clone(&inner);
            // What becomes of it, the registry says.
            starts.spawn(async move { inner.load(found).await.map(drop) });
        }
        while let Some(loaded) = starts.join_next().await {
            // Nothing in `load` panics; if it does, it is a mistake of ours, and not to be hidden.
            if let Err(error) = loaded {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        #[cfg(feature = "watch")]
        let watcher = begun.map(|begun| rescan_when_told(begun, &inner)).transpose()?;
        Ok(Host {
            inner,
            runtime: None,
            #[cfg(feature = "watch")]
            _watcher: watcher,
        })
    }
}

/// Looks again at plugins whose files have changed, as long as the host is there.
#[cfg(feature = "watch")]
fn rescan_when_told(begun: crate::watch::Beginning, inner: &Arc<Inner>) -> std::io::Result<crate::watch::Watcher> {
    let host = Arc::downgrade(inner);
    let runtime = inner.loader.runtime.clone();
    begun.tell(move |settled| {
        let Some(host) = host.upgrade() else { return };
        let settled = settled.clone();
        let (running, over) = std::sync::mpsc::channel::<()>();
        runtime.spawn(async move {
            host.rescan_those(|source| settled.concerns(source)).await;
            drop(running);
        });
        // Until it is over, or the runtime is: what changes meanwhile is told together.
        let _ = over.recv();
    })
}

fn own_runtime() -> std::io::Result<Runtime> {
    runtime::Builder::new_multi_thread().worker_threads(1).thread_name("jackfield").enable_all().build()
}
