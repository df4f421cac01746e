//! Supervision: one keeper for each plugin, which alone changes its state.
//!
//! It starts the plugin again when it dies, as `restarts.rs` decides; replaces it when it is told to, by the steps of
//! `reload.rs`; gives the calls back to the old build when the new one turns bad while it is observed; stops it
//! when it is idle; and reports each death once. It does one thing at a time, except that a stop ends what is
//! being started.
//!
//! Not here: which state follows which (`life.rs`), how long to wait and when to give up (`restarts.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use jackfield_protocol::call::Cause;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::crash::{CrashExit, CrashNext, CrashPhase, CrashReport, likely_limit};
use crate::error::{EnableError, LoadError, ReloadError, ReloadStep, in_full};
use crate::event::{Event, Records};
use crate::life::{Rest, State};
use crate::mechanism::{Death, Exit};
use crate::plugin::{Command, Generation, Reloaded, Shared};
use crate::quarantine::{Quarantined, lift_command};
use crate::reload::{self, Starter};
use crate::restarts::{Decision, End, Restarts};
use crate::spans;

/// Time for the callers of calls that a death ended to be told, before it is reported which they were.
const LOST_GRACE: Duration = Duration::from_millis(200);

/// Lines of its log that a crash report has.
const TAIL_LINES: usize = 20;

/// The keeper of one plugin.
pub(crate) struct Keeper {
    inbox: Inbox,
    core: Core,
}

/// What a keeper has beside its inbox, so that it can work while it listens.
struct Core {
    shared: Arc<Shared>,
    starter: Arc<dyn Starter>,
    records: Arc<Records>,
    /// Where its manifest or file lies.
    source: PathBuf,
    restarts: Restarts,
    /// The number of the last generation.
    number: u64,
    /// Old generations that end their calls.
    drains: JoinSet<()>,
    draining: Vec<Weak<Generation>>,
    /// When it is started again, and what it died of.
    restart: Option<(Instant, Reason)>,
    /// The last generation that was killed since it gave no sign of life; 0 for none.
    hung: u64,
    /// The old build, while the new one is observed.
    observed: Option<Observed>,
    /// Calls counted when it was last looked whether it is idle, and when that was.
    idle: (u64, Instant),
    /// Whether somebody looks if it hangs, and what was seen.
    doubt: JoinSet<Doubt>,
}

/// What a plugin died of that is started again: the label `reason` of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It gave no sign of life, and was killed.
    Hang,
    /// A limit, as far as that can be seen.
    Limit,
    /// A signal that no limit explains.
    Signal,
    /// It ended by itself.
    Exit,
    /// Nobody knows: its connection broke, or it is not ours to wait for.
    Unknown,
}

impl Reason {
    pub(crate) const ALL: [Self; 5] = [Self::Hang, Self::Limit, Self::Signal, Self::Exit, Self::Unknown];

    fn of(hung: bool, report: &CrashReport) -> Self {
        match (report.exit, &report.limit) {
            _ if hung => Reason::Hang,
            (_, Some(_)) => Reason::Limit,
            (CrashExit::Signal { .. }, None) => Reason::Signal,
            (CrashExit::Code(_), None) => Reason::Exit,
            (CrashExit::Unknown, None) => Reason::Unknown,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::Hang => "hang",
            Reason::Limit => "limit",
            Reason::Signal => "signal",
            Reason::Exit => "exit",
            Reason::Unknown => "unknown",
        }
    }
}

/// An old build that is kept while the new one proves itself.
struct Observed {
    old: Arc<Generation>,
    until: Instant,
}

/// What was seen of a generation whose calls were not answered.
enum Doubt {
    Lives,
    Hangs { generation: Arc<Generation>, busy: bool, what: String },
}

/// Why the keeper does something.
enum Wake {
    Command(Command),
    Died(Arc<Generation>, Death),
    Due,
    TurnedBad,
    Proven,
    LookIfIdle,
    Seen(Doubt),
    Drained,
    Over,
}

/// What a keeper is told, in order.
struct Inbox {
    commands: mpsc::UnboundedReceiver<Command>,
    /// What came while something was done.
    queued: VecDeque<Command>,
}

impl Inbox {
    /// Works, until it is done or somebody wants to stop the plugin; then what was done so far is dropped.
    async fn unless_stopped<T>(&mut self, shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                command = self.commands.recv() => {
                    let stops = matches!(command, Some(Command::Stop { .. }) | None);
                    self.queued.extend(command);
                    if stops {
                        return None;
                    }
                }
                () = shared.abandoned() => return None,
            }
        }
    }

    async fn next(&mut self) -> Option<Command> {
        match self.queued.pop_front() {
            Some(command) => Some(command),
            None => self.commands.recv().await,
        }
    }
}

