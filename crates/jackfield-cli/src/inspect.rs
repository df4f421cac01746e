//! `jackfield inspect`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use jackfield::{
    Enforced, Interface, InterfaceId, InterfaceInfo, Lifecycle, Limits, MechanismKind, PluginInfo, ReloadSpec,
    ServiceInfo, State, Status, Trusted, rfc3339,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args;
use crate::output::{Out, Paint, columns, plain};
use crate::session::Session;

pub(crate) async fn run(session: &Session, inspect: &args::Inspect, out: &Out) -> Result<Outcome> {
    let view = session.inspect(&inspect.plugin).await?;
    match out.json {
        true => out.value(&view)?,
        false => out.text(&view.text(out.paint))?,
    }
    Ok(Outcome::Done)
}

/// What is shown of a plugin.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct View {
    pub(crate) name: String,
    own_name: String,
    version: String,
    mechanism: String,
    state: String,
    /// Why it is in this state, where there is a reason.
    why: Option<String>,
    source: String,
    entry: String,
    process: Option<u32>,
    generation: u64,
    /// Sessions that are alive: more than one while it is replaced.
    generations_live: usize,
    /// SHA-256 of its entry, once it is known.
    hash: Option<String>,
    /// What vouches for its bytes, and what was let pass.
    #[serde(default)]
    trust: Trusted,
    /// When this generation became ready.
    #[serde(with = "moment")]
    started: Option<SystemTime>,
    /// Times that it was started again after it died.
    restarts: u32,
    speaks: String,
    capabilities: Vec<String>,
    pub(crate) interfaces: Vec<InterfaceView>,
    services: Vec<ServiceView>,
    /// The limits in force, by name.
    limits: BTreeMap<String, Value>,
    /// The limits that its mechanism cannot enforce, with the reason.
    not_enforced: BTreeMap<String, String>,
    /// What keeps its process in bounds, by which means, and what is not in force and why.
    #[serde(default)]
    enforced: Vec<Enforced>,
    /// Calls by the way they ended.
    calls: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InterfaceView {
    pub(crate) id: InterfaceId,
    fingerprint: Option<String>,
    encodings: Vec<String>,
    pub(crate) description: Option<Interface>,
}

/// A service that no interface describes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServiceView {
    name: String,
    methods: Vec<MethodView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MethodView {
    name: String,
    input: String,
    output: String,
    client_streaming: bool,
    server_streaming: bool,
}

impl View {
    pub(crate) fn of(info: &PluginInfo) -> Self {
        // A native plugin with a process of its own is limited as a program is.
        let limited_as = match (info.mechanism, info.process) {
            (MechanismKind::Native, Some(_)) => MechanismKind::Process,
            (mechanism, _) => mechanism,
        };
        let not_enforced = limited_as.unenforced().iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned()));
        let not_enforced: BTreeMap<_, _> = not_enforced.collect();
        let limits = limits(&info.limits, limited_as);
        let calls = Status::ALL.map(|status| (status.as_str(), info.calls.ended(status)));
        Self {
            name: info.name.clone(),
            own_name: info.own_name.clone(),
            version: info.version.clone(),
            mechanism: info.mechanism.as_str().to_owned(),
            state: info.state.as_str().to_owned(),
            why: why(&info.state),
            source: info.source.display().to_string(),
            entry: info.entry.display().to_string(),
            process: info.process,
            generation: info.generation,
            generations_live: info.generations_live,
            hash: info.hash.clone(),
            trust: info.trusted.clone(),
            started: info.started,
            restarts: info.restarts,
            speaks: info.speaks.clone(),
            capabilities: info.capabilities.iter().map(ToString::to_string).collect(),
            interfaces: info.interfaces.iter().map(InterfaceView::of).collect(),
            services: info.services.iter().map(ServiceView::of).collect(),
            limits: limits
                .into_iter()
                .filter(|(name, _)| !not_enforced.contains_key(*name))
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            not_enforced,
            enforced: info.enforced.clone(),
            calls: calls
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
        }
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = format!("{}\n", paint.bold(&plain(&format!("{} {}", self.name, self.version))));
        let state = match &self.why {
            None => self.state.to_owned(),
            Some(why) => format!("{}: {why}", self.state),
        };
        let process = self.process.map_or_else(|| "the host's".to_owned(), |process| process.to_string());
        let generation = match self.generations_live {
            0 | 1 => self.generation.to_string(),
            live => format!("{}, of {live} that live", self.generation),
        };
        let started = self.started.map_or_else(|| "not yet".to_owned(), rfc3339::text);
        let restarts = self.restarts.to_string();
        let capabilities = self.capabilities.join(", ");
        let trust = self.trust.to_string();
        section(
            &mut text,
            [
                ("calls itself", &*self.own_name),
                ("mechanism", &*self.mechanism),
                ("state", &*state),
                ("source", &*self.source),
                ("entry", &*self.entry),
                ("process", &*process),
                ("generation", &*generation),
                ("started", &*started),
                ("restarts", &*restarts),
                ("sha256", self.hash.as_deref().unwrap_or("not known")),
                ("trust", &*trust),
                ("speaks", &*self.speaks),
                ("capabilities", if capabilities.is_empty() { "none" } else { &*capabilities }),
            ],
        );
        for why in &self.trust.let_pass {
            text += &format!("  {} {}\n", paint.red("let pass:"), plain(why));
        }
        text += &format!("\n{}\n", paint.bold("limits"));
        let in_force = self.limits.iter().map(|(name, value)| match value {
            Value::String(duration) => (&**name, duration.clone()),
            Value::Null => (&**name, "none".to_owned()),
            number => (&**name, number.to_string()),
        });
        let not = self.not_enforced.iter().map(|(name, why)| (&**name, format!("not enforced: {why}")));
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

