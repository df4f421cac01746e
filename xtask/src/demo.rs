//! `cargo xtask demo`: every example plugin, called through one typed client.

use std::process::Command;

use anyhow::Result;

use crate::run::{Run as _, say};
use crate::{paths, plugins};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Handed on to the demo.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    say("building the example plugins (some minutes the first time)");
    let built = plugins::build_all(plugins::Progress::Hidden)?;
    built.tell();
    let demo = built.program("examples/demo")?;
    Command::new(demo).arg(paths::target().join("plugins")).args(&args.rest).current_dir(paths::root()).run()
}
