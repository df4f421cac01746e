//! One plugin: its state, its generations, and what is known of it.
//!
//! Calls look at one thing, the current generation; who starts, replaces and ends generations is the keeper
//! (`supervise.rs`), which is told what to do by messages and is the only one that changes the state.
//!
//! Not here: calling it (`call.rs`), which state follows which (`life.rs`).

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use jackfield_protocol::call::{Cause, Failure};
use jackfield_protocol::runner::Enforced;
use jackfield_protocol::{Capability, Fingerprint, Interface, InterfaceId, Status};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::breaker::{Breaker, BreakerState};
use crate::error::{EnableError, ReloadError};
use crate::file_hash::FileHash;
use crate::journal::Leases;
use crate::life::{Life, Rest, State};
use crate::lifecycle::Lifecycle;
use crate::limits::Limits;
use crate::log::{LogLine, PluginLog};
use crate::manifest::MechanismKind;
use crate::mechanism::{About, Offered, ServiceInfo, Session, Started};
use crate::metrics::{Meters, Series};
use crate::observe::Calls;
use crate::spans::Recorder;
use crate::trust::Trusted;

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
        self.shared.last()?.session.connection()
    }

    /// The last lines that the plugin wrote to stderr or logged, at most `count`.
    pub fn log_tail(&self, count: usize) -> Vec<String> {
        self.shared.log_tail(count)
    }

    /// The last lines of its present or last session, with time and level, at most `count`. What it printed on
    /// stdout is among them.
    pub fn log_lines(&self, count: usize) -> Vec<LogLine> {
        self.shared.last().map(|generation| generation.log.lines(count)).unwrap_or_default()
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// [`PluginInfo`], as far as it changes from one page of series to the next.
pub(crate) struct Glance {
    pub(crate) state: State,
    pub(crate) mechanism: MechanismKind,
    /// The present generation, or the last there was.
    pub(crate) last: Option<Arc<Generation>>,
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
    /// What happens when it dies, idles, or is replaced.
    pub lifecycle: Lifecycle,
    /// Its session's number, counting from 1 with each start, restart and reload; 0 if it never ran.
    pub generation: u64,
    /// Sessions that are alive: more than one while it is replaced, and until calls of older ones are over.
    pub generations_live: usize,
    /// SHA-256 of its entry in hexadecimal, as it was when this generation was started. None until it is known,
    /// a moment after the start.
    pub hash: Option<String>,
    /// What vouches for the bytes of this generation: a pin, the lock, a signature; and what was let pass.
    pub trusted: Trusted,
    /// When this generation became ready.
    pub started: Option<SystemTime>,
    /// Times that it was started again after it died, since the host started.
    pub restarts: u32,
    /// Its circuit breaker; closed where it has none.
    pub breaker: BreakerState,
    /// What it speaks: `protocol 1.0`, `ABI 1.0`.
    pub speaks: String,
    /// Number of its process, where it has one of its own.
    pub process: Option<u32>,
    /// What keeps its process in bounds, one by one, by which means, and what is not in force and why.
    pub enforced: Vec<Enforced>,
    /// How its calls ended, in all generations.
    pub calls: Calls,
}

/// A plugin that was replaced by a newer build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// The plugin.
    pub plugin: String,
    /// The generation that had the calls before; 0 if none had.
    pub from: u64,
    /// The one that has them now.
    pub to: u64,
    /// The version it says it has.
    pub version: String,
    /// Time from the wish to the first call that the new one could take.
    pub took: Duration,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, from, to, took, .. } = self;
        write!(f, "{version}, generation {to} has the calls")?;
        if *from > 0 {
            write!(f, ", in place of generation {from}")?;
        }
        write!(f, "; it took {} ms", took.as_millis())
    }
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

/// What a plugin is to its host, whatever its session.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) mechanism: MechanismKind,
    pub(crate) source: PathBuf,
    pub(crate) entry: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) lifecycle: Lifecycle,
    /// Of a generation, what vouches for it.
    pub(crate) trusted: Trusted,
}

