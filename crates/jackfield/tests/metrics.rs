//! What is measured of plugins: every outcome under its status, labels that stay bounded, numbers that only grow.

#![cfg(all(feature = "metrics", feature = "native", feature = "process", target_os = "linux"))]

mod suite;

use std::collections::BTreeMap;
use std::time::Duration;

use jackfield::{Client, Host, Status};
use serde_json::json;
use suite::processes::kill;
use suite::{Fixture, Mechanism, Plugins, eventually, in_time, misbehave};

#[jackfield::interface("test:odd/odd@1.0.0", crate = jackfield)]
trait Odd {
    fn own_error(&self) -> Result<String, Vec<u8>>;
    fn anything(&self) -> String;
}

/// The series of a page, by name and labels.
fn series(host: &Host) -> BTreeMap<String, f64> {
    let text = host.metrics().text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let number = |line: &str| {
        let line = line.split(" # ").next().unwrap_or_default();
        let (name, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), number.parse().unwrap_or_else(|_| panic!("{line}")))
    };
    lines.map(number).collect()
}

#[track_caller]
fn value(host: &Host, name: &str) -> f64 {
    let all = series(host);
    let near = || all.keys().filter(|key| key.split('{').next() == name.split('{').next()).collect::<Vec<_>>();
    *all.get(name).unwrap_or_else(|| panic!("no `{name}` among {:?}", near()))
}

fn calls(method: &str, status: &str) -> String {
    format!("plugin_calls_total{{plugin=\"misbehave\",method=\"{method}\",status=\"{status}\"}}")
}

