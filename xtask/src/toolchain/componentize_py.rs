//! componentize-py, which makes a WebAssembly component of Python.

use std::process::Command;

use anyhow::Result;

use super::pypi;

/// componentize-py, about to get its arguments. Fetched into the cache: 47 MB.
pub(crate) fn command() -> Result<Command> {
    let dir = pypi::fetch("componentize-py", "0.25.1")?;
    let mut python = Command::new(pypi::python()?);
    // Not the script in `bin`: its first line names the Python of who fetched it.
    python.arg("-c").arg("from componentize_py import script; script()").env("PYTHONPATH", dir);
    Ok(python)
}