/// What all handles on a plugin share.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) runtime: Handle,
    pub(crate) meters: Arc<Meters>,
    /// Records what belongs to no generation.
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) breaker: Breaker,
    /// The generation that takes calls. Always that of the state, and here as well for those who call.
    current: ArcSwapOption<Generation>,
    life: Mutex<Known>,
    /// Told of each change of the state.
    changed: watch::Sender<()>,
    keeper: mpsc::UnboundedSender<Command>,
    /// Calls that wait for a generation.
    waiting: AtomicUsize,
    pub(crate) restarts: AtomicU32,
    pub(crate) generations_live: AtomicUsize,
}

/// What changes in a plugin's life.
struct Known {
    life: Life<Arc<Generation>>,
    identity: Identity,
    /// The last generation, for what is to be said of it when it is over.
    last: Option<Arc<Generation>>,
    /// Those before it, as long as they have calls.
    old: Vec<Weak<Generation>>,
    /// Its host is gone.
    abandoned: bool,
}

/// What its keeper is asked to do.
pub(crate) enum Command {
    /// Replace it by what lies there now.
    Reload { reply: oneshot::Sender<Result<Reloaded, ReloadError>> },
    /// Start it, unless it runs.
    Start { reply: oneshot::Sender<Result<(), EnableError>> },
    /// A call wants it that was stopped for idleness.
    Wake,
    /// End it, for this reason. Its calls get this long.
    Stop { grace: Duration, why: Rest, reply: oneshot::Sender<()> },
    /// Let it back, and start it.
    Lift { reply: oneshot::Sender<Result<(), EnableError>> },
    /// A call was not answered in time: is it alive at all?
    Doubt,
}

/// The n-th session of a plugin, with the calls that hold it.
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) session: Arc<dyn Session>,
    pub(crate) about: About,
    pub(crate) identity: Identity,
    /// When it became ready.
    pub(crate) since: (SystemTime, tokio::time::Instant),
    pub(crate) log: Arc<PluginLog>,
    /// SHA-256 of its entry, once somebody has read that.
    pub(crate) hash: Arc<FileHash>,
    /// How many calls hold it; with [`CLOSED`] once it gets no more of them.
    leases: Leases,
    released: Notify,
    /// Failed calls that say that something is wrong with it.
    failures: AtomicU32,
    failed: Notify,
    /// Functions whose calls ended with it.
    lost: Mutex<Vec<String>>,
}

/// Most functions noted of those whose calls a death ended.
const LOST_MAX: usize = 64;

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

/// What a call finds at a plugin.
pub(crate) enum Door {
    Open(Arc<Generation>),
    /// It opens, or shuts, before long.
    Waits,
    Shut(Cause),
}

impl Shared {
    pub(crate) fn new(
        name: String,
        identity: Identity,
        runtime: Handle,
        keeper: mpsc::UnboundedSender<Command>,
    ) -> Self {
        let breaker = Breaker::new(identity.lifecycle.breaker.as_ref(), Instant::now());
        let life = Known { life: Life::Discovered, identity, last: None, old: Vec::new(), abandoned: false };
        Self {
            name,
            runtime,
            meters: Arc::default(),
            recorder: Arc::default(),
            breaker,
            current: ArcSwapOption::empty(),
            life: Mutex::new(life),
            changed: watch::Sender::new(()),
            keeper,
            waiting: AtomicUsize::new(0),
            restarts: AtomicU32::new(0),
            generations_live: AtomicUsize::new(0),
        }
    }

    /// The same, measured by these.
    pub(crate) fn metered(self, meters: Arc<Meters>) -> Self {
        Self { meters, ..self }
    }

    /// The same, whose spans are recorded by this.
    pub(crate) fn recorded(self, recorder: Arc<Recorder>) -> Self {
        Self { recorder, ..self }
    }

    // ---- For those who call ---------------------------------------------------------------------

