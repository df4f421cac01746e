//! Starts a program and reads the line in which it says where it listens.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jackfield_grpc::handshake::{Line, Protocol, variable};
use jackfield_grpc::net::{Address, Group};
use jackfield_grpc::tls::Identity;
use jackfield_protocol::runner::Enforced;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use super::end::Program;
use super::{GrpcError, Output};
use crate::log::PluginLog;
use crate::manifest::{GrpcSpec, Reattach, ReattachAddress};
use crate::mechanism::Spec;
use crate::program::{self, Child, Lines, PIPE_GRACE, ended};

/// Longest handshake. go-plugin's own host stops reading after 64 KiB.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a directory for sockets. A socket's address has room for 104 bytes on macOS and 108 on Linux,
/// and a name in the directory is `plugin` and up to ten digits.
const SOCKET_DIR_BYTES_MAX: usize = 85;

/// A program that listens.
pub(super) struct Launched {
    pub(super) program: Program,
    pub(super) address: Address,
    /// The version of the application's protocol that the plugin chose.
    pub(super) version: u32,
    /// Our certificate and the plugin's, in DER.
    pub(super) tls: Option<(Arc<Identity>, Vec<u8>)>,
    pub(super) multiplex: bool,
    /// Where its sockets are, ours for it as well. Goes with the session, whatever the plugin left in it.
    pub(super) sockets: Option<Arc<SocketDir>>,
    pub(super) socket_group: Option<String>,
    /// What the runner says is in force.
    pub(super) enforced: Vec<Enforced>,
}

/// The directory of one start's sockets: removed when it is dropped, or by the guard.
pub(super) struct SocketDir {
    directory: tempfile::TempDir,
    // After the directory: until it is gone, the guard knows of it.
    #[cfg(unix)]
    _watched: Option<program::Watched>,
}

