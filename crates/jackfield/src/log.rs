//! What plugins print and log: levelled, kept for reports, and forwarded to `tracing`.
//!
//! Events have the target `jackfield::plugin` and the field `plugin`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

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
}

#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl PluginLog {
    pub(crate) fn new(plugin: &str) -> Self {
        Self { plugin: plugin.to_owned(), tail: Mutex::default() }
    }

    /// A line that the plugin wrote to stderr.
    pub(crate) fn stderr(&self, line: &str) {
        self.keep(line);
        let (level, line) = level_of(line);
        self.forward(level, line);
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

/// The level of a line of stderr, and the line without it: by its prefix, by what a runtime writes when it
/// dies, or info.
fn level_of(line: &str) -> (Level, &str) {
    const PREFIXES: [(&str, Level); 6] = [
        ("[ERROR]", Level::ERROR),
        ("[WARN]", Level::WARN),
        ("[WARNING]", Level::WARN),
        ("[INFO]", Level::INFO),
        ("[DEBUG]", Level::DEBUG),
        ("[TRACE]", Level::TRACE),
    ];
    // Rust, Go and Python, in this order.
    let dying = (line.starts_with("thread '") && line.contains("panicked at"))
        || line.starts_with("panic: ")
        || line.starts_with("fatal error: ")
        || line.starts_with("Traceback (most recent call last)");
    if dying {
        return (Level::ERROR, line);
    }
    let prefixed = PREFIXES.iter().find_map(|(prefix, level)| Some((*level, line.strip_prefix(prefix)?.trim_start())));
    prefixed.unwrap_or((Level::INFO, line))
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
        assert_eq!(level_of("[WARN] disk is nearly full"), (Level::WARN, "disk is nearly full"));
        assert_eq!(level_of("[DEBUG] x"), (Level::DEBUG, "x"));
        for (line, level) in [
            ("thread 'main' panicked at src/lib.rs:1:1:", Level::ERROR),
            ("thread 'main' (42) panicked at src/lib.rs:1:1:", Level::ERROR),
            ("panic: runtime error", Level::ERROR),
            ("Traceback (most recent call last):", Level::ERROR),
            ("listening", Level::INFO),
        ] {
            assert_eq!(level_of(line), (level, line));
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