    /// Takes hold of the current generation, without waiting for one.
    pub(crate) fn lease(&self) -> Result<Lease, Cause> {
        loop {
            let generation = self.current.load_full().ok_or_else(|| self.shut())?;
            // One that was closed between the look and the hold is not the current one any more.
            if let Some(lease) = Lease::of(generation) {
                return Ok(lease);
            }
        }
    }

    /// The current generation, or why there is none.
    pub(crate) fn door(&self) -> Door {
        if let Some(generation) = self.current.load_full() {
            return Door::Open(generation);
        }
        let known = self.known();
        match &known.life {
            // Whatever its state was, nobody changes it any more.
            _ if known.abandoned => Door::Shut(Cause::Unavailable { why: "its host is gone".to_owned() }),
            // It has just become the current one.
            Life::Ready { generation } => Door::Open(Arc::clone(generation)),
            // One that never ran is not waited for: whoever loads it decides what becomes of it.
            Life::Starting if known.last.is_some() => Door::Waits,
            Life::Moving { .. } => Door::Waits,
            Life::Stopped { why: Rest::Idle } => {
                // An error is that the host is gone, which the next look sees.
                let _ = self.keeper.send(Command::Wake);
                Door::Waits
            }
            other => Door::Shut(Cause::Unavailable { why: other.state().to_string() }),
        }
    }

    fn shut(&self) -> Cause {
        Cause::Unavailable { why: self.state().to_string() }
    }

    /// Takes hold of the current generation, or of the next one if it comes within `timeout`.
    pub(crate) async fn lease_in_time(&self, timeout: Duration) -> Result<Lease, Cause> {
        let _waiting = self.wait()?;
        let begun = Instant::now();
        let lease = async {
            let mut changed = self.changed.subscribe();
            loop {
                changed.mark_unchanged();
                match self.door() {
                    Door::Open(generation) => {
                        if let Some(lease) = Lease::of(generation) {
                            return Ok(lease);
                        }
                    }
                    Door::Shut(cause) => return Err(cause),
                    Door::Waits => {
                        if changed.changed().await.is_err() {
                            return Err(self.shut());
                        }
                    }
                }
            }
        };
        let lease = tokio::time::timeout(timeout, lease).await.unwrap_or(Err(Cause::Timeout { after: timeout }));
        self.meters.queued(begun.elapsed());
        lease
    }

