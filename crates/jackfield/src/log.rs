//! What plugins print and log: levelled, kept for reports, and forwarded to `tracing`.
//!
//! Events have the target `jackfield::plugin` and the field `plugin`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Map, Value};
use tracing::Level;

/// Lines kept of a plugin's output, for reports.
const TAIL_LINES_MAX: usize = 200;
/// Bytes kept of a plugin's output.
const TAIL_BYTES_MAX: usize = 64 * 1024;

/// One plugin's lines.
#[derive(Debug)]
pub(crate) struct PluginLog {
    plugin: String,
    tail: Mutex<Tail>,
    /// The line in which a runtime began to say why it dies: what follows belongs to it.
    death: OnceLock<String>,
}

#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl PluginLog {
    pub(crate) fn new(plugin: &str) -> Self {
        Self { plugin: plugin.to_owned(), tail: Mutex::default(), death: OnceLock::new() }
    }

    /// A line that the plugin wrote to stderr.
    pub(crate) fn stderr(&self, line: &str) {
        if let Some((level, line)) = hclog(line) {
            self.keep(&line);
            return self.forward(level, &line);
        }
        self.keep(line);
        let (level, text) = match level_of(line) {
            Heard::Levelled(level, text) => (level, text),
            Heard::Dying => {
                let _ = self.death.set(line.to_owned());
                (Level::ERROR, line)
            }
            Heard::Panicked => (Level::ERROR, line),
            Heard::Plain if self.death.get().is_some() => (Level::ERROR, line),
            Heard::Plain => (Level::INFO, line),
        };
        self.forward(level, text);
    }

    /// A line on stdout that is no message.
    pub(crate) fn stray(&self, line: &str) {
        self.forward(Level::INFO, line);
    }

    /// A line that the plugin logged through the protocol.
    pub(crate) fn logged(&self, level: Level, line: &str) {
        self.keep(line);
        self.forward(level, line);
    }

    /// The last lines, at most `count`.
    pub(crate) fn tail(&self, count: usize) -> Vec<String> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.lines.iter().skip(tail.lines.len().saturating_sub(count)).cloned().collect()
    }

    /// The line in which the plugin's runtime began to say why it dies, if it did.
    #[cfg(feature = "grpc")]
    pub(crate) fn death(&self) -> Option<&str> {
        self.death.get().map(String::as_str)
    }

    fn keep(&self, line: &str) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.bytes += line.len();
        tail.lines.push_back(line.to_owned());
        while tail.lines.len() > TAIL_LINES_MAX || (tail.bytes > TAIL_BYTES_MAX && tail.lines.len() > 1) {
            tail.bytes -= tail.lines.pop_front().map_or(0, |line| line.len());
        }
    }

    fn forward(&self, level: Level, line: &str) {
        let plugin = &*self.plugin;
        // tracing wants the level of an event at compile time.
        match level {
            Level::ERROR => tracing::error!(target: "jackfield::plugin", plugin, "{line}"),
            Level::WARN => tracing::warn!(target: "jackfield::plugin", plugin, "{line}"),
            Level::INFO => tracing::info!(target: "jackfield::plugin", plugin, "{line}"),
            Level::DEBUG => tracing::debug!(target: "jackfield::plugin", plugin, "{line}"),
            _ => tracing::trace!(target: "jackfield::plugin", plugin, "{line}"),
        }
    }
}

/// What a line of stderr says of itself.
#[derive(Debug, PartialEq, Eq)]
enum Heard<'a> {
    /// A level, and the line without it.
    Levelled(Level, &'a str),
    /// A runtime says why it dies, in this line and all that follow.
    Dying,
    /// Code panicked, and somebody may have caught it.
    Panicked,
    Plain,
}

