//! The command as a user runs it, with the plugins that `cargo xtask plugins` builds.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};
use serde_json::Value;

const JACKFIELD: &str = env!("CARGO_BIN_EXE_jackfield");

/// Where the built plugins are: beside the profile's directory that this command was built into.
fn plugins() -> PathBuf {
    let target = Path::new(JACKFIELD).ancestors().nth(2).expect("target/<profile>/jackfield");
    let plugins = target.join("plugins");
    for name in ["english", "english-process"] {
        let plugin = plugins.join(name);
        assert!(plugin.is_dir(), "`{}` is missing: run `cargo xtask plugins` first", plugin.display());
    }
    plugins
}

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    /// The data of a command that must have done what it was asked for.
    fn data(self) -> String {
        assert_eq!((self.code, &*self.stderr), (0, ""), "{}", self.stdout);
        self.stdout
    }
}

/// Runs `jackfield` on the plugins in `dir`, with `input` on stdin.
fn run_with(dir: &Path, words: &[&str], input: &str) -> Run {
    let mut command = Command::new(JACKFIELD);
    command.arg("--plugins").arg(dir).args(words).env_remove("JACKFIELD_PLUGINS");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the command starts");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Run { code: output.status.code().expect("it exits"), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn run(words: &[&str]) -> Run {
    run_with(&plugins(), words, "")
}

fn check_in(dir: &Path, words: &[&str], expected: Expect) {
    let Run { code, stdout, stderr } = run_with(dir, words, "");
    let shown = format!("{stdout}{stderr}exit {code}\n");
    expected.assert_eq(&shown.replace(&*dir.to_string_lossy(), "DIR"));
}

fn check(words: &[&str], expected: Expect) {
    check_in(&plugins(), words, expected);
}

