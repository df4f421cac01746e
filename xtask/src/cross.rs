//! `cargo xtask cross`: the systems we do not run on.
//!
//! Windows: the process mechanism's conformance suite is built for Windows and run under wine.
//! macOS and Windows MSVC: the crates are checked, not linked and not run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::report::{Report, UNAVAILABLE_HERE};
use crate::run::{self, Run as _, say};
use crate::toolchain::rust::Rust;
use crate::toolchain::rust_tree::Std;
use crate::toolchain::wine::Wine;
use crate::{paths, plugins};

const WINDOWS: &str = "x86_64-pc-windows-gnu";
const CHECKED: &[&str] = &["aarch64-apple-darwin", "x86_64-pc-windows-msvc"];
const CHECKED_PACKAGES: &[&str] =
    &["jackfield-protocol", "jackfield-plugin", "jackfield", "jackfield-runner", "jackfield-cli"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The Windows build under wine.
    Windows,
    /// The checks for macOS and Windows MSVC.
    Check,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut report = Report::start()?;
    let done = match args.only {
        None => all(&mut report),
        Some(Part::Windows) => windows(&mut report),
        Some(Part::Check) => check(),
    };
    report.close().and(done)
}

/// Both parts; the second also when the first fails.
pub(crate) fn all(report: &mut Report) -> Result<()> {
    let windows = windows(report).context("the Windows build under wine");
    check().context("the checks for other systems").and(windows)
}

/// Builds the suite and the fixtures for Windows, and runs the suite under wine.
fn windows(report: &mut Report) -> Result<()> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        report.skip(format!("{UNAVAILABLE_HERE} the Windows build: wine runs only on x86-64 Linux here"));
        return Ok(());
    }
    let wine = Wine::install()?;
    let rust = Rust::for_targets(&[WINDOWS], Std::ToBuild)?;

    let fixtures = cross_dir().join("fixtures");
    let mut build = rust.cargo(&cross_dir());
    build.args(["build", "--locked", "--target", WINDOWS]).args(run::UNOPTIMIZED);
    plugins::build_fixture_programs(build, &fixtures)?;

    let mut test = rust.cargo(&cross_dir());
    test.args(["test", "--locked", "--target", WINDOWS, "-p", "jackfield", "--no-default-features"]);
    test.args(["--features", "process", "--test", "process_conformance"]).args(run::UNOPTIMIZED);
    test.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", wine.runner()).envs(wine.variables());
    test.env("JACKFIELD_FIXTURES", windows_path(&fixtures));
    test.env("JACKFIELD_SKIPS", windows_path(report.skips_file()));
    report.count(&mut test)
}

/// Type-checks the crates for systems that nothing here can run.
fn check() -> Result<()> {
    let rust = Rust::for_targets(CHECKED, Std::ToCheck)?;
    say(format_args!("checking for {}", CHECKED.join(" and ")));
    let mut check = rust.cargo(&cross_dir());
    check.args(["check", "--locked"]);
    for target in CHECKED {
        check.args(["--target", target]);
    }
    for package in CHECKED_PACKAGES {
        check.args(["-p", package]);
    }
    // Without WebAssembly, which compiles C for the target.
    check.args(["--no-default-features", "--features", "jackfield/native,jackfield/process"]);
    check.run()
}

/// A target directory apart: the compiler can be another one than the host's.
fn cross_dir() -> PathBuf {
    paths::target().join("cross")
}

/// Our root directory is drive Z to a program under wine.
fn windows_path(path: &Path) -> String {
    format!("Z:{}", path.to_string_lossy().replace('/', "\\"))
}
