//! Lines of plugins with the trace of the call that wrote them, where that is known.

#![cfg(all(feature = "otel", feature = "grpc", feature = "process", feature = "wasm", target_os = "linux"))]

mod suite;

use fixtures_api::misbehave::Level;
use jackfield::Encoding;
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::SpanData;
use suite::kept::Kept;
use suite::{Fixture, Mechanism, Plugins, in_time, misbehave, watch};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn context() -> jackfield::TraceContext {
    format!("00-{TRACE}-00f067aa0ba902b7-01").parse().expect("a context")
}

const WASM: [(Mechanism, &str); 3] =
    [(Mechanism::Extism, "extism"), (Mechanism::Component, "component"), (Mechanism::Command, "command")];

fn plugins(kind: &str) -> Plugins {
    let plugins = Plugins::new();
    for (mechanism, name) in WASM {
        // One instance, so that a call without a trace has the instance of the one with a trace.
        let fixture = Fixture::new(mechanism, "misbehave").named(&format!("{name}-{kind}"));
        plugins.add(fixture.manifest("instances = { pool = { max = 1 } }"));
    }
    plugins
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_instance_says_in_a_call_has_the_trace_of_its_span() {
    watch::start();
    let kept = Kept::default();
    let spans = kept.spans();
    let plugins = plugins("spans");
    let host = in_time(plugins.builder().spans(spans.clone()).build()).await.expect("a host");
    for (mechanism, name) in WASM {
        let plugin = format!("{name}-spans");
        // The calls have no caller that says a trace: what the host began itself is all there is.
        let client = misbehave(&host, &plugin);
        in_time(client.log(Level::Warn, "logged".into())).await.expect("an answer");
        // The fixture has a stderr in no other.
        if mechanism == Mechanism::Command {
            in_time(client.complain("printed".into())).await.expect("an answer");
        }
        in_time(spans.flush()).await;
        let trace_of = |method: &str| {
            let all = kept.0.lock().expect("unharmed");
            let of_it = |span: &&SpanData| {
                let has = |key: &str, value: &str| {
                    span.attributes.iter().any(|one| one.key.as_str() == key && one.value.as_str() == value)
                };
                span.span_kind == SpanKind::Client && span.name.ends_with(method) && has("plugin.name", &plugin)
            };
            all.iter().find(of_it).map(|span| span.span_context.trace_id().to_string())
        };
        assert_eq!(watch::trace_id(&plugin, "logged"), trace_of(".log"), "{plugin}");
        assert!(trace_of(".log").is_some(), "{plugin}");
        if mechanism == Mechanism::Command {
            assert_eq!(watch::trace_id(&plugin, "printed"), trace_of(".complain"), "{plugin}");
            assert_ne!(trace_of(".complain"), trace_of(".log"), "{plugin}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_trace_has_not_that_of_the_call_before() {
    watch::start();
    let plugins = plugins("caller");
    let host = plugins.host().await;
    for (_, name) in WASM {
        let plugin = format!("{name}-caller");
        let client = misbehave(&host, &plugin);
        in_time(jackfield::traced(context(), client.log(Level::Warn, "first".into()))).await.expect("an answer");
        in_time(client.log(Level::Warn, "second".into())).await.expect("an answer");
        assert_eq!(watch::trace_id(&plugin, "first").as_deref(), Some(TRACE), "{plugin}");
        assert_eq!(watch::trace_id(&plugin, "second"), None, "{plugin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_sdk_logs_in_a_call_has_its_trace_in_programs_and_libraries_too() {
    watch::start();
    let plugins = Plugins::new();
    let kinds = [
        (Mechanism::Native, "native-logs"),
        (Mechanism::Isolated, "isolated-logs"),
        (Mechanism::Process, "process-logs"),
        (Mechanism::Grpc, "grpc-logs"),
    ];
    for (mechanism, name) in kinds {
        plugins.add(Fixture::new(mechanism, "misbehave").named(name));
    }
    for encoding in [Encoding::Json, Encoding::Binary] {
        let host = in_time(plugins.builder().encoding(encoding).build()).await.expect("a host");
        for (_, plugin) in kinds {
            let client = misbehave(&host, plugin);
            let (first, second) = (format!("first, {encoding:?}"), format!("second, {encoding:?}"));
            in_time(jackfield::traced(context(), client.log(Level::Warn, first.clone()))).await.expect("an answer");
            in_time(client.log(Level::Warn, second.clone())).await.expect("an answer");
            assert_eq!(watch::trace_id(plugin, &first).as_deref(), Some(TRACE), "{plugin}");
            assert_eq!(watch::trace_id(plugin, &second), None, "{plugin}");
            assert_eq!(watch::line(plugin, &first), format!("WARN {first}"), "the trace is not in the text");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_hclog_has_the_trace_that_it_names_and_what_shares_a_stderr_has_none() {
    watch::start();
    let plugins = Plugins::with(Fixture::new(Mechanism::Grpc, "misbehave").named("hclog"));
    let host = plugins.host().await;
    let client = misbehave(&host, "hclog");
    let line = format!(r#"{{"@level":"warn","@message":"disk","trace_id":"{TRACE}"}}"#);
    in_time(client.complain(line)).await.expect("an answer");
    assert_eq!(watch::trace_id("hclog", "disk").as_deref(), Some(TRACE));
    in_time(client.complain(r#"{"@level":"warn","@message":"odd","trace_id":"no id"}"#.into()))
        .await
        .expect("an answer");
    assert_eq!(watch::trace_id("hclog", "odd"), None);
    in_time(jackfield::traced(context(), client.complain("plain".into()))).await.expect("an answer");
    assert_eq!(watch::trace_id("hclog", "plain"), None);
}
