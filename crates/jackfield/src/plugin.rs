//! One plugin: its state, its generation, and what is known of it.
//!
//! Not here: calling it (`call.rs`).

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jackfield_protocol::call::{Cause, Failure};
use jackfield_protocol::runner::Enforced;
use jackfield_protocol::{Capability, Fingerprint, Interface, InterfaceId};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::limits::Limits;
use crate::manifest::MechanismKind;
use crate::mechanism::{About, Offered, ServiceInfo, Session, Started};
use crate::observe::{Calls, Counters};

/// A handle on a loaded plugin. Cheap to clone; all clones are the same plugin.
///
/// ```no_run
/// # async fn example(host: jackfield::Host) -> Result<(), Box<dyn std::error::Error>> {
/// let english = host.plugin("english")?;
/// println!("{} {}", english.name(), english.info().version);
/// let greeting = english.call("greet", serde_json::json!({"name": "Ada"})).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Plugin {
    pub(crate) shared: Arc<Shared>,
}

impl Plugin {
    /// The name under which the host knows it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it is and how it is.
    pub fn info(&self) -> PluginInfo {
        self.shared.info()
    }

    /// The connection to a gRPC plugin that is running: for calling a service of it with a client of one's
    /// own, and for serving it one through the broker. It ends with the plugin's session.
    #[cfg(feature = "grpc")]
    pub fn connection(&self) -> Option<jackfield_grpc::Connection> {
        self.shared.last().session.connection()
    }

    /// The last lines that the plugin wrote to stderr or logged, at most `count`.
    pub fn log_tail(&self, count: usize) -> Vec<String> {
        self.shared.log_tail(count)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// What a plugin is and how it is, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PluginInfo {
    /// The name under which the host knows it.
    pub name: String,
    /// What it calls itself.
    pub own_name: String,
    /// The version it says it has.
    pub version: String,
    /// How the host reaches it.
    pub mechanism: MechanismKind,
    /// Its state.
    pub state: State,
    /// What it offers.
    pub interfaces: Vec<InterfaceInfo>,
    /// What it offers beside interfaces of Jackfield's.
    pub services: Vec<ServiceInfo>,
    /// What it promises.
    pub capabilities: Vec<Capability>,
    /// The manifest, or the file without one.
    pub source: PathBuf,
    /// The library or program.
    pub entry: PathBuf,
    /// Its limits.
    pub limits: Limits,
    /// Its session's number, counting from 1.
    pub generation: u64,
    /// What it speaks: `protocol 1.0`, `ABI 1.0`.
    pub speaks: String,
    /// Number of its process, where it has one of its own.
    pub process: Option<u32>,
    /// What keeps its process in bounds, one by one, by which means, and what is not in force and why.
    pub enforced: Vec<Enforced>,
    /// How its calls ended, in all generations.
    pub calls: Calls,
}

/// An interface that a plugin offers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InterfaceInfo {
    /// Name and version.
    pub id: InterfaceId,
    /// Its description, if the plugin or its manifest gives one.
    pub description: Option<Arc<Interface>>,
    /// Whether values can travel in the binary encoding, when the fingerprints are equal.
    pub binary: bool,
}

impl InterfaceInfo {
    /// Fingerprint of the description, if there is one.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.description.as_ref().map(|description| description.fingerprint())
    }
}

/// Where a plugin is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It takes calls.
    Ready,
    /// It takes no new calls and finishes those it has.
    Draining,
    /// It was stopped.
    Stopped,
    /// It died or broke the protocol.
    Failed {
        /// How.
        why: String,
    },
}

impl State {
    /// `ready`, `draining`, `stopped`, `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Draining => "draining",
            State::Stopped => "stopped",
            State::Failed { .. } => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Failed { why } => write!(f, "failed: {why}"),
            other => f.write_str(other.as_str()),
        }
    }
}

/// What a plugin is to its host, whatever its session.
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) mechanism: MechanismKind,
    pub(crate) source: PathBuf,
    pub(crate) entry: PathBuf,
    pub(crate) limits: Limits,
}

/// What all handles on a plugin share.
pub(crate) struct Shared {
    pub(crate) name: String,
    mechanism: MechanismKind,
    source: PathBuf,
    entry: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) runtime: Handle,
    pub(crate) counters: Counters,
    /// Never empty while the plugin can take calls.
    current: ArcSwapOption<Generation>,
    /// The last generation, for what is to be said of it when it is over.
    last: Mutex<Arc<Generation>>,
    phase: Mutex<Phase>,
}

/// What the host has done with it; whether it lives is its session's to say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Stopped,
}

/// The n-th session of a plugin, with the calls that hold it.
pub(crate) struct Generation {
    number: u64,
    pub(crate) session: Arc<dyn Session>,
    pub(crate) about: About,
    log: Arc<crate::log::PluginLog>,
    /// How many calls hold it; with [`CLOSED`] once it gets no more of them.
    leases: AtomicUsize,
    released: Notify,
}

/// The bit of [`Generation::leases`] that says that no more are given. In one word with their number, so that
/// a lease is one step, and another to give it back.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// A call's hold on a generation.
pub(crate) struct Lease<G: AsRef<Generation> = Arc<Generation>>(G);

