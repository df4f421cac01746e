use std::error::Error as _;
use std::fs;

use expect_test::{Expect, expect};

use super::*;
use crate::limits::Limits;

const LINUX: Platform = Platform { os: "linux", arch: "x86_64" };

/// Reads the first of `files`, beside the others and an empty `libx.so` and `run.py`.
fn read(files: &[(&str, &str)]) -> String {
    let outer = tempfile::tempdir().expect("a directory");
    let directory = outer.path().join("p");
    fs::create_dir(&directory).expect("a directory");
    for (name, content) in [("libx.so", ""), ("run.py", ""), ("../secret", "")].iter().chain(files) {
        fs::write(directory.join(name), content).expect("a file");
    }
    let text = match Manifest::read_on(LINUX, &directory.join(files[0].0)) {
        // The hash of what a test writes says nothing.
        Ok(manifest) => format!("{:#?}", Manifest { own_sha256: None, ..manifest }),
        Err(error) => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    };
    text.replace(&format!("{}{}", directory.display(), std::path::MAIN_SEPARATOR), "")
}

fn check_toml(toml: &str, expected: Expect) {
    expected.assert_eq(&read(&[("plugin.toml", toml)]));
}

fn check_json(json: &str, expected: Expect) {
    expected.assert_eq(&read(&[("plugin.json", json)]));
}

/// The value of `key`, or what is wrong, for a WebAssembly plugin with `toml` below two lines. Beside
/// the manifest lie the directories `data` and `out`.
fn check_wasm(toml: &str, key: &str, expected: Expect) {
    let outer = tempfile::tempdir().expect("a directory");
    for directory in ["p", "p/data", "p/out", "beside"] {
        fs::create_dir(outer.path().join(directory)).expect("a directory");
    }
    fs::write(outer.path().join("p/x.wasm"), "").expect("a file");
    let file = outer.path().join("p/plugin.toml");
    fs::write(&file, format!("name = 'x'\nentry = 'x.wasm'\n{toml}")).expect("a file");
    let text = match Manifest::read_on(LINUX, &file) {
        Ok(manifest) => match key {
            "config" => format!("{:?}", manifest.config),
            "abi" => format!("{:?}", manifest.abi),
            "instances" => format!("{:?}", manifest.instances),
            "sandbox" => format!("{:?}", manifest.sandbox),
            "limits" => format!("{:?}", manifest.limits),
            _ => format!("{:?} {:?}", manifest.args, manifest.env),
        },
        Err(error) => error.to_string(),
    };
    let resolved = outer.path().canonicalize().expect("a directory");
    let text = text.replace(&*resolved.to_string_lossy(), "…").replace(&*outer.path().to_string_lossy(), "…");
    expected.assert_eq(text.strip_prefix("…/p/").unwrap_or(&text));
}

/// What is wrong with `toml` below a name and an entry, on lines 1 and 2.
fn check_more(toml: &str, expected: Expect) {
    check_toml(&format!("name = 'x'\nentry = 'run.py'\n{toml}"), expected);
}

