//! A program's command, handed to `jackfield-runner` if it is to be kept in bounds.
//!
//! Without limits of the operating system and without a profile there is no runner, and none is needed: the
//! program is run as it is. With them, a runner that is missing is an error, never a reason to do without.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use jackfield_protocol::runner::{ORDERS_VERSION, Orders, Profile};
use tempfile::TempDir;

use super::usage;
use crate::manifest::NetGrant;
use crate::mechanism::{Exit, Spec};

/// Names the runner, for hosts that are not told by their builder.
const RUNNER: &str = "JACKFIELD_RUNNER";

/// What every program gets of the host's environment, whatever its profile.
const VARIABLES: [&str; 5] = ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"];

/// What tells allocators and runtimes to do with little, for limits up to [`TIGHT_BYTES`]. A program of many
/// threads needs 11 MiB without and 5 with them.
const TIGHT: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("RUST_MIN_STACK", "131072")];

const TIGHT_BYTES: u64 = 16 << 20;

/// Why a plugin was not put under its limits or into its sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// What is wanted takes the runner, and it is nowhere.
    #[error("{wanted} needs `jackfield-runner`, which is not there: {looked}")]
    NoRunner {
        /// What of the manifest or of the host.
        wanted: String,
        /// Where it was looked for.
        looked: String,
    },
    /// A limit, or a part of the sandbox, that the platform does not have.
    #[error("`{limit}` cannot be enforced: {why}")]
    Unenforceable {
        /// Its name in the manifest.
        limit: String,
        /// Why not.
        why: String,
    },
    /// The runner did not do what a runner does.
    #[error("`{}` {what}", runner.display())]
    Runner {
        /// The runner.
        runner: PathBuf,
        /// What it did.
        what: String,
    },
    /// The private directory could not be made.
    #[error("cannot make its working directory")]
    Directory {
        /// Why.
        source: io::Error,
    },
}

impl SandboxError {
    /// The error of a runner that ended without a report.
    pub(super) fn silent(runner: &Path, exit: Exit) -> Self {
        SandboxError::Runner { runner: runner.to_owned(), what: format!("ended without a report: {exit}") }
    }
}

/// A program that can be spawned.
pub(crate) struct Launch {
    pub(super) command: Command,
    pub(super) confined: Option<Confined>,
}

/// What a program has that goes through the runner.
pub(super) struct Confined {
    pub(super) runner: PathBuf,
    /// Where it works, if that is its own. Goes with the program.
    pub(super) directory: Option<WorkDir>,
}

/// The directory in which a plugin works that is shut in. Removed when it is dropped, or by the guard.
pub(super) struct WorkDir {
    directory: TempDir,
    // After the directory: until it is gone, the guard knows of it.
    #[cfg(unix)]
    _watched: Option<super::guard::Watched>,
}

impl WorkDir {
    fn make() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("jackfield-").tempdir()?;
        #[cfg(unix)]
        let _watched = super::guard::watch_directory(directory.path());
        Ok(Self {
            directory,
            #[cfg(unix)]
            _watched,
        })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Makes `command` the runner's, if the plugin is to be kept in bounds. `sockets`: where it makes Unix sockets.
pub(crate) fn confine(command: Command, spec: &Spec, sockets: Option<&Path>) -> Result<Launch, SandboxError> {
    let Some(wanted) = wanted(spec) else { return Ok(Launch { command, confined: None }) };
    let runner = find(spec.confine.runner.as_deref(), wanted)?;
    let shut_in = spec.confine.profile != Profile::None;
    let directory = match shut_in {
        true => Some(WorkDir::make().map_err(|source| SandboxError::Directory { source })?),
        false => None,
    };
    let orders = orders(spec, directory.as_ref().map(WorkDir::path), sockets, command.get_program().as_ref());
    let orders = serde_json::to_string(&orders).map_err(|error| SandboxError::Runner {
        runner: runner.clone(),
        what: format!("cannot be given its orders: {error}"),
    })?;
    let mut confined = Command::new(&runner);
    confined.arg(if spec.confine.library { "native" } else { "exec" }).arg(orders).arg("--");
    confined.arg(command.get_program()).args(command.get_args());
    if let Some(current) = command.get_current_dir() {
        confined.current_dir(current);
    }
    if let Some(directory) = &directory {
        confined.current_dir(directory.path()).env_clear();
        let names = VARIABLES.into_iter().chain(spec.confine.grants.env.iter().map(String::as_str));
        confined.envs(names.filter_map(|name| Some((name, std::env::var_os(name)?))));
        confined.env("TMPDIR", directory.path()).env("HOME", directory.path());
    }
    let limits = &spec.limits.process;
    if limits.memory.into_iter().chain(limits.address_space).any(|bytes| bytes <= TIGHT_BYTES) {
        confined.envs(TIGHT);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => confined.env(name, value),
            None => confined.env_remove(name),
        };
    }
    Ok(Launch { command: confined, confined: Some(Confined { runner, directory }) })
}

/// What of it takes the runner. None: nothing does.
fn wanted(spec: &Spec) -> Option<&'static str> {
    match () {
        () if spec.confine.library => Some("`isolation = \"process\"`"),
        () if spec.confine.profile != Profile::None => Some("a sandbox"),
        () if !spec.limits.process.is_empty() => Some("a limit of the operating system"),
        () => None,
    }
}

fn orders(spec: &Spec, directory: Option<&Path>, sockets: Option<&Path>, program: &Path) -> Orders {
    let confine = &spec.confine;
    let mut read = confine.grants.read.clone();
    read.extend(program.parent().map(Path::to_owned));
    read.extend(std::path::absolute(&confine.home).ok());
    let mut best_effort = confine.best_effort.clone();
    if usage::CAN_LOOK {
        // What the operating system does not keep of these, the host does.
        best_effort.extend(["memory", "processes"].map(str::to_owned));
    }
    let mut write = confine.grants.write.clone();
    write.extend(directory.into_iter().chain(sockets).map(Path::to_owned));
    Orders {
        version: ORDERS_VERSION,
        limits: spec.limits.process.clone(),
        profile: confine.profile,
        read,
        write,
        net: confine.grants.net == NetGrant::All,
        unix_sockets: sockets.is_some(),
        best_effort,
        cgroup: confine.cgroup.clone(),
        // It is spawned by the thread that waits for it (`child`).
        parent: Some(std::process::id()),
    }
}

/// The runner: what the host says, or its environment, or what lies beside its executable.
fn find(said: Option<&Path>, wanted: &str) -> Result<PathBuf, SandboxError> {
    let none = |looked: String| Err(SandboxError::NoRunner { wanted: wanted.to_owned(), looked });
    let told = said.map(Path::to_owned).map(|path| (path, "the host's builder"));
    let told = told.or_else(|| std::env::var_os(RUNNER).map(|path| (path.into(), RUNNER)));
    if let Some((path, by)) = told {
        // Its working directory is not ours.
        let path = std::path::absolute(&path).unwrap_or(path);
        return match path.is_file() {
            true => Ok(path),
            false => none(format!("{by} names `{}`, which is no file", path.display())),
        };
    }
    let name = format!("jackfield-runner{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join(name)));
    match beside {
        Some(path) if path.is_file() => Ok(path),
        Some(path) => none(format!("`{}` is no file, and {RUNNER} is not set", path.display())),
        None => none(format!("{RUNNER} is not set")),
    }
}
