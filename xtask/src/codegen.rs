//! Code that is made of descriptions and checked in, so that nobody who builds the repository needs what
//! makes it: Rust from `.proto` files.
//!
//! A test says when what is checked in is stale. What makes the code is a feature of this crate, which
//! `cargo xtask codegen` turns on for itself: the first command of a newcomer does not wait for it.

use anyhow::Result;

#[cfg(any(test, feature = "codegen"))]
mod rust;

/// Makes all of it anew.
#[cfg(feature = "codegen")]
pub(crate) fn run() -> Result<()> {
    rust::write()?;
    // Go, for the SDK in that language, belongs here: `codegen/go.rs`, from the same `rust::PACKAGES`.
    Ok(())
}

/// Runs this command again, with what makes the code.
#[cfg(not(feature = "codegen"))]
pub(crate) fn run() -> Result<()> {
    use crate::run::Run as _;

    crate::run::cargo().args(["run", "--quiet", "-p", "xtask", "--features", "codegen", "--", "codegen"]).run()
}
