//! Each fuzz target for a minute, two at a time.
//!
//! Built with the flags that `cargo fuzz` sets, on the stable toolchain. New inputs go to
//! `target/fuzz-found/<target>/`, the seeds in `fuzz/seeds/<target>/` stay as they are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::report::Report;
use crate::run::{self, Run as _, say};
use crate::toolchain::{c, rust};

const SECONDS: &str = "60";

/// As many as the smallest machine we care about has cores.
const AT_A_TIME: usize = 2;

/// Coverage counters for libFuzzer and the address sanitizer, as `cargo fuzz` asks for them.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Zsanitizer=address \
    -Ccodegen-units=1 -Cdebug-assertions=on -Coverflow-checks=on";

pub(crate) fn run(_: &mut Report) -> Result<()> {
    let programs = build()?;
    say(format_args!("fuzzing {} targets for {SECONDS} s each", programs.len()));
    let mut broken = Vec::new();
    for pair in programs.chunks(AT_A_TIME) {
        let results: Vec<Result<String>> = thread::scope(|scope| {
            let running: Vec<_> = pair.iter().map(|program| scope.spawn(|| fuzz(program))).collect();
            running.into_iter().map(|thread| thread.join().expect("fuzzing does not panic")).collect()
        });
        for (program, result) in pair.iter().zip(results) {
            match result {
                Ok(done) => println!("fuzz target {}: ok. {done}", name(program)),
                Err(error) => {
                    println!("fuzz target {}: FAILED. {}", name(program), run::chain(&error));
                    broken.push(name(program));
                }
            }
        }
    }
    match broken.is_empty() {
        true => Ok(()),
        false => bail!("fuzz targets that failed: {}", broken.join(" ")),
    }
}

/// Builds a program for each file in `fuzz/fuzz_targets/`.
fn build() -> Result<Vec<PathBuf>> {
    c::compiler_plus_plus()?;
    let fuzz = paths::root().join("fuzz");
    let target_dir = paths::target().join("fuzz");
    let host = rust::host()?;

    let mut cargo = run::cargo();
    // A target is named so that the flags stay off build scripts and macros.
    cargo.current_dir(&fuzz).args(["build", "--release", "--bins", "--locked", "--target", &host]);
    cargo.env("CARGO_TARGET_DIR", &target_dir).env("RUSTFLAGS", RUSTFLAGS).env("RUSTC_BOOTSTRAP", "1");
    cargo.run()?;
    let sources = paths::list(&fuzz.join("fuzz_targets"))?;
    let programs = sources.iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    Ok(programs.map(|source| target_dir.join(&host).join("release").join(name(source))).collect())
}

/// Runs one target and gives the fuzzer's own closing line. What it says goes to a file: a crash
/// is hundreds of lines.
fn fuzz(program: &Path) -> Result<String> {
    let name = name(program);
    let dir = |kind: &str| -> Result<PathBuf> {
        let dir = paths::target().join("fuzz-found").join(&name).join(kind);
        paths::make_dir(&dir).map(|()| dir)
    };
    let log = dir("")?.join("log");
    let mut fuzz = Command::new(program);
    fuzz.arg(format!("-max_total_time={SECONDS}")).arg(format!("-artifact_prefix={}/", dir("crashes")?.display()));
    fuzz.args(["-timeout=10", "-rss_limit_mb=4096"]).arg(dir("corpus")?);
    let seeds = paths::root().join("fuzz/seeds").join(&name);
    if seeds.is_dir() {
        fuzz.arg(seeds);
    }
    let writer = File::create(&log).with_context(|| format!("cannot write `{}`", log.display()))?;
    fuzz.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let result = fuzz.run();
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let line = |start: &str| said.lines().find(|line| line.contains(start)).unwrap_or_default().to_owned();
    result.with_context(|| format!("{} {} (`{}`)", line("panicked at"), line("Test unit written"), log.display()))?;
    Ok(line("Done "))
}

/// A target is called as its source file is.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
