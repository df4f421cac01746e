//! `grpc`: a plugin as a program that speaks hashicorp/go-plugin's protocol (`docs/protocol.md`).
//!
//! Guaranteed: every plugin of go-plugin can be one of ours, called by its own services; one that describes an
//! interface of Jackfield's answers a typed client. With TLS, which is the default, either side takes the one
//! certificate that was made for this start, and no other. The program is in a process group of its own, none
//! of our `PLUGIN_*` variables reaches it by accident, what it prints is read for ever and stalls nothing, and
//! when it dies every call in flight ends with `crashed` and the exit status. When it is stopped it is asked,
//! then told (SIGTERM), then killed, each after `stop_grace`; no socket of it is left.
//!
//! Not guaranteed: that it takes a message as large as ours; go-plugin's own limit for what a plugin takes is
//! 4 MiB, unless the plugin raises it. That it ends when the *host* is killed: one built with the SDK does. And
//! net/rpc, go-plugin's protocol before gRPC, is refused by name.
//!
//! Order: launch (`launch`), connect (`connect`), ask who it is (`about`), talk (`session`, `unary`, `lane`,
//! `services`), end (`end`).

mod about;
mod carried;
mod connect;
mod end;
mod lane;
mod launch;
mod services;
mod session;
mod status;
mod unary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jackfield_grpc::handshake::HandshakeError;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::log::PluginLog;
use crate::mechanism::{Spec, Started};
pub use crate::program::Exit;
use crate::program::{PIPE_GRACE, SandboxError};

/// Why a program did not start as a gRPC plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrpcError {
    /// The operating system would not run it.
    #[error("cannot run `{}`", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It was not put under its limits or into its sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// It ended, or closed its stdout, before it had said where it listens. Whatever its exit status: go-plugin
    /// exits with 0 when it cannot listen.
    #[error("it ended before its handshake: {exit}{output}")]
    Exited {
        /// How.
        exit: Exit,
        /// The last lines on stderr.
        output: Output,
    },
    /// It closed stdout and runs on.
    #[error("it closed stdout before its handshake{output}")]
    Closed {
        /// The last lines on stderr.
        output: Output,
    },
    /// It did not say in time where it listens, or did not answer there.
    #[error("it was not ready within {waited:?}: {step}{output}")]
    NotReady {
        /// `start_timeout`.
        waited: Duration,
        /// What was waited for.
        step: &'static str,
        /// The last lines on stderr.
        output: Output,
    },
    /// The first line on stdout is no handshake, or one that this host cannot take.
    #[error("its handshake cannot be taken: {why}{output}")]
    Handshake {
        /// What is wrong with it.
        why: HandshakeError,
        /// The last lines on stderr.
        output: Output,
    },
    /// It speaks a version of the application's protocol that this host does not.
    #[error("it speaks version {plugin} of the application's protocol, this host speaks {}", list(host))]
    Version {
        /// What the plugin chose.
        plugin: u32,
        /// What the manifest allows.
        host: Vec<u32>,
    },
    /// It speaks net/rpc.
    #[error("it speaks `netrpc`, this host speaks `grpc`")]
    NetRpc,
    /// It was told to use TLS, and does not.
    #[error("it sent no certificate, and the manifest does not say `tls = \"off\"`")]
    NoCertificate,
    /// It sent a certificate though it was not asked for one.
    #[error("it sent a certificate, and the manifest says `tls = \"off\"`")]
    UnaskedCertificate,
    /// It cannot multiplex.
    #[error("it does not multiplex, and the manifest says `multiplex = true`")]
    NoMultiplexing,
    /// Nothing could be reached where it says it listens.
    #[error("cannot connect to `{address}`, where it says it listens: {why}{output}")]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        why: String,
        /// The last lines on stderr.
        output: Output,
    },
    /// What it says of itself cannot be used.
    #[error("what it says of itself cannot be used: {what}")]
    About {
        /// What is wrong with it.
        what: String,
    },
    /// It says that it is not well.
    #[error("its health is `{health}`")]
    Unhealthy {
        /// `NOT_SERVING`.
        health: String,
    },
    /// A file that the manifest names cannot be used.
    #[error("`{}` cannot be used: {what}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is no plugin to attach to.
    #[error("cannot attach to process {pid}: {why}")]
    Reattach {
        /// The process.
        pid: u32,
        /// Why not.
        why: String,
    },
    /// What the host itself needs could not be made: a certificate, a directory.
    #[error("cannot prepare its start: {what}")]
    Prepare {
        /// What went wrong.
        what: String,
    },
}

/// The last lines that a program wrote to stderr, for the error that says why it did not start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Last lines of stderr.
    pub stderr: Vec<String>,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.stderr.is_empty() {
            true => Ok(()),
            false => write!(f, "; on stderr: {:?}", self.stderr.join("\n")),
        }
    }
}

fn list(versions: &[u32]) -> String {
    versions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Lines of stderr that an error shows.
const STDERR_SHOWN: usize = 5;

impl Output {
    fn of(log: &PluginLog) -> Self {
        let mut stderr = log.tail(STDERR_SHOWN);
        // Where Go says why it dies, stacks follow, and push the reason out of the last lines.
        if let Some(reason) = log.death()
            && !stderr.iter().any(|line| line == reason)
        {
            stderr.insert(0, reason.to_owned());
        }
        Self { stderr }
    }
}

/// Starts a program, or attaches to one that runs, and asks who it is. When it fails, nothing of it is left.
pub(crate) async fn start(spec: &Spec, runtime: &Handle) -> Result<Started, GrpcError> {
    let log = Arc::clone(&spec.log);
    let deadline = Instant::now() + spec.limits.start_timeout;
    let launched = match &spec.grpc.reattach {
        Some(reattach) => launch::attach(spec, reattach)?,
        None => launch::launch(spec, &log, runtime, deadline).await?,
    };
    match ready(spec, &launched, &log, runtime, deadline).await {
        Ok((connected, about)) => {
            let session = session::GrpcSession::new(spec, launched, connected, about, Arc::clone(&log), runtime);
            Ok(Started { session: Arc::new(session), log })
        }
        Err(error) => {
            launched.program.kill().await;
            Err(error)
        }
    }
}

async fn ready(
    spec: &Spec,
    launched: &launch::Launched,
    log: &Arc<PluginLog>,
    runtime: &Handle,
    deadline: Instant,
) -> Result<(connect::Connected, about::Known), GrpcError> {
    let late = |step| GrpcError::NotReady { waited: spec.limits.start_timeout, step, output: Output::of(log) };
    let connected = timeout_at(deadline, connect::connect(launched, log, runtime)).await;
    let connected = connected.map_err(|_| late("it took no connection"))??;
    let about = timeout_at(deadline, about::ask(spec, launched, &connected)).await;
    let error = match about.map_err(|_| late("it did not say who it is"))? {
        Ok(about) => return Ok((connected, about)),
        Err(error) => error,
    };
    if let Some(reattach) = &spec.grpc.reattach
        && timeout(PIPE_GRACE, connected.channel.closed()).await.is_ok()
    {
        // A plugin under TLS has no word for a host without.
        let why = "it closed the connection; one under TLS takes the host that started it and no other";
        return Err(GrpcError::Reattach { pid: reattach.pid, why: why.to_owned() });
    }
    Err(error)
}
