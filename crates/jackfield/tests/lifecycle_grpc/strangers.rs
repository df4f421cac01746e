//! Clients that nobody invited, on each socket that there is; and a host inside a plugin of another host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use jackfield::{Host, Plugin};
use jackfield_grpc::handshake::variable;
use jackfield_grpc::tls::Identity;
use matrix::pb::{CallBackRequest, Empty};

use crate::suite::grpc::{Raw, client, client_of, fixture, languages, program, tool};
use crate::suite::{self, Plugins, in_time};

/// The attempts of `rogue`.
const ATTEMPTS: usize = 4;

/// Lets a stranger try all it can.
async fn rogue(arguments: &[&str], socket: &str) -> Output {
    let rogue = tool("rogue").expect("it is there");
    let mut command = tokio::process::Command::new(rogue);
    in_time(command.args(arguments).arg(format!("unix:{socket}")).kill_on_drop(true).output()).await.expect("it runs")
}

async fn is_refused(what: &str, arguments: &[&str], socket: &str) {
    let output = rogue(arguments, socket).await;
    let said = String::from_utf8_lossy(&output.stdout);
    let all = format!("{what}: {said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{all}");
    assert_eq!(said.lines().filter(|line| line.starts_with("refused: ")).count(), ATTEMPTS, "{all}");
}

/// Where the plugin's sockets are, and ours for it.
fn socket_dir(plugin: &Plugin) -> PathBuf {
    let process = plugin.info().process.expect("it runs");
    variable_of(process, variable::UNIX_SOCKET_DIR).expect("a directory").into()
}

fn variable_of(process: u32, name: &str) -> Option<String> {
    let variables = fs::read(format!("/proc/{process}/environ")).expect("it runs");
    let prefix = format!("{name}=");
    let all = variables.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    all.filter_map(|one| one.strip_prefix(&prefix).map(str::to_owned)).next()
}

fn sockets(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("a file").path());
    all.map(|path| path.to_str().expect("UTF-8").to_owned()).collect()
}

/// The one that is there now and was not before.
fn new_socket(dir: &Path, before: &[String]) -> String {
    let mut new: Vec<_> = sockets(dir).into_iter().filter(|socket| !before.contains(socket)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    new.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_on_every_socket_of_both_sides() {
    if tool("rogue").is_none() {
        return;
    }
    for language in languages() {
        let plugins = Plugins::with(fixture(language).named("besieged"));
        let host = in_time(plugins.host()).await;
        let plugin = host.plugin("besieged").unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
        let (mut client, broker) = (client_of(&plugin), plugin.connection().expect("it runs").broker);
        let dir = socket_dir(&plugin);
        let main = sockets(&dir);
        assert_eq!(main.len(), 1, "{main:?}");
        is_refused(&format!("{language} plugin, main socket"), &[], &main[0]).await;

        // The plugin's, of its broker.
        let offered = in_time(client.offer(Empty {})).await.expect("an offer").into_inner();
        let of_plugin = new_socket(&dir, &main);
        is_refused(&format!("{language} plugin, broker's socket"), &[], &of_plugin).await;
        let sum = in_time(matrix::add_through(&broker, offered.broker_id, 20, 22)).await;
        assert_eq!(sum.unwrap_or_else(|error| panic!("{language}: {error}")), 42);

        // Ours, of our broker.
        let before = sockets(&dir);
        let broker_id = broker.next_id();
        let serving = broker.serve(broker_id, matrix::adder()).expect("a socket");
        let ours = new_socket(&dir, &before);
        is_refused(&format!("our broker's socket, for a {language} plugin"), &[], &ours).await;
        let called = in_time(client.call_back(CallBackRequest { broker_id, a: 20, b: 22 })).await;
        assert_eq!(called.expect("an answer").into_inner().sum, 42);
        serving.stop();
        in_time(host.stop()).await;
    }
}

/// Without this, a rogue that cannot do anything would pass for a fortress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_a_stranger_is_let_in() {
    if tool("rogue").is_none() {
        return;
    }
    for language in languages() {
        let plugins = Plugins::with(fixture(language).named("open").grpc("tls = \"off\""));
        let host = in_time(plugins.host()).await;
        let plugin = host.plugin("open").expect("a plugin");
        let output = rogue(&[], &sockets(&socket_dir(&plugin))[0]).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("admitted: without tls"), "{output:?}");
    }
}

/// A plugin that multiplexes takes one connection. Here the stranger is quicker than the host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_inside_a_multiplexed_connection() {
    if tool("rogue").is_none() {
        return;
    }
    for language in languages() {
        let identity = Identity::generate().expect("a certificate");
        let variables = [(variable::CLIENT_CERT, identity.pem()), (variable::MULTIPLEX_GRPC, "true")];
        let running = Raw::start(&program(language).expect("it is there"), &variables);
        let what = format!("{language} plugin, multiplexed");
        is_refused(&what, &["-mux", "-wait", "500ms"], &running.line.address.location()).await;
    }
}

/// Our host may itself be a plugin of a host, whose variables are not for the plugins of ours.
#[test]
fn variables_of_an_outer_host_do_not_reach_a_plugin() {
    if std::env::var_os(variable::CLIENT_CERT).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(inner());
    }
    let identity = Identity::generate().expect("a certificate");
    let mut child = suite::again("strangers::variables_of_an_outer_host_do_not_reach_a_plugin");
    child.env(variable::CLIENT_CERT, identity.pem()).env(variable::MULTIPLEX_GRPC, "true");
    child.env(variable::UNIX_SOCKET_DIR, "/nowhere").env(variable::UNIX_SOCKET_GROUP, "nobody-of-this-name");
    child.env(variable::PROTOCOL_VERSIONS, "77").env("PLUGIN_OF_LATER_VERSIONS", "1");
    let output = child.output().expect("a host");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn inner() {
    for language in languages() {
        let plugins = Plugins::with(fixture(language).named("inner").grpc("tls = \"off\""));
        let host: Host = in_time(plugins.host()).await;
        in_time(client(&host, "inner").version(Empty {})).await.expect("an answer");
        let process = host.plugin("inner").expect("a plugin").info().process.expect("it runs");
        let of = |name| variable_of(process, name);
        assert_eq!(of(variable::CLIENT_CERT), None);
        assert_eq!(of(variable::MULTIPLEX_GRPC), None);
        assert_eq!(of(variable::UNIX_SOCKET_GROUP), None);
        assert_eq!(of("PLUGIN_OF_LATER_VERSIONS"), None);
        assert_eq!(of(variable::PROTOCOL_VERSIONS).as_deref(), Some("2,3"));
        assert!(of(variable::UNIX_SOCKET_DIR).is_some_and(|dir| dir != "/nowhere"));
        in_time(host.stop()).await;
    }
}