    /// A place among the calls that wait. They are no more than may be in flight.
    fn wait(&self) -> Result<Waiting<'_>, Cause> {
        let waiting = Waiting(&self.waiting);
        let calls_max = self.limits().calls_in_flight_max;
        match self.waiting.fetch_add(1, Ordering::Relaxed) < calls_max {
            true => Ok(waiting),
            false => {
                let why = format!("it is {}, and {calls_max} calls wait for it", self.state());
                Err(Cause::Unavailable { why })
            }
        }
    }

    /// Counts how a call ended that came to an end of its own.
    pub(crate) fn answered(&self, series: &Series, ok: bool) {
        self.record(series, if ok { Status::Ok } else { Status::Error });
    }

    /// Counts a call.
    pub(crate) fn record(&self, series: &Series, status: Status) {
        series.count(status);
        self.breaker.record(status, Instant::now);
    }

    /// How its calls ended so far.
    pub(crate) fn calls(&self) -> Calls {
        Calls(self.meters.ended())
    }

    /// Counts a call that failed, and says so. `generation` is the one that was to answer it.
    pub(crate) fn failure(&self, generation: Option<&Generation>, function: &str, cause: Cause) -> Failure {
        self.failure_of(generation, &self.meters.named(function), function, cause)
    }

    /// [`Shared::failure`], of a function whose series is known.
    pub(crate) fn failure_of(
        &self,
        generation: Option<&Generation>,
        series: &Series,
        function: &str,
        cause: Cause,
    ) -> Failure {
        let status = cause.status();
        self.record(series, status);
        self.meters.failed(&cause);
        if let Some(generation) = generation {
            generation.note_failure(status, function);
            if status == Status::Timeout {
                let _ = self.keeper.send(Command::Doubt);
            }
        }
        Failure::new(&*self.name, function, cause)
    }

    // ---- For its keeper and its host ------------------------------------------------------------

    /// Changes its state. The only place where the current generation changes, too.
    pub(crate) fn transit(&self, way: impl FnOnce(Life<Arc<Generation>>) -> Life<Arc<Generation>>) {
        let mut known = self.known();
        let before = std::mem::replace(&mut known.life, Life::Discovered);
        known.life = way(before);
        let current = match &known.life {
            Life::Ready { generation } if !known.abandoned => Some(Arc::clone(generation)),
            _ => None,
        };
        if let Some(generation) = &current {
            known.identity = generation.identity.clone();
            let before = known.last.replace(Arc::clone(generation));
            known.old.retain(|old| old.strong_count() > 0 && !std::ptr::eq(old.as_ptr(), &**generation));
            known
                .old
                .extend(before.filter(|before| before.number != generation.number).map(|old| Arc::downgrade(&old)));
        }
        self.current.store(current);
        drop(known);
        self.changed.send_replace(());
    }

    pub(crate) fn state(&self) -> State {
        let known = self.known();
        match &known.life {
            // A session knows first that it is over.
            Life::Ready { generation } => match generation.session.ended() {
                Some(why) => State::Failed { why, restart: None },
                None => State::Ready,
            },
            _ if known.abandoned => State::Stopped { why: Rest::Asked },
            other => other.state(),
        }
    }

    /// The generation that takes calls, by its state.
    pub(crate) fn ready(&self) -> Option<Arc<Generation>> {
        match &self.known().life {
            Life::Ready { generation } => Some(Arc::clone(generation)),
            _ => None,
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.known().identity.clone()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.known().identity.limits.clone()
    }

    /// Calls under way, those of older generations included, and calls that wait.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    pub(crate) fn in_flight(&self) -> usize {
        let known = self.known();
        let old = known.old.iter().filter_map(Weak::upgrade);
        let calls: usize = known.last.iter().cloned().chain(old).map(|generation| generation.calls()).sum();
        calls + self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn last(&self) -> Option<Arc<Generation>> {
        self.known().last.clone()
    }

    /// Asks its keeper. None if there is none any more.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.keeper.send(command(reply)).ok()?;
        answer.await.ok()
    }

    /// Ends it at once: its host is gone.
    pub(crate) fn abandon(&self) {
        let mut known = self.known();
        known.abandoned = true;
        self.current.store(None);
        let generation = match &known.life {
            Life::Ready { generation } | Life::Moving { generation } | Life::Draining { generation, .. } => {
                Some(Arc::clone(generation))
            }
            _ => None,
        };
        drop(known);
        if let Some(generation) = generation {
            generation.close();
            generation.session.kill(Cause::Unavailable { why: "its host is gone".to_owned() });
        }
        self.changed.send_replace(());
    }

    /// Waits until its host is gone.
    pub(crate) async fn abandoned(&self) {
        let mut changed = self.changed.subscribe();
        while !self.known().abandoned && changed.changed().await.is_ok() {}
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_tail(&self, count: usize) -> Vec<String> {
        self.last().map(|generation| generation.log.tail(count)).unwrap_or_default()
    }

    /// How it is, for a page of series: nothing of what it says is copied.
    pub(crate) fn glance(&self) -> Glance {
        let state = self.state();
        let known = self.known();
        let (mechanism, last) = (known.identity.mechanism, known.last.clone());
        drop(known);
        Glance { state, mechanism, last }
    }

    fn info(&self) -> PluginInfo {
        let state = self.state();
        let known = self.known();
        let Identity { mechanism, source, entry, limits, lifecycle, .. } = known.identity.clone();
        let last = known.last.clone();
        drop(known);
        let about = last.as_ref().map(|generation| &generation.about);
        let interface = |offered: &Offered| InterfaceInfo {
            id: offered.id.clone(),
            description: offered.description.clone(),
            binary: offered.binary,
        };
        PluginInfo {
            name: self.name.clone(),
            own_name: about.map_or_else(|| self.name.clone(), |about| about.name.clone()),
            version: about.map_or_else(String::new, |about| about.version.clone()),
            mechanism,
            state,
            interfaces: about.map(|about| about.interfaces.iter().map(interface).collect()).unwrap_or_default(),
            services: about.map(|about| about.services.clone()).unwrap_or_default(),
            capabilities: about.map(|about| about.capabilities.clone()).unwrap_or_default(),
            source,
            entry,
            limits,
            lifecycle,
            generation: last.as_ref().map_or(0, |generation| generation.number),
            generations_live: self.generations_live.load(Ordering::Relaxed),
            trusted: last.as_ref().map(|generation| generation.identity.trusted.clone()).unwrap_or_default(),
            hash: last.as_ref().and_then(|generation| generation.hash.known().map(str::to_owned)),
            started: last.as_ref().map(|generation| generation.since.0),
            restarts: self.restarts.load(Ordering::Relaxed),
            breaker: self.breaker.state(),
            speaks: about.map(|about| about.speaks.clone()).unwrap_or_default(),
            process: last.as_ref().and_then(|generation| generation.session.process()),
            enforced: last.as_ref().map(|generation| generation.session.enforced()).unwrap_or_default(),
            calls: self.calls(),
        }
    }
}

