//! Numbers that nobody accepts, or too late.

use std::time::{Duration, Instant};

use jackfield::{Host, Plugin};
use jackfield_grpc::broker::{BrokerError, DIAL_TIMEOUT};
use matrix::pb::{CallBackRequest, Empty};

use crate::suite::grpc::{client_of, fixture, languages};
use crate::suite::{Plugins, chain, in_time, says};

/// A number that neither side has.
const NOBODY: u32 = 4711;

/// What a dial may take beyond its time-out, on a machine with other things to do.
const SLACK: Duration = Duration::from_secs(3);

async fn host(language: &str, multiplex: bool) -> (Plugins, Host, Plugin) {
    let plugins = Plugins::with(fixture(language).named("callee").grpc(&format!("multiplex = {multiplex}")));
    let host = in_time(plugins.host()).await;
    let plugin = host.plugin("callee").unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
    (plugins, host, plugin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_nobody_accepts_is_dialled_in_vain_and_not_for_ever() {
    for language in languages() {
        let (_plugins, host, plugin) = host(language, false).await;
        let broker = plugin.connection().expect("it runs").broker;
        let began = Instant::now();
        let error = in_time(broker.dial(NOBODY)).await.expect_err("nobody is there");
        assert!(matches!(error, BrokerError::NoAddress { id: NOBODY, .. }), "{error}");
        assert!(began.elapsed() >= DIAL_TIMEOUT && began.elapsed() < DIAL_TIMEOUT + SLACK, "{:?}", began.elapsed());
        // The same in the other direction, in the plugin's words.
        let called = in_time(client_of(&plugin).call_back(CallBackRequest { broker_id: NOBODY, a: 1, b: 2 })).await;
        let said = called.expect_err("nobody is there").message().to_owned();
        let expected = match language {
            "go" => "timeout waiting for connection info",
            _ => "the other side did not say within 5s where connection 4711 is",
        };
        says(&said, &[expected]);
        in_time(client_of(&plugin).version(Empty {})).await.expect("it lives");
        in_time(host.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_nobody_accepts_is_knocked_for_in_vain() {
    for language in languages() {
        let (_plugins, host, plugin) = host(language, true).await;
        let broker = plugin.connection().expect("it runs").broker;
        // What we do not accept.
        let called = in_time(client_of(&plugin).call_back(CallBackRequest { broker_id: NOBODY, a: 1, b: 2 })).await;
        says(called.expect_err("nobody is there").message(), &["no listener for id 4711"]);
        in_time(client_of(&plugin).version(Empty {})).await.expect("it lives");
        // What the plugin does not.
        let error = in_time(broker.dial(NOBODY)).await.map(drop).expect_err("nobody is there");
        println!("{language}, multiplexed, a number that nobody accepts: {}", chain(&error));
        if language == "rust" {
            says(&chain(&error), &["the other side does not take connection 4711: no listener for id 4711"]);
        } else {
            // go-plugin takes the knock and says nothing.
            assert!(matches!(error, BrokerError::NoAnswer { id: NOBODY, .. }), "{error}");
        }
        // Those that come later are not mistaken for it.
        let offered = in_time(client_of(&plugin).offer(Empty {})).await.expect("an offer").into_inner();
        let sum = in_time(matrix::add_through(&broker, offered.broker_id, 20, 22)).await;
        assert_eq!(sum.unwrap_or_else(|error| panic!("{language}: {error}")), 42);
        in_time(host.stop()).await;
    }
}

/// What was promised comes after six seconds: too late for one that waits for five, in time for the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_accepted_too_late_can_be_dialled_again() {
    for language in languages() {
        let plugins = Plugins::with(fixture(language).named("late").env("MATRIX_OFFER", "6s"));
        plugins.add(fixture(language).named("never").env("MATRIX_OFFER", "never"));
        let host = in_time(plugins.host()).await;
        let dial = async |name: &str| {
            let plugin = host.plugin(name).expect("a plugin");
            let broker = plugin.connection().expect("it runs").broker;
            let offered = in_time(client_of(&plugin).offer(Empty {})).await.expect("an offer").into_inner();
            let first =
                in_time(matrix::add_through(&broker, offered.broker_id, 20, 22)).await.map_err(|e| e.to_string());
            let second =
                in_time(matrix::add_through(&broker, offered.broker_id, 20, 22)).await.map_err(|e| e.to_string());
            (first, second)
        };
        let late = format!("the other side did not say within {DIAL_TIMEOUT:?} where connection 1 is");
        let (slow, never) = tokio::join!(dial("late"), dial("never"));
        assert_eq!(slow, (Err(late.clone()), Ok(42)), "{language}");
        assert_eq!(never, (Err(late.clone()), Err(late)), "{language}");
        in_time(host.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_is_dialled_by_one_at_a_time() {
    for language in languages() {
        let (_plugins, host, plugin) = host(language, false).await;
        let broker = plugin.connection().expect("it runs").broker;
        let (first, second) = tokio::join!(in_time(broker.dial(NOBODY)), in_time(broker.dial(NOBODY)));
        assert!(matches!(first, Err(BrokerError::NoAddress { .. })), "{first:?}");
        assert!(matches!(second, Err(BrokerError::InUse { id: NOBODY })), "{second:?}");
        in_time(host.stop()).await;
    }
}
