//! Starts plugins, the first time and again, by whatever mechanism. The only code that knows which there are.
//!
//! Not here: which plugins there are (`host.rs`), when one is started again (`supervise.rs`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jackfield_protocol::Capability;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::policy::Policy;
use crate::discover::{Found, look_at};
use crate::error::{FileError, LoadError, ReloadStep, in_full};
use crate::event::{Event, Records};
use crate::file_hash::{FileHash, hash_of};
use crate::journal::Journal;
use crate::life::Rest;
use crate::lifecycle::Lifecycle;
use crate::limits::Limits;
use crate::log::{LogLine, PluginLog};
use crate::manifest::{Manifest, MechanismKind};
use crate::mechanism::{About, Boxed, Declared, Offered, Spec, Started, WasmSpec};
use crate::metrics::AllMeters;
use crate::plugin::{Command, Generation, Identity, Plugin, Shared};
use crate::reload::{self, Starter};
use crate::spans::{self, Recorder, Spans};
use crate::supervise::Keeper;
use crate::tap::Tap;
use crate::trust::{Admitted, Trust, Trusted};

/// After a start, before its file is hashed: until then the processors have other things to do.
const QUIET: Duration = Duration::from_secs(1);

/// The files that are read for their hash at the same time, in this process.
static READING: Semaphore = Semaphore::const_new(1);

/// Starts plugins, and knows what all of them have in common.
pub(super) struct Loader {
    pub(super) limits: Limits,
    pub(super) lifecycle: Lifecycle,
    pub(super) confine: Policy,
    pub(super) required: Vec<Capability>,
    pub(super) trust: Trust,
    pub(super) cache_dir: PathBuf,
    pub(super) turns: Arc<Semaphore>,
    pub(super) runtime: Handle,
    pub(super) records: Arc<Records>,
    pub(super) journal: Journal,
    pub(super) meters: AllMeters,
    /// Of the files that were started, by path.
    pub(super) hashes: Mutex<HashMap<PathBuf, Arc<FileHash>>>,
    pub(super) spans: Option<Spans>,
    /// What plugins of Extism may be lent.
    #[cfg(feature = "wasm")]
    pub(super) functions: Arc<[crate::host_function::HostFunction]>,
    /// What plugins print and log, for whoever listens.
    pub(super) lines: Arc<Tap<LogLine>>,
}

impl Loader {
    /// Loads a plugin for the first time, and gives it a keeper. One that is disabled or quarantined is known, and
    /// not started.
    pub(super) async fn load(loader: &Arc<Self>, found: Found) -> Result<Plugin, reload::Stopped> {
        let name = found.manifest.name.clone();
        let source = found.source.path().to_owned();
        let identity = loader.identity(&found);
        let (sender, commands) = mpsc::unbounded_channel();
        let shared = Shared::new(name.clone(), identity.clone(), loader.runtime.clone(), sender);
        let recorder = loader.recorder(&name, identity.mechanism, 0);
        let shared = Arc::new(shared.metered(loader.meters.of(&name)).recorded(Arc::clone(&recorder)));
        let starter: Arc<dyn Starter> = Arc::new(Arc::clone(loader));
        let records = Arc::clone(&loader.records);
        let mut keeper = Keeper::new(Arc::clone(&shared), commands, starter, records, source);
        let quarantine = &loader.records.quarantine;
        // Only one that is set aside is read for that.
        let quarantined = quarantine.get(&name, None).and_then(|_| {
            let hash = hash_of(&identity.entry).ok();
            quarantine.get(&name, hash.as_deref())
        });
        if quarantine.is_disabled(&name) {
            shared.transit(|life| life.drain(Rest::Disabled));
        } else if let Some(quarantined) = quarantined {
            shared.transit(|life| life.quarantine(quarantined.reason));
        } else {
            let loading = async {
                let first = loader.start(found, 1).await.map_err(|error| match error {
                    LoadError::Trust(_) => (ReloadStep::Trust, error),
                    _ => (ReloadStep::Start, error),
                })?;
                if let Err(failed) = reload::prove(None, &first).await {
                    first.close();
                    first.session.stop(true).await;
                    return Err(failed);
                }
                Ok(first)
            };
            keeper.begin(spans::step(&recorder, "plugin.load", loading, reload::in_a_word).await?);
        }
        loader.runtime.spawn(keeper.keep());
        Ok(Plugin { shared })
    }

    /// Stops a plugin whose files are gone.
    pub(super) async fn forget(&self, plugin: &Plugin) {
        let shared = &plugin.shared;
        let grace = shared.limits().stop_grace;
        let _ = shared.ask(|reply| Command::Stop { grace, why: Rest::Asked, reply }).await;
        shared.abandon();
        self.records.tell(Event::Removed { plugin: plugin.name().to_owned() });
    }

    fn identity(&self, Found { manifest, source }: &Found) -> Identity {
        Identity {
            mechanism: manifest.mechanism,
            source: source.path().to_owned(),
            entry: manifest.entry.clone(),
            limits: manifest.limits.apply(&self.limits),
            lifecycle: manifest.lifecycle.apply(&self.lifecycle),
            trusted: Trusted::default(),
        }
    }

    fn recorder(&self, plugin: &str, mechanism: MechanismKind, generation: u64) -> Arc<Recorder> {
        let (spans, meters) = (self.spans.clone(), self.meters.of(plugin));
        Arc::new(Recorder::new(spans, plugin, mechanism.as_str(), generation, meters))
    }

