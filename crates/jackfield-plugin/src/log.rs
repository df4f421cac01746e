//! Lines for the host's log.

use std::fmt;
use std::io::Write as _;
use std::sync::OnceLock;

use crate::trace::trace_context;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// Something happened.
    Info,
    /// For whoever looks for a mistake.
    Debug,
    /// Everything.
    Trace,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        })
    }
}

type Sink = Box<dyn Fn(Level, &str) + Send + Sync>;

static SINK: OnceLock<Sink> = OnceLock::new();

/// Writes a line to the host's log, under the plugin's name.
///
/// Before the plugin runs, and where no host listens, it goes to stderr. What is logged on the thread of a call whose
/// trace is known belongs to that trace.
pub fn log(level: Level, message: &str) {
    match SINK.get() {
        Some(sink) => sink(level, message),
        // The prefix is what the host, as go-plugin's, reads the level of a line from.
        // `eprintln!` would panic where the host is gone and nobody reads stderr any more.
        None => {
            let _ = match trace_id() {
                None => writeln!(std::io::stderr(), "[{level}] {message}"),
                // A prefix has no room for the trace; what hclog writes, which every host reads too, has.
                Some(trace) => {
                    let (level, message) = (level.to_string().to_ascii_lowercase(), serde_json::Value::from(message));
                    writeln!(
                        std::io::stderr(),
                        "{{\"@level\":\"{level}\",\"@message\":{message},\"trace_id\":\"{trace}\"}}"
                    )
                }
            };
        }
    }
}

/// The trace of the call on this thread, in hexadecimal. Not in WebAssembly, whose host knows it of each line.
pub(crate) fn trace_id() -> Option<String> {
    let context = trace_context().filter(|_| !cfg!(target_family = "wasm"))?;
    Some(format!("{:032x}", u128::from_be_bytes(context.trace_id)))
}

/// Sends what is logged to `sink` from now on; the first one stays.
#[cfg(any(not(target_family = "wasm"), target_os = "unknown"))]
pub(crate) fn send_to(sink: impl Fn(Level, &str) + Send + Sync + 'static) {
    let _ = SINK.set(Box::new(sink));
}
