//! Spans: one for each call and for each step of a plugin's life, and those that plugins send home.
//!
//! Whether a span is recorded is decided before there is one, from the caller's context and, where that says nothing,
//! from the number of a new trace (`sampling.rs`): a call that is not recorded allocates nothing and locks nothing. What
//! is recorded goes into a bounded queue when it is over; a thread of its own exports it (`export.rs`), and whatever
//! finds no room or no collector is dropped and counted. No call waits for any of it.
//!
//! A plugin's spans are believed as far as they belong to a call of it that is under way (`home.rs`).
//!
//! Not here: the caller's context (`trace.rs`), OTLP (the command).

#![cfg_attr(not(feature = "otel"), allow(dead_code, unreachable_pub, reason = "without it, nobody makes a `Spans`"))]

#[cfg(feature = "otel")]
mod export;
mod home;
mod sampling;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use jackfield_protocol::call::{Answer, Unread};
use jackfield_protocol::{Status, TraceContext};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::{Lost, Meters, Series};
use crate::trace::{self, traced};

#[cfg(feature = "otel")]
pub use export::{SpansBuilder, SpansError};
pub use sampling::Sampling;
#[cfg(feature = "otel")]
pub use sampling::SamplingError;

use home::Home;

/// Records spans, and exports them. Cheap to clone; hosts may share one.
///
/// Made by [`Spans::builder`], and given to [`HostBuilder::spans`](crate::HostBuilder::spans). When the last one is
/// dropped, what waits is exported, and then its thread ends.
#[derive(Clone)]
pub struct Spans(Arc<Inner>);

struct Inner {
    sampling: Sampling,
    queue: mpsc::Sender<Message>,
}

/// What the exporting thread is sent.
enum Message {
    Span(Box<Item>),
    /// To be answered when everything before it is exported.
    Flush(oneshot::Sender<()>),
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("sampling", &self.0.sampling).finish_non_exhaustive()
    }
}

impl Spans {
    /// Waits until everything that is over by now was exported, or dropped. A collector that hangs makes that last for
    /// as long as an export may: whoever waits sets a limit of their own.
    pub async fn flush(&self) {
        let (over, flushed) = oneshot::channel();
        if self.0.queue.send(Message::Flush(over)).await.is_ok() {
            let _ = flushed.await;
        }
    }

    fn push(&self, item: Item) {
        if let Err(full) = self.0.queue.try_send(Message::Span(Box::new(item)))
            && let Message::Span(item) = full.into_inner()
        {
            item.recorder.meters.lost(Lost::Queue, 1);
        }
    }
}

/// A span that is over.
struct Item {
    recorder: Arc<Recorder>,
    context: TraceContext,
    parent: Option<[u8; 8]>,
    /// W3C `tracestate`.
    state: Option<Arc<str>>,
    begun: SystemTime,
    over: SystemTime,
    what: What,
}

/// What a span is about.
enum What {
    /// A call, as the host sees it.
    Call { series: Arc<Series>, status: Status },
    /// A step of the plugin's life, and what went wrong with it.
    Step { name: &'static str, failed: Option<(&'static str, String)> },
    /// The plugin's own.
    Own { name: String, serving: bool, error: Option<String>, attributes: Map<String, Value> },
}

/// Records the spans of one generation of a plugin, or, as number 0, those that belong to none.
pub(crate) struct Recorder {
    /// None if nothing is recorded.
    spans: Option<Spans>,
    plugin: String,
    mechanism: &'static str,
    generation: u64,
    /// As the plugin says, once it has said.
    version: OnceLock<String>,
    meters: Arc<Meters>,
    home: Home,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("spans", &self.spans).field("generation", &self.generation).finish()
    }
}

impl Default for Recorder {
    /// One that records nothing.
    fn default() -> Self {
        Self::new(None, "", "", 0, Arc::default())
    }
}

impl Recorder {
    pub(crate) fn new(
        spans: Option<Spans>,
        plugin: &str,
        mechanism: &'static str,
        generation: u64,
        meters: Arc<Meters>,
    ) -> Self {
        let (plugin, version, home) = (plugin.to_owned(), OnceLock::new(), Home::default());
        Self { spans, plugin, mechanism, generation, version, meters, home }
    }

    /// The plugin says which version it is.
    pub(crate) fn is_version(&self, version: &str) {
        let _ = self.version.set(version.to_owned());
    }

    /// Its version, once that is known.
    pub(crate) fn version(&self) -> &str {
        self.version.get().map_or("", String::as_str)
    }

    /// Whether anybody wants the plugin's spans.
    pub(crate) fn takes_spans(&self) -> bool {
        self.spans.is_some()
    }

    /// Takes a span home, as JSON. What is none, or of no call that is under way, is dropped and counted.
    pub(crate) fn take(self: &Arc<Self>, json: &[u8]) {
        let Some(spans) = &self.spans else { return };
        match self.home.admit(json) {
            Ok(own) => spans.push(own.item(Arc::clone(self))),
            Err(why) => {
                self.meters.lost(Lost::Refused, 1);
                tracing::debug!(target: "jackfield", plugin = &*self.plugin, "a span of it is dropped: {why}");
            }
        }
    }

    /// The host itself asks the plugin something, in a step of its life: until this is dropped, spans of that are taken.
    pub(crate) fn ask(self: &Arc<Self>, context: Option<TraceContext>) -> Option<Asked> {
        let context = context.filter(|context| context.sampled && self.takes_spans())?;
        self.home.enter(&context, SystemTime::now());
        Some(Asked { recorder: Arc::clone(self), context })
    }

