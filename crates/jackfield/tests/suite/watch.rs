//! What hosts forward to `tracing`: a subscriber that keeps it.

use std::fmt;
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A line that a plugin wrote or logged: `WARN disk is nearly full`.
#[derive(Clone, Debug, Default)]
struct Line {
    plugin: String,
    text: String,
    trace_id: Option<String>,
}

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();

/// Keeps what plugins write from now on. Plugins of one test binary need names of their own.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| tracing::subscriber::set_global_default(Watching).expect("the only subscriber"));
}

/// Waits until the plugin has written a line that contains `text`, and gives it, with its level.
#[track_caller]
pub(crate) fn line(plugin: &str, text: &str) -> String {
    written(plugin, text).text
}

/// The same, and gives the trace that it has.
#[track_caller]
pub(crate) fn trace_id(plugin: &str, text: &str) -> Option<String> {
    written(plugin, text).trace_id
}

#[track_caller]
fn written(plugin: &str, text: &str) -> Line {
    let deadline = Instant::now() + super::DEADLINE;
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let wanted = |line: &&Line| line.plugin == plugin && line.text.contains(text);
        if let Some(line) = lines.iter().find(wanted) {
            return line.clone();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(left > Duration::ZERO, "`{plugin}` has not written {text:?}: {lines:?}");
        (lines, _) = CHANGED.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What the plugin has written up to now, each line with its level.
pub(crate) fn lines(plugin: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| line.plugin == plugin).map(|line| line.text.clone()).collect()
}

struct Watching;

impl Subscriber for Watching {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "jackfield::plugin"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        line.text = format!("{} {}", event.metadata().level(), line.text);
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        CHANGED.notify_all();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "plugin" {
            value.clone_into(&mut self.plugin);
        }
        if field.name() == "trace_id" {
            self.trace_id = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
        }
    }
}
