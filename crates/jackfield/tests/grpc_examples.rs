//! The examples with services of their own, in Rust and Go, called without a client. With one: `examples/kv/tests`.

#![cfg(all(feature = "grpc", unix))]

mod suite;

use std::path::PathBuf;

use jackfield::{CallError, CallOptions, Host};
use serde_json::{Value, json};
use suite::{Mechanism, fixtures, in_time, says};
use tokio::sync::mpsc;

fn plugins() -> PathBuf {
    fixtures::built(Mechanism::Extism, "zoo").join("../../plugins")
}

async fn host(name: &str) -> Host {
    let host = in_time(Host::builder().plugin(plugins().join(name)).build()).await.expect("a host");
    assert!(host.refused().is_empty(), "{:?}", host.refused());
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_values_is_called_by_its_service_in_either_language() {
    for name in ["kv-rust", "kv-go"] {
        let host = host(name).await;
        let kv = host.plugin(name).expect("a store");
        let services: Vec<_> = kv.info().services.iter().map(|service| service.name.clone()).collect();
        assert_eq!(services, ["proto.KV"], "{name}");
        let put = json!({"key": "hello", "value": "d29ybGQ="});
        assert_eq!(in_time(kv.call("proto.KV/Put", put)).await, Ok(json!({})), "{name}");
        for method in ["proto.KV/Get", "proto.KV.Get", "KV/Get"] {
            let got = in_time(kv.call(method, json!({"key": "hello"}))).await;
            assert_eq!(got, Ok(json!({"value": "d29ybGQ="})), "{name} {method}");
        }
        let missing = in_time(kv.call("proto.KV/Get", json!({"key": "nothing"}))).await;
        let error = json!({"code": "NOT_FOUND", "message": "nothing under the key \"nothing\""});
        assert_eq!(missing, Err(CallError::Plugin(error)), "{name}");
        let wrong = in_time(kv.call("proto.KV/Get", json!({"kez": "hello"}))).await.expect_err("no such field");
        says(&wrong.to_string(), &["refused: it is no `proto.GetRequest` (which has key)", "'kez'"]);
        let unknown = in_time(kv.call("proto.KV/Gat", json!({}))).await.expect_err("no such method").to_string();
        says(&unknown, &["the plugin has no such function; did you mean `proto.KV/Get`?"]);
        in_time(host.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_a_message_for_each_change() {
    let host = host("counter-rust").await;
    let counter = host.plugin("counter-rust").expect("a counter");
    let (sender, messages) = mpsc::channel(1);
    sender.try_send(json!({"name": "apples"})).expect("room");
    drop(sender);
    let mut changes = counter.stream(&CallOptions::default(), "Counter/Watch", messages).expect("a stream");
    let first: Value = in_time(changes.next()).await.expect("a message").expect("a count");
    assert_eq!(first, json!({"name": "apples", "value": "0"}));
    drop(changes);
    let streams = in_time(counter.call("Counter/Watch", json!({}))).await.expect_err("it streams").to_string();
    says(&streams, &["`Watch` streams its messages: it is called as a stream"]);
    in_time(host.stop()).await;
}
