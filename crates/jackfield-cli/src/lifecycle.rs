//! `jackfield reload`, `disable`, `enable` and `rescan`: what changes the life of plugins of a running host.

use anyhow::Result;
use jackfield::{PluginInfo, Reloaded, Rescanned};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::args;
use crate::inspect::why;
use crate::output::{Out, plain};
use crate::running::{Running, plugin_path};
use crate::session::{Where, asynchronously};

pub(crate) fn reload(place: &Where, reload: &args::Reload, out: &Out) -> Result<Outcome> {
    let running = place.must_run("reload")?;
    let swap: Swap = asynchronously(running.post(&plugin_path(&reload.plugin, "/reload"), &()))?;
    show(out, &swap, &format!("{}: {}", swap.plugin, swap.words()))
}

pub(crate) fn disable(place: &Where, disable: &args::Disable, out: &Out) -> Result<Outcome> {
    change(&place.must_run("disable")?, &plugin_path(&disable.plugin, "/disable"), out)
}

pub(crate) fn enable(place: &Where, enable: &args::Enable, out: &Out) -> Result<Outcome> {
    change(&place.must_run("enable")?, &plugin_path(&enable.plugin, "/enable"), out)
}

pub(crate) fn rescan(place: &Where, out: &Out) -> Result<Outcome> {
    let rescan: Rescan = asynchronously(place.must_run("rescan")?.post("/v1/rescan", &()))?;
    match out.json {
        true => out.value(&rescan)?,
        false => out.text(&rescan.text())?,
    }
    Ok(if rescan.failed() { Outcome::NotAllWell } else { Outcome::Done })
}

/// Has a running host do something with a plugin, and says how the plugin is then.
pub(crate) fn change(running: &Running, path: &str, out: &Out) -> Result<Outcome> {
    let now: Now = asynchronously(running.post(path, &()))?;
    let why = now.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    show(out, &now, &format!("{}: {}{why}", now.plugin, now.state))
}

fn show(out: &Out, data: &impl Serialize, text: &str) -> Result<Outcome> {
    match out.json {
        true => out.value(data)?,
        false => out.text(&format!("{}\n", plain(text)))?,
    }
    Ok(Outcome::Done)
}

/// What a reload did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Swap {
    plugin: String,
    /// The generation that had the calls before; 0 if none had.
    from: u64,
    to: u64,
    version: String,
    took_ms: u64,
}

impl Swap {
    pub(crate) fn of(reloaded: &Reloaded) -> Self {
        let took_ms = u64::try_from(reloaded.took.as_millis()).unwrap_or(u64::MAX);
        let (plugin, version) = (reloaded.plugin.clone(), reloaded.version.clone());
        Self { plugin, from: reloaded.from, to: reloaded.to, version, took_ms }
    }

    pub(crate) fn words(&self) -> String {
        let Self { from, to, version, took_ms, .. } = self;
        let before = match from {
            0 => String::new(),
            from => format!(", in place of generation {from}"),
        };
        format!("{version}, generation {to} has the calls{before}; it took {took_ms} ms")
    }
}

/// How a plugin is, after something was done with it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Now {
    plugin: String,
    state: String,
    why: Option<String>,
}

impl Now {
    pub(crate) fn of(info: &PluginInfo) -> Self {
        Self { plugin: info.name.clone(), state: info.state.as_str().to_owned(), why: why(&info.state) }
    }
}

/// What a look through the directories found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Rescan {
    loaded: Vec<String>,
    reloaded: Vec<Swap>,
    removed: Vec<String>,
    failed: Vec<Failed>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    plugin: String,
    why: String,
}

impl Rescan {
    pub(crate) fn of(rescanned: &Rescanned) -> Self {
        let failed = rescanned.failed.iter();
        Self {
            loaded: rescanned.loaded.clone(),
            reloaded: rescanned.reloaded.iter().map(Swap::of).collect(),
            removed: rescanned.removed.clone(),
            failed: failed.map(|(plugin, why)| Failed { plugin: plugin.clone(), why: why.clone() }).collect(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut lines: Vec<_> = self.loaded.iter().map(|plugin| format!("{plugin}: loaded")).collect();
        lines.extend(self.reloaded.iter().map(|swap| format!("{}: {}", swap.plugin, swap.words())));
        lines.extend(self.removed.iter().map(|plugin| format!("{plugin}: removed")));
        lines.extend(self.failed.iter().map(|failed| format!("{}: {}", failed.plugin, failed.why)));
        if lines.is_empty() {
            lines.push("nothing has changed".to_owned());
        }
        lines.iter().map(|line| format!("{}\n", plain(line))).collect()
    }

    /// Whether something was not taken.
    fn failed(&self) -> bool {
        !self.failed.is_empty()
    }
}
