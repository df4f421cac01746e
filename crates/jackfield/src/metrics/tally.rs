//! What is counted of plugins' lives, as it happens.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Durations;

/// Most plugins that are counted by name; a directory with more of them is counted, but not shown.
const PLUGINS_MAX: usize = 10_000;

/// Counts of all plugins of a host. Those of a plugin are forgotten with it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    plugins: BTreeMap<String, Totals>,
    load_failures: BTreeMap<&'static str, u64>,
}

/// What happened to one plugin.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Deaths, by how.
    pub(crate) died: BTreeMap<Died, u64>,
    /// Restarts that brought it back, by what it had died of.
    pub(crate) restarted: BTreeMap<&'static str, u64>,
    /// Restarts that did not bring it back.
    pub(crate) not_started: u64,
    pub(crate) reloaded: u64,
    pub(crate) reload_failed: u64,
    pub(crate) swapped_back: u64,
    pub(crate) reload_took: Durations,
    pub(crate) quarantined: u64,
}

/// How a plugin died: the label `signal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Died {
    /// Of this signal.
    Signal(i32),
    /// It ended by itself.
    Exit,
    /// Nobody knows.
    Unknown,
}

impl Tally {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, plugin: &str, count: impl FnOnce(&mut Totals)) {
        let plugins = &mut self.known().plugins;
        if plugins.len() < PLUGINS_MAX || plugins.contains_key(plugin) {
            count(plugins.entry(plugin.to_owned()).or_default());
        }
    }

    pub(crate) fn died(&self, plugin: &str, how: Died) {
        self.of(plugin, |totals| *totals.died.entry(how).or_insert(0) += 1);
    }

    /// It was started again, after it had died of `reason`.
    pub(crate) fn restarted(&self, plugin: &str, reason: &'static str) {
        self.of(plugin, |totals| *totals.restarted.entry(reason).or_insert(0) += 1);
    }

    pub(crate) fn not_started(&self, plugin: &str) {
        self.of(plugin, |totals| totals.not_started += 1);
    }

    pub(crate) fn reloaded(&self, plugin: &str, took: Duration) {
        self.of(plugin, |totals| {
            totals.reloaded += 1;
            totals.reload_took.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        });
    }

    pub(crate) fn reload_failed(&self, plugin: &str) {
        self.of(plugin, |totals| totals.reload_failed += 1);
    }

    pub(crate) fn swapped_back(&self, plugin: &str) {
        self.of(plugin, |totals| totals.swapped_back += 1);
    }

    pub(crate) fn quarantined(&self, plugin: &str) {
        self.of(plugin, |totals| totals.quarantined += 1);
    }

    /// A plugin was not loaded: in which step.
    pub(crate) fn not_loaded(&self, step: &'static str) {
        *self.known().load_failures.entry(step).or_insert(0) += 1;
    }

    pub(crate) fn removed(&self, plugin: &str) {
        self.known().plugins.remove(plugin);
    }

    pub(crate) fn load_failures(&self) -> BTreeMap<&'static str, u64> {
        self.known().load_failures.clone()
    }

    /// Looks at the counts of a plugin; at none if nothing happened to it.
    pub(crate) fn look<T>(&self, plugin: &str, look: impl FnOnce(&Totals) -> T) -> T {
        match self.known().plugins.get(plugin) {
            Some(totals) => look(totals),
            None => look(&Totals::default()),
        }
    }
}
