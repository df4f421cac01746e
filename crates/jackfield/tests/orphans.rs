//! A host that is killed leaves nothing: no program of a plugin, nothing that one has started, no directory,
//! and not the guard that sees to it.

#![cfg(all(feature = "process", target_os = "linux"))]

mod suite;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use jackfield::Manifest;
use suite::processes::{Mark, Signal, children, guards, kill, runs, signal, without_guard};
use suite::{Fixture, Mechanism, Plugins, eventually, fixtures, root};
use tempfile::TempDir;

/// Names the plugin directory to the host that is to be killed.
const PLUGINS: &str = "JACKFIELD_TEST_PLUGINS";

/// Within which time all is gone.
const SOON: Duration = Duration::from_secs(1);

/// A host in a process of its own, with all its plugins running.
struct Victim {
    host: Child,
    mark: Mark,
    /// Where it has its temporary files.
    temporary: TempDir,
    _stdout: BufReader<ChildStdout>,
    _plugins: Plugins,
}

impl Victim {
    /// Runs this test again, as such a host. `programs` are to run, those that plugins start included.
    fn start(test: &str, plugins: Plugins, mark: Mark, programs: usize) -> Self {
        // At the root, where a name is short enough for sockets.
        let temporary = tempfile::tempdir().expect("a directory");
        let mut host = suite::again(test);
        host.env(PLUGINS, plugins.path()).env("TMPDIR", temporary.path());
        let mut host = host.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a host");
        let mut stdout = BufReader::new(host.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while !line.ends_with("READY\n") {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).expect("its stdout"), 0, "the host is not ready");
        }
        eventually("all run", || mark.running().len() == programs);
        Self { host, mark, temporary, _stdout: stdout, _plugins: plugins }
    }

    fn guard(&self) -> u32 {
        let guards = guards(self.host.id());
        assert_eq!(guards.len(), 1, "one guard");
        guards[0]
    }

    fn kill(&mut self) {
        kill(self.host.id());
        self.host.wait().expect("it is reaped");
    }

    /// How long it takes from now until what it started, its guard and its directories are gone.
    fn gone(&self, guard: u32) -> [Duration; 3] {
        let began = Instant::now();
        let after = |what: &str, is_so: &dyn Fn() -> bool| {
            eventually(what, is_so);
            began.elapsed()
        };
        [
            after("the programs are gone", &|| self.mark.running().is_empty()),
            after("the guard is gone", &|| !runs(guard)),
            after("the directories are gone", &|| self.directories() == 0),
        ]
    }

    fn directories(&self) -> usize {
        fs::read_dir(self.temporary.path()).expect("a directory").count()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
        self.mark.kill();
    }
}

/// In the host that is to be killed: starts all plugins, lets those that can start programs do so, and waits.
fn be_killed_if_asked_to() {
    let Some(dir) = std::env::var_os(PLUGINS) else { return };
    let builder = jackfield::Host::builder().plugin_dir(dir).cache_dir(fixtures::cache_dir());
    let host = builder.build_blocking().expect("a host");
    assert!(host.refused().is_empty(), "{:?}", host.refused());
    for plugin in host.plugins().iter().filter(|plugin| plugin.name().starts_with("sdk")) {
        suite::misbehave(&host, plugin.name()).blocking().spawn_grandchild().expect("a grandchild");
    }
    println!("\nREADY");
    loop {
        std::thread::park();
    }
}

/// A plugin that starts a program, and holds neither to the end of its stdin nor to SIGTERM.
fn stubborn(plugins: &Plugins, name: &str, how: &[&str], mark: &Mark) {
    let misbehave = fixtures::built(Mechanism::Process, "misbehave");
    let program = Manifest::read(&misbehave.join("plugin.toml")).expect("its manifest").entry;
    with_grandchild(plugins, name, how, &program, &[("MISBEHAVE", "stubborn"), (Mark::VARIABLE, mark.value())]);
}

