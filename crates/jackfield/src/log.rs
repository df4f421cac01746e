//! What plugins print and log: levelled, kept for reports, and passed on to `tracing` and to whoever listens.
//!
//! Events have the target `jackfield::plugin` and the fields `plugin`, `version`, `generation`,
//! and `trace_id` where that is known. Listeners have [`LogLine`]s from a channel
//! that is bounded: one that is too slow loses the oldest lines, is told how many, and holds nobody up.
//!
//! Not here: whose lines they are and where the channel comes from (`host.rs`).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::Level;

use crate::metrics::Meters;
use crate::rfc3339;
use crate::spans::Recorder;
use crate::tap::Tap;
use crate::trace;

/// Lines kept of a plugin's output, for reports.
const TAIL_LINES_MAX: usize = 200;
/// Bytes kept of a plugin's output.
const TAIL_BYTES_MAX: usize = 64 * 1024;

/// Lines that wait for the slowest listener. What comes after them takes the place of the oldest.
pub(crate) const LIVE_LINES_MAX: usize = 1024;

/// Lines of a plugin that are passed on in a second. What it writes beyond them is kept as all lines are, and counted.
const LINES_A_SECOND: u32 = 20_000;

/// A line that a plugin printed or logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogLine {
    /// Counts the lines of all plugins of this process, from 1: of two lines, the later one has the higher number.
    pub number: u64,
    /// When the host had it.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// Whose it is.
    pub plugin: String,
    /// Which session of the plugin's wrote it.
    pub generation: u64,
    /// How grave it is, as the plugin says; `info` where it says nothing.
    pub level: LogLevel,
    /// The line, without its level and its end.
    pub text: String,
    /// The trace of the call that wrote it, in 32 hexadecimal digits, where that is known: the plugin says it, or the
    /// line came within a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something may fail.
    Warn,
    /// What happens.
    Info,
    /// What happens, for whoever looks for a mistake.
    Debug,
    /// Every step.
    Trace,
}

/// A [`LogLevel`] that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is none of `error`, `warn`, `info`, `debug`, `trace`")]
pub struct UnknownLogLevel {
    text: String,
}

impl FromStr for LogLevel {
    type Err = UnknownLogLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLogLevel> {
        let all = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
        all.into_iter().find(|level| level.as_str() == text).ok_or(UnknownLogLevel { text: text.to_owned() })
    }
}

impl LogLevel {
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG => LogLevel::Debug,
            _ => LogLevel::Trace,
        }
    }
}

/// One generation's lines.
#[derive(Debug)]
pub(crate) struct PluginLog {
    plugin: String,
    generation: u64,
    /// What it said on purpose: stderr, and the log of the protocol.
    said: Mutex<Tail>,
    /// What it printed where messages belong. Apart, so that it cannot push out what it said when it died.
    strays: Mutex<Tail>,
    /// The line in which a runtime began to say why it dies: what follows belongs to it.
    death: OnceLock<String>,
    live: Option<Arc<Tap<LogLine>>>,
    meters: Arc<Meters>,
    flow: Mutex<Flow>,
    /// Where its spans go.
    recorder: Arc<Recorder>,
}

/// How much of what a plugin writes is passed on.
#[derive(Debug, Default)]
struct Flow {
    /// When the present second began.
    begun: Option<Instant>,
    lines: u32,
    dropped: u64,
}

impl Flow {
    /// Whether one more line may pass, and how many did not in the second before, once it is over.
    fn admit(&mut self, now: Instant) -> (bool, u64) {
        let mut dropped = 0;
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= Duration::from_secs(1)) {
            dropped = self.dropped;
            *self = Flow { begun: Some(now), lines: 0, dropped: 0 };
        }
        let admitted = self.lines < LINES_A_SECOND;
        match admitted {
            true => self.lines += 1,
            false => self.dropped += 1,
        }
        (admitted, dropped)
    }
}

#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<Kept>,
    bytes: usize,
}

