//! From Debian's packages to a directory that rustc takes for its sysroot.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths;
use crate::toolchain::apt;

/// Fetches the packages and lays the tree out in `dir` as rustc expects its sysroot.
pub(super) fn packages(dir: &Path, version: &str) -> Result<()> {
    let (debs, unpacked) = (dir.join("debs"), dir.join("unpacked"));
    paths::make_dir(&debs)?;
    paths::make_dir(&unpacked)?;

    // The names of the compiler's own libraries carry their version; its dependencies tell it.
    let named = ["rustc-web", "libstd-rust-web-dev", "rust-web-src"].map(|name| format!("{name}={version}"));
    let mut named: Vec<&str> = named.iter().map(String::as_str).collect();
    named.push("wasi-libc");
    apt::download(&named, &debs)?;
    let std = dependency(&debs, "libstd-rust-web-dev", "libstd-rust-web-")?;
    apt::download(&[&std], &debs)?;
    let llvm = dependency(&debs, &std, "libllvm")?;
    apt::download(&[&llvm], &debs)?;
    for deb in paths::list(&debs)? {
        apt::extract(&deb, &unpacked)?;
    }

    let lib = dir.join("lib");
    paths::make_dir(&lib)?;
    let usr = unpacked.join("usr");
    fs::rename(usr.join("lib/rustlib"), lib.join("rustlib")).context("no `rustlib` in the packages")?;
    for file in find(&usr.join("lib"), &["librustc_driver-", "libLLVM"])? {
        fs::rename(&file, lib.join(file.file_name().expect("a found file has a name")))?;
    }

    let src = lib.join("rustlib/src");
    paths::remove_dir(&src)?;
    paths::make_dir(&src.join("rust"))?;
    let source = paths::list(&usr.join("src"))?.into_iter().find(|path| path.join("library").is_dir());
    let source = source.context("no source of the standard library in the packages")?;
    fs::rename(source.join("library"), src.join("rust/library"))?;

    let wasi = dir.join("wasi-libc");
    paths::make_dir(&wasi)?;
    for file in find(&usr.join("lib/wasm32-wasi"), &["crt1", "libc.a"])? {
        fs::copy(&file, wasi.join(file.file_name().expect("a found file has a name")))?;
    }

    paths::make_dir(&dir.join("bin"))?;
    fs::rename(usr.join("bin/rustc"), dir.join("bin/rustc.bin"))?;
    write_script(&dir.join("bin/rustc"))?;
    paths::remove_dir(&debs)?;
    paths::remove_dir(&unpacked)
}

/// The dependency of a fetched package whose name begins with `prefix`.
fn dependency(debs: &Path, package: &str, prefix: &str) -> Result<String> {
    let file_start = format!("{package}_");
    let deb = find(debs, &[&file_start])?.pop().with_context(|| format!("no package `{package}` fetched"))?;
    let depends = apt::field(&deb, "Depends")?;
    let name = depends
        .split([',', '|'])
        .filter_map(|word| word.split_whitespace().next())
        .find(|name| name.starts_with(prefix));
    name.map(str::to_owned).with_context(|| format!("`{package}` depends on no `{prefix}…`: {depends}"))
}

/// The files below `dir` whose names begin with one of `prefixes`.
fn find(dir: &Path, prefixes: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths::list(dir)? {
        if path.is_dir() && !path.is_symlink() {
            found.extend(find(&path, prefixes)?);
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && prefixes.iter().any(|prefix| name.starts_with(prefix))
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// The compiler finds its libraries beside itself, wherever the tree lies.
fn write_script(path: &Path) -> Result<()> {
    let script = "#!/bin/sh\n\
         here=$(dirname \"$(readlink -f \"$0\")\")\n\
         LD_LIBRARY_PATH=$here/../lib exec \"$here/rustc.bin\" \"$@\"\n";
    fs::write(path, script)?;
    make_executable(path)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    Ok(())
}
