//! `[sandbox]` of a program, `isolation` and `best_effort`: how far a plugin is shut in that has a process of
//! its own.
//!
//! Only read here; the host's `program` module gives the orders, `jackfield-runner` carries them out. The
//! sandbox of WebAssembly is another: `sandbox.rs`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use jackfield_protocol::runner::Profile;

use super::document::{Keys, Named, Value};
use super::error::{Fault, ManifestProblem, did_you_mean};

/// The `[sandbox]` of a program.
///
/// ```toml
/// [sandbox]
/// profile = "default"
/// fs.read = ["/var/lib/dictionaries", "models"]
/// fs.write = ["/var/cache/resize"]
/// net = "none"
/// env = ["HTTPS_PROXY"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confinement {
    /// `profile`: `"none"`, `"default"` or `"strict"`. Default: `default` where there is a `[sandbox]`, else
    /// what the host says.
    pub profile: Option<Profile>,
    /// `fs.read`: files and directories that the plugin may read and execute, absolute or relative to the
    /// manifest's; they must exist. Default: none beside the system's and the plugin's own.
    pub read: Vec<PathBuf>,
    /// `fs.write`: the same for directories in which it may write. Default: none beside its working directory.
    pub write: Vec<PathBuf>,
    /// `net`: `"none"` or `"all"`. Default: none.
    pub net: NetGrant,
    /// `env`: names of variables that the plugin gets from the host's environment. Default: none beside `PATH`,
    /// `LANG`, `LC_ALL`, `LC_CTYPE` and `TZ`.
    pub env: Vec<String>,
}

/// What of the network a program may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetGrant {
    /// `"none"`: no socket but Unix ones.
    #[default]
    None,
    /// `"all"`: whatever the host's user may.
    All,
}

impl Confinement {
    /// Reads the table of a manifest that lies in `directory`.
    pub(super) fn read(written: Named, directory: &Path) -> Result<Self, Fault> {
        let mut keys = Keys::new("sandbox.", written.table()?, &["profile", "fs", "net", "env"])?;
        let profile = keys.take("profile").map(|written| written.parsed::<Profile>()).transpose()?;
        let profile = profile.unwrap_or(Profile::Default);
        let mut confinement = Self { profile: Some(profile), ..Self::default() };
        let granting = |written: &Named| match profile {
            Profile::None => Err(written.bad("nothing is granted to whom nothing is denied: the profile is `none`")),
            _ => Ok(()),
        };
        if let Some(fs) = keys.take("fs") {
            granting(&fs)?;
            let mut fs = Keys::new("sandbox.fs.", fs.table()?, &["read", "write"])?;
            confinement.read = paths(fs.take("read"), directory)?;
            confinement.write = paths(fs.take("write"), directory)?;
        }
        if let Some(net) = keys.take("net") {
            granting(&net)?;
            confinement.net = self::net(&net)?;
        }
        if let Some(env) = keys.take("env") {
            granting(&env)?;
            confinement.env = env.list()?.iter().map(variable).collect::<Result<_, _>>()?;
        }
        Ok(confinement)
    }
}

fn net(written: &Named) -> Result<NetGrant, Fault> {
    match &written.value.value {
        Value::Text(text) if text == "none" => Ok(NetGrant::None),
        Value::Text(text) if text == "all" => Ok(NetGrant::All),
        Value::Text(text) => {
            let hint = did_you_mean("", text, ["none", "all"]);
            Err(written.bad(format_args!("{text:?} is neither `none` nor `all`{hint}")))
        }
        // Which host a connection is to is not known where connections are let through.
        _ => Err(written.wrong_type("\"none\" or \"all\"; a program is not kept to some hosts")),
    }
}