impl Keeper {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Command>,
        starter: Arc<dyn Starter>,
        records: Arc<Records>,
        source: PathBuf,
    ) -> Self {
        let restarts = Restarts::new(&shared.identity().lifecycle);
        Self {
            inbox: Inbox { commands, queued: VecDeque::new() },
            core: Core {
                shared,
                starter,
                records,
                source,
                restarts,
                number: 0,
                drains: JoinSet::new(),
                draining: Vec::new(),
                restart: None,
                hung: 0,
                observed: None,
                idle: (0, Instant::now()),
                doubt: JoinSet::new(),
            },
        }
    }

    /// Takes over a plugin that was just started, its first generation.
    pub(crate) fn begin(&mut self, first: Arc<Generation>) {
        self.core.number = first.number;
        self.core.shared.transit(|life| life.start());
        self.core.ready(first);
    }

    /// Keeps the plugin until its host is gone.
    pub(crate) async fn keep(mut self) {
        loop {
            let event = self.event().await;
            match event {
                Wake::Command(command) => self.obey(command).await,
                Wake::Died(generation, death) => self.core.died(generation, death).await,
                Wake::Due => self.start_again().await,
                Wake::TurnedBad => _ = self.core.swap_back("too many of its calls failed".to_owned()),
                Wake::Proven => self.core.proven(),
                Wake::LookIfIdle => self.core.stop_if_idle().await,
                Wake::Seen(doubt) => self.core.seen(doubt),
                Wake::Drained => self.core.count_live(),
                Wake::Over => return self.core.leave(),
            }
        }
    }

    async fn event(&mut self) -> Wake {
        let core = &mut self.core;
        let ready = core.shared.ready();
        let died = async {
            match &ready {
                Some(generation) => (Arc::clone(generation), generation.session.over().await),
                None => std::future::pending().await,
            }
        };
        let turned_bad = async {
            match (&core.observed, &ready) {
                (Some(_), Some(new)) => new.fails(new.identity.lifecycle.reload.observe_failures_max).await,
                _ => std::future::pending().await,
            }
        };
        let idle = ready.as_ref().and_then(|ready| ready.identity.lifecycle.idle_stop);
        let look_at = idle.map(|idle| core.idle.1 + idle);
        tokio::select! {
            biased;
            () = core.shared.abandoned() => Wake::Over,
            command = self.inbox.next() => command.map_or(Wake::Over, Wake::Command),
            (generation, death) = died => Wake::Died(generation, death),
            () = turned_bad => Wake::TurnedBad,
            () = at(core.restart.map(|(at, _)| at)) => Wake::Due,
            () = at(core.observed.as_ref().map(|observed| observed.until)) => Wake::Proven,
            () = at(look_at) => Wake::LookIfIdle,
            Some(seen) = core.doubt.join_next() => Wake::Seen(seen.unwrap_or(Doubt::Lives)),
            Some(_) = core.drains.join_next() => Wake::Drained,
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Reload { reply } => self.reload(reply).await,
            Command::Start { reply } => self.start(reply).await,
            Command::Wake => {
                if self.core.shared.state() == (State::Stopped { why: Rest::Idle }) {
                    // What is wrong with it, the state says.
                    let _ = self.start_fresh().await;
                }
            }
            Command::Stop { grace, why, reply } => {
                self.core.stop(grace, why).await;
                let _ = reply.send(());
            }
            Command::Lift { reply } => self.lift(reply).await,
            Command::Doubt => self.core.look_if_it_lives(),
        }
    }

    async fn start(&mut self, reply: oneshot::Sender<Result<(), EnableError>>) {
        let shared = &self.core.shared;
        let plugin = shared.name.clone();
        let started = match shared.state() {
            State::Quarantined { why } => Err(EnableError::Quarantined { plugin, why }),
            State::Ready if shared.ready().is_some() => Ok(()),
            _ => {
                self.core.restart = None;
                self.core.restarts.reset();
                self.start_fresh().await
            }
        };
        let _ = reply.send(started);
    }

    async fn lift(&mut self, reply: oneshot::Sender<Result<(), EnableError>>) {
        let plugin = self.core.shared.name.clone();
        let lifted = match self.core.shared.state() {
            State::Quarantined { .. } => {
                self.core.shared.transit(|life| life.lift());
                self.core.restarts.reset();
                self.start_fresh().await
            }
            state => Err(EnableError::NotQuarantined { plugin, state: state.to_string() }),
        };
        let _ = reply.send(lifted);
    }

    /// Starts a plugin that does not run, because somebody wants it.
    async fn start_fresh(&mut self) -> Result<(), EnableError> {
        let plugin = self.core.shared.name.clone();
        match self.start_now("plugin.load").await {
            None => Err(EnableError::Stopping { plugin }),
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                let why = in_full(&error);
                self.core.shared.transit(|life| life.fail(why, None));
                Err(EnableError::Start { plugin, source: Box::new(error) })
            }
        }
    }

    /// Starts it again after it died. If it does not start, that is decided on as a death is.
    async fn start_again(&mut self) {
        let Some((_, reason)) = self.core.restart.take() else { return };
        let error = match self.start_now("plugin.restart").await {
            Some(Ok(())) => {
                let core = &self.core;
                core.shared.restarts.fetch_add(1, Ordering::Relaxed);
                core.records.tally.restarted(&core.shared.name, reason.as_str());
                return;
            }
            Some(Err(error)) => error,
            None => return,
        };
        let core = &mut self.core;
        let why = in_full(&error);
        let plugin = core.shared.name.clone();
        let decision = core.restarts.ended(End::Failed, Instant::now().into_std(), Duration::ZERO, dice());
        let again = match &decision {
            Decision::RestartIn(after) => Some(*after),
            _ => None,
        };
        core.records.tell(Event::NotStarted { plugin, why: why.clone(), again });
        core.decide(decision, reason, format!("it does not start again: {why}"), vec![why]);
    }

    /// `span`: what it is, for who looks at spans.
    async fn start_now(&mut self, span: &'static str) -> Option<Result<(), LoadError>> {
        let core = &mut self.core;
        let shared = Arc::clone(&core.shared);
        shared.transit(|life| life.start());
        let recorder = Arc::clone(&shared.recorder);
        let started = spans::step(&recorder, span, core.start_proven(None), reload::in_a_word);
        let started = self.inbox.unless_stopped(&shared, started).await;
        match started? {
            Ok(generation) => {
                self.core.ready(generation);
                Some(Ok(()))
            }
            Err((_, error)) => Some(Err(error)),
        }
    }

    async fn reload(&mut self, reply: oneshot::Sender<Result<Reloaded, ReloadError>>) {
        // One reload serves all who asked before it began.
        while let Ok(command) = self.inbox.commands.try_recv() {
            self.inbox.queued.push_back(command);
        }
        let mut replies = vec![reply];
        let queued = std::mem::take(&mut self.inbox.queued);
        for command in queued {
            match command {
                Command::Reload { reply } => replies.push(reply),
                other => self.inbox.queued.push_back(other),
            }
        }
        let begun = Instant::now();
        let core = &mut self.core;
        let plugin = core.shared.name.clone();
        let old = core.shared.ready();
        let from = old.as_ref().map_or(0, |old| old.number);
        let not_now = || ReloadError::NotNow { plugin: plugin.clone(), state: "being stopped".to_owned() };
        let state = core.shared.state();
        let done = match state {
            State::Quarantined { .. } | State::Stopped { why: Rest::Disabled | Rest::Asked } => {
                Err(ReloadError::NotNow { plugin: plugin.clone(), state: state.to_string() })
            }
            _ => {
                if old.is_none() {
                    core.restart = None;
                    core.shared.transit(|life| life.start());
                }
                let shared = Arc::clone(&core.shared);
                let recorder = Arc::clone(&shared.recorder);
                let replaced = spans::step(&recorder, "plugin.reload", core.replace(old.as_ref()), reload::in_a_word);
                match self.inbox.unless_stopped(&shared, replaced).await {
                    None => Err(not_now()),
                    Some(Ok(new)) => Ok(Reloaded {
                        plugin: plugin.clone(),
                        from,
                        to: new.number,
                        version: new.about.version.clone(),
                        took: begun.elapsed(),
                    }),
                    Some(Err((step, source))) => {
                        if old.is_none() {
                            let why = in_full(&source);
                            shared.transit(|life| life.fail(why, None));
                        }
                        let kept = old.as_ref().map(|old| old.number);
                        Err(ReloadError::Failed { plugin: plugin.clone(), step, kept, source })
                    }
                }
            }
        };
        self.core.records.tell(match &done {
            Ok(reloaded) => Event::Reloaded(reloaded.clone()),
            Err(error) => Event::ReloadFailed { plugin, why: in_full(error) },
        });
        let (last, others) = (replies.pop(), replies);
        for reply in others {
            let same = match &done {
                Ok(reloaded) => Ok(reloaded.clone()),
                Err(error) => Err(ReloadError::NotNow {
                    plugin: self.core.shared.name.clone(),
                    state: format!("as it was: {}", in_full(error)),
                }),
            };
            let _ = reply.send(same);
        }
        if let Some(reply) = last {
            let _ = reply.send(done);
        }
    }
}

