//! Ten random faults a second against a host that serves: plugins are killed, stopped, slowed down, made to babble, and
//! have their files replaced by halves of them. Every call gets an answer or an error of a known kind, the host does not
//! panic, and soon after the last fault every plugin is well; at the end nothing is left.
//!
//! What happens is drawn from a seed, which is printed: `JACKFIELD_CHAOS_SEED` repeats it, as far as the machine allows.
//! `JACKFIELD_CHAOS_SECONDS` sets how long it goes on, 20 if nothing is said.

#![cfg(target_os = "linux")]

mod callers;
mod faults;
mod http;
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use callers::Tally;
use faults::Faults;
use http::Connection;
use random::Random;
use serde_json::Value;

/// Faults in a second.
const RATE: u32 = 10;

const CALLERS: u64 = 8;

/// Time after the last fault in which every plugin is well again.
const RECOVERY: Duration = Duration::from_secs(5);

/// Time in which anything else happens that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Marks the plugins' processes as this test's.
const MARK: &str = "JACKFIELD_TEST_MARK";

/// The fixture `misbehave`, by its directory, and how many plugins are made of it. The library can only stand by: what
/// ends it ends its host.
const PLUGINS: [(&str, usize); 4] =
    [("misbehave-process", 11), ("misbehave-grpc", 6), ("misbehave-wasm", 2), ("misbehave", 1)];

#[test]
fn ten_faults_a_second_cost_nobody_an_answer_and_leave_nothing() {
    let seconds = number("JACKFIELD_CHAOS_SECONDS").unwrap_or(20);
    let seed = number("JACKFIELD_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()) ^ random::now());
    println!("chaos: seed {seed}, {seconds} s");
    let place = Place::new(seed);
    let mut host = Service::start(&place);

    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (socket, is_over) = (place.socket(), Arc::clone(&is_over));
            let (names, random) = (place.names(), Random::new(seed ^ (caller + 1)));
            thread::spawn(move || callers::call(&socket, &names, random, &is_over))
        })
        .collect();

    let mut faults = Faults::new(&place, Random::new(seed));
    let pause = Duration::from_secs(1) / RATE;
    let began = Instant::now();
    for fault in 0..seconds as u32 * RATE {
        // Chaos has its own pace. A machine that cannot keep it does less, and does not catch up.
        thread::sleep((began + pause * fault).saturating_duration_since(Instant::now()));
        faults.next();
        assert!(host.is_alive(), "the host has ended; seed {seed}: {}", host.said());
    }
    let done = faults.end();
    println!("chaos: {done:?}");

    let ended = Instant::now();
    let mut admin = Connection::to(&place.socket());
    loop {
        let unwell = unwell(&mut admin, &place);
        if unwell.is_empty() {
            break;
        }
        assert!(
            ended.elapsed() < RECOVERY,
            "not well {RECOVERY:?} after the last fault; seed {seed}: {unwell:#?}\n{}",
            host.said()
        );
        thread::sleep(Duration::from_millis(10));
    }
    println!("chaos: all {} are well {:.1?} after the last fault", place.names().len(), ended.elapsed());

    is_over.store(true, Ordering::Release);
    let mut tally = Tally::default();
    for caller in callers {
        tally.add(caller.join().unwrap_or_else(|_| panic!("a call went wrong, see above; seed {seed}")));
    }
    println!("chaos: {tally:?}");
    assert!(tally.right > seconds * 100, "somebody was served: {tally:?}; seed {seed}");
    assert!(tally.failed.values().sum::<u64>() > 0, "the faults were felt: {tally:?}; seed {seed}");

    host.end();
    let said = host.said();
    assert!(!said.contains("panicked at"), "the host panicked; seed {seed}: {said}");
    let left = running(&place.mark);
    assert!(left.is_empty(), "left behind: {left:?}; seed {seed}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|number| number.parse().unwrap_or_else(|_| panic!("{variable} is no number: {number}")))
}

/// The plugins that are not ready, or do not answer, with what is known of them.
fn unwell(admin: &mut Connection, place: &Place) -> BTreeMap<String, String> {
    let names = place.names().into_iter().filter_map(|name| {
        let (_, shown) = admin.get(&format!("/v1/plugins/{name}"));
        if shown["state"] != "ready" {
            return Some((name, shown.to_string()));
        }
        let (status, answer) = admin.call(&name, "echo", serde_json::json!(["well"]), "1s");
        (status != 200 || answer["answer"] != "well").then(|| (name, format!("{status}: {answer}")))
    });
    names.collect()
}

/// A directory with the plugins, and what else a host wants.
struct Place {
    dir: tempfile::TempDir,
    mark: String,
}

