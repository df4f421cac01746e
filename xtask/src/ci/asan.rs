//! The code that handles raw memory, under the address sanitizer: both sides of the native tables, with
//! real libraries between them, which miri cannot load.

use anyhow::Result;

use crate::paths;
use crate::report::{Report, UNAVAILABLE_HERE};
use crate::run;
use crate::toolchain::rust;

/// Runs on the stable toolchain, as the fuzz targets do, and only on Linux.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let host = rust::host()?;
    if !host.contains("linux") {
        report.skip(format!("{UNAVAILABLE_HERE} asan: the address sanitizer is run on Linux only"));
        return Ok(());
    }
    let mut tests = run::cargo();
    // A target is named so that the flag stays off build scripts and macros.
    tests.args(["test", "--locked", "--target", &host, "-p", "jackfield-plugin", "-p", "jackfield"]);
    tests.args(["--lib", "--test", "native_conformance"]).args(run::UNOPTIMIZED);
    // `asan` leaves out what the other tests depend on (`crates/jackfield/Cargo.toml`).
    tests.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address --cfg asan");
    // What a native plugin registers is leaked on purpose (docs/guarantees.md).
    tests.env("ASAN_OPTIONS", "detect_leaks=0");
    tests.env("CARGO_TARGET_DIR", paths::target().join("asan"));
    tests.env("JACKFIELD_FIXTURES", paths::target().join("fixtures"));
    report.count(&mut tests)
}