#[test]
fn a_manifest_says_all_there_is_to_say() {
    let toml = r#"
        name = "resize"
        version = "1.4.0"
        description = "Makes pictures smaller"
        mechanism = "process"
        entry = "./run.py"
        args = ["--fast"]
        env = { LEVEL = "3" }
        interfaces = ["demo:image/resize@1.0.0"]
        descriptions = ["resize.json"]
        capabilities = ["batch@2"]

        [limits]
        start_timeout = "5s"
        call_timeout = "250ms"
        stop_grace = "0s"
        answer_bytes = "64MiB"
        calls_in_flight = 8
        call_bytes_in_flight = 1_000_000
    "#;
    let json = r#"{
        "name": "resize", "version": "1.4.0", "description": "Makes pictures smaller",
        "mechanism": "process", "entry": "run.py", "args": ["--fast"], "env": {"LEVEL": "3"},
        "interfaces": ["demo:image/resize@1.0.0"], "descriptions": ["resize.json"],
        "capabilities": ["batch@2"],
        "limits": {"start_timeout": "5s", "call_timeout": "250ms", "stop_grace": "0s",
                   "answer_bytes": "64MiB", "calls_in_flight": 8, "call_bytes_in_flight": 1000000}
    }"#;
    let description = ("resize.json", r#"{"interface": "demo:image/resize@1.0.0", "functions": []}"#);
    let read_toml = read(&[("plugin.toml", toml), description]);
    let read_json = read(&[("plugin.json", json), description]);
    assert_eq!(read_toml, read_json);
    expect![[r#"
        Manifest {
            name: "resize",
            version: Some(
                Version {
                    major: 1,
                    minor: 4,
                    patch: 0,
                },
            ),
            description: "Makes pictures smaller",
            mechanism: Process,
            entry: "run.py",
            sha256: None,
            args: [
                "--fast",
            ],
            env: {
                "LEVEL": "3",
            },
            config: {},
            abi: None,
            instances: Shared,
            sandbox: Grants {
                read: {},
                write: {},
                hosts: [],
                host_functions: [],
            },
            confinement: Confinement {
                profile: None,
                read: [],
                write: [],
                net: None,
                env: [],
            },
            isolation: None,
            best_effort: [],
            grpc: GrpcSpec {
                cookie: Cookie {
                    key: "JACKFIELD_PLUGIN",
                    value: "e1175a800c4fa0d925279cd55e158c6e16f7c3354a0ac53c8695f42cc953781f",
                },
                versions: [
                    1,
                ],
                plugin: None,
                tls: true,
                stream: true,
                multiplex: false,
                descriptor_set: None,
                lock: None,
                ports: (
                    10000,
                    25000,
                ),
                socket_group: None,
                reattach: None,
            },
            interfaces: [
                InterfaceId {
                    package: "demo:image",
                    name: "resize",
                    version: Version {
                        major: 1,
                        minor: 0,
                        patch: 0,
                    },
                },
            ],
            descriptions: [
                Interface {
                    id: InterfaceId {
                        package: "demo:image",
                        name: "resize",
                        version: Version {
                            major: 1,
                            minor: 0,
                            patch: 0,
                        },
                    },
                    docs: "",
                    types: {},
                    functions: [],
                    fingerprint: OnceLock(
                        <uninit>,
                    ),
                },
            ],
            description_files: [
                "resize.json",
            ],
            own_sha256: None,
            capabilities: [
                Capability {
                    name: "batch",
                    version: 2,
                },
            ],
            limits: LimitsSpec {
                start_timeout: Some(
                    5s,
                ),
                call_timeout: Some(
                    250ms,
                ),
                stop_grace: Some(
                    0ns,
                ),
                answer_bytes: Some(
                    67108864,
                ),
                calls_in_flight: Some(
                    8,
                ),
                call_bytes_in_flight: Some(
                    1000000,
                ),
                on_timeout: None,
                memory: None,
                address_space: None,
                cpu_time: None,
                cpu_rate: None,
                processes: None,
                files: None,
                file_size: None,
                table_elements: None,
                stack: None,
                fuel: None,
                log_bytes: None,
                module_bytes: None,
                compile_timeout: None,
            },
            lifecycle: LifecycleSpec {
                restart: None,
                backoff: None,
                backoff_max: None,
                restarts: None,
                window: None,
                healthy_after: None,
                idle_stop: None,
                retry: None,
                breaker: None,
                health_timeout: None,
                canary: None,
                observe: None,
                observe_failures: None,
                drain_timeout: None,
                generations: None,
                state: None,
            },
        }"#]]
    .assert_eq(&read_toml);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    check_more("memroy = 1", expect!["plugin.toml:3:1: unknown key `memroy`"]);
    check_more("versoin = '1.0.0'", expect!["plugin.toml:3:1: unknown key `versoin`; did you mean `version`?"]);
    check_more(
        "[limits]\n  call_timout = '5s'",
        expect!["plugin.toml:4:3: unknown key `limits.call_timout`; did you mean `limits.call_timeout`?"],
    );
    check_more(
        "limits.call_timout = '5s'",
        expect!["plugin.toml:3:8: unknown key `limits.call_timout`; did you mean `limits.call_timeout`?"],
    );
    check_toml("nmae = 'x'", expect!["plugin.toml:1:1: unknown key `nmae`; did you mean `name`?"]);
    check_json(
        "{\n  \"näme\": 1, \"entyr\": \"run.py\"}",
        expect!["plugin.json:2:3: unknown key `näme`; did you mean `name`?"],
    );
    check_json(
        r#"{"name": "x", "entry": "run.py", "limits": {"answer_byte": 1}}"#,
        expect!["plugin.json:1:45: unknown key `limits.answer_byte`; did you mean `limits.answer_bytes`?"],
    );
}

#[test]
fn a_wrong_type_or_value_is_named_with_its_place() {
    check_more("version = 1", expect!["plugin.toml:3:11: `version` is a string, got the integer 1"]);
    check_more(
        "version = '1.0'",
        expect![[
            r#"plugin.toml:3:11: `version`: "1.0" is not a semantic version: unexpected end of input while parsing minor version number"#
        ]],
    );
    check_more("args = '--fast'", expect![[r#"plugin.toml:3:8: `args` is a list, got the string "--fast""#]]);
    check_more("args = [\n  '--fast',\n  3,\n]", expect!["plugin.toml:5:3: `args[1]` is a string, got the integer 3"]);
    check_more("env = { A = 1.5 }", expect!["plugin.toml:3:13: `env.A` is a string, got the number 1.5"]);
    check_more("env = { 'A=B' = '' }", expect![[r#"plugin.toml:3:9: `env`: "A=B" is not the name of a variable"#]]);
    check_more("limits = 5", expect!["plugin.toml:3:10: `limits` is a table, got the integer 5"]);
    check_more(
        "interfaces = ['greeter@1.0.0']",
        expect![[
            r#"plugin.toml:3:15: `interfaces[0]`: "greeter@1.0.0" is not a name: an interface wants a package: `namespace:package/name@1.0.0`"#
        ]],
    );
    check_more(
        "capabilities = ['batch']",
        expect![[
            r#"plugin.toml:3:17: `capabilities[0]`: "batch" is not a name: a capability is `name@version`, the version from 1"#
        ]],
    );
    check_toml(
        "name = 'My Plugin'\nentry = 'run.py'",
        expect![[
            r#"plugin.toml:1:8: `name`: "My Plugin" is not a plugin's name: 1 to 64 of `a` to `z`, `0` to `9` and `-`, the first not `-`"#
        ]],
    );
    check_toml("entry = 'run.py'", expect!["plugin.toml:1:1: `name` is missing"]);
    check_toml("name = 'x'", expect!["plugin.toml:1:1: `entry` is missing"]);
    check_json(r#"{"name": null, "entry": "run.py"}"#, expect!["plugin.json:1:10: `name` is a string, got null"]);
    check_json(
        "{\"name\": \"x\",\n \"entry\": \"run.py\", \"env\":\n {\"A\": true}}",
        expect!["plugin.json:3:8: `env.A` is a string, got a boolean"],
    );
}

#[test]
fn a_limit_has_a_unit_and_is_more_than_nothing() {
    check_more(
        "limits.call_timeout = 5",
        expect![[r#"plugin.toml:3:23: `limits.call_timeout` is a duration, as in "5s", got the integer 5"#]],
    );
    check_more(
        "limits.call_timeout = '5'",
        expect![[
            r#"plugin.toml:3:23: `limits.call_timeout`: "5" is not a duration: a whole number and `ms`, `s`, `m` or `h`, as in "250ms""#
        ]],
    );
    check_more(
        "limits.call_timeout = '0s'",
        expect![[r#"plugin.toml:3:23: `limits.call_timeout`: no time at all; the least is "1ms""#]],
    );
    check_more(
        "limits.answer_bytes = '16M'",
        expect![[
            r#"plugin.toml:3:23: `limits.answer_bytes`: "16M" is not a size: a whole number and `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`, as in "16MiB""#
        ]],
    );
    check_more(
        "limits.answer_bytes = -1",
        expect!["plugin.toml:3:23: `limits.answer_bytes`: -1 bytes; the least is 1"],
    );
    check_more(
        "limits.answer_bytes = true",
        expect![[r#"plugin.toml:3:23: `limits.answer_bytes` is a size, as in "16MiB" or 4096, got a boolean"#]],
    );
    check_more(
        "limits.calls_in_flight = 0",
        expect!["plugin.toml:3:26: `limits.calls_in_flight`: 0 calls; the least is 1"],
    );
    check_more(
        "limits.calls_in_flight = '8'",
        expect![[r#"plugin.toml:3:26: `limits.calls_in_flight` is an integer, got the string "8""#]],
    );
    check_more(
        "limits.calls_in_flight = 99999999999999999999",
        expect!["plugin.toml:3:26: `limits.calls_in_flight` is an integer, got the integer 99999999999999999999"],
    );
}

#[test]
fn a_native_plugin_has_no_limit_that_would_not_hold() {
    let native = |toml: &str| format!("name = 'x'\nentry = 'libx.so'\n{toml}");
    check_toml(
        &native("limits.call_timeout = '5s'"),
        expect![
            "plugin.toml:3:23: `call_timeout` is set, and a native plugin cannot be stopped in the middle of a call"
        ],
    );
    check_toml(
        &native("limits.start_timeout = '5s'"),
        expect![
            "plugin.toml:3:24: `start_timeout` is set, and the operating system cannot be interrupted while it loads a native plugin"
        ],
    );
    check_toml(
        &native("[limits]\nanswer_bytes = '1MiB'\ncalls_in_flight = 1"),
        expect![
            "plugin.toml:5:19: `calls_in_flight` is set, and a native plugin is called on its callers' threads, however many they are"
        ],
    );
    check_toml(
        &native("args = ['--fast']"),
        expect!["plugin.toml:3:8: `args` is set, and a native plugin is not started as a program"],
    );
    assert!(read(&[("plugin.toml", &native("limits.answer_bytes = '1MiB'"))]).contains("1048576"));
}

#[test]
fn a_key_that_the_mechanism_has_no_use_for_is_refused() {
    for (entry, mechanism) in [("libx.so", MechanismKind::Native), ("run.py", MechanismKind::Process)] {
        for (limit, why) in mechanism.unenforced() {
            let is_duration = limit.ends_with("timeout") || limit.ends_with("grace");
            let value = match *limit {
                "on_timeout" => "'kill'",
                "cpu_rate" => "'50%'",
                "cpu_time" => "'1s'",
                "files" => "64",
                _ if is_duration => "'1s'",
                _ => "1",
            };
            let text = read(&[("plugin.toml", &format!("name = 'x'\nentry = '{entry}'\nlimits.{limit} = {value}"))]);
            let column = "limits. = ".len() + limit.len() + 1;
            assert_eq!(text, format!("plugin.toml:3:{column}: `{limit}` is set, and {why}"));
        }
    }
    check_more("instances = 'fresh'", expect!["plugin.toml:3:13: `instances` is set, and a program is one instance"]);
    check_more(
        "config = { a = 'b' }",
        expect!["plugin.toml:3:10: `config` is set, and only WebAssembly can be an Extism plugin"],
    );
    check_more(
        "abi = 'extism'",
        expect!["plugin.toml:3:7: `abi` is set, and only WebAssembly can be an Extism plugin"],
    );
    check_more(
        "[sandbox]\nnet.hosts = []",
        expect![[
            r#"plugin.toml:4:1: `sandbox.net` is "none" or "all"; a program is not kept to some hosts, got a table"#
        ]],
    );
    let native = |toml: &str| format!("name = 'x'\nentry = 'libx.so'\n{toml}");
    check_toml(
        &native("env = {}"),
        expect!["plugin.toml:3:7: `env` is set, and a native plugin is not started as a program"],
    );
    check_toml(
        &native("instances = 'fresh'"),
        expect!["plugin.toml:3:13: `instances` is set, and a native plugin has the instance that its library makes"],
    );
    check_toml(
        &native("abi = 'extism'"),
        expect!["plugin.toml:3:7: `abi` is set, and only WebAssembly can be an Extism plugin"],
    );
    check_toml(
        &native("sandbox = {}"),
        expect![[
            r#"plugin.toml:3:11: `sandbox` is set, and nothing keeps a native plugin from what the host itself may reach, unless it says `isolation = "process"`"#
        ]],
    );
}

#[test]
fn a_wasm_plugin_is_given_arguments_variables_and_a_configuration() {
    check_wasm("args = ['-v']\nenv = { A = '1' }", "given", expect![[r#"["-v"] {"A": "1"}"#]]);
    check_wasm("config = { 'a=b' = '', c = 'd' }", "config", expect![[r#"{"a=b": "", "c": "d"}"#]]);
    check_wasm(
        "config.level = 3",
        "config",
        expect!["plugin.toml:3:16: `config.level` is a string, got the integer 3"],
    );
    check_wasm("config = 'x'", "config", expect![[r#"plugin.toml:3:10: `config` is a table, got the string "x""#]]);
    check_wasm("abi = 'extism'", "abi", expect!["Some(Extism)"]);
    check_wasm(
        "abi = 'wasi'",
        "abi",
        expect![[
            r#"plugin.toml:3:7: `abi`: "wasi" is not an ABI that a module may be said to have; there is `extism`"#
        ]],
    );
}

#[test]
fn instances_are_shared_or_fresh_or_pooled() {
    check_wasm("", "instances", expect!["Shared"]);
    check_wasm("instances = 'shared'", "instances", expect!["Shared"]);
    check_wasm("instances = 'fresh'", "instances", expect!["Fresh"]);
    check_wasm(
        "instances = { pool = { max = 8, idle = '5m', max_calls = 10_000 } }",
        "instances",
        expect!["Pool(PoolSpec { max: 8, idle: 300s, max_calls: Some(10000) })"],
    );
    check_wasm("instances.pool.max = 2", "instances", expect!["Pool(PoolSpec { max: 2, idle: 60s, max_calls: None })"]);
    check_wasm(
        "[instances.pool]\nmax = 2\nidle = '0s'",
        "instances",
        expect!["Pool(PoolSpec { max: 2, idle: 0ns, max_calls: None })"],
    );
    let cores = PoolSpec::default().max;
    assert_eq!(cores, std::thread::available_parallelism().expect("a number").get());
    check_wasm(
        "instances = 'pool'",
        "instances",
        expect!["plugin.toml:3:13: `instances`: a pool is written `{ pool = {} }`"],
    );
    check_wasm(
        "instances = 'frsh'",
        "instances",
        expect![[
            r#"plugin.toml:3:13: `instances`: "frsh" is neither `shared` nor `fresh` nor a table with `pool`; did you mean `fresh`?"#
        ]],
    );
    check_wasm(
        "instances = 8",
        "instances",
        expect![[r#"plugin.toml:3:13: `instances` is "shared", "fresh" or a table with `pool`, got the integer 8"#]],
    );
    check_wasm("instances = {}", "instances", expect!["plugin.toml:3:13: `instances.pool` is missing"]);
    check_wasm(
        "instances = { pol = {} }",
        "instances",
        expect!["plugin.toml:3:15: unknown key `instances.pol`; did you mean `instances.pool`?"],
    );
    check_wasm(
        "instances = { pool = 8 }",
        "instances",
        expect!["plugin.toml:3:22: `instances.pool` is a table, got the integer 8"],
    );
    check_wasm(
        "instances.pool.max = 0",
        "instances",
        expect!["plugin.toml:3:22: `instances.pool.max`: 0 instances; the least is 1"],
    );
    check_wasm(
        "instances.pool.max_calls = -1",
        "instances",
        expect!["plugin.toml:3:28: `instances.pool.max_calls`: -1 calls; the least is 1"],
    );
    check_wasm(
        "instances.pool.idle = 60",
        "instances",
        expect![[r#"plugin.toml:3:23: `instances.pool.idle` is a duration, as in "5s", got the integer 60"#]],
    );
    check_wasm(
        "instances.pool.max_call = 60",
        "instances",
        expect!["plugin.toml:3:16: unknown key `instances.pool.max_call`; did you mean `instances.pool.max_calls`?"],
    );
}

#[test]
#[cfg(unix)]
fn a_sandbox_grants_directories_and_hosts_and_nothing_else() {
    check_wasm("", "sandbox", expect!["Grants { read: {}, write: {}, hosts: [], host_functions: [] }"]);
    check_wasm(
        "[sandbox]
        fs.read = { '/data/' = 'data', '/usr' = '/usr/.' }
        fs.write = { '/' = '../beside' }
        net.hosts = ['A.example.org', '*.b.org:443', '[::1]:80', '*']
        host_functions = ['kv_read', 'acme.pay']",
        "sandbox",
        expect![[
            r#"Grants { read: {"/data": "…/p/data", "/usr": "/usr"}, write: {"/": "…/beside"}, hosts: ["a.example.org", "*.b.org:443", "[::1]:80", "*"], host_functions: ["kv_read", "acme.pay"] }"#
        ]],
    );
    check_wasm(
        "[sandbox.fs]\nread = { '/data' = 'gone' }",
        "sandbox",
        expect![[r#"plugin.toml:4:20: `sandbox.fs.read."/data"`: `gone` does not exist"#]],
    );
    check_wasm(
        "sandbox.fs.write = { '/data' = 'x.wasm' }",
        "sandbox",
        expect![[r#"plugin.toml:3:32: `sandbox.fs.write."/data"`: `x.wasm` is not a directory"#]],
    );
    check_wasm(
        "sandbox.fs.write = { '/data' = '' }",
        "sandbox",
        expect![[r#"plugin.toml:3:32: `sandbox.fs.write."/data"`: `` is not a directory"#]],
    );
    check_wasm(
        "sandbox.fs.write = { '/data' = 1 }",
        "sandbox",
        expect![[r#"plugin.toml:3:32: `sandbox.fs.write."/data"` is a string, got the integer 1"#]],
    );
    for guest in ["data", "", "/a/../b", "/a//b", "/./a", "//"] {
        let text = format!("sandbox.fs.read = {{ '{guest}' = 'data' }}");
        let outer = tempfile::tempdir().expect("a directory");
        let file = outer.path().join("plugin.toml");
        fs::write(outer.path().join("x.wasm"), "").expect("a file");
        fs::write(&file, format!("name = 'x'\nentry = 'x.wasm'\n{text}")).expect("a file");
        let error = Manifest::read(&file).expect_err("not a path of the guest").to_string();
        let why = "is not a path of the guest: it begins with `/` and is without `.` and `..`";
        assert!(error.ends_with(&format!("plugin.toml:3:21: `sandbox.fs.read`: {guest:?} {why}")), "{error}");
    }
    check_wasm(
        "sandbox.fs.read = { '/a' = 'data', '/a/' = 'out' }",
        "sandbox",
        expect![[r#"plugin.toml:3:36: `sandbox.fs.read`: "/a" is granted twice"#]],
    );
    check_wasm(
        "sandbox.fs.read = { '/a' = 'data' }\nsandbox.fs.write = { '/a' = 'out' }",
        "sandbox",
        expect![[r#"plugin.toml:4:22: `sandbox.fs.write`: "/a" is granted twice"#]],
    );
    check_wasm("sandbox.fs.exec = {}", "sandbox", expect!["plugin.toml:3:12: unknown key `sandbox.fs.exec`"]);
    check_wasm(
        "sandbox.net.host = []",
        "sandbox",
        expect!["plugin.toml:3:13: unknown key `sandbox.net.host`; did you mean `sandbox.net.hosts`?"],
    );
    check_wasm(
        "sandbox.net.hosts = ['a.org', 'https://b.org/']",
        "sandbox",
        expect![[
            r#"plugin.toml:3:31: `sandbox.net.hosts[1]`: "https://b.org/" is not a host: a host is without scheme and path"#
        ]],
    );
    check_wasm(
        "sandbox.net.hosts = ['a.org:0']",
        "sandbox",
        expect![[
            r#"plugin.toml:3:22: `sandbox.net.hosts[0]`: "a.org:0" is not a host: a host is a name, `*.` and a name, an address or `*`, and may end in `:` and a port"#
        ]],
    );
    check_wasm(
        "sandbox.net.hosts = 'a.org'",
        "sandbox",
        expect![[r#"plugin.toml:3:21: `sandbox.net.hosts` is a list, got the string "a.org""#]],
    );
}

#[test]
fn a_wasm_plugin_has_every_limit() {
    check_wasm(
        "[limits]
        memory = '64MiB'
        table_elements = 10
        stack = '64MiB'
        fuel = 1_000_000
        log_bytes = '1kB'
        module_bytes = 1
        compile_timeout = '1m'",
        "limits",
        expect![
            "LimitsSpec { start_timeout: None, call_timeout: None, stop_grace: None, answer_bytes: None, calls_in_flight: None, call_bytes_in_flight: None, on_timeout: None, memory: Some(67108864), address_space: None, cpu_time: None, cpu_rate: None, processes: None, files: None, file_size: None, table_elements: Some(10), stack: Some(67108864), fuel: Some(1000000), log_bytes: Some(1000), module_bytes: Some(1), compile_timeout: Some(60s) }"
        ],
    );
    check_wasm(
        "limits.stack = '65MiB'",
        "limits",
        expect!["plugin.toml:3:16: `limits.stack`: 68157440 bytes; the most is 64 MiB"],
    );
    check_wasm("limits.fuel = 0", "limits", expect!["plugin.toml:3:15: `limits.fuel`: 0 units; the least is 1"]);
    check_wasm(
        "limits.fuel = '1s'",
        "limits",
        expect![[r#"plugin.toml:3:15: `limits.fuel` is an integer, got the string "1s""#]],
    );
    check_wasm(
        "limits.table_elements = 0",
        "limits",
        expect!["plugin.toml:3:25: `limits.table_elements`: 0 elements; the least is 1"],
    );
    check_wasm("limits.memory = 0", "limits", expect!["plugin.toml:3:17: `limits.memory`: 0 bytes; the least is 1"]);
}

#[test]
fn what_a_manifest_does_not_limit_the_host_does() {
    let host = Limits { stack_bytes_max: 1 << 30, fuel_max: Some(7), ..Limits::default() };
    let mut spec = LimitsSpec { memory: Some(1), ..LimitsSpec::default() };
    let applied = spec.apply(&host);
    assert_eq!((applied.memory_bytes_max, applied.stack_bytes_max, applied.fuel_max), (1, 64 << 20, Some(7)));
    spec.fuel = Some(9);
    assert_eq!(spec.apply(&host).fuel_max, Some(9));
}

#[test]
fn the_mechanism_is_told_from_the_entry_or_said() {
    let mechanism = |toml: &str| {
        let text = read(&[("plugin.toml", toml), ("libx.so.1.2", ""), ("x.dll", ""), ("x.wasm", "")]);
        text.lines().find(|line| line.contains("mechanism")).unwrap_or_default().trim().to_owned()
    };
    assert_eq!(mechanism("name = 'x'\nentry = 'libx.so'"), "mechanism: Native,");
    assert_eq!(mechanism("name = 'x'\nentry = 'libx.so.1.2'"), "mechanism: Native,");
    assert_eq!(mechanism("name = 'x'\nentry = 'x.dll'"), "mechanism: Native,");
    assert_eq!(mechanism("name = 'x'\nentry = 'run.py'"), "mechanism: Process,");
    assert_eq!(mechanism("name = 'x'\nentry = 'libx.so'\nmechanism = 'process'"), "mechanism: Process,");
    assert_eq!(mechanism("name = 'x'\nentry = 'x.wasm'"), "mechanism: Wasm,");
    assert_eq!(mechanism("name = 'x'\nentry = 'run.py'\nmechanism = 'wasm'"), "mechanism: Wasm,");
    assert_eq!(mechanism("name = 'x'\nentry = 'run.py'\nmechanism = 'grpc'"), "mechanism: Grpc,");
    check_more(
        "mechanism = 'nativ'",
        expect![[r#"plugin.toml:3:13: no mechanism is called "nativ"; did you mean `native`?"#]],
    );
    check_more("mechanism = 'telepathy'", expect![[r#"plugin.toml:3:13: no mechanism is called "telepathy""#]]);
}

#[test]
fn a_pin_is_a_hash_and_may_be_one_for_each_platform() {
    let pin = |written: &str| {
        let text = read(&[("plugin.toml", &format!("name = 'x'\nentry = 'libx.so'\nsha256 = {written}"))]);
        let lines: Vec<_> =
            text.lines().map(str::trim).skip_while(|line| !line.starts_with("sha256")).take(3).collect();
        if lines.is_empty() { text } else { lines.concat() }
    };
    let hash = "07".repeat(32);
    assert_eq!(pin(&format!("'{hash}'")), "sha256: Some([7,");
    let other = "08".repeat(32);
    assert_eq!(pin(&format!("{{ linux = '{other}', x86_64-linux = '{hash}' }}")), "sha256: Some([7,");
    for wrong in ["'07'".to_owned(), format!("'{}+7'", "07".repeat(31)), format!("'{hash}00'")] {
        let said = pin(&wrong);
        assert!(said.starts_with("plugin.toml:3:10: `sha256`: ") && said.ends_with("64 hexadecimal digits"), "{said}");
    }
    let elsewhere = pin(&format!("{{ macos = '{hash}' }}"));
    assert_eq!(elsewhere, "plugin.toml:3:10: `sha256` has a hash for `macos`; this platform is `x86_64-linux`");
}

#[test]
fn the_entry_is_the_most_specific_one_for_the_platform() {
    let entry = |toml: &str| {
        let text = read(&[("plugin.toml", &format!("name = 'x'\n{toml}"))]);
        text.lines().find(|line| line.contains("entry")).unwrap_or_default().trim().to_owned()
    };
    assert_eq!(entry("entry = { linux = 'run.py', x86_64-linux = 'libx.so' }"), "entry: \"libx.so\",");
    assert_eq!(entry("entry = { linux = 'run.py', aarch64-linux = 'libx.so' }"), "entry: \"run.py\",");
    check_toml(
        "name = 'x'\n[entry]\nwindows = 'x.dll'\nmacos = 'x'",
        expect!["plugin.toml:2:1: `entry` has a file for `macos`, `windows`; this platform is `x86_64-linux`"],
    );
    check_toml(
        "name = 'x'\nentry = {}",
        expect!["plugin.toml:2:9: `entry` has a file for no platform; this platform is `x86_64-linux`"],
    );
    check_toml(
        "name = 'x'\nentry = { linx = 'run.py' }",
        expect!["plugin.toml:2:11: unknown key `entry.linx`; did you mean `entry.linux`?"],
    );
    check_toml(
        "name = 'x'\nentry = { arch64-linux = 'run.py' }",
        expect!["plugin.toml:2:11: unknown key `entry.arch64-linux`; did you mean `entry.aarch64-linux`?"],
    );
    check_toml(
        "name = 'x'\nentry = { linux = 1 }",
        expect!["plugin.toml:2:19: `entry.linux` is a string, got the integer 1"],
    );
    check_json(
        r#"{"name": "x", "entry": {"macos": "x"}}"#,
        expect!["plugin.json:1:24: `entry` has a file for `macos`; this platform is `x86_64-linux`"],
    );
}

#[test]
fn a_path_stays_in_the_directory_of_the_manifest_and_leads_to_a_file() {
    let entry = |path: &str| format!("name = 'x'\nentry = '{path}'");
    check_toml(&entry("gone.py"), expect!["plugin.toml:2:9: `entry`: `gone.py` does not exist"]);
    check_toml(
        &entry("../secret"),
        expect!["plugin.toml:2:9: `entry`: `../secret` climbs out of the directory of the manifest"],
    );
    check_toml(
        &entry("a/../../secret"),
        expect!["plugin.toml:2:9: `entry`: `a/../../secret` climbs out of the directory of the manifest"],
    );
    check_toml(
        &entry("/bin/sh"),
        expect!["plugin.toml:2:9: `entry`: `/bin/sh` is not relative to the directory of the manifest"],
    );
    check_toml(&entry(""), expect!["plugin.toml:2:9: `entry`: `` is not a file"]);
    check_toml(&entry("."), expect!["plugin.toml:2:9: `entry`: `.` is not a file"]);
    check_more(
        "descriptions = ['../secret']",
        expect!["plugin.toml:3:17: `descriptions[0]`: `../secret` climbs out of the directory of the manifest"],
    );
    check_json(
        "{\"name\": \"x\",\n  \"entry\": \"../secret\"}",
        expect!["plugin.json:2:12: `entry`: `../secret` climbs out of the directory of the manifest"],
    );
}

#[test]
#[cfg(unix)]
fn a_symbolic_link_does_not_lead_out_either() {
    let outer = tempfile::tempdir().expect("a directory");
    let directory = outer.path().join("p");
    fs::create_dir(&directory).expect("a directory");
    fs::write(outer.path().join("secret"), "").expect("a file");
    fs::write(directory.join("v1.py"), "").expect("a file");
    let read = |target: &str| {
        let link = directory.join("run.py");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).expect("a link");
        fs::write(directory.join("plugin.toml"), "name = 'x'\nentry = 'run.py'").expect("a file");
        Manifest::read(&directory.join("plugin.toml"))
    };
    // The link itself is kept, so that it may be set to another version later.
    assert_eq!(read("v1.py").expect("a manifest").entry, directory.join("run.py"));
    let error = read("../secret").expect_err("outside").to_string();
    let outer = outer.path().canonicalize().expect("a directory");
    expect!["p/plugin.toml:2:9: `entry`: `run.py` leads out of the directory of the manifest, to `…/secret`"]
        .assert_eq(&error.replace(&*directory.to_string_lossy(), "p").replace(&*outer.to_string_lossy(), "…"));
}

#[test]
fn a_file_that_is_no_toml_or_no_json_says_where() {
    check_toml(
        "name = 'x\nentry = 'run.py'",
        expect!["plugin.toml:1:10: not TOML: invalid literal string, expected `'`"],
    );
    check_toml("name = 'x'\nname = 'y'", expect!["plugin.toml:2:1: not TOML: duplicate key"]);
    check_toml("name = ", expect!["plugin.toml:1:8: not TOML: string values must be quoted, expected literal string"]);
    check_toml("", expect!["plugin.toml:1:1: `name` is missing"]);
    check_json("{\"name\": \"x\",\n  \"entry\": }", expect!["plugin.json:2:12: not JSON: expected value"]);
    check_json("{\"name\": \"x\",\n \"ä\": tru}", expect!["plugin.json:2:10: not JSON: expected ident"]);
    check_json(r#"{"name": "x", "name": "y"}"#, expect!["plugin.json:1:15: `name` is there twice"]);
    check_json(r#"{"name": "\ud800"}"#, expect!["plugin.json:1:17: not JSON: unexpected end of hex escape"]);
    check_json("{", expect!["plugin.json:1:1: not JSON: EOF while parsing an object"]);
    check_json("", expect!["plugin.json:1:1: not JSON: EOF while parsing a value"]);
    check_json("[]", expect!["plugin.json:1:1: not JSON: a manifest is an object, got a list"]);
    check_json(&"[".repeat(100_000), expect!["plugin.json:1:100000: not JSON: EOF while parsing a list"]);
    check_json(
        &format!("{}{}", "[".repeat(1000), "]".repeat(1000)),
        expect!["plugin.json:1:18: not JSON: nested more than 16 deep"],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("plugin.toml");
    let error = || {
        let error = Manifest::read(&file).expect_err("not a manifest");
        let text = error.to_string();
        text.strip_prefix(&*directory.path().to_string_lossy()).unwrap_or(&text)[1..].to_owned()
    };
    assert_eq!(error(), "plugin.toml: cannot be read");
    fs::write(&file, b"name = 'x'\nentry = '\xff'").expect("a file");
    assert_eq!(error(), "plugin.toml:2:10: not UTF-8");
    fs::write(&file, " ".repeat(2 << 20)).expect("a file");
    assert_eq!(error(), "plugin.toml: is longer than 1048576 bytes");
}

#[test]
fn a_description_that_describes_nothing_is_refused() {
    let toml = "name = 'x'\nentry = 'run.py'\ndescriptions = ['x.json']";
    let with = |description| read(&[("plugin.toml", toml), ("x.json", description)]);
    expect!["plugin.toml:3:17: `x.json` does not describe an interface: not an interface description: missing field `interface` at line 1 column 2"].assert_eq(&with("{}"));
    expect!["plugin.toml:3:17: `x.json` does not describe an interface: not an interface description: key must be a string at line 2 column 2"].assert_eq(&with("\n{,"));
}
