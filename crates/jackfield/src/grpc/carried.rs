//! The trace context of a call as metadata, and the spans that come back with its answer.

use std::sync::Arc;

use jackfield_protocol::TraceContext;
use jackfield_protocol::span::{METADATA, METADATA_WANTED, SPANS_MAX};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::spans::Recorder;
use crate::trace;

/// What a call carries, and who takes its spans.
pub(super) struct Carried {
    context: Option<TraceContext>,
    state: Option<Arc<str>>,
    recorder: Arc<Recorder>,
}

impl Carried {
    /// Of the call that is begun on this thread.
    pub(super) fn of(context: Option<TraceContext>, recorder: &Arc<Recorder>) -> Self {
        Self { context, state: context.and_then(|_| trace::state()), recorder: Arc::clone(recorder) }
    }

    pub(super) fn add_to(&self, metadata: &mut MetadataMap) {
        let Some(context) = &self.context else { return };
        // Digits and dashes are always a value, and a state that is none was not taken.
        if let Ok(parent) = MetadataValue::try_from(&*context.text()) {
            metadata.insert("traceparent", parent);
        }
        if let Some(state) = self.state.as_deref().and_then(|state| MetadataValue::try_from(state).ok()) {
            metadata.insert("tracestate", state);
        }
        if context.sampled && self.recorder.takes_spans() {
            metadata.insert(METADATA_WANTED, MetadataValue::from_static("1"));
        }
    }

    /// Takes the spans that came with an answer.
    pub(super) fn take_from(&self, metadata: &MetadataMap) {
        if self.context.is_none_or(|context| !context.sampled) {
            return;
        }
        for span in metadata.get_all_bin(METADATA).iter().take(SPANS_MAX) {
            if let Ok(json) = span.to_bytes() {
                self.recorder.take(&json);
            }
        }
    }
}
