//! Which spans of a plugin are taken home: those of its calls that are under way, and not more than so many of each.
//!
//! A plugin that could name any trace could put itself into those of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jackfield_protocol::TraceContext;
use jackfield_protocol::span::{NotASpan, SPANS_MAX, SpanRecord};
use serde_json::{Map, Value};

use super::{Item, Recorder, What};

/// Longest name that is kept, in characters.
const NAME_CHARACTERS_MAX: usize = 128;
/// Most attributes that are kept.
const ATTRIBUTES_MAX: usize = 32;
/// Longest text of an attribute that is kept, in characters.
const TEXT_CHARACTERS_MAX: usize = 1024;

/// Traces with calls under way that are recorded.
#[derive(Debug, Default)]
pub(super) struct Home(Mutex<HashMap<[u8; 16], Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The spans of the host's around its calls, and when they began.
    calls: Vec<([u8; 8], SystemTime)>,
    /// How many more are taken.
    left: usize,
}

/// Why a span is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error(transparent)]
    NotASpan(#[from] NotASpan),
    #[error("no call of its trace is under way: {0}")]
    NoCall(TraceContext),
    #[error("its number is that of the call: {0}")]
    Forged(TraceContext),
    #[error("there were {SPANS_MAX} of the call already")]
    TooMany,
}

/// A span of the plugin's that is taken.
#[derive(Debug)]
pub(super) struct Own {
    record: SpanRecord,
    /// When the host began its call, if this is the plugin's side of that.
    call: Option<SystemTime>,
    /// When any call of its trace did.
    begun: SystemTime,
}

impl Home {
    /// A call is sent.
    pub(super) fn enter(&self, call: &TraceContext, begun: SystemTime) {
        let mut known = self.lock();
        let known = known.entry(call.trace_id).or_default();
        known.calls.push((call.span_id, begun));
        known.left += SPANS_MAX;
    }

    /// It is over. Of one that never came here, nothing is known.
    pub(super) fn leave(&self, call: &TraceContext) {
        let mut all = self.lock();
        let Some(known) = all.get_mut(&call.trace_id) else { return };
        known.calls.retain(|(span, _)| *span != call.span_id);
        if known.calls.is_empty() {
            all.remove(&call.trace_id);
        }
    }

    pub(super) fn admit(&self, json: &[u8]) -> Result<Own, NotTaken> {
        let mut record = SpanRecord::from_json(json)?;
        let mut all = self.lock();
        let known = all.get_mut(&record.span.trace_id).ok_or(NotTaken::NoCall(record.span))?;
        if known.calls.iter().any(|(span, _)| *span == record.span.span_id) {
            return Err(NotTaken::Forged(record.span));
        }
        known.left = known.left.checked_sub(1).ok_or(NotTaken::TooMany)?;
        let call = known.calls.iter().find(|(span, _)| *span == record.parent).map(|(_, begun)| *begun);
        let begun = call.or_else(|| known.calls.first().map(|(_, begun)| *begun)).unwrap_or(UNIX_EPOCH);
        drop(all);
        cut(&mut record.name, NAME_CHARACTERS_MAX);
        if let Some(error) = &mut record.error {
            cut(error, NAME_CHARACTERS_MAX);
        }
        Ok(Own { record, call, begun })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    pub(super) fn item(self, recorder: Arc<Recorder>) -> Item {
        let Self { record: SpanRecord { span, parent, name, start, end, error, attributes }, call, begun } = self;
        let at = |nanos: u64| UNIX_EPOCH + Duration::from_nanos(nanos);
        // Without a clock in the plugin, it took as long as it took us to hear of it.
        let (begun, over) = match (start, end) {
            (0, _) | (_, 0) => (begun, SystemTime::now()),
            (start, end) => (at(start), at(end.max(start))),
        };
        let attributes = bounded(attributes);
        let what = What::Own { name, serving: call.is_some(), error, attributes };
        Item { recorder, context: span, parent: Some(parent), state: None, begun, over, what }
    }
}

fn bounded(attributes: Map<String, Value>) -> Map<String, Value> {
    let simple = attributes
        .into_iter()
        .filter(|(_, value)| matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)));
    let cut_one = |(mut name, mut value): (String, Value)| {
        cut(&mut name, NAME_CHARACTERS_MAX);
        if let Value::String(text) = &mut value {
            cut(text, TEXT_CHARACTERS_MAX);
        }
        (name, value)
    };
    simple.take(ATTRIBUTES_MAX).map(cut_one).collect()
}

fn cut(text: &mut String, characters_max: usize) {
    if let Some((end, _)) = text.char_indices().nth(characters_max) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: TraceContext = TraceContext { trace_id: [7; 16], span_id: [3; 8], sampled: true };

    fn json(trace: u8, span: u8, parent: u8) -> String {
        let span = TraceContext { trace_id: [trace; 16], span_id: [span; 8], sampled: true };
        let record = SpanRecord {
            span,
            parent: [parent; 8],
            name: "x".repeat(200),
            start: 0,
            end: 0,
            error: None,
            attributes: Map::new(),
        };
        record.to_json()
    }

    #[test]
    fn only_spans_of_calls_under_way_are_taken() {
        let home = Home::default();
        let refused = |json: &str| home.admit(json.as_bytes()).expect_err("not taken").to_string();
        assert!(refused(&json(7, 4, 3)).starts_with("no call of its trace is under way: 00-0707"));
        home.enter(&CALL, SystemTime::now());
        let serving = home.admit(json(7, 4, 3).as_bytes()).expect("taken");
        assert!(serving.call.is_some() && serving.record.name.len() == NAME_CHARACTERS_MAX);
        let inner = home.admit(json(7, 5, 4).as_bytes()).expect("taken");
        assert!(inner.call.is_none() && inner.begun > UNIX_EPOCH);
        assert!(refused(&json(8, 4, 3)).starts_with("no call of its trace"));
        assert!(refused(&json(7, 3, 9)).starts_with("its number is that of the call"));
        assert!(refused("{").starts_with("EOF while parsing"));
        home.leave(&CALL);
        assert!(refused(&json(7, 6, 3)).starts_with("no call of its trace"));
    }

    #[test]
    fn a_call_has_so_many_spans() {
        let home = Home::default();
        home.enter(&CALL, SystemTime::now());
        let taken = (0..1000).filter(|_| home.admit(json(7, 4, 3).as_bytes()).is_ok()).count();
        assert_eq!(taken, SPANS_MAX);
        assert!(matches!(home.admit(json(7, 4, 3).as_bytes()), Err(NotTaken::TooMany)));
        // Two calls of one trace may have twice as many, and the first to end takes nothing from the other.
        let other = TraceContext { span_id: [9; 8], ..CALL };
        home.enter(&other, SystemTime::now());
        home.leave(&CALL);
        home.admit(json(7, 4, 9).as_bytes()).expect("taken");
    }

    #[test]
    fn attributes_are_bounded() {
        let many = (0..100).map(|number| (format!("{number}"), Value::from("é".repeat(5000))));
        let nested = [("a".to_owned(), Value::Null), ("b".to_owned(), Value::Array(Vec::new()))];
        let kept = bounded(nested.into_iter().chain(many).collect());
        assert_eq!(kept.len(), ATTRIBUTES_MAX);
        assert!(
            kept.values().all(|value| value.as_str().is_some_and(|text| text.chars().count() == TEXT_CHARACTERS_MAX))
        );
    }
}
