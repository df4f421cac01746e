//! The plugin as an executable: JSON lines and frames on stdin and stdout, until the host ends it.
//!
//! The thread that has read a message makes the call; when that takes long, another thread reads on
//! (`jackfield_serve`). Threads are made when they are needed, up to `workers`.
//!
//! As a WASI command (`wasm32-wasip1`) it is the same, with one thread: calls are made one after the
//! other, and a panic is a trap, after its message on stderr.
//!
//! Not here: the messages (`jackfield_protocol::message`), the panic guard (`instance.rs`).

mod session;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use jackfield_serve::{Server, take_pipes};

use crate::instance::{Export, Served, interfaces};
use crate::log::{Level, log};
use session::Session;

/// Time that running calls are given to end once the host is gone.
const END_GRACE: Duration = Duration::from_secs(2);

/// Serves a plugin until the host closes stdin or says `jackfield/shutdown`: the whole of `main`.
///
/// stdout belongs to the protocol from here on: what the plugin prints goes to stderr, and so to
/// the host's log. stdin is empty for the plugin's own code and for the programs it starts.
///
/// The exit code is 0 when the host ended it and 1 when it could not start; the reason is on stderr.
///
/// On `wasm32-unknown-unknown` there is no stdin: it fails at once. There a plugin is the library alone.
pub fn serve(export: &'static Export) -> ExitCode {
    if cfg!(all(target_family = "wasm", target_os = "unknown")) {
        // Nobody would read why.
        return ExitCode::FAILURE;
    }
    if std::io::stdin().is_terminal() {
        eprintln!(
            "`{}` is a Jackfield plugin: a host starts it and speaks to it.\n\
             Try `jackfield call {} FUNCTION ARGUMENTS`.",
            export.name, export.name
        );
        return ExitCode::FAILURE;
    }
    let described = match interfaces(export) {
        Ok(described) => described,
        Err(error) => {
            log(Level::Error, &error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match take_pipes() {
        Ok((input, output)) => {
            let session = Session::new(export, described, Served::new(export), Box::new(output));
            Server::run(session, Box::new(input), export.workers, END_GRACE);
            ExitCode::SUCCESS
        }
        Err(error) => {
            log(Level::Error, &format!("cannot take stdin and stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}
