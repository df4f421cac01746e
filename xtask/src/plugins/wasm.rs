//! One function for each kind of WebAssembly plugin.
//!
//! Each knows one toolchain. What it makes is put in the plugin's directory under the plugin's name:
//! `greeter_js.wasm` in `greeter-js/`, `greeter_c.wasm` in `greeter-c-wasm/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{Error, name, put, scratch};
use super::recipe;
use crate::paths;
use crate::run::Run as _;
use crate::toolchain::{c, componentize_py, go::Go, node::Node};

/// Compiles one C file that knows no library to a module, a kilobyte or two.
pub(crate) fn c_module(source: &Path, debug: bool, dir: &Path) -> Result<(), Error> {
    let clang = c::wasm_compiler().map_err(Error::Toolchain)?;
    let made = made(dir)?;
    let mut clang = Command::new(clang);
    clang.args(["--target=wasm32", "-std=c11", "-Wall", "-Wextra", "-Os", "-ffreestanding", "-nostdlib"]);
    clang.args(["-mbulk-memory", "-Wl,--no-entry"]);
    match debug {
        // The same text of a trap, wherever the repository lies.
        true => {
            clang.args(["-g", "-fdebug-compilation-dir=.", &format!("-ffile-prefix-map={}/=", paths::root().display())])
        }
        false => clang.arg("-Wl,--strip-all"),
    };
    clang.arg("-o").arg(&made).arg(source);
    recipe::follow(&mut clang, &[source.to_owned()], &made)?;
    Ok(put(&made, dir)?)
}

/// Builds the Go program in `source` as a WASI command.
pub(crate) fn go_command(source: &Path, dir: &Path) -> Result<(), Error> {
    let go = Go::find_or_fetch().map_err(Error::Toolchain)?;
    let made = made(dir)?;
    let mut build = go.command();
    build.current_dir(source).env("CGO_ENABLED", "0").env("GOOS", "wasip1").env("GOARCH", "wasm");
    build.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]).arg(&made).arg(".");
    build.run_quietly()?;
    Ok(put(&made, dir)?)
}

/// Compiles `file`, with the npm packages that the package in `source` names, to a module.
pub(crate) fn assemblyscript(source: &Path, file: &str, dir: &Path) -> Result<(), Error> {
    let (node, modules) = node(source)?;
    let made = made(dir)?;
    let mut asc = node.script(&modules.join("assemblyscript/bin/asc.js"));
    asc.current_dir(source).args([file, "-O", "--runtime", "incremental", "--use", "abort=", "-o"]).arg(&made);
    asc.arg("--path").arg(&modules);
    recipe::follow(&mut asc, &[source.join(file)], &made)?;
    Ok(put(&made, dir)?)
}

/// Makes a component of the JavaScript in `file`, which offers what the world `plugin` in `wit` says.
pub(crate) fn javascript(source: &Path, file: &str, wit: &Path, dir: &Path) -> Result<(), Error> {
    let (node, modules) = node(source)?;
    let made = made(dir)?;
    let mut componentize = node.script(&modules.join("componentize-qjs/bin/componentize-qjs"));
    componentize.args(["--sync", "--opt-size", "--world", "plugin", "--wit"]).arg(wit);
    componentize.arg("--js").arg(source.join(file)).arg("-o").arg(&made);
    recipe::follow(&mut componentize, &with_wit(source.join(file), wit)?, &made)?;
    Ok(put(&made, dir)?)
}

/// Makes a component of the Python in `file`, which offers what the world `plugin` in `wit` says.
pub(crate) fn python(source: &Path, file: &str, wit: &Path, dir: &Path) -> Result<(), Error> {
    let mut componentize = componentize_py::command().map_err(Error::Toolchain)?;
    let made = made(dir)?;
    // From a copy, for the component's Python writes what it compiles beside the source. And without a
    // virtual environment, of which it would take the packages along.
    let app = scratch(dir)?.join("app");
    paths::make_dir(&app)?;
    paths::install(&source.join(file), &app.join(file))?;
    componentize.env("VIRTUAL_ENV", &app).arg("--wit-path").arg(wit).args(["--world", "plugin", "componentize"]);
    componentize.arg("--python-path").arg(&app).arg("--output").arg(&made).arg(file.trim_end_matches(".py"));
    recipe::follow(&mut componentize, &with_wit(source.join(file), wit)?, &made)?;
    Ok(put(&made, dir)?)
}

/// Makes a component of the module that the SDK made, with `jackfield pack`.
pub(crate) fn component(jackfield: &Path, module: &Path, dir: &Path) -> Result<(), Error> {
    let made = made(dir)?;
    let mut pack = Command::new(jackfield);
    pack.args(["pack", "--component"]).arg(module).arg("-o").arg(&made);
    recipe::follow(&mut pack, &[jackfield.to_owned(), module.to_owned()], &made)?;
    Ok(put(&made, dir)?)
}

fn node(source: &Path) -> Result<(Node, PathBuf), Error> {
    let node = Node::find_or_fetch().map_err(Error::Toolchain)?;
    let modules = node.packages(source).map_err(Error::Toolchain)?;
    Ok((node, modules))
}

fn with_wit(source: PathBuf, wit: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut sources = paths::list(wit)?;
    sources.push(source);
    Ok(sources)
}

fn made(dir: &Path) -> Result<PathBuf, Error> {
    let name = name(dir).trim_end_matches("-wasm").replace('-', "_");
    Ok(scratch(dir)?.join(format!("{name}.wasm")))
}
