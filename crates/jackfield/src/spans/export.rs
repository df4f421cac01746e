//! Spans on their way out: a thread of its own collects them for a moment and hands them to an exporter.
//!
//! The host's spans go out under the host's resource, those of a plugin under one that names the plugin. A collector
//! that is gone or hangs costs the spans that come meanwhile, and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jackfield_protocol::Status;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status as SpanStatus, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, Key, KeyValue, Value as Attribute};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Inner, Item, Message, Sampling, Spans, What};
use crate::metrics::{Lost, OTHER};

/// Exporters that are kept, one for each plugin and version of it that sent spans.
const EXPORTERS_MAX: usize = 1024;

/// What spans are recorded, and how they are exported.
#[derive(Clone, Debug)]
#[must_use]
pub struct SpansBuilder {
    sampling: Sampling,
    resource: Resource,
    queue_spans_max: usize,
    batch_spans_max: usize,
    batch_delay: Duration,
    export_timeout: Duration,
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpansError {
    /// There is no exporter.
    #[error("cannot make an exporter of spans")]
    Exporter {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no thread for it.
    #[error("cannot start the thread that exports spans")]
    Thread {
        /// Why.
        source: std::io::Error,
    },
}

impl Spans {
    /// Begins with the defaults of OpenTelemetry's batch processor.
    pub fn builder() -> SpansBuilder {
        SpansBuilder {
            sampling: Sampling::default(),
            resource: Resource::builder().build(),
            queue_spans_max: 2048,
            batch_spans_max: 512,
            batch_delay: Duration::from_secs(5),
            export_timeout: Duration::from_secs(30),
        }
    }
}

impl SpansBuilder {
    /// Which calls are recorded. Default: what the caller records, and all that have no caller.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// What the host is. Spans of plugins have the same, with the plugin's name and version as those of the service.
    /// Default: that of OpenTelemetry's SDK, which reads `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.
    pub fn resource(mut self, resource: Resource) -> Self {
        self.resource = resource;
        self
    }

    /// Most spans that wait to be exported; one more is dropped and counted. Default: 2048. At least 1.
    pub fn queue_spans_max(mut self, spans: usize) -> Self {
        self.queue_spans_max = spans.max(1);
        self
    }

    /// Most spans that are exported at once. Default: 512. At least 1.
    pub fn batch_spans_max(mut self, spans: usize) -> Self {
        self.batch_spans_max = spans.max(1);
        self
    }

    /// Time for which spans wait for others. Default: 5 s.
    pub fn batch_delay(mut self, delay: Duration) -> Self {
        self.batch_delay = delay;
        self
    }

    /// Time for one export, after which it is given up and its spans are dropped. Default: 30 s.
    pub fn export_timeout(mut self, timeout: Duration) -> Self {
        self.export_timeout = timeout;
        self
    }

    /// Exports by exporters that `make` makes: one for the host, and one for each plugin that sends spans, whose
    /// resource is set. It is called within the runtime that they are going to be used in, a tokio runtime of their own.
    pub fn export<E, X>(self, make: impl FnMut() -> Result<E, X> + Send + 'static) -> Result<Spans, SpansError>
    where
        E: SpanExporter + 'static,
        X: Into<Box<dyn Error + Send + Sync>>,
    {
        let (queue, messages) = mpsc::channel(self.queue_spans_max);
        let (made, ready) = std::sync::mpsc::channel();
        let sampling = self.sampling;
        let thread = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(source) => return drop(made.send(Err(SpansError::Thread { source }))),
            };
            runtime.block_on(async {
                match Exporters::new(make, &self) {
                    Ok(exporters) => {
                        let _ = made.send(Ok(()));
                        work(messages, exporters, &self).await;
                    }
                    Err(source) => _ = made.send(Err(SpansError::Exporter { source })),
                }
            });
        };
        let thread = std::thread::Builder::new().name("jackfield-spans".to_owned()).spawn(thread);
        thread.map_err(|source| SpansError::Thread { source })?;
        // Gone without a word it is only if an exporter panics when it is made.
        ready.recv().unwrap_or_else(|error| Err(SpansError::Exporter { source: error.into() }))?;
        Ok(Spans(Arc::new(Inner { sampling, queue })))
    }
}

/// Collects and exports, until nobody can send any more.
async fn work<E: SpanExporter>(
    mut messages: mpsc::Receiver<Message>,
    mut exporters: Exporters<E>,
    spec: &SpansBuilder,
) {
    let (mut batch, mut flushed): (_, Vec<oneshot::Sender<()>>) = (Vec::new(), Vec::new());
    while let Some(first) = messages.recv().await {
        let until = Instant::now() + spec.batch_delay;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Span(item) => batch.push(*item),
                Message::Flush(over) => flushed.push(over),
            }
            if batch.len() >= spec.batch_spans_max || !flushed.is_empty() {
                break;
            }
            next = timeout_at(until, messages.recv()).await.ok().flatten();
        }
        exporters.export(std::mem::take(&mut batch)).await;
        flushed.drain(..).for_each(|over| _ = over.send(()));
    }
}