impl<G: AsRef<Generation>> Lease<G> {
    /// Takes hold of a generation, which then waits for this call before it ends. None if it takes no calls
    /// any more.
    pub(crate) fn of(generation: G) -> Option<Self> {
        match generation.as_ref().leases.fetch_add(1, Ordering::AcqRel) & CLOSED {
            0 => Some(Self(generation)),
            _ => {
                generation.as_ref().release();
                None
            }
        }
    }
}

impl Lease {
    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.0
    }
}

impl Lease<&Arc<Generation>> {
    /// Another hold, for a call that is not over when whoever made it goes on.
    pub(crate) fn for_later(&self) -> Lease {
        // Even where no more are given: this call has one.
        self.0.leases.fetch_add(1, Ordering::AcqRel);
        Lease(Arc::clone(self.0))
    }
}

impl<G: AsRef<Generation>> Drop for Lease<G> {
    fn drop(&mut self) {
        self.0.as_ref().release();
    }
}

impl<G: AsRef<Generation>> Deref for Lease<G> {
    type Target = Generation;

    fn deref(&self) -> &Generation {
        self.0.as_ref()
    }
}

impl Shared {
    pub(crate) fn new(identity: Identity, runtime: Handle, started: Started, about: About) -> Self {
        let Identity { name, mechanism, source, entry, limits } = identity;
        let Started { session, log } = started;
        let generation = Arc::new(Generation {
            number: 1,
            session,
            about,
            log,
            leases: AtomicUsize::new(0),
            released: Notify::new(),
        });
        Self {
            name,
            mechanism,
            source,
            entry,
            limits,
            runtime,
            counters: Counters::default(),
            current: ArcSwapOption::from(Some(Arc::clone(&generation))),
            last: Mutex::new(generation),
            phase: Mutex::new(Phase::Serving),
        }
    }

    /// Takes hold of the current generation.
    pub(crate) fn lease(&self) -> Result<Lease, Cause> {
        loop {
            // One that was closed between the look and the hold is not the current one any more.
            if let Some(lease) = Lease::of(self.generation()?) {
                return Ok(lease);
            }
        }
    }

    /// The current generation.
    pub(crate) fn generation(&self) -> Result<Arc<Generation>, Cause> {
        self.current.load_full().ok_or_else(|| Cause::Unavailable { why: self.state().to_string() })
    }

    pub(crate) fn state(&self) -> State {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        match (phase, self.last().session.ended()) {
            (Phase::Stopped, _) => State::Stopped,
            (_, Some(why)) => State::Failed { why },
            (Phase::Serving, None) => State::Ready,
            (Phase::Draining, None) => State::Draining,
        }
    }

    /// Stops it: no new calls, those under way get `grace` to end, then the session ends.
    pub(crate) async fn stop(&self, grace: Duration) {
        let Some(generation) = self.current.swap(None) else { return };
        self.set(Phase::Draining);
        generation.close();
        let drained = tokio::time::timeout(grace, generation.drained()).await.is_ok();
        generation.session.stop(drained).await;
        self.set(Phase::Stopped);
    }

    /// Ends it at once: its host is gone.
    pub(crate) fn abandon(&self) {
        if let Some(generation) = self.current.swap(None) {
            generation.close();
            generation.session.abandon();
            self.set(Phase::Stopped);
        }
    }

    pub(crate) fn failure(&self, function: &str, cause: Cause) -> Failure {
        self.counters.count(cause.status());
        Failure::new(&*self.name, function, cause)
    }

    fn set(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    pub(crate) fn last(&self) -> Arc<Generation> {
        Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn log_tail(&self, count: usize) -> Vec<String> {
        self.last().log.tail(count)
    }

    fn info(&self) -> PluginInfo {
        let generation = self.last();
        let about = &generation.about;
        let interface = |offered: &Offered| InterfaceInfo {
            id: offered.id.clone(),
            description: offered.description.clone(),
            binary: offered.binary,
        };
        PluginInfo {
            name: self.name.clone(),
            own_name: about.name.clone(),
            version: about.version.clone(),
            mechanism: self.mechanism,
            state: self.state(),
            interfaces: about.interfaces.iter().map(interface).collect(),
            services: about.services.clone(),
            capabilities: about.capabilities.clone(),
            source: self.source.clone(),
            entry: self.entry.clone(),
            limits: self.limits.clone(),
            generation: generation.number,
            speaks: about.speaks.clone(),
            process: generation.session.process(),
            enforced: generation.session.enforced(),
            calls: self.counters.read(),
        }
    }
}

impl Generation {
    /// Gives no more leases. It is not the current one any more by then: whoever gets none looks for that.
    fn close(&self) {
        self.leases.fetch_or(CLOSED, Ordering::AcqRel);
    }

    fn release(&self) {
        // Nobody waits for the last call before the generation is closed.
        if self.leases.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            self.released.notify_waiters();
        }
    }

    /// Waits until no call holds it.
    async fn drained(&self) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Listening begins before the look, so that a release in between is not missed.
            released.as_mut().enable();
            if self.leases.load(Ordering::Acquire) & !CLOSED == 0 {
                return;
            }
            released.await;
        }
    }
}
