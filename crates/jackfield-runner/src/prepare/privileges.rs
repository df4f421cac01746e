//! Privileges given up, and a life tied to the parent's.

use jackfield_protocol::runner::Enforced;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::{Doing, Refusal};
use crate::system;

/// The capability with which a limit can be raised.
const SYS_RESOURCE: u32 = 24;

/// The kernel has about forty, and says of the first one that it has not.
const CAPABILITIES_MAX: u32 = 64;

/// Has this process killed when the thread that started it ends; whoever starts it keeps that thread.
pub(super) fn die_with(parent: u32) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    // A parent that died before the line above has sent no signal.
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    match now {
        Some(now) if now == parent => Ok(()),
        _ => Err(format!("process {parent} has ended meanwhile")),
    }
}

/// Gives up every capability for good, also those that root gets by executing, and those of set-user-ID
/// programs. Without them root is a user whose files happen to be many; Landlock keeps it from those.
pub(super) fn drop_all(doing: &mut Doing<'_>) -> Result<(), Refusal> {
    let dropped = system::no_new_privileges().and_then(|()| {
        for capability in 0..CAPABILITIES_MAX {
            match system::drop_from_bounding_set(capability) {
                Ok(()) => {}
                // The first number that this kernel does not know.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                // A user without capabilities may not shrink the set, and gains none of it either, since no new
                // privileges are to be had.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
                Err(error) => return Err(error),
            }
        }
        system::drop_capabilities()
    });
    doing.note(match dropped {
        Ok(()) => Enforced::by("capabilities", "none", "capset").note("and no new privileges"),
        Err(error) => Enforced::not("capabilities", "none", error),
    })
}

/// Gives up the one capability with which root could raise its limits again.
pub(super) fn keep_limits(doing: &mut Doing<'_>) -> Result<(), Refusal> {
    match system::drop_from_bounding_set(SYS_RESOURCE) {
        // Who may not do this has not got the capability.
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => Err(doing.failed("capabilities", error)),
        _ => Ok(()),
    }
}
