//! Who a plugin is: what it says itself, what its manifest says for it, what reflection shows.
//!
//! `Capabilities` is asked before anything else. A plugin that has never heard of it is one of go-plugin's:
//! then its manifest speaks for it, and its services are its own.

use std::path::Path;
use std::sync::Arc;

use jackfield_grpc::channel::Channel;
use jackfield_grpc::pb::jackfield::plugin_client::PluginClient;
use jackfield_grpc::pb::jackfield::{CapabilitiesRequest, CapabilitiesResponse};
use jackfield_protocol::message::ProtocolVersion;
use jackfield_protocol::protobuf::{Lock, ProtoSchema};
use jackfield_protocol::{Interface, InterfaceId, PROTOCOL};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::GrpcError;
use super::connect::Connected;
use super::launch::Launched;
use super::services::Services;
use super::unary::Service;
use crate::mechanism::{About, Offered, Spec};

/// The feature of a plugin that takes calls over one stream.
const LANE: &str = "channel";

/// What is known of a plugin.
pub(super) struct Known {
    pub(super) about: About,
    pub(super) services: Services,
    /// By interface; none where nothing describes it.
    pub(super) functions: Vec<Option<Arc<Service>>>,
    /// Whether calls of interfaces go over the one stream.
    pub(super) lane: bool,
}

/// Asks.
pub(super) async fn ask(spec: &Spec, launched: &Launched, connected: &Connected) -> Result<Known, GrpcError> {
    let channel = &connected.channel;
    let request = CapabilitiesRequest {
        protocol: PROTOCOL.to_string(),
        host: crate::HOST.to_owned(),
        features: vec![LANE.to_owned()],
    };
    let known = match PluginClient::new(channel.clone()).capabilities(request).await {
        Ok(answer) => described(spec, launched, channel, answer.into_inner()).await?,
        Err(status) if status.code() == Code::Unimplemented => foreign(spec, launched, channel).await?,
        Err(status) => {
            let what = format!("`Capabilities`: {} ({})", status.message(), super::status::name(status.code()));
            return Err(GrpcError::About { what });
        }
    };
    healthy(channel).await?;
    Ok(known)
}

/// A plugin that speaks for itself.
async fn described(
    spec: &Spec,
    launched: &Launched,
    channel: &Channel,
    answer: CapabilitiesResponse,
) -> Result<Known, GrpcError> {
    let wrong = |what: String| GrpcError::About { what };
    let protocol: ProtocolVersion =
        answer.protocol.parse().map_err(|_| wrong(format!("protocol {:?} is no version", answer.protocol)))?;
    if protocol.major != PROTOCOL.major {
        return Err(wrong(format!("it speaks protocol {protocol}, this host speaks {PROTOCOL}")));
    }
    let lock = read_lock(spec)?;
    let mut interfaces = Vec::new();
    let mut functions = Vec::new();
    for offered in answer.interfaces {
        let id: InterfaceId = offered.id.parse().map_err(|error| wrong(format!("{:?}: {error}", offered.id)))?;
        let described = match offered.description.is_empty() {
            false => {
                let own = Interface::from_json(&offered.description);
                Some(own.map_err(|error| wrong(format!("`{id}`: {error}")))?)
            }
            true => spec.declared.descriptions.iter().find(|description| description.id == id).cloned(),
        };
        let service = match &described {
            Some(interface) => {
                let service = service(interface, lock.as_ref())?;
                Some(service)
            }
            None => None,
        };
        functions.push(service);
        interfaces.push(Offered { id, description: described.map(Arc::new), binary: true });
    }
    let lane = spec.grpc.stream && answer.features.iter().any(|feature| feature == LANE);
    // Beside its interfaces a plugin may have services; one that has none of either is refused later.
    let services = match interfaces.is_empty() || spec.grpc.descriptor_set.is_some() {
        true => services(spec, channel).await?,
        false => Services::default(),
    };
    let capabilities = answer
        .capabilities
        .iter()
        .map(|text| text.parse().map_err(|error| wrong(format!("capability {text:?}: {error}"))));
    let about = About {
        name: answer.name,
        version: answer.version,
        capabilities: capabilities.collect::<Result<_, _>>()?,
        interfaces,
        services: services.info.clone(),
        speaks: speaks(launched, &format!("protocol {protocol}")),
    };
    Ok(Known { about, services, functions, lane })
}

