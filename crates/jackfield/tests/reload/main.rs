//! A plugin gets a new version while it is called, in every mechanism: no call is lost, none is answered by another
//! generation than the one it was made to, and a version that is no good changes nothing.
//!
//! Not here: what it costs (`cargo xtask bench reload`), and that nothing is left after many (`soak.rs`).

#![cfg(all(feature = "process", target_os = "linux"))]

#[path = "../suite/mod.rs"]
mod suite;

mod broken;
mod load;
mod old;
mod state;

use fixtures_api::versioned::{Mode, Versioned};
use jackfield::{Client, Host, Lifecycle};

use suite::{Fixture, Mechanism, Plugins, in_time, versions};

/// Runs each function for each mechanism that this build has.
macro_rules! each_mechanism {
    ($(async fn $name:ident($mechanism:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn case($mechanism: $crate::suite::Mechanism) $body

            $crate::each_mechanism! { @run
                native "native" Native, process "process" Process, grpc "grpc" Grpc, grpc_unary "grpc" GrpcUnary,
                extism "wasm" Extism, component "wasm" Component, command "wasm" Command,
            }
        }
    )*};
    (@run $($test:ident $feature:literal $mechanism:ident,)*) => {$(
        #[cfg(feature = $feature)]
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            case($crate::suite::Mechanism::$mechanism).await;
        }
    )*};
}
pub(crate) use each_mechanism;

/// Whether each generation is a program of its own.
fn is_program(mechanism: Mechanism) -> bool {
    matches!(mechanism, Mechanism::Process | Mechanism::Grpc | Mechanism::GrpcUnary)
}

/// Whether the plugin's code runs for the first time when it is called.
fn starts_when_called(mechanism: Mechanism) -> bool {
    matches!(mechanism, Mechanism::Extism | Mechanism::Component)
}

/// The fixture as the plugin `p`.
fn plugin(mechanism: Mechanism) -> Fixture {
    Fixture::new(mechanism, "versioned").named("p")
}

/// A host whose plugin `p` is the build `0`, and its directory.
async fn host(fixture: Fixture, lifecycle: Lifecycle) -> (Plugins, Host) {
    let plugins = Plugins::new();
    versions::add_as(&plugins, fixture, "0", Mode::Ok);
    let host = in_time(plugins.builder().lifecycle(lifecycle).build()).await.expect("a host");
    assert!(host.refused().is_empty(), "{:?}", host.refused());
    (plugins, host)
}

fn client(host: &Host) -> Client<dyn Versioned> {
    host.get("p").unwrap_or_else(|error| panic!("{error}"))
}

/// Puts another build in the place of the plugin's, without telling its host.
fn put(plugins: &Plugins, mechanism: Mechanism, label: &str, mode: Mode) {
    tokio::task::block_in_place(|| versions::replace(plugins, "p", &versions::build(mechanism, label, mode)));
}
