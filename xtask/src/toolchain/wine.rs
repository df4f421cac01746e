//! Wine, to run Windows programs here.
//!
//! Wine is not Windows: a test that passes under it shows that the path runs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{apt, mingw};
use crate::paths;
use crate::run::{Run as _, find_program, say};

/// Wine with a Windows drive of its own, in the cache.
///
/// Dropping it ends wine's server, which would otherwise hold our stdout open for a while.
pub(crate) struct Wine {
    program: PathBuf,
    prefix: PathBuf,
}

impl Wine {
    /// Installs wine if it is missing, and makes the drive: about 10 s and 700 MB, once.
    pub(crate) fn install() -> Result<Wine> {
        mingw::install()?;
        if find().is_none() {
            apt::install(&["wine64"])?;
        }
        let program = find().context("no `wine64` on PATH")?;
        let version = Command::new(&program).arg("--version").read()?;
        let version = version.split_whitespace().next().unwrap_or("unknown").to_owned();
        let wine = Wine { program, prefix: paths::toolchains()?.join(&version) };
        super::once(&wine.prefix, |prefix| {
            say(format_args!("making a Windows drive for {version}"));
            let unfinished = Wine { program: wine.program.clone(), prefix: prefix.to_owned() };
            unfinished.command().args(["wineboot", "--init"]).run_quietly()?;
            // The server writes the registry when it ends; the drive must not be renamed before.
            unfinished.server("--wait")?;
            add_process_prng(&prefix.join("drive_c/windows/system32"))
        })?;
        Ok(wine)
    }

    /// The command that runs a Windows program; [`Wine::variables`] go with it.
    pub(crate) fn runner(&self) -> &Path {
        &self.program
    }

    /// What wine must find in its environment: the drive, no chatter, no window, no questions.
    pub(crate) fn variables(&self) -> [(&'static str, OsString); 5] {
        [
            ("WINEPREFIX", self.prefix.clone().into()),
            ("WINEARCH", "win64".into()),
            ("WINEDEBUG", "-all".into()),
            ("DISPLAY", "".into()),
            ("WINEDLLOVERRIDES", "mscoree=d;mshtml=d;winemenubuilder.exe=d".into()),
        ]
    }

    fn command(&self) -> Command {
        let mut wine = Command::new(&self.program);
        wine.envs(self.variables());
        wine
    }

    /// Speaks to the server of our drive. Its program lies beside wine's, on PATH or not.
    fn server(&self, what: &str) -> Result<()> {
        let mut server = Command::new(self.program.with_file_name("wineserver"));
        server.envs(self.variables()).arg(what).run_quietly()
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        // Fails when no server runs, and then all is well.
        let _ = self.server("--kill");
    }
}

fn find() -> Option<PathBuf> {
    find_program(&["wine64", "wine64-stable", "wine"]).or_else(|| {
        // Debian's package of the 64-bit wine alone has no program on PATH.
        Some(PathBuf::from("/usr/lib/wine/wine64")).filter(|path| path.is_file())
    })
}

/// Adds the one library that every Rust program needs and wine 8 lacks.
///
/// Rust takes its random numbers from `ProcessPrng` in `bcryptprimitives.dll`. Later versions of
/// wine have it; ours hands on to the older function that does the same.
fn add_process_prng(system32: &Path) -> Result<()> {
    let dll = system32.join("bcryptprimitives.dll");
    if dll.exists() {
        return Ok(());
    }
    let source = system32.join("bcryptprimitives.c");
    fs::write(&source, include_str!("bcryptprimitives.c"))?;
    let mut gcc = Command::new(mingw::GCC);
    gcc.args(["-shared", "-O2", "-s", "-o"]).arg(&dll).arg(&source).arg("-ladvapi32").run_quietly()?;
    Ok(fs::remove_file(&source)?)
}
