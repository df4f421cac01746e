//! A host attaches to a plugin that it did not start.

use std::process::Command;

use jackfield_grpc::handshake::variable;
use jackfield_grpc::tls::Identity;
use matrix::pb::{Blob, Empty};

use crate::suite::grpc::{Raw, client, fixture, languages, program, reattach};
use crate::suite::processes::kill;
use crate::suite::{Fixture, Plugins, eventually, in_time, refused, says};

fn attaches(language: &str, running: &Raw) -> Fixture {
    fixture(language).grpc("tls = \"off\"").grpc(&running.reattach()).named("attached").manifest("lifecycle = { restart = \"never\" }")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_gone_cannot_be_attached_to() {
    for language in languages() {
        let mut gone = Command::new("true").spawn().expect("it runs");
        gone.wait().expect("it ends");
        let lines = reattach(gone.id(), "/tmp/nobody-is-here");
        let plugins = Plugins::with(fixture(language).grpc("tls = \"off\"").grpc(&lines).named("attached"));
        let host = in_time(plugins.host()).await;
        let expected = format!("cannot attach to process {}: no such process", gone.id());
        assert_eq!(refused(&host, "attached"), expected);
    }
}

/// Neither is the process ended for that: it is not ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_listens_elsewhere_cannot_be_attached_to() {
    let mut other = Command::new("sleep").arg("60").spawn().expect("it runs");
    let lines = reattach(other.id(), "/tmp/nobody-is-here");
    let attaches = fixture("rust").grpc("tls = \"off\"").grpc(&lines);
    let plugins = Plugins::with(attaches.named("attached"));
    let host = in_time(plugins.host()).await;
    says(&refused(&host, "attached"), &["cannot connect to `unix:/tmp/nobody-is-here`", "No such file"]);
    let lives = other.try_wait().expect("a child").is_none();
    other.kill().expect("a child");
    other.wait().expect("it ends");
    assert!(lives, "a process that is not ours was killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_host_uses_what_the_first_one_uses() {
    for language in languages() {
        let mut running = Raw::start(&program(language).expect("it is there"), &[]);
        let plugins = Plugins::with(attaches(language, &running));
        let first = in_time(plugins.host()).await;
        let second = in_time(plugins.host()).await;
        for host in [&first, &second, &first] {
            in_time(client(host, "attached").echo(Blob::default())).await.expect("an answer");
        }
        in_time(second.stop()).await;
        eventually("the plugin has ended", || running.has_ended());
        let plugin = first.plugin("attached").expect("known");
        eventually("the first host sees it", || plugin.info().state.as_str() == "failed");
        in_time(first.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_is_under_test_is_left_alone() {
    for language in languages() {
        let mut running = Raw::start(&program(language).expect("it is there"), &[]);
        let line = running.reattach().replace(" }", ", test = true }");
        let plugins = Plugins::with(fixture(language).grpc("tls = \"off\"").grpc(&line).named("attached"));
        for _ in 0..3 {
            let host = in_time(plugins.host()).await;
            in_time(client(&host, "attached").version(Empty {})).await.expect("an answer");
            in_time(host.stop()).await;
        }
        assert!(!running.has_ended());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_an_attached_plugin_is_seen() {
    for language in languages() {
        let running = Raw::start(&program(language).expect("it is there"), &[]);
        let plugins = Plugins::with(attaches(language, &running));
        let host = in_time(plugins.host()).await;
        let plugin = host.plugin("attached").unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
        assert_eq!(plugin.info().process, Some(running.child.id()));
        kill(running.child.id());
        eventually("it has failed", || plugin.info().state.as_str() == "failed");
        says(&plugin.info().state.to_string(), &["failed: the plugin crashed: "]);
        in_time(host.stop()).await;
    }
}

/// Its keys are those of the host that started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_under_tls_cannot_be_attached_to() {
    for language in languages() {
        let identity = Identity::generate().expect("a certificate");
        let variables = [(variable::CLIENT_CERT, identity.pem())];
        let mut running = Raw::start(&program(language).expect("it is there"), &variables);
        let plugins = Plugins::with(attaches(language, &running));
        let host = in_time(plugins.host()).await;
        let why = refused(&host, "attached");
        println!("{language}: {why}");
        assert!(!running.has_ended());
    }
}
