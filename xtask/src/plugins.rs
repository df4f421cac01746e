//! `cargo xtask plugins`: every example plugin and fixture, each in the directory a host looks at.
//!
//! `target/plugins/<name>/` and `target/fixtures/<name>/` hold the plugin and its `plugin.toml`,
//! `target/release/` the `jackfield` command and its runner. All Rust is built by one run of
//! cargo, so that dependencies are built once; nothing is rewritten that has not changed.

mod build;
mod table;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::run::{self, chain, in_ci, say};

use build::RustArtefacts;
use table::{Kind, PLUGINS, Plugin};

/// Programs that are no plugins, built in the same run: the command, the runner, the demo.
const PROGRAMS: &[&str] = &["jackfield-cli", "jackfield-runner", "jackfield-demo"];

/// The command: builds all and names what was left out, which in CI is an error.
pub(crate) fn run() -> Result<()> {
    let built = build_all(Progress::Shown)?;
    built.tell();
    ensure!(built.left_out.is_empty() || !in_ci(), "{} plugins left out in CI", built.left_out.len());
    say(format_args!("{} plugins and fixtures in `{}`", built.count, paths::target().display()));
    Ok(())
}

/// Whether cargo tells what it compiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Shown,
    Hidden,
}

/// What [`build_all`] did.
pub(crate) struct Built {
    pub(crate) left_out: Vec<LeftOut>,
    count: usize,
    rust: RustArtefacts,
}

/// A plugin that could not be built here, because a toolchain is missing.
pub(crate) struct LeftOut {
    name: &'static str,
    why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin `{}` is not built: {}", self.name, self.why)
    }
}

impl Built {
    /// Names what was left out, on stderr.
    pub(crate) fn tell(&self) {
        for left_out in &self.left_out {
            say(left_out);
        }
    }

    /// The program of the package in `source`, a directory of the repository.
    pub(crate) fn program(&self, source: &str) -> Result<&Path> {
        self.rust.program(&paths::root().join(source))
    }
}

/// Builds all for this host. An error is broken code; a missing toolchain is given back.
pub(crate) fn build_all(progress: Progress) -> Result<Built> {
    let mut cargo = run::cargo();
    cargo.args(["build", "--release", "--locked"]);
    if progress == Progress::Hidden {
        cargo.arg("--quiet");
    }
    select(&mut cargo, PLUGINS.iter().filter_map(Plugin::package).chain(PROGRAMS.iter().copied()));
    let rust = RustArtefacts::build(&mut cargo)?;

    let mut left_out = Vec::new();
    for plugin in PLUGINS {
        let all = paths::target().join(if plugin.is_fixture() { "fixtures" } else { "plugins" });
        if let Some(why) = put(plugin, &rust, &all.join(plugin.name))? {
            left_out.push(LeftOut { name: plugin.name, why });
        }
    }
    Ok(Built { count: PLUGINS.len() - left_out.len(), left_out, rust })
}

/// Builds the fixtures that are programs with `cargo`, which brings `build` and a target along,
/// into `fixtures_dir`.
pub(crate) fn build_fixture_programs(mut cargo: Command, fixtures_dir: &Path) -> Result<()> {
    let fixtures = || PLUGINS.iter().filter(|plugin| plugin.is_fixture() && plugin.kind == Kind::RustProgram);
    cargo.arg("--bins");
    select(&mut cargo, fixtures().filter_map(Plugin::package));
    let rust = RustArtefacts::build(&mut cargo)?;
    for plugin in fixtures() {
        put(plugin, &rust, &fixtures_dir.join(plugin.name))?;
    }
    Ok(())
}

/// Builds one plugin into `dir`, or gives back which toolchain it would need.
fn put(plugin: &Plugin, rust: &RustArtefacts, dir: &Path) -> Result<Option<String>> {
    paths::make_dir(dir)?;
    let source = paths::root().join(plugin.source);
    let built = match plugin.kind {
        Kind::RustLibrary => rust.put_library(&source, dir),
        Kind::RustProgram => rust.put_program(&source, dir),
        Kind::C { file } => build::c_library(&source.join(file), dir),
        Kind::GoProgram => build::go_program(&source, dir),
        Kind::GoLibrary => build::go_library(&source, dir),
        Kind::Python { file } => build::python_script(&source.join(file), dir),
    };
    match built {
        Ok(()) => paths::install(&manifest_of(plugin), &dir.join("plugin.toml")).map(|()| None),
        Err(build::Error::Toolchain(error)) => {
            // What an earlier build left would look like a working plugin.
            paths::remove_dir(dir)?;
            Ok(Some(chain(&error)))
        }
        Err(build::Error::Code(error)) => Err(error).with_context(|| format!("cannot build `{}`", plugin.name)),
    }
}

/// `<source>/<name>.plugin.toml`: one source can make several plugins.
fn manifest_of(plugin: &Plugin) -> PathBuf {
    paths::root().join(plugin.source).join(format!("{}.plugin.toml", plugin.name))
}

/// Adds `-p <package>` for each package once.
fn select<'a>(cargo: &mut Command, packages: impl Iterator<Item = &'a str>) {
    let mut packages: Vec<&str> = packages.collect();
    packages.sort_unstable();
    packages.dedup();
    for package in packages {
        cargo.args(["-p", package]);
    }
}
