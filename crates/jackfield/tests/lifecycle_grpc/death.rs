//! A plugin dies in the middle of calls.

use std::time::{Duration, Instant};

use jackfield::{CallOptions, Host, Plugin, ValueStream};
use serde_json::json;
use tokio::sync::mpsc;

use crate::suite::grpc::{client, fixture, languages};
use crate::suite::processes::{Mark, kill};
use crate::suite::{Plugins, ended, eventually, in_time, says, watch};

/// Conversations that are in the middle when the plugin dies.
const IN_FLIGHT: usize = 8;

/// Tries of each way to die: how quickly it is seen is a matter of the machine's load, too.
const TRIES: usize = 5;

/// Within which time all calls have ended.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A conversation in which the plugin has answered once, and waits for more.
async fn conversation(plugin: &Plugin) -> (ValueStream, mpsc::Sender<serde_json::Value>) {
    let (messages, sent) = mpsc::channel(1);
    messages.send(json!({ "data": "aGk=" })).await.expect("room");
    let mut answers = plugin.stream(&CallOptions::default(), "Matrix/Chat", sent).expect("a stream");
    assert_eq!(in_time(answers.next()).await.expect("an answer").expect("a message"), json!({ "data": "aGk=" }));
    (answers, messages)
}

/// Lets a plugin die in one way. Gives the time until all calls had ended.
async fn dies(language: &str, how: &str, expected: &str) -> Duration {
    let name = format!("dies-{language}-{how}").to_lowercase().replace('_', "-");
    let plugins = Plugins::with(fixture(language).named(&name));
    plugins.add(fixture(language).named("lives"));
    let host: Host = in_time(plugins.host()).await;
    let plugin = host.plugin(&name).unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
    let mut conversations = Vec::new();
    for _ in 0..IN_FLIGHT {
        conversations.push(conversation(&plugin).await);
    }
    let began = Instant::now();
    let died = match how {
        // Without a word from inside.
        "SIGKILL" => {
            kill(plugin.info().process.expect("a process"));
            None
        }
        _ => Some(ended(in_time(plugin.call("Die", json!({ "how": how }))).await)),
    };
    let mut all: Vec<String> = died.into_iter().collect();
    for (answers, _messages) in &mut conversations {
        all.push(ended(in_time(answers.next()).await.expect("an end that is told")));
    }
    let took = began.elapsed();
    for one in &all {
        says(one, &["crashed: ", "the plugin crashed: ", expected]);
        if how == "HOW_PANIC" {
            says(one, &["; on stderr: ", "panic: asked to panic"]);
        }
    }
    eventually("it has failed", || plugin.info().state.as_str() == "failed");
    says(&plugin.info().state.to_string(), &[expected]);
    says(&ended(plugin.call("Version", json!({})).await), &["unavailable: ", expected]);
    let mut lives = client(&host, "lives");
    in_time(lives.version(matrix::pb::Empty {})).await.expect("the other one lives on");
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_dies_ends_all_its_calls_at_once_and_says_how() {
    watch::start();
    for language in languages() {
        // Where a panic is not caught, Go exits with 2 and Rust aborts.
        let panicked = if language == "go" { "exit status 2" } else { "signal 6 (SIGABRT)" };
        for (how, expected) in [
            ("HOW_PANIC", panicked),
            ("HOW_EXIT", "exit status 3"),
            ("HOW_KILL", "signal 9 (SIGKILL)"),
            ("SIGKILL", "signal 9 (SIGKILL)"),
        ] {
            let mut took = Vec::new();
            for _ in 0..TRIES {
                took.push(dies(language, how, expected).await);
            }
            took.sort_unstable();
            println!("{language} {how}: {} calls ended within {:?} (median), {took:?}", IN_FLIGHT + 1, took[TRIES / 2]);
            assert!(took[0] < AT_ONCE, "{language} {how}: {took:?}");
        }
        let logged = watch::line(&format!("dies-{language}-how-panic"), "panic: asked to panic");
        assert!(logged.starts_with("ERROR "), "{logged}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_words_of_a_plugin_are_in_the_reason() {
    for language in languages() {
        let plugins = Plugins::with(fixture(language));
        let host = in_time(plugins.host()).await;
        let plugin = host.plugin(&format!("matrix-{language}")).expect("a plugin");
        let last = json!({ "level": "raw", "message": "my last words" });
        in_time(plugin.call("Log", last)).await.expect("an answer");
        let died = ended(in_time(plugin.call("Die", json!({ "how": "HOW_EXIT" }))).await);
        says(&died, &["crashed: ", "exit status 3; on stderr: ", "my last words"]);
    }
}

/// Pipes that a grandchild holds do not keep anybody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_is_seen_although_a_grandchild_holds_the_pipes() {
    for language in languages() {
        let mark = Mark::new();
        let parent = fixture(language).env("MATRIX_GRANDCHILD", "1").env(Mark::VARIABLE, mark.value());
        let plugins = Plugins::with(parent.named("parent"));
        let host = in_time(plugins.host()).await;
        eventually("both run", || mark.running().len() == 2);
        let plugin = host.plugin("parent").expect("a plugin");
        let began = Instant::now();
        says(&ended(in_time(plugin.call("Die", json!({ "how": "HOW_KILL" }))).await), &["crashed: ", "SIGKILL"]);
        println!("{language}: death seen after {:?}, with a grandchild at its pipes", began.elapsed());
        eventually("both are gone", || mark.running().is_empty());
    }
}
