//! `cargo xtask ci`: what CI runs, step by step.
//!
//! A step that fails does not stop the others, so that one run tells all that is wrong. The last
//! line is the number of tests, summed over all runs of libtest.

mod asan;
mod deny;
mod fuzz;
mod miri;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::report::Report;
use crate::run::{self, Run as _, chain};
use crate::{cross, test};

/// A step: its name, and what it does.
struct Step {
    name: &'static str,
    run: fn(&mut Report) -> Result<()>,
}

/// In the order they run: the quick ones that people trip over first.
const STEPS: &[Step] = &[
    Step { name: "fmt", run: fmt },
    Step { name: "test", run: |report| test::all(&[], report) },
    Step { name: "clippy", run: clippy },
    Step { name: "doc", run: doc },
    Step { name: "deny", run: deny::run },
    Step { name: "miri", run: miri::run },
    Step { name: "asan", run: asan::run },
    Step { name: "fuzz", run: fuzz::run },
    Step { name: "cross", run: cross::all },
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The steps to run; without it, all: fmt test clippy doc deny miri asan fuzz cross.
    steps: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(unknown) = args.steps.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        bail!("no step `{unknown}`; there are: {}", names.join(" "));
    }
    let mut report = Report::start()?;
    let mut table = String::new();
    let mut failed = Vec::new();
    for step in STEPS {
        if !args.steps.is_empty() && !args.steps.iter().any(|name| name == step.name) {
            continue;
        }
        println!("\n==> {}", step.name);
        let (begin, skips) = (Instant::now(), report.skip_count());
        let done = (step.run)(&mut report);
        let result = match done {
            Ok(()) if report.skip_count() > skips => "ok, but not all of it",
            Ok(()) => "ok",
            Err(error) => {
                println!("{}", chain(&error));
                failed.push(step.name);
                "FAILED"
            }
        };
        println!("<== {}: {result} after {}", step.name, seconds(begin.elapsed()));
        writeln!(table, "{:<8}{:>9}  {result}", step.name, seconds(begin.elapsed())).expect("a String takes all text");
    }
    print!("\n{table}");
    let closed = report.close();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(" "));
    }
    closed
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn fmt(_: &mut Report) -> Result<()> {
    run::cargo().args(["fmt", "--all", "--check"]).run()
}

fn clippy(_: &mut Report) -> Result<()> {
    let mut cargo = run::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--locked", "--features", run::FEATURES]);
    cargo.args(["--", "-D", "warnings"]).run()
}

fn doc(_: &mut Report) -> Result<()> {
    let mut cargo = run::cargo();
    cargo
        .args(["doc", "--workspace", "--no-deps", "--locked", "--features", run::FEATURES])
        .env("RUSTDOCFLAGS", "-D warnings");
    cargo.run()
}
