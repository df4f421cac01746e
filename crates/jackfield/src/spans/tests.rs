//! What is exported of what is recorded, by an exporter that keeps it, fails, or hangs.

use std::error::Error as _;
use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use expect_test::{Expect, expect};
use jackfield_protocol::span::SpanRecord;
use opentelemetry::trace::{SpanKind, Status as SpanStatus};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A collector in memory.
#[derive(Clone, Debug, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<(String, SpanData)>>>,
    refuses: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Exporter {
    collector: Collector,
    service: String,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.collector.hangs.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        if self.collector.refuses.load(Ordering::SeqCst) {
            return Err(OTelSdkError::InternalFailure("no room".to_owned()));
        }
        let mut spans = self.collector.spans.lock().expect("unharmed");
        spans.extend(batch.into_iter().map(|span| (self.service.clone(), span)));
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        let of = |name: &'static str| resource.get(&name.into()).map(|value| value.to_string()).unwrap_or_default();
        self.service = format!("{} {} {}", of("service.name"), of("service.version"), of("place"));
    }
}

impl Collector {
    fn spans(&self, builder: SpansBuilder) -> Spans {
        let collector = self.clone();
        let make = move || Ok::<_, SpansError>(Exporter { collector: collector.clone(), service: String::new() });
        let resource = Resource::builder_empty().with_attributes(
            [("service.name", "host"), ("place", "here")].map(|(key, value)| opentelemetry::KeyValue::new(key, value)),
        );
        builder.resource(resource.build()).export(make).expect("a thread")
    }

    /// What was exported, in order, with numbers in place of ids.
    fn check(&self, expected: Expect) {
        let spans = self.spans.lock().expect("unharmed");
        let mut text = String::new();
        for (service, span) in spans.iter() {
            let parent = spans.iter().position(|(_, other)| other.span_context.span_id() == span.parent_span_id);
            let kind = format!("{:?}", span.span_kind).to_lowercase();
            let parent = match parent {
                Some(parent) => format!("in {}", spans[parent].1.name),
                None if span.parent_span_id == opentelemetry::trace::SpanId::INVALID => "root".to_owned(),
                None => format!("in {}", span.parent_span_id),
            };
            text += &format!("{} {kind} {parent}, of {service}\n", span.name);
            if let SpanStatus::Error { description } = &span.status {
                text += &format!("    failed {description:?}\n");
            }
            for attribute in &span.attributes {
                text += &format!("    {}={}\n", attribute.key, attribute.value);
            }
        }
        expected.assert_eq(&text);
    }
}

fn recorder(spans: &Spans, generation: u64) -> (Arc<Recorder>, Arc<Meters>) {
    let meters = Arc::new(Meters::default());
    (Arc::new(Recorder::new(Some(spans.clone()), "resize", "process", generation, Arc::clone(&meters))), meters)
}

fn lost(meters: &Meters) -> Vec<u64> {
    meters.spans_lost().map(|(_, spans)| spans).collect()
}

async fn flush(spans: &Spans) {
    tokio::time::timeout(PATIENCE, spans.flush()).await.expect("exported in time");
}

const CALLER: TraceContext = TraceContext { trace_id: [7; 16], span_id: [3; 8], sampled: true };

