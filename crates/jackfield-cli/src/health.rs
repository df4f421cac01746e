//! `jackfield health`: whether every plugin of a running host is well.

use std::collections::BTreeMap;

use anyhow::Result;
use jackfield::Host;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::inspect::why;
use crate::output::{Out, Paint, columns, plain};
use crate::session::{Where, asynchronously};

pub(crate) fn run(place: &Where, out: &Out) -> Result<Outcome> {
    let health: Health = asynchronously(place.must_run("health")?.get_even_unwell("/v1/health"))?;
    match out.json {
        true => out.value(&health)?,
        false => out.text(&health.text(out.paint))?,
    }
    Ok(if health.well { Outcome::Done } else { Outcome::NotAllWell })
}

/// How every plugin is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Health {
    /// Whether each of them takes calls, or rests because somebody wants that, and nothing was refused.
    pub(crate) well: bool,
    plugins: BTreeMap<String, PluginHealth>,
    refused: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PluginHealth {
    state: String,
    why: Option<String>,
}

impl Health {
    pub(crate) fn of(host: &Host) -> Self {
        let of = |plugin: &jackfield::Plugin| {
            let state = plugin.info().state;
            (plugin.name().to_owned(), PluginHealth { state: state.as_str().to_owned(), why: why(&state) })
        };
        let plugins = host.plugins().iter().map(of).collect();
        let refused = host.refused().iter().map(|refused| refused.name.clone()).collect();
        Self::judged(plugins, refused)
    }

    fn judged(plugins: BTreeMap<String, PluginHealth>, refused: Vec<String>) -> Self {
        // One that drains has given its calls to another, or is on its way to rest.
        let is_well = |health: &PluginHealth| matches!(&*health.state, "ready" | "draining" | "stopped");
        Self { well: refused.is_empty() && plugins.values().all(is_well), plugins, refused }
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = match self.well {
            true => format!("{}\n", paint.green("well")),
            false => format!("{}\n", paint.red("not well")),
        };
        let row = |(name, health): (&String, &PluginHealth)| {
            let why = health.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            vec![format!("  {}", plain(name)), plain(&format!("{}{why}", health.state))]
        };
        let mut rows: Vec<_> = self.plugins.iter().map(row).collect();
        rows.extend(self.refused.iter().map(|name| vec![format!("  {}", plain(name)), "refused".to_owned()]));
        columns(&rows).iter().for_each(|line| text += &format!("{line}\n"));
        text
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_rests_because_somebody_wants_that_is_well_and_what_failed_is_not() {
        let plugin = |name: &str, state: &str, why: Option<&str>| {
            (name.to_owned(), PluginHealth { state: state.to_owned(), why: why.map(str::to_owned) })
        };
        let well = [plugin("a", "ready", None), plugin("b", "stopped", Some("it is disabled"))];
        let health = Health::judged(well.into(), Vec::new());
        expect![[r#"
            well
              a  ready
              b  stopped: it is disabled
        "#]]
        .assert_eq(&health.text(Paint::PLAIN));
        let failed = [plugin("a", "failed", Some("signal 9 (SIGKILL)"))];
        let health = Health::judged(failed.into(), vec!["typo".to_owned()]);
        expect![[r#"
            not well
              a     failed: signal 9 (SIGKILL)
              typo  refused
            {"well":false,"plugins":{"a":{"state":"failed","why":"signal 9 (SIGKILL)"}},"refused":["typo"]}"#]]
        .assert_eq(&format!("{}{}", health.text(Paint::PLAIN), serde_json::to_string(&health).expect("JSON")));
        assert!(!Health::judged([plugin("a", "quarantined", None)].into(), Vec::new()).well);
    }
}
