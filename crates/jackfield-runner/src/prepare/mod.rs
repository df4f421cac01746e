//! Puts this process under its orders, and says what came of it.
//!
//! Order: descriptors, session, parent's death; cgroup, while files may still be written; privileges;
//! files (Landlock); system calls (seccomp); limits of the process, last, so that they bind the plugin and
//! not us; report.

#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod files;
#[cfg(windows)]
mod job;
#[cfg(unix)]
mod limits;
#[cfg(target_os = "linux")]
mod privileges;
#[cfg(target_os = "linux")]
mod system_calls;

use std::ffi::OsStr;

use jackfield_protocol::runner::{Enforced, ORDERS_VERSION, Orders, Report, Unenforced};

/// A process that is ready to become the plugin.
pub(crate) struct Prepared {
    pub(crate) report: Report,
}

/// What is in force so far, and what may be missing.
struct Doing<'a> {
    orders: &'a Orders,
    report: Report,
}

type Refusal = (Report, Unenforced);

impl Doing<'_> {
    /// Notes something that was tried; an error if it is not in force and has to be.
    fn note(&mut self, enforced: Enforced) -> Result<(), Refusal> {
        let missing = enforced.by.is_none() && !self.orders.best_effort.contains(&enforced.limit);
        let (limit, why) = (enforced.limit.clone(), enforced.note.clone().unwrap_or_default());
        self.report.enforced.push(enforced);
        match missing {
            true => Err((std::mem::take(&mut self.report), Unenforced { limit, why })),
            false => Ok(()),
        }
    }

    fn failed(&mut self, what: &str, why: impl std::fmt::Display) -> Refusal {
        let unenforced = Unenforced { limit: what.to_owned(), why: why.to_string() };
        (std::mem::take(&mut self.report), unenforced)
    }
}

#[cfg(target_os = "linux")]
pub(crate) fn prepare(orders: &Orders, file: &OsStr) -> Result<Prepared, Refusal> {
    use jackfield_protocol::runner::Profile;
    use limits::Kept as _;

    let report = Report { version: ORDERS_VERSION, ..Report::default() };
    let mut doing = Doing { orders, report };
    crate::system::close_inherited().map_err(|error| doing.failed("descriptors", error))?;
    lead().map_err(|error| doing.failed("session", error))?;
    if let Some(parent) = orders.parent {
        privileges::die_with(parent).map_err(|why| doing.failed("parent", why))?;
        doing.note(Enforced::by("parent_death", "kill", "prctl"))?;
    }
    let cgroup = cgroup::join(orders);
    doing.report.cgroup = cgroup.directory();
    if orders.profile != Profile::None {
        privileges::drop_all(&mut doing)?;
        files::shut_in(&mut doing, std::path::Path::new(file))?;
    } else if !orders.limits.is_empty() {
        privileges::keep_limits(&mut doing)?;
    }
    system_calls::filter(&mut doing, cgroup.has("pids.max"))?;
    limits::set(&mut doing, &cgroup)?;
    Ok(Prepared { report: doing.report })
}

/// Not Linux: what the operating system has of `setrlimit`, and nothing that shuts in.
#[cfg(not(target_os = "linux"))]
pub(crate) fn prepare(orders: &Orders, _: &OsStr) -> Result<Prepared, Refusal> {
    use jackfield_protocol::runner::Profile;

    let report = Report { version: ORDERS_VERSION, ..Report::default() };
    let mut doing = Doing { orders, report };
    crate::system::close_inherited().map_err(|error| doing.failed("descriptors", error))?;
    #[cfg(unix)]
    lead().map_err(|error| doing.failed("session", error))?;
    if orders.profile != Profile::None {
        let why = format!("{} has no sandbox that a program can be put into", std::env::consts::OS);
        for part in ["fs", "net", "system_calls"] {
            doing.note(Enforced::not(part, orders.profile, &why))?;
        }
    }
    #[cfg(unix)]
    limits::set(&mut doing, &limits::NoCgroup)?;
    #[cfg(windows)]
    job::set(&mut doing)?;
    Ok(Prepared { report: doing.report })
}

/// Leads a session of its own, so that signals of the host's terminal are the host's. A leader of a process
/// group, which the host has made us, cannot; then the group is as good.
#[cfg(unix)]
fn lead() -> rustix::io::Result<()> {
    match rustix::process::setsid() {
        Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error),
    }
}
