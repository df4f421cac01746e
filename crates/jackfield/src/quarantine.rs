//! Quarantine: plugins that are set aside, with the reason, until a person or a new build lifts it; and
//! plugins that a person switched off.
//!
//! A record is for one build of a plugin under one version of the host: when the plugin's file is another
//! one, or the host is, the record does not hold any more and is removed, since the reason may have gone
//! with what changed. A plugin that is switched off stays so whatever changes.
//!
//! With a state directory each record is a file, `quarantine/<plugin>.json` or `disabled/<plugin>.json`,
//! and the files are what counts: the command may remove one while a host runs. What cannot be written is
//! kept in memory, and holds as long as the host runs.
//!
//! Not here: the decision (`restarts.rs`, `journal.rs`), and what becomes of the plugin.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::manifest::is_plugin_name;
use crate::rfc3339;
use crate::state_file::Records;

/// The format of the files. A file of another one is passed over.
const FORMAT: u32 = 1;

/// Why a plugin is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quarantined {
    /// The plugin's name in its host.
    pub plugin: String,
    /// Since when.
    #[serde(with = "rfc3339")]
    pub since: SystemTime,
    /// Why, in a sentence.
    pub reason: String,
    /// What was seen, line by line.
    pub evidence: Vec<String>,
    /// SHA-256 of its file at that time, in hexadecimal digits, if it was read. A plugin whose file is
    /// another one is not quarantined.
    pub hash: Option<String>,
    /// The host and its version, `jackfield/0.1.0`. Under another version, the plugin is not quarantined.
    pub host: String,
    /// The command that lifts it.
    pub lift: String,
}

impl Quarantined {
    /// A record of a plugin that is set aside from now on, by this host.
    pub(crate) fn now(plugin: &str, hash: Option<String>, reason: String, evidence: Vec<String>) -> Self {
        Self {
            plugin: plugin.to_owned(),
            since: SystemTime::now(),
            reason,
            evidence,
            hash,
            host: crate::HOST.to_owned(),
            lift: lift_command(plugin),
        }
    }

    /// Why it does not hold any more for a plugin whose file has this hash, if that is so. A hash that
    /// is not known is taken for the same.
    fn outlived(&self, hash: Option<&str>) -> Option<String> {
        match (self.hash.as_deref(), hash) {
            (Some(then), Some(now)) if then != now => Some("its file is another one".to_owned()),
            _ if self.host != crate::HOST => Some(format!("it was set aside by {}", self.host)),
            _ => None,
        }
    }
}

/// The command that lifts a plugin's quarantine.
pub(crate) fn lift_command(plugin: &str) -> String {
    format!("jackfield quarantine lift {plugin}")
}

/// What says that a plugin is switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Disabled {
    plugin: String,
    #[serde(with = "rfc3339")]
    since: SystemTime,
}

/// A record in its file.
#[derive(Debug, Serialize, Deserialize)]
struct Versioned<T> {
    format: u32,
    #[serde(flatten)]
    record: T,
}

/// The plugins that are set aside or switched off.
#[derive(Debug)]
pub(crate) struct Quarantine {
    quarantined: Store<Quarantined>,
    disabled: Store<Disabled>,
}

impl Quarantine {
    /// Those of a state directory; without one, none yet.
    pub(crate) fn open(state_dir: Option<&Path>) -> Self {
        Self {
            quarantined: Store::open(state_dir.map(|directory| directory.join("quarantine")).as_deref()),
            disabled: Store::open(state_dir.map(|directory| directory.join("disabled")).as_deref()),
        }
    }

    /// Sets a plugin aside. An error means that the next host does not know; this one does.
    pub(crate) fn put(&self, record: Quarantined) -> io::Result<()> {
        let plugin = record.plugin.clone();
        self.quarantined.put(&plugin, record)
    }

    /// Whether a plugin whose file has this hash is set aside, and why. A record that does not hold any
    /// more is removed.
    pub(crate) fn get(&self, plugin: &str, hash: Option<&str>) -> Option<Quarantined> {
        let record = self.quarantined.get(plugin)?;
        match record.outlived(hash) {
            None => Some(record),
            Some(why) => {
                tracing::info!(target: "jackfield::state", plugin, "the plugin is not quarantined any more: {why}");
                self.lift(plugin);
                None
            }
        }
    }

    /// Lifts a quarantine; whether there was one.
    pub(crate) fn lift(&self, plugin: &str) -> bool {
        self.quarantined.remove(plugin)
    }

    /// All plugins that are set aside, by name.
    pub(crate) fn list(&self) -> Vec<Quarantined> {
        self.quarantined.all()
    }

    /// Switches a plugin off. An error means that the next host does not know; this one does.
    pub(crate) fn disable(&self, plugin: &str) -> io::Result<()> {
        self.disabled.put(plugin, Disabled { plugin: plugin.to_owned(), since: SystemTime::now() })
    }

    /// Switches a plugin on again; whether it was off.
    pub(crate) fn enable(&self, plugin: &str) -> bool {
        self.disabled.remove(plugin)
    }