/// A line as it came.
#[derive(Clone, Debug)]
struct Kept {
    number: u64,
    at: SystemTime,
    level: Level,
    line: String,
    /// Where the text begins, behind the level.
    text_from: usize,
    trace: Option<TraceId>,
}

impl PluginLog {
    /// The log of a plugin whose lines nobody listens to.
    pub(crate) fn new(plugin: &str) -> Self {
        let (said, strays, death, meters, flow, recorder) = Default::default();
        Self { plugin: plugin.to_owned(), generation: 1, said, strays, death, live: None, meters, flow, recorder }
    }

    /// The log of a generation, whose lines also go to those who listen to `live`.
    pub(crate) fn with_tap(plugin: &str, generation: u64, live: Arc<Tap<LogLine>>) -> Self {
        Self { generation, live: Some(live), ..Self::new(plugin) }
    }

    /// The same, whose lines are counted.
    pub(crate) fn metered(self, meters: &Arc<Meters>) -> Self {
        Self { meters: Arc::clone(meters), ..self }
    }

    /// The same, of a generation whose spans are recorded by this.
    pub(crate) fn recorded(self, recorder: Arc<Recorder>) -> Self {
        Self { recorder, ..self }
    }

    /// Where the spans of the generation go.
    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// What is measured of the plugin.
    pub(crate) fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// A line that the plugin wrote to stderr.
    pub(crate) fn stderr(&self, line: &str) {
        if let Some(Hclog { level, text, trace }) = hclog(line) {
            return self.take(&self.said, level, &text, &text, trace);
        }
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
        self.take(&self.said, level, line, text, None);
    }

    /// A line on stdout that is no message.
    pub(crate) fn stray(&self, line: &str) {
        self.meters.noise.fetch_add(1, Ordering::Relaxed);
        self.take(&self.strays, Level::INFO, line, line, None);
    }

    /// A line that the plugin logged through the protocol.
    pub(crate) fn logged(&self, level: Level, line: &str) {
        self.take(&self.said, level, line, line, None);
    }

