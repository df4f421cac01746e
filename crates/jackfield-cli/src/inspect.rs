//! `jackfield inspect`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use jackfield::{Enforced, Interface, InterfaceInfo, MechanismKind, PluginInfo, ServiceInfo, State, Status};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Outcome;
use crate::args;
use crate::output::{Out, Paint, columns, plain};
use crate::session::Session;

pub(crate) fn run(session: &Session, inspect: &args::Inspect, out: &Out) -> Result<Outcome> {
    let view = View::of(&session.plugin(&inspect.plugin)?.info());
    match out.json {
        true => out.value(&view)?,
        false => out.text(&view.text(out.paint))?,
    }
    Ok(Outcome::Done)
}

/// What is shown of a plugin.
#[derive(Debug, Serialize)]
struct View {
    name: String,
    own_name: String,
    version: String,
    mechanism: &'static str,
    state: &'static str,
    /// Why it is in this state, where there is a reason.
    why: Option<String>,
    source: String,
    entry: String,
    process: Option<u32>,
    generation: u64,
    speaks: String,
    capabilities: Vec<String>,
    interfaces: Vec<InterfaceView>,
    services: Vec<ServiceView>,
    /// The limits in force, by name.
    limits: BTreeMap<&'static str, Value>,
    /// The limits that its mechanism cannot enforce, with the reason.
    not_enforced: BTreeMap<&'static str, &'static str>,
    /// What keeps its process in bounds, by which means, and what is not in force and why.
    enforced: Vec<Enforced>,
    /// Calls by the way they ended.
    calls: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct InterfaceView {
    id: String,
    fingerprint: Option<String>,
    encodings: Vec<&'static str>,
    description: Option<Interface>,
}

/// A service that no interface describes.
#[derive(Debug, Serialize)]
struct ServiceView {
    name: String,
    methods: Vec<MethodView>,
}

#[derive(Debug, Serialize)]
struct MethodView {
    name: String,
    input: String,
    output: String,
    client_streaming: bool,
    server_streaming: bool,
}

impl View {
    fn of(info: &PluginInfo) -> Self {
        // A native plugin with a process of its own is limited as a program is.
        let limited_as = match (info.mechanism, info.process) {
            (MechanismKind::Native, Some(_)) => MechanismKind::Process,
            (mechanism, _) => mechanism,
        };
        let not_enforced: BTreeMap<_, _> = limited_as.unenforced().iter().copied().collect();
        let process = &info.limits.process;
        let memory = match limited_as {
            MechanismKind::Wasm => Some(info.limits.memory_bytes_max),
            _ => process.memory,
        };
        let limits = [
            ("start_timeout", written(info.limits.start_timeout).into()),
            ("call_timeout", written(info.limits.call_timeout).into()),
            ("stop_grace", written(info.limits.stop_grace).into()),
            ("answer_bytes", json!(info.limits.answer_bytes_max)),
            ("calls_in_flight", json!(info.limits.calls_in_flight_max)),
            ("call_bytes_in_flight", json!(info.limits.call_bytes_in_flight_max)),
            ("on_timeout", info.limits.on_timeout.as_str().into()),
            ("memory", json!(memory)),
            ("address_space", json!(process.address_space)),
            ("cpu_time", process.cpu_time.map(|seconds| format!("{seconds}s")).into()),
            ("cpu_rate", process.cpu_rate.map(|thousandths| format!("{}%", thousandths / 10)).into()),
            ("processes", json!(process.processes)),
            ("files", json!(process.files)),
            ("file_size", json!(process.file_size)),
            ("table_elements", json!(info.limits.table_elements_max)),
            ("stack", json!(info.limits.stack_bytes_max)),
            ("fuel", json!(info.limits.fuel_max)),
            ("log_bytes", json!(info.limits.log_bytes_max)),
            ("module_bytes", json!(info.limits.module_bytes_max)),
            ("compile_timeout", written(info.limits.compile_timeout).into()),
        ];
        let calls = Status::ALL.map(|status| (status.as_str(), info.calls.ended(status)));
        Self {
            name: info.name.clone(),
            own_name: info.own_name.clone(),
            version: info.version.clone(),
            mechanism: info.mechanism.as_str(),
            state: info.state.as_str(),
            why: match &info.state {
                State::Failed { why } => Some(why.clone()),
                _ => None,
            },
            source: info.source.display().to_string(),
            entry: info.entry.display().to_string(),
            process: info.process,
            generation: info.generation,
            speaks: info.speaks.clone(),
            capabilities: info.capabilities.iter().map(ToString::to_string).collect(),
            interfaces: info.interfaces.iter().map(InterfaceView::of).collect(),
            services: info.services.iter().map(ServiceView::of).collect(),
            limits: limits.into_iter().filter(|(name, _)| !not_enforced.contains_key(name)).collect(),
            not_enforced,
            enforced: info.enforced.clone(),
            calls: calls.into_iter().filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = format!("{}\n", paint.bold(&plain(&format!("{} {}", self.name, self.version))));
        let state = match &self.why {
            None => self.state.to_owned(),
            Some(why) => format!("{}: {why}", self.state),
        };
        let process = self.process.map_or_else(|| "the host's".to_owned(), |process| process.to_string());
        let generation = self.generation.to_string();
        let capabilities = self.capabilities.join(", ");
        section(
            &mut text,
            [
                ("calls itself", &*self.own_name),
                ("mechanism", self.mechanism),
                ("state", &*state),
                ("source", &*self.source),
                ("entry", &*self.entry),
                ("process", &*process),
                ("generation", &*generation),
                ("speaks", &*self.speaks),
                ("capabilities", if capabilities.is_empty() { "none" } else { &*capabilities }),
            ],
        );
        text += &format!("\n{}\n", paint.bold("limits"));
        let in_force = self.limits.iter().map(|(name, value)| match value {
            Value::String(duration) => (*name, duration.clone()),
            Value::Null => (*name, "none".to_owned()),
            number => (*name, number.to_string()),
        });
        let not = self.not_enforced.iter().map(|(name, why)| (*name, format!("not enforced: {why}")));
        section(&mut text, in_force.chain(not));
        if !self.enforced.is_empty() {
            text += &format!("\n{}\n", paint.bold("process"));
            self.enforced.iter().for_each(|enforced| text += &format!("  {}\n", plain(&enforced.to_string())));
        }
        for interface in &self.interfaces {
            text.push('\n');
            interface.add_to(&mut text, paint);
        }
        for service in &self.services {
            text.push('\n');
            service.add_to(&mut text, paint);
        }
        text
    }
}

impl InterfaceView {
    fn of(offered: &InterfaceInfo) -> Self {
        Self {
            id: offered.id.to_string(),
            fingerprint: offered.fingerprint().map(|fingerprint| fingerprint.to_string()),
            encodings: if offered.binary { vec!["json", "binary"] } else { vec!["json"] },
            description: offered.description.as_deref().cloned(),
        }
    }