/// A plugin that has started a program when it begins.
fn with_grandchild(plugins: &Plugins, name: &str, how: &[&str], program: &Path, env: &[(&str, &str)]) {
    let dir = plugins.path().join(name);
    fs::create_dir(&dir).expect("a directory for the plugin");
    let script = root().join("fixtures/grandchild/with-grandchild.sh");
    // A link where it can be, as in `Plugins::add`.
    if fs::hard_link(&script, dir.join("with-grandchild.sh")).is_err() {
        fs::copy(&script, dir.join("with-grandchild.sh")).expect("a copy");
    }
    let arguments: Vec<_> = how.iter().map(PathBuf::from).chain([program.to_owned()]).collect();
    let mut manifest = format!("name = {name:?}\nmechanism = \"process\"\nentry = \"with-grandchild.sh\"\n");
    write!(manifest, "args = {arguments:?}\n[env]\n").expect("to memory");
    env.iter().for_each(|(name, value)| writeln!(manifest, "{name} = {value:?}").expect("to memory"));
    fs::write(dir.join("plugin.toml"), manifest).expect("a manifest");
}

#[test]
fn a_second_after_a_host_is_killed_20_plugins_and_what_they_started_are_gone() {
    be_killed_if_asked_to();
    let mark = Mark::new();
    let plugins = Plugins::new();
    let mut count = 0;
    let mut names = |what: &str, of: usize| -> Vec<String> {
        count += of;
        (0..of).map(|number| format!("{what}-{number}")).collect()
    };
    for name in names("sdk", 5) {
        plugins.add(Fixture::new(Mechanism::Process, "misbehave").named(&name).env(Mark::VARIABLE, mark.value()));
    }
    for name in names("stubborn", 3) {
        stubborn(&plugins, &name, &[], &mark);
    }
    for name in names("escaped", 3) {
        stubborn(&plugins, &name, &["--escaped"], &mark);
    }
    for name in names("python", 3) {
        let program = root().join("examples/greeter-python/greeter.py");
        with_grandchild(&plugins, &name, &[], &program, &[(Mark::VARIABLE, mark.value())]);
    }
    if let Some(program) = greeter_in_go() {
        for name in names("go", 3) {
            with_grandchild(&plugins, &name, &[], &program, &[(Mark::VARIABLE, mark.value())]);
        }
    }
    #[cfg(feature = "grpc")]
    for language in suite::grpc::languages() {
        for name in names(&format!("grpc-{language}"), 3) {
            let fixture = suite::grpc::fixture(language).named(&name).env("MATRIX_GRANDCHILD", "1");
            plugins.add(fixture.env(Mark::VARIABLE, mark.value()));
        }
    }
    let test = "a_second_after_a_host_is_killed_20_plugins_and_what_they_started_are_gone";
    let mut victim = Victim::start(test, plugins, mark, 2 * count);
    let guard = victim.guard();
    let directories = victim.directories();
    assert_eq!(directories > 0, cfg!(feature = "grpc"), "directories for sockets");

    victim.kill();
    let [programs, without_guard, without_directories] = victim.gone(guard);
    println!(
        "{count} plugins and {count} programs of theirs gone after {programs:?}; the guard after {without_guard:?}; \
         {directories} directories after {without_directories:?}",
    );
    assert!(without_directories < SOON, "{without_directories:?}");
    // With Go and gRPC it is 20.
    assert!(count >= 14, "{count} plugins");
}

/// The greeter in Go as a program. None, and told, if it is not there.
fn greeter_in_go() -> Option<PathBuf> {
    let beside = match std::env::var_os("JACKFIELD_FIXTURES") {
        Some(dir) => PathBuf::from(dir).join("../plugins"),
        None => root().join("target/plugins"),
    };
    let manifest = beside.join("greeter-go/plugin.toml");
    if !manifest.is_file() {
        fixtures::skip(&format!("`{}` is not there: `cargo xtask plugins` builds it, with Go", manifest.display()));
        return None;
    }
    Some(Manifest::read(&manifest).expect("its manifest").entry.canonicalize().expect("its program"))
}

