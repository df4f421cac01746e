//! `jackfield run` and the command that asks it, as a user runs them.

#![cfg(unix)]

#[path = "../chaos/http.rs"]
mod connection;
mod http;
mod life;
mod scraped;
mod service;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use expect_test::expect;
use serde_json::Value;

/// Longest wait for an answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

use service::{Place, Service, lives, until};

// ---- The same as without a service ---------------------------------------------------------------

#[test]
fn every_verb_says_the_same_of_a_running_host_as_of_one_of_its_own() {
    let place = Place::new();
    place.link("english-process");
    place.link("kv-rust");
    place.write("plugins/shout.py", "#!/usr/bin/env python3\n");
    let service = Service::start(&place);
    let ada = r#"{"name":"Ada"}"#;
    for words in [
        &["list"][..],
        &["list", "--json", "--strict"],
        &["call", "english-process", "greet", ada],
        &["call", "english-process", "demo:greeter/greeter.greet", r#"["Ada"]"#],
        &["call", "english-process", "greet", r#"{"name":""}"#],
        &["call", "english-process", "greet", r#"{"name":""}"#, "--json", "--repeat", "3"],
        &["call", "english-process", "gret", ada],
        &["call", "english-process", "greet", r#"{"nam":"Ada"}"#],
        &["call", "english-process", "greet", "{name: Ada}"],
        &["call", "englsh", "greet"],
        &["call", "shout", "greet"],
        &["call", "kv-rust", "proto.KV/Get", r#"{"key":"nobody"}"#],
        &["interface", "export", "english-process"],
        &["interface", "export", "english-process", "--format", "proto"],
        &["interface", "export", "english-process", "shouter"],
        &["inspect", "../../health"],
        &["completions", "bash"],
    ] {
        let (here, there) = (place.run(words), service.run(words));
        assert_eq!(here, there, "{words:?}");
    }
    // But for what is another process.
    let inspect = ["inspect", "english-process", "--json"];
    let [here, there] = [place.run(&inspect), service.run(&inspect)].map(|run| run.json());
    assert!(there["process"].is_u64() && here["process"] != there["process"], "{there}");
    assert_eq!(here["interfaces"], there["interfaces"]);
    assert_eq!(here["limits"], there["limits"]);
    let repeated = service.run(&["call", "english-process", "greet", ada, "--repeat", "50", "--json"]).json();
    assert_eq!(repeated["calls"], 50);
}

#[test]
fn a_call_that_takes_too_long_ends_with_the_same_words() {
    let place = Place::new();
    place.script("slow", SLOW);
    let service = Service::start(&place);
    let words = ["call", "slow", "wait", r#"{"seconds":30}"#, "--timeout", "200ms"];
    let (here, there) = (place.run(&words), service.run(&words));
    assert_eq!(here, there);
    assert!(there.stderr.contains("give it more time with `--timeout`"), "{}", there.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_method_that_streams_is_called_a_message_a_line_in_both_directions() {
    let place = Place::new();
    place.fixture("matrix-rust");
    let service = Service::start(&place);
    let messages = r#"{"data":"aGVsbG8="} {"data":"eA=="}"#;
    for words in [
        &["call", "matrix-rust", "Count", r#"{"to":3}"#][..],
        &["call", "matrix-rust", "Count", r#"{"nope":3}"#],
        &["call", "matrix-rust", "Count", r#"{"to":3}"#, "--repeat", "2"],
        &["call", "matrix-rust", "jackfield.matrix.v1.Matrix/Chat", messages],
    ] {
        let (here, there) = (place.run(words), service.run(words));
        assert_eq!(here, there, "{words:?}");
    }
    assert_eq!(service.run(&["call", "matrix-rust", "Chat", messages]).data().lines().count(), 2);
}

#[test]
fn the_host_may_be_named_by_a_variable_and_what_is_typed_goes_before() {
    let place = Place::new();
    place.write("plugins/README", "");
    let service = Service::start(&place);
    let variable = [("JACKFIELD_HOST", service.address())];
    assert_eq!(place.run_in(&["list"], &variable).stdout, "no plugins\n");
    assert_eq!(place.run_in(&["--plugins", "/nowhere", "list", "--strict"], &variable).code, 2);
    let both = place.run_in(&["--plugins", "/nowhere", "--host", &*service.address(), "list"], &[]);
    assert!(both.stderr.starts_with("error: `--host` and `--plugins` exclude each other"), "{}", both.stderr);
    let nobody = place.run_in(&["reload", "english"], &[]);
    expect![[r#"
        error: `reload` needs a running host

          hint: name one with `--host unix:PATH` or in JACKFIELD_HOST; `jackfield run` is one
    "#]]
    .assert_eq(&nobody.stderr);
}

#[test]
fn a_host_that_is_not_there_is_said_to_be_not_there() {
    let place = Place::new();
    let run = place.run_in(&["--host", "unix:/nowhere/host.sock", "list"], &[]);
    expect![[r#"
        error: no host can be reached at unix:/nowhere/host.sock
          caused by: No such file or directory (os error 2)

          hint: start one with `jackfield run --listen unix:/nowhere/host.sock`
    "#]]
    .assert_eq(&run.stderr);
    assert_eq!(run.code, 2);
}

// ---- What plugins say ------------------------------------------------------------------------------

/// Says what it is told, and waits as long as it is told.
pub(crate) const SLOW: &str = r#"
import json, sys, time
out, sys.stdout = sys.stdout, sys.stderr
hello = {"protocol": "1.0", "plugin": {"name": "slow", "version": "1.0.0"}, "interfaces": ["demo:slow/slow@1.0.0"]}
for line in sys.stdin.buffer:
    message = json.loads(line)
    method, params = message["method"], message.get("params") or {}
    if method == "jackfield/shutdown":
        break
    if method == "slow.say":
        print(params["what"], flush=True)
    if method == "slow.wait":
        print("waiting", flush=True)
        time.sleep(params["seconds"])
    if "id" in message:
        result = hello if method == "jackfield/hello" else "done"
        print(json.dumps({"id": message["id"], "result": result}), file=out, flush=True)
"#;

#[test]
fn what_a_plugin_says_is_shown_as_it_comes_and_afterwards() {
    let place = Place::new();
    place.script("slow", SLOW);
    let service = Service::start(&place);
    let say = |what: &str| service.run(&["call", "slow", "say", &format!(r#"{{"what":"{what}"}}"#)]).data();
    say("[WARN] one");
    let mut follow = service.spawn(&["logs", "-f", "slow"]);
    follow.line_with("warn  slow: one");
    say("two");
    follow.line_with("info  slow: two");
    follow.end();
    let kept = service.run(&["logs", "--tail", "1", "--json"]).json();
    assert_eq!((&kept["text"], &kept["level"], &kept["generation"]), (&"two".into(), &"info".into(), &1.into()));
    let unknown = service.run(&["logs", "slw"]);
    assert_eq!(unknown.stderr, "error: no plugin is called `slw`; did you mean `slow`?\n");
}

// ---- The end ---------------------------------------------------------------------------------------

#[test]
fn sigterm_ends_calls_first_and_leaves_nothing_behind() {
    let place = Place::new();
    place.script("slow", SLOW);
    let mut service = Service::start(&place);
    assert_eq!(fs::metadata(place.path("host.sock")).expect("a socket").permissions().mode() & 0o777, 0o600);
    let process = service.run(&["inspect", "slow", "--json"]).json()["process"].as_u64().expect("a process");
    let mut follow = service.spawn(&["logs", "-f", "slow"]);
    let mut call = service.spawn(&["call", "slow", "wait", r#"{"seconds":1}"#]);
    follow.line_with("waiting");
    service.signal("TERM");
    assert_eq!(call.line_with("done"), "\"done\"");
    assert_eq!((call.wait(), follow.wait(), service.wait()), (0, 0, 0));
    assert!(!lives(process), "process {process} is left");
    assert_eq!(place.files(), ["plugins"]);
}

#[test]
fn a_second_signal_ends_at_once_and_leaves_nothing_behind_either() {
    let place = Place::new();
    place.script("slow", SLOW);
    let mut service = Service::start_with(&place, "[limits]\nstop_grace = '1h'\n", &[]);
    let process = service.run(&["inspect", "slow", "--json"]).json()["process"].as_u64().expect("a process");
    let mut follow = service.spawn(&["logs", "-f", "slow"]);
    let _call = service.spawn(&["call", "slow", "wait", r#"{"seconds":3600}"#, "--timeout", "1h"]);
    follow.line_with("waiting");
    service.signal("INT");
    service.line_with("ending: no more requests");
    service.signal("INT");
    assert_eq!(service.wait(), 0);
    until("the plugin is gone", || !lives(process));
    assert_eq!(place.files(), ["jackfield.toml", "plugins"]);
}

// ---- Who may come in -------------------------------------------------------------------------------

#[test]
fn a_socket_of_a_killed_host_is_replaced_and_that_of_a_living_one_is_not() {
    let place = Place::new();
    place.write("plugins/README", "");
    let mut first = Service::start(&place);
    first.signal("KILL");
    first.wait();
    assert!(place.files().contains(&"host.sock".to_owned()), "it is left behind");
    let mut second = Service::start(&place);
    let listen = format!("unix:{}", place.path("host.sock").display());
    let third = place.run_in(&["run", "--plugins", "plugins", "--listen", &listen], &[]);
    assert_eq!(third.code, 2);
    assert!(third.stderr.starts_with(&format!("error: a host listens at `{listen}` already\n")), "{}", third.stderr);
    assert_eq!(second.run(&["list"]).data(), "no plugins\n");
    second.signal("TERM");
    assert_eq!(second.wait(), 0);
}

#[test]
fn over_tcp_nobody_comes_in_without_the_token() {
    let place = Place::new();
    place.write("plugins/README", "");
    let listen = ["run", "--plugins", "plugins", "--listen", "tcp:127.0.0.1:0"];
    let without = place.run_in(&listen, &[]);
    assert!(without.stderr.starts_with("error: `tcp:127.0.0.1:0` needs a token\n"), "{}", without.stderr);
    place.write("token", "0123456789abcdef0123\n");
    let open = place.run_in(&[&listen[..], &["--token-file", "token"]].concat(), &[]);
    assert!(open.stderr.starts_with("error: the token file `token` can be read by others"), "{}", open.stderr);

    let private = |name| fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o600)).expect("set");
    private("token");
    place.write("wrong", "0123456789abcdef0124\n");
    private("wrong");
    let service = Service::start_with(&place, "listen = ['tcp:127.0.0.1:0']\ntoken_file = 'token'\n", &[]);
    assert_eq!(service.run(&["list", "--token-file", "token"]).data(), "no plugins\n");
    for words in [&["list"][..], &["list", "--token-file", "wrong"]] {
        let run = service.run(words);
        expect![[r#"
            error: the token is missing or wrong

              hint: give the file with the host's token with `--token-file`
        "#]]
        .assert_eq(&run.stderr);
        assert_eq!(run.code, 2);
    }
    // Not even whether a route is there is said to a stranger.
    let stranger = http::tcp(&service.address(), "GET /v2/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((stranger.status, stranger.kind()), (401, "unauthorized".to_owned()));
}

#[test]
fn what_is_no_request_of_this_api_is_told_what_is_wrong_with_it() {
    let place = Place::new();
    place.link("english-process");
    let _service = Service::start(&place);
    let ask = |head: &str, body: &str| {
        let length = body.len();
        let text = format!("{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        let response = http::unix(&place.path("host.sock"), &text);
        (response.status, response.kind())
    };
    let kind = |status: u16, kind: &str| (status, kind.to_owned());
    let call = "POST /v1/plugins/english-process/call";
    assert_eq!(ask("GET /v2/plugins", ""), kind(404, "unknown_route"));
    assert_eq!(ask("GET /v1/plugins/english-process/call", ""), kind(405, "method_not_allowed"));
    assert_eq!(ask(call, "{"), kind(400, "bad_request"));
    assert_eq!(ask(call, r#"{"function":"greet","argumets":{}}"#), kind(400, "bad_request"));
    assert_eq!(ask(call, r#"{"function":"greet","arguments":{"name":"a","name":"b"}}"#), kind(400, "bad_request"));
    assert_eq!(ask(call, r#"{"function":"greet","timeout":"5"}"#), kind(400, "bad_request"));
    assert_eq!(ask(call, r#"{"function":"greet","arguments":{"name":7}}"#), kind(400, "refused"));
    assert_eq!(ask(call, r#"{"function":"gret"}"#), kind(404, "unknown_function"));
    assert_eq!(ask("POST /v1/plugins/nobody/call", r#"{"function":"greet"}"#), kind(404, "unknown_plugin"));
    assert_eq!(ask("GET /v1/logs?plugn=x", ""), kind(400, "bad_request"));
    assert_eq!(ask("GET /v1/logs?tail=all", ""), kind(400, "bad_request"));
    assert_eq!(ask(call, r#"{"function":"greet","arguments":{"name":"Ada"}}"#), kind(200, "ok"));
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_read_and_while() {
    let place = Place::new();
    place.link("english-process");
    let service = Service::start(&place);
    let head = "POST /v1/plugins/english-process/call HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let announced = http::unix(&place.path("host.sock"), &format!("{head}Content-Length: 99999999999\r\n\r\n"));
    assert_eq!((announced.status, announced.kind()), (413, "body_too_large".to_owned()));
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(17));
    let read = http::unix(&place.path("host.sock"), &chunked);
    assert_eq!((read.status, read.kind()), (413, "body_too_large".to_owned()));
    assert_eq!(service.run(&["call", "english-process", "greet", r#"["Ada"]"#]).data(), "\"Hello, Ada!\"\n");
}

// ---- The configuration -----------------------------------------------------------------------------

#[test]
fn a_configuration_is_checked_and_shown() {
    let place = Place::new();
    place.write(
        "jackfield.toml",
        "plugins = ['plugins']\nlisten = ['unix:host.sock']\n\n[limits]\ncall_timeout = '5s'\n",
    );
    let check = place.run_in(&["config", "check", "--json"], &[]).json();
    assert_eq!((&check["listen"][0], &check["watch"]), (&"unix:host.sock".into(), &Value::Bool(false)));
    assert_eq!((&check["limits"]["call_timeout"], &check["limits"]["stop_grace"]), (&"5s".into(), &"2s".into()));
    let text = place.run_in(&["config", "check"], &[]).data();
    assert!(text.contains("\nlimits\n") && text.contains("call_timeout"), "{text}");
    place.write("wrong.toml", "plugins = ['plugins']\n[limits]\ncall_timeot = '5s'\n");
    let wrong = place.run_in(&["config", "check", "wrong.toml"], &[]);
    let said = "error: wrong.toml:3:1: unknown key `limits.call_timeot`; did you mean `limits.call_timeout`?\n";
    assert_eq!((wrong.code, &*wrong.stderr), (2, said));
    let run = place.run_in(&["run", "--config", "wrong.toml"], &[]);
    assert_eq!((run.code, &*run.stderr), (2, said));
}

#[test]
fn a_log_for_machines_is_json_on_every_line() {
    let place = Place::new();
    place.script("slow", SLOW);
    let mut service = Service::start_with(&place, "[log]\nformat = 'json'\n", &[]);
    service.run(&["call", "slow", "say", r#"{"what":"[ERROR] no room"}"#]).data();
    let line = service.line_with("no room");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        (&line["level"], &line["plugin"], &line["message"]),
        (&"error".into(), &"slow".into(), &"no room".into())
    );
}
