//! An exporter of spans that keeps them.

use std::sync::{Arc, Mutex};

use jackfield::Spans;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// The spans that were exported.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(pub(crate) Arc<Mutex<Vec<SpanData>>>);

impl Kept {
    /// Spans that come here.
    pub(crate) fn spans(&self) -> Spans {
        let exporter = self.clone();
        Spans::builder().export(move || Ok::<_, String>(exporter.clone())).expect("a thread")
    }
}

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("unharmed").extend(batch);
        Ok(())
    }
}
