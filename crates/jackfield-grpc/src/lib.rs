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
//! Not here: starting a process and watching it (the host), printing the line and what follows (the SDK).

pub mod broker;
pub mod channel;
pub mod handshake;
pub mod mux;
pub mod net;
pub mod pb;
pub mod serve;
pub mod tls;

/// A connection to a plugin, as an application has it that calls services of its own.
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
pub use futures_util::stream;

// What callers need of other crates, in the versions that this one was built with.
pub use {bytes, http, prost, tonic, tonic_prost};
