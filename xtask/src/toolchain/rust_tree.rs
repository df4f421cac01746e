//! A Rust compiler made from Debian's packages, able to build for targets that rustup cannot fetch.
//!
//! Debian ships a recent compiler together with the matching source of the standard library (the
//! packages it builds browsers with). We unpack them into a private tree, nothing is installed,
//! and build the library once per target; from then on `RUSTC=…/bin/rustc cargo build --target …`
//! works on any crate, with the cargo that rustup brought.
//!
//! The trap is the version: compiler and source must be one release, so rustup's compiler with
//! Debian's source fails, and the tree's compiler needs target directories of its own.

mod unpack;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{apt, rust};
use crate::paths;
use crate::run::{self, Run as _, say};

/// How much of a target's standard library is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Std {
    /// Enough for `cargo check`.
    ToCheck,
    /// Enough to build programs, for which the target's linker is needed too.
    ToBuild,
}

/// How the standard library is optimized: as rustup's is. Built to be small, its allocator alone makes a call into
/// a plugin a tenth longer.
const PROFILE: &str = "opt-level = 3\ncodegen-units = 1\n";

/// Says beside the library what it was built with.
const PROFILE_FILE: &str = "profile.toml";

/// Directory below each target directory, for what was built with such a library: cargo would not notice that
/// there is another.
pub(super) const BUILT_WITH: &str = "std-3";

/// The tree, unpacked.
pub(crate) struct RustTree {
    dir: PathBuf,
}

impl RustTree {
    /// The tree in the cache, made now if it is not there: 20 s and 132 MB to fetch.
    pub(crate) fn open() -> Result<RustTree> {
        ensure!(cfg!(target_os = "linux") && apt::at_hand(), "the fallback for rustup needs Debian's packages");
        // Keyed by version: an update of the packages makes a new tree beside the old one.
        let cache = paths::toolchains()?;
        let dir_of = |version: &str| cache.join(format!("rust-{version}"));
        let mut version = apt::newest_version("rustc-web")?;
        let mut dir = dir_of(&version);
        if !dir.exists() {
            // An old list names versions that the server has dropped.
            apt::update()?;
            version = apt::newest_version("rustc-web")?;
            dir = dir_of(&version);
        }
        super::once(&dir, |dir| {
            say(format_args!("making a Rust tree from Debian's rustc-web {version}"));
            unpack::packages(dir, &version).context("cannot make a Rust tree from Debian's packages")
        })?;
        borrow_linker(&dir)?;
        Ok(RustTree { dir })
    }

    pub(crate) fn rustc(&self) -> PathBuf {
        self.dir.join("bin/rustc")
    }