fn rascal() -> Fixture {
    Fixture::new(Mechanism::Process, "misbehave").limit("call_timeout", "\"2s\"").limit("answer_bytes", "\"64KiB\"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_is_counted_under_its_status() {
    let plugins = Plugins::with(rascal().manifest("lifecycle = { restart = \"never\" }"));
    plugins.add(Fixture::misbehaving("answers-oddly"));
    let host = plugins.host().await;
    let rascal = misbehave(&host, "misbehave");
    let plugin = Client::plugin(&rascal).clone();

    in_time(rascal.echo("x".into())).await.expect("an answer");
    // `timeout` and `limit`, and the limits by name.
    in_time(rascal.hang(60_000)).await.expect_err("too late");
    in_time(rascal.answer_of(1 << 20)).await.expect_err("too large");
    in_time(rascal.panic("on demand".into())).await.expect_err("a panic");
    in_time(plugin.call("echo", json!({"text": 7}))).await.expect_err("no string");
    in_time(plugin.call("sing", json!({}))).await.expect_err("no such function");
    drop(tokio::time::timeout(Duration::from_millis(20), rascal.wait("never".into(), vec![])).await);
    in_time(rascal.abort()).await.expect_err("a death");
    let odd: Client<dyn Odd> = host.get("answers-oddly").expect("a plugin");
    in_time(odd.own_error()).await.expect_err("its own error");
    in_time(odd.anything()).await.expect_err("no string");
    eventually("it is down", || plugin.info().state.as_str() == "failed");
    in_time(rascal.echo("x".into())).await.expect_err("it is down");

    let all = series(&host);
    for (method, status) in [
        ("misbehave.echo", Status::Ok),
        ("misbehave.hang", Status::Timeout),
        ("misbehave.answer-of", Status::Limit),
        ("misbehave.panic", Status::Panicked),
        ("misbehave.echo", Status::Refused),
        ("_OTHER", Status::Refused),
        ("misbehave.wait", Status::Cancelled),
        ("misbehave.abort", Status::Crashed),
        ("misbehave.echo", Status::Unavailable),
    ] {
        assert_eq!(all.get(&calls(method, status.as_str())), Some(&1.0), "{method} {status}: {all:#?}");
    }
    for (method, status) in [("odd.own-error", Status::Error), ("odd.anything", Status::Protocol)] {
        let name = calls(method, status.as_str()).replace("misbehave", "answers-oddly");
        assert_eq!(all.get(&name), Some(&1.0), "{name}: {all:#?}");
    }
    let count = |name: &str| all[&format!("{name}{{plugin=\"misbehave\"}}")];
    assert_eq!(all["plugin_limit_hits_total{plugin=\"misbehave\",limit=\"call_timeout\"}"], 1.0);
    assert_eq!(all["plugin_limit_hits_total{plugin=\"misbehave\",limit=\"answer_bytes\"}"], 1.0);
    assert_eq!(count("plugin_up"), 0.0);
    eventually("its death is reported", || {
        series(&host).get("plugin_crashes_total{plugin=\"misbehave\",signal=\"SIGABRT\"}") == Some(&1.0)
    });
    // The plugin was asked five times of which it answered, or was waited for, and each took its time.
    let took = |method: &str| {
        all[&format!("plugin_call_duration_seconds_sum{{plugin=\"misbehave\",method=\"misbehave.{method}\"}}")]
    };
    assert!(took("hang") >= 1.9 && took("echo") > 0.0 && took("echo") < 1.9, "{} {}", took("hang"), took("echo"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_asks_for_what_is_not_there_makes_no_series() {
    let host = Plugins::with(Fixture::new(Mechanism::Native, "misbehave")).host().await;
    let plugin = host.plugin("misbehave").expect("a plugin");
    let before = series(&host).len();
    for number in 0..100_000 {
        plugin.call(&format!("bomb-{number}"), json!({})).await.expect_err("no such function");
    }
    // Of `_OTHER`: its calls that went well, those that did not, and its times.
    assert_eq!(series(&host).len() - before, 2 + 25);
    assert_eq!(value(&host, &calls("_OTHER", "refused")), 100_000.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_never_fall_over_restarts_and_reloads_and_are_gone_with_their_plugin() {
    let plugins = Plugins::with(rascal().manifest("lifecycle = { backoff = \"1ms\" }"));
    let host = plugins.host().await;
    let rascal = misbehave(&host, "misbehave");
    let mut before = series(&host);
    let mut grown = |host: &Host, what: &str| {
        let now = series(host);
        for (name, old) in &before {
            let counts = ["_total{", "_bucket{", "_count{", "_sum{"].iter().any(|part| name.contains(part));
            assert!(!counts || now.get(name).is_some_and(|new| new >= old), "{name} fell from {old}: {what}");
        }
        before = now;
    };
    for round in 0..3 {
        in_time(rascal.echo("x".into())).await.expect("an answer");
        grown(&host, "a call");
        in_time(host.reload("misbehave")).await.expect("a reload");
        grown(&host, "a reload");
        kill(Client::plugin(&rascal).info().process.expect("a process"));
        eventually("it is started again", || {
            let restarts = series(&host).get("plugin_restarts_total{plugin=\"misbehave\",reason=\"signal\"}").copied();
            restarts == Some(f64::from(round + 1))
        });
        grown(&host, "a restart");
    }
    assert_eq!(value(&host, &calls("misbehave.echo", "ok")), 3.0);
    assert_eq!(value(&host, "plugin_reloads_total{plugin=\"misbehave\",result=\"ok\"}"), 3.0);
    assert_eq!(value(&host, "plugin_crashes_total{plugin=\"misbehave\",signal=\"SIGKILL\"}"), 3.0);
    assert!(value(&host, "plugin_process_resident_memory_bytes{plugin=\"misbehave\"}") > 100_000.0);

    std::fs::remove_dir_all(plugins.path().join("misbehave")).expect("its files are gone");
    in_time(host.rescan()).await;
    let left: Vec<_> = series(&host).into_keys().filter(|name| name.contains("misbehave")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_and_noise_are_counted_and_calls_in_flight_are_seen() {
    let host = Plugins::with(rascal()).host().await;
    let rascal = misbehave(&host, "misbehave");
    in_time(rascal.complain("[WARN] look".into())).await.expect("an answer");
    in_time(rascal.log(fixtures_api::misbehave::Level::Error, "oh".into())).await.expect("an answer");
    let lines = |level: &str| format!("plugin_log_lines_total{{plugin=\"misbehave\",level=\"{level}\"}}");
    eventually("its lines are counted", || {
        let all = series(&host);
        all[&lines("warn")] == 1.0 && all[&lines("error")] == 1.0
    });
    let waits = misbehave(&host, "misbehave");
    let waits = tokio::spawn(async move { waits.wait("here".into(), vec![]).await });
    eventually("a call is in flight", || value(&host, "plugin_calls_in_flight{plugin=\"misbehave\"}") == 1.0);
    in_time(async { while rascal.waiting().await != Ok(1) {} }).await;
    in_time(rascal.release("here".into())).await.expect("an answer");
    in_time(waits).await.expect("no panic").expect("an answer");
    eventually("none is in flight", || value(&host, "plugin_calls_in_flight{plugin=\"misbehave\"}") == 0.0);
    let info = series(&host).into_keys().find(|name| name.starts_with("plugin_info")).expect("an info");
    assert!(info.contains("mechanism=\"process\"") && info.contains("generation=\"1\""), "{info}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_loaded_is_counted_by_the_step_that_failed() {
    let plugins = Plugins::with(Fixture::misbehaving("exit-3"));
    let host = plugins.host().await;
    assert_eq!(value(&host, "plugin_load_failures_total{reason=\"start\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_before_it_is_started_is_counted_once_for_each_reason() {
    let plugins = Plugins::with(rascal());
    let bad = plugins.path().join("bad");
    std::fs::create_dir(&bad).expect("a directory");
    let manifest = |text: &str| std::fs::write(bad.join("plugin.toml"), text).expect("written");
    manifest("nonsense");
    let host = plugins.host().await;
    let failures = |step: &str| value(&host, &format!("plugin_load_failures_total{{reason=\"{step}\"}}"));
    assert_eq!(failures("find"), 1.0);
    // The same is seen again.
    in_time(host.rescan()).await;
    assert_eq!(failures("find"), 1.0);
    manifest("name = 7");
    in_time(host.rescan()).await;
    assert_eq!(failures("find"), 2.0);
    in_time(host.reload("bad")).await.expect_err("still no plugin");
    assert_eq!(failures("find"), 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_started_again_is_counted_by_what_it_died_of() {
    let life = "lifecycle = { backoff = \"1ms\" }";
    let plugins = Plugins::with(rascal().manifest(life));
    plugins.add(Fixture::new(Mechanism::Process, "misbehave").named("exits").manifest(life));
    plugins.add(
        Fixture::new(Mechanism::Process, "misbehave")
            .named("stuck")
            .limit("call_timeout", "\"200ms\"")
            .manifest(life)
            .manifest("reload = { health_timeout = \"200ms\" }"),
    );
    let host = plugins.host().await;
    let restarted = |plugin: &str, reason: &str| {
        let name = format!("plugin_restarts_total{{plugin=\"{plugin}\",reason=\"{reason}\"}}");
        eventually(&name, || series(&host).get(&name) == Some(&1.0));
    };
    for reason in ["hang", "limit", "signal", "exit", "unknown"] {
        let name = format!("plugin_restarts_total{{plugin=\"exits\",reason=\"{reason}\"}}");
        assert_eq!(series(&host).get(&name), Some(&0.0), "there before the first, so that it is seen as growth");
    }
    in_time(misbehave(&host, "misbehave").abort()).await.expect_err("a death");
    restarted("misbehave", "signal");
    in_time(misbehave(&host, "exits").exit(7)).await.expect_err("a death");
    restarted("exits", "exit");
    // Stopped, so that it answers neither the call nor whoever asks whether it lives.
    let stuck = misbehave(&host, "stuck");
    let process = Client::plugin(&stuck).info().process.expect("a process");
    suite::processes::signal(process, suite::processes::Signal::STOP);
    in_time(stuck.echo("x".into())).await.expect_err("too late");
    restarted("stuck", "hang");
}

#[cfg(feature = "otel")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_read_ends_its_span_as_it_is_counted() {
    use opentelemetry::trace::{SpanKind, Status as SpanStatus};

    let kept = suite::kept::Kept::default();
    let spans = kept.spans();
    let plugins = Plugins::with(Fixture::misbehaving("answers-oddly"));
    let host = in_time(plugins.builder().spans(spans.clone()).build()).await.expect("a host");
    let odd: Client<dyn Odd> = host.get("answers-oddly").expect("a plugin");
    in_time(odd.own_error()).await.expect_err("its own error");
    in_time(odd.anything()).await.expect_err("no string");
    in_time(spans.flush()).await;
    let all = kept.0.lock().expect("unharmed");
    for (method, status) in [("odd.own-error", "error"), ("odd.anything", "protocol")] {
        let of_it: Vec<_> =
            all.iter().filter(|span| span.span_kind == SpanKind::Client && span.name == method).collect();
        let [span] = &of_it[..] else { panic!("{of_it:?}") };
        let attribute = |name: &str| {
            let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
            found.map(|attribute| attribute.value.to_string())
        };
        assert_eq!(attribute("error.type").as_deref(), Some(status), "{span:?}");
        assert_eq!(attribute("rpc.response.status_code").as_deref(), Some(status), "{span:?}");
        assert!(matches!(span.status, SpanStatus::Error { .. }), "{span:?}");
        let name = calls(method, status).replace("misbehave", "answers-oddly");
        assert_eq!(value(&host, &name), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_measure_still_counts() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Native, "misbehave"));
    let host = in_time(plugins.builder().metrics(false).build()).await.expect("a host");
    let rascal = misbehave(&host, "misbehave");
    rascal.echo("x".into()).await.expect("an answer");
    assert_eq!(value(&host, &calls("misbehave.echo", "ok")), 1.0);
    let took = "plugin_call_duration_seconds_count{plugin=\"misbehave\",method=\"misbehave.echo\"}";
    assert_eq!(value(&host, took), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_of_prometheus_client_has_the_same_series() {
    let host = Plugins::with(Fixture::new(Mechanism::Native, "misbehave")).host().await;
    misbehave(&host, "misbehave").echo("x".into()).await.expect("an answer");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &host.metrics().registry()).expect("to memory");
    let names = |text: &str| {
        let series = text.lines().filter(|line| !line.starts_with('#') && !line.contains("le=\""));
        series
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let ours: std::collections::BTreeSet<_> =
        names(&host.metrics().text()).into_iter().map(|name| name.replace("{}", "")).collect();
    assert_eq!(names(&text), ours);
}

/// Answers each call with what it was told of the trace.
const ECHO_TRACE: &str = r#"#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    call = json.loads(line)
    if call["method"] == "jackfield/hello":
        answer = {"protocol": "1.0", "plugin": {"name": "p"}, "interfaces": ["test:trace/trace@1.0.0"]}
    elif call["method"].startswith("jackfield/"):
        continue
    else:
        answer = call["_meta"].get("traceparent", "none")
    print(json.dumps({"id": call["id"], "result": answer}), flush=True)
"#;

#[jackfield::interface("test:trace/trace@1.0.0", crate = jackfield)]
trait Trace {
    fn trace(&self) -> String;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_carries_the_span_of_its_caller_and_its_time_shows_the_trace() {
    use std::os::unix::fs::PermissionsExt as _;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let context: jackfield::TraceContext = format!("00-{TRACE}-00f067aa0ba902b7-01").parse().expect("a context");
    let plugins = Plugins::new();
    plugins.add_file("traced", ECHO_TRACE.as_bytes());
    let file = plugins.path().join("traced");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let host = in_time(plugins.builder().build()).await.expect("a host");
    let plugin = host.plugin("traced").unwrap_or_else(|_| panic!("{:?}", host.refused()));
    let client: Client<dyn Trace> = host.get("traced").expect("a client");

    assert_eq!(in_time(plugin.call("trace", json!({}))).await, Ok(json!("none")));
    assert!(!host.metrics().text().contains("trace_id"));
    let seen = in_time(jackfield::traced(context, plugin.call("trace", json!({})))).await;
    assert_eq!(seen, Ok(json!(context.to_string())));
    assert_eq!(in_time(jackfield::traced(context, client.trace())).await, Ok(context.to_string()));
    let unsampled = jackfield::TraceContext { sampled: false, ..context };
    assert_eq!(in_time(jackfield::traced(unsampled, client.trace())).await, Ok(unsampled.to_string()));

    let text = host.metrics().text();
    let exemplars = text.lines().filter(|line| line.contains(&format!(" # {{trace_id=\"{TRACE}\"}} ")));
    let exemplars: Vec<_> = exemplars.collect();
    assert!(
        !exemplars.is_empty() && exemplars.iter().all(|line| line.contains("method=\"trace.trace\"")),
        "{exemplars:?}"
    );
}

/// A line of a flood, and how many of them are waited for.
const FLOOD_LINE_BYTES: usize = 1024;
const FLOOD_LINES: f64 = 500_000.0;

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages") * 4096
}

/// Run by itself, in a host whose memory no other test takes.
#[test]
fn a_flood_of_log_lines_is_counted_and_costs_neither_memory_nor_time() {
    let name = "a_flood_of_log_lines_is_counted_and_costs_neither_memory_nor_time";
    if std::env::var_os(ALONE).is_none() {
        let output = suite::again(name).env(ALONE, "1").output().expect("a host");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said.lines().filter(|line| line.starts_with("flood:")).for_each(|line| println!("{line}"));
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(flood());
}

const ALONE: &str = "JACKFIELD_TEST_ALONE";

/// The fixture, with another program beside it that writes to its stderr as fast as anybody reads.
fn flooding(plugins: &Plugins) {
    use std::os::unix::fs::PermissionsExt as _;

    let program = suite::fixtures::built(Mechanism::Process, "misbehave");
    let program = jackfield::Manifest::read(&program.join("plugin.toml")).expect("the fixture's manifest").entry;
    let dir = plugins.path().join("flood");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::write(dir.join("plugin.toml"), "name = 'flood'\nmechanism = 'process'\nentry = 'flood.sh'\n")
        .expect("written");
    let line = "x".repeat(FLOOD_LINE_BYTES - 1);
    let script = format!("#!/bin/sh\nyes {line} >&2 &\nexec '{}'\n", program.display());
    std::fs::write(dir.join("flood.sh"), script).expect("written");
    std::fs::set_permissions(dir.join("flood.sh"), std::fs::Permissions::from_mode(0o755)).expect("set");
}

async fn flood() {
    let plugins = Plugins::with(rascal().named("calm"));
    flooding(&plugins);
    let host = plugins.host().await;
    let [flooding, calm] = ["flood", "calm"].map(|name| misbehave(&host, name));
    let sum = |name: &str| {
        let all = series(&host);
        let ours = all.iter().filter(|(key, _)| key.starts_with(name) && key.contains("\"flood\""));
        ours.map(|(_, number)| *number).sum::<f64>()
    };
    let lines = || sum("plugin_log_lines_total{");
    // What the first lines need, the others find.
    eventually("the flood comes", || lines() > 10_000.0);
    let (memory, begun, first) = (resident(), std::time::Instant::now(), lines());
    let (mut slowest, mut calls) = (Duration::ZERO, 0);
    while lines() - first < FLOOD_LINES {
        for plugin in [&flooding, &calm] {
            let called = std::time::Instant::now();
            in_time(plugin.echo("x".into())).await.expect("an answer");
            slowest = slowest.max(called.elapsed());
            calls += 1;
        }
    }
    let (took, all) = (begun.elapsed(), lines() - first);
    let grown = resident().saturating_sub(memory);
    let dropped = sum("plugin_log_lines_dropped_total{");
    println!(
        "\nflood: {:.0} MB/s for {took:.1?}, {dropped} of {all} lines dropped, {grown} bytes more resident, the slowest of {calls} calls {slowest:.1?}",
        all * FLOOD_LINE_BYTES as f64 / 1e6 / took.as_secs_f64()
    );
    assert!(dropped > all / 2.0, "{dropped} of {all}");
    assert!(grown < 16 << 20, "{grown} bytes");
    assert!(!Client::plugin(&flooding).log_tail(5).is_empty(), "what came last is there for a report");
    host.stop().await;
}

/// Answers every request with the page, until it is dropped with the test.
fn serve(metrics: jackfield::Metrics) -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut asked, mut piece) = (Vec::new(), [0; 4096]);
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(read @ 1..) => asked.extend_from_slice(&piece[..read]),
                    _ => break,
                }
            }
            let (text, kind) = (metrics.text(), jackfield::Metrics::CONTENT_TYPE);
            let head = "HTTP/1.1 200 OK\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        }
    });
    address
}

/// What Prometheus answers to a query that gives one number. None before it has one.
fn query(address: &str, query: &str) -> Option<f64> {
    use std::io::{Read as _, Write as _};

    let mut stream = std::net::TcpStream::connect(address).ok()?;
    let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    write!(stream, "GET /api/v1/query?query={query} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let answer: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1)?).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

/// Ends its program.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_sees_what_the_callers_counted() {
    let Some(programs) = std::env::var_os("JACKFIELD_PROMETHEUS").map(std::path::PathBuf::from) else {
        eprintln!("without Prometheus; `cargo xtask test` fetches one");
        return;
    };
    let host = Plugins::with(rascal()).host().await;
    let rascal = misbehave(&host, "misbehave");
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: j, static_configs: [{{ targets: ['{}'] }}] }}]\n",
        serve(host.metrics())
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).expect("a file");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let address = format!("127.0.0.1:{port}");
    let mut prometheus = std::process::Command::new(programs.join("prometheus"));
    prometheus.args(["--config.file", "prometheus.yml", "--storage.tsdb.path", "data", "--log.level", "error"]);
    prometheus
        .arg("--web.listen-address")
        .arg(&address)
        .arg("--enable-feature=exemplar-storage")
        .current_dir(dir.path());
    let _prometheus = Ended(prometheus.spawn().expect("it runs"));

    let context: jackfield::TraceContext =
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("one");
    for _ in 0..500 {
        in_time(jackfield::traced(context, rascal.echo("x".into()))).await.expect("an answer");
    }
    in_time(rascal.panic("on demand".into())).await.expect_err("a panic");
    // A page with a line that is wrong, an exemplar among them, would be refused as a whole.
    let sees = |wanted: &str, number: f64| {
        eventually(wanted, || query(&address, wanted) == Some(number));
    };
    sees("sum(plugin_calls_total{status=\"ok\"})", 500.0);
    sees("sum(plugin_calls_total{status=\"panicked\"})", 1.0);
    sees("sum(plugin_call_duration_seconds_count)", 501.0);
    sees("sum(plugin_call_duration_seconds_bucket{le=\"+Inf\"})", 501.0);
    sees("up", 1.0);
    let slowest = query(&address, "histogram_quantile(0.99, sum by (le) (plugin_call_duration_seconds_bucket))");
    assert!(slowest.is_some_and(|slowest| slowest > 1e-6 && slowest < 2.0), "{slowest:?}");
}
