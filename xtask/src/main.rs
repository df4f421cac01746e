//! `cargo xtask`: what the repository can do for you. This file is its table of contents.
//!
//! Everything here works on a machine where only Rust, a C linker and a package registry are at
//! hand: what else a command needs it installs into a cache (`toolchain.rs` says where).

mod bench;
mod ci;
mod codegen;
mod cross;
mod demo;
mod plugins;
mod test;

mod paths;
mod report;
mod run;
mod tally;
mod toolchain;

use std::process::ExitCode;

use clap::Parser;

/// Builds, tests and shows this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Xtask {
    /// Builds every example plugin, every fixture and the `jackfield` command.
    Plugins,
    /// Greets someone through every example plugin: the first thing to run.
    Demo(demo::Args),
    /// Builds the plugins, then runs the tests of the whole workspace.
    Test(test::Args),
    /// Runs the process mechanism as a Windows build under wine; checks macOS and Windows MSVC.
    Cross(cross::Args),
    /// Runs the benchmarks, or lists them.
    Bench(bench::Args),
    /// Makes the code that is checked in anew, from what describes it.
    Codegen,
    /// Runs what CI runs: all steps, or the ones named.
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let done = match Xtask::parse() {
        Xtask::Plugins => plugins::run(),
        Xtask::Demo(args) => demo::run(&args),
        Xtask::Test(args) => test::run(&args),
        Xtask::Cross(args) => cross::run(&args),
        Xtask::Bench(args) => bench::run(&args),
        Xtask::Codegen => codegen::run(),
        Xtask::Ci(args) => ci::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", run::chain(&error));
            ExitCode::FAILURE
        }
    }
}
