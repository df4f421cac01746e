//! Limits of a job object: what Windows has of them, for this process and all that it starts.

use jackfield_protocol::runner::Enforced;

use super::{Doing, Refusal};
use crate::system::{JobLimits, enter_job};

/// Windows counts time in these.
const PER_SECOND: u64 = 10_000_000;

pub(super) fn set(doing: &mut Doing<'_>) -> Result<(), Refusal> {
    let limits = &doing.orders.limits;
    let job = JobLimits {
        memory: limits.memory.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        // We are one of them, and the plugin is our child.
        processes: limits.processes.map(|processes| u32::try_from(processes.saturating_add(1)).unwrap_or(u32::MAX)),
        cpu_time: limits.cpu_time.map(|seconds| i64::try_from(seconds.saturating_mul(PER_SECOND)).unwrap_or(i64::MAX)),
    };
    let entered = if job == JobLimits::default() { Ok(()) } else { enter_job(job) };
    let by_job = [
        ("memory", limits.memory, "committed by all its processes together"),
        ("processes", limits.processes, "no further one is made"),
        ("cpu_time", limits.cpu_time, "user time of each process"),
    ];
    for (name, value, what) in by_job {
        if let Some(value) = value {
            doing.note(match &entered {
                Ok(()) => Enforced::by(name, value, "job").note(what),
                Err(error) => Enforced::not(name, value, error),
            })?;
        }
    }
    let not_here = [
        ("address_space", limits.address_space),
        ("cpu_rate", limits.cpu_rate),
        ("files", limits.files),
        ("file_size", limits.file_size),
    ];
    for (name, value) in not_here {
        if let Some(value) = value {
            doing.note(Enforced::not(name, value, "Windows has no such limit for a job"))?;
        }
    }
    Ok(())
}
