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
pub(crate) fn built() -> PathBuf {
    let target = Path::new(JACKFIELD).ancestors().nth(2).expect("target/<profile>/jackfield");
    let plugins = target.join("plugins");
    let english = plugins.join("english-process");
    assert!(english.is_dir(), "`{}` is missing: run `cargo xtask plugins` first", english.display());
    plugins
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory with a directory `plugins`.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(place.path("plugins")).expect("a directory");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// Lets nobody else read a file.
    pub(crate) fn only_ours(&self, name: &str) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("set");
    }

    /// Puts a built plugin into the directory.
    pub(crate) fn link(&self, name: &str) {
        self.copy(&built().join(name), name);
    }

    /// Puts a built plugin into the directory, under another name and with another manifest.
    #[allow(dead_code, reason = "of the tests of traces")]
    pub(crate) fn link_as(&self, name: &str, other: &str, manifest: impl FnOnce(String) -> String) {
        self.copy(&built().join(name), other);
        let file = self.path("plugins").join(other).join("plugin.toml");
        let text = fs::read_to_string(&file).expect("it has a manifest");
        fs::write(file, manifest(text)).expect("written");
    }

    /// Puts a built fixture into the directory.
    pub(crate) fn fixture(&self, name: &str) {
        self.copy(&built().with_file_name("fixtures").join(name), name);
    }

    fn copy(&self, from: &Path, name: &str) {
        let to = self.path("plugins").join(name);
        fs::create_dir(&to).expect("a directory");
        for file in fs::read_dir(from).expect("`cargo xtask plugins` has built it") {
            let file = file.expect("a file");
            fs::copy(file.path(), to.join(file.file_name())).expect("copied");
        }
    }

    /// Writes a plugin in Python, or another version of it.
    pub(crate) fn script(&self, name: &str, code: &str) {
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
    pub(crate) fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.0.path()).expect("a directory");
        let mut files: Vec<_> =
            files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8")).collect();
        files.sort();
        files
    }

    /// Runs the command with a host of its own.
    pub(crate) fn run(&self, words: &[&str]) -> Run {
        self.run_in(&[&["--plugins", "plugins"], words].concat(), &[])
    }

    pub(crate) fn run_in(&self, words: &[&str], variables: &[(&str, String)]) -> Run {
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
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The data of a command that must have done what it was asked for.
    pub(crate) fn data(self) -> String {
        assert_eq!((self.code, &*self.stderr), (0, ""), "{}", self.stdout);
        self.stdout
    }

    pub(crate) fn json(self) -> Value {
        let data = self.data();
        serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"))
    }
}

/// A command that runs, and the lines that it writes.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    early: Option<String>,
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
        Self { child, lines, early: None, seen: Vec::new() }
    }

    /// Waits for a line that contains `part`.
    pub(crate) fn line_with(&mut self, part: &str) -> String {
        loop {
            match self.early.take().map_or_else(|| self.lines.recv_timeout(PATIENCE), Ok) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no line with {part:?} ({error}); there were {:#?}", self.seen),
            }
        }
    }

    /// Whether a line has come. It is still there for [`Running::line_with`].
    pub(crate) fn has_line(&mut self) -> bool {
        self.early = self.early.take().or_else(|| self.lines.recv_timeout(Duration::from_millis(200)).ok());
        self.early.is_some()
    }

    /// Waits for the end, and gives the exit code; -1 if it was a signal.
    pub(crate) fn wait(&mut self) -> i32 {
        let mut code = None;
        until("the command ends", || {
            code = self.child.try_wait().expect("it is ours");
            code.is_some()
        });
        code.and_then(|code| code.code()).unwrap_or(-1)
    }

    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(name, u64::from(self.child.id()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A program that is ended when it is dropped.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reports what is left out.
pub(crate) fn skip(what: &str) {
    use std::io::Write as _;
    let file = std::env::var_os("JACKFIELD_SKIPS").unwrap_or_else(|| panic!("{what}"));
    eprintln!("{what}");
    let mut file = fs::File::options().create(true).append(true).open(file).expect("the file of skips");
    writeln!(file, "{what}").expect("the file of skips");
}

/// Whether a process is there and is not just waiting to be forgotten.
pub(crate) fn lives(process: u64) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &process.to_string()]).output();
    let state = String::from_utf8(output.expect("`ps` is there").stdout).expect("UTF-8");
    !matches!(state.trim().chars().next(), None | Some('Z'))
}

pub(crate) fn signal(name: &str, process: u64) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.expect("`kill` is there").success(), "SIG{name} to {process}");
}

/// `jackfield run`, until it is dropped.
pub(crate) struct Service<'a> {
    place: &'a Place,
    running: Running,
    address: String,
}

impl<'a> Service<'a> {
    pub(crate) fn start(place: &'a Place) -> Self {
        Self::start_in(place, &[])
    }

    /// With these variables in its environment.
    pub(crate) fn start_in(place: &'a Place, variables: &[(&str, String)]) -> Self {
        Self::started(place, &["run", "--plugins", "plugins", "--listen", "unix:host.sock"], variables)
    }

    /// With a configuration, to which plugins and the socket are added where it has none.
    pub(crate) fn start_with(place: &'a Place, configuration: &str, words: &[&str]) -> Self {
        let plugins = if configuration.contains("plugins =") { "" } else { "plugins = ['plugins']\n" };
        let listen = if configuration.contains("listen =") { "" } else { "listen = ['unix:host.sock']\n" };
        place.write("jackfield.toml", &format!("{plugins}{listen}{configuration}"));
        Self::started(place, &[&["run"], words].concat(), &[])
    }

    fn started(place: &'a Place, words: &[&str], variables: &[(&str, String)]) -> Self {
        let mut command = place.command(words);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stderr(Stdio::piped());
        let mut running = Running::new(command, |child| Box::new(child.stderr.take().expect("piped")));
        let line = running.line_with("listening at ");
        let (_, address) = line.rsplit_once("listening at ").expect("it is there");
        let address = address.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        let end = address.find(['"', ',']).unwrap_or(address.len());
        Self { place, running, address: address[..end].to_owned() }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Runs a command that asks it.
    pub(crate) fn run(&self, words: &[&str]) -> Run {
        self.place.run_in(&[&["--host", &*self.address], words].concat(), &[])
    }

    /// Starts a command that asks it.
    pub(crate) fn spawn(&self, words: &[&str]) -> Running {
        let mut command = self.place.command(&[&["--host", &*self.address], words].concat());
        command.stdout(Stdio::piped());
        Running::new(command, |child| Box::new(child.stdout.take().expect("piped")))
    }

    /// Waits for a line of its log.
    pub(crate) fn line_with(&mut self, part: &str) -> String {
        self.running.line_with(part)
    }

    /// The number of its process.
    #[allow(dead_code, reason = "of the tests of traces")]
    pub(crate) fn process(&self) -> u32 {
        self.running.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    pub(crate) fn wait(&mut self) -> i32 {
        self.running.wait()
    }
}