    /// Whether a plugin is switched off.
    pub(crate) fn is_disabled(&self, plugin: &str) -> bool {
        self.disabled.has(plugin)
    }
}

/// Records by the plugins' names.
#[derive(Debug)]
struct Store<T> {
    /// None for a host without a state directory.
    files: Option<Records>,
    /// What is in no file.
    memory: Mutex<BTreeMap<String, T>>,
}

impl<T: Clone + Serialize + DeserializeOwned> Store<T> {
    fn open(directory: Option<&Path>) -> Self {
        let files = directory.map(|directory| Records::open(directory.to_owned()));
        Self { files, memory: Mutex::default() }
    }

    fn put(&self, plugin: &str, record: T) -> io::Result<()> {
        let written = match &self.files {
            _ if !is_plugin_name(plugin) => Err(io::Error::other(format!("{plugin:?} is not a plugin's name"))),
            Some(files) => files.write(plugin, &Versioned { format: FORMAT, record: record.clone() }).map(|()| true),
            None => Ok(false),
        };
        let mut memory = self.memory();
        match written {
            Ok(true) => memory.remove(plugin),
            Ok(false) | Err(_) => memory.insert(plugin.to_owned(), record),
        };
        written.map(drop)
    }

    fn get(&self, plugin: &str) -> Option<T> {
        let in_memory = self.memory().get(plugin).cloned();
        in_memory.or_else(|| self.in_file(plugin))
    }

    fn in_file(&self, plugin: &str) -> Option<T> {
        let files = self.files.as_ref()?;
        // A name with a path in it leads elsewhere.
        let written: Versioned<T> = is_plugin_name(plugin).then(|| files.read(plugin))??;
        if written.format != FORMAT {
            let (file, format) = (files.path(plugin), written.format);
            let file = file.display();
            tracing::warn!(target: "jackfield::state", "`{file}` is passed over: format {format}, this host has {FORMAT}");
            return None;
        }
        Some(written.record)
    }

    /// Whether there is a record, even one that cannot be read.
    fn has(&self, plugin: &str) -> bool {
        let in_file = |files: &Records| is_plugin_name(plugin) && files.has(plugin);
        self.memory().contains_key(plugin) || self.files.as_ref().is_some_and(in_file)
    }

    fn remove(&self, plugin: &str) -> bool {
        let was_in_memory = self.memory().remove(plugin).is_some();
        let Some(files) = self.files.as_ref().filter(|_| is_plugin_name(plugin)) else { return was_in_memory };
        let was_in_file = files.remove(plugin).unwrap_or_else(|error| {
            let file = files.path(plugin);
            tracing::warn!(target: "jackfield::state", "`{}` cannot be removed: {error}", file.display());
            false
        });
        was_in_memory || was_in_file
    }