/// A call that waits for a generation.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Generation {
    pub(crate) fn new(
        number: u64,
        identity: Identity,
        started: Started,
        about: About,
        leases: Leases,
        hash: Arc<FileHash>,
    ) -> Self {
        let Started { session, log } = started;
        Self {
            number,
            session,
            about,
            identity,
            since: (SystemTime::now(), tokio::time::Instant::now()),
            log,
            hash,
            leases,
            released: Notify::new(),
            failures: AtomicU32::new(0),
            failed: Notify::new(),
            lost: Mutex::default(),
        }
    }

    /// SHA-256 of its entry, for a report: reads the file if nobody has done so.
    pub(crate) async fn hash(&self) -> Option<String> {
        let hash = Arc::clone(&self.hash);
        if !hash.is_read() {
            let reading = Arc::clone(&hash);
            // One that panics has read nothing.
            let _ = tokio::task::spawn_blocking(move || _ = reading.read()).await;
        }
        hash.known().map(str::to_owned)
    }

    /// Gives no more leases. It is not the current one any more by then: whoever gets none looks for that.
    pub(crate) fn close(&self) {
        self.leases.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Gives leases again. Not the current one yet: it becomes that next.
    pub(crate) fn reopen(&self) {
        self.leases.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// Calls that hold it.
    pub(crate) fn calls(&self) -> usize {
        self.leases.load(Ordering::Acquire) & !CLOSED
    }

    fn note_failure(&self, status: Status, function: &str) {
        match status {
            Status::Crashed => {
                let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
                if lost.len() < LOST_MAX {
                    lost.push(function.to_owned());
                }
            }
            Status::Timeout | Status::Panicked | Status::Limit | Status::Protocol => {}
            _ => return,
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.failed.notify_one();
    }

    /// Waits until so many calls have failed that something is wrong with it.
    pub(crate) async fn fails(&self, failures_max: u32) {
        while self.failures.load(Ordering::Relaxed) < failures_max.max(1) {
            self.failed.notified().await;
        }
    }

    /// The functions whose calls ended with it, as far as their callers were told.
    pub(crate) fn lost(&self) -> Vec<String> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn release(&self) {
        // Nobody waits for the last call before the generation is closed.
        if self.leases.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            self.released.notify_waiters();
        }
    }

    /// Waits until no call holds it.
    pub(crate) async fn drained(&self) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Listening begins before the look, so that a release in between is not missed.
            released.as_mut().enable();
            if self.calls() == 0 {
                return;
            }
            released.await;
        }
    }
}
