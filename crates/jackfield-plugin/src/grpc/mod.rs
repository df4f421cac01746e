//! The plugin as a server of gRPC, as hosts of hashicorp/go-plugin start it.
//!
//! [`Server`] serves whatever services its author brings, to hosts in Go and in Rust. [`serve`] serves the
//! interfaces of an `export!`.
//!
//! Order: the cookie is looked at, the version chosen, a socket made, TLS prepared; then one line on stdout tells
//! the host, and from there on stdout is for prints, which go to the host over gRPC. The plugin ends when the host
//! says so, or is gone: its process is not the parent any more, or the pipe that it gave us as a lifeline was
//! closed. An interrupt (Ctrl-C) is the host's business and ignored.
//!
//! Set `AWS_LC_SYS_NO_JITTER_ENTROPY=1` where the plugin is built (in `.cargo/config.toml`, `[env]`): otherwise the library
//! under TLS takes 40 ms for its first random number, at each start. It then has the operating system's.
//!
//! Not here: the wire (`jackfield-grpc`), a call's panic guard (`instance.rs`).

mod controller;
mod detached;
mod export;
mod hclog;
mod run;
mod server;
mod services;
mod start;
mod stdio;
mod watch;

pub use detached::{Detached, Reattach};
pub use export::serve;
pub use jackfield_grpc::broker::{Broker, BrokerError, Incoming, Serving};
pub use jackfield_grpc::channel::Channel;
pub use jackfield_grpc::handshake::Cookie;
pub use server::Server;
pub use services::Services;
pub use start::StartError;

/// gRPC's library, in the version that services have to be made for.
pub use jackfield_grpc::tonic;