fn paths(written: Option<Named>, directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let Some(written) = written else { return Ok(Vec::new()) };
    let path = |written: &Named| {
        let text = written.text()?;
        let fault = |why: String| {
            let (key, path) = (written.key.clone(), text.to_owned());
            written.fault(ManifestProblem::Path { key, path, why })
        };
        match text {
            "" => Err(fault("is not a path".to_owned())),
            // Links are followed now: one that is changed later changes no grant.
            text => directory.join(text).canonicalize().map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => fault("does not exist".to_owned()),
                _ => fault(format!("cannot be found: {error}")),
            }),
        }
    };
    written.list()?.iter().map(path).collect()
}

fn variable(written: &Named) -> Result<String, Fault> {
    match written.text()? {
        name if name.is_empty() || name.contains(['=', '\0']) => {
            Err(written.bad(format_args!("{name:?} is not the name of a variable")))
        }
        name => Ok(name.to_owned()),
    }
}

/// What `best_effort` may name.
const PARTS: [&str; 13] = [
    "memory",
    "address_space",
    "cpu_time",
    "cpu_rate",
    "processes",
    "files",
    "file_size",
    "fs",
    "net",
    "signals",
    "abstract_sockets",
    "system_calls",
    "capabilities",
];

pub(super) fn part(written: &Named) -> Result<String, Fault> {
    let name = written.text()?;
    match PARTS.contains(&name) {
        true => Ok(name.to_owned()),
        false => {
            let hint = did_you_mean("", name, PARTS);
            Err(written.bad(format_args!("{name:?} is nothing that may be missing{hint}")))
        }
    }
}

/// Whether a native plugin has a process of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// `"none"`: it is loaded into the host's process, and shares its memory and its fate.
    #[default]
    None,
    /// `"process"`: it is loaded by `jackfield-runner`, and what kills it kills no host.
    Process,
}

impl FromStr for Isolation {
    type Err = UnknownIsolation;

    fn from_str(text: &str) -> Result<Self, UnknownIsolation> {
        match text {
            "none" => Ok(Isolation::None),
            "process" => Ok(Isolation::Process),
            _ => Err(UnknownIsolation { name: text.to_owned() }),
        }
    }
}

/// An `isolation` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is neither `none` nor `process`")]
pub struct UnknownIsolation {
    name: String,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use expect_test::{Expect, expect};

    use crate::manifest::Manifest;

