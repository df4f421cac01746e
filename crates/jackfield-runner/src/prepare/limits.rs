//! Limits of the process, by `setrlimit`. The hard limit is set too, so that the plugin cannot raise it.

use std::io;

use jackfield_protocol::runner::Enforced;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Doing, Refusal};

/// Seconds from SIGXCPU to SIGKILL. Were both at once, the kill would say nothing of its reason.
const CPU_GRACE: u64 = 5;

/// Bytes of stack for each thread of a program whose data is limited to [`SMALL_BYTES`] or less. A thread has as much as
/// the main thread may have, 8 MiB, and all of it counts as data: Node.js starts four before it runs a line, and does
/// not start in 64 MiB. What V8 takes for granted is a bit less than 1 MiB.
const STACK_BYTES: u64 = 2 << 20;

const SMALL_BYTES: u64 = 256 << 20;

/// Reason why `RLIMIT_NPROC` is not used.
const NO_NPROC: &str = "no cgroup is delegated, and the operating system's own limit counts all processes of the user, \
                        and none of root";

/// What a cgroup keeps already.
pub(super) trait Kept {
    /// Whether this file of it was written.
    fn has(&self, file: &str) -> bool;
    /// Why there is none.
    fn why_not(&self) -> String;
}

/// None anywhere but on Linux.
#[cfg(not(target_os = "linux"))]
pub(super) struct NoCgroup;

#[cfg(not(target_os = "linux"))]
impl Kept for NoCgroup {
    fn has(&self, _: &str) -> bool {
        false
    }

    fn why_not(&self) -> String {
        "only Linux has cgroups".to_owned()
    }
}

pub(super) fn set(doing: &mut Doing<'_>, cgroup: &dyn Kept) -> Result<(), Refusal> {
    let limits = &doing.orders.limits;
    if let Some(bytes) = limits.memory {
        if bytes <= SMALL_BYTES && !cgroup.has("memory.max") && cfg!(target_os = "linux") {
            // The hard limit stays: a program that knows better may say so.
            let maximum = getrlimit(Resource::Stack).maximum;
            let current = Some(maximum.map_or(STACK_BYTES, |maximum| maximum.min(STACK_BYTES)));
            setrlimit(Resource::Stack, Rlimit { current, maximum }).map_err(|error| doing.failed("memory", error))?;
        }
        let enforced = match cgroup.has("memory.max") {
            true => Enforced::by("memory", bytes, "cgroup").note("of all its processes together"),
            false if cfg!(target_os = "linux") => both(Resource::Data, bytes, "memory", "rlimit_data", |enforced| {
                enforced.note(format!("of each process; no cgroup: {}", cgroup.why_not()))
            }),
            // There the call is taken and means nothing, or is refused (macOS 12 and later).
            false => Enforced::not("memory", bytes, "this operating system has no such limit"),
        };
        doing.note(enforced)?;
    }
    if let Some(bytes) = limits.address_space {
        let enforced = match cfg!(target_os = "linux") {
            true => both(Resource::As, bytes, "address_space", "rlimit_as", |enforced| enforced),
            false => Enforced::not("address_space", bytes, "this operating system does not keep it"),
        };
        doing.note(enforced)?;
    }
    if let Some(seconds) = limits.cpu_time {
        let hard = seconds.saturating_add(CPU_GRACE);
        let enforced = match limit(Resource::Cpu, seconds, hard) {
            Ok(()) => Enforced::by("cpu_time", seconds, "rlimit_cpu")
                .note(format!("SIGXCPU at {seconds} s, SIGKILL at {hard} s")),
            Err(error) => Enforced::not("cpu_time", seconds, error),
        };
        doing.note(enforced)?;
    }
    if let Some(thousandths) = limits.cpu_rate {
        let enforced = match cgroup.has("cpu.max") {
            true => Enforced::by("cpu_rate", thousandths, "cgroup"),
            false => Enforced::not("cpu_rate", thousandths, format!("no cgroup: {}", cgroup.why_not())),
        };
        doing.note(enforced)?;
    }
    if let Some(processes) = limits.processes {
        // One process is kept by the filter of system calls, which has said so.
        let said = doing.report.enforced.iter().any(|enforced| enforced.limit == "processes");
        if cgroup.has("pids.max") {
            doing.note(Enforced::by("processes", processes, "cgroup").note("threads count"))?;
        } else if !said {
            doing.note(Enforced::not("processes", processes, NO_NPROC))?;
        }
    }
    if let Some(files) = limits.files {
        doing.note(both(Resource::Nofile, files, "files", "rlimit_nofile", |enforced| enforced))?;
    }
    if let Some(bytes) = limits.file_size {
        doing.note(both(Resource::Fsize, bytes, "file_size", "rlimit_fsize", |enforced| enforced))?;
    }
    // Nobody asked for what was in the plugin's memory. A host that may not set it may not be told.
    let _ = limit(Resource::Core, 0, 0);
    Ok(())
}

fn both(resource: Resource, value: u64, name: &str, by: &str, noted: impl FnOnce(Enforced) -> Enforced) -> Enforced {
    match limit(resource, value, value) {
        Ok(()) => noted(Enforced::by(name, value, by)),
        Err(error) => Enforced::not(name, value, error),
    }
}

/// Sets a limit, or a lower one that is there already and cannot be raised.
fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(hard, |there| there.min(hard));
    setrlimit(resource, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) })?;
    Ok(())
}
