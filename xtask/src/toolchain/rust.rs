//! Rust for targets that are not this host.
//!
//! The ordinary way is rustup's. Where rustup is not asked to fetch by itself, or cannot, a
//! private tree made from Debian's packages does the same (`rust_tree.rs`).

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::rust_tree::{BUILT_WITH, RustTree, Std};
use crate::run::{self, Run as _, find_program, say};

/// A Rust compiler with the standard library of one target.
pub(crate) enum Rust {
    /// The compiler that built us; rustup gave it the target's library.
    Rustup,
    /// A compiler of our own.
    Tree(RustTree),
}

impl Rust {
    /// A compiler that has all `targets`, as far as `std` asks.
    pub(crate) fn for_targets(targets: &[&str], std: Std) -> Result<Rust> {
        if targets.iter().all(|target| rustup_has(target)) {
            return Ok(Rust::Rustup);
        }
        let tree = RustTree::open().and_then(|tree| {
            tree.add_targets(targets, std)?;
            Ok(tree)
        });
        let names = targets.join(" ");
        tree.map(Rust::Tree).with_context(|| format!("no Rust for {names}: `rustup target add {names}` would help"))
    }

    /// Cargo with this compiler.
    ///
    /// It needs a target directory of its own: the two compilers would undo each other's work.
    pub(crate) fn cargo(&self, target_dir: &Path) -> Command {
        let mut cargo = run::cargo();
        for name in ["CARGO_BUILD_TARGET", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WRAPPER"] {
            cargo.env_remove(name);
        }
        cargo.env("CARGO_TARGET_DIR", target_dir);
        if let Rust::Tree(tree) = self {
            cargo.env("CARGO_TARGET_DIR", target_dir.join(BUILT_WITH));
            cargo.env_remove("RUSTUP_TOOLCHAIN").env("RUSTC", tree.rustc());
        }
        cargo
    }
}

/// Whether rustup has the library of `target`, or fetches it now.
fn rustup_has(target: &str) -> bool {
    if env::var_os("JACKFIELD_RUST_TREE").is_some() || find_program(&["rustup"]).is_none() {
        return false;
    }
    let installed = rustup(&["target", "list", "--installed"]).read();
    if installed.is_ok_and(|targets| targets.lines().any(|line| line == target)) {
        return true;
    }
    // rustup's own switch against fetching unasked; a machine that sets it is left as it is.
    if env::var("RUSTUP_AUTO_INSTALL").is_ok_and(|value| value == "0") {
        return false;
    }
    say(format_args!("adding the Rust target {target}"));
    rustup(&["target", "add", target]).run_quietly().is_ok()
}

fn rustup(args: &[&str]) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.args(args).current_dir(crate::paths::root());
    rustup
}

/// This host, as Rust names it: `x86_64-unknown-linux-gnu`.
pub(crate) fn host() -> Result<String> {
    let version = Command::new("rustc").arg("-vV").current_dir(crate::paths::root()).read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}
