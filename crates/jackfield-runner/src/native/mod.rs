//! `native`: hosts one shared library and speaks the process protocol for it.
//!
//! To the host this is a program like any other: hello, calls as lines and as frames, in any order. To the
//! library it is a host like any other: the same file, unchanged. An abort, a segmentation fault or a stack
//! overflow of the library ends this process, which is the purpose.
//!
//! Order: take the pipes away from the library, load it, serve (`session`).

mod session;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use jackfield_protocol::message::{self, method};
use jackfield_protocol::runner::EXIT_NOT_RUN;
use jackfield_serve::take_pipes;

pub(crate) fn host(library: &OsString) -> ExitCode {
    match serve(Path::new(library)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("jackfield-runner: cannot host `{}`: {why}", library.to_string_lossy());
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}

fn serve(library: &Path) -> Result<(), String> {
    let (input, output) = take_pipes().map_err(|error| format!("cannot take stdin and stdout: {error}"))?;
    let output = Arc::new(session::Output::new(output));
    let log_to = Arc::clone(&output);
    let log = move |level: i32, text: &str| log_to.send(|line| log_line(line, level, text));
    let spans_to = Arc::clone(&output);
    let lent = jackfield_native::Lent {
        log: Box::new(log),
        spans: Some(Box::new(move |json: &[u8]| spans_to.send_span(json))),
    };
    let registered = jackfield_native::load(library, lent).map_err(|error| error.to_string())?;
    session::Session::new(registered, output).map_err(|error| error.to_string())?.run(input);
    Ok(())
}

/// A line of the library's log, as a program says it.
fn log_line(out: &mut Vec<u8>, level: i32, text: &str) {
    use jackfield_protocol::native::level;

    let level = match level {
        level::ERROR => "error",
        level::WARN => "warn",
        level::DEBUG => "debug",
        level::TRACE => "trace",
        _ => "info",
    };
    let mut params = serde_json::json!({ "level": level, "message": text });
    session::with_parent(|parent| params["traceparent"] = parent.into());
    let params = params.to_string();
    message::write_notification(out, method::LOG, params.as_bytes());
}
