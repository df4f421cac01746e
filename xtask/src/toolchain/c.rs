//! C and C++ compilers for this host.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::apt;
use crate::run::find_program;

/// The machine's C compiler, installed from Debian if there is none.
pub(crate) fn compiler() -> Result<PathBuf> {
    if let Some(cc) = find() {
        return Ok(cc);
    }
    apt::install(&["gcc", "libc6-dev"])?;
    find().context("no C compiler on PATH")
}

/// The machine's C++ compiler, installed from Debian if there is none.
pub(crate) fn compiler_plus_plus() -> Result<PathBuf> {
    let find = || find_program(&["c++", "g++", "clang++"]);
    if let Some(compiler) = find() {
        return Ok(compiler);
    }
    apt::install(&["g++"])?;
    find().context("no C++ compiler on PATH")
}

fn find() -> Option<PathBuf> {
    find_program(&["cc", "gcc", "clang"])
}
