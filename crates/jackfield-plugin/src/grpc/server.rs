//! A plugin with services of its author's.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use jackfield_grpc::broker::Broker;
use jackfield_grpc::handshake::{Cookie, Line, Protocol};
use jackfield_grpc::mux::Role;
use jackfield_grpc::pb;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_reflection::server::Builder as Reflection;

use super::run::Listening;
use super::services::Services;
use super::start::{Asked, Multiplex, StartError};
use super::stdio::{Captured, Prints, real_stderr};
use super::{controller, hclog, watch};
use crate::log::{Level, log};

/// Under which name a plugin's health is asked for.
const HEALTH_NAME: &str = "plugin";

type Adds = Box<dyn FnOnce(&mut Services) + Send>;

/// A plugin that hosts of go-plugin start: the whole of `main`.
///
/// ```no_run
/// # #[derive(Clone)] struct KvServer; impl KvServer { fn new(_: ()) -> Self { Self } }
/// # use jackfield_plugin::grpc::tonic::{self, codegen::http};
/// # impl tonic::server::NamedService for KvServer { const NAME: &'static str = "kv"; }
/// # impl tower_service::Service<http::Request<tonic::body::Body>> for KvServer {
/// #     type Response = http::Response<tonic::body::Body>;
/// #     type Error = std::convert::Infallible;
/// #     type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
/// #         unimplemented!()
/// #     }
/// #     fn call(&mut self, _: http::Request<tonic::body::Body>) -> Self::Future { unimplemented!() }
/// # }
/// use jackfield_plugin::grpc::{Cookie, Server};
///
/// fn main() -> std::process::ExitCode {
///     let cookie = Cookie::new("BASIC_PLUGIN", "hello");
///     let server = Server::new(cookie).version(1, |services| {
///         services.add(KvServer::new(()));
///     });
///     server.serve()
/// }
/// ```
///
/// Besides what its author adds, a plugin serves its health, reflection, and go-plugin's services for further
/// connections, prints and its end.
pub struct Server {
    cookie: Cookie,
    versions: BTreeMap<u32, Adds>,
    name: String,
    descriptors: Vec<Vec<u8>>,
    keeps_stderr: bool,
}

/// Reflection's own names, of its two versions.
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

impl Server {
    /// A plugin that starts only where this cookie is.
    pub fn new(cookie: Cookie) -> Self {
        let program = std::env::current_exe().ok();
        let name = program.as_deref().and_then(|program| program.file_stem());
        let name = name.map_or_else(|| "plugin".to_owned(), |name| name.to_string_lossy().into_owned());
        Self { cookie, versions: BTreeMap::new(), name, descriptors: Vec::new(), keeps_stderr: false }
    }

    /// What is served to hosts of this version. Of several versions, the highest that the host knows, too, is
    /// taken, and the lowest of all if it knows none.
    #[must_use]
    pub fn version(mut self, version: u32, services: impl FnOnce(&mut Services) + Send + 'static) -> Self {
        self.versions.insert(version, Box::new(services));
        self
    }

    /// The name under which it logs. Default: the program's.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Tells reflection of services: an encoded `google.protobuf.FileDescriptorSet`, as tonic's build makes them.
    /// Without it their names are listed nowhere.
    #[must_use]
    pub fn descriptors(mut self, encoded: impl Into<Vec<u8>>) -> Self {
        self.descriptors.push(encoded.into());
        self
    }

    /// Leaves stderr as it is: what is printed there becomes lines of the host's log, and not of its user's
    /// stderr. Then the host also sees the last words of a plugin that crashes.
    #[must_use]
    pub fn keep_stderr(mut self) -> Self {
        self.keeps_stderr = true;
        self
    }

