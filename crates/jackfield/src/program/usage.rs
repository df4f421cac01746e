//! What a program uses, looked at every [`EVERY`]: resident memory, and how many processes it is.
//!
//! The soft limit for every platform: it sees what the operating system's own limits do not count, such as
//! the sum over all processes of a plugin, and works where there are none. It comes late, by up to one
//! interval; who fills memory faster than that is stopped by the others, or by nobody.

use std::time::Duration;

use jackfield_protocol::runner::{Enforced, ProcessLimits};
use tokio::sync::watch;

use super::child::ended;
use super::evidence::Evidence;
use crate::mechanism::Exit;

/// A tenth of a second is 0.1 GiB of memory filled by one thread that does nothing else, and costs a few
/// small files read.
const EVERY: Duration = Duration::from_millis(100);

/// Whether it can be looked at all here.
pub(super) const CAN_LOOK: bool = cfg!(unix);

/// What a plugin uses at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes of memory that are its processes' in RAM; what they share counts for each.
    pub(super) resident: u64,
    pub(super) processes: u64,
}

/// Whether somebody has to look.
pub(super) fn is_limited(limits: &ProcessLimits) -> bool {
    limits.memory.is_some() || limits.processes.is_some()
}

/// What the operating system does not keep of what is looked at here, is kept by looking.
pub(super) fn or_watched(enforced: Enforced, limits: &ProcessLimits) -> Enforced {
    let looked_at = match &*enforced.limit {
        "memory" => limits.memory.is_some(),
        "processes" => limits.processes.is_some(),
        _ => false,
    };
    if enforced.by.is_some() || !looked_at || !CAN_LOOK {
        return enforced;
    }
    let why = enforced.note.map_or_else(String::new, |why| format!("; {why}"));
    Enforced::by(&enforced.limit, enforced.value, "watcher")
        .note(format!("looked at every {} ms, and killed when it is more{why}", EVERY.as_millis()))
}

/// Looks until the program has ended, and kills it when it uses too much.
pub(super) async fn watch(
    group: u32,
    limits: ProcessLimits,
    mut exit: watch::Receiver<Option<Exit>>,
    evidence: Evidence,
    kill: impl Fn() + Send,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ended(&mut exit) => return,
            _ = ticks.tick() => {}
        }
        let Some(usage) = imp::usage(group, limits.processes.is_some()) else { continue };
        let Some((limit, what)) = too_much(&limits, usage) else { continue };
        evidence.killed_for(limit, what);
        kill();
        return;
    }
}

fn too_much(limits: &ProcessLimits, usage: Usage) -> Option<(&'static str, String)> {
    match (limits.memory, limits.processes) {
        (Some(bytes), _) if usage.resident > bytes => {
            Some(("memory", format!("it had {} bytes of memory of {bytes} allowed", usage.resident)))
        }
        (_, Some(processes)) if usage.processes > processes => {
            Some(("processes", format!("it was {} processes of {processes} allowed", usage.processes)))
        }
        _ => None,
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::fs;

    use super::Usage;

    /// What the process group uses. Everybody's processes are looked through only to count them: for memory the
    /// leader and its descendants do.
    pub(super) fn usage(group: u32, counted: bool) -> Option<Usage> {
        let members = if counted { members(group) } else { descendants(group) };
        // In `status` and not in `statm`, whose pages are of a size that would have to be asked for.
        let resident = members.iter().filter_map(|process| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            kib.trim().trim_end_matches(" kB").parse::<u64>().ok()
        });
        Some(Usage { resident: resident.sum::<u64>() * 1024, processes: members.len() as u64 })
    }

    fn members(group: u32) -> Vec<u32> {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        all.filter(|process| group_of(*process) == Some(group)).collect()
    }

    fn group_of(process: u32) -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // After the name, which may have anything in it: state, parent, group.
        let (_, after) = stat.rsplit_once(") ")?;
        let mut fields = after.split(' ');
        match fields.next()? {
            "Z" | "X" => None,
            _ => fields.nth(1)?.parse().ok(),
        }
    }

    fn descendants(leader: u32) -> Vec<u32> {
        let mut found = vec![leader];
        let mut at = 0;
        while let Some(process) = found.get(at) {
            at += 1;
            for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
        found
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn a_group_is_seen_with_its_memory() {
            use std::os::unix::process::CommandExt as _;

            let mut child = std::process::Command::new("sleep").arg("60").process_group(0).spawn().expect("a child");
            let seen = super::usage(child.id(), true).expect("on Linux");
            let by_descent = super::usage(child.id(), false).expect("on Linux");
            child.kill().expect("killed");
            child.wait().expect("waited");
            assert_eq!(seen.processes, 1);
            assert!(seen.resident > 0 && by_descent.resident > 0);
            assert_eq!(super::usage(child.id(), true).expect("on Linux").processes, 0, "a dead group has nobody");
        }
    }
}

/// `ps` is what every Unix has. Its numbers are those of the kernel.
#[cfg(all(unix, not(target_os = "linux")))]
mod imp {
    use std::process::Command;

    use super::Usage;

    pub(super) fn usage(group: u32, _: bool) -> Option<Usage> {
        let listed = Command::new("ps").args(["-A", "-o", "pgid=,rss="]).output().ok()?;
        let mut usage = Usage::default();
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            let mut fields = line.split_whitespace();
            if fields.next().and_then(|field| field.parse::<u32>().ok()) == Some(group) {
                usage.processes += 1;
                usage.resident += fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0) * 1024;
            }
        }
        Some(usage)
    }
}

/// On Windows the runner's job object keeps both limits, and nobody looks.
#[cfg(not(unix))]
mod imp {
    use super::Usage;

    pub(super) fn usage(_: u32, _: bool) -> Option<Usage> {
        None
    }
}
