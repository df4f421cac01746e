//! `process`: a plugin as a program that speaks JSON lines on stdin and stdout (`docs/protocol.md`).
//!
//! Guaranteed: whatever the program does, the host lives on. It answers `hello` within
//! `start_timeout` or is ended; a call ends at its deadline; answers come in any order; lines,
//! answers, calls in flight and bytes in flight are bounded; a stray line on stdout becomes a line
//! of the log. When it dies, every call in flight ends with `crashed` and the signal or exit status.
//! When it is stopped, its process group is gone: asked, then told (SIGTERM), then killed, each
//! after `stop_grace`. Pipes that a grandchild keeps open hang nothing.
//!
//! Not guaranteed: that a program which leaves its process group (`setsid`) ends with it, and that
//! anything ends when the *host* is killed: a program built with the SDK does, at the end of its
//! stdin.
//!
//! Order: spawn (`program`), say hello (`hello`), talk (`session`), end (`program`).

mod hello;
mod lines;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jackfield_protocol::message::ProtocolVersion;
use jackfield_protocol::runner::Enforced;
use tokio::runtime::Handle;

pub use crate::program::Exit;

use crate::log::PluginLog;
use crate::mechanism::{Spec, Started};
use crate::program::{self, Child, Pipes, SandboxError};

/// Why a program did not start as a plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
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
    /// It ended before it answered `hello`.
    #[error("it ended before it answered `hello`: {exit}{output}")]
    Exited {
        /// How.
        exit: Exit,
        /// What it wrote.
        output: Output,
    },
    /// It did not answer `hello` in time.
    #[error("it did not answer `hello` within {waited:?}{output}")]
    NotReady {
        /// `start_timeout`.
        waited: Duration,
        /// What it wrote.
        output: Output,
    },
    /// It wrote too much that is no message.
    #[error("it wrote {bytes} bytes that are no message before it answered `hello`{output}")]
    Noise {
        /// How much.
        bytes: u64,
        /// What.
        output: Output,
    },
    /// It closed stdout.
    #[error("it closed stdout before it answered `hello`{output}")]
    Closed {
        /// What it wrote.
        output: Output,
    },
    /// It speaks another version of the protocol.
    #[error("it speaks protocol {plugin}, this host speaks {host}")]
    Protocol {
        /// The plugin's.
        plugin: ProtocolVersion,
        /// The host's.
        host: ProtocolVersion,
    },
    /// It answered `hello` with an error.
    #[error("it refused `hello`: {message} (code {code})")]
    Refused {
        /// JSON-RPC's code.
        code: i64,
        /// Its words.
        message: String,
    },
    /// Its answer to `hello` is none.
    #[error("its answer to `hello` cannot be used: {what}")]
    Hello {
        /// What is wrong with it.
        what: String,
    },
}

/// What a program wrote that was no message: for the error that says why it did not start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Beginning of what it wrote to stdout.
    pub stdout: String,
    /// Last lines of stderr.
    pub stderr: Vec<String>,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.stdout.is_empty() {
            write!(f, "; on stdout: {:?}", self.stdout)?;
        }
        if !self.stderr.is_empty() {
            write!(f, "; on stderr: {:?}", self.stderr.join("\n"))?;
        }
        Ok(())
    }
}

/// Starts a program and waits for its answer to `hello`. When it fails, nothing of it is left.
pub(crate) async fn start(spec: &Spec, runtime: &Handle) -> Result<Started, StartError> {
    let log = Arc::clone(&spec.log);
    let failed = |source| StartError::Spawn { program: spec.entry.clone(), source };
    let command = program::command(spec).map_err(failed)?;
    let launch = program::confine(command, spec, None)?;
    let (child, pipes) = program::spawn(launch, spec, &log, runtime).map_err(failed)?;
    match greet(spec, pipes, &child, &log).await {
        Ok((greeted, enforced)) => {
            let session = session::ProcessSession::new(spec, greeted, child, enforced, Arc::clone(&log), runtime);
            Ok(Started { session: Arc::new(session), log })
        }
        Err(error) => {
            child.kill().await;
            Err(error)
        }
    }
}

/// Waits for the runner, if there is one, and says hello.
async fn greet(
    spec: &Spec,
    pipes: Pipes,
    child: &Child,
    log: &PluginLog,
) -> Result<(hello::Greeted, Vec<Enforced>), StartError> {
    let waited = spec.limits.start_timeout;
    let prepared = tokio::time::timeout(waited, child.prepared()).await;
    let late = |_| StartError::NotReady { waited, output: Output { stdout: String::new(), stderr: log.tail(5) } };
    let enforced = prepared.map_err(late)??;
    Ok((hello::exchange(spec, pipes, child, log).await?, enforced))
}
