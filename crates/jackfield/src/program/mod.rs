//! A plugin's program: spawned in a process group of its own, its stderr in the log, reaped and ended.
//!
//! For every mechanism whose plugins are programs. Guaranteed: when a [`Child`] is dropped, killed or has
//! ended, its process group is gone, and pipes that a grandchild keeps open hang nothing; when the host is killed,
//! the guard ends the groups that are there.
//!
//! One that is to be kept in bounds is started by `jackfield-runner` (`confine`), which says what is really in
//! force; what the operating system does not bound is looked at now and then (`usage`), and when the program
//! dies of it, `evidence` says so.
//!
//! Not here: what is said to it on which pipe (`process/`, `grpc/`).

mod confine;
mod evidence;
mod usage;

mod child;
#[cfg(unix)]
mod guard;
mod output;

pub use crate::mechanism::Exit;
#[cfg(feature = "process")]
pub(crate) use child::Pipes;
pub(crate) use child::{Child, command, ended, spawn};
pub use confine::SandboxError;
pub(crate) use confine::confine;
pub(crate) use evidence::{Evidence, Overtime};
#[cfg(all(unix, feature = "grpc"))]
pub(crate) use guard::{Watched, watch_directory};
#[cfg(feature = "grpc")]
pub(crate) use output::Lines;
pub(crate) use output::PIPE_GRACE;
