//! What happens to plugins, told as it happens to whoever listens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::crash::{CrashReport, Crashes};
use crate::life::Rest;
use crate::plugin::Reloaded;
use crate::quarantine::{Quarantine, Quarantined};

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
}

/// What a host keeps of what happened.
pub(crate) struct Records {
    pub(crate) crashes: Crashes,
    pub(crate) quarantine: Quarantine,
    events: broadcast::Sender<Event>,
}

impl Records {
    pub(crate) fn new(crashes: Crashes, quarantine: Quarantine) -> Self {
        Self { crashes, quarantine, events: broadcast::Sender::new(EVENTS_KEPT) }
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
        match &event {
            Event::Died(report) => tracing::warn!(target: "jackfield", plugin = event.plugin(), "{report}"),
            Event::NotStarted { why, .. } => {
                tracing::warn!(target: "jackfield", plugin = event.plugin(), "it does not start: {why}");
            }
            Event::Quarantined { why, .. } => {
                tracing::error!(target: "jackfield", plugin = event.plugin(), "quarantined: {why}");
            }
            Event::ReloadFailed { why, .. } => {
                tracing::warn!(target: "jackfield", plugin = event.plugin(), "not replaced: {why}");
            }
            Event::SwappedBack { why, .. } => {
                tracing::warn!(target: "jackfield", plugin = event.plugin(), "the old build is back: {why}");
            }
            Event::Hangs { what, .. } => tracing::warn!(target: "jackfield", plugin = event.plugin(), "{what}"),
            other => tracing::info!(target: "jackfield", plugin = other.plugin(), "{other:?}"),
        }
        // Nobody may listen.
        let _ = self.events.send(event);
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
