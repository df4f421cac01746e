//! A keeper with a starter whose sessions are values: no program, and a clock that only moves when nothing else does.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use jackfield_protocol::call::{Answer, Buffer};
use jackfield_protocol::{Encoding, Status};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use super::*;
use crate::call::CallOptions;
use crate::crash::Crashes;
use crate::discover::{Found, Source};
use crate::journal::Journal;
use crate::lifecycle::{Canary, Lifecycle, Restart};
use crate::limits::Limits;
use crate::log::PluginLog;
use crate::manifest::{Manifest, MechanismKind};
use crate::mechanism::{self, About, Boxed, Inbound, Offered, Outbound, Session, Started, finish};
use crate::plugin::{Identity, Plugin};
use crate::quarantine::Quarantine;
use crate::trust::Trusted;

/// What the next start gives.
#[derive(Clone, Debug)]
enum Build {
    Good,
    /// Its `fail` counts as a failure of the plugin; so does everything in a bad one.
    Bad,
    DoesNotStart,
    OffersNothing,
    /// Answers nothing, not even a ping.
    Hangs,
}

/// A session that is no more than what it answers.
struct Fake {
    number: u64,
    build: Build,
    about: About,
    over: mechanism::Over,
    held: Arc<tokio::sync::Semaphore>,
    stopped: Arc<AtomicU32>,
}

impl Session for Fake {
    fn about(&self) -> &About {
        &self.about
    }

    fn call(&self, call: Outbound<'_>) -> Inbound {
        let answer =
            |value: Value| Ok(Answer::encoded(true, Encoding::Json, Buffer::from(value.to_string().into_bytes())));
        if let Some(death) = &*self.over.borrow() {
            return Inbound::Now(Err(Cause::Unavailable { why: death.cause.to_string() }));
        }
        match (&self.build, &*call.function.name) {
            (Build::Hangs, _) => {
                let after = call.timeout;
                Inbound::Later(Box::pin(async move {
                    tokio::time::sleep(after).await;
                    Err(Cause::Timeout { after })
                }))
            }
            (Build::Bad, _) => Inbound::Now(Err(Cause::Panicked { message: "I am bad".to_owned() })),
            (_, "wait") => {
                let (held, number) = (Arc::clone(&self.held), self.number);
                let dead = mechanism::over(&self.over);
                Inbound::Later(Box::pin(async move {
                    tokio::select! {
                        permit = held.acquire() => {
                            permit.expect("it is never closed").forget();
                            answer(json!(number))
                        }
                        death = dead => Err(death.cause),
                    }
                }))
            }
            _ => Inbound::Now(answer(json!(self.number))),
        }
    }

    fn ended(&self) -> Option<String> {
        self.over.borrow().as_ref().map(|death| death.cause.to_string())
    }

