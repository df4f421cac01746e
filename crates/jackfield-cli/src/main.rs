//! The `jackfield` command.
//!
//! Data goes to stdout, talk to stderr. The exit code is 0 when it was done, 1 when the plugin said
//! no, 2 when we could not.

mod args;

mod call;
mod inspect;
mod interface;
mod list;
#[cfg(feature = "wasm")]
mod pack;

mod arguments;
mod latency;
mod output;
mod report;
mod session;

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use args::{Args, InterfaceVerb, Verb};
use session::Session;

/// How a verb ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// The plugin answered with its own error.
    PluginSaidNo,
    /// The data is complete, and says that something is not as it should be.
    NotAllWell,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let talk = args.color.of(&io::stderr());
    output::log_to_stderr(args.verbose);
    match run(args) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::PluginSaidNo) => ExitCode::from(1),
        Ok(Outcome::NotAllWell) => ExitCode::from(2),
        // Whoever read our output has seen enough: `jackfield list | head`.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::say(report::text(&error, talk).trim_end());
            ExitCode::from(2)
        }
    }
}

fn run(args: Args) -> Result<Outcome> {
    let out = output::Out::new(args.json, args.color);
    let dirs = args.plugins;
    match args.verb {
        Verb::List(list) => Session::with(dirs, None, async |session| list::run(session, &list, &out)),
        Verb::Call(call) => {
            let only = call.plugin.clone();
            Session::with(dirs, Some(&only), async |session| call::run(session, call, &out).await)
        }
        Verb::Inspect(inspect) => {
            Session::with(dirs, Some(&inspect.plugin), async |session| inspect::run(session, &inspect, &out))
        }
        Verb::Interface(InterfaceVerb::Export(export)) => {
            Session::with(dirs, Some(&export.plugin), async |session| interface::export(session, &export, &out))
        }
        #[cfg(feature = "wasm")]
        Verb::Pack(pack) => pack::run(&pack, &out),
        Verb::Completions(completions) => {
            let mut script = Vec::new();
            clap_complete::generate(completions.shell, &mut Args::command(), "jackfield", &mut script);
            out.text(&String::from_utf8_lossy(&script))?;
            Ok(Outcome::Done)
        }
    }
}
