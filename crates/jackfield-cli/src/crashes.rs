//! `jackfield crashes`: how plugins died, a paragraph each.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use jackfield::CrashReport;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::args;
use crate::output::{Out, plain};
use crate::quarantine::{nobody, records};
use crate::running::with_query;
use crate::session::{Where, asynchronously};

pub(crate) fn run(place: &Where, state_dir: Option<&Path>, crashes: &args::Crashes, out: &Out) -> Result<Outcome> {
    let crashed: Crashed = match (place.running()?, state_dir) {
        (Some(running), _) => {
            let query: Vec<_> = crashes.plugin.iter().map(|plugin| ("plugin", plugin.clone())).collect();
            asynchronously(running.get(&with_query("/v1/crashes", &query)))?
        }
        (None, Some(directory)) => Crashed::of(&records(directory)?.crashes(), crashes.plugin.as_deref()),
        (None, None) => return Err(nobody("crashes").into()),
    };
    match out.json {
        true => out.value(&crashed)?,
        false => out.text(&crashed.text())?,
    }
    Ok(Outcome::Done)
}

/// Reports of plugins that died, oldest first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Crashed {
    crashes: Vec<CrashReport>,
}

impl Crashed {
    /// Of `plugin`, or of all.
    pub(crate) fn of(crashes: &[Arc<CrashReport>], plugin: Option<&str>) -> Self {
        let wanted = crashes.iter().filter(|report| plugin.is_none_or(|plugin| plugin == report.plugin));
        Self { crashes: wanted.map(|report| CrashReport::clone(report)).collect() }
    }

    fn text(&self) -> String {
        match self.crashes.is_empty() {
            true => "nothing died\n".to_owned(),
            false => {
                let paragraphs = self.crashes.iter().map(|report| format!("{}\n", plain(&report.to_string())));
                paragraphs.collect::<Vec<_>>().join("\n")
            }
        }
    }
}
