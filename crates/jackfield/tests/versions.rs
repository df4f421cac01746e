//! The versions that tests of reloading are made of: each is what it says, and breaks where it says, in every
//! mechanism. And with them, a plugin's life as the interface that its host asks about it.

mod suite;

use std::time::Duration;

use fixtures_api::versioned::{Mode, Versioned};
use jackfield::protocol::life::{Life, StateSnapshot};
use jackfield::{CallOptions, Client, Comparison, Host, Lifecycle};
use serde_json::Value;

use suite::versions::{add, add_as, build, mechanisms, replace};
use suite::{Fixture, Mechanism, Plugins, ended, in_time, refused, says};

async fn host_of(mechanism: Mechanism, label: &str, mode: Mode) -> Host {
    let plugins = Plugins::new();
    add(&plugins, "p", mechanism, label, mode);
    plugins.host().await
}

fn versioned(host: &Host) -> Client<dyn Versioned> {
    host.get("p").unwrap_or_else(|error| panic!("{error}; {:?}", host.refused()))
}

fn life(host: &Host) -> Client<dyn Life> {
    host.get("p").unwrap_or_else(|error| panic!("{error}; {:?}", host.refused()))
}

/// Modules do nothing before they are called, so that is where their start fails.
fn starts_when_called(mechanism: Mechanism) -> bool {
    matches!(mechanism, Mechanism::Extism | Mechanism::Component)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_has_the_label_that_was_written_into_it_and_so_has_the_one_that_replaces_it() {
    for mechanism in mechanisms() {
        let plugins = Plugins::new();
        add(&plugins, "p", mechanism, "one", Mode::Ok);
        let host = plugins.host().await;
        let one = versioned(&host);
        assert_eq!(one.version().await.expect("a label"), "one", "{mechanism:?}");
        assert_eq!(one.slow(1).await.expect("a label"), "one", "{mechanism:?}");

        replace(&plugins, "p", &build(mechanism, "a-label-of-24-characters", Mode::Ok));
        assert_eq!(one.version().await.expect("a label"), "one", "{mechanism:?}");
        let host = plugins.host().await;
        let who = versioned(&host).whoami().await.expect("a label");
        assert_eq!(who.label, "a-label-of-24-characters", "{mechanism:?}");
        let other = one.whoami().await.expect("a label");
        assert!(who.instance != other.instance || starts_when_called(mechanism), "{mechanism:?}: {who:?} {other:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_says_whether_it_is_well() {
    for mechanism in mechanisms() {
        let host = host_of(mechanism, "one", Mode::Ok).await;
        let (versioned, life) = (versioned(&host), life(&host));
        assert_eq!(*Client::comparison(&life), Comparison::Exact, "{mechanism:?}");
        life.health().await.expect("it is well");
        versioned.fail_health(Some("the disk is full".to_owned())).await.expect("it is noted");
        says(&ended(life.health().await), &["error: ", "the disk is full"]);
        versioned.fail_health(None).await.expect("it is noted");
        life.health().await.expect("it is well again");
        let by_name = host.plugin("p").expect("the plugin").call("life.health", Value::Null).await;
        assert_eq!(by_name.expect("it is well"), Value::Null, "{mechanism:?}");

        let host = host_of(mechanism, "two", Mode::Unhealthy).await;
        says(&refused(&host, "p"), &["it is not well: ", "`two` is not well"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_one_generation_is_the_beginning_of_the_next() {
    for mechanism in mechanisms() {
        let old = host_of(mechanism, "one", Mode::Ok).await;
        let counter = versioned(&old);
        for count in 1..=3 {
            assert_eq!(counter.count().await.expect("a count"), count, "{mechanism:?}");
        }
        let state = life(&old).export_state().await.expect("no error").expect("a state");
        assert_eq!(state, StateSnapshot { schema_version: 1, data: b"3".to_vec() }, "{mechanism:?}");
        assert_eq!(counter.count().await.expect("a count"), 4, "what was exported is a copy");

        let new = host_of(mechanism, "two", Mode::Ok).await;
        life(&new).import_state(state.clone()).await.expect("it is taken");
        assert_eq!(versioned(&new).count().await.expect("a count"), 4, "{mechanism:?}");

        let other = host_of(mechanism, "three", Mode::OtherSchema).await;
        says(&ended(life(&other).import_state(state).await), &["error: ", "`three` takes schema 2, not 1"]);
        let keeps = host_of(mechanism, "four", Mode::KeepsState).await;
        says(&ended(life(&keeps).export_state().await), &["error: ", "`four` cannot export its state"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_panics_in_its_calls_does_so_in_the_first_one_or_after_those_it_was_told() {
    for mechanism in mechanisms() {
        let host = host_of(mechanism, "one", Mode::Panics).await;
        life(&host).health().await.expect("it looks well");
        says(&ended(versioned(&host).version().await), &["panicked: ", "`one` panics, as its marker says"]);

        let host = host_of(mechanism, "two", Mode::FailsAfter(2)).await;
        let plugin = versioned(&host);
        assert_eq!(plugin.version().await.expect("a label"), "two", "{mechanism:?}");
        assert_eq!(plugin.version().await.expect("a label"), "two", "{mechanism:?}");
        says(&ended(plugin.version().await), &["panicked: ", "`two` panics after 2 calls"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_with_another_interface_is_told_by_both_versions() {
    for mechanism in mechanisms() {
        let host = host_of(mechanism, "one", Mode::WrongInterface).await;
        assert!(host.refused().is_empty(), "{:?}", host.refused());
        let error = host.get::<dyn Versioned>("p").expect_err("another interface").to_string();
        says(&error, &["version 1.0.0", "version 9.0.0"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_fails_at_its_start_is_refused_and_so_is_a_module_that_fails_when_it_is_first_asked() {
    for mode in [Mode::PanicAtInit, Mode::CrashAtInit] {
        for mechanism in mechanisms() {
            // It takes its host along: this one.
            if mechanism == Mechanism::Native && mode == Mode::CrashAtInit {
                continue;
            }
            let host = host_of(mechanism, "one", mode).await;
            assert!(!refused(&host, "p").is_empty(), "{mechanism:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_hangs_is_given_up() {
    for mechanism in mechanisms() {
        // A library cannot be given up.
        if mechanism == Mechanism::Native {
            continue;
        }
        let plugins = Plugins::new();
        add(&plugins, "hangs", mechanism, "one", Mode::Hangs);
        add(&plugins, "unsure", mechanism, "two", Mode::HangsInHealth);
        let silent = Fixture::new(mechanism, "versioned").named("silent").limit("start_timeout", "\"500ms\"");
        add_as(&plugins, silent, "three", Mode::NoHello);
        let mut lifecycle = Lifecycle::default();
        lifecycle.reload.health_timeout = Duration::from_millis(300);
        let host = in_time(plugins.builder().lifecycle(lifecycle).build()).await.expect("a host");

        let short = CallOptions { timeout: Some(Duration::from_millis(300)) };
        let hangs = host.select().options(short).get::<dyn Versioned>("hangs").expect("it started");
        says(&ended(in_time(hangs.version()).await), &["timeout: "]);
        says(&refused(&host, "unsure"), &["it is not well: no answer after 300ms"]);
        assert!(!refused(&host, "silent").is_empty(), "{mechanism:?}");
        in_time(host.stop()).await;
    }
}