/// Whose resource spans have: a plugin's, by name and version, or the host's.
type Whose = Option<(String, String)>;

type Make<E> = Box<dyn FnMut() -> Result<E, Box<dyn Error + Send + Sync>> + Send>;

struct Exporters<E> {
    make: Make<E>,
    resource: Resource,
    made: HashMap<Whose, E>,
    timeout: Duration,
    /// The last export failed, and that was said.
    failing: bool,
}

impl<E: SpanExporter> Exporters<E> {
    /// The first one is made at once: what is wrong with it is then told to who wants it.
    fn new<X: Into<Box<dyn Error + Send + Sync>>>(
        mut make: impl FnMut() -> Result<E, X> + Send + 'static,
        spec: &SpansBuilder,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut host = make().map_err(Into::into)?;
        host.set_resource(&spec.resource);
        Ok(Self {
            make: Box::new(move || make().map_err(Into::into)),
            resource: spec.resource.clone(),
            made: HashMap::from([(None, host)]),
            timeout: spec.export_timeout,
            failing: false,
        })
    }

    async fn export(&mut self, batch: Vec<Item>) {
        let mut groups: BTreeMap<Whose, Vec<Item>> = BTreeMap::new();
        for item in batch {
            let own = matches!(item.what, What::Own { .. });
            let whose = own.then(|| (item.recorder.plugin.clone(), item.recorder.version().to_owned()));
            groups.entry(whose).or_default().push(item);
        }
        let mut failed = None;
        for (whose, items) in groups {
            // A collector that did not take the one will not take the other: it is not waited for again.
            if failed.is_none() {
                failed = self.export_one(whose, &items).await.err();
            }
            if failed.is_some() {
                items.iter().for_each(|item| item.recorder.meters.lost(Lost::Export, 1));
            }
        }
        match (&failed, self.failing) {
            (Some(why), false) => {
                tracing::warn!(target: "jackfield", "spans cannot be exported, and are dropped and counted: {why}");
            }
            (None, true) => tracing::info!(target: "jackfield", "spans are exported again"),
            _ => {}
        }
        self.failing = failed.is_some();
    }

    async fn export_one(&mut self, whose: Whose, items: &[Item]) -> Result<(), String> {
        if self.made.len() >= EXPORTERS_MAX && !self.made.contains_key(&whose) {
            self.made.clear();
        }
        let exporter = match self.made.entry(whose) {
            std::collections::hash_map::Entry::Occupied(made) => made.into_mut(),
            std::collections::hash_map::Entry::Vacant(room) => {
                let mut exporter = (self.make)().map_err(|error| error.to_string())?;
                exporter.set_resource(&resource_of(room.key(), &self.resource));
                room.insert(exporter)
            }
        };
        let spans = items.iter().map(data).collect();
        match timeout(self.timeout, exporter.export(spans)).await {
            Ok(exported) => exported.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the collector did not answer within {:?}", self.timeout)),
        }
    }
}

