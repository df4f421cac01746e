//! `jackfield events`: what happens to plugins of a running host.

use std::time::SystemTime;

use anyhow::Result;
use jackfield::rfc3339;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Outcome;
use crate::core::Event;
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
            Event::Died(report) => ("died", report.to_string()),
            Event::Removed { .. } => ("removed", "its files are gone".to_owned()),
        };
        Self { at: SystemTime::now(), event: name.to_owned(), plugin: event.plugin().to_owned(), what }
    }

    fn text(&self) -> String {
        let Self { at, event, plugin, what } = self;
        format!("{}  {}  {}: {}\n", rfc3339::text(*at), plain(plugin), plain(event), plain(what))
    }
}
