//! The last crash reports, in memory and in files of a state directory.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::CrashReport;
use crate::state_file::{Records, unique};

/// Reports kept of all plugins.
const REPORTS_MAX: usize = 100;

/// Reports kept of one plugin, so that one that dies all the time hides no other's.
const REPORTS_OF_PLUGIN_MAX: usize = 20;

/// The last reports: 100 in all, of one plugin 20.
#[derive(Debug)]
pub(crate) struct Crashes {
    /// None for a host without a state directory.
    files: Option<Records>,
    /// Oldest first.
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// Of its file: time, plugin, and what makes it unlike any other.
    name: String,
    plugin: String,
    /// None if its file cannot be read. It goes when its time has come, like the others.
    report: Option<Arc<CrashReport>>,
}

impl Crashes {
    /// Those that earlier hosts left in `<state_dir>/crashes`. What is more than is kept is removed.
    pub(crate) fn open(state_dir: Option<&Path>) -> Self {
        let files = state_dir.map(|directory| Records::open(directory.join("crashes")));
        let mut kept = VecDeque::new();
        if let Some(files) = &files {
            for name in files.names() {
                // Any other file is not ours to remove.
                let Some(plugin) = plugin_of(&name) else { continue };
                kept.push_back(Kept { plugin: plugin.to_owned(), name, report: None });
            }
            remove(files, excess(&mut kept));
            for one in &mut kept {
                one.report = files.read(&one.name).map(Arc::new);
            }
        }
        Self { files, kept: Mutex::new(kept) }
    }

    /// Keeps a report, and writes it to its file. Blocks its thread for that long.
    pub(crate) fn add(&self, report: CrashReport) -> Arc<CrashReport> {
        let report = Arc::new(report);
        let name = name_of(&report);
        if let Some(files) = &self.files
            && let Err(error) = files.write(&name, &*report)
        {
            let file = files.path(&name);
            tracing::warn!(target: "jackfield::state", "`{}` cannot be written: {error}", file.display());
        }
        let excess = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let plugin = report.plugin.clone();
            let new = Kept { name, plugin, report: Some(Arc::clone(&report)) };
            let at = kept.partition_point(|one| one.name <= new.name);
            kept.insert(at, new);
            excess(&mut kept)
        };
        if let Some(files) = &self.files {
            remove(files, excess);
        }
        report
    }

    /// All that are kept, oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<CrashReport>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter_map(|one| one.report.clone()).collect()
    }
}

/// In the order of their times, as texts.
fn name_of(report: &CrashReport) -> String {
    let millis = report.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    format!("{millis:015}-{}-{:016x}", report.plugin, unique())
}

fn plugin_of(name: &str) -> Option<&str> {
    let (millis, rest) = name.split_once('-')?;
    let (plugin, unique) = rest.rsplit_once('-')?;
    let is_ours = millis.bytes().all(|c| c.is_ascii_digit()) && unique.len() == 16;
    (is_ours && crate::manifest::is_plugin_name(plugin)).then_some(plugin)
}

/// Takes away the oldest that are too many, of their plugin or of all.
fn excess(kept: &mut VecDeque<Kept>) -> Vec<Kept> {
    let mut of_plugin: BTreeMap<&str, usize> = BTreeMap::new();
    let mut stays = 0;
    let mut goes: Vec<bool> = kept
        .iter()
        .rev()
        .map(|one| {
            let count = of_plugin.entry(&one.plugin).or_default();
            let is_excess = *count >= REPORTS_OF_PLUGIN_MAX || stays >= REPORTS_MAX;
            if !is_excess {
                *count += 1;
                stays += 1;
            }
            is_excess
        })
        .collect();
    goes.reverse();
    let (gone, left): (Vec<_>, Vec<_>) = kept.drain(..).zip(goes).partition(|(_, goes)| *goes);
    kept.extend(left.into_iter().map(|(one, _)| one));
    gone.into_iter().map(|(one, _)| one).collect()
}

fn remove(files: &Records, excess: Vec<Kept>) {
    for one in excess {
        // Another host may have removed it.
        if let Err(error) = files.remove(&one.name) {
            let file = files.path(&one.name);
            tracing::warn!(target: "jackfield::state", "`{}` cannot be removed: {error}", file.display());
        }
    }
}
