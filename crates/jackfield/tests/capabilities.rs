//! The greeter promises three things, and is refused where a host requires more: by the same rule and in the
//! same words, whatever the plugin is.

#![cfg(all(feature = "native", feature = "process", feature = "grpc", feature = "wasm", unix))]

mod suite;

use expect_test::{Expect, expect};
use greeter_api::Greeter;
use jackfield::{Capability, Client, Host};
use suite::{Mechanism, chain, fixtures, in_time};

/// The same source, by every mechanism; then other languages.
const GREETERS: [&str; 9] = [
    "english",
    "english-process",
    "english-grpc",
    "english-wasm",
    "english-component",
    "english-wasi",
    "greeter-c",
    "greeter-python",
    "greeter-go-grpc",
];

/// A host that requires this of every plugin; how many it has, and why it refused the others.
async fn check(required: &str, expected: Expect) {
    let required: Capability = required.parse().expect("a capability");
    let plugins = fixtures::built(Mechanism::Extism, "zoo").join("../../plugins");
    let mut told = Vec::new();
    for name in GREETERS {
        let builder = Host::builder().plugin(plugins.join(name)).cache_dir(fixtures::cache_dir());
        let host = in_time(builder.require(required.clone()).build()).await.expect("a host");
        let refused = host.refused();
        let refused = refused.iter().map(|refused| chain(&refused.reason));
        told.extend(refused);
        if let Ok(plugin) = host.plugin(name) {
            let greeter: Client<dyn Greeter> = host.get(plugin.name()).expect("a greeter");
            assert!(in_time(greeter.greet("Ada".into())).await.is_ok(), "{name}");
            told.push("loaded".to_owned());
            // What a host requires of one plugin alone has the same rule and the same words.
            let one = host.select().require(required.to_string()).get::<dyn Greeter>(name);
            assert!(one.is_ok(), "{name}");
        }
        in_time(host.stop()).await;
    }
    assert_eq!(told.len(), GREETERS.len());
    told.dedup();
    expected.assert_eq(&told.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_promised_is_had_in_that_version_or_an_older_one() {
    for required in ["greeting@1", "batch@2", "batch@1", "polite@1"] {
        check(required, expect!["loaded"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capability_that_is_too_old_is_refused_with_both_versions() {
    check("greeting@2", expect!["it lacks a capability: the host requires `greeting@2`, the plugin offers version 1"])
        .await;
    check("batch@3", expect!["it lacks a capability: the host requires `batch@3`, the plugin offers version 2"]).await;
    check("polite@2", expect!["it lacks a capability: the host requires `polite@2`, the plugin offers version 1"])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capability_that_is_missing_is_refused() {
    check("farewell@1", expect!["it lacks a capability: the host requires `farewell@1`, the plugin does not offer it"])
        .await;
}
