//! Plugins that die, change and go while their host serves.

use std::fs;

use crate::SLOW;
use crate::service::{Place, Service, lives, signal, until};

/// Answers with what it is.
fn version(word: &str) -> String {
    format!(
        r#"
import json, sys
out = sys.stdout
hello = {{"protocol": "1.0", "plugin": {{"name": "word", "version": "1.0.0"}}, "interfaces": ["demo:word/word@1.0.0"]}}
for line in sys.stdin.buffer:
    message = json.loads(line)
    if message["method"] == "jackfield/shutdown":
        break
    if "id" in message:
        result = hello if message["method"] == "jackfield/hello" else "{word}"
        print(json.dumps({{"id": message["id"], "result": result}}), file=out, flush=True)
"#
    )
}

fn process(service: &Service<'_>, plugin: &str) -> u64 {
    service.run(&["inspect", plugin, "--json"]).json()["process"].as_u64().expect("a process")
}

#[test]
fn a_reload_takes_the_new_build_and_keeps_the_old_one_if_the_new_one_is_broken() {
    let place = Place::new();
    place.script("word", &version("old"));
    let service = Service::start(&place);
    let word = || service.run(&["call", "word", "say"]).data();
    assert_eq!(word(), "\"old\"\n");
    let old = process(&service, "word");
    place.script("word", &version("new"));
    let swap = service.run(&["reload", "word", "--json"]).json();
    assert_eq!((&swap["plugin"], &swap["from"], &swap["to"]), (&"word".into(), &1.into(), &2.into()));
    assert_eq!(word(), "\"new\"\n");
    until("the old one is gone", || !lives(old));
    place.script("word", "raise SystemExit(3)");
    let broken = service.run(&["reload", "word"]);
    assert_eq!((broken.code, &*broken.stdout), (2, ""));
    let said =
        "error: plugin `word` was not replaced: the new build does not start; generation 2 goes on\n  caused by: ";
    assert!(broken.stderr.starts_with(said), "{}", broken.stderr);
    assert_eq!(word(), "\"new\"\n");
    assert_eq!(service.run(&["reload", "wrd"]).stderr, "error: no plugin is called `wrd`; did you mean `word`?\n");
}

#[test]
fn a_build_that_is_not_in_the_lock_is_not_taken_until_it_is_accepted() {
    let place = Place::new();
    place.script("word", &version("old"));
    assert_eq!(place.run(&["lock", "plugins"]).code, 0);
    let service = Service::start_with(&place, "[trust]\nlocked = true\n", &[]);
    let word = || service.run(&["call", "word", "say"]).data();
    let trust = || service.run(&["inspect", "word", "--json"]).json()["trust"]["locked"].clone();
    assert_eq!((word(), trust()), ("\"old\"\n".to_owned(), true.into()));
    place.script("word", &version("new"));
    let refused = service.run(&["reload", "word"]);
    assert_eq!((refused.code, &*refused.stdout), (2, ""));
    let said = "error: plugin `word` was not replaced: the new build is not trusted; generation 1 goes on\n  caused by: \
                plugin `word` has changed: the SHA-256 of `";
    assert!(refused.stderr.starts_with(said), "{}", refused.stderr);
    assert_eq!(word(), "\"old\"\n");
    assert_eq!(place.run(&["lock", "plugins"]).code, 0);
    let rescanned = service.run(&["rescan"]);
    assert_eq!(rescanned.code, 0, "{}{}", rescanned.stdout, rescanned.stderr);
    assert_eq!((word(), trust()), ("\"new\"\n".to_owned(), true.into()));
}

