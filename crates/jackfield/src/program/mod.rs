//! A plugin's program: spawned in a process group of its own, its stderr in the log, reaped and ended.
//!
//! For every mechanism whose plugins are programs. Guaranteed: when a [`Child`] is dropped, killed or has
//! ended, its process group is gone, and pipes that a grandchild keeps open hang nothing; when the host is killed,
//! the guard ends the groups that are there.
//!
//! Not here: what is said to it on which pipe (`process/`, `grpc/`).

mod child;
#[cfg(unix)]
mod guard;
mod output;

#[cfg(feature = "process")]
pub(crate) use child::Pipes;
pub use crate::mechanism::Exit;
pub(crate) use child::{Child, command, ended, spawn};
#[cfg(all(unix, feature = "grpc"))]
pub(crate) use guard::{Watched, watch_directory};
#[cfg(feature = "grpc")]
pub(crate) use output::Lines;
pub(crate) use output::PIPE_GRACE;
