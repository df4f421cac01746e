//! The guard: a small process that ends what a killed host leaves behind (Unix; Windows has job objects).
//!
//! A host that gets SIGKILL can tell nobody. So a shell reads a pipe whose only other end is the host's, and
//! is told which process groups and directories there are. When the pipe ends with groups in the list,
//! the host is dead, and the shell kills them, removes the directories and ends.
//!
//! There is one for all hosts of a process, from the first program to the end of the last. It belongs to no
//! terminal's foreground group, ignores the signals that a terminal or `systemctl stop` sends, and holds no
//! pipe of the host's but its own. When it dies, another one takes over, and the log says so.
//!
//! A group is forgotten *before* its leader is reaped: a listed number is never somebody else's. Between the
//! death of a host and the kill, about a millisecond, the system could give a number anew; it gives them in
//! turn, and comes back to one after tens of thousands.
//!
//! Not here: a program whose host is killed in the microseconds between its start and the line that tells
//! of it. A program that heeds the end of its stdin ends all the same.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use super::child::imp::{Group, Waiter};

/// The variable that marks a program, and what it starts, as one that ends with its host.
pub(super) const MARK: &str = "JACKFIELD_GUARD";

/// What it runs. A shell is on every Unix, whoever uses this library.
const SCRIPT: &str = include_str!("guard.sh");

/// After so many deaths of guards, somebody does not want one.
const DEATHS_MAX: u32 = 5;

/// Watches over what this process has started.
pub(super) struct Guard(Mutex<State>);

struct State {
    /// None when it could not be started, or died too often.
    shell: Option<Shell>,
    items: BTreeSet<String>,
    deaths: u32,
}

struct Shell {
    group: Group,
    stdin: ChildStdin,
}

/// Something that the guard ends or removes when the host is killed. Dropped, it is forgotten.
pub(crate) struct Watched {
    guard: Arc<Guard>,
    item: String,
}

impl Guard {
    /// The guard of this process, a new one if nothing was watched.
    pub(super) fn get() -> Arc<Self> {
        static PRESENT: Mutex<Weak<Guard>> = Mutex::new(Weak::new());
        let mut present = PRESENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = present.upgrade() {
            return guard;
        }
        let guard = Arc::new(Self(Mutex::new(State { shell: None, items: BTreeSet::new(), deaths: 0 })));
        guard.state().start(&guard);
        *present = Arc::downgrade(&guard);
        guard
    }

    /// Watches a program: its process group, and what has its mark among its variables.
    pub(super) fn watch_program(self: &Arc<Self>, group: u32, mark: &str) -> Watched {
        self.watch(format!("p {group} {mark}"))
    }

    fn watch(self: &Arc<Self>, item: String) -> Watched {
        let mut state = self.state();
        state.tell('+', &item);
        state.items.insert(item.clone());
        drop(state);
        Watched { guard: Arc::clone(self), item }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process has ended while it was wanted.
    fn died(self: &Arc<Self>, how: &str) {
        let mut state = self.state();
        state.shell = None;
        state.deaths += 1;
        if state.deaths > DEATHS_MAX {
            tracing::warn!("the guard has died too often, {how}: programs may outlive this host if it is killed");
            return;
        }
        tracing::warn!("the guard has died, {how}: another one is started");
        state.start(self);
    }
}

impl State {
    /// Starts a shell that knows what is watched. Without one, all else goes on.
    fn start(&mut self, guard: &Arc<Guard>) {
        match Shell::start(guard) {
            Ok(shell) => self.shell = Some(shell),
            Err(error) => {
                static TOLD: AtomicBool = AtomicBool::new(false);
                if !TOLD.swap(true, Ordering::Relaxed) {
                    tracing::warn!("no guard, programs may outlive this host if it is killed: {error}");
                }
            }
        }
        for item in &self.items.clone() {
            self.tell('+', item);
        }
    }

    fn tell(&mut self, what: char, item: &str) {
        let Some(shell) = &mut self.shell else { return };
        // One write, which a pipe takes whole or not at all.
        if shell.stdin.write_all(format!("{what}{item}\n").as_bytes()).is_err() {
            // It is dead, or reads nothing any more, and what it has listed is no longer so. To close its pipe
            // first would make it kill all of it. Whoever waits for it starts another one.
            shell.group.kill();
            self.shell = None;
        }
    }
}

impl Shell {
    fn start(guard: &Arc<Guard>) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "jackfield-guard"]);
        // It has no mark itself, and no secrets of the host's.
        shell.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let (mut waiter, group) = Waiter::spawn(&mut shell)?;
        let stdin = waiter.child.stdin.take().ok_or_else(|| io::Error::other("a pipe was not made"))?;
        // Our end: one that reads nothing must not stop us. std has made it so that no program inherits it,
        // or the guard would never see its end.
        let flags = rustix::fs::fcntl_getfl(&stdin)?;
        rustix::fs::fcntl_setfl(&stdin, flags | rustix::fs::OFlags::NONBLOCK)?;
        let guard = Arc::downgrade(guard);
        let wait = move || {
            let exit = waiter.wait();
            // Nobody wants one any more, if it is not there: that is how it ends.
            if let Some(guard) = guard.upgrade() {
                guard.died(&exit.to_string());
            }
        };
        std::thread::Builder::new().name("wait for the guard".to_owned()).stack_size(64 * 1024).spawn(wait)?;
        Ok(Self { group, stdin })
    }
}

/// Watches a directory that is ours alone, and is removed with all that is in it.
pub(crate) fn watch_directory(directory: &Path) -> Option<Watched> {
    // A line is text and ends at a line end. A temporary directory of such a name is left.
    let path = directory.to_str().filter(|path| path.starts_with('/') && !path.contains('\n'))?;
    Some(Guard::get().watch(format!("d {path}")))
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = self.guard.state();
        state.items.remove(&self.item);
        state.tell('-', &self.item);
    }
}

/// A mark that no other program has, of this host or another.
pub(super) fn new_mark() -> String {
    static OURS: OnceLock<String> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let ours = OURS.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{}-{:x}", std::process::id(), now.as_nanos())
    });
    format!("{ours}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