    fn all(&self) -> Vec<T> {
        let mut all = self.memory().clone();
        for plugin in self.files.iter().flat_map(Records::names) {
            if let Some(record) = self.in_file(&plugin) {
                all.entry(plugin).or_insert(record);
            }
        }
        all.into_values().collect()
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, T>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use expect_test::expect;

    use super::*;

    fn record(plugin: &str, hash: Option<&str>) -> Quarantined {
        let evidence = vec!["signal 11 (SIGSEGV)".to_owned(), "signal 6 (SIGABRT)".to_owned()];
        Quarantined::now(plugin, hash.map(str::to_owned), "it failed too often".to_owned(), evidence)
    }

    /// Both kinds of store, each opened again after what was done to it.
    fn check(test: impl Fn(&dyn Fn() -> Quarantine)) {
        let state = tempfile::tempdir().expect("a directory");
        test(&|| Quarantine::open(Some(state.path())));
    }

    fn plugins(quarantine: &Quarantine) -> Vec<String> {
        quarantine.list().into_iter().map(|record| record.plugin).collect()
    }

    #[test]
    fn a_quarantine_outlives_its_host_and_is_lifted_once() {
        check(|open| {
            open().put(record("b", None)).expect("written");
            open().put(record("a", None)).expect("written");
            assert_eq!(plugins(&open()), ["a", "b"]);
            let found = open().get("a", None).expect("a record");
            assert_eq!((&*found.reason, &*found.lift), ("it failed too often", "jackfield quarantine lift a"));
            assert_eq!((open().lift("a"), open().lift("a")), (true, false));
            assert_eq!(open().get("a", None), None);
            assert_eq!(plugins(&open()), ["b"]);
        });
    }

    #[test]
    fn the_command_lifts_it_while_the_host_runs() {
        check(|open| {
            let running = open();
            running.put(record("a", None)).expect("written");
            assert!(open().lift("a"));
            assert_eq!(running.get("a", None), None);
        });
    }

    #[test]
    fn another_file_is_not_quarantined_and_the_same_one_is() {
        check(|open| {
            open().put(record("a", Some("11"))).expect("written");
            assert!(open().get("a", Some("11")).is_some());
            assert!(open().get("a", None).is_some(), "a hash that is not known is no other one");
            assert_eq!(open().get("a", Some("22")), None);
            assert_eq!(open().get("a", Some("11")), None, "it was removed");
            open().put(record("b", None)).expect("written");
            assert!(open().get("b", Some("22")).is_some());
        });
    }

    #[test]
    fn another_host_gives_another_chance() {
        check(|open| {
            open().put(Quarantined { host: "jackfield/0.0.1".to_owned(), ..record("a", None) }).expect("written");
            assert_eq!(plugins(&open()), ["a"]);
            assert_eq!(open().get("a", None), None);
            assert!(plugins(&open()).is_empty());
        });
    }

    #[test]
    fn a_plugin_that_is_switched_off_stays_so() {
        check(|open| {
            assert!(!open().is_disabled("a") && !open().enable("a"));
            open().disable("a").expect("written");
            open().put(record("a", None)).expect("written");
            assert!(open().is_disabled("a"));
            assert!(open().lift("a"));
            assert!(open().enable("a") && !open().is_disabled("a"));
        });
    }

    #[test]
    fn a_plugin_is_switched_off_even_by_a_damaged_record() {
        let state = tempfile::tempdir().expect("a directory");
        let quarantine = Quarantine::open(Some(state.path()));
        quarantine.disable("a").expect("written");
        fs::write(state.path().join("disabled/a.json"), "").expect("a file");
        assert!(quarantine.is_disabled("a"));
        assert!(quarantine.is_disabled("a"));
    }

    #[test]
    fn without_a_directory_it_holds_as_long_as_the_host() {
        let quarantine = Quarantine::open(None);
        quarantine.put(record("a", Some("11"))).expect("kept");
        quarantine.disable("b").expect("kept");
        assert!(quarantine.get("a", Some("11")).is_some() && quarantine.is_disabled("b"));
        assert_eq!(plugins(&quarantine), ["a"]);
        assert!(quarantine.is_disabled("b") && !quarantine.is_disabled("a"));
        assert_eq!(quarantine.get("a", Some("22")), None);
        assert!(!quarantine.lift("a") && quarantine.enable("b"));
    }

    #[test]
    fn what_cannot_be_written_holds_all_the_same() {
        let state = tempfile::tempdir().expect("a directory");
        // In the way of the directory.
        fs::write(state.path().join("quarantine"), "").expect("a file");
        let quarantine = Quarantine::open(Some(state.path()));
        assert!(quarantine.put(record("a", None)).is_err());
        assert!(quarantine.get("a", None).is_some());
        assert_eq!(plugins(&quarantine), ["a"]);
        assert!(quarantine.lift("a") && quarantine.get("a", None).is_none());
    }

    #[test]
    fn a_damaged_record_and_one_of_another_format_are_passed_over() {
        let state = tempfile::tempdir().expect("a directory");
        let quarantine = Quarantine::open(Some(state.path()));
        for plugin in ["a", "b", "c"] {
            quarantine.put(record(plugin, None)).expect("written");
        }
        let file = |plugin: &str| state.path().join(format!("quarantine/{plugin}.json"));
        fs::write(file("a"), "{").expect("a file");
        let newer = fs::read_to_string(file("b")).expect("a file").replace("\"format\": 1", "\"format\": 2");
        fs::write(file("b"), newer).expect("a file");
        assert_eq!(plugins(&quarantine), ["c"]);
        assert_eq!(quarantine.get("a", None), None);
        assert!(quarantine.lift("a"), "what is damaged can be lifted, too");
    }

    #[test]
    fn a_name_with_a_path_in_it_leads_nowhere() {
        let state = tempfile::tempdir().expect("a directory");
        let quarantine = Quarantine::open(Some(&state.path().join("state")));
        let outside = state.path().join("outside.json");
        fs::write(&outside, "mine").expect("a file");
        assert!(quarantine.put(record("../../outside", None)).is_err());
        assert!(quarantine.lift("../../outside"), "from memory");
        assert!(!quarantine.lift("../../outside"));
        assert_eq!(fs::read_to_string(outside).expect("a file"), "mine");
    }

    #[test]
    fn a_record_is_a_file_that_people_read() {
        let state = tempfile::tempdir().expect("a directory");
        let since = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_795_986_245_123);
        let quarantine = Quarantine::open(Some(state.path()));
        let host = "jackfield/0.1.0".to_owned();
        quarantine.put(Quarantined { since, host, ..record("resize", Some("9f86d081")) }).expect("written");
        let text = fs::read_to_string(state.path().join("quarantine/resize.json")).expect("a file");
        expect![[r#"
            {
              "format": 1,
              "plugin": "resize",
              "since": "2026-11-29T21:04:05.123000Z",
              "reason": "it failed too often",
              "evidence": [
                "signal 11 (SIGSEGV)",
                "signal 6 (SIGABRT)"
              ],
              "hash": "9f86d081",
              "host": "jackfield/0.1.0",
              "lift": "jackfield quarantine lift resize"
            }
        "#]]
        .assert_eq(&text);
    }
}
