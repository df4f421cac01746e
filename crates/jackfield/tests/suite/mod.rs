//! What the tests share: fixtures in plugin directories of their own, and ways to look at hosts.
//!
//! Fixtures are built plugins. `JACKFIELD_FIXTURES` names a directory with one for each; without it,
//! cargo builds them ([`fixtures`]). A test puts those it wants, under names and with limits of its
//! own, into a directory that goes with it ([`Plugins`]).

#![allow(dead_code, reason = "no test wants all of it")]

pub(crate) mod fixtures;
#[cfg(all(feature = "grpc", target_os = "linux"))]
pub(crate) mod grpc;
#[cfg(feature = "otel")]
pub(crate) mod kept;
#[cfg(target_os = "linux")]
pub(crate) mod processes;
pub(crate) mod versions;
#[cfg(feature = "wasm")]
pub(crate) mod wat;
pub(crate) mod watch;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fixtures_api::misbehave::Misbehave;
use jackfield::{CallError, Client, Encoding, Host, HostBuilder, Manifest};
use tempfile::TempDir;

/// Time in which anything that is waited for happens. Only a broken build needs it.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a fixture is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Native,
    /// The same library, in a process of its own.
    Isolated,
    Process,
    /// A program that speaks go-plugin's protocol, called over one stream where it can be.
    Grpc,
    /// The same, called by unary calls of its services.
    GrpcUnary,
    /// A core module by the Extism ABI, and by the direct path where values are binary.
    Extism,
    Component,
    /// A WASI command.
    Command,
}

/// One run of the conformance suite: a mechanism and an encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) mechanism: Mechanism,
    pub(crate) encoding: Encoding,
}

impl Run {
    /// A plugin directory with this fixture.
    pub(crate) fn plugins(self, fixture: &str) -> Plugins {
        Plugins::with(Fixture::new(self.mechanism, fixture))
    }

    /// A host with this fixture.
    pub(crate) async fn host(self, fixture: &str) -> Host {
        let plugins = self.plugins(fixture);
        let host = in_time(plugins.builder().encoding(self.encoding).build()).await.expect("a host");
        assert!(host.refused().is_empty(), "{:?}", host.refused());
        host
    }
}

/// A fixture as a test wants it.
pub(crate) struct Fixture {
    mechanism: Mechanism,
    fixture: String,
    name: String,
    env: Vec<(String, String)>,
    limits: Vec<(String, String)>,
    more: String,
    grpc: String,
    sandbox: String,
}

impl Fixture {
    pub(crate) fn new(mechanism: Mechanism, fixture: &str) -> Self {
        let (fixture, name) = (fixture.to_owned(), fixture.to_owned());
        let grpc = if mechanism == Mechanism::GrpcUnary { "calls = \"unary\"\n" } else { "" }.to_owned();
        let more = if mechanism == Mechanism::Isolated { "isolation = \"process\"" } else { "" }.to_owned();
        let (env, limits, sandbox) = (Vec::new(), Vec::new(), String::new());
        Self { mechanism, fixture, name, env, limits, more, grpc, sandbox }
    }

    /// A plugin of the matrix, in `go` or `rust`, which is made with go-plugin and the SDK.
    pub(crate) fn matrix(language: &str) -> Self {
        Self::new(Mechanism::Grpc, &format!("matrix-{language}"))
            .grpc("cookie = { key = \"MATRIX_PLUGIN\", value = \"interoperability\" }\nplugin = \"matrix\"")
    }

    /// `misbehave` as a program that starts like this, and is called like this.
    pub(crate) fn misbehaving(how: &str) -> Self {
        Self::new(Mechanism::Process, "misbehave").named(how).env("MISBEHAVE", how)
    }

    /// Under this name, instead of the fixture's.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// With this variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this limit, as the manifest writes it.
    pub(crate) fn limit(mut self, name: &str, value: &str) -> Self {
        self.limits.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Whether a limit of it is the operating system's.
    fn takes_runner(&self) -> bool {
        let names = ["memory", "address_space", "cpu_time", "cpu_rate", "processes", "files", "file_size"];
        let is_program = matches!(self.mechanism, Mechanism::Process | Mechanism::Grpc | Mechanism::GrpcUnary);
        is_program && self.limits.iter().any(|(name, _)| names.contains(&&**name))
    }

    /// With more lines in the manifest's `[grpc]`.
    pub(crate) fn grpc(mut self, lines: &str) -> Self {
        self.grpc = format!("{}{lines}\n", self.grpc);
        self
    }

    /// With a `[sandbox]` of these lines.
    pub(crate) fn sandbox(mut self, lines: &str) -> Self {
        self.sandbox = format!("[sandbox]\n{lines}\n");
        self
    }

    /// With more lines in the manifest, at its top.
    pub(crate) fn manifest(mut self, lines: &str) -> Self {
        let before = if self.more.is_empty() { String::new() } else { self.more + "\n" };
        self.more = before + lines;
        self
    }
}

/// A directory of plugins that goes with its test.
pub(crate) struct Plugins {
    dir: TempDir,
    /// Whether one of them takes the runner.
    runner: std::cell::Cell<bool>,
}

impl Plugins {
    pub(crate) fn new() -> Self {
        Self { dir: fixtures::scratch_dir(), runner: std::cell::Cell::new(false) }
    }

