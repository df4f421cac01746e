//! What is measured of plugins: how often and how long they were called, and what became of them.
//!
//! A plugin has one [`Meters`], for as long as the host knows it: over restarts and reloads its numbers only grow,
//! and when it is removed its series are gone with it. Each of its functions has a [`Series`], which whoever calls
//! looks up once and keeps: a call that is measured reads the clock twice and adds to two numbers.
//!
//! Labels are bounded. A method's name comes from a description of an interface or a service, never from a
//! caller: what is asked for and does not exist is counted as `_OTHER`, and so is what is beyond [`METHODS_MAX`].
//!
//! Not here: which series there are and what they say of a plugin's state (`scrape.rs`).

mod durations;
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nobody asks for it"))]
mod fine;
#[cfg(feature = "otel-metrics")]
mod meter;
mod own;
mod page;
#[cfg(feature = "metrics")]
mod registry;
mod tally;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use jackfield_protocol::call::Cause;
use jackfield_protocol::{Status, TraceContext};
use tracing::Level;

use durations::Words;
use fine::Fine;
use own::{Adders, Own};

pub(crate) use durations::{Durations, Exemplar, Taken};
#[cfg(feature = "otel-metrics")]
pub(crate) use meter::observe;
#[cfg_attr(not(feature = "metrics"), allow(unused_imports, reason = "only the page has use for them"))]
pub(crate) use page::{Family, Kind, Page, Samples, TextPage};
#[cfg(feature = "metrics")]
pub(crate) use registry::RegistryPage;
pub(crate) use tally::{Died, Tally};

/// Most methods of a plugin that have series of their own.
pub(crate) const METHODS_MAX: usize = 1_000;

/// The method of calls that belong to none.
pub(crate) const OTHER: &str = "_OTHER";

/// A clock for the time that calls take: the processor's counter where that is invariant, the system's elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    #[cfg(feature = "metrics")]
    clock: quanta::Clock,
}

/// When something began, in ticks of the clock; 0 if nobody looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun(#[cfg_attr(not(feature = "metrics"), allow(dead_code))] u64);

impl Clock {
    /// The first clock of a process finds out how fast the processor counts, which takes some milliseconds. The others
    /// are copies of it: what the processor is able to is a question that a virtual machine's host answers, in 60 µs.
    #[cfg(feature = "metrics")]
    pub(crate) fn start() -> Option<Self> {
        static FIRST: std::sync::OnceLock<quanta::Clock> = std::sync::OnceLock::new();
        Some(Self { clock: FIRST.get_or_init(quanta::Clock::new).clone() })
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn start() -> Option<Self> {
        None
    }

    #[inline]
    fn now(&self) -> u64 {
        #[cfg(feature = "metrics")]
        {
            self.clock.raw()
        }
        #[cfg(not(feature = "metrics"))]
        {
            0
        }
    }

    /// Nanoseconds since then.
    #[inline]
    fn since(&self, begun: Begun) -> u64 {
        #[cfg(feature = "metrics")]
        {
            self.clock.delta_as_nanos(begun.0, self.clock.raw())
        }
        #[cfg(not(feature = "metrics"))]
        {
            let _ = begun;
            0
        }
    }
}

/// What is measured of all plugins of a host.
#[derive(Debug)]
pub(crate) struct AllMeters {
    /// None if nothing is.
    clock: Option<Clock>,
    /// Whether times are counted in narrow buckets, too.
    fine: bool,
    /// Of plugins that are there or are being loaded.
    known: Mutex<BTreeMap<String, Weak<Meters>>>,
}

impl AllMeters {
    pub(crate) fn new(measured: bool, fine: bool) -> Self {
        Self { clock: if measured { Clock::start() } else { None }, fine, known: Mutex::default() }
    }

    /// What is measured of a plugin, for as long as somebody has it.
    pub(crate) fn of(&self, plugin: &str) -> Arc<Meters> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meters) = known.get(plugin).and_then(Weak::upgrade) {
            return meters;
        }
        known.retain(|_, meters| meters.strong_count() > 0);
        let meters = Arc::new(Meters { fine: self.fine, ..Meters::new(self.clock.clone()) });
        known.insert(plugin.to_owned(), Arc::downgrade(&meters));
        meters
    }
}

/// Why a span was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Too many waited.
    Queue,
    /// The collector did not take it.
    Export,
    /// The plugin sent it, and it was none or belonged to no call.
    Refused,
}

/// What is measured of one plugin.
#[derive(Debug)]
pub(crate) struct Meters {
    /// None if nothing is measured.
    clock: Option<Clock>,
    fine: bool,
    methods: RwLock<BTreeMap<Box<str>, Arc<Series>>>,
    other: Arc<Series>,
    /// Time for which calls waited for room or for a generation; of those that waited.
    pub(crate) queue: Durations,
    lines: [AtomicU64; 5],
    /// Lines that were passed over, since there were too many.
    pub(crate) lines_dropped: AtomicU64,
    /// Lines on stdout that are no messages.
    pub(crate) noise: AtomicU64,
    /// Spans, by [`Lost`].
    lost: [AtomicU64; 3],
    limits: Mutex<BTreeMap<&'static str, u64>>,
    cpu: Mutex<Option<Cpu>>,
}