/// A plugin of go-plugin's that knows nothing of us: its manifest speaks for it.
async fn foreign(spec: &Spec, launched: &Launched, channel: &Channel) -> Result<Known, GrpcError> {
    let services = services(spec, channel).await?;
    let lock = read_lock(spec)?;
    let declared = &spec.declared;
    let mut interfaces = Vec::new();
    let mut functions = Vec::new();
    for id in &declared.interfaces {
        let Some(interface) = declared.descriptions.iter().find(|description| description.id == *id) else {
            let what = format!("it does not describe `{id}`, and its manifest names no description of it");
            return Err(GrpcError::About { what });
        };
        let service = service(interface, lock.as_ref())?;
        // Without reflection nothing is known, and the first call will tell.
        let served: Vec<_> = services.info.iter().map(|service| &*service.name).collect();
        if !served.is_empty() && !served.contains(&&*service.name()) {
            let (name, served) = (service.name(), served.join(", "));
            let what = format!("its manifest says `{id}`, which is the service `{name}`, and it serves {served}");
            return Err(GrpcError::About { what });
        }
        functions.push(Some(service));
        interfaces.push(Offered { id: id.clone(), description: Some(Arc::new(interface.clone())), binary: true });
    }
    let about = About {
        name: spec.grpc.plugin.clone().unwrap_or_else(|| spec.name.clone()),
        version: declared.version.as_ref().map_or_else(|| "0.0.0".to_owned(), ToString::to_string),
        capabilities: declared.capabilities.clone(),
        interfaces,
        services: services.info.clone(),
        speaks: speaks(launched, "go-plugin"),
    };
    Ok(Known { about, services, functions, lane: false })
}

fn speaks(launched: &Launched, what: &str) -> String {
    let tls = if launched.tls.is_some() { "mutual TLS" } else { "no TLS" };
    let multiplexed = if launched.multiplex { ", multiplexed" } else { "" };
    format!("{what}, application version {}, {tls}{multiplexed}", launched.version)
}

async fn services(spec: &Spec, channel: &Channel) -> Result<Services, GrpcError> {
    match &spec.grpc.descriptor_set {
        Some(file) => Services::read(file),
        None => Services::ask(channel).await,
    }
}

fn read_lock(spec: &Spec) -> Result<Option<Lock>, GrpcError> {
    let Some(file) = &spec.grpc.lock else { return Ok(None) };
    let wrong = |file: &Path, what: String| GrpcError::File { file: file.to_owned(), what };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(file, error.to_string()))?;
    Lock::parse(&text).map(Some).map_err(|error| wrong(file, error.to_string()))
}

fn service(interface: &Interface, lock: Option<&Lock>) -> Result<Arc<Service>, GrpcError> {
    // A lock is of one interface; the others have their numbers by position.
    let schema = match lock.filter(|lock| lock.is_of(&interface.id)) {
        Some(lock) => ProtoSchema::with_lock(interface, lock).map_err(|error| error.to_string()),
        None => ProtoSchema::new(interface).map_err(|error| error.to_string()),
    };
    let schema = schema.map_err(|what| GrpcError::About { what: format!("`{}` as protobuf: {what}", interface.id) })?;
    Service::new(interface, schema).map(Arc::new)
}

/// go-plugin's service of health is called `plugin`. A plugin without one is taken to be well.
pub(super) async fn healthy(channel: &Channel) -> Result<(), GrpcError> {
    let request = HealthCheckRequest { service: "plugin".to_owned() };
    match HealthClient::new(channel.clone()).check(request).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(GrpcError::Unhealthy { health: other.as_str_name().to_owned() }),
        },
        Err(status) if matches!(status.code(), Code::Unimplemented | Code::NotFound) => Ok(()),
        Err(status) => Err(GrpcError::Unhealthy {
            health: format!("{} ({})", status.message(), super::status::name(status.code())),
        }),
    }
}
