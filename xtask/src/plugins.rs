//! `cargo xtask plugins`: every example plugin and fixture, each in the directory a host looks at.
//!
//! `target/plugins/<name>/` and `target/fixtures/<name>/` hold the plugin and its `plugin.toml`,
//! `target/fixtures/grpc/` the hosts of go-plugin, `target/release/` the `jackfield` command and its
//! runner. All Rust for one target and one set of features is built by one run of cargo, so that
//! dependencies are built once; nothing is rewritten that has not changed.

mod build;
mod recipe;
mod table;
mod wasm;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};

use crate::paths;
use crate::run::{self, chain, in_ci, say};
use crate::toolchain::rust::Rust;
use crate::toolchain::rust_tree::Std;

use build::RustArtefacts;
use table::{GO_TOOLS, Kind, PLUGINS, Plugin, packages};

/// Programs that are no plugins, built in the same run: the command, the runner, the demo.
const PROGRAMS: &[&str] = &["jackfield-cli", "jackfield-runner", "jackfield-demo"];

/// The same for tests, which bring a `jackfield` of their own: what compiles WebAssembly is then not built twice.
const PROGRAMS_FOR_TESTS: &[&str] = &["jackfield-runner"];

/// The targets of modules and of WASI commands.
const MODULE: &str = "wasm32-unknown-unknown";
const COMMAND: &str = "wasm32-wasip1";

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
    rust: RustBuilt,
}

/// What the runs of cargo made.
struct RustBuilt {
    host: RustArtefacts,
    grpc: RustArtefacts,
    /// The `jackfield` command, which makes components of modules.
    jackfield: PathBuf,
    /// Or why there is no compiler for it.
    wasm: Result<RustWasm, String>,
}

struct RustWasm {
    modules: RustArtefacts,
    commands: RustArtefacts,
}

/// What could not be built here, because a toolchain is missing.
pub(crate) struct LeftOut {
    name: &'static str,
    why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not built: {}", self.name, self.why)
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
        self.rust.host.program(&paths::root().join(source))
    }
}

impl RustBuilt {
    fn wasm(&self) -> Result<&RustWasm, build::Error> {
        self.wasm.as_ref().map_err(|why| build::Error::Toolchain(anyhow!("{why}")))
    }
}

/// Builds all. An error is broken code; a missing toolchain is given back.
pub(crate) fn build_all(progress: Progress) -> Result<Built> {
    let host = build_host(progress, PROGRAMS)?;
    let jackfield = host.program(&paths::root().join("crates/jackfield-cli"))?.to_owned();
    build_rest(progress, host, jackfield)
}

/// Builds all plugins, and of the programs the runner, with a `jackfield` that there is.
pub(crate) fn build_for_tests(jackfield: PathBuf) -> Result<Built> {
    build_rest(Progress::Shown, build_host(Progress::Shown, PROGRAMS_FOR_TESTS)?, jackfield)
}

fn build_host(progress: Progress, programs: &[&'static str]) -> Result<RustArtefacts> {
    let mut cargo = run::cargo();
    cargo.args(["build", "--release", "--locked"]);
    build_rust(cargo, progress, packages(&[Kind::RustLibrary, Kind::RustProgram]).chain(programs.iter().copied()))
}

fn build_rest(progress: Progress, host: RustArtefacts, jackfield: PathBuf) -> Result<Built> {
    let rust = RustBuilt { host, grpc: build_grpc(progress)?, jackfield, wasm: build_wasm(progress)? };

    let mut left_out = Vec::new();
    for plugin in PLUGINS {
        let all = paths::target().join(if plugin.is_fixture() { "fixtures" } else { "plugins" });
        if let Some(why) = put(plugin, &rust, &all.join(plugin.name))? {
            left_out.push(LeftOut { name: plugin.name, why });
        }
    }
    let count = PLUGINS.len() - left_out.len();
    left_out.extend(build_tools()?);
    Ok(Built { count, left_out, rust })
}

/// Builds the fixtures that are programs with `cargo`, which brings `build` and a target along,
/// into `fixtures_dir`.
pub(crate) fn build_fixture_programs(mut cargo: Command, fixtures_dir: &Path) -> Result<()> {
    let fixtures = || PLUGINS.iter().filter(|plugin| plugin.is_fixture() && plugin.kind == Kind::RustProgram);
    cargo.arg("--bins");
    let host = build_rust(cargo, Progress::Shown, fixtures().map(Plugin::package))?;
    let rust = RustBuilt {
        host,
        grpc: RustArtefacts::default(),
        jackfield: PathBuf::new(),
        wasm: Err("it is no program of this system".to_owned()),
    };
    for plugin in fixtures() {
        put(plugin, &rust, &fixtures_dir.join(plugin.name))?;
    }
    Ok(())
}

/// Builds the programs that speak gRPC, apart from the others: what that feature brings along would become
/// part of every plugin that is built in the same run.
fn build_grpc(progress: Progress) -> Result<RustArtefacts> {
    let mut cargo = run::cargo();
    cargo.args(["build", "--release", "--locked"]);
    let mut packages = BTreeSet::new();
    for plugin in PLUGINS {
        if let Kind::RustGrpc { program } = plugin.kind {
            cargo.args(["--bin", program, "--features", &format!("{}/grpc", plugin.package())]);
            packages.insert(plugin.package());
        }
    }
    build_rust(cargo, progress, packages.into_iter())
}

/// Builds what is no plugin, or gives back what could not be built.
fn build_tools() -> Result<Vec<LeftOut>> {
    let dir = paths::target().join("fixtures").join("grpc");
    paths::make_dir(&dir)?;
    let mut left_out = Vec::new();
    for tool in GO_TOOLS {
        match build::go_tool(&paths::root().join(tool.source), tool.package, tool.name, &dir) {
            Ok(()) => {}
            Err(build::Error::Toolchain(error)) => left_out.push(LeftOut { name: tool.name, why: chain(&error) }),
            Err(build::Error::Code(error)) => {
                return Err(error).with_context(|| format!("cannot build `{}`", tool.name));
            }
        }
    }
    Ok(left_out)
}

/// Builds what is WebAssembly from Rust: a run of cargo for each target.
fn build_wasm(progress: Progress) -> Result<Result<RustWasm, String>> {
    let rust = match Rust::for_targets(&[MODULE, COMMAND], Std::ToBuild) {
        Ok(rust) => rust,
        Err(error) => return Ok(Err(chain(&error))),
    };
    let build = |target, what, packages: &mut dyn Iterator<Item = &'static str>| {
        let mut cargo = rust.cargo(&paths::target().join("wasm"));
        cargo.args(["build", "--profile", "wasm", "--locked", "--target", target, what]);
        build_rust(cargo, progress, packages).with_context(|| format!("cannot build the plugins for {target}"))
    };
    Ok(Ok(RustWasm {
        modules: build(MODULE, "--lib", &mut packages(&[Kind::RustModule, Kind::RustComponent]))?,
        commands: build(COMMAND, "--bins", &mut packages(&[Kind::RustCommand]))?,
    }))
}