/// Processor time of a plugin's processes, one after the other.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    /// The generation whose process it is, and what it has used.
    generation: u64,
    seconds: f64,
    /// What those before it had used when they were last looked at.
    before: f64,
}

impl Default for Meters {
    /// Meters that measure nothing.
    fn default() -> Self {
        Self::new(None)
    }
}

impl Meters {
    pub(crate) fn new(clock: Option<Clock>) -> Self {
        Self {
            clock,
            fine: false,
            methods: RwLock::default(),
            other: Arc::new(Series::new(OTHER, false)),
            queue: Durations::default(),
            lines: Default::default(),
            lines_dropped: AtomicU64::new(0),
            noise: AtomicU64::new(0),
            lost: Default::default(),
            limits: Mutex::default(),
            cpu: Mutex::default(),
        }
    }

    /// A call begins.
    #[inline]
    pub(crate) fn begin(&self) -> Begun {
        Begun(self.clock.as_ref().map_or(0, Clock::now))
    }

    /// The series of a method that is described; made if there is none.
    pub(crate) fn method(&self, name: &str) -> Arc<Series> {
        if let Some(series) = self.known(name) {
            return series;
        }
        let mut methods = self.methods.write().unwrap_or_else(PoisonError::into_inner);
        if methods.len() >= METHODS_MAX && !methods.contains_key(name) {
            return Arc::clone(&self.other);
        }
        Arc::clone(methods.entry(name.into()).or_insert_with(|| Arc::new(Series::new(name, self.fine))))
    }

    /// The series of a method that somebody named; that of no method if there is none.
    pub(crate) fn named(&self, name: &str) -> Arc<Series> {
        self.known(name).unwrap_or_else(|| Arc::clone(&self.other))
    }

    fn known(&self, name: &str) -> Option<Arc<Series>> {
        self.methods.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All series, sorted; that of no method only if it was ever used.
    pub(crate) fn series(&self) -> Vec<Arc<Series>> {
        let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        let other = (self.other.total() > 0).then_some(&self.other);
        other.into_iter().chain(methods.values()).cloned().collect()
    }

    /// How many calls of all methods ended in which way.
    pub(crate) fn ended(&self) -> [u64; Status::ALL.len()] {
        let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        let series = || methods.values().chain([&self.other]);
        let mut ended = [0; Status::ALL.len()];
        for ends in series().map(|one| one.ends()) {
            ended.iter_mut().zip(ends).for_each(|(all, some)| *all += some);
        }
        ended
    }

    /// A call ended in a failure of this kind.
    pub(crate) fn failed(&self, cause: &Cause) {
        let limit = match cause {
            Cause::Limit { limit, .. } => limit,
            Cause::Timeout { .. } => "call_timeout",
            _ => return,
        };
        *self.limits().entry(limit).or_insert(0) += 1;
    }

    fn limits(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often which limit ended a call.
    pub(crate) fn limit_hits(&self) -> BTreeMap<&'static str, u64> {
        self.limits().clone()
    }

    /// The plugin wrote a line.
    pub(crate) fn line(&self, level: Level) {
        self.lines[level_at(level)].fetch_add(1, Ordering::Relaxed);
    }

    /// Lines by level: `error`, `warn`, `info`, `debug`, `trace`.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = ["error", "warn", "info", "debug", "trace"];
        names.into_iter().zip(&self.lines).map(|(name, lines)| (name, lines.load(Ordering::Relaxed)))
    }

    /// So many spans were lost.
    pub(crate) fn lost(&self, why: Lost, spans: u64) {
        self.lost[why as usize].fetch_add(spans, Ordering::Relaxed);
    }

    /// Spans that were lost, by reason: `queue`, `export`, `refused`.
    pub(crate) fn spans_lost(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = ["queue", "export", "refused"];
        names.into_iter().zip(&self.lost).map(|(name, spans)| (name, spans.load(Ordering::Relaxed)))
    }

    /// The process of this generation has used so much so far.
    pub(crate) fn used(&self, generation: u64, seconds: f64) {
        let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &*cpu {
            // Two scrapes may overlap, and a number that only grows must not fall.
            Some(known) if known.generation == generation => (known.before, known.seconds),
            Some(known) => (known.before + known.seconds, 0.0),
            None => (0.0, 0.0),
        };
        *cpu = Some(Cpu { generation, seconds: seconds.max(before.1), before: before.0 });
    }

    /// Processor time that all its processes have used. None if it never had one.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        let cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        cpu.map(|cpu| cpu.before + cpu.seconds)
    }

    /// A call waited this long.
    pub(crate) fn queued(&self, waited: Duration) {
        self.queue.add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
    }
}

fn level_at(level: Level) -> usize {
    match level {
        Level::ERROR => 0,
        Level::WARN => 1,
        Level::INFO => 2,
        Level::DEBUG => 3,
        _ => 4,
    }
}

/// What is measured of one method.
#[derive(Debug)]
pub(crate) struct Series {
    /// `greeter.greet`, `proto.KV/Get`, or [`OTHER`].
    pub(crate) method: Box<str>,
    ended: Ended,
    took: Durations,
    fine: Option<Box<Fine>>,
    own: Own<Cells>,
}

