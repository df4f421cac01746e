//! Writing: data to stdout, as text or JSON, with colour where it is wanted.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal, Write as _};
use std::time::SystemTime;

use anyhow::Result;
use clap::ValueEnum;
use jackfield::{LogFormat, LogLevel, rfc3339};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::registry::LookupSpan;

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

impl Color {
    /// What that means for a stream.
    pub(crate) fn of(self, stream: &impl IsTerminal) -> Paint {
        let unwanted = || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = || env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        Paint(match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => stream.is_terminal() && !unwanted() && !dumb(),
        })
    }
}

/// Colours text, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// No colour.
    #[cfg(test)]
    pub(crate) const PLAIN: Paint = Paint(false);

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Where data goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    /// Whether a machine reads it.
    pub(crate) json: bool,
    pub(crate) paint: Paint,
}

impl Out {
    pub(crate) fn new(json: bool, color: Color) -> Self {
        Self { json, paint: color.of(&io::stdout()) }
    }

    /// Writes text that ends its own lines.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Writes a value: for a machine on one line, for a person indented.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<()> {
        let text = match self.json {
            true => serde_json::to_string(value)?,
            false => serde_json::to_string_pretty(value)?,
        };
        self.text(&format!("{text}\n"))
    }

    /// Writes a value as one of several, on one line.
    pub(crate) fn line(&self, value: &impl Serialize) -> Result<()> {
        self.text(&format!("{}\n", serde_json::to_string(value)?))
    }
}

/// Writes a line of talk. When stderr is gone, there is nobody to tell.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether the reader of our output has gone.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Forwards the log of host and plugins to stderr, from warnings on, or more of it.
pub(crate) fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => Level::WARN,
        1 => Level::INFO,
        2 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    log.without_time().with_target(false).init();
}

/// Writes the log of a service to stderr, with times.
pub(crate) fn log_of_service(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_timer(Clock).with_target(false).init(),
        LogFormat::Json => log.event_format(JsonLines).init(),
    }
}

struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        to.write_str(&rfc3339::text(SystemTime::now()))
    }
}

/// Each event as an object on a line: `at`, `level`, `target`, `message`, and what else it has.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut members = Members(Map::new());
        event.record(&mut members);
        let Members(mut members) = members;
        members.insert("at".to_owned(), rfc3339::text(SystemTime::now()).into());
        members.insert("level".to_owned(), LogLevel::from(*event.metadata().level()).as_str().into());
        members.insert("target".to_owned(), event.metadata().target().into());
        writeln!(to, "{}", Value::Object(members))
    }
}

struct Members(Map<String, Value>);

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

/// The text without characters that a terminal would act on, for what plugins say of themselves.
/// Ends of lines become spaces.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        let overrides_direction = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c {
            '\n' | '\t' => plain.push(' '),
            c if c.is_control() || overrides_direction => plain.extend(c.escape_unicode()),
            c => plain.push(c),
        }
    }
    plain
}

/// Rows as aligned columns, two spaces apart; the last column is as wide as it is.
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_says_cannot_move_the_cursor() {
        assert_eq!(plain("1.0\x1b[2J\n\u{202e}x"), "1.0\\u{1b}[2J \\u{202e}x");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        assert_eq!(columns(&[row(["NAME", "A", "B"]), row(["é", "long", ""])]), ["NAME  A     B", "é     long"]);
    }

    #[test]
    fn colour_is_used_when_it_was_asked_for() {
        assert_eq!(Color::Always.of(&io::stdout()).red("x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Color::Never.of(&io::stdout()).red("x"), "x");
    }
}