    /// The confinement, isolation and what may be missing of a plugin with `toml` below two lines, or what is wrong.
    fn check(entry: &str, toml: &str, expected: Expect) {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("models")).expect("a directory");
        fs::write(directory.path().join(entry), "").expect("a file");
        let file = directory.path().join("plugin.toml");
        fs::write(&file, format!("name = 'x'\nentry = '{entry}'\n{toml}")).expect("a file");
        let text = match Manifest::read(&file) {
            Ok(Manifest { confinement, isolation, best_effort, .. }) => {
                format!("{confinement:?} {isolation:?} {best_effort:?}")
            }
            Err(error) => error.to_string(),
        };
        let resolved = directory.path().canonicalize().expect("a directory");
        let text = text.replace(&*resolved.to_string_lossy(), "…").replace(&*directory.path().to_string_lossy(), "…");
        expected.assert_eq(text.strip_prefix("…/").unwrap_or(&text));
    }

    #[test]
    fn a_program_is_shut_in_as_its_sandbox_says() {
        check("run.py", "", expect!["Confinement { profile: None, read: [], write: [], net: None, env: [] } None []"]);
        check(
            "run.py",
            "[sandbox]",
            expect!["Confinement { profile: Some(Default), read: [], write: [], net: None, env: [] } None []"],
        );
        check(
            "run.py",
            "best_effort = ['memory', 'fs']\n[sandbox]\nprofile = 'strict'\nfs.read = ['models', '/']\nfs.write = ['models']\nnet = 'all'\nenv = ['HOME']",
            expect![[
                r#"Confinement { profile: Some(Strict), read: ["…/models", "/"], write: ["…/models"], net: All, env: ["HOME"] } None ["memory", "fs"]"#
            ]],
        );
    }

    #[test]
    fn what_is_wrong_with_a_sandbox_is_named_with_its_place() {
        check(
            "run.py",
            "[sandbox]\nprofile = 'hard'",
            expect![[
                r#"plugin.toml:4:11: `sandbox.profile`: "hard" is no profile; there are `none`, `default` and `strict`"#
            ]],
        );
        check(
            "run.py",
            "[sandbox]\nnet.hosts = ['a.org']",
            expect![[
                r#"plugin.toml:4:1: `sandbox.net` is "none" or "all"; a program is not kept to some hosts, got a table"#
            ]],
        );
        check(
            "run.py",
            "[sandbox]\nnet = 'al'",
            expect![[r#"plugin.toml:4:7: `sandbox.net`: "al" is neither `none` nor `all`; did you mean `all`?"#]],
        );
        check(
            "run.py",
            "[sandbox]\nfs.read = ['gone']",
            expect!["plugin.toml:4:12: `sandbox.fs.read[0]`: `gone` does not exist"],
        );
        check(
            "run.py",
            "[sandbox]\nfs.read = { '/data' = 'models' }",
            expect!["plugin.toml:4:11: `sandbox.fs.read` is a list, got a table"],
        );
        check(
            "run.py",
            "[sandbox]\nenv = ['A=B']",
            expect![[r#"plugin.toml:4:8: `sandbox.env[0]`: "A=B" is not the name of a variable"#]],
        );
        check(
            "run.py",
            "[sandbox]\nprofile = 'none'\nnet = 'all'",
            expect![
                "plugin.toml:5:7: `sandbox.net`: nothing is granted to whom nothing is denied: the profile is `none`"
            ],
        );
        check(
            "run.py",
            "best_effort = ['call_timeout']",
            expect![[r#"plugin.toml:3:16: `best_effort[0]`: "call_timeout" is nothing that may be missing"#]],
        );
        check(
            "run.py",
            "[limits]\ncpu_rate = 'half'",
            expect![[r#"plugin.toml:4:12: `limits.cpu_rate`: "half" is not a share of a processor, as in "50%""#]],
        );
        check(
            "run.py",
            "[limits]\ncpu_time = '500ms'",
            expect![
                "plugin.toml:4:12: `limits.cpu_time`: 500ms is not a whole number of seconds, which processor time is kept in"
            ],
        );
        check(
            "run.py",
            "[limits]\nfiles = 3",
            expect!["plugin.toml:4:9: `limits.files`: 3 files; no program runs with fewer than 8"],
        );
        check(
            "run.py",
            "[limits]\non_timeout = 'panic'",
            expect![[r#"plugin.toml:4:14: `limits.on_timeout`: "panic" is neither `cancel` nor `kill`"#]],
        );
    }

    #[test]
    fn a_library_with_a_process_of_its_own_is_shut_in_and_limited_as_a_program() {
        check(
            "libx.so",
            "isolation = 'process'\n[limits]\ncall_timeout = '5s'\nmemory = '10MiB'\n[sandbox]",
            expect!["Confinement { profile: Some(Default), read: [], write: [], net: None, env: [] } Some(Process) []"],
        );
        check(
            "libx.so",
            "isolation = 'none'\n[sandbox]",
            expect![[
                r#"plugin.toml:4:1: `sandbox` is set, and nothing keeps a native plugin from what the host itself may reach, unless it says `isolation = "process"`"#
            ]],
        );
        check(
            "libx.so",
            "isolation = 'none'\n[limits]\nmemory = '10MiB'",
            expect!["plugin.toml:5:10: `memory` is set, and a native plugin allocates in the memory of its host"],
        );
        check(
            "libx.so",
            "isolation = 'thread'",
            expect![[r#"plugin.toml:3:13: `isolation`: "thread" is neither `none` nor `process`"#]],
        );
        check(
            "run.py",
            "isolation = 'process'",
            expect!["plugin.toml:3:13: `isolation` is set, and a program has a process of its own"],
        );
        check(
            "x.wasm",
            "isolation = 'process'",
            expect!["plugin.toml:3:13: `isolation` is set, and a guest is isolated by the memory of its own"],
        );
    }
}
