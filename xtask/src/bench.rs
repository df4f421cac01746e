//! `cargo xtask bench`: the benchmarks of the workspace.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::plugins;
use crate::run::{self, Run as _, chain, say};
use crate::toolchain::extism;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The benchmark to run; without it, their names are printed.
    name: Option<String>,
    /// Handed on to the benchmark.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let benches = benches()?;
    let Some(wanted) = &args.name else {
        benches.iter().for_each(|bench| println!("{}", bench.name));
        return Ok(());
    };
    let Some(bench) = benches.iter().find(|bench| bench.name == *wanted) else {
        let names: Vec<_> = benches.iter().map(|bench| bench.name.as_str()).collect();
        bail!("no benchmark `{wanted}`; there are: {}", names.join(", "));
    };
    plugins::build_all(plugins::Progress::Shown)?.tell();
    let mut cargo = run::cargo();
    cargo.args(["bench", "--locked", "--package", &bench.package, "--bench", &bench.name, "--"]).args(&args.rest);
    // Where it is set, a peer takes a backtrace of each error that it keeps to itself, and is three times slower.
    cargo.env_remove("RUST_BACKTRACE");
    match extism::library() {
        Ok(library) => {
            cargo.env(extism::VARIABLE, library);
        }
        Err(error) => say(format_args!("without the reference runtime of Extism: {}", chain(&error))),
    }
    cargo.run()
}

struct Bench {
    name: String,
    package: String,
}

/// The `[[bench]]` targets of all packages.
fn benches() -> Result<Vec<Bench>> {
    let metadata = run::cargo().args(["metadata", "--no-deps", "--format-version", "1", "--locked"]).read()?;
    let metadata: Value = serde_json::from_str(&metadata).context("`cargo metadata` printed no JSON")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut benches = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let kinds = target["kind"].as_array();
            if kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "bench")) {
                benches.push(Bench { name: text(&target["name"]), package: text(&package["name"]) });
            }
        }
    }
    Ok(benches)
}