/// What the sender of spans is.
fn resource_of(whose: &Whose, host: &Resource) -> Resource {
    let Some((plugin, version)) = whose else { return host.clone() };
    let names = ["service.name", "service.version", "service.instance.id"];
    let kept = host.iter().filter(|(key, _)| !names.contains(&key.as_str()));
    let kept = kept.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let own = [("service.name", plugin), ("service.version", version)];
    let own = own.map(|(key, value)| KeyValue::new(key, value.clone()));
    Resource::builder_empty().with_attributes(kept.chain(own)).build()
}

/// A span as OpenTelemetry has it.
fn data(item: &Item) -> SpanData {
    let recorder = &item.recorder;
    let system = match recorder.mechanism {
        "native" => "jackfield.native",
        "wasm" => "jackfield.wasm",
        "process" => "jsonrpc",
        other => other,
    };
    let rpc = |method: &str| {
        vec![KeyValue::new("rpc.system.name", system.to_owned()), KeyValue::new("rpc.method", method.to_owned())]
    };
    let (name, span_kind, mut attributes, failed) = match &item.what {
        What::Call { series, status } => {
            let mut attributes = rpc(&series.method);
            let code = if system == "grpc" { grpc_code(*status) } else { status.as_str() };
            attributes.push(KeyValue::new("rpc.response.status_code", code));
            let name = if &*series.method == OTHER { system.to_owned() } else { series.method.to_string() };
            let failed = (*status != Status::Ok).then(|| (status.as_str().to_owned(), String::new()));
            (name, SpanKind::Client, attributes, failed)
        }
        What::Step { name, failed } => {
            let failed = failed.as_ref().map(|(why, text)| ((*why).to_owned(), text.clone()));
            ((*name).to_owned(), SpanKind::Internal, Vec::new(), failed)
        }
        What::Own { name, serving, error, attributes: own } => {
            let mut attributes = if *serving { rpc(name) } else { Vec::new() };
            let ours = |key: &str| key.starts_with("rpc.") || key.starts_with("plugin.") || key == "error.type";
            let own = own.iter().filter(|(key, _)| !ours(key));
            attributes.extend(own.map(|(key, value)| KeyValue::new(Key::from(key.clone()), attribute(value))));
            let kind = if *serving { SpanKind::Server } else { SpanKind::Internal };
            (name.clone(), kind, attributes, error.clone().map(|error| (error, String::new())))
        }
    };
    attributes.push(KeyValue::new("plugin.name", recorder.plugin.clone()));
    attributes.push(KeyValue::new("plugin.mechanism", recorder.mechanism));
    if recorder.generation > 0 {
        attributes.push(KeyValue::new("plugin.generation", i64::try_from(recorder.generation).unwrap_or(i64::MAX)));
    }
    if !recorder.version().is_empty() {
        attributes.push(KeyValue::new("plugin.version", recorder.version().to_owned()));
    }
    let status = match failed {
        None => SpanStatus::Unset,
        Some((why, text)) => {
            attributes.push(KeyValue::new("error.type", why));
            SpanStatus::error(text)
        }
    };
    let trace_state = item.state.as_deref().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let id = |id: [u8; 8]| SpanId::from_bytes(id);
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(item.context.trace_id),
            id(item.context.span_id),
            TraceFlags::SAMPLED,
            false,
            trace_state,
        ),
        parent_span_id: item.parent.map_or(SpanId::INVALID, id),
        parent_span_is_remote: span_kind == SpanKind::Server,
        span_kind,
        name: name.into(),
        start_time: item.begun,
        end_time: item.over,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: InstrumentationScope::builder("jackfield")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn attribute(value: &Value) -> Attribute {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    }
}

/// The status of gRPC that is nearest to how a call ended. An own error is an answer.
fn grpc_code(status: Status) -> &'static str {
    match status {
        Status::Ok | Status::Error => "OK",
        Status::Timeout => "DEADLINE_EXCEEDED",
        Status::Cancelled => "CANCELLED",
        Status::Crashed | Status::Unavailable => "UNAVAILABLE",
        Status::Panicked | Status::Protocol => "INTERNAL",
        Status::Limit => "RESOURCE_EXHAUSTED",
        Status::Refused => "INVALID_ARGUMENT",
    }
}
