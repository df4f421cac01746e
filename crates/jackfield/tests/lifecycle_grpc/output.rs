//! What plugins print and log, much of it.

use std::time::{Duration, Instant};

use jackfield_grpc::channel::Channel;
use jackfield_grpc::net;
use matrix::pb::matrix_client::MatrixClient;
use matrix::pb::{Blob, Empty, LogRequest, PrintRequest};

use crate::suite::grpc::{Raw, client, fixture, languages, program};
use crate::suite::{Plugins, eventually, in_time, watch};

fn log(level: &str, message: impl Into<String>) -> LogRequest {
    LogRequest { level: level.to_owned(), message: message.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_stalls_no_call() {
    for language in languages() {
        for to in ["stdout", "stderr"] {
            let flooding = fixture(language).named("floods").env("MATRIX_FLOOD", &format!("{to}:33554432"));
            let plugins = Plugins::with(flooding);
            let host = in_time(plugins.host()).await;
            let mut client = client(&host, "floods");
            let mut took = Vec::new();
            for _ in 0..100 {
                let began = Instant::now();
                in_time(client.echo(Blob { data: vec![1; 1024] })).await.expect("an answer");
                took.push(began.elapsed());
            }
            took.sort_unstable();
            println!("{language}, 32 MiB on {to}: calls took {:?} (median), {:?} (most)", took[50], took[99]);
            assert!(took[99] < Duration::from_secs(5), "{took:?}");
            in_time(host.stop()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_a_mebibyte_is_logged_in_pieces_and_the_next_as_it_is() {
    watch::start();
    for language in languages() {
        let name = format!("long-{language}");
        let plugins = Plugins::with(fixture(language).named(&name).grpc("tls = \"off\""));
        let host = in_time(plugins.host()).await;
        let mut client = client(&host, &name);
        for level in ["raw", "info"] {
            in_time(client.log(log(level, "Q".repeat(1 << 20)))).await.expect("an answer");
        }
        in_time(client.log(log("warn", "after it"))).await.expect("an answer");
        assert_eq!(watch::line(&name, "after it").split("after it").next(), Some("WARN "));
        let long: Vec<_> = watch::lines(&name).into_iter().filter(|line| line.contains("QQQQ")).collect();
        let bytes: usize = long.iter().map(|line| line.matches('Q').count()).sum();
        assert_eq!(bytes, 2 << 20, "{} pieces", long.len());
        // Of a pipe, as much is read at once as there is room for, twice over.
        assert!(long.iter().all(|line| line.len() <= 2 * 64 * 1024 + 8), "too long a piece");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_has_the_level_that_hclog_gives_it() {
    watch::start();
    for language in languages() {
        let name = format!("levels-{language}");
        let plugins = Plugins::with(fixture(language).named(&name));
        let host = in_time(plugins.host()).await;
        let mut client = client(&host, &name);
        for level in ["trace", "debug", "info", "warn", "error"] {
            let message = format!("logged as {level}");
            in_time(client.log(log(level, &message))).await.expect("an answer");
            assert_eq!(watch::line(&name, &message), format!("{} {message}", level.to_uppercase()));
        }
        for (raw, logged) in [
            // go-plugin's own host does not survive this one.
            (r#"{"@level":"info","@message":7,"n":1}"#, r#"INFO {"@level":"info","@message":7,"n":1}"#),
            (r#"{"@level":"warn","@message":"full","disk":"a","free":7}"#, "WARN full disk=a free=7"),
            (r#"{"@level":"loud","@message":"unheard"}"#, r#"DEBUG {"@level":"loud","@message":"unheard"}"#),
            ("[WARN] in the old way", "WARN in the old way"),
            ("{ no json", "INFO { no json"),
        ] {
            in_time(client.log(log("raw", raw))).await.expect("an answer");
            let key = logged.split_once(' ').expect("a level").1;
            assert_eq!(watch::line(&name, key), logged);
        }
        in_time(client.version(Empty {})).await.expect("it lives");
    }
}

/// A host that does not fetch what is printed. Plugins of go-plugin stand still then, which is known of it; one
/// with the SDK prints on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_with_the_sdk_prints_on_when_nobody_reads() {
    let Some(program) = program("rust") else { return };
    let running = Raw::start(&program, &[]);
    let stream = in_time(net::connect(&running.line.address)).await.expect("it listens");
    let channel = in_time(Channel::connect(stream)).await.expect("it answers");
    let mut client = MatrixClient::new(channel);
    let printed = PrintRequest { stdout: "o".repeat(1023) + "\n", stderr: "e".repeat(1023) + "\n", times: 4096 };
    in_time(client.print(printed)).await.expect("8 MiB are printed");
    in_time(client.echo(Blob::default())).await.expect("an answer");
}

/// While it is fetched, nothing of it is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_printed_is_logged_to_the_last_line() {
    watch::start();
    for language in languages() {
        let name = format!("prints-{language}");
        let plugins = Plugins::with(fixture(language).named(&name));
        let host = in_time(plugins.host()).await;
        let mut client = client(&host, &name);
        let printed = PrintRequest { stdout: "to the last line\n".to_owned(), stderr: String::new(), times: 10_000 };
        in_time(client.print(printed)).await.expect("an answer");
        let count = || watch::lines(&name).iter().filter(|line| *line == "INFO to the last line").count();
        eventually("all is logged", || count() == 10_000);
        let without_end = PrintRequest { stdout: "without an end".to_owned(), stderr: String::new(), times: 1 };
        in_time(client.print(without_end)).await.expect("an answer");
        in_time(host.stop()).await;
        assert_eq!(watch::line(&name, "without an end"), "INFO without an end");
    }
}
