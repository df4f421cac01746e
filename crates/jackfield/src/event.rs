//! What happens to plugins, told as it happens to whoever listens.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::broadcast;
use tracing::Level;

use crate::crash::{CrashExit, CrashReport, Crashes};
use crate::life::Rest;
use crate::metrics::{Died, Tally};
use crate::plugin::Reloaded;
use crate::quarantine::{Quarantine, Quarantined};
use crate::tap::Tap;

/// Events kept for a listener that is slow. One that is slower misses some, and is told how many.
const EVENTS_KEPT: usize = 256;

/// Something that happened to a plugin.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// It takes calls.
    Ready {
        /// The plugin.
        plugin: String,
        /// Its generation.
        generation: u64,
        /// The version it says it has.
        version: String,
    },
    /// It died, or was killed since it hung.
    Died(Arc<CrashReport>),
    /// It was to be started again, and did not start.
    NotStarted {
        /// The plugin.
        plugin: String,
        /// Why, with all causes.
        why: String,
        /// Time until it is tried again; none if it is not.
        again: Option<Duration>,
    },
    /// It was set aside.
    Quarantined {
        /// The plugin.
        plugin: String,
        /// Why.
        why: String,
    },
    /// A newer build took its place.
    Reloaded(Reloaded),
    /// A newer build was not taken. What ran before goes on.
    ReloadFailed {
        /// The plugin.
        plugin: String,
        /// The step and the reason, with all causes.
        why: String,
    },
    /// A newer build turned bad, and the one before got its place back.
    SwappedBack {
        /// The plugin.
        plugin: String,
        /// The generation that turned bad.
        from: u64,
        /// The one that has the calls again.
        to: u64,
        /// What was seen.
        why: String,
    },
    /// It gives no sign of life. One that computes is left alone; one that does not is killed.
    Hangs {
        /// The plugin.
        plugin: String,
        /// Whether it computes.
        busy: bool,
        /// What was seen.
        what: String,
    },
    /// It was stopped.
    Stopped {
        /// The plugin.
        plugin: String,
        /// Why.
        why: Rest,
    },
    /// Something that lay in a plugin directory cannot be a plugin.
    Refused {
        /// The name it would have had.
        plugin: String,
        /// Why, with all causes.
        why: String,
    },
    /// Its files are gone, and so is it.
    Removed {
        /// The plugin.
        plugin: String,
    },
}

impl Event {
    /// The plugin it happened to.
    pub fn plugin(&self) -> &str {
        match self {
            Event::Died(report) => &report.plugin,
            Event::Reloaded(reloaded) => &reloaded.plugin,
            Event::Ready { plugin, .. }
            | Event::NotStarted { plugin, .. }
            | Event::Quarantined { plugin, .. }
            | Event::ReloadFailed { plugin, .. }
            | Event::SwappedBack { plugin, .. }
            | Event::Hangs { plugin, .. }
            | Event::Stopped { plugin, .. }
            | Event::Refused { plugin, .. }
            | Event::Removed { plugin } => plugin,
        }
    }

    /// What kind of thing: `ready`, `died`, `not-started`, `quarantined`, `reloaded`, `reload-failed`, `swapped-back`,
    /// `hangs`, `stopped`, `refused`, `removed`.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Ready { .. } => "ready",
            Event::Died(_) => "died",
            Event::NotStarted { .. } => "not-started",
            Event::Quarantined { .. } => "quarantined",
            Event::Reloaded(_) => "reloaded",
            Event::ReloadFailed { .. } => "reload-failed",
            Event::SwappedBack { .. } => "swapped-back",
            Event::Hangs { .. } => "hangs",
            Event::Stopped { .. } => "stopped",
            Event::Refused { .. } => "refused",
            Event::Removed { .. } => "removed",
        }
    }

    fn level(&self) -> Level {
        match self {
            Event::Quarantined { .. } => Level::ERROR,
            Event::Died(_)
            | Event::NotStarted { .. }
            | Event::ReloadFailed { .. }
            | Event::SwappedBack { .. }
            | Event::Hangs { .. }
            | Event::Refused { .. } => Level::WARN,
            Event::Ready { .. } | Event::Reloaded(_) | Event::Stopped { .. } | Event::Removed { .. } => Level::INFO,
        }
    }
}

