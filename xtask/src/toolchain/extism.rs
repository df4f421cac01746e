//! The reference runtime of Extism: a peer in benchmarks, an oracle in tests.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::pypi;
use crate::paths;

/// Names the library to tests and benchmarks.
pub(crate) const VARIABLE: &str = "JACKFIELD_LIBEXTISM";

/// Its shared library, fetched into the cache.
pub(crate) fn library() -> Result<PathBuf> {
    let dir = pypi::fetch("extism-sys", "1.41.0")?.join("extism_sys");
    let is_library = |file: &PathBuf| file.extension().is_some_and(|end| end == std::env::consts::DLL_EXTENSION);
    paths::list(&dir)?.into_iter().find(is_library).context("the package `extism-sys` has no library")
}