    fn over(&self) -> Boxed<'static, Death> {
        mechanism::over(&self.over)
    }

    fn ping(&self) -> Boxed<'_, Result<(), Cause>> {
        match self.build {
            Build::Hangs => Box::pin(std::future::pending()),
            _ => Box::pin(async { Ok(()) }),
        }
    }

    fn stop(&self, _: bool) -> Boxed<'_, ()> {
        Box::pin(async {
            finish(&self.over, Cause::Unavailable { why: "it was stopped".to_owned() }.into());
            self.stopped.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn kill(&self, cause: Cause) {
        finish(&self.over, cause.into());
    }

    fn process(&self) -> Option<u32> {
        None
    }
}

/// Starts what it was told to start next.
struct Starts {
    lifecycle: Lifecycle,
    next: Mutex<VecDeque<Build>>,
    sessions: Mutex<HashMap<u64, Arc<Fake>>>,
    held: Arc<tokio::sync::Semaphore>,
    stopped: Arc<AtomicU32>,
}

fn manifest() -> Manifest {
    Manifest::bare("fake".to_owned(), std::path::Path::new("/nowhere/fake"))
}

impl Starts {
    fn generation(&self, number: u64) -> Result<Arc<Generation>, LoadError> {
        let build = self.next.lock().expect("not poisoned").pop_front().unwrap_or(Build::Good);
        let offers = match build {
            Build::DoesNotStart => return Err(LoadError::NoInterface),
            Build::OffersNothing => "test:other/other@1.0.0",
            _ => "test:fake/fake@1.0.0",
        };
        let about = About {
            name: "fake".to_owned(),
            version: format!("1.0.{number}"),
            capabilities: Vec::new(),
            interfaces: vec![Offered { id: offers.parse().expect("a name"), description: None, binary: false }],
            services: Vec::new(),
            speaks: String::new(),
        };
        let session = Arc::new(Fake {
            number,
            build,
            about: about.clone(),
            over: mechanism::Over::new(None),
            held: Arc::clone(&self.held),
            stopped: Arc::clone(&self.stopped),
        });
        self.sessions.lock().expect("not poisoned").insert(number, Arc::clone(&session));
        let started = Started { session, log: Arc::new(PluginLog::new("fake")) };
        let leases = Journal::open(None).0.leases("fake", false);
        Ok(Arc::new(Generation::new(number, self.identity(), started, about, leases, Arc::default())))
    }

    fn identity(&self) -> Identity {
        Identity {
            mechanism: MechanismKind::Process,
            source: "/nowhere/fake".into(),
            entry: "/nowhere/fake".into(),
            limits: Limits::default(),
            lifecycle: self.lifecycle.clone(),
            trusted: Trusted::default(),
        }
    }
}

impl Starter for Starts {
    fn find(&self, _: &str, source: &std::path::Path) -> Result<Found, LoadError> {
        Ok(Found { manifest: manifest(), source: Source::Bare(source.to_owned()) })
    }

    fn start(&self, _: Found, number: u64) -> Boxed<'static, Result<Arc<Generation>, LoadError>> {
        let started = self.generation(number);
        Box::pin(async { started })
    }
}

/// A plugin with a keeper.
struct Kept {
    plugin: Plugin,
    starts: Arc<Starts>,
    records: Arc<Records>,
    events: broadcast::Receiver<Event>,
}