#[tokio::test]
async fn a_call_and_the_plugins_side_of_it_are_one_tree() {
    let collector = Collector::default();
    let spans = collector.spans(Spans::builder());
    let (recorder, meters) = recorder(&spans, 2);
    recorder.is_version("1.2.0");
    let series = meters.method("resize.fit");
    let span = traced(CALLER, async { recorder.begin() }).await;
    span.at(&recorder);
    let call = span.context().expect("it is recorded");
    assert_eq!((call.trace_id, call.sampled), (CALLER.trace_id, true));
    let serving = TraceContext { span_id: [4; 8], ..call };
    let record = SpanRecord {
        span: serving,
        parent: call.span_id,
        name: "resize.fit".to_owned(),
        start: 1,
        end: 2,
        error: None,
        attributes: Map::from_iter([
            ("bytes".to_owned(), Value::from(7)),
            ("plugin.name".to_owned(), Value::from("other")),
        ]),
    };
    recorder.take(record.to_json().as_bytes());
    let inner = SpanRecord {
        span: TraceContext { span_id: [5; 8], ..call },
        parent: [4; 8],
        name: "decode".to_owned(),
        error: Some("corrupt".to_owned()),
        attributes: Map::new(),
        ..record.clone()
    };
    recorder.take(inner.to_json().as_bytes());
    span.end(&series, Status::Timeout);
    // Too late, and of a trace that is not the plugin's.
    recorder.take(record.to_json().as_bytes());
    recorder.take(b"{");
    let failed: Result<(), _> =
        step(&recorder, "plugin.reload", async { Err("broken") }, |why| ("canary", (*why).to_owned())).await;
    assert_eq!(failed, Err("broken"));
    flush(&spans).await;
    collector.check(expect![[r#"
        resize.fit client in 0303030303030303, of host  here
            failed ""
            rpc.system.name=jsonrpc
            rpc.method=resize.fit
            rpc.response.status_code=timeout
            plugin.name=resize
            plugin.mechanism=process
            plugin.generation=2
            plugin.version=1.2.0
            error.type=timeout
        plugin.reload internal root, of host  here
            failed "broken"
            plugin.name=resize
            plugin.mechanism=process
            plugin.generation=2
            plugin.version=1.2.0
            error.type=canary
        resize.fit server in resize.fit, of resize 1.2.0 here
            rpc.system.name=jsonrpc
            rpc.method=resize.fit
            bytes=7
            plugin.name=resize
            plugin.mechanism=process
            plugin.generation=2
            plugin.version=1.2.0
        decode internal in resize.fit, of resize 1.2.0 here
            failed ""
            plugin.name=resize
            plugin.mechanism=process
            plugin.generation=2
            plugin.version=1.2.0
            error.type=corrupt
    "#]]);
    assert_eq!(lost(&meters), [0, 0, 2]);
    let spans = collector.spans.lock().expect("unharmed");
    assert!(
        spans
            .iter()
            .filter(|(_, span)| span.span_kind == SpanKind::Client)
            .all(|(_, span)| span.start_time <= span.end_time)
    );
}

#[tokio::test]
async fn what_is_not_recorded_has_no_span_and_hands_on_what_came() {
    let collector = Collector::default();
    let spans = collector.spans(Spans::builder().sampling("parentbased_always_off".parse().expect("a sampler")));
    let (recorder, _) = recorder(&spans, 1);
    let root = recorder.begin();
    assert!(root.open.is_none() && root.context().is_none());
    let unsampled = TraceContext { sampled: false, ..CALLER };
    let handed_on = traced(unsampled, async { recorder.begin() }).await;
    assert!(handed_on.open.is_none());
    assert_eq!(handed_on.context(), Some(unsampled));
    let none = Recorder::default();
    let none = Arc::new(none);
    let untouched = traced(CALLER, async { none.begin() }).await;
    assert!(untouched.open.is_none());
    assert_eq!(untouched.context(), Some(CALLER));
    flush(&spans).await;
    collector.check(expect![[""]]);
}

#[tokio::test]
async fn the_span_that_is_current_for_opentelemetry_is_the_caller() {
    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};

    let spans = Collector::default().spans(Spans::builder());
    let (recorder, _) = recorder(&spans, 1);
    let (trace_id, span_id) = (TraceId::from_bytes([9; 16]), SpanId::from_bytes([8; 8]));
    let current = SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::default());
    let _entered = Context::current().with_remote_span_context(current).attach();
    let span = recorder.begin();
    let open = span.open.as_ref().expect("it is recorded");
    assert_eq!((open.context.trace_id, open.parent), ([9; 16], Some([8; 8])));
}

#[tokio::test]
async fn a_collector_that_refuses_or_hangs_costs_spans_and_nothing_else() {
    let collector = Collector::default();
    let builder = Spans::builder().queue_spans_max(10).batch_spans_max(5).export_timeout(Duration::from_millis(100));
    let spans = collector.spans(builder);
    let (recorder, meters) = recorder(&spans, 1);
    let series = meters.method("resize.fit");
    let record = |times: usize| (0..times).for_each(|_| recorder.begin().end(&series, Status::Ok));
    collector.refuses.store(true, Ordering::SeqCst);
    record(3);
    flush(&spans).await;
    assert_eq!(lost(&meters), [0, 3, 0]);
    collector.refuses.store(false, Ordering::SeqCst);
    collector.hangs.store(true, Ordering::SeqCst);
    record(1000);
    let dropped = lost(&meters)[0];
    // All but what waits, and what is taken before nobody takes any more.
    assert!((1..=1000 - 10).contains(&dropped), "{dropped}");
    flush(&spans).await;
    assert_eq!(lost(&meters).iter().sum::<u64>(), 1003);
    collector.hangs.store(false, Ordering::SeqCst);
    record(2);
    flush(&spans).await;
    assert_eq!(collector.spans.lock().expect("unharmed").len(), 2);
}

#[test]
fn an_exporter_that_cannot_be_made_is_an_error_at_once() {
    let made = Spans::builder().export(|| -> Result<Exporter, &str> { Err("no such address") });
    let error = made.expect_err("no exporter");
    assert_eq!(
        format!("{error}: {}", error.source().expect("a cause")),
        "cannot make an exporter of spans: no such address"
    );
}
