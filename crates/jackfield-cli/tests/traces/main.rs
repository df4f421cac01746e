//! Spans of a host that runs, and of its plugins, as a collector gets them.

#![cfg(all(unix, feature = "otel"))]

mod collector;
#[cfg(target_os = "linux")]
mod flat;
#[path = "../run/http.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod http;
mod measured;
#[path = "../run/service.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod service;
mod tls;

use collector::{Collector, Span};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use service::{Place, Service, until};

/// Variables by which a host exports soon.
fn variables(collector: &str, wire: &str) -> Vec<(&'static str, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.to_owned()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", wire.to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ]
}

/// The trace of the n-th call of a test.
fn trace(number: usize) -> String {
    format!("{:032x}", 0xabc0_0000 + number)
}

const CALLER: &str = "00f067aa0ba902b7";

/// Calls a function over HTTP, in a span, and gives the kind of the answer.
fn call(place: &Place, number: usize, plugin: &str, function: &str, arguments: &str) -> String {
    let body = format!(r#"{{"function":"{function}","arguments":{arguments},"timeout":"2s"}}"#);
    let request = format!(
        "POST /v1/plugins/{plugin}/call HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\ntraceparent: 00-{}-{CALLER}-01\r\ntracestate: a=b\r\n\r\n{body}",
        body.len(),
        trace(number)
    );
    let answer = http::unix(&place.path("host.sock"), &request);
    format!("{} {}", answer.status, answer.kind())
}

fn client_of(spans: &[Span]) -> Span {
    let clients: Vec<_> = spans.iter().filter(|span| span.kind == SpanKind::Client).collect();
    assert_eq!(clients.len(), 1, "{spans:#?}");
    clients[0].clone()
}

/// The spans of a call, once there are as many: the host's, and the plugin's if it makes one.
#[track_caller]
fn tree(collector: &Collector, number: usize, with_plugin: bool) -> (Span, Option<Span>) {
    let wanted = 1 + usize::from(with_plugin);
    until(&format!("the {wanted} spans of call {number} have come"), || collector.of(&trace(number)).len() >= wanted);
    let spans = collector.of(&trace(number));
    assert_eq!(spans.len(), wanted, "{spans:#?}");
    let client = client_of(&spans);
    assert_eq!(client.parent, CALLER, "{client:#?}");
    let server = spans.into_iter().find(|span| span.kind == SpanKind::Server);
    if let Some(server) = &server {
        assert_eq!(server.parent, client.id, "{server:#?}");
        assert!(client.start <= server.start && server.start <= server.end, "{client:#?} {server:#?}");
    }
    assert_eq!(server.is_some(), with_plugin);
    (client, server)
}

#[test]
fn a_call_by_each_mechanism_is_one_tree_in_which_the_hosts_span_is_parent_of_the_plugins() {
    let collector = Collector::grpc();
    let place = Place::new();
    // By name: how it is called, what system that is, and whether the plugin has a span of its own.
    let undescribed = ["greeter-python", "greeter-go", "greeter-c"];
    let plugins = [
        ("english", "native", "jackfield.native", true),
        ("isolated", "native", "jackfield.native", true),
        ("english-process", "process", "jsonrpc", true),
        ("english-grpc", "grpc", "grpc", true),
        ("unary", "grpc", "grpc", true),
        ("english-wasm", "wasm", "jackfield.wasm", true),
        ("english-wasi", "wasm", "jackfield.wasm", true),
        ("greeter-python", "process", "jsonrpc", true),
        ("greeter-go-grpc", "grpc", "grpc", true),
        ("english-component", "wasm", "jackfield.wasm", true),
        // These two make no spans.
        ("greeter-go", "process", "jsonrpc", false),
        ("greeter-c", "native", "jackfield.native", false),
    ];
    let others = plugins.iter().filter(|(name, ..)| !matches!(*name, "isolated" | "unary"));
    others.for_each(|(name, ..)| place.link(name));
    // The same library in a process of its own.
    place.link_as("english", "isolated", |manifest| {
        manifest.replace("\"english\"", "\"isolated\"") + "isolation = \"process\"\n"
    });
    // The same program, each call a gRPC call of its own.
    place.link_as("english-grpc", "unary", |manifest| {
        manifest.replace("name = \"english-grpc\"", "name = \"unary\"") + "[grpc]\ncalls = \"unary\"\n"
    });
    let service = Service::start_in(&place, &variables(&collector.endpoint(), "grpc"));
    for (number, (plugin, mechanism, system, has_own)) in plugins.into_iter().enumerate() {
        assert_eq!(call(&place, 2 * number, plugin, "greet", r#"{"name":"Ada"}"#), "200 ok", "{plugin}");
        let (client, server) = tree(&collector, 2 * number, has_own);
        // What nobody described has the name of none, as in the metrics.
        let (name, method) =
            if undescribed.contains(&plugin) { (system, "_OTHER") } else { ("greeter.greet", "greeter.greet") };
        assert_eq!((&*client.name, &*client.service, client.failed), (name, "jackfield", false), "{plugin}");
        assert_eq!(client.state, "a=b", "{plugin}");
        let ok = if system == "grpc" { "OK" } else { "ok" };
        for (name, value) in [
            ("rpc.system.name", system),
            ("rpc.method", method),
            ("rpc.response.status_code", ok),
            ("plugin.name", plugin),
            ("plugin.mechanism", mechanism),
            ("plugin.generation", "1"),
            ("plugin.version", "1.0.0"),
        ] {
            assert_eq!(client.attributes.get(name).map(String::as_str), Some(value), "{plugin}: {client:#?}");
        }
        assert_eq!(client.attributes.get("error.type"), None, "{plugin}");
        if let Some(server) = server {
            assert!(server.name == "greeter.greet" || server.name == "demo.greeter.v1.Greeter/Greet", "{server:#?}");
            assert_eq!((&*server.service, server.failed), (&*format!("{plugin} 1.0.0"), false), "{server:#?}");
            for name in ["rpc.system.name", "plugin.name", "plugin.mechanism", "plugin.generation", "plugin.version"] {
                assert_eq!(server.attributes.get(name), client.attributes.get(name), "{plugin}: {name}");
            }
        }
        // Its own error is one in both.
        assert_eq!(call(&place, 2 * number + 1, plugin, "greet", r#"{"name":""}"#), "200 error", "{plugin}");
        let (client, server) = tree(&collector, 2 * number + 1, has_own);
        for span in [Some(client), server].into_iter().flatten() {
            assert!(span.failed, "{span:#?}");
            assert_eq!(span.attributes.get("error.type").map(String::as_str), Some("error"), "{span:#?}");
        }
    }
    drop(service);
}

#[test]
fn how_a_call_failed_is_the_type_of_its_error() {
    let collector = Collector::http();
    let place = Place::new();
    place.fixture("misbehave-process");
    let variables = [variables(&collector.endpoint(), "http/protobuf"), vec![("OTEL_SERVICE_NAME", "shop".to_owned())]];
    let service = Service::start_in(&place, &variables.concat());
    let own = |number: usize| collector.of(&trace(number)).into_iter().find(|span| span.kind == SpanKind::Server);
    for (number, (function, arguments, status)) in [
        ("panic", r#"{"message":"on demand"}"#, "panicked"),
        ("hang", r#"{"ms":60000}"#, "timeout"),
        ("echo", r#"{"text":7}"#, "refused"),
        ("sing", "{}", "refused"),
        ("abort", "{}", "crashed"),
    ]
    .into_iter()
    .enumerate()
    {
        call(&place, number, "misbehave-process", function, arguments);
        until("the span has come", || !collector.of(&trace(number)).is_empty());
        let client = client_of(&collector.of(&trace(number)));
        assert_eq!((&*client.service, client.failed), ("shop", true), "{client:#?}");
        assert_eq!(client.attributes["error.type"], status, "{client:#?}");
    }
    until("what panicked has a span", || own(0).is_some());
    let panicked = own(0).expect("it is there");
    assert_eq!((panicked.failed, &*panicked.attributes["error.type"]), (true, "panicked"));
    // What there is beside calls: it was loaded, and started again after it died.
    let steps = |name: &str| collector.spans().into_iter().find(|span| span.name == name);
    until("it is started again", || steps("plugin.restart").is_some());
    for parent in ["plugin.load", "plugin.restart"] {
        let parent = steps(parent).expect("a span");
        let start = collector.spans().into_iter().find(|span| span.parent == parent.id).expect("a start within it");
        assert_eq!((&*start.name, start.kind, &*start.trace), ("plugin.start", SpanKind::Internal, &*parent.trace));
        assert_eq!(start.attributes["plugin.name"], "misbehave-process");
    }
    drop(service);
}

#[test]
fn what_the_caller_does_not_record_is_not_recorded() {
    let collector = Collector::http();
    let place = Place::new();
    place.link("english-process");
    let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_always_off".to_owned());
    let mut service =
        Service::start_in(&place, &[variables(&collector.endpoint(), "http/protobuf"), vec![sampler]].concat());
    let run = service.run(&["call", "english-process", "greet", r#"{"name":"Ada"}"#]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // One that is recorded, by its caller, comes alone.
    assert_eq!(call(&place, 1, "english-process", "greet", r#"{"name":"Ada"}"#), "200 ok");
    tree(&collector, 1, true);
    service.signal("TERM");
    assert_eq!(service.wait(), 0);
    assert_eq!(collector.spans().len(), 2, "{:#?}", collector.spans());
}

#[test]
fn the_last_spans_are_exported_at_the_end() {
    let collector = Collector::http();
    let place = Place::new();
    place.link("english-process");
    let mut variables = variables(&collector.endpoint(), "http/protobuf");
    variables[2].1 = "600000".to_owned();
    let mut service = Service::start_in(&place, &variables);
    assert_eq!(call(&place, 1, "english-process", "greet", r#"{"name":"Ada"}"#), "200 ok");
    service.signal("TERM");
    assert_eq!(service.wait(), 0);
    tree(&collector, 1, true);
}

/// What `/metrics` says.
fn page(place: &Place) -> String {
    http::unix(&place.path("host.sock"), "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").body
}