/// Calls that ended, by how.
type Ended = [AtomicU64; Status::ALL.len()];

/// What one thread counts of a method. Aligned, so that no other thread's lie beside it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cells {
    ended: Ended,
    took: Words,
}

impl Series {
    fn new(method: &str, fine: bool) -> Self {
        Self {
            method: method.into(),
            ended: Ended::default(),
            took: Durations::default(),
            fine: fine.then(Box::default),
            own: Own::default(),
        }
    }

    /// Where this thread counts.
    #[inline]
    fn cells(&self) -> (&Ended, &Words, Adders) {
        match self.own.mine() {
            Some(own) => (&own.ended, &own.took, Adders::Me),
            None => (&self.ended, self.took.common(), Adders::Anybody),
        }
    }

    /// A call ended like this.
    #[inline]
    pub(crate) fn count(&self, status: Status) {
        let (ended, _, adders) = self.cells();
        own::add(&ended[status as usize], 1, adders);
    }

    /// A call that the plugin was asked is over.
    #[inline]
    pub(crate) fn took(&self, meters: &Meters, begun: Begun) -> u64 {
        match &meters.clock {
            Some(clock) => {
                let nanos = clock.since(begun);
                let (_, words, adders) = self.cells();
                self.took.add_to(words, adders, nanos);
                if let Some(fine) = &self.fine {
                    fine.add(nanos);
                }
                nanos
            }
            None => 0,
        }
    }

    /// The same, of a call that was made in this span.
    #[inline]
    pub(crate) fn took_in(&self, meters: &Meters, begun: Begun, trace: Option<TraceContext>) {
        let nanos = self.took(meters, begun);
        if let Some(trace) = trace
            && trace.sampled
            && meters.clock.is_some()
        {
            self.note(trace.trace_id, nanos);
        }
    }

    // Apart, so that a call that is not traced has no room for it to make.
    #[cold]
    #[inline(never)]
    fn note(&self, trace: [u8; 16], nanos: u64) {
        self.took.note(Exemplar { trace, nanos, at: SystemTime::now() });
    }

    /// How many of its calls ended in which way, by the number of the status.
    pub(crate) fn ends(&self) -> [u64; Status::ALL.len()] {
        let mut ends = [0; Status::ALL.len()];
        for ended in self.own.all().map(|cells| &cells.ended).chain([&self.ended]) {
            ends.iter_mut().zip(ended).for_each(|(all, some)| *all += some.load(Ordering::Relaxed));
        }
        ends
    }

    /// How long its calls took so far.
    pub(crate) fn times(&self) -> Taken {
        let fine = self.fine.as_ref().map(|fine| fine.read());
        Taken { fine, ..self.took.read_with(self.own.all().map(|cells| &cells.took)) }
    }

    fn total(&self) -> u64 {
        self.ends().iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_described_is_counted_together() {
        let meters = Meters::default();
        let greet = meters.method("greeter.greet");
        greet.count(Status::Ok);
        (0..100_000).for_each(|number| meters.named(&format!("bomb.{number}")).count(Status::Refused));
        let series = meters.series();
        let shown: Vec<_> = series.iter().map(|series| (&*series.method, series.total())).collect();
        assert_eq!(shown, [(OTHER, 100_000), ("greeter.greet", 1)]);
    }

    #[test]
    fn a_plugin_that_describes_too_much_has_no_more_series() {
        let meters = Meters::default();
        (0..METHODS_MAX + 10).for_each(|number| meters.method(&format!("f.{number}")).count(Status::Ok));
        assert_eq!(meters.series().len(), METHODS_MAX + 1);
        assert_eq!(meters.named(OTHER).ends()[Status::Ok as usize], 10);
    }

    #[test]
    fn a_limit_is_counted_by_its_name_and_a_time_out_is_one() {
        let meters = Meters::default();
        meters.failed(&Cause::Timeout { after: Duration::from_secs(1) });
        meters.failed(&Cause::Limit { limit: "answer_bytes", what: String::new() });
        meters.failed(&Cause::Limit { limit: "answer_bytes", what: String::new() });
        meters.failed(&Cause::Cancelled);
        assert_eq!(meters.limit_hits().into_iter().collect::<Vec<_>>(), [("answer_bytes", 2), ("call_timeout", 1)]);
    }

    #[test]
    fn a_method_takes_little_memory() {
        assert!(size_of::<Series>() <= 800, "{}", size_of::<Series>());
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn a_call_has_the_time_it_took() {
        let meters = Meters::new(Clock::start());
        let (series, begun) = (meters.method("f"), meters.begin());
        let clock = std::time::Instant::now();
        while clock.elapsed() < Duration::from_millis(2) {}
        let nanos = series.took(&meters, begun);
        let elapsed = clock.elapsed().as_nanos();
        assert!(u128::from(nanos) >= 1_990_000 && u128::from(nanos) <= elapsed + 1_000_000, "{nanos} of {elapsed}");
        assert_eq!(series.times().count(), 1);
    }
}
