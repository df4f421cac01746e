//! One function for each kind of plugin for this host: from its source to a file in its directory.
//!
//! Not here: WebAssembly (`wasm.rs`).

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX, EXE_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::recipe;
use crate::paths;
use crate::run::{self, Run as _};
use crate::toolchain::{c, go::Go, pypi};

/// Why a plugin was not built.
pub(crate) enum Error {
    /// Nothing to build it with: it can be left out.
    Toolchain(anyhow::Error),
    /// It does not build.
    Code(anyhow::Error),
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Error {
        Error::Code(error)
    }
}

/// What one run of cargo made.
#[derive(Default)]
pub(crate) struct RustArtefacts {
    made: Vec<Artefact>,
}

struct Artefact {
    package_dir: PathBuf,
    kind: ArtefactKind,
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArtefactKind {
    Library,
    Program,
}

impl RustArtefacts {
    /// Runs `cargo`, a `cargo build` with its options, and notes the shared libraries and programs.
    pub(crate) fn build(cargo: &mut Command) -> Result<RustArtefacts> {
        let mut made = Vec::new();
        let mut odd_line = None;
        cargo.arg("--message-format=json-render-diagnostics").stdin(Stdio::null());
        let status = cargo.each_line(|line| match serde_json::from_str(line) {
            Ok(message) => made.extend(artefact(&message)),
            Err(_) => odd_line = Some(line.to_owned()),
        })?;
        ensure!(status.success(), "{}", run::failed(cargo, status));
        ensure!(odd_line.is_none(), "cargo said something that is not JSON: {odd_line:?}");
        Ok(RustArtefacts { made })
    }

    /// Puts the shared library of the package in `source` into `dir`.
    pub(crate) fn put_library(&self, source: &Path, dir: &Path) -> Result<(), Error> {
        Ok(put(self.library(source)?, dir)?)
    }

    /// Puts the program of the package in `source` into `dir`.
    pub(crate) fn put_program(&self, source: &Path, dir: &Path) -> Result<(), Error> {
        Ok(put(self.program(source)?, dir)?)
    }

    /// Puts one of the programs of the package in `source` there.
    pub(crate) fn put_named_program(&self, source: &Path, name: &str, dir: &Path) -> Result<(), Error> {
        let named = |file: &Path| file.file_stem().is_some_and(|stem| stem == name);
        let mut programs =
            self.made.iter().filter(|made| made.package_dir == source && made.kind == ArtefactKind::Program);
        let found = programs.find(|made| named(&made.file));
        let found = found.with_context(|| format!("`{}` makes no program `{name}`", source.display()))?;
        Ok(put(&found.file, dir)?)
    }

    /// The shared library, or the WebAssembly module, of the package in `source`.
    pub(crate) fn library(&self, source: &Path) -> Result<&Path> {
        self.find(source, ArtefactKind::Library)
    }

    /// The program of the package in `source`.
    pub(crate) fn program(&self, source: &Path) -> Result<&Path> {
        self.find(source, ArtefactKind::Program)
    }