#[test]
fn the_same_command_calls_a_plugin_of_every_mechanism_and_language() {
    let greetings = [
        ("english", "Hello, Ada!"),
        ("english-process", "Hello, Ada!"),
        ("uzbek", "Salom, Ada!"),
        ("uzbek-process", "Salom, Ada!"),
        ("greeter-python", "Hello, Ada!"),
        ("greeter-c", "Hello, Ada!"),
        ("greeter-go", "Hello, Ada!"),
        ("greeter-go-native", "Hello, Ada!"),
    ];
    // A plugin whose toolchain is missing was not built; in CI that is an error of `xtask plugins`.
    let built = greetings.into_iter().filter(|(name, _)| plugins().join(name).is_dir());
    for (name, greeting) in built {
        let said = run(&["call", name, "greet", r#"{"name":"Ada"}"#]).data();
        assert_eq!(said, format!("{greeting:?}\n"), "{name}");
    }
}

#[test]
fn arguments_may_come_by_position_or_from_stdin() {
    assert_eq!(run(&["call", "english", "greeter.greet", r#"["Ada"]"#]).data(), "\"Hello, Ada!\"\n");
    let function = "demo:greeter/greeter.greet";
    let run = run_with(&plugins(), &["call", "english-process", function, "-"], r#"{"name": "Ada"}"#);
    assert_eq!(run.data(), "\"Hello, Ada!\"\n");
}

#[test]
fn the_plugins_own_error_is_data_and_exits_with_1() {
    check(
        &["call", "english", "greet", r#"{"name":""}"#],
        expect![[r#"
        {
          "tag": "empty-name"
        }
        plugin `english` answered with its own error
        exit 1
    "#]],
    );
    check(
        &["call", "english-process", "greet", r#"{"name":""}"#, "--json"],
        expect![[r#"
        {"tag":"empty-name"}
        plugin `english-process` answered with its own error
        exit 1
    "#]],
    );
}

#[test]
fn what_we_could_not_do_exits_with_2_and_says_why() {
    check(
        &["call", "englsh", "greet"],
        expect![[r#"
        error: no plugin is called `englsh`; did you mean `english`?
        exit 2
    "#]],
    );
    check(
        &["call", "english", "gret", r#"{"name":"Ada"}"#],
        expect![[r#"
        error: call of `gret` of plugin `english`: the plugin has no such function; did you mean `greet`?
        exit 2
    "#]],
    );
    check(
        &["call", "english", "shouter.greet", r#"{"name":"Ada"}"#],
        expect![[r#"
        error: call of `shouter.greet` of plugin `english`: refused: it offers no interface `shouter`; it offers demo:greeter/greeter
        exit 2
    "#]],
    );
    check(
        &["call", "english", "greet", r#"{"nam":"Ada"}"#],
        expect![[r#"
        error: call of `greet` of plugin `english`: refused: `greet`: has no argument `nam`; did you mean `name`?
        exit 2
    "#]],
    );
    check(
        &["call", "english", "greet", r#"{"name":7}"#],
        expect![[r#"
        error: call of `greet` of plugin `english`: refused: `greet(name)`: is a `string`, got the number 7
        exit 2
    "#]],
    );
    check(
        &["call", "english", "greet", "{name: Ada}"],
        expect![[r#"
        error: ARGS is not JSON
          caused by: key must be a string at line 1 column 2
        exit 2
    "#]],
    );
    check(
        &["interface", "export", "english", "shouter"],
        expect![[r#"
        error: plugin `english` has no interface `shouter`; it offers demo:greeter/greeter@1.0.0
        exit 2
    "#]],
    );
}

#[test]
fn without_a_plugin_directory_there_is_nothing_to_do() {
    let output = Command::new(JACKFIELD).arg("list").env_remove("JACKFIELD_PLUGINS").output();
    let output = output.expect("the command starts");
    expect![[r#"
        error: no plugin directory was given

          hint: give one with `--plugins DIR`, or list them in `JACKFIELD_PLUGINS`
    "#]]
    .assert_eq(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn plugin_directories_may_come_from_the_environment() {
    let listed = std::env::join_paths([plugins(), PathBuf::from("/nowhere")]).expect("paths");
    let output = Command::new(JACKFIELD).args(["list", "--json"]).env("JACKFIELD_PLUGINS", listed).output();
    let list: Value = serde_json::from_slice(&output.expect("the command starts").stdout).expect("JSON");
    let names = list["plugins"].as_array().expect("plugins").iter().map(|plugin| &plugin["name"]);
    assert!(names.clone().any(|name| name == "english"), "{list}");
    assert_eq!(list["refused"][0]["path"], "/nowhere");
}

#[test]
#[cfg(unix)]
fn what_is_refused_is_listed_with_the_reason_and_strict_makes_it_an_error() {
    let root = tempfile::tempdir().expect("a directory");
    let write = |path: &str, content: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    };
    write("crop/plugin.toml", "name = 'crop'\nentry = 'crop.py'\n");
    write("resize/plugin.toml", "name = 'resize'\nentri = 'resize.py'\n");
    write("shout.py", "#!/usr/bin/env python3\n");
    check_in(
        root.path(),
        &["list"],
        expect![[r#"
        no plugins

        refused
          crop  DIR/crop
            DIR/crop/plugin.toml:2:9: `entry`: `crop.py` does not exist
          resize  DIR/resize
            DIR/resize/plugin.toml:2:1: unknown key `entri`; did you mean `entry`?
          shout  DIR/shout.py
            begins with `#!`, but is not executable
        exit 0
    "#]],
    );
    check_in(
        root.path(),
        &["list", "--json", "--strict"],
        expect![[r#"
        {"plugins":[],"refused":[{"name":"crop","path":"DIR/crop","reason":["DIR/crop/plugin.toml:2:9: `entry`: `crop.py` does not exist"]},{"name":"resize","path":"DIR/resize","reason":["DIR/resize/plugin.toml:2:1: unknown key `entri`; did you mean `entry`?"]},{"name":"shout","path":"DIR/shout.py","reason":["begins with `#!`, but is not executable"]}],"shadowed":[]}
        exit 2
    "#]],
    );
    check_in(
        root.path(),
        &["call", "shout", "greet"],
        expect![[r#"
        error: plugin `shout` was refused
          caused by: begins with `#!`, but is not executable

          hint: make it executable: `chmod +x DIR/shout.py`
        exit 2
    "#]],
    );
}

#[test]
fn a_repeated_call_gives_its_latency_in_place_of_the_answer() {
    let call = ["call", "english", "greet", r#"{"name":"Ada"}"#, "--repeat", "100"];
    let text = run(&call).data();
    let figures = ["100 calls in ", " calls/s\n", "min ", ", p50 ", ", p99 ", ", max "];
    assert!(figures.iter().all(|figure| text.contains(figure)), "{text}");
    let json: Value = serde_json::from_str(&run(&[&call[..], &["--json"]].concat()).data()).expect("JSON");
    assert_eq!(json["calls"], 100);
    assert!(json["min_us"].as_f64() <= json["p50_us"].as_f64(), "{json}");
    assert!(json["p50_us"].as_f64() <= json["max_us"].as_f64(), "{json}");
}

#[test]
fn an_interface_is_exported_in_each_form() {
    let export = ["interface", "export", "english"];
    expect![[r#"
        package demo:greeter@1.0.0;

        /// Greets people.
        interface greeter {
          variant greet-error {
            empty-name,
            too-long(u32),
          }

          /// Greets one person by name.
          greet: func(name: string) -> result<string, greet-error>;
        }
    "#]]
    .assert_eq(&run(&export).data());
    let schema = run(&[&export[..], &["greeter", "--format", "json-schema"]].concat()).data();
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    assert_eq!(schema.pointer("/properties/greet/properties/params/required/0"), Some(&"name".into()));
    let description = run(&[&export[..], &["--format", "json"]].concat()).data();
    jackfield::Interface::from_json(&description).expect("a description");
    let proto = run(&[&export[..], &["--format", "proto"]].concat()).data();
    assert_eq!(proto, include_str!("../../../examples/greeter-api/greeter.proto"));
}

#[test]
fn an_interface_in_protobuf_keeps_its_numbers() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("greeter.proto.lock");
    let path = file.to_str().expect("UTF-8");
    let export = ["interface", "export", "english", "--format", "proto", "--lock", path];
    let exported = run(&export).data();
    assert_eq!(exported, include_str!("../../../examples/greeter-api/greeter.proto"));
    let lock = fs::read_to_string(&file).expect("a lock");
    assert_eq!(lock, include_str!("../../../examples/greeter-api/greeter.proto.lock"));
    // What another version had stays reserved, and what it numbered is not numbered again.
    let params = r#"{"number":1,"name":"name","type":"string"}"#;
    let moved = r#"{"number":1,"name":"title","type":"string"},{"number":2,"name":"name","type":"string"}"#;
    assert!(lock.contains(params), "{lock}");
    fs::write(&file, lock.replace(params, moved)).expect("written");
    let exported = run(&export).data();
    assert!(exported.contains("  reserved 1;\n  reserved \"title\";\n  string name = 2;\n"), "{exported}");
    let updated = fs::read_to_string(&file).expect("a lock");
    assert!(updated.contains(r#"{"number":1,"name":"title","type":"string","removed":true}"#), "{updated}");
    // And what had another type is no longer the same.
    let refused = lock.replace(r#""type":"u32""#, r#""type":"u64""#);
    fs::write(&file, &refused).expect("written");
    let Run { code, stdout, stderr } = run(&export);
    expect![[r#"
        error: the lock `LOCK` does not allow it
          caused by: `greet-error.too-long` is locked as `u64`, the interface has `u32`
    "#]]
    .assert_eq(&stderr.replace(path, "LOCK"));
    assert_eq!((code, &*stdout), (2, ""));
    assert_eq!(fs::read_to_string(&file).expect("a lock"), refused, "a lock that refuses is left as it is");
    let elsewhere = run(&["interface", "export", "english", "--lock", path]);
    assert_eq!((elsewhere.code, &*elsewhere.stdout), (2, ""));
}

/// A plugin in a shell, which answers every call with its own text.
#[cfg(unix)]
fn write_script(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;

    let hello = r#"{"id":1,"result":{"protocol":"1.0","plugin":{"name":"script","version":"1.0.0"},"interfaces":["test:script/script@1.0.0"]}}"#;
    let script = format!(
        "#!/bin/sh\nread -r hello\necho '{hello}'\nwhile read -r line; do\n\
         id=${{line#*'\"id\":'}}\nid=${{id%%[!0-9]*}}\necho '{{\"id\":'\"$id\"',\"result\":\"{text}\"}}'\ndone\n"
    );
    fs::write(file, script).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("a mode");
}

#[test]
#[cfg(unix)]
fn plugins_are_accepted_with_lock_and_what_drifts_is_refused_until_it_is_accepted_too() {
    let root = tempfile::tempdir().expect("a directory");
    let (dir, file) = (root.path().to_owned(), root.path().join("script"));
    let check = |words: &[&str], expected: Expect| {
        let Run { code, stdout, stderr } = run_with(&dir, words, "");
        let shown = format!("{stdout}{stderr}exit {code}\n").replace(&*dir.to_string_lossy(), "DIR");
        expected.assert_eq(&shown);
    };
    write_script(&file, "good");
    check(
        &["call", "script", "say", "--locked"],
        expect![[r#"
             WARN refused: plugin `script` is not locked: there is no `DIR/plugins.lock`; `jackfield lock DIR` makes it plugin="script"
            error: plugin `script` was refused
              caused by: plugin `script` is not locked: there is no `DIR/plugins.lock`; `jackfield lock DIR` makes it
            exit 2
        "#]],
    );
    check(
        &["lock"],
        expect![[r#"
        DIR/plugins.lock
          script: added
            entry none -> 0e8c5032c4d5a140977eaefa800c098a0019682ab9c21a3e81052efcb6391b60
        exit 0
    "#]],
    );
    check(
        &["call", "script", "say", "--locked"],
        expect![[r#"
        "good"
        exit 0
    "#]],
    );
    let inspected = run_with(&dir, &["inspect", "script", "--locked"], "").data();
    assert!(inspected.contains("\n  trust         locked\n"), "{inspected}");
    write_script(&file, "bad");
    check(
        &["call", "script", "say", "--locked"],
        expect![[r#"
         WARN refused: plugin `script` has changed: the SHA-256 of `DIR/script` is e88234d24542de8d6e6afe73ad0acaa78ece5250b48df80951fd4c7cf925d43c, `DIR/plugins.lock` says 0e8c5032c4d5a140977eaefa800c098a0019682ab9c21a3e81052efcb6391b60; `jackfield lock DIR` accepts that plugin="script"
        error: plugin `script` was refused
          caused by: plugin `script` has changed: the SHA-256 of `DIR/script` is e88234d24542de8d6e6afe73ad0acaa78ece5250b48df80951fd4c7cf925d43c, `DIR/plugins.lock` says 0e8c5032c4d5a140977eaefa800c098a0019682ab9c21a3e81052efcb6391b60; `jackfield lock DIR` accepts that
        exit 2
    "#]],
    );
    check(
        &["list", "--locked", "--strict"],
        expect![[r#"
        no plugins

        refused
          script  DIR/script
            plugin `script` has changed: the SHA-256 of `DIR/script` is e88234d24542de8d6e6afe73ad0acaa78ece5250b48df80951fd4c7cf925d43c, `DIR/plugins.lock` says 0e8c5032c4d5a140977eaefa800c098a0019682ab9c21a3e81052efcb6391b60; `jackfield lock DIR` accepts that
         WARN refused: plugin `script` has changed: the SHA-256 of `DIR/script` is e88234d24542de8d6e6afe73ad0acaa78ece5250b48df80951fd4c7cf925d43c, `DIR/plugins.lock` says 0e8c5032c4d5a140977eaefa800c098a0019682ab9c21a3e81052efcb6391b60; `jackfield lock DIR` accepts that plugin="script"
        exit 2
    "#]],
    );
    let accepted: Value = serde_json::from_str(&run_with(&dir, &["lock", "--json"], "").data()).expect("JSON");
    assert_eq!(accepted[0]["plugins"][0]["change"], "changed");
    check(
        &["call", "script", "say", "--locked"],
        expect![[r#"
        "bad"
        exit 0
    "#]],
    );
    fs::remove_file(&file).expect("removed");
    check(
        &["lock"],
        expect![[r#"
        DIR/plugins.lock
          script: removed
            entry e88234d24542de8d6e6afe73ad0acaa78ece5250b48df80951fd4c7cf925d43c -> none
        exit 0
    "#]],
    );
    // What a running host is to trust it says itself.
    let output =
        Command::new(JACKFIELD).args(["list", "--locked", "--host", "unix:nowhere"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a running host decides itself whom it trusts"));
}

#[test]
fn what_is_known_of_a_plugin_is_shown() {
    let inspect = |name| -> Value { serde_json::from_str(&run(&["inspect", name, "--json"]).data()).expect("JSON") };
    let (native, process) = (inspect("english"), inspect("english-process"));
    assert_eq!(native["interfaces"], process["interfaces"], "the same source has the same interface");
    assert_eq!((&native["process"], &native["mechanism"]), (&Value::Null, &"native".into()));
    assert!(process["process"].is_u64(), "{process}");
    assert!(native["limits"].get("call_timeout").is_none(), "{native}");
    assert_eq!(process["limits"]["call_timeout"], "30s");
    let text = run(&["inspect", "english"]).data();
    assert!(text.contains("  greet(name: string) -> result<string, greet-error>"), "{text}");
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for() {
    assert!(!run(&["list"]).stdout.contains('\x1b'));
    assert!(run(&["list", "--color", "always"]).stdout.contains("\x1b[1m"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut command = Command::new(JACKFIELD);
    let piped = command.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn completions_need_no_plugins() {
    let output = Command::new(JACKFIELD).args(["completions", "bash"]).output().expect("the command starts");
    assert!(String::from_utf8_lossy(&output.stdout).contains("complete -F _jackfield"));
}
