//! The end of a gRPC plugin: seen when it comes by itself, brought about when it is wanted.

use std::sync::Arc;
use std::time::Duration;

use jackfield_grpc::channel::Channel;
use jackfield_grpc::pb::plugin::Empty;
use jackfield_grpc::pb::plugin::grpc_controller_client::GrpcControllerClient;
use jackfield_protocol::call::Cause;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Output;
use super::launch::Stdin;
use crate::limits::Limits;
use crate::log::PluginLog;
use crate::mechanism::{self, Death, Exit, finish};
use crate::program::{Child, Evidence, Overtime, PIPE_GRACE};

/// The program of a session.
#[expect(clippy::large_enum_variant, reason = "a session has one, and it stays where it is")]
pub(super) enum Program {
    /// We started it. Its stdin tells it that we live: a plugin with the SDK ends with it.
    Started { child: Child, stdin: std::sync::Mutex<Option<Stdin>> },
    /// Somebody else did.
    Attached { pid: u32, test: bool },
}

/// How often a program that is not our child is looked for: nobody tells us of its end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Program {
    pub(super) fn started(child: Child, stdin: Stdin) -> Self {
        Program::Started { child, stdin: std::sync::Mutex::new(Some(stdin)) }
    }

    /// None if there is no such process.
    pub(super) fn attached(pid: u32, test: bool) -> Option<Self> {
        is_alive(pid).then_some(Program::Attached { pid, test })
    }

    pub(super) fn id(&self) -> u32 {
        match self {
            Program::Started { child, .. } => child.id,
            Program::Attached { pid, .. } => *pid,
        }
    }

    /// Kills it and waits for its end, since it cannot be used. One that somebody else started is left alone: it
    /// may be another process by now.
    pub(super) async fn kill(&self) {
        match self {
            Program::Started { child, .. } => child.kill().await,
            Program::Attached { .. } => {}
        }
    }

    /// What is done to it when a call takes too long. One that somebody else started is only told.
    pub(super) fn on_timeout(&self, limits: &Limits) -> Option<Arc<Overtime>> {
        match self {
            Program::Started { child, .. } => child.on_timeout(limits),
            Program::Attached { .. } => None,
        }
    }

    /// What is known of why it may die.
    fn evidence(&self) -> Option<Evidence> {
        match self {
            Program::Started { child, .. } => Some(child.evidence()),
            Program::Attached { .. } => None,
        }
    }

    /// What sees its end, from any task.
    fn watch(&self) -> Ended {
        match self {
            Program::Started { child, .. } => {
                Ended::Started { exit: child.exit_receiver(), stderr: child.stderr_receiver() }
            }
            Program::Attached { pid, .. } => Ended::Attached { pid: *pid },
        }
    }

    /// Kills it when called, and may outlive this. One that somebody else started is left alone, as by
    /// [`Program::kill`].
    pub(super) fn killer(&self) -> Box<dyn FnOnce() + Send> {
        match self {
            Program::Started { child, .. } => Box::new(child.killer()),
            Program::Attached { .. } => Box::new(|| {}),
        }
    }

    /// Kills it at once: its host is gone. One that we attached to only while it holds our connection, for then it
    /// is the one we know.
    pub(super) fn abandon(&self, channel: &Channel) {
        match self {
            Program::Attached { pid, test: false } if !channel.is_closed() => signal(*pid, true),
            _ => self.killer()(),
        }
    }

    /// Ends it: asks, then tells, then kills, each after `grace`.
    pub(super) async fn end(&self, channel: &Channel, grace: Duration) {
        if matches!(self, Program::Attached { test: true, .. }) {
            return;
        }
        let asked = async {
            // Go's handler stops the server before it answers: an error says nothing.
            let _ = GrpcControllerClient::new(channel.clone()).shutdown(Empty {}).await;
        };
        let _ = timeout(grace, asked).await;
        match self {
            Program::Started { child, stdin } => {
                drop(stdin.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
                child.end(grace).await;
            }
            Program::Attached { pid, .. } => {
                for hard in [false, true] {
                    if timeout(grace, gone(*pid)).await.is_ok() {
                        return;
                    }
                    signal(*pid, hard);
                }
                // It may be one that we must not kill.
                let _ = timeout(grace, gone(*pid)).await;
            }
        }
    }
}

enum Ended {
    Started { exit: watch::Receiver<Option<Exit>>, stderr: watch::Receiver<()> },
    Attached { pid: u32 },
}

impl Ended {
    async fn seen(&mut self) -> Exit {
        match self {
            Ended::Started { exit, stderr } => {
                let how = crate::program::ended(exit).await;
                // What it last wrote says why.
                let _ = timeout(PIPE_GRACE, stderr.changed()).await;
                how
            }
            Ended::Attached { pid } => {
                gone(*pid).await;
                Exit::UNKNOWN
            }
        }
    }
}

/// Says why a session is over, once it is. None as long as it is not.
pub(super) type Over = watch::Receiver<Option<Death>>;

/// Why a session is over whose connection just failed: the program's end is seen after that of its connection.
pub(super) async fn why(mut over: Over) -> Option<Cause> {
    let known = timeout(PIPE_GRACE * 2, over.wait_for(Option::is_some)).await;
    known.ok()?.ok()?.as_ref().map(|death| death.cause.clone())
}

/// Watches a program and its connection, and says once why they are over.
pub(super) fn watch(
    ended: &Program,
    channel: Channel,
    log: Arc<PluginLog>,
    over: Arc<mechanism::Over>,
) -> impl Future<Output = ()> + Send + 'static {
    let (mut ended, kill, evidence) = (ended.watch(), ended.killer(), ended.evidence());
    async move {
        let seen = tokio::select! {
            exit = ended.seen() => Some(exit),
            _ = channel.closed() => None,
        };
        let exit = match seen {
            Some(exit) => Some(exit),
            // The end of the connection and of the program come in any order; the program's says more.
            None => match timeout(PIPE_GRACE, ended.seen()).await {
                Ok(exit) => Some(exit),
                // It is being stopped, and has its grace.
                Err(_) if over.borrow().is_some() => return,
                Err(_) => {
                    kill();
                    None
                }
            },
        };
        let how = exit.map_or_else(|| "it closed its connection, and was ended".to_owned(), |exit| exit.to_string());
        let how = format!("{how}{}", Output::of(&log));
        let cause = match evidence {
            Some(evidence) => evidence.of_death(exit, how),
            None => Cause::Crashed { how },
        };
        finish(&over, Death { cause, exit });
    }
}

async fn gone(pid: u32) {
    while is_alive(pid) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(unix)]
fn is_alive(pid: u32) -> bool {
    use rustix::process::{Pid, test_kill_process};

    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // One that is somebody else's is there all the same.
    let is_there = number.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)));
    is_there && !has_ended(pid)
}

/// Whether a process has ended, and whoever started it has not asked how: its number is taken until then.
#[cfg(target_os = "linux")]
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state comes after the name, which may have anything in it.
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn has_ended(_: u32) -> bool {
    false
}

#[cfg(unix)]
fn signal(pid: u32, hard: bool) {
    use rustix::process::{Pid, Signal, kill_process};

    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, if hard { Signal::KILL } else { Signal::TERM });
    }
}

/// Without a way to look, a process is believed to be there as long as its connection is.
#[cfg(not(unix))]
fn is_alive(_: u32) -> bool {
    true
}

#[cfg(not(unix))]
fn signal(_: u32, _: bool) {}