    fn find(&self, source: &Path, kind: ArtefactKind) -> Result<&Path> {
        let mut found = self.made.iter().filter(|made| made.package_dir == source && made.kind == kind);
        let first = found.next().with_context(|| format!("`{}` makes no {kind:?}", source.display()))?;
        ensure!(found.next().is_none(), "`{}` makes more than one {kind:?}", source.display());
        Ok(&first.file)
    }
}

/// How the files of shared libraries end.
const LIBRARIES: &[&str] = &["so", "dylib", "dll", "wasm"];

/// The shared library or program that a message of cargo tells of.
fn artefact(message: &Value) -> Option<Artefact> {
    let text = |value: &Value| value.as_str().map(PathBuf::from);
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let package_dir = text(&message["manifest_path"])?.parent()?.to_owned();
    if let Some(file) = text(&message["executable"]) {
        return Some(Artefact { package_dir, kind: ArtefactKind::Program, file });
    }
    let files = message["filenames"].as_array()?.iter().filter_map(text);
    let is_library = |file: &PathBuf| file.extension().is_some_and(|ext| LIBRARIES.iter().any(|one| ext == *one));
    Some(Artefact { package_dir, kind: ArtefactKind::Library, file: files.into_iter().find(is_library)? })
}

/// Compiles one C file against `jackfield.h`.
pub(crate) fn c_library(source: &Path, dir: &Path) -> Result<(), Error> {
    let compiler = c::compiler().map_err(Error::Toolchain)?;
    let built = scratch(dir)?.join(library_name(dir));
    let mut cc = Command::new(compiler);
    cc.args(["-std=c11", "-Wall", "-Wextra", "-O2", "-shared"]);
    if cfg!(not(windows)) {
        cc.args(["-fPIC", "-fvisibility=hidden"]);
    }
    cc.arg("-I").arg(include_dir()).arg("-o").arg(&built).arg(source);
    recipe::follow(&mut cc, &[source.to_owned(), include_dir().join("jackfield.h")], &built)?;
    Ok(put(&built, dir)?)
}

/// Builds the program of a package of the Go module in `source`, under the name of `dir`.
pub(crate) fn go_program(source: &Path, package: &str, dir: &Path) -> Result<(), Error> {
    go_tool(source, package, &name(dir), dir)
}

/// The same, under a name of its own. cgo is off, so it needs no C compiler.
pub(crate) fn go_tool(source: &Path, package: &str, name: &str, dir: &Path) -> Result<(), Error> {
    let go = Go::find_or_fetch().map_err(Error::Toolchain)?;
    // Apart from the build: where there is no network, nothing is wrong with the code.
    go.download(source).map_err(Error::Toolchain)?;
    let built = scratch(dir)?.join(format!("{name}{EXE_SUFFIX}"));
    let mut build = go.command();
    build.current_dir(source).env("CGO_ENABLED", "0");
    build.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]).arg(&built).arg(package);
    build.run_quietly()?;
    Ok(put(&built, dir)?)
}

/// Builds the Go package in `source` as a shared library for C.
pub(crate) fn go_library(source: &Path, dir: &Path) -> Result<(), Error> {
    let go = Go::find_or_fetch().map_err(Error::Toolchain)?;
    let compiler = c::compiler().map_err(Error::Toolchain)?;
    let built = scratch(dir)?.join(library_name(dir));
    let mut include = std::ffi::OsString::from("-I");
    include.push(include_dir());
    let mut build = go.command();
    build.current_dir(source).env("CGO_ENABLED", "1").env("CC", compiler).env("CGO_CFLAGS", include);
    build
        .args(["build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-o"])
        .arg(&built)
        .arg(".")
        .run_quietly()?;
    Ok(put(&built, dir)?)
}

/// Copies a script, and sees to it that it can run.
pub(crate) fn python_script(source: &Path, dir: &Path) -> Result<(), Error> {
    pypi::python().map_err(Error::Toolchain)?;
    Ok(put(source, dir)?)
}

pub(super) fn put(file: &Path, dir: &Path) -> Result<()> {
    let name = file.file_name().with_context(|| format!("`{}` has no name", file.display()))?;
    paths::install(file, &dir.join(name))
}

/// Where a build may leave more than the plugin: Go writes a header beside its library.
pub(super) fn scratch(dir: &Path) -> Result<PathBuf> {
    let scratch = paths::target().join("plugins-build").join(name(dir));
    paths::make_dir(&scratch)?;
    Ok(scratch)
}

/// The plugin's name; its directory has it.
pub(super) fn name(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// As cargo would call it: `libgreeter_c.so` for `greeter-c`.
fn library_name(dir: &Path) -> String {
    format!("{DLL_PREFIX}{}{DLL_SUFFIX}", name(dir).replace('-', "_"))
}

fn include_dir() -> PathBuf {
    paths::root().join("crates/jackfield-plugin/include")
}
