//! `cargo xtask test`: the plugins, then every test of the workspace.

use std::env::consts::EXE_EXTENSION;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::report::Report;
use crate::run::{self, Run as _, chain, in_ci};
use crate::toolchain::{c, extism, prometheus};
use crate::{paths, plugins};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Handed on to `cargo test`: a filter, or `-p jackfield --test native_conformance`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut report = Report::start()?;
    let tested = all(&args.rest, &mut report);
    report.close().and(tested)
}

/// What the tests are built with, each time: other features would be other dependencies.
const TEST: &[&str] = &["test", "--workspace", "--locked", "--features", run::FEATURES];

/// Builds the plugins and runs the tests that `rest` selects.
pub(crate) fn all(rest: &[String], report: &mut Report) -> Result<()> {
    let built = plugins::build_for_tests(build_jackfield()?)?;
    ensure!(built.left_out.is_empty() || !in_ci(), "{} plugins left out in CI", built.left_out.len());
    built.tell();
    for left_out in &built.left_out {
        report.skip(left_out.to_string());
    }
    // A test compiles `jackfield.h` as C++ too; where it cannot, it says so itself.
    let _ = c::compiler_plus_plus();
    let mut cargo = run::cargo();
    // One broken test must not hide the others.
    cargo.args(TEST).arg("--no-fail-fast").args(rest);
    cargo.env("JACKFIELD_SKIPS", report.skips_file());
    // Plugins inherit it, and then the last words of one that panics are its stack, and not why.
    cargo.env("RUST_BACKTRACE", "0");
    cargo.env("JACKFIELD_FIXTURES", paths::target().join("fixtures"));
    cargo.env("JACKFIELD_RUNNER", paths::target().join("release/jackfield-runner").with_extension(EXE_EXTENSION));
    // Without it a test says that it was left out.
    if let Ok(library) = extism::library() {
        cargo.env(extism::VARIABLE, library);
    }
    match prometheus::programs() {
        Ok(programs) => _ = cargo.env(prometheus::VARIABLE, programs),
        Err(error) => {
            ensure!(!in_ci(), "{}", chain(&error));
            report.skip(format!("what Prometheus says of `deploy/`: {}", chain(&error)));
        }
    }
    report.count(&mut cargo)
}

/// The `jackfield` command as the tests have it. A test of its own brings it along.
fn build_jackfield() -> Result<PathBuf> {
    run::cargo().args(TEST).args(["--no-run", "--test", "pack"]).run()?;
    Ok(paths::target().join("debug/jackfield").with_extension(EXE_EXTENSION))
}
