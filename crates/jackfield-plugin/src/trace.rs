//! The trace that the present call belongs to, and the spans that the plugin records in it.
//!
//! A call whose trace is recorded, of a host that takes spans, gets a span of its own around the author's function, and
//! [`span`] makes further ones within it. They are collected on the thread of the call, and the mechanism sends them
//! home before it answers. Nothing of this is done for other calls: they cost a look at a thread-local.
//!
//! Not here: how spans go home (`native.rs`, `process/`, `grpc/`, `wasm/`), what the host makes of them.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use jackfield_protocol::TraceContext;
use jackfield_protocol::span::{SPANS_MAX, SpanRecord};
use serde_json::Value;

/// What a call came with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    pub(crate) context: Option<TraceContext>,
    /// W3C `tracestate`, or empty.
    pub(crate) state: String,
    /// Whether the host takes spans of this call.
    pub(crate) home: bool,
}

thread_local! {
    /// The span that the code of the plugin is in.
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
    /// Whether its spans go home.
    static HOME: Cell<bool> = const { Cell::new(false) };
    static STATE: RefCell<String> = const { RefCell::new(String::new()) };
    /// Spans of this call that are over.
    static OVER: RefCell<Vec<SpanRecord>> = const { RefCell::new(Vec::new()) };
    /// Spans of this call that were too many.
    static LOST: Cell<u64> = const { Cell::new(0) };
}

/// The span in which the code on this thread runs; none if the caller of the call records none.
///
/// For a plugin that records spans by itself: they are children of this one. It is the span that the SDK makes around
/// the function that was called, where the host takes spans, or else the host's. Known in shared libraries and programs,
/// over gRPC, and in WebAssembly of every kind that the SDK makes.
pub fn trace_context() -> Option<TraceContext> {
    CURRENT.try_with(Cell::get).ok().flatten()
}

/// The W3C `tracestate` that came with the present call; empty if none did.
pub fn trace_state() -> String {
    STATE.try_with(|state| state.borrow().clone()).unwrap_or_default()
}

/// Begins a span within the present call, on its thread: it ends when it is dropped, and the host exports it.
///
/// ```
/// fn resize(image: &[u8]) -> Vec<u8> {
///     let mut span = jackfield_plugin::span("decode");
///     span.set("bytes", image.len() as u64);
///     // …
/// #   image.to_vec()
/// }
/// ```
///
/// Outside of a call whose trace is recorded it is nothing, and costs as much. A call has 128 spans at most; how many
/// more there were stands in that of the call, as `jackfield.spans_lost`.
pub fn span(name: impl Into<String>) -> Span {
    let open =
        trace_context().filter(|context| context.sampled && HOME.get()).map(|parent| Open::begin(parent, name.into()));
    Span { open, on_one_thread: std::marker::PhantomData }
}

/// A span that is not over. Made by [`span`]; it stays on its thread.
#[derive(Debug)]
#[must_use = "a span is over when it is dropped"]
pub struct Span {
    open: Option<Open>,
    on_one_thread: std::marker::PhantomData<*const ()>,
}

impl Span {
    /// Notes a fact: a string, a number, a truth value. Anything else is passed over by the host.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(open) = &mut self.open {
            open.record.attributes.insert(name.to_owned(), value.into());
        }
    }

    /// Says that what it is about failed, in a word of low cardinality: `not-found`.
    pub fn fail(&mut self, error: &str) {
        if let Some(open) = &mut self.open {
            open.record.error = Some(error.to_owned());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            // The last place is that of the call's own span.
            open.end(SPANS_MAX - 1);
        }
    }
}

#[derive(Debug)]
struct Open {
    record: SpanRecord,
    /// The span that is the current one again afterwards.
    before: TraceContext,
}

impl Open {
    fn begin(parent: TraceContext, name: String) -> Self {
        let span = TraceContext { span_id: new_id(&parent), ..parent };
        CURRENT.set(Some(span));
        let record = SpanRecord {
            span,
            parent: parent.span_id,
            name,
            start: now(),
            end: 0,
            error: None,
            attributes: Default::default(),
        };
        Self { record, before: parent }
    }

    /// `spans_max`: with it, not more than so many of the call.
    fn end(mut self, spans_max: usize) {
        self.record.end = now();
        let _ = CURRENT.try_with(|current| current.set(Some(self.before)));
        let _ = OVER.try_with(|over| {
            let mut over = over.borrow_mut();
            match over.len() < spans_max {
                true => over.push(self.record),
                false => LOST.set(LOST.get() + 1),
            }
        });
    }
}

/// The span around a function that is called; none if nobody wants it.
pub(crate) struct Serving(Option<Open>);