/// What the test above shows would be worth nothing if they ended by themselves.
#[test]
fn without_a_guard_a_host_leaves_what_does_not_end_by_itself() {
    be_killed_if_asked_to();
    let mark = Mark::new();
    let plugins = Plugins::with(Fixture::new(Mechanism::Process, "misbehave").env(Mark::VARIABLE, mark.value()));
    stubborn(&plugins, "stubborn", &[], &mark);
    stubborn(&plugins, "escaped", &["--escaped"], &mark);
    let test = "without_a_guard_a_host_leaves_what_does_not_end_by_itself";
    let mut victim = Victim::start(test, plugins, mark, 5);
    without_guard(victim.host.id());
    victim.kill();
    eventually("the one with the SDK sees the end of its stdin", || victim.mark.running().len() == 4);
}

#[test]
fn a_guard_heeds_no_signal_of_a_terminal_and_one_that_dies_is_replaced() {
    be_killed_if_asked_to();
    let mark = Mark::new();
    let plugins = Plugins::new();
    stubborn(&plugins, "stubborn", &[], &mark);
    let test = "a_guard_heeds_no_signal_of_a_terminal_and_one_that_dies_is_replaced";
    let mut victim = Victim::start(test, plugins, mark, 2);
    let first = victim.guard();
    kill(first);
    eventually("there is another one", || guards(victim.host.id()).iter().any(|guard| *guard != first));
    let second = victim.guard();
    // A terminal's reach its foreground group alone, and `systemctl stop` everybody.
    for each in [Signal::INT, Signal::QUIT, Signal::HUP, Signal::TERM, Signal::TSTP] {
        eventually("it ignores them", || ignores(second, each));
        signal(second, each);
    }
    assert_eq!(victim.mark.running().len(), 2, "a guard that dies ends nothing");
    victim.kill();
    victim.gone(second);
}

fn ignores(process: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

#[test]
fn a_guard_ends_with_the_last_program_and_200_of_them_leave_nothing() {
    const CYCLES: usize = 200;
    let test = "a_guard_ends_with_the_last_program_and_200_of_them_leave_nothing";
    // In a process of its own, where no other test opens files and has children.
    let Some(dir) = std::env::var_os(PLUGINS) else {
        let plugins = Plugins::with(Fixture::new(Mechanism::Process, "misbehave"));
        #[cfg(feature = "grpc")]
        plugins.add(Fixture::new(Mechanism::Grpc, "misbehave").named("misbehave-grpc"));
        let temporary = tempfile::tempdir().expect("a directory");
        let mut child = suite::again(test);
        let status = child.env(PLUGINS, plugins.path()).env("TMPDIR", temporary.path()).status().expect("it runs");
        assert!(status.success(), "{status:?}");
        assert_eq!(fs::read_dir(temporary.path()).expect("a directory").count(), 0, "nothing is left");
        return;
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let open = || fs::read_dir("/proc/self/fd").expect("/proc").count();
    let mut at_first = 0;
    for cycle in 0..CYCLES {
        let builder = jackfield::Host::builder().plugin_dir(&dir).cache_dir(fixtures::cache_dir());
        let host = runtime.block_on(builder.build()).expect("a host");
        assert!(host.refused().is_empty(), "{:?}", host.refused());
        let guards = guards(std::process::id());
        assert_eq!(guards.len(), 1, "one guard for all");
        runtime.block_on(host.stop());
        drop(host);
        eventually("neither a guard nor a zombie", || children(std::process::id()).is_empty());
        if cycle == 9 {
            at_first = open();
        }
    }
    eventually("no more files are open than after ten", || open() <= at_first);
    println!("{CYCLES} cycles: {} files open after 10, {} after all", at_first, open());
}
