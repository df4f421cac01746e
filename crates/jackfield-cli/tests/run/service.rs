//! A directory with plugins, a service on it, and commands that ask it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

const JACKFIELD: &str = env!("CARGO_BIN_EXE_jackfield");

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the built plugins are: beside the profile's directory that the command was built into.
pub fn built() -> PathBuf {
    let target = Path::new(JACKFIELD).ancestors().nth(2).expect("target/<profile>/jackfield");
    let plugins = target.join("plugins");
    let english = plugins.join("english-process");
    assert!(english.is_dir(), "`{}` is missing: run `cargo xtask plugins` first", english.display());
    plugins
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory with a directory `plugins`.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(place.path("plugins")).expect("a directory");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// Puts a built plugin into the directory.
    pub fn link(&self, name: &str) {
        let (from, to) = (built().join(name), self.path("plugins").join(name));
        fs::create_dir(&to).expect("a directory");
        for file in fs::read_dir(from).expect("it is built") {
            let file = file.expect("a file");
            fs::copy(file.path(), to.join(file.file_name())).expect("copied");
        }
    }

    /// Writes a plugin in Python, or another version of it.
    pub fn script(&self, name: &str, code: &str) {
        let directory = self.path("plugins").join(name);
        fs::create_dir_all(&directory).expect("a directory");
        let manifest = format!("name = '{name}'\nmechanism = 'process'\nentry = 'main.py'\n");
        fs::write(directory.join("plugin.toml"), manifest).expect("written");
        // Under its name all at once, as an installer would.
        let (early, file) = (directory.join(".early"), directory.join("main.py"));
        fs::write(&early, format!("#!/usr/bin/env python3\n{code}")).expect("written");
        fs::set_permissions(&early, fs::Permissions::from_mode(0o755)).expect("set");
        fs::rename(early, file).expect("renamed");
    }

    /// What is in the directory, sorted.
    pub fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.0.path()).expect("a directory");
        let mut files: Vec<_> =
            files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8")).collect();
        files.sort();
        files
    }

    /// Runs the command with a host of its own.
    pub fn run(&self, words: &[&str]) -> Run {
        self.run_in(&[&["--plugins", "plugins"], words].concat(), &[])
    }

    pub fn run_in(&self, words: &[&str], variables: &[(&str, String)]) -> Run {
        let mut command = self.command(words);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let output = command.stdin(Stdio::null()).output().expect("the command starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().expect("it exits");
        Run { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(JACKFIELD);
        command.args(words).current_dir(self.0.path()).env_remove("JACKFIELD_PLUGINS").env_remove("JACKFIELD_HOST");
        command
    }
}

/// What a command did.
#[derive(Debug, PartialEq)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The data of a command that must have done what it was asked for.
    pub fn data(self) -> String {
        assert_eq!((self.code, &*self.stderr), (0, ""), "{}", self.stdout);
        self.stdout
    }

    pub fn json(self) -> Value {
        let data = self.data();
        serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"))
    }
}

/// A command that runs, and the lines that it writes.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn new(mut command: Command, of: fn(&mut Child) -> Box<dyn Read + Send>) -> Self {
        let mut child = command.stdin(Stdio::null()).spawn().expect("the command starts");
        let (sender, lines) = channel();
        let stream = of(&mut child);
        std::thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that contains `part`.
    pub fn line_with(&mut self, part: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no line with {part:?} ({error}); there were {:#?}", self.seen),
            }
        }
    }

    /// Waits for the end, and gives the exit code; -1 if it was a signal.
    pub fn wait(&mut self) -> i32 {
        let mut code = None;
        until("the command ends", || {
            code = self.child.try_wait().expect("it is ours");
            code.is_some()
        });
        code.and_then(|code| code.code()).unwrap_or(-1)
    }

    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn signal(&self, name: &str) {
        signal(name, u64::from(self.child.id()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a process is there and is not just waiting to be forgotten.
pub fn lives(process: u64) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &process.to_string()]).output();
    let state = String::from_utf8(output.expect("`ps` is there").stdout).expect("UTF-8");
    !matches!(state.trim().chars().next(), None | Some('Z'))
}

pub fn signal(name: &str, process: u64) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.expect("`kill` is there").success(), "SIG{name} to {process}");
}

/// `jackfield run`, until it is dropped.
pub struct Service<'a> {
    place: &'a Place,
    running: Running,
    address: String,
}

impl<'a> Service<'a> {
    pub fn start(place: &'a Place) -> Self {
        Self::started(place, &["run", "--plugins", "plugins", "--listen", "unix:host.sock"])
    }

    /// With a configuration, to which plugins and the socket are added where it has none.
    pub fn start_with(place: &'a Place, configuration: &str, words: &[&str]) -> Self {
        let plugins = if configuration.contains("plugins =") { "" } else { "plugins = ['plugins']\n" };
        let listen = if configuration.contains("listen =") { "" } else { "listen = ['unix:host.sock']\n" };
        place.write("jackfield.toml", &format!("{plugins}{listen}{configuration}"));
        Self::started(place, &[&["run"], words].concat())
    }

    fn started(place: &'a Place, words: &[&str]) -> Self {
        let mut command = place.command(words);
        command.stderr(Stdio::piped());
        let mut running = Running::new(command, |child| Box::new(child.stderr.take().expect("piped")));
        let line = running.line_with("listening at ");
        let (_, address) = line.rsplit_once("listening at ").expect("it is there");
        let address = address.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        let end = address.find(['"', ',']).unwrap_or(address.len());
        Self { place, running, address: address[..end].to_owned() }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Runs a command that asks it.
    pub fn run(&self, words: &[&str]) -> Run {
        self.place.run_in(&[&["--host", &*self.address], words].concat(), &[])
    }

    /// Starts a command that asks it.
    pub fn spawn(&self, words: &[&str]) -> Running {
        let mut command = self.place.command(&[&["--host", &*self.address], words].concat());
        command.stdout(Stdio::piped());
        Running::new(command, |child| Box::new(child.stdout.take().expect("piped")))
    }

    /// Waits for a line of its log.
    pub fn line_with(&mut self, part: &str) -> String {
        self.running.line_with(part)
    }

    pub fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    pub fn wait(&mut self) -> i32 {
        self.running.wait()
    }
}
