//! A plugin that no host started, and that hosts are told of: for debuggers and tests.

use std::fmt;

use jackfield_grpc::broker::Broker;
use jackfield_grpc::net::{Address, Listener, Place};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::run::Listening;
use super::server::Server;
use super::services::Services;
use super::start::StartError;
use super::stdio::Prints;

/// What a host has to know of a plugin that it did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reattach {
    /// The application's version, which is not negotiated.
    pub protocol_version: u32,
    /// The plugin's process.
    pub pid: u32,
    /// Where it listens.
    pub address: Address,
}

impl Reattach {
    /// As the value of Terraform's `TF_REATTACH_PROVIDERS`, under the address of a provider: one JSON object. With
    /// it, a host leaves the plugin running.
    pub fn to_json(&self, provider: &str) -> String {
        let config = serde_json::json!({
            "Protocol": "grpc",
            "ProtocolVersion": self.protocol_version,
            "Pid": self.pid,
            "Test": true,
            "Addr": { "Network": self.address.network(), "String": self.address.location() },
        });
        serde_json::json!({ provider: config }).to_string()
    }
}

/// A plugin that runs in this process until it is stopped or dropped, or a host shuts it down.
pub struct Detached {
    reattach: Reattach,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Server {
    /// Serves without a host: no cookie is looked at, nothing is printed, stdout and stderr stay as they are, and
    /// there is no TLS. Must be called within a tokio runtime.
    ///
    /// `version` is one of those given to [`Server::version`].
    pub fn detached(mut self, version: u32) -> Result<Detached, StartError> {
        if !self.has_version(version) {
            return Err(StartError::Misconfigured("it has no such version"));
        }
        let place = Place::default();
        let listener = Listener::bind(&place).map_err(StartError::Bind)?;
        let reattach =
            Reattach { protocol_version: version, pid: std::process::id(), address: listener.address().clone() };
        let (stop, prints, broker) = (CancellationToken::new(), Prints::default(), Broker::plain(place, None));
        let services = Services::new(broker.clone(), version, stop.clone());
        let routes = self.fill(services, &prints)?.into_routes();
        let listening = Listening {
            listener,
            tls: None,
            multiplexed: false,
            routes,
            broker,
            prints,
            captured: None,
            stop: stop.clone(),
        };
        Ok(Detached { reattach, stop, running: tokio::spawn(listening.run()) })
    }
}

impl Detached {
    /// What to tell a host.
    pub fn reattach(&self) -> &Reattach {
        &self.reattach
    }

    /// Ends it, once calls under way are over.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.wait().await;
    }

    /// Waits until a host shuts it down.
    pub async fn wait(&mut self) {
        // It does not panic, and nobody else ends it.
        let _ = (&mut self.running).await;
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Detached({})", self.reattach.address)
    }
}