/// Runs `cargo`, a `cargo build` with its options, for each package once.
fn build_rust<'a>(
    mut cargo: Command,
    progress: Progress,
    packages: impl Iterator<Item = &'a str>,
) -> Result<RustArtefacts> {
    if progress == Progress::Hidden {
        cargo.arg("--quiet");
    }
    let packages: BTreeSet<&str> = packages.collect();
    for package in packages {
        cargo.args(["-p", package]);
    }
    RustArtefacts::build(&mut cargo)
}

/// Builds one plugin into `dir`, or gives back which toolchain it would need.
fn put(plugin: &Plugin, rust: &RustBuilt, dir: &Path) -> Result<Option<String>> {
    paths::make_dir(dir)?;
    match build(plugin, rust, dir) {
        Ok(()) => {
            for file in plugin.description.iter().map(|file| paths::root().join(file)) {
                build::put(&file, dir)?;
            }
            paths::install(&manifest_of(plugin), &dir.join("plugin.toml")).map(|()| None)
        }
        Err(build::Error::Toolchain(error)) => {
            // What an earlier build left would look like a working plugin.
            paths::remove_dir(dir)?;
            Ok(Some(chain(&error)))
        }
        Err(build::Error::Code(error)) => Err(error).with_context(|| format!("cannot build `{}`", plugin.name)),
    }
}

fn build(plugin: &Plugin, rust: &RustBuilt, dir: &Path) -> Result<(), build::Error> {
    let root = paths::root();
    let source = root.join(plugin.source);
    match plugin.kind {
        Kind::RustLibrary => rust.host.put_library(&source, dir),
        Kind::RustProgram => rust.host.put_program(&source, dir),
        Kind::RustGrpc { program } => rust.grpc.put_named_program(&source, program, dir),
        Kind::C { file } => build::c_library(&source.join(file), dir),
        Kind::GoProgram { package } => build::go_program(&source, package, dir),
        Kind::GoLibrary => build::go_library(&source, dir),
        Kind::Python { file } => build::python_script(&source.join(file), dir),
        Kind::RustModule => rust.wasm()?.modules.put_library(&source, dir),
        Kind::RustComponent => wasm::component(&rust.jackfield, rust.wasm()?.modules.library(&source)?, dir),
        Kind::RustCommand => rust.wasm()?.commands.put_program(&source, dir),
        Kind::CModule { file, debug } => wasm::c_module(&source.join(file), debug, dir),
        Kind::GoCommand => wasm::go_command(&source, dir),
        Kind::AssemblyScript { file } => wasm::assemblyscript(&source, file, dir),
        Kind::JavaScript { file, wit } => wasm::javascript(&source, file, &root.join(wit), dir),
        Kind::PythonComponent { file, wit } => wasm::python(&source, file, &root.join(wit), dir),
    }
}

/// `<source>/<name>.plugin.toml`: one source can make several plugins.
fn manifest_of(plugin: &Plugin) -> PathBuf {
    paths::root().join(plugin.source).join(format!("{}.plugin.toml", plugin.name))
}
