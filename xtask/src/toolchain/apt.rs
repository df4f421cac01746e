//! Debian's packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{Run as _, find_program, say};

/// Whether this machine has Debian's packages (or those of a system made from them).
pub(crate) fn at_hand() -> bool {
    find_program(&["apt-get"]).is_some() && find_program(&["dpkg-deb"]).is_some()
}

/// Installs what is missing of `packages`; needs root then.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    ensure!(at_hand(), "missing here, and this is no Debian to install them from: {names}");
    ensure!(
        Command::new("id").arg("-u").read()? == "0",
        "missing here: {names}; only root can install them: `apt-get install --no-install-recommends {names}`"
    );
    say(format_args!("installing {names}"));
    let install = || {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
        apt.env("DEBIAN_FRONTEND", "noninteractive").run_quietly()
    };
    // The lists of a fresh image are empty and those of an old one name files that are gone.
    install().or_else(|_| update().and_then(|()| install()))
}

fn is_installed(package: &str) -> bool {
    let status = Command::new("dpkg-query").args(["--show", "--showformat=${Status}", package]).read();
    status.is_ok_and(|status| status == "install ok installed")
}

/// The version of `package` that would be installed now.
pub(crate) fn newest_version(package: &str) -> Result<String> {
    match candidate(package)? {
        Some(version) => Ok(version),
        None => {
            update()?;
            candidate(package)?.with_context(|| format!("Debian has no package `{package}` here"))
        }
    }
}

fn candidate(package: &str) -> Result<Option<String>> {
    let policy = Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").read()?;
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    Ok(version.filter(|version| *version != "(none)").map(str::to_owned))
}

/// Fetches the lists of packages: 2 s.
pub(crate) fn update() -> Result<()> {
    Command::new("apt-get").arg("update").run_quietly()
}

/// Fetches `packages` (`name` or `name=version`) into `dir` without installing them.
pub(crate) fn download(packages: &[&str], dir: &Path) -> Result<()> {
    let download = || Command::new("apt-get").arg("download").args(packages).current_dir(dir).run_quietly();
    download().or_else(|_| update().and_then(|()| download()))
}

/// The value of `field` in the control file of a fetched package.
pub(crate) fn field(deb: &Path, field: &str) -> Result<String> {
    Command::new("dpkg-deb").arg("--field").arg(deb).arg(field).read()
}

/// Unpacks the files of a fetched package below `dir`.
pub(crate) fn extract(deb: &Path, dir: &Path) -> Result<()> {
    Command::new("dpkg-deb").arg("--extract").arg(deb).arg(dir).run_quietly()
}