fn level_of(line: &str) -> Heard<'_> {
    const PREFIXES: [(&str, Level); 6] = [
        ("[ERROR]", Level::ERROR),
        ("[WARN]", Level::WARN),
        ("[WARNING]", Level::WARN),
        ("[INFO]", Level::INFO),
        ("[DEBUG]", Level::DEBUG),
        ("[TRACE]", Level::TRACE),
    ];
    // Go's.
    if line.starts_with("panic: ") || line.starts_with("fatal error: ") {
        return Heard::Dying;
    }
    // Rust's and Python's.
    if (line.starts_with("thread '") && line.contains("panicked at"))
        || line.starts_with("Traceback (most recent call last)")
    {
        return Heard::Panicked;
    }
    let prefixed = PREFIXES.iter().find_map(|(prefix, level)| Some((*level, line.strip_prefix(prefix)?.trim_start())));
    prefixed.map_or(Heard::Plain, |(level, text)| Heard::Levelled(level, text))
}

/// A line of hclog's JSON: its level, and its message with the further members behind it.
fn hclog(line: &str) -> Option<(Level, Cow<'_, str>)> {
    if !line.starts_with('{') {
        return None;
    }
    let members: Map<String, Value> = serde_json::from_str(line).ok()?;
    // A message that is no string is somebody else's JSON, or a mistake that must cost us nothing.
    let message = members.get("@message")?.as_str()?;
    let level = members.get("@level").and_then(Value::as_str).and_then(|name| match name {
        "error" => Some(Level::ERROR),
        "warn" => Some(Level::WARN),
        "info" => Some(Level::INFO),
        "debug" => Some(Level::DEBUG),
        "trace" => Some(Level::TRACE),
        _ => None,
    });
    let Some(level) = level else { return Some((Level::DEBUG, Cow::Borrowed(line))) };
    let mut text = message.to_owned();
    for (name, value) in members.iter().filter(|(name, _)| !name.starts_with('@')) {
        let _ = match value {
            Value::String(value) => write!(text, " {name}={value}"),
            value => write!(text, " {name}={value}"),
        };
    }
    Some((level, Cow::Owned(text)))
}

/// The level of `jackfield/log` and of `jf_level`, by name or number.
pub(crate) fn level_named(name: &str) -> Level {
    match name {
        "error" => Level::ERROR,
        "warn" | "warning" => Level::WARN,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        _ => Level::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_level_it_says() {
        assert_eq!(level_of("[WARN] disk is nearly full"), Heard::Levelled(Level::WARN, "disk is nearly full"));
        assert_eq!(level_of("[DEBUG] x"), Heard::Levelled(Level::DEBUG, "x"));
        for (line, heard) in [
            ("thread 'main' panicked at src/lib.rs:1:1:", Heard::Panicked),
            ("thread 'main' (42) panicked at src/lib.rs:1:1:", Heard::Panicked),
            ("panic: runtime error", Heard::Dying),
            ("fatal error: all goroutines are asleep - deadlock!", Heard::Dying),
            ("Traceback (most recent call last):", Heard::Panicked),
            ("listening", Heard::Plain),
        ] {
            assert_eq!(level_of(line), heard, "{line}");
        }
    }

    #[test]
    fn a_line_of_hclog_has_its_level_and_its_members() {
        let line =
            r#"{"@level":"warn","@message":"disk","@module":"kv","@timestamp":"2026-01-01T00:00:00.000000Z","free":7}"#;
        assert_eq!(hclog(line), Some((Level::WARN, "disk free=7".into())));
        let unknown = r#"{"@level":"loud","@message":"hello"}"#;
        assert_eq!(hclog(unknown), Some((Level::DEBUG, unknown.into())));
    }

    #[test]
    fn json_that_is_no_line_of_hclog_is_a_line() {
        for line in [r#"{"@level":"info","@message":7}"#, r#"{"a":1}"#, "{", "{}", "[1]", "{\"@message\":null}"] {
            assert_eq!(hclog(line), None, "{line}");
        }
    }

    #[test]
    fn the_tail_is_bounded_in_lines_and_bytes() {
        let log = PluginLog::new("p");
        (0..1000).for_each(|number| log.stderr(&number.to_string()));
        assert_eq!(log.tail(2), ["998", "999"]);
        assert_eq!(log.tail(usize::MAX).len(), TAIL_LINES_MAX);
        (0..10).for_each(|_| log.stderr(&"x".repeat(TAIL_BYTES_MAX / 2)));
        assert_eq!(log.tail(usize::MAX).len(), 2);
    }
}
