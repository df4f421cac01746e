//! Plugins and hosts of the interoperability matrix (`fixtures/grpc`), in Go and in Rust.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use jackfield::{Host, Plugin};
use jackfield_grpc::channel::Channel;
use jackfield_grpc::handshake::{Line, variable};
use matrix::pb::matrix_client::MatrixClient;
use tempfile::TempDir;

use super::{Fixture, Mechanism, fixtures};

/// The languages of plugins.
pub(crate) const LANGUAGES: [&str; 2] = ["rust", "go"];

/// Those languages whose plugin is there. What is missing is told.
pub(crate) fn languages() -> Vec<&'static str> {
    LANGUAGES.into_iter().filter(|language| program(language).is_some()).collect()
}

/// The program of a plugin. None, and told, if it is not there.
pub(crate) fn program(language: &str) -> Option<PathBuf> {
    let name = format!("matrix-{language}");
    present(fixtures::built(Mechanism::Grpc, &name).join(name))
}

/// `matrix-host` or `rogue`. None, and told, if it is not there.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let beside = fixtures::built(Mechanism::Grpc, "matrix-go");
    present(beside.parent().expect("a directory of fixtures").join("grpc").join(name))
}

fn present(file: PathBuf) -> Option<PathBuf> {
    /// Once is enough.
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if file.is_file() {
        return Some(file);
    }
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(file.clone()) {
        fixtures::skip(&format!("`{}` is not built: `cargo xtask plugins` does that, with Go", file.display()));
    }
    None
}

/// A plugin of the matrix, as it is.
pub(crate) fn fixture(language: &str) -> Fixture {
    Fixture::matrix(language).grpc("versions = [2, 3]")
}

/// Calls of a plugin by its own services, with messages of any size.
pub(crate) fn client(host: &Host, name: &str) -> MatrixClient<Channel> {
    let plugin = host.plugin(name).unwrap_or_else(|error| panic!("{error}; refused: {:?}", host.refused()));
    client_of(&plugin)
}

pub(crate) fn client_of(plugin: &Plugin) -> MatrixClient<Channel> {
    let connection = plugin.connection().expect("it runs, and speaks gRPC");
    MatrixClient::new(connection.channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
}

/// A plugin that a test started by hand, as a host would that then does nothing. Dropped, it is killed.
pub(crate) struct Raw {
    pub(crate) child: Child,
    pub(crate) line: Line,
    _stdout: BufReader<ChildStdout>,
    /// A plugin that is killed leaves its sockets.
    _sockets: TempDir,
}

impl Raw {
    /// Starts a program with further variables, and reads its handshake.
    pub(crate) fn start(program: &Path, variables: &[(&str, &str)]) -> Self {
        let (key, value) = matrix::COOKIE;
        let sockets = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(program);
        command.env(variable::UNIX_SOCKET_DIR, sockets.path());
        command.env(key, value).env(variable::PROTOCOL_VERSIONS, "2,3").envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the plugin runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("its first line");
        let line = Line::parse(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        Self { child, line, _stdout: stdout, _sockets: sockets }
    }

    /// The lines of `[grpc]` by which a host attaches to it.
    pub(crate) fn reattach(&self) -> String {
        self::reattach(self.child.id(), &self.line.address.location())
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }
}

/// The lines of `[grpc]` by which a host attaches to a process.
pub(crate) fn reattach(pid: u32, address: &str) -> String {
    format!("reattach = {{ address = {address:?}, pid = {pid}, version = 3 }}")
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
