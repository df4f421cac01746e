//! Running programs, and saying what happened when one fails.

use std::env;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Ways to run a [`Command`] and insist that it succeeds.
pub(crate) trait Run {
    /// Runs with our own stdout and stderr.
    fn run(&mut self) -> Result<()>;

    /// Runs without a word; what was said appears in the error, if it fails.
    fn run_quietly(&mut self) -> Result<()> {
        self.read().map(drop)
    }

    /// Runs and gives stdout without surrounding white space; stderr appears in the error.
    fn read(&mut self) -> Result<String>;

    /// Runs, handing over each line of stdout as it comes.
    ///
    /// The status is given back and not judged: the caller has lines to print first.
    fn each_line(&mut self, each: impl FnMut(&str)) -> Result<ExitStatus>;
}

impl Run for Command {
    fn run(&mut self) -> Result<()> {
        let status = self.status().with_context(|| cannot_run(self))?;
        ensure!(status.success(), "{}", failed(self, status));
        Ok(())
    }

    fn read(&mut self) -> Result<String> {
        let output = self.stdin(Stdio::null()).output().with_context(|| cannot_run(self))?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{}\n{}{}", failed(self, output.status), stdout, stderr.trim_end());
        }
        Ok(stdout.trim().to_owned())
    }

    fn each_line(&mut self, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
        let mut child = self.stdout(Stdio::piped()).spawn().with_context(|| cannot_run(self))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.with_context(|| format!("cannot read the output of {}", words(self)))?;
            each(String::from_utf8_lossy(&line).trim_end_matches('\r'));
        }
        child.wait().with_context(|| cannot_run(self))
    }
}

/// What to say when `command` ended with a `status` that is not success.
pub(crate) fn failed(command: &Command, status: ExitStatus) -> String {
    format!("{status} from {}", words(command))
}

fn cannot_run(command: &Command) -> String {
    format!("cannot run {}", words(command))
}

fn words(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}

/// What is off by default and tested, checked and documented all the same.
pub(crate) const FEATURES: &str = "english/grpc,jackfield-plugin/grpc,kv/grpc,matrix/grpc,misbehave/grpc,skewed/grpc,versioned/grpc,zoo/grpc,xtask/codegen";

/// Compiles dependencies as quickly as it goes, for what is built once and hardly run; but for those that read whole
/// libraries.
pub(crate) const UNOPTIMIZED: &[&str] = &[
    "--config",
    "profile.dev.package.'*'.opt-level=0",
    "--config",
    "profile.dev.package.sha2.opt-level=2",
    "--config",
    "profile.dev.package.hmac-sha256.opt-level=2",
];

/// The cargo that runs us, in the root of the repository.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::paths::root());
    // `cargo run` lets us find the toolchain's libraries. Programs of other toolchains must not.
    cargo.env_remove("LD_LIBRARY_PATH");
    cargo
}

/// The first of `names` that is a program on `PATH`.
pub(crate) fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let dirs: Vec<PathBuf> = env::split_paths(&path).collect();
    let candidates = names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
    candidates.map(|path| path.with_added_extension(env::consts::EXE_EXTENSION)).find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// Whether this is a CI run, where nothing may be left out in silence.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// Tells what is going on: one line on stderr.
pub(crate) fn say(what: impl std::fmt::Display) {
    eprintln!("xtask: {what}");
}

/// An error with its causes, one a line.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        write!(text, "\n  caused by: {cause}").expect("a String takes all text");
    }
    text
}
