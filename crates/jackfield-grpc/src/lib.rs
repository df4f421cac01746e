//! hashicorp/go-plugin's wire, as far as both roles share it: the handshake line, sockets, mutual TLS,
//! connections multiplexed by yamux, gRPC over one connection, and the broker.
//!
//! A *host* starts a plugin and is the gRPC client; a *plugin* prints a line on stdout and is the server.
//! Peers are written in Go, too, so names, numbers and time-outs are go-plugin's.
//!
//! In reading order: [`handshake`] is pure; [`net`] makes connections, [`tls`] secures them, [`mux`] makes
//! many of one; [`channel`] is gRPC's client side of a connection and [`serve`] its server side; [`broker`]
//! makes further connections between the two; [`pb`] has the messages.
//!
//! Without the feature `wire`, which is on by default, there is the handshake alone, and nothing to compile for it.
//!
//! Not here: starting a process and watching it (the host), printing the line and what follows (the SDK).

mod address;
#[cfg(feature = "wire")]
pub mod broker;
#[cfg(feature = "wire")]
pub mod channel;
pub mod handshake;
#[cfg(feature = "wire")]
pub mod mux;
#[cfg(feature = "wire")]
pub mod net;
#[cfg(feature = "wire")]
pub mod pb;
#[cfg(feature = "wire")]
pub mod serve;
#[cfg(feature = "wire")]
pub mod tls;

pub use address::{Address, AddressError};

/// A connection to a plugin, as an application has it that calls services of its own.
#[cfg(feature = "wire")]
#[derive(Clone, Debug)]
pub struct Connection {
    /// For clients that tonic generated: `KvClient::new(connection.channel)`.
    pub channel: channel::Channel,
    /// For serving the plugin something, and for calling what it serves beside its main services.
    pub broker: broker::Broker,
    /// The version of the application's protocol that the plugin chose.
    pub app_version: u32,
}

/// Streams of messages, made of functions and of lists.
#[cfg(feature = "wire")]
pub use futures_util::stream;

// What callers need of other crates, in the versions that this one was built with.
#[cfg(feature = "wire")]
pub use {bytes, http, prost, tonic, tonic_prost};
