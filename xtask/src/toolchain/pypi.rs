//! Programs that come ready-made in a Python package.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::paths;
use crate::run::{Run as _, find_program, say};

/// The machine's Python 3, installed from Debian if there is none.
pub(crate) fn python() -> Result<PathBuf> {
    if let Some(python) = find_python() {
        return Ok(python);
    }
    apt::install(&["python3"])?;
    find_python().context("no `python3` on PATH")
}

fn find_python() -> Option<PathBuf> {
    let names: &[&str] = if cfg!(windows) { &["python3", "python"] } else { &["python3"] };
    find_program(names)
}

/// The directory in the cache that `package` at `version` is unpacked into.
pub(crate) fn fetch(package: &str, version: &str) -> Result<PathBuf> {
    let dir = paths::toolchains()?.join(format!("{package}-{version}"));
    super::once(&dir, |dir| {
        let python = python()?;
        let mut has_pip = Command::new(&python);
        if has_pip.args(["-m", "pip", "--version"]).read().is_err() {
            apt::install(&["python3-pip"])?;
        }
        say(format_args!("fetching {package} {version}"));
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"]);
        pip.arg(dir).arg(format!("{package}=={version}")).run_quietly()
    })?;
    Ok(dir)
}