    /// Builds the standard library of those of `targets` that the tree has not got: a minute.
    ///
    /// Known to work: `wasm32-unknown-unknown`, `wasm32-wasip1`, `x86_64-pc-windows-gnu` (needs
    /// mingw), and to check also `x86_64-pc-windows-msvc` and `aarch64-apple-darwin`. Targets
    /// built together must be alike: all wasm, or none.
    pub(crate) fn add_targets(&self, targets: &[&str], std: Std) -> Result<()> {
        let _lock = super::lock()?;
        let missing: Vec<&str> = targets.iter().copied().filter(|target| !self.has(target, std)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.join(" and ");
        say(format_args!("building Rust's standard library for {names} (a minute, once)"));
        let work = self.dir.join("empty-crate");
        self.build_std(&missing, std, &work)
            .with_context(|| format!("cannot build the standard library for {names}"))?;
        for target in missing {
            let lib = self.lib(target);
            paths::remove_dir(&lib)?;
            super::put(&lib, |lib| self.collect_std(target, &work, lib))?;
        }
        paths::remove_dir(&work)
    }

    fn has(&self, target: &str, std: Std) -> bool {
        let files = paths::list(&self.lib(target)).unwrap_or_default();
        let holds = |extension| files.iter().any(|file| file.extension().is_some_and(|ext| ext == extension));
        let as_wanted = || fs::read_to_string(self.lib(target).join(PROFILE_FILE)).is_ok_and(|it| it == PROFILE);
        match std {
            Std::ToBuild => holds("rlib") && as_wanted(),
            Std::ToCheck => holds("rlib") || holds("rmeta"),
        }
    }

    fn lib(&self, target: &str) -> PathBuf {
        self.dir.join("lib/rustlib").join(target).join("lib")
    }

    /// Builds an empty crate in `work`, and with it the libraries below it.
    fn build_std(&self, targets: &[&str], std: Std, work: &Path) -> Result<()> {
        let wasm = targets.iter().all(|target| target.starts_with("wasm"));
        let (panic, crates, features) = match (wasm, std) {
            (true, _) => ("abort", "std,panic_abort", ""),
            (false, Std::ToCheck) => ("unwind", "std,panic_unwind", "panic-unwind"),
            (false, Std::ToBuild) => ("unwind", "std,panic_unwind,panic_abort,proc_macro,test", "panic-unwind"),
        };
        paths::remove_dir(work)?;
        paths::make_dir(&work.join("src"))?;
        fs::write(work.join("src/lib.rs"), "#![no_std]\n")?;
        fs::write(work.join("Cargo.toml"), empty_crate(panic))?;

        let mut cargo = run::cargo();
        cargo.current_dir(work);
        for name in ["RUSTUP_TOOLCHAIN", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS"] {
            cargo.env_remove(name);
        }
        // `build-std` is unstable, the bootstrap switch lets a stable cargo have it. Without the
        // bitcode a plugin with `lto = true` fails to link.
        cargo.env("RUSTC", self.rustc()).env("RUSTC_BOOTSTRAP", "1").env("RUSTC_WRAPPER", "");
        cargo.env("RUSTFLAGS", "-Cembed-bitcode=yes");
        match std {
            Std::ToCheck => cargo.arg("check"),
            Std::ToBuild => cargo.args(["build", "--release"]),
        };
        for target in targets {
            cargo.args(["--target", target]);
        }
        cargo.arg(format!("-Zbuild-std={crates}")).arg(format!("-Zbuild-std-features={features}"));
        cargo.run_quietly()
    }

    /// Fills `lib` with the libraries that [`RustTree::build_std`] left in `work`.
    fn collect_std(&self, target: &str, work: &Path, lib: &Path) -> Result<()> {
        let built = work.join("target").join(target);
        let (deps, wanted) = match built.join("release").exists() {
            true => (built.join("release/deps"), "rlib"),
            false => (built.join("debug/deps"), "rmeta"),
        };
        if wanted == "rlib" {
            fs::write(lib.join(PROFILE_FILE), PROFILE)?;
        }
        for file in paths::list(&deps)? {
            let name = file.file_name().expect("an entry of a directory has a name");
            let is_ours = name.to_string_lossy().contains("empty_crate");
            if file.extension().is_some_and(|extension| extension == wanted) && !is_ours {
                fs::copy(&file, lib.join(name))?;
            }
        }
        if target.starts_with("wasm32-wasi") {
            let own = lib.join("self-contained");
            paths::make_dir(&own)?;
            for file in paths::list(&self.dir.join("wasi-libc"))? {
                fs::copy(&file, own.join(file.file_name().expect("an entry of a directory has a name")))?;
            }
        }
        Ok(())
    }
}

fn empty_crate(panic: &str) -> String {
    format!(
        "[package]\nname = \"empty-crate\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n\n\
         [profile.release]\npanic = \"{panic}\"\n{PROFILE}"
    )
}

/// Lends the tree rustup's linker for wasm, since Debian's compiler comes without one.
///
/// By a link, because the linker finds its libraries by where it really lies; made anew each time,
/// because rustup's toolchains come and go.
#[cfg(unix)]
fn borrow_linker(tree: &Path) -> Result<()> {
    let below = Path::new("lib/rustlib").join(rust::host()?).join("bin");
    let sysroot = PathBuf::from(Command::new("rustc").args(["--print", "sysroot"]).read()?);
    let bin = tree.join(&below);
    paths::make_dir(&bin)?;
    // A gone link is what we want; the next line says so if it is not.
    let _ = fs::remove_file(bin.join("rust-lld"));
    Ok(std::os::unix::fs::symlink(sysroot.join(&below).join("rust-lld"), bin.join("rust-lld"))?)
}

#[cfg(not(unix))]
fn borrow_linker(_: &Path) -> Result<()> {
    Ok(())
}
