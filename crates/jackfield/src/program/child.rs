//! The program itself: spawned in a process group of its own, reaped, and ended.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use jackfield_protocol::runner::{Enforced, ProcessLimits, Report};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::confine::{Launch, SandboxError};
use super::evidence::{Evidence, Overtime};
use super::{output, usage};
use crate::limits::{Limits, OnTimeout};
use crate::log::PluginLog;
use crate::mechanism::{Checked, Exit, Spec};

/// The private ends of a program's pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) stdout: Box<dyn AsyncRead + Send + Unpin>,
}

/// A program that was started. Dropped, it is killed.
pub(crate) struct Child {
    pub(crate) id: u32,
    group: imp::Group,
    exit: watch::Receiver<Option<Exit>>,
    stderr: watch::Receiver<()>,
    evidence: Evidence,
    runner: Mutex<Option<Runner>>,
    /// Where it works, if that is its own; until it has ended.
    directory: Mutex<Option<super::confine::WorkDir>>,
}

/// A runner that has not reported yet.
struct Runner {
    path: PathBuf,
    report: oneshot::Receiver<Report>,
    limits: ProcessLimits,
}

/// How the program of a plugin is run: with its arguments, its variables, and in its own directory.
pub(crate) fn command(spec: &Spec) -> io::Result<Command> {
    // Relative to the host's directory, which is not the program's.
    let entry = std::path::absolute(&spec.entry)?;
    let program = match &spec.checked {
        Some(Checked::Copy(copy)) => std::path::absolute(copy)?,
        Some(Checked::Bytes(_)) | None => entry.clone(),
    };
    let mut command = Command::new(program);
    command.args(&spec.args).envs(spec.env.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = entry.parent() {
        command.current_dir(directory);
    }
    Ok(command)
}

/// Runs a program and forwards its stderr to `log`. The name is that of the plugin.
pub(crate) fn spawn(launch: Launch, spec: &Spec, log: &Arc<PluginLog>, runtime: &Handle) -> io::Result<(Child, Pipes)> {
    let Launch { mut command, confined } = launch;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (ended, exit) = watch::channel(None);
    let (stderr_read, stderr_ended) = watch::channel(());
    let (send_spawned, spawned) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name(format!("wait {}", spec.name))
        // It does nothing but wait.
        .stack_size(64 * 1024)
        .spawn(move || {
            // Spawned here, since a runner ties the program's life to that of the thread which spawned it, and
            // this one lives as long as the program.
            let waiter = match imp::spawn(command) {
                Ok((spawned, waiter)) => {
                    let _ = send_spawned.send(Ok(spawned));
                    waiter
                }
                Err(error) => {
                    let _ = send_spawned.send(Err(error));
                    return;
                }
            };
            let _ = ended.send(Some(waiter.wait()));
        })?;
    let spawned = spawned.recv().map_err(io::Error::other)??;
    let evidence = Evidence::new(spec.limits.process.clone(), Arc::clone(log));
    let (runner, report, directory) = match confined {
        Some(confined) => {
            let (send, report) = oneshot::channel();
            let (path, limits) = (confined.runner, spec.limits.process.clone());
            (Some(Runner { path, report, limits }), Some(send), confined.directory)
        }
        None => (None, None, None),
    };
    let (runner, directory, group) = (Mutex::new(runner), Mutex::new(directory), spawned.group);
    let child = Child { id: spawned.id, group, exit, stderr: stderr_ended, evidence, runner, directory };
    // tokio registers the pipes with the runtime that is current.
    let _entered = runtime.enter();
    let stdin = ChildStdin::from_std(spawned.stdin)?;
    let stdout = ChildStdout::from_std(spawned.stdout)?;
    let stderr = ChildStderr::from_std(spawned.stderr)?;
    runtime.spawn(output::forward_stderr(stderr, Arc::clone(log), child.exit.clone(), stderr_read, report));
    if usage::is_limited(&spec.limits.process) {
        let (limits, exit, evidence) = (spec.limits.process.clone(), child.exit.clone(), child.evidence());
        runtime.spawn(usage::watch(child.id, limits, exit, evidence, child.killer()));
    }
    Ok((child, Pipes { stdin: Box::new(stdin), stdout: Box::new(stdout) }))
}

impl Child {
    /// Waits until the runner is about to become the program, and says what is in force. At once for a program
    /// without a runner: then nothing is. It is for the caller not to wait for ever.
    pub(crate) async fn prepared(&self) -> Result<Vec<Enforced>, SandboxError> {
        let runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Runner { path, report, limits }) = runner else { return Ok(Vec::new()) };
        let Ok(report) = report.await else {
            return Err(SandboxError::silent(&path, self.ended_with_stderr().await));
        };
        if let Some(refused) = report.refused {
            self.ended().await;
            return Err(SandboxError::Unenforceable { limit: refused.limit, why: refused.why });
        }
        if let Some(cgroup) = report.cgroup {
            self.evidence.in_cgroup(cgroup);
        }
        Ok(report.enforced.into_iter().map(|enforced| usage::or_watched(enforced, &limits)).collect())
    }

    /// What is done to it when a call takes too long. None: it is told, and runs on.
    pub(crate) fn on_timeout(&self, limits: &Limits) -> Option<Arc<Overtime>> {
        match limits.on_timeout {
            OnTimeout::Cancel => None,
            OnTimeout::Kill => Some(Arc::new(Overtime::new(self.evidence(), self.killer()))),
        }
    }

    /// What is known of why it may die.
    pub(crate) fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it has ended and is reaped, with its process group.
    pub(crate) async fn ended(&self) -> Exit {
        ended(&mut self.exit.clone()).await
    }

    /// Waits until it has ended and what it wrote to stderr is in the log.
    pub(crate) async fn ended_with_stderr(&self) -> Exit {
        let exit = self.ended().await;
        // An error here is what is waited for: the task that reads stderr is done.
        let _ = self.stderr.clone().changed().await;
        exit
    }

    /// A receiver that sees the end.
    pub(crate) fn exit_receiver(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// A receiver that is closed once stderr is read to its end.
    pub(crate) fn stderr_receiver(&self) -> watch::Receiver<()> {
        self.stderr.clone()
    }

    /// Kills it when called, and may outlive this.
    pub(crate) fn killer(&self) -> impl Fn() + Send + Sync + use<> {
        let (group, exit) = (self.group.clone(), self.exit.clone());
        move || {
            if exit.borrow().is_none() {
                group.kill();
            }
        }
    }

    /// Waits for it to end by itself, then tells it to, then kills it, each after `grace`.
    pub(crate) async fn end(&self, grace: Duration) {
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            self.group.terminate();
        }
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            self.group.kill();
        }
        self.reaped().await;
    }

    /// Kills it and its process group, and waits until it is reaped.
    pub(crate) async fn kill(&self) {
        if self.exit().is_none() {
            self.group.kill();
        }
        self.reaped().await;
    }

    /// Waits for the end, and leaves nothing of it: whoever made calls may have hold of this for long.
    async fn reaped(&self) {
        self.ended().await;
        drop(self.directory.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exit().is_none() {
            self.group.kill();
        }
    }
}

