//! The `jackfield` command.
//!
//! Data goes to stdout, talk to stderr. The exit code is 0 when it was done, 1 when the plugin said
//! no, 2 when we could not.

mod args;

mod call;
mod config;
#[cfg(feature = "otel")]
mod connector;
mod crashes;
mod events;
mod health;
mod inspect;
mod interface;
mod lifecycle;
mod list;
mod lock;
mod logs;
#[cfg(feature = "wasm")]
mod pack;
mod quarantine;
mod run;

mod service;

mod arguments;
mod body;
mod fault;
mod latency;
mod output;
mod own;
mod report;
mod running;
mod session;
#[cfg(unix)]
mod socket;
#[cfg(feature = "otel")]
mod telemetry;
mod token;

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use args::{Args, ConfigVerb, InterfaceVerb, Verb};
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
    // A service says in its configuration how it logs.
    if !matches!(args.verb, Verb::Run(_)) {
        output::log_to_stderr(args.verbose);
    }
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
    let place = args.place();
    match args.verb {
        Verb::List(list) => Session::with(place, None, async |session| list::run(session, &list, &out).await),
        Verb::Call(call) => {
            let only = call.plugin.clone();
            Session::with(place, Some(&only), async |session| call::run(session, call, &out).await)
        }
        Verb::Inspect(inspect) => {
            Session::with(place, Some(&inspect.plugin), async |session| inspect::run(session, &inspect, &out).await)
        }
        Verb::Interface(InterfaceVerb::Export(export)) => {
            Session::with(place, Some(&export.plugin), async |session| interface::export(session, &export, &out).await)
        }
        Verb::Lock(lock) => lock::run(place, lock, &out),
        Verb::Run(run) => run::run(run, place, args.state_dir, args.verbose),
        Verb::Config(ConfigVerb::Check(check)) => config::check(&check, &out),
        Verb::Reload(reload) => lifecycle::reload(&place, &reload, &out),
        Verb::Disable(disable) => lifecycle::disable(&place, &disable, &out),
        Verb::Enable(enable) => lifecycle::enable(&place, &enable, &out),
        Verb::Rescan(_) => lifecycle::rescan(&place, &out),
        Verb::Quarantine(quarantine) => quarantine::run(&place, args.state_dir.as_deref(), &quarantine, &out),
        Verb::Crashes(crashes) => crashes::run(&place, args.state_dir.as_deref(), &crashes, &out),
        Verb::Logs(logs) => logs::run(&place, &logs, &out),
        Verb::Health(_) => health::run(&place, &out),
        Verb::Events(_) => events::run(&place, &out),
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
