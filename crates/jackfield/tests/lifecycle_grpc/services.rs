//! Services that nobody described to the host, called with JSON.

use std::fs;

use jackfield::{CallOptions, Host, Plugin};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::suite::grpc::{fixture, languages};
use crate::suite::{Plugins, ended, in_time, refused, says};

/// Switches reflection off, in a plugin with go-plugin.
const WITHOUT_REFLECTION: &str = "grpc.reflection.v1.ServerReflection,grpc.reflection.v1alpha.ServerReflection";

const DESCRIPTORS: &str = "descriptor_set = \"matrix.bin\"";

async fn check(host: &Host, name: &str) {
    let plugin = host.plugin(name).unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
    let services = plugin.info().services;
    let matrix = services.iter().find(|service| service.name == "jackfield.matrix.v1.Matrix").expect("the service");
    let names: Vec<_> = matrix.methods.iter().map(|method| &*method.name).collect();
    assert_eq!(names, ["Echo", "CallBack", "Offer", "Count", "Chat", "Print", "Version", "Die", "Log"]);
    let chat = plugin.method("Matrix/Chat").expect("a method");
    assert!(chat.client_streaming && chat.server_streaming);
    assert_eq!((&*chat.input, &*chat.output), ("jackfield.matrix.v1.Blob", "jackfield.matrix.v1.Blob"));

    let call = async |method: &str, message: Value| ended(in_time(plugin.call(method, message)).await);
    for method in ["Echo", "Matrix/Echo", "jackfield.matrix.v1.Matrix/Echo", "Matrix.Echo"] {
        assert_eq!(call(method, json!({ "data": "aGk=" })).await, r#"ok: Object {"data": String("aGk=")}"#);
    }
    // Without a message, the empty one; and every field of the answer, its default included.
    assert_eq!(call("Echo", Value::Null).await, r#"ok: Object {"data": String("")}"#);
    assert_eq!(call("Version", json!({})).await, r#"ok: Object {"version": Number(3)}"#);
    // An enum by its name, and an error of the application's own.
    says(
        &call("Die", json!({ "how": "HOW_UNSPECIFIED" })).await,
        &["error: ", "INVALID_ARGUMENT", "no such way to die"],
    );

    says(
        &call("Ecko", json!({})).await,
        &["refused: ", "no such function; did you mean `jackfield.matrix.v1.Matrix/Echo`?"],
    );
    says(&call("Gnarl", json!({})).await, &["refused: ", "no such function; it has jackfield.matrix.v1."]);
    says(
        &call("Echo", json!({ "dat": "aGk=" })).await,
        &["refused: ", "it is no `jackfield.matrix.v1.Blob` (which has data): ", "dat"],
    );
    says(&call("Echo", json!({ "data": 7 })).await, &["refused: ", "it is no `jackfield.matrix.v1.Blob`"]);
    says(
        &call("CallBack", json!({ "brokerId": -1 })).await,
        &["refused: ", "it is no `jackfield.matrix.v1.CallBackRequest` (which has brokerId, a, b): "],
    );
    says(
        &call("Count", json!({ "to": 3 })).await,
        &["refused: ", "`Count` streams its messages: it is called as a stream"],
    );
    streams(&plugin).await;
}

async fn streams(plugin: &Plugin) {
    let options = CallOptions::default();
    let (messages, sent) = mpsc::channel(1);
    messages.send(json!({ "to": 1000 })).await.expect("room");
    drop(messages);
    let mut numbers = plugin.stream(&options, "Count", sent).expect("a stream");
    for number in 1..=1000 {
        assert_eq!(in_time(numbers.next()).await.expect("a number").expect("no error"), json!({ "number": number }));
    }
    assert!(in_time(numbers.next()).await.is_none());

    let (messages, sent) = mpsc::channel(1);
    let mut answers = plugin.stream(&options, "Chat", sent).expect("a stream");
    for text in ["YQ==", "Yg==", "Yw=="] {
        messages.send(json!({ "data": text })).await.expect("room");
        assert_eq!(in_time(answers.next()).await.expect("an answer").expect("no error"), json!({ "data": text }));
    }
    // One that is none, in the middle.
    messages.send(json!({ "date": "Yw==" })).await.expect("room");
    let refused = ended(in_time(answers.next()).await.expect("an end"));
    says(&refused, &["refused: ", "it is no `jackfield.matrix.v1.Blob` (which has data): ", "date"]);
    assert!(in_time(answers.next()).await.is_none());

    let (messages, sent) = mpsc::channel(1);
    let mut answers = plugin.stream(&options, "Chat", sent).expect("a stream");
    drop(messages);
    assert!(in_time(answers.next()).await.is_none(), "no messages, no answers");

    let (_messages, sent) = mpsc::channel(1);
    let error = plugin.stream(&options, "Cat", sent).expect_err("there is none").to_string();
    says(&error, &["no such function; did you mean `jackfield.matrix.v1.Matrix/Chat`?"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_found_by_reflection() {
    for language in languages() {
        let plugins = Plugins::with(fixture(language).named("foreign"));
        let host = in_time(plugins.host()).await;
        check(&host, "foreign").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_found_in_a_descriptor_set() {
    for language in languages() {
        let described = fixture(language).named("foreign").grpc(DESCRIPTORS);
        // Without the variable for Rust: the SDK always serves reflection.
        let described = if language == "go" { described.env("MATRIX_WITHOUT", WITHOUT_REFLECTION) } else { described };
        let plugins = Plugins::with(described);
        fs::write(plugins.path().join("foreign/matrix.bin"), matrix::DESCRIPTORS).expect("a file");
        let host = in_time(plugins.host()).await;
        check(&host, "foreign").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_with_neither_is_refused_and_so_is_a_broken_descriptor_set() {
    if !languages().contains(&"go") {
        return;
    }
    let without = || fixture("go").env("MATRIX_WITHOUT", WITHOUT_REFLECTION);
    let plugins = Plugins::with(without().named("neither"));
    plugins.add(without().named("broken").grpc(DESCRIPTORS));
    plugins.add(without().named("missing").grpc(DESCRIPTORS));
    fs::write(plugins.path().join("broken/matrix.bin"), b"no descriptors").expect("a file");
    let host = in_time(plugins.host()).await;
    println!("{}\n{}\n{}", refused(&host, "neither"), refused(&host, "broken"), refused(&host, "missing"));
    says(&refused(&host, "broken"), &["matrix.bin` cannot be used: "]);
    says(&refused(&host, "missing"), &["matrix.bin"]);
}
