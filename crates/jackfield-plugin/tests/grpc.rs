//! A plugin with services of its author's, without a process of its own.

#![cfg(all(unix, feature = "grpc"))]

use std::time::Duration;

use jackfield_grpc::net::{self, Address};
use jackfield_grpc::pb::jackfield::plugin_client::PluginClient;
use jackfield_grpc::pb::jackfield::plugin_server::{Plugin, PluginServer};
use jackfield_grpc::pb::jackfield::{CapabilitiesRequest, CapabilitiesResponse, ChannelRequest, ChannelResponse};
use jackfield_grpc::pb::plugin::Empty;
use jackfield_grpc::pb::plugin::grpc_controller_client::GrpcControllerClient;
use jackfield_plugin::grpc::tonic::{self, Code, Request, Response, Status, Streaming, async_trait};
use jackfield_plugin::grpc::{Broker, Channel, Cookie, Detached, Server, StartError};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// A service of an author's: which one makes no difference. What it answers is its version, and what the service
/// answers that it dials at the number it is asked with.
struct Author {
    version: u32,
    broker: Broker,
    stopping: tokio::sync::watch::Receiver<bool>,
}

#[async_trait]
impl Plugin for Author {
    async fn capabilities(
        &self,
        request: Request<CapabilitiesRequest>,
    ) -> Result<Response<CapabilitiesResponse>, Status> {
        let mut name = format!("version {}", self.version);
        if let Ok(id) = request.into_inner().host.parse() {
            let dialled = self.broker.dial(id).await.map_err(|error| Status::unavailable(error.to_string()))?;
            let asked = CapabilitiesRequest::default();
            name += &format!(", {}", PluginClient::new(dialled).capabilities(asked).await?.into_inner().name);
        }
        Ok(Response::new(CapabilitiesResponse { name, ..Default::default() }))
    }

    type ChannelStream = jackfield_grpc::stream::BoxStream<'static, Result<ChannelResponse, Status>>;

    /// Open until the plugin ends.
    async fn channel(&self, _: Request<Streaming<ChannelRequest>>) -> Result<Response<Self::ChannelStream>, Status> {
        let mut stopping = self.stopping.clone();
        let end = async move {
            stopping.wait_for(|stopping| *stopping).await.expect("told");
            Ok(ChannelResponse { id: 99, ..Default::default() })
        };
        Ok(Response::new(Box::pin(jackfield_grpc::stream::once(end))))
    }
}

fn server() -> Server {
    let add = |services: &mut jackfield_plugin::grpc::Services| {
        let (tell, stopping) = tokio::sync::watch::channel(false);
        let end = services.stopping();
        tokio::spawn(async move {
            end.await;
            tell.send_replace(true);
        });
        let author = Author { version: services.version(), broker: services.broker(), stopping };
        services.add(PluginServer::new(author));
    };
    Server::new(Cookie::new("KEY", "value")).version(2, add).version(3, add)
}

async fn connect(plugin: &Detached) -> Channel {
    let stream = net::connect(&plugin.reattach().address).await.expect("connected");
    Channel::connect(stream).await.expect("a channel")
}

async fn name(channel: Channel, host: &str) -> Result<String, Status> {
    let asked = CapabilitiesRequest { host: host.to_owned(), ..Default::default() };
    let answer = timeout(SOON, PluginClient::new(channel).capabilities(asked)).await.expect("soon");
    answer.map(|answer| answer.into_inner().name)
}

#[tokio::test]
async fn a_detached_plugin_serves_the_version_it_is_told_to() {
    for version in [2, 3] {
        let plugin = server().detached(version).expect("started");
        let channel = connect(&plugin).await;
        assert_eq!(name(channel, "").await.expect("an answer"), format!("version {version}"));
        let Address::Unix(socket) = plugin.reattach().address.clone() else { panic!("a unix socket") };
        assert!(socket.exists());
        timeout(SOON, plugin.stop()).await.expect("soon");
        assert!(!socket.exists());
    }
    assert!(matches!(server().detached(4), Err(StartError::Misconfigured(_))));
}

#[tokio::test]
async fn hosts_are_told_of_a_detached_plugin_as_terraform_is() {
    let plugin = server().detached(3).expect("started");
    let told: serde_json::Value =
        serde_json::from_str(&plugin.reattach().to_json("registry.example/demo/kv")).expect("JSON");
    let expected = serde_json::json!({ "registry.example/demo/kv": {
        "Protocol": "grpc",
        "ProtocolVersion": 3,
        "Pid": std::process::id(),
        "Test": true,
        "Addr": { "Network": "unix", "String": plugin.reattach().address.location() },
    }});
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_service_dials_what_the_host_serves() {
    let plugin = server().detached(2).expect("started");
    let channel = connect(&plugin).await;
    let place = net::Place::default();
    let broker = Broker::plain(place, None);
    let attached = tokio::spawn({
        let (broker, channel) = (broker.clone(), channel.clone());
        async move { broker.attach(channel).await }
    });
    let id = broker.next_id();
    let (_tell, stopping) = tokio::sync::watch::channel(false);
    let here = Author { version: 77, broker: broker.clone(), stopping };
    broker.serve(id, tonic::service::Routes::new(PluginServer::new(here))).expect("served");
    assert_eq!(name(channel.clone(), &id.to_string()).await.expect("an answer"), "version 2, version 77");
    timeout(SOON, plugin.stop()).await.expect("soon");
    attached.await.expect("no panic").expect("ended by the plugin");
    assert_eq!(name(channel, "").await.expect_err("ended").code(), Code::Unavailable);
}

#[tokio::test]
async fn a_shutdown_lets_open_streams_end() {
    let mut plugin = server().detached(2).expect("started");
    let channel = connect(&plugin).await;
    let requests = jackfield_grpc::stream::pending();
    let mut answers = PluginClient::new(channel.clone()).channel(requests).await.expect("a stream").into_inner();
    GrpcControllerClient::new(channel).shutdown(Empty {}).await.expect("an answer");
    let last = timeout(SOON, answers.message()).await.expect("soon").expect("no error").expect("a message");
    assert_eq!(last.id, 99);
    assert_eq!(timeout(SOON, answers.message()).await.expect("soon").expect("no error"), None);
    timeout(SOON, plugin.wait()).await.expect("soon");
}