    /// A directory with this plugin.
    pub(crate) fn with(fixture: Fixture) -> Self {
        let plugins = Self::new();
        plugins.add(fixture);
        plugins
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Adds a fixture in a directory of its name.
    pub(crate) fn add(&self, fixture: Fixture) {
        if fixture.mechanism == Mechanism::Isolated || !fixture.sandbox.is_empty() || fixture.takes_runner() {
            self.runner.set(true);
        }
        let built = fixtures::built(fixture.mechanism, &fixture.fixture);
        let entry = Manifest::read(&built.join("plugin.toml")).expect("the fixture's manifest").entry;
        let file = entry.file_name().expect("a file");
        let dir = self.path().join(&fixture.name);
        fs::create_dir(&dir).expect("a directory for the plugin");
        // A link, not a copy: a program that was just written cannot always be run, since a test on
        // another thread may be starting a program that inherits the open file.
        if fs::hard_link(&entry, dir.join(file)).is_err() {
            fs::copy(&entry, dir.join(file)).expect("a copy");
        }
        let mut manifest = format!("name = {:?}\n{}\nentry = {file:?}\n", fixture.name, fixture.more);
        if matches!(fixture.mechanism, Mechanism::Grpc | Mechanism::GrpcUnary) {
            manifest += &format!("mechanism = \"grpc\"\n[grpc]\n{}", fixture.grpc);
        }
        if !fixture.env.is_empty() {
            manifest += "[env]\n";
            fixture.env.iter().for_each(|(name, value)| writeln!(manifest, "{name} = {value:?}").expect("to memory"));
        }
        if !fixture.limits.is_empty() {
            manifest += "[limits]\n";
            fixture.limits.iter().for_each(|(name, value)| writeln!(manifest, "{name} = {value}").expect("to memory"));
        }
        manifest += &fixture.sandbox;
        fs::write(dir.join("plugin.toml"), manifest).expect("a manifest");
    }

    /// Adds a file as it is.
    pub(crate) fn add_file(&self, name: &str, content: &[u8]) {
        fs::write(self.path().join(name), content).expect("a file");
    }

    pub(crate) fn builder(&self) -> HostBuilder {
        let builder = Host::builder().plugin_dir(self.path()).cache_dir(fixtures::cache_dir());
        match self.runner.get() {
            true => builder.runner(fixtures::runner()),
            false => builder,
        }
    }

    pub(crate) async fn host(&self) -> Host {
        in_time(self.builder().build()).await.expect("a host")
    }
}

/// The fixture that misbehaves, well started.
pub(crate) fn misbehave(host: &Host, name: &str) -> Client<dyn Misbehave> {
    host.get(name).unwrap_or_else(|error| panic!("{error}; refused: {}", all_refused(host)))
}

/// Why a plugin was refused, with all causes.
pub(crate) fn refused(host: &Host, name: &str) -> String {
    let all = host.refused();
    let refused = all.iter().find(|refused| refused.name == name);
    let refused = refused.unwrap_or_else(|| panic!("`{name}` was not refused; refused: {}", all_refused(host)));
    chain(&refused.reason)
}

fn all_refused(host: &Host) -> String {
    host.refused().iter().map(|refused| format!("{}: {}\n", refused.name, chain(&refused.reason))).collect()
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("to memory");
        cause = error.source();
    }
    text
}

/// How a call ended: its status, then its error.
pub(crate) fn ended<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, CallError<E>>) -> String {
    match result {
        Ok(value) => format!("ok: {value:?}"),
        Err(error) => format!("{}: {error}", error.status()),
    }
}

/// Asserts that `text` contains every one of `parts`.
#[track_caller]
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// Waits for a future, and not for ever.
#[track_caller]
pub(crate) fn in_time<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        let answered = tokio::time::timeout(DEADLINE, future).await;
        answered.unwrap_or_else(|_| panic!("not within {DEADLINE:?}, at {caller}"))
    }
}

/// Waits until something is so that nobody tells us of.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// This test binary again, to run this one test: a host that may die.
pub(crate) fn again(test: &str) -> std::process::Command {
    let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("RUST_BACKTRACE", "0");
    child
}