impl Core {
    /// Starts what lies there now, and proves it. `old` is what it is to replace.
    async fn start_proven(&mut self, old: Option<&Arc<Generation>>) -> Result<Arc<Generation>, reload::Stopped> {
        let shared = &self.shared;
        let found = self.starter.find(&shared.name, &self.source).map_err(|error| (ReloadStep::Find, error))?;
        self.number += 1;
        let start = self.starter.start(found, self.number).await;
        let new = start.map_err(|error| {
            let step = match error {
                LoadError::NotAsDeclared { .. } | LoadError::Capability { .. } | LoadError::OfferedTwice { .. } => {
                    ReloadStep::Check
                }
                LoadError::Trust(_) => ReloadStep::Trust,
                _ => ReloadStep::Start,
            };
            (step, error)
        })?;
        let new = Proving(Some(new));
        match reload::prove(old.map(|old| &**old), new.generation()).await {
            Ok(()) => Ok(new.done()),
            Err(failed) => {
                let new = new.done();
                new.close();
                new.session.stop(true).await;
                Err(failed)
            }
        }
    }

    /// Replaces `old` by what lies there now.
    async fn replace(&mut self, old: Option<&Arc<Generation>>) -> Result<Arc<Generation>, reload::Stopped> {
        self.make_room().await;
        let new = self.start_proven(old).await?;
        if let Err(failed) = reload::swap(&self.shared, old, &new).await {
            new.close();
            new.session.stop(true).await;
            return Err(failed);
        }
        // What was kept for the last change is not what this one would go back to.
        if let Some(before) = self.observed.take() {
            self.drain(before.old);
        }
        if let Some(old) = old {
            match new.identity.lifecycle.reload.observe {
                Some(time) => self.observed = Some(Observed { old: Arc::clone(old), until: Instant::now() + time }),
                None => self.drain(Arc::clone(old)),
            }
        }
        self.ready(Arc::clone(&new));
        Ok(new)
    }

