//! The plugin runtime: one typed interface, whatever a plugin is.
//!
//! ```no_run
//! use jackfield::{Client, Host};
//! # mod greeter_api {
//! #     #[jackfield::interface("demo:greeter/greeter@1.0.0", crate = jackfield)]
//! #     pub trait Greeter { fn greet(&self, name: String) -> String; }
//! # }
//! use greeter_api::Greeter;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::builder().plugin_dir("plugins").build().await?;
//! let greeter: Client<dyn Greeter> = host.get("english")?;
//! println!("{}", greeter.greet("Ada".into()).await?);
//! # Ok(())
//! # }
//! ```
//!
//! The modules stand in the order in which they may name each other: none names one below itself.

#![cfg_attr(
    not(all(feature = "native", feature = "process", feature = "grpc", feature = "wasm")),
    allow(dead_code, reason = "what the mechanisms share is not used in full by each of them")
)]

mod limits;
mod regular_file;
mod tap;

pub mod rfc3339;

mod metrics;
mod trace;

mod spans;

mod file_hash;
mod lifecycle;
mod log;
mod manifest;
mod private_dir;

mod private_copy;
mod state_file;

mod breaker;
mod crash;
mod journal;
mod quarantine;
mod restarts;
mod state_dir;

#[cfg(feature = "wasm")]
mod host_function;

mod mechanism;

#[cfg(any(feature = "process", feature = "wasm"))]
mod json_rpc;
#[cfg(any(feature = "process", feature = "grpc"))]
mod pending;
#[cfg(any(feature = "process", feature = "grpc"))]
mod program;
#[cfg(any(feature = "process", feature = "grpc"))]
mod room;

#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "native")]
pub mod native;
#[cfg(feature = "process")]
pub mod process;
#[cfg(feature = "wasm")]
pub mod wasm;

mod trust;

mod error;

mod life;
mod observe;
mod plugin;

mod exchange;

mod call;

mod discover;
#[cfg(feature = "watch")]
mod watch;

mod event;
mod reload;
mod supervise;

#[cfg(feature = "metrics")]
mod scrape;

mod host;

pub use breaker::BreakerState;
pub use call::{CallOptions, Client};
pub use crash::{CrashExit, CrashNext, CrashPhase, CrashReport, LikelyLimit};
pub use discover::Shadowed;
pub use error::{EnableError, FileError, GetError, LoadError, Refused, ReloadError, ReloadStep, UnknownPlugin};
pub use event::Event;
pub use exchange::ValueStream;
pub use host::{Host, HostBuilder, Rescanned, Select};
#[cfg(feature = "wasm")]
pub use host_function::{HostAnswer, HostCall, HostFunction, HostFunctionError, MemoryError, Number, NumberType};
pub use jackfield_macros::{Type, interface};
pub use jackfield_protocol::{
    CallError, Capability, Comparison, Encoding, Fingerprint, Interface, InterfaceId, Mismatch, Status, TraceContext,
    Type,
    call::{Cause, Failure},
    runner::{Enforced, ProcessLimits, Profile},
};
pub use life::{Rest, State};
pub use lifecycle::{BreakerSpec, Canary, Lifecycle, ReloadSpec, Restart, Retry, UnknownSetting};
pub use limits::{Limits, OnTimeout};
pub use log::{LogLevel, LogLine, UnknownLogLevel};
pub use manifest::{Address, AddressError, LogFormat, ServiceConfig, UnknownLogFormat};
pub use manifest::{
    Confinement, Cookie, Grants, GrpcSpec, Instances, Isolation, LifecycleSpec, LimitRefusal, LimitsSpec, Manifest,
    ManifestError, ManifestProblem, MechanismKind, NetGrant, PoolSpec, Position, Reattach, ReattachAddress, UnitError,
    UnknownMechanism, WasmAbi, parse_duration,
};
pub use manifest::{Exposure, Signatures, TrustSpec};
pub use mechanism::{Exit, MethodInfo, ServiceInfo};
pub use observe::Calls;
pub use plugin::{InterfaceInfo, Plugin, PluginInfo, Reloaded};
pub use private_copy::CopyError;
#[cfg(any(feature = "process", feature = "grpc"))]
pub use program::SandboxError;
pub use quarantine::Quarantined;
#[cfg(feature = "metrics")]
pub use scrape::Metrics;
#[cfg(feature = "otel")]
pub use spans::{Sampling, SamplingError, Spans, SpansBuilder, SpansError};
pub use state_dir::StateDir;
pub use trace::{Traced, traced, traced_blocking};
pub use trust::{LockedPlugin, PluginsLock, TrustError, Trusted};

/// What generated code refers to.
pub use jackfield_protocol as protocol;

/// `jackfield/0.1.0`: what this host calls itself to its plugins.
pub const HOST: &str = concat!("jackfield/", env!("CARGO_PKG_VERSION"));
