//! C and C++ compilers for this host, and a C compiler for WebAssembly.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::run::{Run as _, find_program};

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

/// A clang that compiles and links `--target=wasm32`, installed from Debian if there is none.
pub(crate) fn wasm_compiler() -> Result<PathBuf> {
    if let Some(clang) = find_wasm() {
        return Ok(clang);
    }
    apt::install(&["clang", "lld"])?;
    find_wasm().context("no `clang` on PATH that can make wasm32, with `wasm-ld`")
}

fn find() -> Option<PathBuf> {
    find_program(&["cc", "gcc", "clang"])
}

/// Apple's clang, for one, has neither the target nor the linker.
fn find_wasm() -> Option<PathBuf> {
    let clang = find_program(&["clang"])?;
    let says = |option: &str| Command::new(&clang).arg(option).read().ok();
    let has_target = says("--print-targets")?.lines().any(|line| line.trim_start().starts_with("wasm32 "));
    // It prints the bare name back when it finds none beside itself.
    let linker = says("--print-prog-name=wasm-ld")?;
    let has_linker = Path::new(&linker).is_file() || find_program(&["wasm-ld"]).is_some();
    (has_target && has_linker).then_some(clang)
}
