//! Why a program died, as far as a limit of its own may be the reason.
//!
//! A limit is named only where something says so: we killed it ourselves and know why, a signal that nothing
//! else sends, a count that the kernel keeps, or the words of a runtime that got no memory, where memory was
//! limited. Whatever else it dies of is a crash.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use jackfield_protocol::call::Cause;
use jackfield_protocol::runner::ProcessLimits;

use crate::crash::lacks_memory;
use crate::log::PluginLog;
use crate::mechanism::{Exit, Inbound};

/// Lines of stderr in which a runtime may say that it got no memory. Stacks follow it.
const LINES_SEEN: usize = 200;

/// SIGXCPU and SIGXFSZ, which are the same on Linux and macOS.
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// What is known of a program that may die of its limits. Outlives it.
#[derive(Clone)]
pub(crate) struct Evidence(Arc<Known>);

struct Known {
    limits: ProcessLimits,
    log: Arc<PluginLog>,
    /// Set by who kills it for a limit.
    hit: OnceLock<(&'static str, String)>,
    cgroup: OnceLock<Cgroup>,
}

/// A cgroup that the runner made. Removed when the last who knows the program is gone, and with it the program.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One that still has a process in it stays, and so it should.
        let _ = fs::remove_dir(&self.0);
    }
}

impl Evidence {
    pub(super) fn new(limits: ProcessLimits, log: Arc<PluginLog>) -> Self {
        Self(Arc::new(Known { limits, log, hit: OnceLock::new(), cgroup: OnceLock::new() }))
    }

    pub(super) fn in_cgroup(&self, directory: PathBuf) {
        let _ = self.0.cgroup.set(Cgroup(directory));
    }

    /// Notes for which limit it is going to be killed. The first word counts.
    pub(crate) fn killed_for(&self, limit: &'static str, what: String) {
        let _ = self.0.hit.set((limit, what));
    }

    /// Why its calls end, now that it has ended. `how` is what a crash would say.
    pub(crate) fn of_death(&self, exit: Option<Exit>, how: String) -> Cause {
        match self.limit(exit) {
            Some((limit, what)) => Cause::Limit { limit, what: format!("{what}; it ended: {how}") },
            None => Cause::Crashed { how },
        }
    }

    fn limit(&self, exit: Option<Exit>) -> Option<(&'static str, String)> {
        let limits = &self.0.limits;
        if let Some(hit) = self.0.hit.get() {
            return Some(hit.clone());
        }
        let exit = exit?;
        match (exit.signal, limits.cpu_time, limits.file_size) {
            (Some(SIGXCPU), Some(seconds), _) => {
                return Some(("cpu_time", format!("it used its {seconds} s of processor time (SIGXCPU)")));
            }
            (Some(SIGXFSZ), _, Some(bytes)) => {
                return Some(("file_size", format!("it wrote a file of more than {bytes} bytes (SIGXFSZ)")));
            }
            _ => {}
        }
        // An end of its own choice is none of want.
        if exit.code == Some(0) {
            return None;
        }
        let (limit, bytes) = match (limits.memory, limits.address_space) {
            (Some(bytes), _) => ("memory", bytes),
            (None, Some(bytes)) => ("address_space", bytes),
            (None, None) => return None,
        };
        if let Some(kills) = self.kills().filter(|kills| *kills > 0) {
            return Some((limit, format!("it used more than {bytes} bytes (oom_kill {kills} in its cgroup)")));
        }
        let lines = self.0.log.tail(LINES_SEEN);
        let said = lines.iter().rev().find(|line| lacks_memory(line))?;
        Some((limit, format!("it got no more memory than {bytes} bytes (on stderr: {said:?})")))
    }

    /// How often the kernel killed in its cgroup for want of memory.
    fn kills(&self) -> Option<u64> {
        let events = fs::read_to_string(self.0.cgroup.get()?.0.join("memory.events")).ok()?;
        events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
    }
}

/// Kills a program when a call of it takes longer than it may.
pub(crate) struct Overtime {
    evidence: Evidence,
    kill: Box<dyn Fn() + Send + Sync>,
}

impl Overtime {
    pub(super) fn new(evidence: Evidence, kill: impl Fn() + Send + Sync + 'static) -> Self {
        Self { evidence, kill: Box::new(kill) }
    }

    /// The call, which kills if it ends with a time-out.
    pub(crate) fn bounds(this: &Option<Arc<Self>>, inbound: Inbound) -> Inbound {
        let (this, call) = match (this, inbound) {
            (Some(this), Inbound::Later(call)) => (Arc::clone(this), call),
            (_, inbound) => return inbound,
        };
        Inbound::Later(Box::pin(async move {
            let answered = call.await;
            if let Err(Cause::Timeout { after }) = &answered {
                this.evidence.killed_for("call_timeout", format!("a call took longer than {after:?}"));
                (this.kill)();
            }
            answered
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limits: ProcessLimits, signal: Option<i32>, stderr: &str, expected: &str) {
        let log = Arc::new(PluginLog::new("p"));
        stderr.lines().for_each(|line| log.stderr(line));
        let code = if signal.is_some() { None } else { Some(1) };
        let cause =
            Evidence::new(limits, log).of_death(Some(Exit { code, signal, core_dumped: false }), "gone".to_owned());
        let text = match cause {
            Cause::Limit { limit, what } => format!("{limit}: {what}"),
            other => format!("{other:?}"),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn a_death_is_of_a_limit_only_where_something_says_so() {
        let memory = ProcessLimits { memory: Some(10), ..ProcessLimits::default() };
        let said = "memory allocation of 64 bytes failed";
        check(
            memory.clone(),
            Some(6),
            said,
            "memory: it got no more memory than 10 bytes (on stderr: \"memory allocation of 64 bytes failed\"); it ended: gone",
        );
        // Without a limit of memory, the machine's is at its end, and that is no limit of ours.
        check(ProcessLimits::default(), Some(6), said, r#"Crashed { how: "gone" }"#);
        check(memory.clone(), Some(11), "segfault", r#"Crashed { how: "gone" }"#);
        let time = ProcessLimits { cpu_time: Some(3), ..memory };
        check(time.clone(), Some(24), "", "cpu_time: it used its 3 s of processor time (SIGXCPU); it ended: gone");
        check(time, Some(9), "", r#"Crashed { how: "gone" }"#);
    }

    #[test]
    fn who_kills_it_says_why() {
        let evidence = Evidence::new(ProcessLimits::default(), Arc::new(PluginLog::new("p")));
        evidence.killed_for("memory", "it had 20 bytes of 10".to_owned());
        evidence.killed_for("call_timeout", "too late".to_owned());
        let cause = evidence.of_death(None, "signal 9".to_owned());
        let expected = Cause::Limit { limit: "memory", what: "it had 20 bytes of 10; it ended: signal 9".to_owned() };
        assert_eq!(format!("{cause:?}"), format!("{expected:?}"));
    }
}
