//! What a plugin serves to hosts of one version.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;

use jackfield_grpc::broker::Broker;
use jackfield_grpc::http;
use jackfield_grpc::tonic::body::Body;
use jackfield_grpc::tonic::server::NamedService;
use jackfield_grpc::tonic::service::{AxumBody, Routes};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// The services of a plugin, as they are put together, and what they may need.
pub struct Services {
    routes: Routes,
    /// Of the services, as they were added.
    names: Vec<String>,
    broker: Broker,
    version: u32,
    stop: CancellationToken,
}

impl Services {
    pub(super) fn new(broker: Broker, version: u32, stop: CancellationToken) -> Self {
        Self { routes: Routes::default(), names: Vec::new(), broker, version, stop }
    }

    /// Serves a service that tonic generated: `services.add(KvServer::new(kv))`. Limits on the size of messages
    /// are set on it; unless they are, requests are limited to 4 MiB.
    ///
    /// # Panics
    ///
    /// When a service of the same name was added before, or one of go-plugin's own.
    pub fn add<S>(&mut self, service: S) -> &mut Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME.to_owned());
        self.routes = std::mem::take(&mut self.routes).add_service(service);
        self
    }

    /// Serves a service whose name is known only now.
    pub(super) fn add_named<S>(&mut self, name: &str, service: S)
    where
        S: Service<http::Request<AxumBody>, Response = http::Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(name.to_owned());
        let router = std::mem::take(&mut self.routes).into_axum_router();
        self.routes = router.route_service(&format!("/{name}/{{*function}}"), service).into();
    }

    /// The names of all services that were added.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub(super) fn into_routes(self) -> Routes {
        self.routes.prepare()
    }

    /// Further connections to the host.
    pub fn broker(&self) -> Broker {
        self.broker.clone()
    }

    /// The version that was negotiated.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Ready when the plugin is to end: streams that a service keeps open should end then, too. Calls and streams
    /// that go on are broken off a second later.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Services(version {})", self.version)
    }
}
