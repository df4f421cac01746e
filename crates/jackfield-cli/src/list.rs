//! `jackfield list`.

use anyhow::Result;
use jackfield::{Host, PluginInfo};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::args;
use crate::output::{Out, Paint, columns, plain};
use crate::report;
use crate::session::Session;

pub(crate) async fn run(session: &Session, list: &args::List, out: &Out) -> Result<Outcome> {
    let listing = session.list().await?;
    match out.json {
        true => out.value(&listing)?,
        false => out.text(&listing.text(out.paint))?,
    }
    Ok(match list.strict && !listing.refused.is_empty() {
        true => Outcome::NotAllWell,
        false => Outcome::Done,
    })
}

/// What is listed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Listing {
    plugins: Vec<Row>,
    pub(crate) refused: Vec<Refused>,
    shadowed: Vec<Shadowed>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    name: String,
    version: String,
    mechanism: String,
    state: String,
    interfaces: Vec<String>,
    /// What is offered beside interfaces.
    services: Vec<String>,
    capabilities: Vec<String>,
    source: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    name: String,
    path: String,
    /// The error, then its causes.
    reason: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shadowed {
    name: String,
    path: String,
    by: String,
}

impl Listing {
    pub(crate) fn of(host: &Host) -> Self {
        let shadowed = host.shadowed();
        let shadowed = shadowed.iter().map(|shadowed| Shadowed {
            name: shadowed.name.clone(),
            path: shadowed.path.display().to_string(),
            by: shadowed.by.display().to_string(),
        });
        Self {
            plugins: host.plugins().iter().map(|plugin| Row::of(&plugin.info())).collect(),
            refused: Self::refused(host),
            shadowed: shadowed.collect(),
        }
    }

    /// What was refused, and why.
    pub(crate) fn refused(host: &Host) -> Vec<Refused> {
        let refused = host.refused();
        let row = |refused: &jackfield::Refused| Refused {
            name: refused.name.clone(),
            path: refused.path.display().to_string(),
            reason: report::chain(&refused.reason),
        };
        refused.iter().map(|refused| row(refused)).collect()
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        if self.plugins.is_empty() {
            text += "no plugins\n";
        } else {
            let header = ["NAME", "VERSION", "MECHANISM", "STATE", "INTERFACES", "CAPABILITIES", "SOURCE"];
            let mut rows = vec![header.map(str::to_owned).to_vec()];
            rows.extend(self.plugins.iter().map(Row::cells));
            for (at, line) in columns(&rows).iter().enumerate() {
                let line = if at == 0 { paint.bold(line) } else { line.clone() };
                text += &format!("{line}\n");
            }
        }
        if !self.refused.is_empty() {
            text += &format!("\n{}\n", paint.red("refused"));
        }
        for Refused { name, path, reason } in &self.refused {
            text += &format!("  {}  {}\n", plain(name), plain(path));
            for (depth, cause) in reason.iter().enumerate() {
                let label = if depth == 0 { "" } else { "caused by: " };
                text += &format!("    {label}{cause}\n");
            }
        }
        if !self.shadowed.is_empty() {
            text += &format!("\n{}\n", paint.bold("shadowed"));
        }
        for Shadowed { name, path, by } in &self.shadowed {
            text += &format!("  {}  {}  by {}\n", plain(name), plain(path), plain(by));
        }
        text
    }
}

impl Row {
    fn of(info: &PluginInfo) -> Self {
        Self {
            name: info.name.clone(),
            version: info.version.clone(),
            mechanism: info.mechanism.as_str().to_owned(),
            state: info.state.as_str().to_owned(),
            interfaces: info.interfaces.iter().map(|interface| interface.id.to_string()).collect(),
            services: info.services.iter().map(|service| service.name.clone()).collect(),
            capabilities: info.capabilities.iter().map(ToString::to_string).collect(),
            source: info.source.display().to_string(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let listed = |items: &[String]| match items.is_empty() {
            true => "-".to_owned(),
            false => items.join(", "),
        };
        let offered = [&*self.interfaces, &*self.services].concat();
        let (interfaces, capabilities) = (listed(&offered), listed(&self.capabilities));
        let cells = [&self.name, &self.version, &self.mechanism, &self.state, &interfaces, &capabilities, &self.source];
        cells.map(|cell| plain(cell)).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(listing: &Listing, expected: Expect) {
        let json = serde_json::to_string(listing).expect("JSON");
        expected.assert_eq(&format!("{}{json}\n", listing.text(Paint::PLAIN)));
    }

    fn row(name: &str, mechanism: &str, capabilities: &[&str]) -> Row {
        Row {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            mechanism: mechanism.to_owned(),
            state: "ready".to_owned(),
            interfaces: vec!["demo:greeter/greeter@1.0.0".to_owned()],
            services: Vec::new(),
            capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
            source: format!("plugins/{name}/plugin.toml"),
        }
    }

    #[test]
    fn plugins_stand_in_columns_and_below_them_what_is_not_loaded_and_why() {
        check(
            &Listing {
                plugins: vec![
                    row("english", "native", &["batch@2", "greeting@1"]),
                    row("greeter-python", "process", &[]),
                ],
                refused: vec![Refused {
                    name: "broken".to_owned(),
                    path: "plugins/broken".to_owned(),
                    reason: vec![
                        "plugins/broken/plugin.toml: cannot be read".to_owned(),
                        "permission denied".to_owned(),
                    ],
                }],
                shadowed: vec![Shadowed {
                    name: "english".to_owned(),
                    path: "more/english".to_owned(),
                    by: "plugins/english/plugin.toml".to_owned(),
                }],
            },
            expect![[r#"
                NAME            VERSION  MECHANISM  STATE  INTERFACES                  CAPABILITIES         SOURCE
                english         1.0.0    native     ready  demo:greeter/greeter@1.0.0  batch@2, greeting@1  plugins/english/plugin.toml
                greeter-python  1.0.0    process    ready  demo:greeter/greeter@1.0.0  -                    plugins/greeter-python/plugin.toml

                refused
                  broken  plugins/broken
                    plugins/broken/plugin.toml: cannot be read
                    caused by: permission denied

                shadowed
                  english  more/english  by plugins/english/plugin.toml
                {"plugins":[{"name":"english","version":"1.0.0","mechanism":"native","state":"ready","interfaces":["demo:greeter/greeter@1.0.0"],"services":[],"capabilities":["batch@2","greeting@1"],"source":"plugins/english/plugin.toml"},{"name":"greeter-python","version":"1.0.0","mechanism":"process","state":"ready","interfaces":["demo:greeter/greeter@1.0.0"],"services":[],"capabilities":[],"source":"plugins/greeter-python/plugin.toml"}],"refused":[{"name":"broken","path":"plugins/broken","reason":["plugins/broken/plugin.toml: cannot be read","permission denied"]}],"shadowed":[{"name":"english","path":"more/english","by":"plugins/english/plugin.toml"}]}
            "#]],
        );
    }

    #[test]
    fn a_list_of_nothing_says_so() {
        check(
            &Listing::default(),
            expect![[r#"
            no plugins
            {"plugins":[],"refused":[],"shadowed":[]}
        "#]],
        );
    }
}