impl View {
    /// Whether `written` is a method of a service that takes or gives a stream. Named as in
    /// [`jackfield::Plugin::stream`].
    pub(crate) fn streams(&self, written: &str) -> bool {
        let written = written.replace('/', ".");
        let fits = |service: &str, method: &str| {
            let full = format!("{service}.{method}");
            full == written || full.strip_suffix(&*written).is_some_and(|rest| rest.ends_with('.'))
        };
        let methods =
            self.services.iter().flat_map(|service| service.methods.iter().map(move |method| (service, method)));
        let named: Vec<_> = methods.filter(|(service, method)| fits(&service.name, &method.name)).collect();
        matches!(named[..], [(_, method)] if method.client_streaming || method.server_streaming)
    }
}

impl InterfaceView {
    fn of(offered: &InterfaceInfo) -> Self {
        Self {
            id: offered.id.clone(),
            fingerprint: offered.fingerprint().map(|fingerprint| fingerprint.to_string()),
            encodings: if offered.binary { names(&["json", "binary"]) } else { names(&["json"]) },
            description: offered.description.as_deref().cloned(),
        }
    }

    fn add_to(&self, text: &mut String, paint: Paint) {
        *text += &format!("{}\n", paint.bold(&self.id.to_string()));
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
pub(crate) fn section<'a, V: AsRef<str>>(text: &mut String, lines: impl IntoIterator<Item = (&'a str, V)>) {
    let row = |(name, value): (&str, V)| vec![format!("  {name}"), plain(value.as_ref())];
    let rows: Vec<_> = lines.into_iter().map(row).collect();
    for line in columns(&rows) {
        *text += &format!("{line}\n");
    }
}

/// A moment that may not be known.
mod moment {
    use std::time::SystemTime;

    use jackfield::rfc3339;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        at.map(rfc3339::text).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.as_deref().and_then(rfc3339::parse))
    }
}

/// `[lifecycle]` as a configuration says it.
pub(crate) fn lifecycle(lifecycle: &Lifecycle) -> Value {
    let breaker = lifecycle.breaker.as_ref();
    json!({
        "restart": lifecycle.restart.as_str(),
        "backoff": written(lifecycle.backoff),
        "backoff_max": written(lifecycle.backoff_max),
        "restarts": lifecycle.restarts_max,
        "window": written(lifecycle.window),
        "healthy_after": written(lifecycle.healthy_after),
        "idle_stop": lifecycle.idle_stop.map(written),
        "retry": lifecycle.retry.as_str(),
        "breaker": breaker.map(|spec| format!("{} failures, pause {}", spec.failures_max, written(spec.pause))),
    })
}

/// `[reload]` as a configuration says it.
pub(crate) fn reload(reload: &ReloadSpec) -> Value {
    json!({
        "health_timeout": written(reload.health_timeout),
        "canary": reload.canary.as_ref().map(|canary| &canary.function),
        "observe": reload.observe.map(written),
        "observe_failures": reload.observe_failures_max,
        "drain_timeout": written(reload.drain_timeout),
        "generations": reload.generations_max,
        "state": reload.state,
    })
}

