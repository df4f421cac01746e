//! Programs that want to be plugins and are none: each is refused by name, in time, with how it ended
//! and what it wrote; nothing of it is left; and what else lies in the directory is loaded.

#![cfg(all(feature = "process", target_os = "linux"))]

mod suite;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use fixtures_api::zoo::Zoo;
use jackfield::Client;
use serde_json::json;
use suite::processes::Mark;
use suite::{Fixture, Mechanism, Plugins, chain, ended, in_time, misbehave, refused, says, watch};

/// Time that a program of these tests has to answer `hello`, where it has to run out.
const START_TIMEOUT: &str = "\"300ms\"";

/// Loads a good program and one that misbehaves. Gives the reason why the latter was refused.
async fn refusal(how: &str) -> String {
    refusal_of(Fixture::misbehaving(how)).await
}

async fn refusal_of(fixture: Fixture) -> String {
    let mark = Mark::new();
    let why = marked_refusal(fixture, &mark).await;
    assert_eq!(mark.running(), [0; 0], "a refused program is left behind");
    why
}

async fn marked_refusal(fixture: Fixture, mark: &Mark) -> String {
    let plugins = Plugins::with(Fixture::new(Mechanism::Process, "zoo"));
    plugins.add(fixture.env(Mark::VARIABLE, mark.value()));
    let host = plugins.host().await;
    let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
    assert_eq!(zoo.nothing().await, Ok(()));
    let all = host.refused();
    let [refused] = &*all else { panic!("one is refused: {:?}", host.refused()) };
    chain(&refused.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_ends_at_once() {
    assert_eq!(refusal("exit-0").await, "it ended before it answered `hello`: exit status 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_fails_at_once_is_quoted() {
    assert_eq!(
        refusal("exit-3").await,
        "it ended before it answered `hello`: exit status 3; on stderr: \"cannot find my licence\"",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_a_signal_ends() {
    assert_eq!(refusal("signal").await, "it ended before it answered `hello`: signal 6 (SIGABRT)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_prints_garbage_and_stays() {
    let garbage = Fixture::misbehaving("garbage").limit("start_timeout", START_TIMEOUT);
    assert_eq!(
        refusal_of(garbage).await,
        "it did not answer `hello` within 300ms; on stdout: \"Welcome to the fine plugin 2.0!\\n\u{1F980} {\\\"id\\\": \"",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_prints_garbage_and_ends() {
    assert_eq!(
        refusal("garbage-then-exit").await,
        "it ended before it answered `hello`: exit status 0; on stdout: \"usage: misbehave [OPTIONS] FILE\"",
    );
}

/// With a `start_timeout` that is longer than the test: it is not the time that ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_a_gibibyte_is_not_read() {
    let line = Fixture::misbehaving("long-line").limit("start_timeout", "\"1h\"");
    let why = refusal_of(line).await;
    says(&why, &["bytes that are no message before it answered `hello`; on stdout: \"xxxxxxxx"]);
    let bytes: u64 = why.split(' ').nth(2).and_then(|bytes| bytes.parse().ok()).expect("a number");
    assert!((64 << 10..1 << 20).contains(&bytes), "{bytes}");
    assert!(why.len() < 1000, "an error is no place for a mebibyte");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_without_end_are_not_read() {
    let lines = Fixture::misbehaving("many-lines").limit("start_timeout", "\"1h\"");
    says(
        &refusal_of(lines).await,
        &["bytes that are no message", "on stdout: \"still warming up\\nstill warming up\\n"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_never_answers() {
    let began = Instant::now();
    let silent = Fixture::misbehaving("silent").limit("start_timeout", START_TIMEOUT);
    assert_eq!(refusal_of(silent).await, "it did not answer `hello` within 300ms");
    let loud = Fixture::misbehaving("silent-but-loud").limit("start_timeout", START_TIMEOUT);
    assert_eq!(
        refusal_of(loud).await,
        "it did not answer `hello` within 300ms; on stderr: \"waiting for the database\"",
    );
    assert!(began.elapsed() > Duration::from_millis(600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_closes_stdout() {
    assert_eq!(refusal("closes-stdout").await, "it closed stdout before it answered `hello`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_another_protocol() {
    assert_eq!(refusal("wrong-protocol").await, "it speaks protocol 9.0, this host speaks 1.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_whose_answer_to_hello_is_none() {
    let why = refusal("bad-hello").await;
    says(&why, &["its answer to `hello` cannot be used: invalid type: string \"p\", expected struct PluginName"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_refuses_hello() {
    assert_eq!(refusal("refuses-hello").await, "it refused `hello`: the moon is full (code -32005)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_offers_nothing() {
    assert_eq!(refusal("offers-nothing").await, "the plugin offers no interface");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grandchild_that_keeps_the_pipes_is_ended_too() {
    let why = refusal("grandchild").await;
    says(&why, &["it ended before it answered `hello`: exit status 0; on stderr: \"grandchild "]);
}

/// It left the process group, which a host does not prevent; it must not wait for it either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grandchild_that_escapes_with_the_pipes_hangs_nothing() {
    let mark = Mark::new();
    let escaped = Fixture::misbehaving("escaped-grandchild").limit("start_timeout", "\"1h\"");
    let why = in_time(marked_refusal(escaped, &mark)).await;
    says(&why, &["it ended before it answered `hello`: exit status 0; on stderr: \"grandchild "]);
    assert_eq!(mark.running().len(), 1);
    mark.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_run() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Process, "zoo"));
    for (name, content, mode) in [
        ("not-executable", &b"#!/bin/sh\n"[..], 0o644),
        ("no-interpreter", b"#!/nowhere/at/all\n", 0o755),
        ("no-program", b"\x7fELF, or what looks like it", 0o755),
    ] {
        let dir = plugins.path().join(name);
        fs::create_dir(&dir).expect("made");
        fs::write(dir.join("run"), content).expect("written");
        fs::set_permissions(dir.join("run"), fs::Permissions::from_mode(mode)).expect("set");
        fs::write(dir.join("plugin.toml"), format!("name = {name:?}\nentry = \"run\"")).expect("written");
    }
    let host = plugins.host().await;
    host.get::<dyn Zoo>("zoo").expect("a zoo");
    let cannot_run = |name: &str| format!("cannot run `{}`", plugins.path().join(name).join("run").display());
    for (name, cause) in [
        ("not-executable", "Permission denied (os error 13)"),
        ("no-interpreter", "No such file or directory (os error 2)"),
        ("no-program", "Exec format error (os error 8)"),
    ] {
        assert_eq!(refused(&host, name), format!("{}: {cause}", cannot_run(name)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_them_at_once_keep_no_good_one_from_being_loaded() {
    let mark = Mark::new();
    let plugins = Plugins::with(Fixture::new(Mechanism::Process, "zoo"));
    plugins.add(Fixture::misbehaving("banner-then-serve"));
    let bad = [
        "exit-0",
        "exit-3",
        "signal",
        "garbage",
        "garbage-then-exit",
        "long-line",
        "many-lines",
        "silent",
        "silent-but-loud",
        "closes-stdout",
        "wrong-protocol",
        "bad-hello",
        "refuses-hello",
        "offers-nothing",
        "grandchild",
    ];
    for how in bad {
        let marked = Fixture::misbehaving(how).env(Mark::VARIABLE, mark.value());
        plugins.add(marked.limit("start_timeout", "\"2s\""));
    }
    let host = plugins.host().await;
    let refused = host.refused();
    let mut names: Vec<_> = refused.iter().map(|refused| &*refused.name).collect();
    names.sort_unstable();
    let mut expected = bad;
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(mark.running(), [0; 0]);
    assert_eq!(host.get::<dyn Zoo>("zoo").expect("a zoo").nothing().await, Ok(()));
    assert_eq!(misbehave(&host, "banner-then-serve").echo("x".into()).await, Ok("x".into()));
    let error = host.get::<dyn Zoo>("exit-3").expect_err("refused").to_string();
    says(&error, &["no plugin is called `exit-3`; it was refused: it ended before", "cannot find my licence"]);
}

/// Every other way in which a manifest can be wrong is tested where manifests are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_outside_its_directory_is_refused_with_line_and_column() {
    let plugins = Plugins::new();
    let dir = plugins.path().join("climber");
    fs::create_dir(&dir).expect("made");
    fs::write(dir.join("plugin.toml"), "name = \"climber\"\nentry = \"../../../bin/sh\"\n").expect("written");
    let host = plugins.host().await;
    says(&refused(&host, "climber"), &["plugin.toml:2:9: ", "../../../bin/sh"]);
}

// ---- Bad answers to calls -----------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_odd_ways_are_understood_or_told() {
    watch::start();
    let plugins = Plugins::with(Fixture::misbehaving("answers-oddly"));
    let host = plugins.host().await;
    let odd = host.plugin("answers-oddly").unwrap_or_else(|_| panic!("{}", refused(&host, "answers-oddly")));
    for (function, expected) in [
        ("twice", "ok: String(\"once\")"),
        ("to-another", "ok: Number(2)"),
        ("own-error", "error: the plugin answered with its own error: Array [Number(1), Number(2)]"),
        ("own-error-in-words", "error: the plugin answered with its own error: String(\"no\")"),
        (
            "unknown",
            "refused: call of `unknown` of plugin `answers-oddly`: the plugin has no such function (never heard of it)",
        ),
        ("between-noise", "ok: String(\"here\")"),
        ("asks-the-host", "ok: String(\"asked\")"),
        ("in-pieces", "ok: String(\"whole\")"),
        ("anything", "ok: Null"),
    ] {
        assert_eq!(ended(odd.call(function, json!({})).await), expected, "{function}");
    }
    assert_eq!(watch::line("answers-oddly", "hm"), "INFO hm");
    assert_eq!(odd.info().state.as_str(), "ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_an_end_is_the_end() {
    let plugins = Plugins::with(Fixture::misbehaving("answers-oddly"));
    let host = plugins.host().await;
    let odd = host.plugin("answers-oddly").expect("a plugin");
    let answer = ended(in_time(odd.call("no-newline", json!({}))).await);
    assert_eq!(answer, "crashed: call of `no-newline` of plugin `answers-oddly`: the plugin crashed: exit status 0",);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_of_an_unknown_kind_ends_the_plugin() {
    let mark = Mark::new();
    let plugins = Plugins::with(Fixture::misbehaving("unknown-frame").env(Mark::VARIABLE, mark.value()));
    let host = plugins.host().await;
    let odd = host.plugin("unknown-frame").expect("a plugin");
    assert_eq!(
        ended(odd.call("x", json!({})).await),
        "protocol: call of `x` of plugin `unknown-frame`: the plugin broke the protocol: it sent a frame of an unknown kind",
    );
    suite::eventually("it is gone", || mark.running().is_empty());
    assert_eq!(odd.info().state.as_str(), "failed");
    says(&ended(odd.call("x", json!({})).await), &["unavailable: ", "it sent a frame of an unknown kind"]);
}
