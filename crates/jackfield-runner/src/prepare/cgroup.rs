//! A cgroup of version 2 of the plugin's own, where one may be made.
//!
//! The directory in which it is made is given (`Orders::cgroup`), or is the cgroup of this process. It has
//! to be writable, and to hand on the controllers that are wanted (`cgroup.subtree_control`). A cgroup with
//! processes in it hands nothing on, so the host's own rarely serves; a delegated one beside it does.
//! What is not so is no error here: the limits that have another means use it, and the report says why.
//!
//! This process moves into it before it becomes the plugin, so that nothing of the plugin runs outside.
//! Who started it removes the directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jackfield_protocol::runner::Orders;

use super::limits::Kept;

/// Where version 2 is, alone or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Microseconds over which `cpu_rate` is kept: the kernel's own.
const PERIOD_US: u64 = 100_000;

pub(super) enum Cgroup {
    Joined { directory: PathBuf, written: Vec<&'static str> },
    None { why: String },
}

impl Kept for Cgroup {
    fn has(&self, file: &str) -> bool {
        matches!(self, Cgroup::Joined { written, .. } if written.contains(&file))
    }

    fn why_not(&self) -> String {
        match self {
            Cgroup::Joined { directory, .. } => format!("`{}` does not hand on the controller", directory.display()),
            Cgroup::None { why } => why.clone(),
        }
    }
}

impl Cgroup {
    pub(super) fn directory(&self) -> Option<PathBuf> {
        match self {
            Cgroup::Joined { directory, .. } => Some(directory.clone()),
            Cgroup::None { .. } => None,
        }
    }
}

pub(super) fn join(orders: &Orders) -> Cgroup {
    let limits = &orders.limits;
    let mut wanted: Vec<(&'static str, &'static str, String)> = Vec::new();
    if let Some(bytes) = limits.memory {
        wanted.push(("memory", "memory.max", bytes.to_string()));
        wanted.push(("memory", "memory.swap.max", "0".to_owned()));
        wanted.push(("memory", "memory.oom.group", "1".to_owned()));
    }
    if let Some(processes) = limits.processes {
        wanted.push(("pids", "pids.max", processes.to_string()));
    }
    if let Some(thousandths) = limits.cpu_rate {
        wanted.push(("cpu", "cpu.max", format!("{} {PERIOD_US}", thousandths * PERIOD_US / 1000)));
    }
    if wanted.is_empty() {
        return Cgroup::None { why: "no limit wants one".to_owned() };
    }
    let parent = match orders.cgroup.clone().map_or_else(own, Ok) {
        Ok(parent) => parent,
        Err(why) => return Cgroup::None { why },
    };
    join_in(&parent, &wanted).unwrap_or_else(|error| Cgroup::None { why: format!("`{}`: {error}", parent.display()) })
}

fn join_in(parent: &Path, wanted: &[(&'static str, &'static str, String)]) -> io::Result<Cgroup> {
    let handed_on = || fs::read_to_string(parent.join("cgroup.subtree_control"));
    let mut controllers = handed_on()?;
    for (controller, _, _) in wanted {
        if !controllers.split_whitespace().any(|there| there == *controller) {
            // Whether it may be handed on, only trying tells.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
            controllers = handed_on()?;
        }
    }
    let has = |controller: &str| controllers.split_whitespace().any(|there| there == controller);
    if !wanted.iter().any(|(controller, _, _)| has(controller)) {
        return Err(io::Error::other("it hands on none of the controllers that are wanted"));
    }
    let directory = parent.join(format!("jackfield-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let written = fill(&directory, wanted.iter().filter(|(controller, _, _)| has(controller)));
    let joined = written.and_then(|written| {
        fs::write(directory.join("cgroup.procs"), std::process::id().to_string())?;
        Ok(written)
    });
    match joined {
        Ok(written) => Ok(Cgroup::Joined { directory, written }),
        Err(error) => {
            let _ = fs::remove_dir(&directory);
            Err(error)
        }
    }
}

fn fill<'a>(
    directory: &Path,
    wanted: impl Iterator<Item = &'a (&'static str, &'static str, String)>,
) -> io::Result<Vec<&'static str>> {
    let mut written = Vec::new();
    for (_, file, value) in wanted {
        match fs::write(directory.join(file), value) {
            Ok(()) => written.push(*file),
            // A kernel without swap has no limit of it.
            Err(_) if matches!(*file, "memory.swap.max" | "memory.oom.group") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// The cgroup of this process.
fn own() -> Result<PathBuf, String> {
    let table = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::")).ok_or("cgroup version 2 is not mounted")?;
    let mount = MOUNTS.into_iter().map(Path::new).find(|mount| mount.join("cgroup.controllers").exists());
    let mount = mount.ok_or("cgroup version 2 is not mounted")?;
    Ok(mount.join(path.trim_start_matches('/')))
}
