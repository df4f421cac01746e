//! `jackfield lock`: accepts plugins as they are now.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jackfield::{LockedPlugin, PluginsLock};
use serde::Serialize;

use crate::Outcome;
use crate::args;
use crate::output::{Out, plain};
use crate::report;
use crate::session::{Where, plugin_dirs};

/// What became of the lock of one directory.
#[derive(Debug, Serialize)]
struct Written {
    file: PathBuf,
    plugins: Vec<Row>,
    /// What cannot be a plugin, and why; not locked.
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// `added`, `changed`, `removed` or `same`.
    change: &'static str,
    /// Of the entry, before and now.
    was: Option<String>,
    sha256: Option<String>,
    manifest_was: Option<String>,
    manifest_sha256: Option<String>,
}

#[derive(Debug, Serialize)]
struct Refused {
    name: String,
    path: String,
    reason: Vec<String>,
}

pub(crate) fn run(place: Where, lock: args::Lock, out: &Out) -> Result<Outcome> {
    let dirs = if lock.dirs.is_empty() { plugin_dirs(place.plugins)? } else { lock.dirs };
    let written: Vec<_> = dirs.iter().map(|dir| write(dir)).collect::<Result<_>>()?;
    match out.json {
        true => out.value(&written)?,
        false => out.text(&written.iter().map(Written::text).collect::<String>())?,
    }
    Ok(match written.iter().all(|written| written.refused.is_empty()) {
        true => Outcome::Done,
        false => Outcome::NotAllWell,
    })
}

fn write(dir: &Path) -> Result<Written> {
    // What is there and cannot be read was written by somebody else: a person should look.
    let before = PluginsLock::read(dir)?.unwrap_or_default();
    let (lock, refused) = PluginsLock::of(dir).with_context(|| format!("cannot read `{}`", dir.display()))?;
    let file = lock.write(dir).with_context(|| format!("cannot write `{}`", dir.join(PluginsLock::FILE).display()))?;
    let was = |name: &str| before.plugins.iter().find(|locked| locked.name == name);
    let gone = before.plugins.iter().filter(|was| lock.plugins.iter().all(|now| now.name != was.name));
    let rows = lock.plugins.iter().map(|now| Row::of(was(&now.name), Some(now)));
    let mut plugins: Vec<_> = rows.chain(gone.map(|was| Row::of(Some(was), None))).collect();
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    let refused = refused.iter().map(|refused| Refused {
        name: refused.name.clone(),
        path: refused.path.display().to_string(),
        reason: report::chain(&refused.reason),
    });
    Ok(Written { file, plugins, refused: refused.collect() })
}

impl Row {
    fn of(was: Option<&LockedPlugin>, now: Option<&LockedPlugin>) -> Self {
        let change = match (was, now) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(was), Some(now)) if was == now => "same",
            _ => "changed",
        };
        let entry = |locked: Option<&LockedPlugin>| locked.map(|locked| locked.sha256.clone());
        let manifest = |locked: Option<&LockedPlugin>| locked.and_then(|locked| locked.manifest_sha256.clone());
        Self {
            name: was.or(now).map(|locked| locked.name.clone()).unwrap_or_default(),
            change,
            was: entry(was),
            sha256: entry(now),
            manifest_was: manifest(was),
            manifest_sha256: manifest(now),
        }
    }

    fn text(&self) -> String {
        let none = || "none".to_owned();
        let shown = |hash: &Option<String>| hash.clone().unwrap_or_else(none);
        let mut text = format!("  {}: {}\n", plain(&self.name), self.change);
        for (what, was, now) in
            [("entry", &self.was, &self.sha256), ("manifest", &self.manifest_was, &self.manifest_sha256)]
        {
            if was != now {
                text += &format!("    {what} {} -> {}\n", shown(was), shown(now));
            }
        }
        text
    }
}

impl Written {
    fn text(&self) -> String {
        let mut text = format!("{}\n", plain(&self.file.display().to_string()));
        self.plugins.iter().for_each(|row| text += &row.text());
        for Refused { name, reason, .. } in &self.refused {
            text += &format!("  {}: not locked: {}\n", plain(name), reason.join(": "));
        }
        text
    }
}