    /// Waits until one generation more may live.
    async fn make_room(&mut self) {
        let generations_max = self.shared.identity().lifecycle.reload.generations_max.max(2);
        while self.drains.len() + usize::from(self.observed.is_some()) + 2 > generations_max {
            match self.observed.take() {
                Some(observed) => self.drain(observed.old),
                None if self.drains.join_next().await.is_none() => return,
                None => self.count_live(),
            }
        }
    }

    fn drain(&mut self, old: Arc<Generation>) {
        self.draining.retain(|other| other.strong_count() > 0);
        self.draining.push(Arc::downgrade(&old));
        self.drains.spawn_on(reload::drain(old), &self.shared.runtime);
        self.count_live();
    }

    fn count_live(&self) {
        let others = self.drains.len() + usize::from(self.observed.is_some());
        let ready = usize::from(self.shared.ready().is_some());
        self.shared.generations_live.store(others + ready, Ordering::Relaxed);
    }

    /// It takes calls, by this generation.
    fn ready(&mut self, generation: Arc<Generation>) {
        self.restart = None;
        self.shared.breaker.reset();
        self.idle = (self.shared.calls().total(), Instant::now());
        let event = Event::Ready {
            plugin: self.shared.name.clone(),
            generation: generation.number,
            version: generation.about.version.clone(),
        };
        self.shared.transit(|life| life.ready(generation));
        self.count_live();
        self.records.tell(event);
    }

    /// The new build has been observed long enough.
    fn proven(&mut self) {
        if let Some(observed) = self.observed.take() {
            self.drain(observed.old);
        }
    }

    /// Gives the calls back to the old build, if there is one, and gives its number.
    fn swap_back(&mut self, why: String) -> Option<u64> {
        let Observed { old, .. } = self.observed.take()?;
        if old.session.ended().is_some() {
            self.drain(old);
            return None;
        }
        let new = self.shared.ready().or_else(|| self.shared.last());
        old.reopen();
        self.shared.transit(|life| life.start().ready(Arc::clone(&old)));
        self.shared.breaker.reset();
        let from = new.as_ref().map_or(0, |new| new.number);
        if let Some(new) = new {
            new.close();
            self.drain(new);
        }
        self.count_live();
        let plugin = self.shared.name.clone();
        self.records.tell(Event::SwappedBack { plugin, from, to: old.number, why });
        Some(old.number)
    }