impl Serving {
    /// Begins it. `name` is only asked if there is one.
    #[inline]
    pub(crate) fn begin(name: impl FnOnce() -> String) -> Self {
        // Most calls end here.
        let Some(parent) = trace_context() else { return Self(None) };
        Self((parent.sampled && HOME.get()).then(|| Open::begin(parent, name())))
    }

    /// `error`: the status of a call that did not go well.
    #[inline]
    pub(crate) fn end(self, error: Option<&str>) {
        if let Some(mut open) = self.0 {
            open.record.error = error.map(str::to_owned);
            let lost = LOST.take();
            if lost > 0 {
                open.record.attributes.insert("jackfield.spans_lost".to_owned(), lost.into());
            }
            open.end(SPANS_MAX);
        }
    }
}

/// The spans of the present call that are over, which are not kept any longer.
#[inline]
pub(crate) fn take_spans() -> Vec<SpanRecord> {
    match HOME.try_with(Cell::get) {
        Ok(true) => OVER.try_with(RefCell::take).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Runs a call with what it came with.
#[inline]
pub(crate) fn within<T>(carried: Carried, call: impl FnOnce() -> T) -> T {
    struct Leave(Option<TraceContext>);
    impl Drop for Leave {
        fn drop(&mut self) {
            let _ = CURRENT.try_with(|current| current.set(self.0));
            let _ = HOME.try_with(|home| home.set(false));
            let _ = STATE.try_with(|state| state.borrow_mut().clear());
            let _ = OVER.try_with(|over| over.borrow_mut().clear());
            let _ = LOST.try_with(|lost| lost.set(0));
        }
    }
    // Most calls have none, and none are within another: then there is nothing to put back.
    let Some(context) = carried.context else { return call() };
    let _leave = Leave(CURRENT.try_with(|current| current.replace(Some(context))).ok().flatten());
    let _ = HOME.try_with(|home| home.set(carried.home));
    let _ = STATE.try_with(|state| *state.borrow_mut() = carried.state);
    call()
}

/// A number for a span that no other of its trace has: hashed with keys of this process, and with the parent's, since
/// WebAssembly has no randomness of its own.
fn new_id(parent: &TraceContext) -> [u8; 8] {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = KEYS.get_or_init(RandomState::new).build_hasher();
    parent.hash(&mut hasher);
    COUNT.fetch_add(1, Ordering::Relaxed).hash(&mut hasher);
    // 0 is no number of a span.
    hasher.finish().max(1).to_be_bytes()
}

/// Nanoseconds since 1970; 0 where nobody has a clock.
fn now() -> u64 {
    if cfg!(all(target_family = "wasm", target_os = "unknown")) {
        return 0;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(sampled: bool, home: bool) -> Carried {
        let context = TraceContext { trace_id: [7; 16], span_id: [3; 8], sampled };
        Carried { context: Some(context), state: "a=b".to_owned(), home }
    }

    fn serve(carried: Carried) -> Vec<SpanRecord> {
        within(carried, || {
            let serving = Serving::begin(|| "greeter.greet".to_owned());
            {
                let mut inner = span("inner");
                inner.set("n", 7);
                inner.fail("not-found");
            }
            serving.end(Some("panicked"));
            take_spans()
        })
    }

    #[test]
    fn a_call_has_a_span_and_the_spans_within_it() {
        let spans = serve(carried(true, true));
        let [inner, call] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*call.name, call.parent, call.error.as_deref()), ("greeter.greet", [3; 8], Some("panicked")));
        assert_eq!(
            (&*inner.name, inner.parent, inner.error.as_deref()),
            ("inner", call.span.span_id, Some("not-found"))
        );
        assert_eq!((inner.span.trace_id, &inner.attributes["n"]), ([7; 16], &Value::from(7)));
        assert!(call.start <= inner.start && inner.end <= call.end && call.start > 0);
    }

    #[test]
    fn what_nobody_records_or_takes_has_none_and_is_forgotten() {
        for carried in [carried(false, true), carried(true, false), Carried::default()] {
            assert!(serve(carried).is_empty());
        }
        within(carried(true, true), || Serving::begin(String::new).end(None));
        assert!(within(carried(true, true), take_spans).is_empty(), "spans of a call before");
        assert_eq!((trace_context(), trace_state()), (None, String::new()));
    }

    #[test]
    fn a_call_has_so_many_spans_and_no_more() {
        let spans = within(carried(true, true), || {
            let serving = Serving::begin(String::new);
            (0..1000).for_each(|_| drop(span("x")));
            serving.end(None);
            take_spans()
        });
        assert_eq!(spans.len(), SPANS_MAX);
        assert_eq!(spans[SPANS_MAX - 1].attributes["jackfield.spans_lost"], 1000 - (SPANS_MAX as u64 - 1));
        let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| span.span.span_id).collect();
        assert_eq!(ids.len(), SPANS_MAX);
    }
}