/// Waits for the end. A function of its own, since what `watch` lends must not be kept.
pub(crate) async fn ended(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    let seen = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
    seen.unwrap_or(Exit::UNKNOWN)
}

struct Spawned {
    id: u32,
    group: imp::Group,
    stdin: std::process::ChildStdin,
    stdout: std::process::ChildStdout,
    stderr: std::process::ChildStderr,
}

fn taken<T>(pipe: Option<T>) -> std::io::Result<T> {
    pipe.ok_or_else(|| std::io::Error::other("a pipe was not made"))
}

#[cfg(unix)]
pub(super) mod imp {
    use std::io;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Child, Command};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

    use super::super::guard::{self, Guard, Watched};
    use super::{Exit, Spawned, taken};

    /// A process group, whose number is its leader's. The number is good until the leader is reaped:
    /// afterwards it may be another's, so a reaped group is none any more.
    #[derive(Clone)]
    pub(in super::super) struct Group(Arc<Mutex<Option<Pid>>>);

    impl Group {
        pub(super) fn terminate(&self) {
            self.signal(Signal::TERM);
        }

        pub(in super::super) fn kill(&self) {
            self.signal(Signal::KILL);
        }

        fn signal(&self, signal: Signal) {
            let group = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(leader) = *group {
                // It may have ended meanwhile; then there is nobody to tell.
                let _ = kill_process_group(leader, signal);
            }
        }
    }

    pub(in super::super) struct Waiter {
        pub(in super::super) child: Child,
        group: Group,
        watched: Option<Watched>,
    }

    impl Waiter {
        /// Starts a process in a group of its own, which nobody watches.
        pub(in super::super) fn spawn(command: &mut Command) -> io::Result<(Self, Group)> {
            // Its own group: what it starts ends with it, and a Ctrl-C at the host's terminal is the host's.
            let child = in_peace(|| command.process_group(0).spawn())?;
            let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let group = Group(Arc::new(Mutex::new(leader)));
            Ok((Self { child, group: group.clone(), watched: None }, group))
        }

        /// Waits for the leader, kills what is left of its group, has the guard forget it, and reaps it, in
        /// this order: as long as the leader is not reaped, no other process can have its number.
        pub(in super::super) fn wait(mut self) -> Exit {
            let leader = *self.group.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(leader) = leader {
                let seen = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(leader), seen) {}
            }
            self.group.kill();
            drop(self.watched.take());
            let mut group = self.group.0.lock().unwrap_or_else(PoisonError::into_inner);
            let status = self.child.wait();
            *group = None;
            match status {
                Ok(status) => Exit { code: status.code(), signal: status.signal(), core_dumped: status.core_dumped() },
                Err(_) => Exit::UNKNOWN,
            }
        }
    }

    /// Time in which whoever else was being started has let go of what this process wrote.
    const BUSY: Duration = Duration::from_secs(5);

    /// Spawns, and again while the program is open for writing. A copy that was just made may be: another thread
    /// that spawned meanwhile has handed our open file to its child, until that child is a program of its own.
    fn in_peace(mut spawn: impl FnMut() -> io::Result<Child>) -> io::Result<Child> {
        let begun = Instant::now();
        loop {
            match spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && begun.elapsed() < BUSY => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                spawned => return spawned,
            }
        }
    }

    pub(super) fn spawn(mut command: Command) -> io::Result<(Spawned, Waiter)> {
        // Before the program, which it is told of as soon as there is one.
        let (guard, mark) = (Guard::get(), guard::new_mark());
        let (mut waiter, group) = Waiter::spawn(command.env(guard::MARK, &mark))?;
        let id = waiter.child.id();
        waiter.watched = Some(guard.watch_program(id, &mark));
        let child = &mut waiter.child;
        let (stdin, stdout, stderr) =
            (taken(child.stdin.take())?, taken(child.stdout.take())?, taken(child.stderr.take())?);
        Ok((Spawned { id, group, stdin, stdout, stderr }, waiter))
    }
}