    /// Serves until the host ends the plugin, on a runtime of its own.
    ///
    /// The exit code is 0 when the host ended it and 1 when it could not start; the reason is on stderr.
    pub fn serve(self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return failed(&StartError::Io(error)),
        };
        let code = runtime.block_on(self.serve_async());
        // Work that does not end is not waited for.
        runtime.shutdown_background();
        code
    }

    /// As [`Server::serve`], on the caller's tokio runtime, which needs I/O and time.
    pub async fn serve_async(self) -> ExitCode {
        match self.start() {
            Ok(listening) => {
                listening.run().await;
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        }
    }

    /// All up to the first line, and no further. Within a tokio runtime.
    pub(super) fn start(mut self) -> Result<Listening, StartError> {
        let versions: Vec<u32> = self.versions.keys().copied().collect();
        let asked = Asked::read(&self.cookie, &versions, |name| std::env::var_os(name))?;
        hclog::begin(real_stderr().map_err(StartError::Io)?, self.name.clone());
        let listener = asked.listen()?;
        let (tls, certificate) = asked.tls()?.unzip();
        let stop = CancellationToken::new();
        let prints = Prints::default();
        // Before any code of the author's runs: what that prints is no handshake.
        let captured = Captured::take(&prints, !self.keeps_stderr).map_err(StartError::Io)?;
        watch::begin(asked.lifeline, &stop).map_err(StartError::Io)?;
        let multiplexed = asked.multiplex == Multiplex::Yes;
        let broker = match multiplexed {
            true => Broker::multiplexed_soon(Role::Plugin, tls.clone()),
            false => Broker::plain(asked.place.clone(), tls.clone()),
        };
        let services = Services::new(broker.clone(), asked.version, stop.clone());
        let routes = self.fill(services, &prints)?.into_routes();
        let line = Line {
            app_version: asked.version,
            address: listener.address().clone(),
            protocol: Protocol::Grpc,
            certificate,
            // That it can, whether the host wants it now or not.
            multiplex: (asked.multiplex != Multiplex::Unknown).then_some(true),
        };
        watch::ignore_interrupts();
        captured.say(&line.to_string()).map_err(StartError::Io)?;
        Ok(Listening { listener, tls, multiplexed, routes, broker, prints, captured: Some(captured), stop })
    }

    pub(super) fn has_version(&self, version: u32) -> bool {
        self.versions.contains_key(&version)
    }

    /// Adds the services of the version, and those that every plugin has.
    pub(super) fn fill(&mut self, mut services: Services, prints: &Prints) -> Result<Services, StartError> {
        let broker = services.broker();
        services.add(health());
        services.add(broker.service());
        services.add(controller::service(services.stop_token()));
        services.add(prints.service());
        if let Some(adds) = self.versions.remove(&services.version()) {
            adds(&mut services);
        }
        // The last, since it lists what is served, which may be less than what the descriptors describe.
        let names = services.names().to_vec();
        let unreadable = |error: tonic_reflection::server::Error| StartError::Descriptors(error.to_string());
        let reflection = || {
            let ours = Reflection::configure().register_encoded_file_descriptor_set(pb::DESCRIPTORS);
            let ours = ours.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            let all = self.descriptors.iter().fold(ours, |all, set| all.register_encoded_file_descriptor_set(set));
            names.iter().fold(all, |all, name| all.with_service_name(name))
        };
        let v1 = reflection().with_service_name(REFLECTION).build_v1().map_err(unreadable)?;
        let v1alpha = reflection().with_service_name(REFLECTION_ALPHA).build_v1alpha().map_err(unreadable)?;
        services.add(v1).add(v1alpha);
        Ok(services)
    }
}

fn health() -> tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health> {
    let reporter = tonic_health::server::HealthReporter::new();
    // Only a lock is waited for, which nobody else has.
    let set = reporter.set_service_status(HEALTH_NAME, ServingStatus::Serving);
    futures_util::FutureExt::now_or_never(set);
    tonic_health::pb::health_server::HealthServer::new(tonic_health::server::HealthService::from_health_reporter(
        reporter,
    ))
}

/// Says why there is no plugin, as a line of text or, once there is a log, as one of it.
pub(super) fn failed(error: &StartError) -> ExitCode {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    match error {
        // Read by a person who started the program by hand.
        StartError::NotAHost { .. } | StartError::Misconfigured(_) => eprintln!("{text}"),
        _ => log(Level::Error, &text),
    }
    ExitCode::FAILURE
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<_> = self.versions.keys().collect();
        f.debug_struct("Server").field("name", &self.name).field("versions", &versions).finish_non_exhaustive()
    }
}
