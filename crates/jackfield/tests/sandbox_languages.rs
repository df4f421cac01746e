//! Plugins in several languages, each in the default sandbox and under 64 MiB.

#![cfg(all(feature = "process", target_os = "linux"))]

mod suite;

use std::fs;
use std::path::{Path, PathBuf};

use jackfield::Manifest;
use serde_json::json;
use suite::{Plugins, fixtures, in_time, says};

/// Under these, what runs elsewhere runs.
const BOUNDS: &str = "[limits]\nmemory = '64MiB'\n[sandbox]\nprofile = 'default'\n";

const KEPT: &[&str] = &["memory 67108864 by ", "fs default by landlock", "net none by seccomp"];

/// A plugin of xtask's, or nothing where it was left out, since there is no compiler for it.
fn built(name: &str) -> Option<PathBuf> {
    let plugins = fixtures::built(suite::Mechanism::Extism, "zoo").join("../../plugins").canonicalize().ok()?;
    let manifest = plugins.join(name).join("plugin.toml");
    manifest.exists().then(|| Manifest::read(&manifest).expect("a manifest").entry)
}

/// Greets by the plugin whose program this is.
async fn greets(name: &str, program: &Path, bounds: &str, kept: &[&str]) {
    let plugins = Plugins::new();
    let home = plugins.path().join(name);
    fs::create_dir(&home).expect("made");
    let file = program.file_name().expect("a name");
    // A link: see `Plugins::add`.
    if fs::hard_link(program, home.join(file)).is_err() {
        fs::copy(program, home.join(file)).expect("a copy");
    }
    fs::write(home.join("plugin.toml"), format!("name = {name:?}\nmechanism = 'process'\nentry = {file:?}\n{bounds}"))
        .expect("written");
    let host = in_time(plugins.builder().runner(fixtures::runner()).build()).await.expect("a host");
    let plugin = host.plugin(name).unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
    let greeting = in_time(plugin.call("greet", json!({ "name": "Ada" }))).await;
    assert_eq!(greeting, Ok(json!("Hello, Ada!")), "{name}");
    let enforced = plugin.info().enforced.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    says(&enforced, kept);
    in_time(host.stop()).await;
}

#[tokio::test]
async fn a_plugin_in_rust_runs_in_the_sandbox() {
    greets("english", &built("english-process").expect("a plugin of ours"), BOUNDS, KEPT).await;
}

#[tokio::test]
async fn a_plugin_in_rust_runs_in_ten_mebibytes() {
    let bounds = "[limits]\nmemory = '10MiB'\ncall_timeout = '5s'\non_timeout = 'kill'\n";
    greets("english", &built("english-process").expect("a plugin of ours"), bounds, &["memory 10485760 by "]).await;
}

#[tokio::test]
async fn a_plugin_in_python_runs_in_the_sandbox() {
    greets("greeter-python", &suite::root().join("examples/greeter-python/greeter.py"), BOUNDS, KEPT).await;
}

#[tokio::test]
async fn a_plugin_in_go_runs_in_the_sandbox() {
    match built("greeter-go") {
        Some(program) => greets("greeter-go", &program, BOUNDS, KEPT).await,
        None => fixtures::skip("a Go plugin in the sandbox: there is no Go"),
    }
}

#[tokio::test]
async fn a_plugin_for_node_runs_in_the_sandbox() {
    // One that the system has: of one in somebody's home the sandbox has no view.
    match Path::new("/usr/bin/node").exists() {
        true => {
            greets("greeter-node", &suite::root().join("crates/jackfield/tests/suite/greeter.mjs"), BOUNDS, KEPT).await
        }
        false => fixtures::skip("a plugin for Node.js in the sandbox: there is no `/usr/bin/node`"),
    }
}