#[test]
fn a_plugin_that_was_killed_is_back_and_its_death_is_told_once_and_fully() {
    let place = Place::new();
    place.script("slow", SLOW);
    let mut service = Service::start_with(&place, "state_dir = 'state'\n", &[]);
    let mut events = service.spawn(&["events"]);
    assert_eq!(service.run(&["crashes"]).data(), "nothing died\n");
    // Whoever follows events is there when the first of them arrives.
    until("events are followed", || {
        service.run(&["disable", "slow"]).data();
        service.run(&["enable", "slow"]).data();
        events.has_line()
    });
    events.line_with("slow  stopped: it is disabled");
    events.line_with("slow  ready: 1.0.0, generation ");
    let killed = process(&service, "slow");
    signal("KILL", killed);
    events.line_with("slow  died: plugin `slow` 1.0.0 (process, generation ");
    events.line_with("slow  ready: 1.0.0, generation ");
    assert_ne!(process(&service, "slow"), killed);
    assert_eq!(service.run(&["call", "slow", "say", r#"{"what":"again"}"#]).data(), "\"done\"\n");
    let told = service.run(&["crashes", "slow"]).data();
    assert!(told.contains(&format!("process {killed}")) && told.contains("signal 9"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(service.run(&["crashes", "nobody"]).data(), "nothing died\n");
    let report = service.run(&["crashes", "--json"]).json();
    assert_eq!(report["crashes"][0]["process"], killed);
    let health = service.run(&["health"]).data();
    assert_eq!(health, "well\n  slow  ready\n");
    // And when the host is gone, from what it left.
    service.signal("TERM");
    assert_eq!(service.wait(), 0);
    assert_eq!(place.run_in(&["--state-dir", "state", "crashes"], &[]).data(), told);
    let nowhere = place.run_in(&["--state-dir", "nowhere", "crashes"], &[]);
    assert!(nowhere.stderr.starts_with("error: cannot look into the state directory `nowhere`"), "{}", nowhere.stderr);
    let nobody = place.run_in(&["crashes"], &[]);
    assert!(
        nobody.stderr.starts_with("error: `crashes` needs a running host, or the records of one"),
        "{}",
        nobody.stderr
    );
}

#[test]
fn what_is_disabled_stays_so_over_restarts_of_the_host() {
    let place = Place::new();
    place.script("word", &version("here"));
    let mut service = Service::start_with(&place, "state_dir = 'state'\n", &[]);
    assert_eq!(service.run(&["disable", "word"]).data(), "word: stopped: it is disabled\n");
    let call = service.run(&["call", "word", "say"]);
    assert_eq!(call.code, 2);
    assert!(call.stderr.contains("it is disabled"), "{}", call.stderr);
    assert_eq!(service.run(&["health"]).data(), "well\n  word  stopped: it is disabled\n");
    service.signal("TERM");
    assert_eq!(service.wait(), 0);
    let service = Service::start_with(&place, "state_dir = 'state'\n", &[]);
    assert_eq!(service.run(&["health"]).data(), "well\n  word  stopped: it is disabled\n");
    assert_eq!(service.run(&["enable", "word"]).data(), "word: ready\n");
    assert_eq!(service.run(&["call", "word", "say"]).data(), "\"here\"\n");
}

#[test]
fn one_that_dies_too_often_is_set_aside_until_somebody_lets_it_back() {
    let place = Place::new();
    place.script("slow", SLOW);
    let mut service = Service::start_with(&place, "state_dir = 'state'\n[lifecycle]\nrestarts = 0\n", &[]);
    assert_eq!(service.run(&["quarantine"]).data(), "nothing is quarantined\n");
    signal("KILL", process(&service, "slow"));
    until("it is quarantined", || service.run(&["quarantine", "--json"]).json()["quarantined"][0]["plugin"] == "slow");
    let listed = service.run(&["quarantine", "list"]).data();
    assert!(listed.starts_with("slow  since ") && listed.contains("to let it back: `jackfield "), "{listed}");
    let health = service.run(&["health"]);
    assert_eq!(health.code, 2);
    assert!(health.stdout.starts_with("not well\n  slow  quarantined: "), "{}", health.stdout);
    assert_eq!(service.run(&["quarantine", "lift", "slow"]).data(), "slow: ready\n");
    assert_eq!(service.run(&["health"]).data(), "well\n  slow  ready\n");
    let again = service.run(&["quarantine", "lift", "slow"]);
    assert_eq!((again.code, &*again.stderr), (2, "error: plugin `slow` is not quarantined: it is ready\n"));
    // From what the host left, too.
    signal("KILL", process(&service, "slow"));
    until("it is quarantined", || service.run(&["quarantine", "--json"]).json()["quarantined"][0]["plugin"] == "slow");
    service.signal("TERM");
    assert_eq!(service.wait(), 0);
    let lift = ["--state-dir", "state", "quarantine", "lift", "slow"];
    assert_eq!(place.run_in(&lift, &[]).data(), "slow: not quarantined any more\n");
    assert_eq!(place.run_in(&lift, &[]).stderr, "error: plugin `slow` is not quarantined\n");
    assert_eq!(place.run_in(&["--state-dir", "state", "quarantine"], &[]).data(), "nothing is quarantined\n");
}

#[test]
fn a_look_through_the_directories_finds_what_is_new_and_what_is_gone() {
    let place = Place::new();
    place.script("word", &version("here"));
    let mut service = Service::start(&place);
    assert_eq!(service.run(&["rescan"]).data(), "nothing has changed\n");
    place.script("other", &version("there"));
    fs::remove_dir_all(place.path("plugins/word")).expect("removed");
    assert_eq!(service.run(&["rescan"]).data(), "other: loaded\nword: removed\n");
    assert_eq!(service.run(&["call", "other", "say"]).data(), "\"there\"\n");
    place.script("word", &version("again"));
    service.signal("HUP");
    service.line_with("word: loaded");
    assert_eq!(service.run(&["call", "word", "say"]).data(), "\"again\"\n");
}

#[test]
fn a_change_of_a_file_is_enough_where_that_is_wanted() {
    let place = Place::new();
    place.script("word", &version("old"));
    let service = Service::start_with(&place, "watch = true\n", &[]);
    assert_eq!(service.run(&["call", "word", "say"]).data(), "\"old\"\n");
    place.script("word", &version("new"));
    until("the new one answers", || service.run(&["call", "word", "say"]).data() == "\"new\"\n");
}
