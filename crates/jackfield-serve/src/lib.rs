//! A plugin's side of a pipe: what whoever serves one has in common.
//!
//! That is the SDK, in a program, and the runner, for a library in a process of its own. Order: take stdin and stdout
//! away from the plugin's code (`pipes`), read whole messages and answer them (`server`), with a thread more for each
//! call that takes long (`turns`). The SDK's gRPC has the same turns, and connections in place of the pipe.
//!
//! Not here: what a message says (`jackfield_protocol`), and what it is answered with (the SDK's `process/session.rs`,
//! the runner's `native/session.rs`). None of this is for authors of plugins.

mod pipes;
mod server;
mod turns;

pub use pipes::take as take_pipes;
pub use server::{Serve, Server, Then, Work};
pub use turns::{Turn, Turns};