/// The limits by their names in a manifest.
pub(crate) fn limits(limits: &Limits, limited_as: MechanismKind) -> [(&'static str, Value); 20] {
    let process = &limits.process;
    let memory = match limited_as {
        MechanismKind::Wasm => Some(limits.memory_bytes_max),
        _ => process.memory,
    };
    [
        ("start_timeout", written(limits.start_timeout).into()),
        ("call_timeout", written(limits.call_timeout).into()),
        ("stop_grace", written(limits.stop_grace).into()),
        ("answer_bytes", json!(limits.answer_bytes_max)),
        ("calls_in_flight", json!(limits.calls_in_flight_max)),
        ("call_bytes_in_flight", json!(limits.call_bytes_in_flight_max)),
        ("on_timeout", limits.on_timeout.as_str().into()),
        ("memory", json!(memory)),
        ("address_space", json!(process.address_space)),
        ("cpu_time", process.cpu_time.map(|seconds| format!("{seconds}s")).into()),
        ("cpu_rate", process.cpu_rate.map(|thousandths| format!("{}%", thousandths / 10)).into()),
        ("processes", json!(process.processes)),
        ("files", json!(process.files)),
        ("file_size", json!(process.file_size)),
        ("table_elements", json!(limits.table_elements_max)),
        ("stack", json!(limits.stack_bytes_max)),
        ("fuel", json!(limits.fuel_max)),
        ("log_bytes", json!(limits.log_bytes_max)),
        ("module_bytes", json!(limits.module_bytes_max)),
        ("compile_timeout", written(limits.compile_timeout).into()),
    ]
}

/// Why a plugin is in its state, where there is more to say than the state.
pub(crate) fn why(state: &State) -> Option<String> {
    let whole = state.to_string();
    whole.strip_prefix(state.as_str())?.strip_prefix(": ").map(str::to_owned)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A duration as a manifest says it.
pub(crate) fn written(duration: Duration) -> String {
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
            mechanism: "native".to_owned(),
            state: "ready".to_owned(),
            why: None,
            source: "plugins/english/plugin.toml".to_owned(),
            entry: "plugins/english/libenglish.so".to_owned(),
            process: None,
            generation: 2,
            generations_live: 2,
            hash: Some("89ab".to_owned()),
            trust: serde_json::from_value(json!({
                "pinned": true, "locked": true, "signed_by": "1234567890ABCDEF", "let_pass": ["a reason"],
            }))
            .expect("what vouches for it"),
            started: rfc3339::parse("2026-11-29T20:59:51Z"),
            restarts: 0,
            speaks: "ABI 1.0".to_owned(),
            capabilities: vec!["batch@2".to_owned(), "greeting@1".to_owned()],
            interfaces: vec![
                InterfaceView {
                    id: "demo:greeter/greeter@1.0.0".parse().expect("an id"),
                    fingerprint: Some("0123".to_owned()),
                    encodings: names(&["json", "binary"]),
                    description: Some(described.expect("a description")),
                },
                InterfaceView {
                    id: "demo:other/other@1.0.0".parse().expect("an id"),
                    fingerprint: None,
                    encodings: names(&["json"]),
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
            limits: [("answer_bytes", json!(1024)), ("call_timeout", json!("30s")), ("fuel", Value::Null)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            not_enforced: [("stop_grace".to_owned(), "a reason".to_owned())].into(),
            enforced: Vec::new(),
            calls: [("ok".to_owned(), 3)].into(),
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
              generation    2, of 2 that live
              started       2026-11-29T20:59:51.000000Z
              restarts      0
              sha256        89ab
              trust         pinned / locked / signed by 1234567890ABCDEF
              speaks        ABI 1.0
              capabilities  batch@2, greeting@1
              let pass: a reason

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
              "generation": 2,
              "generations_live": 2,
              "hash": "89ab",
              "trust": {
                "pinned": true,
                "locked": true,
                "signed_by": "1234567890ABCDEF",
                "let_pass": [
                  "a reason"
                ]
              },
              "started": "2026-11-29T20:59:51.000000Z",
              "restarts": 0,
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
              "enforced": [],
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
