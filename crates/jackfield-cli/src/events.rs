//! `jackfield events`: what happens to plugins of a running host.

use std::time::SystemTime;

use anyhow::Result;
use jackfield::{Event, Rest, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Outcome;
use crate::lifecycle::Swap;
use crate::output::{self, Out, plain};
use crate::session::{Where, asynchronously};

pub(crate) fn run(place: &Where, out: &Out) -> Result<Outcome> {
    let running = place.must_run("events")?;
    asynchronously(async {
        let mut lines = running.follow("/v1/events").await?;
        while let Some(line) = lines.next().await? {
            match out.json {
                true => out.line(&serde_json::from_slice::<Value>(&line)?)?,
                false => match serde_json::from_slice(&line)? {
                    Line::Happened(happened) => out.text(&happened.text())?,
                    Line::Lost { lost } => output::say(&format!("{lost} events were lost: this reader is too slow")),
                },
            }
        }
        Ok(Outcome::Done)
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Lost { lost: u64 },
    Happened(Happened),
}

/// Something that happened to a plugin.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Happened {
    #[serde(with = "rfc3339")]
    at: SystemTime,
    /// `ready`, `died`, …
    event: String,
    plugin: String,
    /// What, in words.
    what: String,
}

impl Happened {
    pub(crate) fn of(event: &Event) -> Self {
        let (name, what) = match event {
            Event::Ready { generation, version, .. } => ("ready", format!("{version}, generation {generation}")),
            Event::Died(report) => ("died", report.to_string()),
            Event::NotStarted { why, again: Some(again), .. } => {
                ("not-started", format!("{why}; again in {again:.1?}"))
            }
            Event::NotStarted { why, again: None, .. } => ("not-started", why.clone()),
            Event::Quarantined { why, .. } => ("quarantined", why.clone()),
            Event::Reloaded(reloaded) => ("reloaded", Swap::of(reloaded).words()),
            Event::ReloadFailed { why, .. } => ("reload-failed", why.clone()),
            Event::SwappedBack { from, to, why, .. } => {
                ("swapped-back", format!("generation {to} has the calls again, in place of {from}: {why}"))
            }
            Event::Hangs { what, .. } => ("hangs", what.clone()),
            Event::Stopped { why, .. } => ("stopped", resting(*why).to_owned()),
            Event::Refused { why, .. } => ("refused", why.clone()),
            Event::Removed { .. } => ("removed", "its files are gone".to_owned()),
            // One of a later version of the library.
            other => ("other", format!("{other:?}")),
        };
        Self { at: SystemTime::now(), event: name.to_owned(), plugin: event.plugin().to_owned(), what }
    }

    fn text(&self) -> String {
        let Self { at, event, plugin, what } = self;
        format!("{}  {}  {}: {}\n", rfc3339::text(*at), plain(plugin), plain(event), plain(what))
    }
}

fn resting(why: Rest) -> &'static str {
    match why {
        Rest::Asked => "its host stopped it",
        Rest::Disabled => "it is disabled",
        Rest::Idle => "it was idle; the next call starts it",
        Rest::Ended => "it ended by itself, and nothing is wrong with that",
        _ => "it rests",
    }
}