    /// It died: says so once, and does what follows.
    async fn died(&mut self, generation: Arc<Generation>, Death { cause, exit }: Death) {
        let calls = generation.calls();
        let why = cause.to_string();
        self.shared.transit(|life| life.fail(why.clone(), None));
        generation.close();
        // First of all: until the old build has its place back, every call fails.
        let back = self.swap_back(format!("it died: {why}"));
        let _ = timeout(LOST_GRACE, generation.drained()).await;
        if back.is_none() {
            // Its group, its pipes, its directories. One that was swapped back is drained, and stopped then.
            generation.session.stop(true).await;
        }
        let lost = generation.lost();
        let calls = calls.max(lost.len());
        let uptime = generation.since.1.elapsed();
        let end = End::of(exit.and_then(|exit| exit.code), calls);
        let decision = match back {
            Some(_) => Decision::Stay,
            None => self.restarts.ended(end, Instant::now().into_std(), uptime, dice()),
        };
        if matches!((&decision, end), (Decision::Stay, End::Clean)) && back.is_none() {
            // It had nothing more to do: that is no crash.
            self.shared.transit(|life| life.end());
            self.count_live();
            self.records.tell(Event::Stopped { plugin: self.shared.name.clone(), why: Rest::Ended });
            return;
        }
        let name = &self.shared.name;
        let next = match (&decision, back) {
            (_, Some(generation)) => CrashNext::Kept { generation },
            (Decision::RestartIn(after), _) => CrashNext::Restart { after: *after },
            (Decision::Quarantine { .. }, _) => CrashNext::Quarantined { lift: lift_command(name) },
            (Decision::Stay, _) => CrashNext::Down { start: format!("jackfield enable {name}") },
        };
        let mut calls_in_flight = BTreeMap::new();
        lost.into_iter().for_each(|function| *calls_in_flight.entry(function).or_insert(0) += 1);
        let exit = exit.map_or(CrashExit::Unknown, exit_of);
        let stderr = generation.log.tail(TAIL_LINES);
        let identity = &generation.identity;
        let report = CrashReport {
            plugin: name.clone(),
            version: Some(generation.about.version.clone()),
            hash: generation.hash().await,
            mechanism: identity.mechanism,
            generation: generation.number,
            phase: if calls > 0 { CrashPhase::Call } else { CrashPhase::Idle },
            process: generation.session.process(),
            uptime,
            at: SystemTime::now(),
            calls_in_flight,
            how: match &cause {
                Cause::Crashed { how } => how.clone(),
                other => other.to_string(),
            },
            exit,
            limit: likely_limit(exit, &stderr, &identity.limits.in_force()),
            stderr,
            restarts: self.shared.restarts.load(Ordering::Relaxed),
            next,
            host: crate::HOST.to_owned(),
        };
        let evidence = vec![report.to_string()];
        let reason = Reason::of(self.hung == generation.number, &report);
        self.records.tell(Event::Died(self.records.crashes.add(report)));
        if back.is_none() {
            self.decide(decision, reason, why, evidence);
        }
    }

    /// Does what was decided about a plugin that is down.
    fn decide(&mut self, decision: Decision, reason: Reason, why: String, evidence: Vec<String>) {
        match decision {
            Decision::RestartIn(after) => {
                let at = SystemTime::now() + after;
                self.restart = Some((Instant::now() + after, reason));
                self.shared.transit(|life| life.fail(why, Some(at)));
            }
            Decision::Stay => self.shared.transit(|life| life.fail(why, None)),
            Decision::Quarantine { why: too_many } => {
                let hash = self.shared.last().and_then(|last| last.hash.known().map(str::to_owned));
                let plugin = self.shared.name.clone();
                self.records.set_aside(Quarantined::now(&plugin, hash, too_many.clone(), evidence));
                self.shared.transit(|life| life.quarantine(format!("{too_many}; last: {why}")));
            }
        }
        self.count_live();
    }

