//! The tests of the code that handles raw memory, interpreted by miri.

use std::process::Command;

use anyhow::Result;

use crate::paths;
use crate::report::{Report, UNAVAILABLE_HERE};
use crate::run::Run as _;

/// miri exists only for nightly Rust; where that is not at hand, the step is left out by name.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    if nightly().args(["miri", "--version"]).run_quietly().is_err() {
        report.skip(format!(
            "{UNAVAILABLE_HERE} miri: no nightly Rust that has it \
             (`rustup toolchain install nightly --component miri,rust-src`)"
        ));
        return Ok(());
    }
    let mut miri = nightly();
    // Only unit tests: the others start compilers, which miri cannot.
    miri.args([
        "miri",
        "test",
        "--locked",
        "--lib",
        "-p",
        "jackfield-plugin",
        "-p",
        "jackfield-protocol",
        "-p",
        "jackfield-serve",
    ]);
    // What a native plugin registers is leaked on purpose (docs/guarantees.md).
    // Tests read manifests and clocks, which miri's isolation forbids. Property tests run few
    // cases: a case costs a thousand times what it costs natively.
    miri.env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-ignore-leaks").env("PROPTEST_CASES", "4");
    miri.env("CARGO_TARGET_DIR", paths::target().join("miri"));
    report.count(&mut miri)
}

fn nightly() -> Command {
    let mut cargo = Command::new("rustup");
    cargo.args(["run", "nightly", "cargo"]).current_dir(paths::root());
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
        cargo.env_remove(name);
    }
    cargo
}