/// What happened, without the plugin and the kind.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Ready { generation, version, .. } => write!(f, "{version}, generation {generation}"),
            Event::Died(report) => write!(f, "{report}"),
            Event::NotStarted { why, again: Some(again), .. } => write!(f, "{why}; again in {again:.1?}"),
            Event::Reloaded(reloaded) => write!(f, "{reloaded}"),
            Event::SwappedBack { from, to, why, .. } => {
                write!(f, "generation {to} has the calls again, in place of {from}: {why}")
            }
            Event::Hangs { what, .. } => f.write_str(what),
            Event::Stopped { why, .. } => f.write_str(match why {
                Rest::Asked => "its host stopped it",
                Rest::Disabled => "it is disabled",
                Rest::Idle => "it was idle; the next call starts it",
                Rest::Ended => "it ended by itself, and nothing is wrong with that",
            }),
            Event::Removed { .. } => f.write_str("its files are gone"),
            Event::NotStarted { why, .. }
            | Event::Quarantined { why, .. }
            | Event::ReloadFailed { why, .. }
            | Event::Refused { why, .. } => f.write_str(why),
        }
    }
}

/// What a host keeps of what happened.
pub(crate) struct Records {
    pub(crate) crashes: Crashes,
    pub(crate) quarantine: Quarantine,
    events: Tap<Event>,
    pub(crate) tally: Tally,
    /// Length of the last page of series: the next is about as long.
    pub(crate) page_bytes: AtomicUsize,
}

impl Records {
    pub(crate) fn new(crashes: Crashes, quarantine: Quarantine) -> Self {
        let (tally, page_bytes) = Default::default();
        Self { crashes, quarantine, events: Tap::new(EVENTS_KEPT), tally, page_bytes }
    }

    /// Sets a plugin aside, and says so.
    pub(crate) fn set_aside(&self, record: Quarantined) {
        let (plugin, why) = (record.plugin.clone(), record.reason.clone());
        if let Err(error) = self.quarantine.put(record) {
            tracing::warn!(target: "jackfield", plugin, "the next host will not know that it is quarantined: {error}");
        }
        self.tell(Event::Quarantined { plugin, why });
    }

    pub(crate) fn tell(&self, event: Event) {
        self.count(&event);
        let plugin = event.plugin();
        match event.level() {
            Level::ERROR => tracing::error!(target: "jackfield", plugin, "{}: {event}", event.name()),
            Level::WARN => tracing::warn!(target: "jackfield", plugin, "{}: {event}", event.name()),
            _ => tracing::info!(target: "jackfield", plugin, "{}: {event}", event.name()),
        }
        self.events.say(event);
    }

    /// Every event that the metrics show passes here.
    fn count(&self, event: &Event) {
        let (tally, plugin) = (&self.tally, event.plugin());
        match event {
            Event::Died(report) => tally.died(
                plugin,
                match report.exit {
                    CrashExit::Signal { number, .. } => Died::Signal(number),
                    CrashExit::Code(_) => Died::Exit,
                    CrashExit::Unknown => Died::Unknown,
                },
            ),
            Event::NotStarted { .. } => tally.not_started(plugin),
            Event::Quarantined { .. } => tally.quarantined(plugin),
            Event::Reloaded(reloaded) => tally.reloaded(plugin, reloaded.took),
            Event::ReloadFailed { .. } => tally.reload_failed(plugin),
            Event::SwappedBack { .. } => tally.swapped_back(plugin),
            Event::Removed { .. } => tally.removed(plugin),
            Event::Ready { .. } | Event::Hangs { .. } | Event::Stopped { .. } | Event::Refused { .. } => {}
        }
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.listen()
    }
}