    async fn stop(&mut self, grace: Duration, why: Rest) {
        self.restart = None;
        if let Some(observed) = self.observed.take() {
            self.drain(observed.old);
        }
        let generation = self.shared.ready();
        self.shared.transit(|life| life.drain(why));
        if let Some(generation) = generation {
            generation.close();
            let drained = timeout(grace, generation.drained()).await.is_ok();
            generation.session.stop(drained).await;
            self.shared.transit(|life| life.stopped());
        }
        if matches!(why, Rest::Asked) {
            // Old generations had their time, too.
            let _ = timeout(grace, async { while self.drains.join_next().await.is_some() {} }).await;
            self.drains.shutdown().await;
            for old in self.draining.drain(..).filter_map(|old| Weak::upgrade(&old)) {
                old.session.kill(Cause::Unavailable { why: "its host is stopping".to_owned() });
                old.session.stop(false).await;
            }
        }
        self.count_live();
        self.records.tell(Event::Stopped { plugin: self.shared.name.clone(), why });
    }

    async fn stop_if_idle(&mut self) {
        let total = self.shared.calls().total();
        let idle = total == self.idle.0 && self.shared.ready().is_some_and(|ready| ready.calls() == 0);
        self.idle = (total, Instant::now());
        if idle {
            let grace = self.shared.limits().stop_grace;
            self.stop(grace, Rest::Idle).await;
        }
    }

    /// A call was not answered in time: is it slow, or is the plugin dead and does not know it?
    fn look_if_it_lives(&mut self) {
        let Some(generation) = self.shared.ready().filter(|_| self.doubt.is_empty()) else { return };
        let within = generation.identity.lifecycle.reload.health_timeout;
        let looked = async move {
            let process = generation.session.process();
            let before = process.and_then(processor_time);
            // An error is an answer, too; of the death it may tell, the session tells better.
            if timeout(within, generation.session.ping()).await.is_ok() {
                return Doubt::Lives;
            }
            let used = match (before, process.and_then(processor_time)) {
                (Some(before), Some(after)) => Some(after.saturating_sub(before)),
                _ => None,
            };
            let busy = used.is_some_and(|used| used * 10 > within);
            let used = used.map_or_else(String::new, |used| format!(", and {used:.1?} of processor time in it"));
            let how = if busy { "it is busy" } else { "it is stuck" };
            Doubt::Hangs { generation, busy, what: format!("{how}: no sign of life for {within:?}{used}") }
        };
        self.doubt.spawn_on(looked, &self.shared.runtime);
    }

    fn seen(&mut self, doubt: Doubt) {
        let Doubt::Hangs { generation, busy, what } = doubt else { return };
        if self.shared.ready().is_none_or(|ready| ready.number != generation.number) {
            return;
        }
        let plugin = self.shared.name.clone();
        self.records.tell(Event::Hangs { plugin, busy, what: what.clone() });
        if !busy {
            self.hung = generation.number;
            generation.session.kill(Cause::Crashed { how: format!("{what}; it was killed") });
        }
    }

    /// Its host is gone.
    fn leave(self) {
        let draining = self.draining.iter().filter_map(Weak::upgrade);
        for old in self.observed.into_iter().map(|observed| observed.old).chain(draining) {
            old.session.kill(Cause::Unavailable { why: "its host is gone".to_owned() });
        }
    }
}

/// A generation that is not in use yet: dropped, it ends.
struct Proving(Option<Arc<Generation>>);

impl Proving {
    fn generation(&self) -> &Generation {
        self.0.as_ref().expect("it is taken once, at the end")
    }

    fn done(mut self) -> Arc<Generation> {
        self.0.take().expect("it is taken once, at the end")
    }
}

impl Drop for Proving {
    fn drop(&mut self) {
        if let Some(generation) = self.0.take() {
            generation.close();
            generation.session.kill(Cause::Unavailable { why: "it was stopped".to_owned() });
        }
    }
}

fn exit_of(exit: Exit) -> CrashExit {
    match (exit.code, exit.signal) {
        (Some(code), _) => CrashExit::Code(code),
        (None, Some(number)) => CrashExit::Signal { number, core_dumped: exit.core_dumped },
        (None, None) => CrashExit::Unknown,
    }
}

/// A random number.
fn dice() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};

    RandomState::new().build_hasher().finish()
}

/// Waits for a time, or without end.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Processor time that a process has used so far, of all its threads. None where nobody says.
fn processor_time(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may have anything in it: the state is the third value, user and system time the
    // 14th and 15th, in hundredths of a second on every Linux.
    let mut values = stat.rsplit(") ").next()?.split(' ').skip(11);
    let ticks = values.next()?.parse::<u64>().ok()? + values.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests;
