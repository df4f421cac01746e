//! A plugin's program: spawned in a process group of its own, its stderr in the log, reaped and ended.
//!
//! For every mechanism whose plugins are programs. Guaranteed: when a [`Child`] is dropped, killed or has
//! ended, its process group is gone, and pipes that a grandchild keeps open hang nothing.
//!
//! Not here: what is said to it on which pipe (`process/`, `grpc/`).

mod child;
mod output;

pub use child::Exit;
pub(crate) use child::{Child, Pipes, command, ended, spawn};
#[cfg_attr(
    not(feature = "grpc"),
    allow(unused_imports, reason = "a program that speaks JSON has one stream of lines")
)]
pub(crate) use output::{Lines, PIPE_GRACE};
