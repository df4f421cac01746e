//! Where things are: the repository's own directories and the cache of toolchains.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use anyhow::{Context, Result};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the repository")
}

/// Cargo's target directory: `CARGO_TARGET_DIR` where it is set, as cargo does it.
pub(crate) fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Toolchains outlive `cargo clean` and are shared between clones: `JACKFIELD_TOOLCHAINS`, or
/// `jackfield-toolchains` in the user's cache directory.
pub(crate) fn toolchains() -> Result<PathBuf> {
    let dir = match env::var_os("JACKFIELD_TOOLCHAINS") {
        Some(dir) => PathBuf::from(dir),
        None => user_cache()?.join("jackfield-toolchains"),
    };
    make_dir(&dir)?;
    Ok(dir)
}

fn user_cache() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("XDG_CACHE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
        return Ok(PathBuf::from(dir));
    }
    let home = env::home_dir().context("no home directory: set `JACKFIELD_TOOLCHAINS`")?;
    Ok(if cfg!(target_os = "macos") {
        home.join("Library/Caches")
    } else if cfg!(windows) {
        home.join("AppData/Local")
    } else {
        home.join(".cache")
    })
}

/// Makes `dir` and its parents, unless they are there.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the directory `{}`", dir.display()))
}

/// Removes `dir` with all that is in it, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The entries of `dir`, sorted, so that what we do with them does not depend on the disk.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list `{}`", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// Puts a copy of `from` at `to`, unless an equal one is there.
///
/// The copy appears by a rename. Writing into the old file would change a library under a host
/// that has it mapped, and kill it.
pub(crate) fn install(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read `{}`", from.display()))?;
    let mode = |path: &Path| path.metadata().map(|file| file.permissions()).ok();
    if fs::read(to).is_ok_and(|old| old == new) && mode(from) == mode(to) {
        return Ok(());
    }
    let neighbour = to.with_added_extension("new");
    let done = fs::copy(from, &neighbour).and_then(|_| fs::rename(&neighbour, to));
    done.with_context(|| format!("cannot write `{}`", to.display()))
}