impl Place {
    fn new(seed: u64) -> Self {
        // Beside the fixtures, so that their files can be linked.
        let dir = tempfile::Builder::new().prefix("chaos-").tempdir_in(built().parent().expect("a directory"));
        let place = Self { dir: dir.expect("a directory"), mark: format!("chaos-{}-{seed}", std::process::id()) };
        let mut number = 0;
        for (fixture, count) in PLUGINS {
            for _ in 0..count {
                place.add(fixture, &format!("p{number:02}"));
                number += 1;
            }
        }
        let socket = place.socket();
        let config = format!(
            "plugins = ['plugins']\nlisten = ['unix:{}']\nstate_dir = 'state'\ncache_dir = 'cache'\nwatch = true\n",
            socket.display()
        );
        fs::write(place.path("jackfield.toml"), config).expect("written");
        place
    }

    fn add(&self, fixture: &str, name: &str) {
        let built = built().join(fixture);
        let manifest = fs::read_to_string(built.join("plugin.toml"));
        let manifest =
            manifest.unwrap_or_else(|error| panic!("`{}`: {error}: run `cargo xtask plugins` first", built.display()));
        let entry =
            manifest.lines().find_map(|line| line.strip_prefix("entry = \"")?.strip_suffix('"')).expect("an entry");
        let dir = self.path("plugins").join(name);
        fs::create_dir_all(&dir).expect("a directory");
        for file in [entry, ".good"] {
            fs::hard_link(built.join(entry), dir.join(file)).expect("a link");
        }
        let mut text = format!("name = \"{name}\"\nentry = \"{entry}\"\n");
        if fixture.ends_with("grpc") {
            text += "mechanism = \"grpc\"\n";
        }
        if fixture != "misbehave" {
            text += &format!("[env]\n{MARK} = \"{}\"\n[limits]\ncall_timeout = \"1s\"\n", self.mark);
        }
        if fixture.ends_with("process") || fixture.ends_with("grpc") {
            // As many restarts as it takes: thirty faults a minute are what others are quarantined for.
            text += "start_timeout = \"3s\"\nstop_grace = \"200ms\"\n[lifecycle]\nrestarts = 1000000\nbackoff = \"10ms\"\nbackoff_max = \"100ms\"\n";
        }
        fs::write(dir.join("plugin.toml"), text).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("host.sock")
    }

    fn names(&self) -> Vec<String> {
        (0..PLUGINS.iter().map(|(_, count)| count).sum()).map(|number: usize| format!("p{number:02}")).collect()
    }
}

/// The directory of the fixtures.
fn built() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = std::env::var_os("JACKFIELD_FIXTURES").map_or_else(|| root.join("target/fixtures"), PathBuf::from);
    assert!(dir.is_dir(), "the fixtures are not built: `cargo xtask plugins` does that");
    dir.canonicalize().expect("a directory")
}

/// The processes that carry the mark.
fn running(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| carries(*number, &wanted)).collect()
}

fn carries(process: u32, variable: &str) -> bool {
    let variables = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    variables.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())
}

/// `jackfield run`.
struct Service {
    child: Child,
    said: thread::JoinHandle<()>,
    log: PathBuf,
}

impl Service {
    fn start(place: &Place) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jackfield"));
        command.args(["run", "--config", "jackfield.toml"]).current_dir(place.dir.path());
        command.env_remove("JACKFIELD_PLUGINS").env_remove("JACKFIELD_HOST");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let log = place.path("log");
        let (stderr, mut file) = (child.stderr.take().expect("stderr"), fs::File::create(&log).expect("a log"));
        let said = thread::spawn(move || drop(std::io::copy(&mut BufReader::new(stderr), &mut file)));
        let mut service = Self { child, said, log };
        let began = Instant::now();
        while std::os::unix::net::UnixStream::connect(place.socket()).is_err() {
            assert!(service.is_alive() && began.elapsed() < PATIENCE, "it does not listen: {}", service.said());
            thread::sleep(Duration::from_millis(10));
        }
        let mut admin = Connection::to(&place.socket());
        loop {
            let unwell = unwell(&mut admin, place);
            if unwell.is_empty() {
                return service;
            }
            assert!(began.elapsed() < PATIENCE, "not well at the start: {unwell:#?}\n{}", service.said());
        }
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// What it wrote to its log, the end of it.
    fn said(&self) -> String {
        let log = fs::File::open(&self.log).expect("the log");
        let lines: Vec<_> = BufReader::new(log).lines().map_while(Result::ok).collect();
        lines[lines.len().saturating_sub(200)..].join("\n")
    }

    /// Ends it as a service is ended.
    fn end(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("its state") {
                Some(status) => break status,
                None => assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.said()),
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}: {}", self.said());
        while !self.said.is_finished() {
            assert!(began.elapsed() < PATIENCE, "somebody has its stderr");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an answer says, whatever it is.
fn kind_of(answer: &Value) -> &str {
    answer.pointer("/error/kind").and_then(Value::as_str).unwrap_or_default()
}
