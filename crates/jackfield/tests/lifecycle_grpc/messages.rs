//! Large messages, and the limits that are in their way.

use matrix::pb::Blob;
use serde_json::json;

use crate::suite::grpc::{client, fixture, languages, program, tool};
use crate::suite::{Plugins, ended, in_time, says};

const MIB: usize = 1 << 20;

/// A limit above all that is sent here.
const UNLIMITED: (&str, &str) = ("MATRIX_MESSAGE_BYTES_MAX", "134217728");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_where_limits_allow() {
    for language in languages() {
        for (tls, multiplex) in [("off", false), ("auto", false), ("auto", true)] {
            let large = fixture(language).grpc(&format!("tls = \"{tls}\"\nmultiplex = {multiplex}"));
            let plugins = Plugins::with(large.named("large").env(UNLIMITED.0, UNLIMITED.1));
            let host = in_time(plugins.host()).await;
            let mut client = client(&host, "large");
            for size in [5 * MIB, 64 * MIB] {
                let data = vec![0xA5; size];
                let answer = in_time(client.echo(Blob { data: data.clone() })).await.expect("an answer").into_inner();
                assert!(answer.data == data, "{language}: {size} bytes came back as others");
            }
            in_time(host.stop()).await;
        }
    }
}

/// In the other direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_in_go_and_a_plugin_exchange_large_messages() {
    let Some(host) = tool("matrix-host") else { return };
    for language in languages() {
        let run = async |bytes: usize, limit: Option<(&str, &str)>| {
            let mut command = tokio::process::Command::new(&host);
            command.args(["-tls", "-scenario", "large", "-bytes", &bytes.to_string(), "-plugin"]);
            command.arg(program(language).expect("it is there")).kill_on_drop(true);
            if let Some((name, value)) = limit {
                command.arg("-env").arg(format!("{name}={value}"));
            }
            let output = in_time(command.output()).await.expect("it runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        for size in [5 * MIB, 64 * MIB] {
            assert_eq!(run(size, Some(UNLIMITED)).await, format!("ok large: an echo of {size} bytes\n"), "{language}");
            // Of the plugin's own limit, each library speaks in its own words.
            let refused = run(size, None).await;
            let said = if language == "go" { "received message larger than max" } else { "message length too large" };
            says(&refused, &["error: ", said, "4194304"]);
        }
    }
}

/// About so many bytes, all of them 0, in base64.
fn blob(bytes: usize) -> serde_json::Value {
    json!({ "data": "AAAA".repeat(bytes / 3) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_a_limit_is_refused_by_the_name_of_the_limit() {
    for language in languages() {
        let plugins = Plugins::with(fixture(language).named("its-own"));
        let open = || fixture(language).env(UNLIMITED.0, UNLIMITED.1);
        plugins.add(open().named("answers").limit("answer_bytes", "\"1MiB\""));
        plugins.add(open().named("calls").limit("call_bytes_in_flight", "\"1MiB\""));
        let host = in_time(plugins.host()).await;
        for (name, bytes, expected) in [
            ("its-own", 5 * MIB, ["limit: ", "limit `of the plugin's own`: ", "4194304"]),
            ("its-own", 64 * MIB - 64, ["limit: ", "limit `of the plugin's own`: ", "4194304"]),
            ("answers", 2 * MIB, ["limit: ", "limit `answer_bytes`: the answer is 209", " bytes of 1048576 allowed"]),
            ("calls", 2 * MIB, ["limit: ", "limit `call_bytes_in_flight`: ", " bytes of 1048576 allowed"]),
        ] {
            let plugin = host.plugin(name).unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
            let refused = ended(in_time(plugin.call("Echo", blob(bytes))).await);
            says(&format!("{language}: {refused}"), &expected);
            // Nothing is broken by it.
            let answer = in_time(plugin.call("Echo", blob(1000))).await.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(answer, blob(1000));
        }
    }
}
