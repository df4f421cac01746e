//! What gRPC plugins in Go and in Rust do to a host, and a host to them: they die, they are stopped, they flood,
//! they are besieged by strangers, and they are called by services that nobody described to us beforehand.
//!
//! Not here: the good cases with every combination of host and plugin (`grpc_matrix.rs`), programs that are no
//! plugins (`bad_input_grpc.rs`).

#![cfg(all(feature = "grpc", target_os = "linux"))]

#[path = "../suite/mod.rs"]
mod suite;

mod attached;
mod broker;
mod death;
mod messages;
mod output;
mod pinned;
mod services;
mod sockets;
mod stop;
mod strangers;