impl SocketDir {
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Starts the program and waits for its handshake.
pub(super) async fn launch(
    spec: &Spec,
    log: &Arc<PluginLog>,
    runtime: &Handle,
    deadline: Instant,
) -> Result<Launched, GrpcError> {
    let grpc = &spec.grpc;
    let failed = |source| GrpcError::Spawn { program: spec.entry.clone(), source };
    let prepare = |what: String| GrpcError::Prepare { what };
    let identity = match grpc.tls {
        true => Some(Arc::new(Identity::generate().map_err(|error| prepare(error.to_string()))?)),
        false => None,
    };
    let sockets = socket_dir(grpc).map_err(|error| prepare(format!("no directory for sockets: {error}")))?;
    let mut command = program::command(spec).map_err(failed)?;
    // Whoever started us may be go-plugin's host, too: what it said to us must not reach our plugin.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(variable::PREFIX.as_bytes()))
    {
        command.env_remove(name);
    }
    let versions = grpc.versions.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    command
        .env(&grpc.cookie.key, &grpc.cookie.value)
        .env(variable::MIN_PORT, grpc.ports.0.to_string())
        .env(variable::MAX_PORT, grpc.ports.1.to_string())
        .env(variable::PROTOCOL_VERSIONS, versions)
        // Its stdin is a pipe that ends with us.
        .env(variable::LIFELINE, "stdin");
    if let Some(sockets) = &sockets {
        command.env(variable::UNIX_SOCKET_DIR, sockets.path());
    }
    if let Some(group) = &grpc.socket_group {
        command.env(variable::UNIX_SOCKET_GROUP, group);
    }
    if let Some(identity) = &identity {
        command.env(variable::CLIENT_CERT, identity.pem());
    }
    if grpc.multiplex {
        command.env(variable::MULTIPLEX_GRPC, "true");
    }
    let launch = program::confine(command, spec, sockets.as_ref().map(|sockets| sockets.path()))?;
    let (child, pipes) = program::spawn(launch, spec, log, runtime).map_err(failed)?;
    let prepared = match timeout_at(deadline, child.prepared()).await {
        Ok(prepared) => prepared.map_err(GrpcError::from),
        Err(_) => {
            let (waited, step) = (spec.limits.start_timeout, "its runner did not report");
            Err(GrpcError::NotReady { waited, step, output: Output::of(log) })
        }
    };
    let enforced = match prepared {
        Ok(enforced) => enforced,
        Err(error) => {
            child.kill().await;
            return Err(error);
        }
    };
    match handshake(spec, &child, pipes.stdout, log, runtime, deadline).await {
        Ok(line) => {
            let taken = take(grpc, line, identity);
            match taken {
                Ok((line, tls)) => Ok(Launched {
                    program: Program::started(child, pipes.stdin),
                    address: line.address,
                    version: line.app_version,
                    tls,
                    multiplex: grpc.multiplex,
                    sockets,
                    socket_group: grpc.socket_group.clone(),
                    enforced,
                }),
                Err(error) => {
                    child.kill().await;
                    Err(error)
                }
            }
        }
        Err(error) => {
            child.kill().await;
            Err(error)
        }
    }
}

/// Attaches to a program that somebody else started.
pub(super) fn attach(spec: &Spec, reattach: &Reattach) -> Result<Launched, GrpcError> {
    let refused = |why: &str| Err(GrpcError::Reattach { pid: reattach.pid, why: why.to_owned() });
    if spec.grpc.multiplex {
        return refused("what is multiplexed belongs to the host that started it");
    }
    let Some(program) = Program::attached(reattach.pid, reattach.test) else {
        return refused("no such process");
    };
    let highest = spec.grpc.versions.iter().copied().max().unwrap_or_default();
    Ok(Launched {
        program,
        address: match &reattach.address {
            ReattachAddress::Unix(path) => Address::Unix(path.clone()),
            ReattachAddress::Tcp(address) => Address::Tcp(*address),
        },
        version: reattach.version.unwrap_or(highest),
        // The key that its host has is not ours.
        tls: None,
        multiplex: false,
        sockets: None,
        socket_group: None,
        enforced: Vec::new(),
    })
}

/// A directory for the sockets of one start, which nobody else can look into. A short path: what a socket's
/// address has room for is about a hundred bytes.
fn socket_dir(grpc: &GrpcSpec) -> io::Result<Option<Arc<SocketDir>>> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix("jackfield-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let short = |directory: &tempfile::TempDir| directory.path().as_os_str().len() <= SOCKET_DIR_BYTES_MAX;
    let directory = match builder.tempdir() {
        Ok(directory) if short(&directory) => directory,
        _ => builder.tempdir_in("/tmp")?,
    };
    #[cfg(unix)]
    if let Some(group) = &grpc.socket_group {
        Group::from(&**group).open_directory(directory.path()).map_err(io::Error::other)?;
    }
    let _ = grpc;
    #[cfg(unix)]
    let _watched = program::watch_directory(directory.path());
    Ok(Some(Arc::new(SocketDir {
        directory,
        #[cfg(unix)]
        _watched,
    })))
}

type Tls = Option<(Arc<Identity>, Vec<u8>)>;

/// Compares what the plugin says with what it was asked for.
fn take(grpc: &GrpcSpec, line: Line, identity: Option<Arc<Identity>>) -> Result<(Line, Tls), GrpcError> {
    if !grpc.versions.contains(&line.app_version) {
        return Err(GrpcError::Version { plugin: line.app_version, host: grpc.versions.clone() });
    }
    if line.protocol == Protocol::NetRpc {
        return Err(GrpcError::NetRpc);
    }
    let tls = match (identity, &line.certificate) {
        (Some(identity), Some(certificate)) => Some((identity, certificate.clone())),
        (Some(_), None) => return Err(GrpcError::NoCertificate),
        (None, Some(_)) => return Err(GrpcError::UnaskedCertificate),
        (None, None) => None,
    };
    if grpc.multiplex && line.multiplex != Some(true) {
        return Err(GrpcError::NoMultiplexing);
    }
    Ok((line, tls))
}

/// Reads the first line, and leaves a task that reads on for ever: a plugin whose stdout is full stands still.
async fn handshake(
    spec: &Spec,
    child: &Child,
    mut stdout: Box<dyn AsyncRead + Send + Unpin>,
    log: &Arc<PluginLog>,
    runtime: &Handle,
    deadline: Instant,
) -> Result<Line, GrpcError> {
    let mut read = Vec::new();
    let line = timeout_at(deadline, first_line(&mut stdout, child, &mut read)).await;
    let output = || Output::of(log);
    let end = match line {
        Ok(Some(end)) => end,
        Ok(None) if timeout(PIPE_GRACE, child.ended()).await.is_ok() => {
            let exit = child.ended_with_stderr().await;
            return Err(match read.is_empty() {
                true => GrpcError::Exited { exit, output: output() },
                false => not_a_line(&read, output()),
            });
        }
        Ok(None) if read.is_empty() => return Err(GrpcError::Closed { output: output() }),
        Ok(None) => return Err(not_a_line(&read, output())),
        Err(_) => {
            let (waited, step) = (spec.limits.start_timeout, "no handshake on stdout");
            return Err(GrpcError::NotReady { waited, step, output: output() });
        }
    };
    let text = String::from_utf8_lossy(&read[..end]);
    let line = Line::parse(&text).map_err(|why| GrpcError::Handshake { why, output: output() })?;
    let rest = read.split_off((end + 1).min(read.len()));
    runtime.spawn(drain(stdout, rest, Arc::clone(log)));
    Ok(line)
}

fn not_a_line(read: &[u8], output: Output) -> GrpcError {
    match Line::parse(&String::from_utf8_lossy(read)) {
        Err(why) => GrpcError::Handshake { why, output },
        // A line without an end, after which the program is gone.
        Ok(_) => GrpcError::Closed { output },
    }
}

/// Where the first line ends. None at the end of what comes, or when a line would be too long.
async fn first_line(stdout: &mut (impl AsyncRead + Unpin), child: &Child, read: &mut Vec<u8>) -> Option<usize> {
    let mut exit = child.exit_receiver();
    let mut exited = false;
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            return Some(end);
        }
        if read.len() > LINE_BYTES_MAX {
            return Some(read.len());
        }
        let count = tokio::select! {
            count = stdout.read(&mut chunk) => count.unwrap_or(0),
            _ = ended(&mut exit), if !exited => {
                exited = true;
                continue;
            }
            // A grandchild may hold stdout open.
            () = tokio::time::sleep(PIPE_GRACE), if exited => 0,
        };
        if count == 0 {
            return None;
        }
        read.extend_from_slice(&chunk[..count]);
    }
}

/// Reads what comes after the handshake, line by line into the log, for as long as somebody writes.
async fn drain(mut stdout: impl AsyncRead + Unpin, begun: Vec<u8>, log: Arc<PluginLog>) {
    let mut lines = Lines::default();
    lines.take(&begun, |line| log.stray(line));
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = stdout.read(&mut chunk).await {
        lines.take(&chunk[..read], |line| log.stray(line));
    }
    lines.end(|line| log.stray(line));
}

/// What keeps a started program's stdin open.
pub(super) type Stdin = Box<dyn AsyncWrite + Send + Unpin>;

#[cfg(test)]
mod tests {
    use jackfield_grpc::handshake;

    use crate::manifest::GrpcSpec;

    #[test]
    fn a_manifest_without_a_cookie_has_that_of_the_sdk() {
        let GrpcSpec { cookie, versions, .. } = GrpcSpec::default();
        let sdk = handshake::Cookie::jackfield();
        assert_eq!((cookie.key, cookie.value, versions), (sdk.key, sdk.value, vec![handshake::JACKFIELD_APP_VERSION]));
    }
}