    /// The last lines that it said, as they came, at most `count`.
    pub(crate) fn tail(&self, count: usize) -> Vec<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let last = said.lines.iter().skip(said.lines.len().saturating_sub(count));
        last.map(|kept| kept.line.clone()).collect()
    }

    /// The last lines, at most `count`, what it printed on stdout included.
    pub(crate) fn lines(&self, count: usize) -> Vec<LogLine> {
        let mut lines = Vec::new();
        for tail in [&self.said, &self.strays] {
            let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            lines.extend(tail.lines.iter().map(|kept| self.line(kept)));
        }
        lines.sort_by_key(|line| line.number);
        lines.split_off(lines.len().saturating_sub(count))
    }

    /// The line in which the plugin's runtime began to say why it dies, if it did.
    #[cfg(feature = "grpc")]
    pub(crate) fn death(&self) -> Option<&str> {
        self.death.get().map(String::as_str)
    }

    /// Keeps a line and passes it on. `text` is the end of it, `trace` the one that it names.
    fn take(&self, tail: &Mutex<Tail>, level: Level, line: &str, text: &str, trace: Option<TraceId>) {
        static LINES: AtomicU64 = AtomicU64::new(1);
        self.meters.line(level);
        // Of the call in which it was logged, where that is known.
        let trace = trace.or_else(|| trace::current().map(|context| context.trace_id));
        let (admitted, dropped) = self.flow.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        let kept = {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            // Under the lock, so that a tail is in the order of the numbers.
            let number = LINES.fetch_add(1, Ordering::Relaxed);
            let text_from = line.len().saturating_sub(text.len());
            let kept = Kept { number, at: SystemTime::now(), level, line: line.to_owned(), text_from, trace };
            let live = self.live.as_ref().filter(|live| admitted && live.is_heard());
            let live = live.map(|_| kept.clone());
            tail.keep(kept);
            live
        };
        if let (Some(live), Some(kept)) = (&self.live, kept) {
            live.say(self.line(&kept));
        }
        if dropped > 0 {
            self.forward(Level::WARN, &format!("it writes too much: {dropped} lines were passed over"), None);
        }
        match admitted {
            true => self.forward(level, text, trace),
            false => _ = self.meters.lines_dropped.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn line(&self, kept: &Kept) -> LogLine {
        LogLine {
            number: kept.number,
            at: kept.at,
            plugin: self.plugin.clone(),
            generation: self.generation,
            level: kept.level.into(),
            text: kept.line.get(kept.text_from..).unwrap_or(&kept.line).to_owned(),
            trace_id: kept.trace.map(trace_text),
        }
    }

    fn forward(&self, level: Level, line: &str, trace: Option<TraceId>) {
        let (plugin, version, generation) = (&*self.plugin, self.recorder.version(), self.generation);
        let trace = trace.map(trace_text);
        let trace_id = trace.as_deref();
        // tracing wants the level of an event at compile time, and its fields.
        macro_rules! forward {
            ($level:ident) => {
                tracing::$level!(target: "jackfield::plugin", plugin, version, generation, trace_id, "{line}")
            };
        }
        match level {
            Level::ERROR => forward!(error),
            Level::WARN => forward!(warn),
            Level::INFO => forward!(info),
            Level::DEBUG => forward!(debug),
            _ => forward!(trace),
        }
    }
}

impl Tail {
    fn keep(&mut self, kept: Kept) {
        self.bytes += kept.line.len();
        self.lines.push_back(kept);
        while self.lines.len() > TAIL_LINES_MAX || (self.bytes > TAIL_BYTES_MAX && self.lines.len() > 1) {
            self.bytes -= self.lines.pop_front().map_or(0, |kept| kept.line.len());
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

/// The number of a trace.
type TraceId = [u8; 16];

/// A line of hclog's JSON.
#[derive(Debug, PartialEq, Eq)]
struct Hclog<'a> {
    level: Level,
    /// Its message with the further members behind it.
    text: Cow<'a, str>,
    /// Its member `trace_id`, if that is one as W3C has it.
    trace: Option<TraceId>,
}

fn hclog(line: &str) -> Option<Hclog<'_>> {
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
    let trace = members.get("trace_id").and_then(Value::as_str).and_then(trace_id);
    let Some(level) = level else { return Some(Hclog { level: Level::DEBUG, text: Cow::Borrowed(line), trace }) };
    let mut text = message.to_owned();
    // The trace is not part of the text: it goes with the line.
    let told = |name: &str| name.starts_with('@') || (trace.is_some() && name == "trace_id");
    for (name, value) in members.iter().filter(|(name, _)| !told(name)) {
        let _ = match value {
            Value::String(value) => write!(text, " {name}={value}"),
            value => write!(text, " {name}={value}"),
        };
    }
    Some(Hclog { level, text: Cow::Owned(text), trace })
}

fn trace_text(id: TraceId) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

/// 32 hexadecimal digits in lower case, not all of them 0.
fn trace_id(text: &str) -> Option<TraceId> {
    let is_one = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = is_one.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    number.filter(|number| *number != 0).map(u128::to_be_bytes)
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
    use tokio::sync::broadcast;

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
        assert_eq!(hclog(line), Some(Hclog { level: Level::WARN, text: "disk free=7".into(), trace: None }));
        let unknown = r#"{"@level":"loud","@message":"hello"}"#;
        assert_eq!(hclog(unknown), Some(Hclog { level: Level::DEBUG, text: unknown.into(), trace: None }));
    }

    #[test]
    fn a_line_of_hclog_says_its_trace_if_that_is_one() {
        let of = |line: &str| hclog(line).map(|said| said.text.into_owned());
        let line = r#"{"@level":"warn","@message":"disk","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}"#;
        assert_eq!(of(line).as_deref(), Some("disk"), "it is not said twice");
        let odd = r#"{"@level":"warn","@message":"disk","trace_id":"no id"}"#;
        assert_eq!(of(odd).as_deref(), Some("disk trace_id=no id"));
        let said = |id: Value| {
            let line = serde_json::json!({"@level": "info", "@message": "x", "trace_id": id}).to_string();
            hclog(&line).expect("a line of hclog").trace
        };
        let id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128;
        assert_eq!(said("4bf92f3577b34da6a3ce929d0e0e4736".into()), Some(id.to_be_bytes()));
        for none in [
            "",
            "4bf92f3577b34da6",
            "4BF92F3577B34DA6A3CE929D0E0E4736",
            "+bf92f3577b34da6a3ce929d0e0e4736",
            &"0".repeat(32),
        ] {
            assert_eq!(said(none.into()), None, "{none}");
        }
        assert_eq!(said(7.into()), None);
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

    fn tap(kept_max: usize) -> (Arc<Tap<LogLine>>, broadcast::Receiver<LogLine>) {
        let tap = Arc::new(Tap::new(kept_max));
        let lines = tap.listen();
        (tap, lines)
    }

    #[test]
    fn a_line_is_kept_as_it_came_and_passed_on_without_its_level() {
        let (live, mut lines) = tap(LIVE_LINES_MAX);
        let log = PluginLog::with_tap("resize", 3, live);
        log.stderr("[WARN] disk is nearly full");
        log.stray("hello");
        assert_eq!(log.tail(9), ["[WARN] disk is nearly full"]);
        let passed = [lines.try_recv().expect("a line"), lines.try_recv().expect("a line")];
        assert_eq!(log.lines(9), passed);
        let shown = passed.map(|line| format!("{} {} {} {}", line.plugin, line.generation, line.level, line.text));
        assert_eq!(shown, ["resize 3 warn disk is nearly full", "resize 3 info hello"]);
        assert_eq!(log.lines(1)[0].text, "hello");
    }

    #[test]
    fn a_listener_that_is_too_slow_is_told_how_many_lines_it_lost() {
        let (live, mut lines) = tap(4);
        let log = PluginLog::with_tap("p", 1, live);
        (0..10).for_each(|number| log.stderr(&number.to_string()));
        assert_eq!(lines.try_recv(), Err(broadcast::error::TryRecvError::Lagged(6)));
        assert_eq!(lines.try_recv().expect("a line").text, "6");
    }

    #[test]
    fn a_flood_is_passed_on_in_part_and_counted() {
        let mut flow = Flow::default();
        let begun = Instant::now();
        let admitted = (0..50_000).filter(|_| flow.admit(begun).0).count();
        assert_eq!(admitted, LINES_A_SECOND as usize);
        assert_eq!(flow.admit(begun + Duration::from_secs(1)), (true, 30_000));
        let (live, mut lines) = tap(10);
        let meters = Arc::new(Meters::default());
        let log = PluginLog::with_tap("p", 1, live).metered(&meters);
        (0..100_000).for_each(|number| log.stderr(&number.to_string()));
        assert_eq!(log.tail(1), ["99999"]);
        assert!(meters.lines_dropped.load(Ordering::Relaxed) > 50_000);
        // The listener is slow, too: both losses are told.
        assert!(matches!(lines.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
    }

    #[test]
    fn prints_do_not_push_out_what_was_said() {
        let log = PluginLog::new("p");
        log.stderr("cannot open the database");
        (0..10_000).for_each(|number| log.stray(&number.to_string()));
        assert_eq!(log.tail(1), ["cannot open the database"]);
        assert_eq!(log.lines(usize::MAX).len(), TAIL_LINES_MAX + 1);
    }

    #[test]
    fn a_line_goes_through_json_and_back() {
        let log = PluginLog::new("p");
        log.logged(Level::ERROR, "no room");
        let line = log.lines(1).remove(0);
        let json = serde_json::to_string(&line).expect("JSON");
        assert!(json.contains(r#""plugin":"p","generation":1,"level":"error","text":"no room"}"#), "{json}");
        let back: LogLine = serde_json::from_str(&json).expect("a line");
        assert_eq!((back.number, back.text), (line.number, line.text));
    }
}
