//! Connects to a program that listens: the socket, one connection or many in it, TLS, gRPC, the broker.

use std::sync::Arc;

use jackfield_grpc::broker::Broker;
use jackfield_grpc::channel::Channel;
use jackfield_grpc::mux::{Mux, Role};
use jackfield_grpc::net::{self, Group, Place};
use jackfield_grpc::pb::plugin::grpc_stdio_client::GrpcStdioClient;
use jackfield_grpc::pb::plugin::stdio_data::Channel as Printed;
use jackfield_grpc::tls::Tls;
use tokio::runtime::Handle;

use super::launch::Launched;
use super::{GrpcError, Output};
use crate::log::PluginLog;
use crate::program::Lines;

/// A connection to a plugin.
pub(super) struct Connected {
    pub(super) channel: Channel,
    pub(super) broker: Broker,
}

/// Connects.
pub(super) async fn connect(
    launched: &Launched,
    log: &Arc<PluginLog>,
    runtime: &Handle,
) -> Result<Connected, GrpcError> {
    let failed =
        |why: String| GrpcError::Connect { address: launched.address.to_string(), why, output: Output::of(log) };
    let tls = match &launched.tls {
        Some((identity, peer)) => Some(Tls::new(identity, peer).map_err(|error| failed(error.to_string()))?),
        None => None,
    };
    let stream = net::connect(&launched.address).await.map_err(|error| failed(error.to_string()))?;
    let (stream, broker) = match launched.multiplex {
        true => {
            let mux = Mux::new(stream, Role::Host);
            let opened = mux.open().await.map_err(|error| failed(error.to_string()))?;
            (opened.stream, Broker::multiplexed(mux, Role::Host, tls.clone()))
        }
        false => (stream, Broker::plain(place(launched), tls.clone())),
    };
    let stream = match &tls {
        Some(tls) => tls.connect(stream).await.map_err(|error| failed(error.to_string()))?,
        None => stream,
    };
    let channel = Channel::connect(stream).await.map_err(|error| failed(error.to_string()))?;
    // A plugin in Go does not even say that it has taken these before it has something to say on them.
    runtime.spawn({
        let (broker, channel) = (broker.clone(), channel.clone());
        async move {
            // A plugin without a broker is a plugin.
            let _ = broker.attach(channel).await;
        }
    });
    runtime.spawn(printed(channel.clone(), Arc::clone(log)));
    Ok(Connected { channel, broker })
}

/// Where the sockets are that we make for the plugin: where its own is.
fn place(launched: &Launched) -> Place {
    match &launched.sockets {
        Some(sockets) => {
            let group = launched.socket_group.as_deref().map(Group::from);
            Place::Directory(sockets.path().to_owned(), group)
        }
        None => Place::default(),
    }
}

/// Forwards to the log what a plugin prints, which go-plugin sends through the connection.
async fn printed(channel: Channel, log: Arc<PluginLog>) {
    // A plugin without it prints to its pipes, or nowhere.
    let Ok(stream) = GrpcStdioClient::new(channel).stream_stdio(()).await else { return };
    let mut stream = stream.into_inner();
    let (mut out, mut err) = (Lines::default(), Lines::default());
    while let Ok(Some(data)) = stream.message().await {
        match data.channel() {
            Printed::Stdout => out.take(&data.data, |line| log.stray(line)),
            Printed::Stderr => err.take(&data.data, |line| log.stderr(line)),
            Printed::Invalid => {}
        }
    }
    out.end(|line| log.stray(line));
    err.end(|line| log.stderr(line));
}
