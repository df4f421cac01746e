//! `jackfield quarantine`: what was set aside, and why; and letting it back.

use std::path::Path;

use anyhow::{Context as _, Result};
use jackfield::{Quarantined, StateDir, rfc3339};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::args;
use crate::args::QuarantineVerb;
use crate::fault::Kind;
use crate::lifecycle;
use crate::output::{Out, Paint, plain};
use crate::report::Told;
use crate::running::escaped;
use crate::session::{Where, asynchronously};

pub(crate) fn run(
    place: &Where,
    state_dir: Option<&Path>,
    quarantine: &args::Quarantine,
    out: &Out,
) -> Result<Outcome> {
    let running = place.running()?;
    match (&quarantine.verb, running, state_dir) {
        (None | Some(QuarantineVerb::List), Some(running), _) => {
            show(&asynchronously(running.get("/v1/quarantine"))?, out)
        }
        (Some(QuarantineVerb::Lift { plugin }), Some(running), _) => {
            lifecycle::change(&running, &format!("/v1/quarantine/{}/lift", escaped(plugin)), out)
        }
        (None | Some(QuarantineVerb::List), None, Some(directory)) => {
            show(&SetAside { quarantined: records(directory)?.quarantined() }, out)
        }
        (Some(QuarantineVerb::Lift { plugin }), None, Some(directory)) => {
            match records(directory)?.lift_quarantine(plugin) {
                true => out.text(&format!("{}: not quarantined any more\n", plain(plugin))).map(|()| Outcome::Done),
                false => Err(Told::new(Kind::NotQuarantined, format!("plugin `{plugin}` is not quarantined")).into()),
            }
        }
        (_, None, None) => Err(nobody("quarantine").into()),
    }
}

/// What hosts left in a directory.
pub(crate) fn records(directory: &Path) -> Result<StateDir> {
    StateDir::open(directory).with_context(|| format!("cannot look into the state directory `{}`", directory.display()))
}

/// Neither a host nor its records were named.
pub(crate) fn nobody(verb: &str) -> Told {
    Told::new(Kind::Internal, format!("`{verb}` needs a running host, or the records of one"))
        .hint("name the host with `--host unix:PATH` or in JACKFIELD_HOST, or its records with `--state-dir DIR`")
}

fn show(set_aside: &SetAside, out: &Out) -> Result<Outcome> {
    match out.json {
        true => out.value(set_aside)?,
        false => out.text(&set_aside.text(out.paint))?,
    }
    Ok(Outcome::Done)
}

/// What is set aside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetAside {
    pub(crate) quarantined: Vec<Quarantined>,
}

impl SetAside {
    fn text(&self, paint: Paint) -> String {
        if self.quarantined.is_empty() {
            return "nothing is quarantined\n".to_owned();
        }
        let mut text = String::new();
        for (at, record) in self.quarantined.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n" };
            let name = paint.bold(&plain(&record.plugin));
            text += &format!("{gap}{name}  since {}\n  {}\n", rfc3339::text(record.since), plain(&record.reason));
            for line in &record.evidence {
                text += &format!("    {}\n", plain(line));
            }
            text += &format!("  to let it back: `{}`\n", plain(&record.lift));
        }
        text
    }
}
