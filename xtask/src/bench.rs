//! `cargo xtask bench`: the benchmarks of the workspace.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::plugins;
use crate::run::{self, Run as _};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The benchmark to run; without it, their names are printed.
    name: Option<String>,
    /// Handed on to the benchmark.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let names = names()?;
    let Some(name) = &args.name else {
        names.iter().for_each(|name| println!("{name}"));
        return Ok(());
    };
    if !names.contains(name) {
        bail!("no benchmark `{name}`; there are: {}", names.join(", "));
    }
    plugins::build_all(plugins::Progress::Shown)?.tell();
    run::cargo()
        .args(["bench", "--locked", "--workspace", "--bench", name, "--"])
        .args(&args.rest)
        .run()
}

/// The `[[bench]]` targets of all packages, sorted.
fn names() -> Result<Vec<String>> {
    let metadata = run::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .read()?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("`cargo metadata` printed no JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let is_bench = |target: &&Value| {
        target["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|kind| kind == "bench"))
    };
    let mut names: Vec<String> = targets
        .filter(is_bench)
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
