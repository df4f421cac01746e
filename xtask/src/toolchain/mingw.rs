//! The compiler and linker for Windows (GNU) programs.

use anyhow::{Result, ensure};

use super::apt;
use crate::run::find_program;

/// The C compiler for 64-bit Windows; Rust's target of that name links with it.
pub(crate) const GCC: &str = "x86_64-w64-mingw32-gcc";

/// Sees to it that [`GCC`] is on `PATH`.
pub(crate) fn install() -> Result<()> {
    if find_program(&[GCC]).is_none() {
        apt::install(&["gcc-mingw-w64-x86-64-posix"])?;
    }
    ensure!(find_program(&[GCC]).is_some(), "no `{GCC}` on PATH");
    Ok(())
}