impl Kept {
    fn with(set: impl FnOnce(&mut Lifecycle)) -> Self {
        let mut lifecycle = Lifecycle::default();
        set(&mut lifecycle);
        let starts = Arc::new(Starts {
            lifecycle,
            next: Mutex::default(),
            sessions: Mutex::default(),
            held: Arc::new(tokio::sync::Semaphore::new(0)),
            stopped: Arc::default(),
        });
        let (sender, commands) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new("fake".to_owned(), starts.identity(), Handle::current(), sender));
        let records = Arc::new(Records::new(Crashes::open(None), Quarantine::open(None)));
        let starter: Arc<dyn Starter> = Arc::clone(&starts) as _;
        let mut keeper =
            Keeper::new(Arc::clone(&shared), commands, starter, Arc::clone(&records), "/nowhere/fake".into());
        keeper.begin(starts.generation(1).expect("a start"));
        tokio::spawn(keeper.keep());
        Self { plugin: Plugin { shared }, starts, events: records.events(), records }
    }

    fn next(&self, builds: impl IntoIterator<Item = Build>) {
        self.starts.next.lock().expect("not poisoned").extend(builds);
    }

    fn session(&self, number: u64) -> Arc<Fake> {
        Arc::clone(&self.starts.sessions.lock().expect("not poisoned")[&number])
    }

    /// The generation that is there dies like this.
    fn die(&self, number: u64, code: i32) {
        let exit = Exit { code: Some(code), signal: None, core_dumped: false };
        let cause = Cause::Crashed { how: exit.to_string() };
        finish(&self.session(number).over, Death { cause, exit: Some(exit) });
    }

    async fn call(&self, function: &str) -> Result<Value, String> {
        self.plugin.call(function, json!({})).await.map_err(|error| error.to_string())
    }

    async fn reload(&self) -> Result<Reloaded, String> {
        let asked = self.plugin.shared.ask(|reply| Command::Reload { reply }).await.expect("a keeper");
        asked.map_err(|error| in_full(&error))
    }

    async fn stop(&self) {
        let grace = Duration::from_secs(2);
        let asked = self.plugin.shared.ask(|reply| Command::Stop { grace, why: Rest::Asked, reply });
        asked.await.expect("a keeper");
    }

    /// The next thing that happens, in a few words.
    async fn event(&mut self) -> String {
        match self.events.recv().await.expect("an event") {
            Event::Ready { generation, .. } => format!("ready {generation}"),
            Event::Died(report) => format!("died {}: {}; {:?}", report.generation, report.how, report.next),
            Event::NotStarted { why, again, .. } => format!("not started: {why}; again: {}", again.is_some()),
            Event::Quarantined { why, .. } => format!("quarantined: {why}"),
            Event::Reloaded(reloaded) => format!("reloaded {} -> {}", reloaded.from, reloaded.to),
            Event::ReloadFailed { why, .. } => format!("reload failed: {why}"),
            Event::SwappedBack { from, to, why, .. } => format!("swapped back {from} -> {to}: {why}"),
            Event::Hangs { busy, what, .. } => format!("hangs, busy {busy}: {what}"),
            Event::Stopped { why, .. } => format!("stopped: {why:?}"),
            other => format!("{other:?}"),
        }
    }

    async fn expect(&mut self, expected: &str) {
        let event = tokio::time::timeout(Duration::from_secs(3600), self.event()).await.expect("an event in an hour");
        assert!(event.starts_with(expected), "{event:?} does not begin with {expected:?}");
    }

    fn state(&self) -> String {
        self.plugin.info().state.to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_dies_is_reported_and_started_again() {
    let mut kept = Kept::with(|_| {});
    assert_eq!(kept.call("which").await, Ok(json!(1)));
    kept.die(1, 3);
    kept.expect("died 1: exit status 3; Restart").await;
    let died = tokio::time::Instant::now();
    assert_eq!(kept.state(), "failed: the plugin crashed: exit status 3");
    assert_eq!(
        kept.call("which").await,
        Err("call of `which` of plugin `fake`: the plugin is not running: failed: the plugin crashed: exit status 3"
            .to_owned())
    );
    kept.expect("ready 2").await;
    let waited = died.elapsed();
    assert!((Duration::from_millis(79)..Duration::from_millis(122)).contains(&waited), "{waited:?}");
    assert_eq!(kept.call("which").await, Ok(json!(2)));
    assert_eq!(kept.plugin.info().restarts, 1);
    assert_eq!(kept.records.crashes.list().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_keeps_dying_is_quarantined_and_let_back_by_a_person() {
    let mut kept = Kept::with(|life| life.restarts_max = 2);
    for number in 1..=2 {
        kept.die(number, 1);
        kept.expect(&format!("died {number}: exit status 1; Restart")).await;
        kept.expect(&format!("ready {}", number + 1)).await;
    }
    kept.die(3, 1);
    kept.expect("died 3: exit status 1; Quarantined").await;
    kept.expect("quarantined: it was restarted 2 times").await;
    assert!(kept.state().starts_with("quarantined: it was restarted 2 times"), "{}", kept.state());
    assert_eq!(kept.records.quarantine.list().len(), 1);
    let started = kept.plugin.shared.ask(|reply| Command::Start { reply }).await.expect("a keeper");
    assert!(matches!(started, Err(EnableError::Quarantined { .. })), "{started:?}");
    let lifted = kept.plugin.shared.ask(|reply| Command::Lift { reply }).await.expect("a keeper");
    assert!(lifted.is_ok(), "{lifted:?}");
    kept.expect("ready 4").await;
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_does_not_start_again_is_tried_until_it_is_too_much() {
    let mut kept = Kept::with(|life| life.restarts_max = 2);
    kept.next([Build::DoesNotStart, Build::DoesNotStart]);
    kept.die(1, 1);
    kept.expect("died 1").await;
    kept.expect("not started: the plugin offers no interface; again: true").await;
    kept.expect("not started: the plugin offers no interface; again: false").await;
    kept.expect("quarantined").await;
}

#[tokio::test(start_paused = true)]
async fn an_end_without_fault_is_left_alone_and_a_policy_is_kept() {
    let mut kept = Kept::with(|_| {});
    kept.die(1, 0);
    kept.expect("stopped: Ended").await;
    assert_eq!(kept.state(), "stopped: it ended by itself");

    let mut kept = Kept::with(|life| life.restart = Restart::Always);
    kept.die(1, 0);
    kept.expect("died 1: exit status 0; Restart").await;
    kept.expect("ready 2").await;

    let mut kept = Kept::with(|life| life.restart = Restart::Never);
    kept.die(1, 7);
    kept.expect("died 1: exit status 7; Down").await;
    let started = kept.plugin.shared.ask(|reply| Command::Start { reply }).await.expect("a keeper");
    assert!(started.is_ok(), "{started:?}");
    kept.expect("ready 2").await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_a_death_ended_are_named_in_its_report() {
    let mut kept = Kept::with(|_| {});
    let plugin = kept.plugin.clone();
    let call = tokio::spawn(async move { plugin.call("wait", json!({})).await });
    while kept.plugin.shared.ready().expect("a generation").calls() == 0 {
        tokio::task::yield_now().await;
    }
    kept.die(1, 1);
    let status = call.await.expect("no panic").expect_err("a failure").status();
    assert_eq!(status, Status::Crashed);
    kept.expect("died 1").await;
    let report = &kept.records.crashes.list()[0];
    assert_eq!(report.calls_in_flight, BTreeMap::from([("wait".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_reload_takes_new_calls_to_the_new_build_and_lets_old_ones_end() {
    let mut kept = Kept::with(|_| {});
    let plugin = kept.plugin.clone();
    let slow = tokio::spawn(async move { plugin.call("wait", json!({})).await });
    while kept.plugin.shared.ready().expect("a generation").calls() == 0 {
        tokio::task::yield_now().await;
    }
    let reloaded = kept.reload().await.expect("a new build");
    assert_eq!((reloaded.from, reloaded.to, &*reloaded.version), (1, 2, "1.0.2"));
    assert_eq!(kept.call("which").await, Ok(json!(2)));
    assert_eq!(kept.plugin.info().generations_live, 2);
    assert_eq!(kept.starts.stopped.load(Ordering::Relaxed), 0, "the old one has a call");
    kept.starts.held.add_permits(1);
    assert_eq!(slow.await.expect("no panic"), Ok(json!(1)));
    while kept.plugin.info().generations_live > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(kept.starts.stopped.load(Ordering::Relaxed), 1);
    kept.expect("ready 2").await;
    kept.expect("reloaded 1 -> 2").await;
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_a_step_leaves_the_old_one_and_names_the_step() {
    let canary = Canary { function: "which".to_owned(), arguments: json!({}) };
    let mut kept = Kept::with(|life| life.reload.canary = Some(canary));
    for (build, expected) in [
        (Build::DoesNotStart, "the new build does not start; generation 1 goes on: the plugin offers no interface"),
        (Build::OffersNothing, "the new build is not what is wanted; generation 1 goes on"),
        (Build::Bad, "the new build failed its canary call; generation 1 goes on"),
        (Build::Hangs, "the new build failed its canary call; generation 1 goes on"),
    ] {
        kept.next([build.clone()]);
        let error = kept.reload().await.expect_err("a bad build");
        assert!(error.starts_with(&format!("plugin `fake` was not replaced: {expected}")), "{build:?}: {error}");
        kept.expect("reload failed").await;
        assert_eq!(kept.call("which").await, Ok(json!(1)), "{build:?}");
        assert_eq!(kept.plugin.info().generations_live, 1, "{build:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_build_that_turns_bad_while_it_is_observed_gives_the_calls_back() {
    let mut kept = Kept::with(|life| life.reload.observe = Some(Duration::from_secs(10)));
    kept.next([Build::Bad]);
    kept.reload().await.expect("it seems well");
    kept.expect("ready 2").await;
    kept.expect("reloaded 1 -> 2").await;
    for _ in 0..3 {
        kept.call("which").await.expect_err("a bad build");
    }
    kept.expect("swapped back 2 -> 1: too many of its calls failed").await;
    assert_eq!(kept.call("which").await, Ok(json!(1)));

    kept.reload().await.expect("a good build");
    kept.expect("ready 3").await;
    kept.expect("reloaded 1 -> 3").await;
    kept.die(3, 1);
    kept.expect("swapped back 3 -> 1: it died: the plugin crashed: exit status 1").await;
    kept.expect("died 3: exit status 1; Kept { generation: 1 }").await;
    assert_eq!(kept.call("which").await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_build_that_proves_itself_stays_and_the_old_one_ends() {
    let mut kept = Kept::with(|life| life.reload.observe = Some(Duration::from_secs(10)));
    kept.reload().await.expect("a good build");
    assert_eq!(kept.plugin.info().generations_live, 2);
    tokio::time::sleep(Duration::from_secs(11)).await;
    while kept.plugin.info().generations_live > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(kept.call("which").await, Ok(json!(2)));
    kept.expect("ready 2").await;
}

#[tokio::test(start_paused = true)]
async fn calls_of_an_old_build_that_do_not_end_are_ended() {
    let kept = Kept::with(|life| life.reload.drain_timeout = Duration::from_secs(1));
    let plugin = kept.plugin.clone();
    let slow = tokio::spawn(async move { plugin.call("wait", json!({})).await });
    while kept.plugin.shared.ready().expect("a generation").calls() == 0 {
        tokio::task::yield_now().await;
    }
    kept.reload().await.expect("a new build");
    let error = slow.await.expect("no panic").expect_err("it was ended");
    assert_eq!(
        error.to_string(),
        "call of `wait` of plugin `fake`: the plugin is not running: a newer build took its place, and this call took \
         longer than 1s"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_generations_live_than_may() {
    let kept = Kept::with(|life| life.reload.drain_timeout = Duration::from_secs(5));
    for _ in 0..4 {
        let plugin = kept.plugin.clone();
        let number = kept.plugin.info().generation;
        tokio::spawn(async move { plugin.call("wait", json!({})).await });
        while kept.plugin.shared.ready().expect("a generation").calls() == 0 {
            tokio::task::yield_now().await;
        }
        kept.reload().await.expect("a new build");
        assert_eq!(kept.plugin.info().generation, number + 1);
        assert!(kept.plugin.info().generations_live <= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_plugin_is_stopped_and_the_next_call_starts_it() {
    let mut kept = Kept::with(|life| life.idle_stop = Some(Duration::from_secs(60)));
    assert_eq!(kept.call("which").await, Ok(json!(1)));
    kept.expect("stopped: Idle").await;
    assert_eq!(kept.state(), "stopped: it was idle");
    assert_eq!(kept.call("which").await, Ok(json!(2)));
    kept.expect("ready 2").await;
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_is_stuck_is_killed_and_started_again() {
    let mut kept = Kept::with(|_| {});
    kept.next([Build::Hangs]);
    kept.reload().await.expect("it seems well");
    kept.expect("ready 2").await;
    kept.expect("reloaded 1 -> 2").await;
    let options = CallOptions { timeout: Some(Duration::from_secs(1)) };
    kept.plugin.call_with(&options, "which", json!({})).await.expect_err("no answer");
    kept.expect("hangs, busy false: it is stuck: no sign of life for 5s").await;
    kept.expect("died 2: it is stuck: no sign of life for 5s; it was killed").await;
    kept.expect("ready 3").await;
    assert_eq!(kept.call("which").await, Ok(json!(3)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_is_under_way_and_nothing_starts_after_it() {
    let mut kept = Kept::with(|_| {});
    kept.die(1, 1);
    kept.expect("died 1").await;
    kept.stop().await;
    kept.expect("stopped: Asked").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(kept.state(), "stopped");
    assert!(kept.reload().await.expect_err("it is stopped").contains("is not replaced: it is stopped"));
}