    fn add_to(&self, text: &mut String, paint: Paint) {
        *text += &format!("{}\n", paint.bold(&self.id));
        let fingerprint = self.fingerprint.as_deref().unwrap_or("none: only its name is known");
        section(text, [("fingerprint", fingerprint), ("encodings", &*self.encodings.join(", "))]);
        for function in self.description.iter().flat_map(|description| &description.functions) {
            let docs = function.docs.lines().next().map(|line| format!("  // {line}"));
            let line = format!("  {}{}", function.signature(), docs.unwrap_or_default());
            *text += &format!("{}\n", plain(&line));
        }
    }
}

impl ServiceView {
    fn of(service: &ServiceInfo) -> Self {
        let methods = service.methods.iter().map(|method| MethodView {
            name: method.name.clone(),
            input: method.input.clone(),
            output: method.output.clone(),
            client_streaming: method.client_streaming,
            server_streaming: method.server_streaming,
        });
        Self { name: service.name.clone(), methods: methods.collect() }
    }

    fn add_to(&self, text: &mut String, paint: Paint) {
        *text += &format!("{}\n", paint.bold(&format!("service {}", plain(&self.name))));
        for MethodView { name, input, output, client_streaming, server_streaming } in &self.methods {
            let stream = |streams: &bool| if *streams { "stream " } else { "" };
            let line =
                format!("  {name}({}{input}) returns ({}{output})", stream(client_streaming), stream(server_streaming));
            *text += &format!("{}\n", plain(&line));
        }
    }
}

/// Lines of a name and a value, the values aligned.
fn section<V: AsRef<str>>(text: &mut String, lines: impl IntoIterator<Item = (&'static str, V)>) {
    let row = |(name, value): (&str, V)| vec![format!("  {name}"), plain(value.as_ref())];
    let rows: Vec<_> = lines.into_iter().map(row).collect();
    for line in columns(&rows) {
        *text += &format!("{line}\n");
    }
}

/// A duration as a manifest says it.
fn written(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms > 0 && ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn view() -> View {
        let described = Interface::from_json(
            r#"{
                "interface": "demo:greeter/greeter@1.0.0",
                "functions": [{"name": "greet", "docs": "Greets one person.\nPolitely.",
                               "params": [{"name": "name", "type": "string"}], "result": "string"}]
            }"#,
        );
        View {
            name: "english".to_owned(),
            own_name: "english".to_owned(),
            version: "1.0.0\x1b[2J".to_owned(),
            mechanism: "native",
            state: "ready",
            why: None,
            source: "plugins/english/plugin.toml".to_owned(),
            entry: "plugins/english/libenglish.so".to_owned(),
            process: None,
            generation: 1,
            speaks: "ABI 1.0".to_owned(),
            capabilities: vec!["batch@2".to_owned(), "greeting@1".to_owned()],
            interfaces: vec![
                InterfaceView {
                    id: "demo:greeter/greeter@1.0.0".to_owned(),
                    fingerprint: Some("0123".to_owned()),
                    encodings: vec!["json", "binary"],
                    description: Some(described.expect("a description")),
                },
                InterfaceView {
                    id: "demo:other/other@1.0.0".to_owned(),
                    fingerprint: None,
                    encodings: vec!["json"],
                    description: None,
                },
            ],
            services: vec![ServiceView {
                name: "proto.Feed".to_owned(),
                methods: vec![MethodView {
                    name: "Watch".to_owned(),
                    input: "proto.Topic".to_owned(),
                    output: "proto.News".to_owned(),
                    client_streaming: false,
                    server_streaming: true,
                }],
            }],
            limits: [("answer_bytes", json!(1024)), ("call_timeout", json!("30s")), ("fuel", Value::Null)].into(),
            not_enforced: [("stop_grace", "a reason")].into(),
            enforced: Vec::new(),
            calls: [("ok", 3)].into(),
        }
    }

    #[test]
    fn all_that_is_known_is_shown() {
        expect![[r#"
            english 1.0.0\u{1b}[2J
              calls itself  english
              mechanism     native
              state         ready
              source        plugins/english/plugin.toml
              entry         plugins/english/libenglish.so
              process       the host's
              generation    1
              speaks        ABI 1.0
              capabilities  batch@2, greeting@1

            limits
              answer_bytes  1024
              call_timeout  30s
              fuel          none
              stop_grace    not enforced: a reason

            demo:greeter/greeter@1.0.0
              fingerprint  0123
              encodings    json, binary
              greet(name: string) -> string  // Greets one person.

            demo:other/other@1.0.0
              fingerprint  none: only its name is known
              encodings    json

            service proto.Feed
              Watch(proto.Topic) returns (stream proto.News)
        "#]]
        .assert_eq(&view().text(Paint::PLAIN));
    }

    #[test]
    fn the_data_is_the_same_for_a_machine() {
        let json = serde_json::to_string_pretty(&view()).expect("JSON");
        expect![[r#"
            {
              "name": "english",
              "own_name": "english",
              "version": "1.0.0\u001b[2J",
              "mechanism": "native",
              "state": "ready",
              "why": null,
              "source": "plugins/english/plugin.toml",
              "entry": "plugins/english/libenglish.so",
              "process": null,
              "generation": 1,
              "speaks": "ABI 1.0",
              "capabilities": [
                "batch@2",
                "greeting@1"
              ],
              "interfaces": [
                {
                  "id": "demo:greeter/greeter@1.0.0",
                  "fingerprint": "0123",
                  "encodings": [
                    "json",
                    "binary"
                  ],
                  "description": {
                    "interface": "demo:greeter/greeter@1.0.0",
                    "functions": [
                      {
                        "name": "greet",
                        "docs": "Greets one person.\nPolitely.",
                        "params": [
                          {
                            "name": "name",
                            "type": "string"
                          }
                        ],
                        "result": "string"
                      }
                    ]
                  }
                },
                {
                  "id": "demo:other/other@1.0.0",
                  "fingerprint": null,
                  "encodings": [
                    "json"
                  ],
                  "description": null
                }
              ],
              "services": [
                {
                  "name": "proto.Feed",
                  "methods": [
                    {
                      "name": "Watch",
                      "input": "proto.Topic",
                      "output": "proto.News",
                      "client_streaming": false,
                      "server_streaming": true
                    }
                  ]
                }
              ],
              "limits": {
                "answer_bytes": 1024,
                "call_timeout": "30s",
                "fuel": null
              },
              "not_enforced": {
                "stop_grace": "a reason"
              },
              "calls": {
                "ok": 3
              }
            }"#]]
        .assert_eq(&json);
    }

    #[test]
    fn a_duration_is_written_as_in_a_manifest() {
        let written = |ms| written(Duration::from_millis(ms));
        assert_eq!([0, 250, 1000, 90_000, 120_000].map(written), ["0s", "250ms", "1s", "90s", "2m"]);
        assert!(
            [0, 250, 1000, 90_000, 120_000].map(written).iter().all(|text| jackfield::parse_duration(text).is_ok())
        );
    }
}