#[cfg(windows)]
mod imp {
    use std::io;
    use std::process::Command;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use process_wrap::std::{ChildWrapper, CommandWrap, JobObject};

    use super::{Exit, Spawned, taken};

    /// A job object: closing or ending it ends every process in it.
    #[derive(Clone)]
    pub(super) struct Group(Arc<Mutex<Box<dyn ChildWrapper>>>);

    impl Group {
        /// Windows has no signal that asks a program to end.
        pub(super) fn terminate(&self) {}

        pub(super) fn kill(&self) {
            let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = child.start_kill();
        }
    }

    pub(super) struct Waiter(Group);

    impl Waiter {
        pub(super) fn wait(self) -> Exit {
            loop {
                // `wait` would hold the lock that `kill` needs.
                let ended = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
                match ended {
                    Ok(Some(status)) => {
                        self.0.kill();
                        return Exit { code: status.code(), signal: None, core_dumped: false };
                    }
                    Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                    Err(_) => return Exit::UNKNOWN,
                }
            }
        }
    }

    pub(super) fn spawn(command: Command) -> io::Result<(Spawned, Waiter)> {
        let mut child = CommandWrap::from(command).wrap(JobObject).spawn()?;
        let id = child.id();
        let (stdin, stdout, stderr) =
            (taken(child.stdin().take())?, taken(child.stdout().take())?, taken(child.stderr().take())?);
        let group = Group(Arc::new(Mutex::new(child)));
        Ok((Spawned { id, group: group.clone(), stdin, stdout, stderr }, Waiter(group)))
    }
}