    fn start(self: &Arc<Self>, found: Found, number: u64) -> Boxed<'static, Result<Arc<Generation>, LoadError>> {
        let loader = Arc::clone(self);
        Box::pin(async move {
            let recorder = loader.recorder(&found.manifest.name, found.manifest.mechanism, number);
            let started = loader.start_as(found, number, Arc::clone(&recorder));
            spans::step(&recorder, "plugin.start", started, |error| ("start", in_full(error))).await
        })
    }

    async fn start_as(
        self: &Arc<Self>,
        found: Found,
        number: u64,
        recorder: Arc<Recorder>,
    ) -> Result<Arc<Generation>, LoadError> {
        let _turn = Arc::clone(&self.turns).acquire_owned().await;
        let mut identity = self.identity(&found);
        let manifest = found.manifest;
        let name = manifest.name.clone();
        let admitted = self.admit(&manifest, &identity).await?;
        identity.trusted = admitted.trusted;
        // In our own process, a plugin may take us with it.
        let confine = self.confine.of(&manifest, &identity.source);
        let shares_our_fate =
            matches!(manifest.mechanism, MechanismKind::Native | MechanismKind::Wasm) && !confine.library;
        let spec = Spec {
            name: name.clone(),
            entry: manifest.entry.clone(),
            checked: admitted.checked,
            args: manifest.args.clone(),
            env: manifest.env.clone().into_iter().collect(),
            limits: identity.limits.clone(),
            cache_dir: self.cache_dir.clone(),
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
                #[cfg(feature = "wasm")]
                functions: Arc::clone(&self.functions),
            },
            grpc: manifest.grpc.clone(),
            confine,
            log: Arc::new(
                PluginLog::with_tap(&name, number, Arc::clone(&self.lines))
                    .metered(&self.meters.of(&name))
                    .recorded(Arc::clone(&recorder)),
            ),
        };
        let loading = shares_our_fate.then(|| self.journal.loading(&name));
        let started = start(manifest.mechanism, spec, &self.runtime).await;
        drop(loading);
        let started = started?;
        let session = Arc::clone(&started.session);
        let believed = believe(session.about(), manifest).and_then(|about| match about.lacks(&self.required) {
            Some((required, offered)) => Err(LoadError::Capability { required: required.clone(), offered }),
            None => Ok(about),
        });
        match believed {
            Ok(about) => {
                recorder.is_version(&about.version);
                let leases = self.journal.leases(&name, shares_our_fate);
                let hash = match admitted.sha256 {
                    Some(known) => Arc::new(FileHash::already(&identity.entry, known)),
                    None => self.hash_later(&identity.entry),
                };
                Ok(Arc::new(Generation::new(number, identity, started, about, leases, hash)))
            }
            Err(reason) => {
                session.stop(true).await;
                Err(reason)
            }
        }
    }

    /// Whether it may be loaded, and what of it.
    async fn admit(self: &Arc<Self>, manifest: &Manifest, identity: &Identity) -> Result<Admitted, LoadError> {
        let (loader, manifest, source) = (Arc::clone(self), manifest.clone(), identity.source.clone());
        let bytes_max = match manifest.mechanism {
            MechanismKind::Wasm => identity.limits.module_bytes_max,
            _ => u64::MAX,
        };
        if !self.trust.asks_for_bytes(&manifest) {
            // A few looks at directories, as discovery has had: to hand them to another thread takes longer.
            return Ok(self.trust.admit(&manifest, &source, &self.cache_dir, bytes_max)?);
        }
        let asked = move || loader.trust.admit(&manifest, &source, &loader.cache_dir, bytes_max);
        let admitted = self.runtime.spawn_blocking(asked).await;
        Ok(admitted.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
    }

    /// The hash of a file, which is read once the start is over. A file that was read before is not read again.
    fn hash_later(&self, entry: &Path) -> Arc<FileHash> {
        let hash = {
            let (fresh, mut hashes) = (FileHash::of(entry), self.hashes.lock().unwrap_or_else(PoisonError::into_inner));
            match hashes.get(entry) {
                Some(known) if known.is(&fresh) => return Arc::clone(known),
                _ => {
                    let hash = Arc::new(fresh);
                    hashes.insert(entry.to_owned(), Arc::clone(&hash));
                    hash
                }
            }
        };
        let later = Arc::clone(&hash);
        self.runtime.spawn(async move {
            tokio::time::sleep(QUIET).await;
            // One file at a time: nobody waits for it, and a host of a thousand plugins has other things to do.
            let _turn = READING.acquire().await;
            let _ = tokio::task::spawn_blocking(move || _ = later.read()).await;
        });
        hash
    }
}

impl Starter for Arc<Loader> {
    fn find(&self, name: &str, source: &Path) -> Result<Found, LoadError> {
        let found = look_at(source).unwrap_or_else(|| Err(FileError::NoPlugin.into()))?;
        match found.manifest.name == name {
            true => Ok(found),
            false => Err(LoadError::Renamed { before: name.to_owned(), now: found.manifest.name }),
        }
    }

    fn start(&self, found: Found, number: u64) -> Boxed<'static, Result<Arc<Generation>, LoadError>> {
        Loader::start(self, found, number)
    }
}

#[allow(unused_variables, reason = "without mechanisms nothing is started")]
async fn start(mechanism: MechanismKind, spec: Spec, runtime: &Handle) -> Result<Started, LoadError> {
    match mechanism {
        #[cfg(all(feature = "native", feature = "process"))]
        MechanismKind::Native if spec.confine.library => super::policy::isolated(spec, runtime).await,
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