    /// A call, or a step, begins.
    #[inline]
    pub(crate) fn begin(self: &Arc<Self>) -> Span {
        match &self.spans {
            // Most hosts end here.
            None => Span { context: trace::current(), open: None },
            Some(spans) => self.decide(spans),
        }
    }

    /// Looks first, and makes something only of what is recorded.
    fn decide(self: &Arc<Self>, spans: &Spans) -> Span {
        let parent = trace::current().or_else(surrounding);
        match spans.0.sampling.decide(parent) {
            Err(context) => Span { context, open: None },
            Ok(trace_id) => self.open(trace_id, parent),
        }
    }

    #[cold]
    fn open(self: &Arc<Self>, trace_id: [u8; 16], parent: Option<TraceContext>) -> Span {
        let context = TraceContext { trace_id, span_id: sampling::span_id(), sampled: true };
        let open = Open {
            context,
            parent: parent.map(|parent| parent.span_id),
            state: trace::state(),
            begun: SystemTime::now(),
            place: Mutex::new(Arc::clone(self)),
        };
        Span { context: Some(context), open: Some(Arc::new(open)) }
    }
}

/// See [`Recorder::ask`].
pub(crate) struct Asked {
    recorder: Arc<Recorder>,
    context: TraceContext,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.recorder.home.leave(&self.context);
    }
}

/// The span that is current for OpenTelemetry, if the application records any. One of `tracing`'s is that, too, with
/// tracing-opentelemetry.
#[cfg(feature = "otel")]
fn surrounding() -> Option<TraceContext> {
    use opentelemetry::trace::TraceContextExt as _;

    opentelemetry::Context::map_current(|current| {
        let span = current.has_active_span().then(|| current.span())?;
        let span = span.span_context();
        span.is_valid().then(|| TraceContext {
            trace_id: span.trace_id().to_bytes(),
            span_id: span.span_id().to_bytes(),
            sampled: span.is_sampled(),
        })
    })
}

#[cfg(not(feature = "otel"))]
fn surrounding() -> Option<TraceContext> {
    None
}

/// The span of a call that is under way, or that there is none.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    context: Option<TraceContext>,
    open: Option<Arc<Open>>,
}

#[derive(Debug)]
struct Open {
    context: TraceContext,
    parent: Option<[u8; 8]>,
    state: Option<Arc<str>>,
    begun: SystemTime,
    /// Of the generation that makes the call.
    place: Mutex<Arc<Recorder>>,
}

impl Span {
    /// What the call carries: this span, or what its caller came with.
    #[inline]
    pub(crate) fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// The same, lent: most calls carry none, and then nothing is copied.
    #[inline]
    pub(crate) fn carried(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// It goes to this generation.
    #[inline]
    pub(crate) fn at(&self, recorder: &Arc<Recorder>) {
        if let Some(open) = &self.open {
            open.at(recorder);
        }
    }

    /// The call is over.
    #[inline]
    pub(crate) fn end(&self, series: &Arc<Series>, status: Status) {
        if let Some(open) = &self.open {
            open.end(What::Call { series: Arc::clone(series), status });
        }
    }

    /// The call is answered, and over when that was read: then it is known how it ended.
    #[inline]
    pub(crate) fn end_when_read(&self, series: &Arc<Series>, answer: &mut Answer) {
        if let Some(open) = &self.open {
            Open::end_when_read(open, series, answer);
        }
    }

    fn end_step(&self, name: &'static str, failed: Option<(&'static str, String)>) {
        if let Some(open) = &self.open {
            open.end(What::Step { name, failed });
        }
    }
}

impl Open {
    #[cold]
    fn at(&self, recorder: &Arc<Recorder>) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.home.leave(&self.context);
        recorder.home.enter(&self.context, self.begun);
        *place = Arc::clone(recorder);
    }

    #[cold]
    fn end_when_read(this: &Arc<Self>, series: &Arc<Series>, answer: &mut Answer) {
        let status = if answer.ok { Status::Ok } else { Status::Error };
        answer.unread = Some(Box::new(Reading { open: Arc::clone(this), series: Arc::clone(series), status }));
    }

    #[cold]
    fn end(&self, what: What) {
        let recorder = Arc::clone(&self.place.lock().unwrap_or_else(PoisonError::into_inner));
        recorder.home.leave(&self.context);
        let Some(spans) = recorder.spans.clone() else { return };
        let Self { context, parent, begun, .. } = *self;
        let (state, over) = (self.state.clone(), SystemTime::now());
        spans.push(Item { recorder, context, parent, state, begun, over, what });
    }
}

/// The span of a call whose answer is being read. It ends with this.
#[derive(Debug)]
struct Reading {
    open: Arc<Open>,
    series: Arc<Series>,
    status: Status,
}

impl Unread for Reading {
    fn undecodable(mut self: Box<Self>) {
        self.status = Status::Protocol;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.open.end(What::Call { series: Arc::clone(&self.series), status: self.status });
    }
}

/// Makes a step of a plugin's life, in a span. `why` says in a word and in full what an error is.
pub(crate) fn step<T, E>(
    recorder: &Arc<Recorder>,
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
    why: impl FnOnce(&E) -> (&'static str, String),
) -> impl Future<Output = Result<T, E>> {
    // On the heap: steps lie within steps, and whoever waits for the outermost has a stack of its own size.
    let work = Box::pin(work);
    async move {
        let span = recorder.begin();
        let done = match span.context() {
            Some(context) => traced(context, work).await,
            None => work.await,
        };
        if span.open.is_some() {
            span.end_step(name, done.as_ref().err().map(why));
        }
        done
    }
}

#[cfg(all(test, feature = "otel"))]
mod tests;
