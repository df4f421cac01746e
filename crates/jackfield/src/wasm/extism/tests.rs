//! Real modules, most of them hostile, in real stores.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use jackfield_protocol::Interface;

use super::super::engine::{EngineKey, engine};
use super::super::kind::Passed;
use super::super::{grants, trap};
use super::*;
use crate::limits::Limits;
use crate::log::PluginLog;
use crate::mechanism::{Declared, WasmSpec};

/// What a test's module begins with: the host's functions, and a few of its own.
const PRELUDE: &str = r#"
    (import "extism:host/env" "input_length" (func $input_length (result i64)))
    (import "extism:host/env" "input_load_u8" (func $input_load_u8 (param i64) (result i32)))
    (import "extism:host/env" "input_load_u64" (func $input_load_u64 (param i64) (result i64)))
    (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
    (import "extism:host/env" "free" (func $free (param i64)))
    (import "extism:host/env" "length" (func $length (param i64) (result i64)))
    (import "extism:host/env" "length_unsafe" (func $length_unsafe (param i64) (result i64)))
    (import "extism:host/env" "load_u8" (func $load_u8 (param i64) (result i32)))
    (import "extism:host/env" "load_u64" (func $load_u64 (param i64) (result i64)))
    (import "extism:host/env" "store_u8" (func $store_u8 (param i64 i32)))
    (import "extism:host/env" "store_u64" (func $store_u64 (param i64 i64)))
    (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
    (import "extism:host/env" "error_set" (func $error_set (param i64)))
    (import "extism:host/env" "config_get" (func $config_get (param i64) (result i64)))
    (import "extism:host/env" "var_get" (func $var_get (param i64) (result i64)))
    (import "extism:host/env" "var_set" (func $var_set (param i64 i64)))
    (import "extism:host/env" "http_request" (func $http_request (param i64 i64) (result i64)))
    (import "extism:host/env" "http_status_code" (func $http_status_code (result i32)))
    (import "extism:host/env" "http_headers" (func $http_headers (result i64)))
    (import "extism:host/env" "log_trace" (func $log_trace (param i64)))
    (import "extism:host/env" "log_debug" (func $log_debug (param i64)))
    (import "extism:host/env" "log_info" (func $log_info (param i64)))
    (import "extism:host/env" "log_warn" (func $log_warn (param i64)))
    (import "extism:host/env" "log_error" (func $log_error (param i64)))
    (import "extism:host/env" "get_log_level" (func $get_log_level (result i32)))
    (memory (export "memory") 1)

    ;; A block with bytes of our own memory.
    (func $put (param $at i32) (param $len i32) (result i64)
        (local $handle i64) (local $i i32)
        (local.set $handle (call $alloc (i64.extend_i32_u (local.get $len))))
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (local.get $len)))
            (call $store_u8 (i64.add (local.get $handle) (i64.extend_i32_u (local.get $i)))
                (i32.load8_u (i32.add (local.get $at) (local.get $i))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))
        (local.get $handle))
    ;; Gives a block as the output.
    (func $give (param $handle i64)
        (call $output_set (local.get $handle) (call $length (local.get $handle))))
    ;; A block with the input.
    (func $input (result i64)
        (local $handle i64) (local $len i64) (local $i i64)
        (local.set $len (call $input_length))
        (local.set $handle (call $alloc (local.get $len)))
        (block $words (loop $next
            (br_if $words (i64.gt_u (i64.add (local.get $i) (i64.const 8)) (local.get $len)))
            (call $store_u64 (i64.add (local.get $handle) (local.get $i)) (call $input_load_u64 (local.get $i)))
            (local.set $i (i64.add (local.get $i) (i64.const 8)))
            (br $next)))
        (block $done (loop $next
            (br_if $done (i64.ge_u (local.get $i) (local.get $len)))
            (call $store_u8 (i64.add (local.get $handle) (local.get $i)) (call $input_load_u8 (local.get $i)))
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br $next)))
        (local.get $handle))
"#;

/// What a module of our SDK says of itself.
const ABOUT_JSON: &str = r#"{"protocol":"1.0","plugin":{"name":"d","version":"1.2.3"},"interfaces":[{"interface":"t:t/t@1.0.0","functions":[{"name":"echo","params":[{"name":"x","type":"string"}],"result":"string"}]}]}"#;

/// A module of our SDK, by hand.
fn sdk_module(call: &str) -> String {
    let (json, len) = (ABOUT_JSON.replace('"', "\\\""), ABOUT_JSON.len());
    format!(
        r#"(module
        (memory (export "memory") 2)
        (data (i32.const 1024) "{json}")
        (func (export "jackfield_abi") (result i32) (i32.const 1))
        (func (export "jackfield_about") (result i64) (call $block (i32.const 1024) (i32.const {len})))
        (func (export "jackfield_alloc") (param i32) (result i32) (i32.const 8192))
        (func $block (param $at i32) (param $len i32) (result i64)
            (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))
        (func (export "jackfield_call")
            (param $interface i32) (param $function i32) (param $encoding i32) (param $at i32) (param $len i32)
            (result i64) {call}))"#
    )
}

/// A specification with nothing granted.
pub(in super::super) fn spec() -> Spec {
    Spec {
        name: "p".to_owned(),
        entry: PathBuf::new(),
        checked: None,
        args: Vec::new(),
        env: Vec::new(),
        limits: Limits::default(),
        cache_dir: PathBuf::new(),
        declared: Declared::default(),
        wasm: WasmSpec::default(),
        grpc: Default::default(),
        confine: Default::default(),
        log: Arc::new(PluginLog::new("p")),
    }
}

/// Compiles text.
pub(in super::super) fn compile(wat: &str) -> (Engine, Module) {
    let engine = engine(EngineKey { stack_bytes: 256 << 10, fuel: false, pooled: false }).expect("an engine");
    let bytes = wat::parse_str(wat).expect("a module");
    let module = Module::new(&engine, bytes).expect("a module");
    (engine, module)
}

/// A store for an instance.
pub(in super::super) fn store(engine: &Engine, spec: &Spec, state: State) -> Store<Guest> {
    let watch = Watch::new(Arc::new(PluginLog::new(&spec.name)), spec.limits.log_bytes_max);
    watch.begin(spec.limits.start_timeout);
    let wasi = grants::wasi(spec, &watch).expect("grants").build_p1();
    Guest::store(engine, &spec.limits, wasi, state, watch).expect("a store")
}

/// How a call ended, as a line.
pub(in super::super) fn shown(ended: Ended, watch: &Watch, timeout: Duration) -> String {
    let answer = match ended {
        Ended::Broken(error) => {
            let cause = match error.downcast_ref::<Broke>() {
                Some(Broke(cause)) => cause.clone(),
                None => trap::cause(&error, watch.take_notes(), timeout),
            };
            return format!("broken: {cause}");
        }
        Ended::Well(Err(cause)) => return cause.to_string(),
        Ended::Well(Ok(answer)) => answer,
    };
    let said = if answer.ok { "ok" } else { "own error" };
    format!("{said} {}", String::from_utf8_lossy(&answer.bytes()))
}

struct Started {
    plugin: Plugin,
    live: Live,
    about: About,
    spec: Spec,
}

async fn started(spec: Spec, wat: &str) -> Result<Started, WasmError> {
    let (engine, module) = compile(wat);
    let mut plugin = Plugin::link(&engine, &module, &spec)?;
    let store = store(&engine, &spec, plugin.state());
    let watch = Arc::clone(&store.data().watch);
    let mut live = plugin.instantiate(store).await.map_err(|error| WasmError::Start {
        cause: trap::cause(&error, watch.take_notes(), spec.limits.start_timeout),
    })?;
    let about = plugin.describe(&mut live, &spec).await?;
    Ok(Started { plugin, live, about, spec })
}

impl Started {
    async fn call(&mut self, function: &str, encoding: Encoding, arguments: &[u8]) -> String {
        let known = self.about.interfaces[0].description.as_ref().and_then(|interface| interface.function(function));
        let position = known.map(|(position, _)| u32::try_from(position).expect("few"));
        let name = FunctionName { name: function.into(), position };
        let function = self.plugin.function(0, &name).expect("a function");
        let limits = &self.spec.limits;
        let timeout = limits.call_timeout;
        self.live.watch().begin(timeout);
        let answer_bytes_max = usize::try_from(limits.answer_bytes_max).expect("a size");
        let arguments = Passed::Encoded(arguments);
        let request = Request { function, encoding, arguments, answer_bytes_max, timeout, trace: None };
        let ended = self.live.call(&request).await;
        shown(ended, &self.live.watch, timeout)
    }
}

/// Calls the export `f` of a module that begins with the prelude: what it says to `{"input": …}`.
async fn check_in(spec: Spec, rest: &str, input: &str, expected: Expect) {
    let wat = format!("(module {PRELUDE} {rest})");
    let said = match started(spec, &wat).await {
        Ok(mut started) => {
            let arguments = serde_json::json!({ "input": input }).to_string();
            started.call("f", Encoding::Json, arguments.as_bytes()).await
        }
        Err(error) => format!("not started: {error}"),
    };
    expected.assert_eq(&said);
}

async fn check(rest: &str, input: &str, expected: Expect) {
    check_in(spec(), rest, input, expected).await;
}

#[tokio::test]
async fn a_plugin_that_nobody_describes_is_called_with_text() {
    let echo = r#"(func (export "f") (result i32) (call $give (call $input)) (i32.const 0))"#;
    check(echo, "hello, é, twelve", expect![[r#"ok "hello, é, twelve""#]]).await;
    check(echo, "", expect![[r#"ok """#]]).await;
    check(echo, "odd", expect![[r#"ok "odd""#]]).await;
    let nothing = r#"(func (export "f"))"#;
    check(nothing, "x", expect![[r#"ok """#]]).await;
}

#[tokio::test]
async fn its_exports_are_an_interface() {
    let exports = r#"
        (func (export "count_vowels") (result i32) (i32.const 0))
        (func (export "setLevel"))
        (func (export "_initialize"))
        (func (export "asyncify_stop_unwind"))
        (func (export "malloc") (param i32) (result i32) (i32.const 0))"#;
    let spec = Spec { name: "count-vowels".to_owned(), ..spec() };
    let started = started(spec, &format!("(module {PRELUDE} {exports})")).await.expect("a plugin");
    let interface = started.about.interfaces[0].description.as_ref().expect("a description");
    let signatures: Vec<_> = interface.functions.iter().map(jackfield_protocol::Function::signature).collect();
    expect![[r#"
        extism:count-vowels/exports@0.0.0
        count-vowels(input: string) -> string
        set-level(input: string) -> string"#]]
    .assert_eq(&format!("{}\n{}", interface.id, signatures.join("\n")));
    assert!(!started.about.interfaces[0].binary);
}

fn greeter(descriptions: &[&str]) -> Spec {
    let descriptions = descriptions.iter().map(|json| Interface::from_json(json).expect("a description"));
    Spec { declared: Declared { descriptions: descriptions.collect(), ..Declared::default() }, ..spec() }
}

const GREETER: &str = r#"{"interface": "demo:greeter/greeter@1.0.0", "functions": [
    {"name": "greet", "result": "result<string, string>"},
    {"name": "set-level"}]}"#;

const COUNTER: &str = r#"{"interface": "demo:greeter/counter@1.0.0", "functions": [{"name": "set-level"}]}"#;

#[tokio::test]
async fn a_plugin_that_the_manifest_describes_speaks_json() {
    let exports = r#"
        (data (i32.const 0) "{\"err\": {\"tag\": \"no\"}}")
        (func (export "greet") (result i32) (call $give (call $input)) (i32.const 0))
        (func (export "setLevel") (result i32) (call $error_set (call $put (i32.const 0) (i32.const 22))) (i32.const 1))"#;
    let mut plugin = started(greeter(&[GREETER]), &format!("(module {PRELUDE} {exports})")).await.expect("a plugin");
    assert_eq!(plugin.call("greet", Encoding::Json, br#"{"name":"Ada"}"#).await, r#"ok {"name":"Ada"}"#);
    assert_eq!(plugin.call("greet", Encoding::Json, b"").await, "ok null");
    // It has no error of its own, so this is none.
    assert_eq!(plugin.call("set-level", Encoding::Json, b"{}").await, r#"refused: {"err": {"tag": "no"}}"#);
    let refused = plugin.call("greet", Encoding::Binary, b"{}").await;
    assert_eq!(refused, "refused: an Extism function takes JSON, not binary");
}

#[tokio::test]
async fn an_error_text_is_the_plugins_own_error_or_a_refusal() {
    let greet = |text: &str, code: i32| {
        let len = text.len() - text.matches('\\').count();
        let exports = format!(
            r#"(data (i32.const 0) "{text}")
            (func (export "greeter.greet") (result i32)
                (call $error_set (call $put (i32.const 0) (i32.const {len}))) (i32.const {code}))
            (func (export "set_level"))"#
        );
        format!("(module {PRELUDE} {exports})")
    };
    for (text, code, expected) in [
        (r#"{\"err\":\"no\"}"#, 1, r#"own error "no""#),
        (r#"{\"err\":null}"#, 0, "own error null"),
        (r#"{\"err\":1,\"x\":2}"#, 1, r#"refused: {"err":1,"x":2}"#),
        ("out of cheese", 0, "refused: out of cheese"),
    ] {
        let mut plugin = started(greeter(&[GREETER]), &greet(text, code)).await.expect("a plugin");
        assert_eq!(plugin.call("greet", Encoding::Json, b"{}").await, expected);
    }
    check(
        r#"(func (export "f") (result i32) (i32.const 7))"#,
        "",
        expect!["refused: it returned 7, without an error text"],
    )
    .await;
}

#[tokio::test]
async fn every_function_of_a_description_must_be_exported() {
    let refused = async |descriptions: &[&str], exports: &str| {
        let started = started(greeter(descriptions), &format!("(module {PRELUDE} {exports})")).await;
        started.err().map_or_else(|| "started".to_owned(), |error| error.to_string())
    };
    let greet = r#"(func (export "greet"))"#;
    expect!["`set-level` of `demo:greeter/greeter@1.0.0` is not exported as `set_level` or `greeter.set_level`; it exports `greet`"]
        .assert_eq(&refused(&[GREETER], greet).await);
    expect!["`set-level` of `demo:greeter/greeter@1.0.0` is exported as `set_level: (i32) -> i64`, and an Extism function takes nothing and gives nothing or an i32"]
        .assert_eq(&refused(&[GREETER], &format!(r#"{greet} (func (export "set_level") (param i32) (result i64) (i64.const 0))"#)).await);
    // Whose it is, its name alone does not say.
    expect!["`set-level` of `demo:greeter/greeter@1.0.0` is not exported as `greeter.set_level`; it exports `greet`, `set_level`"]
        .assert_eq(&refused(&[GREETER, COUNTER], &format!(r#"{greet} (func (export "set_level"))"#)).await);
    let both = format!(r#"{greet} (func (export "greeter.set_level")) (func (export "counter.setLevel"))"#);
    expect!["started"].assert_eq(&refused(&[GREETER, COUNTER], &both).await);
}

#[tokio::test]
async fn an_interface_without_a_description_is_called_by_name() {
    let declared =
        Declared { interfaces: vec!["demo:greeter/greeter@1.0.0".parse().expect("an id")], ..Declared::default() };
    let spec = Spec { declared, ..spec() };
    let exports = r#"(func (export "say_it") (result i32) (call $give (call $input)) (i32.const 0))"#;
    let mut plugin = started(spec, &format!("(module {PRELUDE} {exports})")).await.expect("a plugin");
    assert_eq!(plugin.call("say-it", Encoding::Json, b"[1]").await, "ok [1]");
    assert_eq!(plugin.plugin.function(0, &FunctionName { name: "nothing".into(), position: None }), None);
    assert_eq!(plugin.plugin.function(1, &FunctionName { name: "say-it".into(), position: None }), None);
}

#[tokio::test]
async fn what_it_imports_and_nobody_offers_is_named() {
    let missing = async |imports: &str| {
        let wat = format!(r#"(module {imports} (memory (export "memory") 1) (func (export "f")))"#);
        started(spec(), &wat).await.err().map(|error| error.to_string()).unwrap_or_default()
    };
    expect!["it imports what this host does not offer: `hello` of `extism:host/user`, `later` of `extism:host/env`; functions of `extism:host/user` are an application's own, and this one has none; the plugin was built for a later Extism than this host knows"]
        .assert_eq(&missing(r#"
            (import "extism:host/user" "hello" (func (param i64) (result i64)))
            (import "extism:host/env" "alloc" (func (param i64) (result i64)))
            (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
            (import "extism:host/env" "later" (func))"#).await);
    expect!["it imports what this host does not offer: `abort` of `env`; `abort` is AssemblyScript's: compile with `--use abort=`"]
        .assert_eq(&missing(r#"(import "env" "abort" (func (param i32 i32 i32 i32)))"#).await);
    let wrong_type = missing(r#"(import "extism:host/env" "alloc" (func (param i32) (result i32)))"#).await;
    assert!(wrong_type.contains("incompatible import type for `extism:host/env::alloc`"), "{wrong_type}");
    let wrong_type = missing(r#"(import "extism:host/env" "load_u64" (func (param i32) (result i64)))"#).await;
    assert!(wrong_type.contains("incompatible import type for `extism:host/env::load_u64`"), "{wrong_type}");
}

#[tokio::test]
async fn what_it_says_of_memory_is_checked() {
    let f = |body: &str| format!(r#"(func (export "f") (result i32) {body} (i32.const 0))"#);
    check(
        &f("(drop (call $load_u64 (i64.const -8)))"),
        "",
        expect!["broken: the plugin crashed: 8 bytes at offset 18446744073709551608 are not within the 0 bytes of Extism memory, at function 28"],
    )
    .await;
    check(
        &f("(call $store_u8 (i64.const 0) (i32.const 1))"),
        "",
        expect!["broken: the plugin crashed: 1 bytes at offset 0 are not within the 0 bytes of Extism memory, at function 28"],
    )
    .await;
    check(
        &f("(drop (call $input_load_u64 (i64.const 1)))"),
        "12345678",
        expect!["broken: the plugin crashed: 8 bytes at 1 are not within the 8 bytes of input, at function 28"],
    )
    .await;
    check(
        &f("(call $output_set (call $alloc (i64.const 8)) (i64.const -1))"),
        "",
        expect!["broken: the plugin crashed: 18446744073709551615 bytes at offset 40 are not within the 8 bytes of Extism memory, at function 28"],
    )
    .await;
    check(
        &f("(call $error_set (i64.const 77))"),
        "",
        expect!["broken: the plugin crashed: `error_set` got 77, which is no block, at function 28"],
    )
    .await;
    // What is no handle is let be, as elsewhere.
    check(
        &f("(call $free (i64.const 77)) (call $log_info (i64.const -1)) (call $var_set (i64.const 5) (i64.const 5))"),
        "",
        expect![[r#"ok """#]],
    )
    .await;
}

#[tokio::test]
async fn a_guest_writes_to_no_header_and_to_no_input() {
    for (store, at) in ["store_u8", "store_u64"].into_iter().flat_map(|store| (0..56).map(move |at| (store, at))) {
        let (ty, width) = if store == "store_u8" { ("i32", 1) } else { ("i64", 8) };
        let exports = format!(
            r#"(func (export "f") (result i32)
                (drop (call $alloc (i64.const 64))) (call ${store} (i64.const {at}) ({ty}.const -1)) (i32.const 0))"#
        );
        let expected = format!(
            "broken: the plugin crashed: {width} bytes at offset {at} are not within the 64 bytes of Extism memory, at function 28"
        );
        // The header has 40 bytes, and the input 16.
        let mut plugin = started(spec(), &format!("(module {PRELUDE} {exports})")).await.expect("a plugin");
        assert_eq!(plugin.call("f", Encoding::Json, br#"{"input":"0123456789abcdef"}"#).await, expected);
    }
}

#[tokio::test]
async fn a_call_sees_nothing_of_the_call_before() {
    // Gives as many zeros as its input says in one digit of thousands, and leaves something in their place.
    let exports = r#"(func (export "f") (result i32)
        (local $block i64) (local $at i64) (local $seen i64) (local $len i64)
        (local.set $len (i64.mul (i64.sub (i64.extend_i32_u (call $input_load_u8 (i64.const 0))) (i64.const 48)) (i64.const 1000)))
        (local.set $block (call $alloc (local.get $len)))
        (block $done (loop $next
            (br_if $done (i64.ge_u (local.get $at) (local.get $len)))
            (local.set $seen (i64.or (local.get $seen) (call $load_u64 (i64.add (local.get $block) (local.get $at)))))
            (call $store_u64 (i64.add (local.get $block) (local.get $at)) (i64.const -1))
            (local.set $at (i64.add (local.get $at) (i64.const 8)))
            (br $next)))
        (i64.ne (local.get $seen) (i64.const 0)))"#;
    let mut plugin = started(spec(), &format!("(module {PRELUDE} {exports})")).await.expect("a plugin");
    for (thousands, more) in [(9, 0), (1, 0), (9, 0), (3, 5000), (9, 0), (2, 90_000), (9, 3)] {
        let arguments = serde_json::json!({ "input": format!("{thousands}{}", "x".repeat(more)) }).to_string();
        assert_eq!(plugin.call("f", Encoding::Json, arguments.as_bytes()).await, r#"ok """#, "{thousands} {more}");
    }
}

#[tokio::test]
async fn extisms_memory_takes_nothing_of_what_the_guests_own_may_have() {
    // The page of the prelude is all that is allowed.
    let limits = Limits { memory_bytes_max: 64 << 10, ..Limits::default() };
    let spec = Spec { limits, ..spec() };
    let echo = r#"(func (export "f") (result i32) (call $give (call $input)) (i32.const 0))"#;
    let long = "x".repeat(60_000);
    let mut plugin = started(spec.clone(), &format!("(module {PRELUDE} {echo})")).await.expect("a plugin");
    let arguments = serde_json::json!({ "input": long }).to_string();
    let said = plugin.call("f", Encoding::Json, arguments.as_bytes()).await;
    assert!(said == format!(r#"ok "{long}""#), "{} bytes", said.len());
    let grow = r#"(func (export "f") (result i32)
        (drop (call $input))
        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable))) (i32.const 0))"#;
    check_in(spec, grow, &long, expect!["broken: limit `memory`: it wanted 131072 bytes of memory of 65536 allowed"])
        .await;
}

#[tokio::test]
async fn the_pool_holds_as_many_plugins_with_a_kernel_as_without() {
    // No other test has this pool.
    let engine = engine(EngineKey { stack_bytes: 200 << 10, fuel: false, pooled: true }).expect("an engine");
    let echo = r#"(func (export "f") (result i32) (call $give (call $input)) (i32.const 0))"#;
    let spec = spec();
    for kernel in [true, false] {
        let wat = match kernel {
            true => format!("(module {PRELUDE} {echo})"),
            false => r#"(module (memory (export "memory") 1) (func (export "f")))"#.to_owned(),
        };
        let module = Module::new(&engine, wat::parse_str(wat).expect("a module")).expect("a module");
        let mut plugin = Plugin::link(&engine, &module, &spec).expect("a plugin");
        let mut all = Vec::new();
        for _ in 0..512 {
            let made = plugin.instantiate(store(&engine, &spec, plugin.state())).await;
            all.push(made.map_err(|error| format!("{}: {error:#}", all.len())).expect("room"));
        }
        if kernel {
            let full = plugin.instantiate(store(&engine, &spec, plugin.state())).await.err().expect("no room");
            assert!(format!("{full:#}").contains("concurrent"), "{full:#}");
        }
        let mut live = all.pop().expect("one");
        let about = plugin.describe(&mut live, &spec).await.expect("described");
        let expected = if kernel { r#"ok "hello""# } else { r#"ok """# };
        let mut last = Started { plugin, live, about, spec: spec.clone() };
        assert_eq!(last.call("f", Encoding::Json, br#"{"input":"hello"}"#).await, expected);
    }
}

#[tokio::test]
async fn the_hosts_memory_is_bounded_by_the_plugins_limit() {
    let limits = Limits { memory_bytes_max: 1 << 20, ..Limits::default() };
    for wanted in ["-1", "0x7fffffffffffffff", "0x100000"] {
        // Given none, it traps, and then the limit is the reason.
        let exports = format!(
            r#"(func (export "f") (result i32)
                (if (i64.eqz (call $alloc (i64.const {wanted}))) (then (unreachable))) (i32.const 0))"#
        );
        let wat = format!("(module {PRELUDE} {exports})");
        let mut plugin = started(Spec { limits: limits.clone(), ..spec() }, &wat).await.expect("a plugin");
        let said = plugin.call("f", Encoding::Json, br#"{"input":""}"#).await;
        assert!(
            said.starts_with("broken: limit `memory`: it wanted ") && said.ends_with("which has 1048576 at most"),
            "{said}"
        );
    }
    // It survives where it does not mind, and its room is new for each call.
    let exports = r#"(func (export "f") (result i32)
        (drop (call $alloc (i64.const 900000))) (call $give (call $alloc (i64.const 4))) (i32.const 0))"#;
    let wat = format!("(module {PRELUDE} {exports})");
    let mut plugin = started(Spec { limits, ..spec() }, &wat).await.expect("a plugin");
    for _ in 0..3 {
        assert_eq!(plugin.call("f", Encoding::Json, br#"{"input":""}"#).await, r#"ok "\u0000\u0000\u0000\u0000""#);
    }
}

#[tokio::test]
async fn an_answer_is_bounded_and_is_text() {
    let limits = Limits { answer_bytes_max: 8, ..Limits::default() };
    let spec = Spec { limits, ..spec() };
    let echo = r#"(func (export "f") (result i32) (call $give (call $input)) (i32.const 0))"#;
    check_in(spec.clone(), echo, "12345678", expect![[r#"ok "12345678""#]]).await;
    check_in(spec.clone(), echo, "123456789", expect!["limit `answer_bytes`: the answer is 9 bytes of 8 allowed"])
        .await;
    let error = r#"(func (export "f") (result i32) (call $error_set (call $input)) (i32.const 0))"#;
    check_in(spec, error, "123456789", expect!["limit `answer_bytes`: the answer is 9 bytes of 8 allowed"]).await;
    let no_text = r#"(data (i32.const 0) "ok\ff")
        (func (export "f") (result i32) (call $give (call $put (i32.const 0) (i32.const 3))) (i32.const 0))"#;
    check(no_text, "", expect!["the plugin broke the protocol: its output is not text: byte 2 is not UTF-8"]).await;
    let no_text = r#"(data (i32.const 0) "ok\ff")
        (func (export "f") (result i32)
            (call $log_error (call $put (i32.const 0) (i32.const 3)))
            (call $error_set (call $put (i32.const 0) (i32.const 3))) (i32.const 0))"#;
    check(no_text, "", expect!["refused: ok\u{fffd}"]).await;
}

#[tokio::test]
async fn configuration_is_read_by_key_and_variables_stay() {
    let mut spec = spec();
    spec.wasm.config.insert("greeting".to_owned(), "Salom".to_owned());
    let config = r#"(func (export "f") (result i32) (call $give (call $config_get (call $input))) (i32.const 0))"#;
    check_in(spec.clone(), config, "greeting", expect![[r#"ok "Salom""#]]).await;
    check_in(spec, config, "absent", expect![[r#"ok """#]]).await;
    // Gives what it was given the last time, and keeps what it is given now.
    let last = r#"(data (i32.const 0) "last")
        (func (export "f") (result i32)
            (call $give (call $var_get (call $put (i32.const 0) (i32.const 4))))
            (call $var_set (call $put (i32.const 0) (i32.const 4)) (call $input)) (i32.const 0))"#;
    let mut plugin = started(self::spec(), &format!("(module {PRELUDE} {last})")).await.expect("a plugin");
    assert_eq!(plugin.call("f", Encoding::Json, br#"{"input":"one"}"#).await, r#"ok """#);
    assert_eq!(plugin.call("f", Encoding::Json, br#"{"input":"two"}"#).await, r#"ok "one""#);
    assert_eq!(plugin.call("f", Encoding::Json, br#"{"input":"three"}"#).await, r#"ok "two""#);
    let much = r#"(func (export "f") (result i32)
        (call $var_set (call $alloc (i64.const 1)) (call $alloc (i64.const 1048576))) (i32.const 0))"#;
    check(
        much,
        "",
        expect!["broken: the plugin crashed: Variable store is full: 1048577 bytes of 1048576 allowed, at function 28"],
    )
    .await;
}

#[tokio::test]
async fn what_it_logs_is_shown_when_it_fails() {
    let exports = r#"(data (i32.const 0) "one\ntwo")
        (func (export "f") (result i32)
            (call $log_warn (call $put (i32.const 0) (i32.const 7)))
            (if (i32.gt_u (call $get_log_level) (i32.const 2)) (then (return (i32.const 1))))
            (unreachable))"#;
    check(
        exports,
        "",
        expect![[r#"broken: the plugin crashed: wasm trap: wasm `unreachable` instruction executed, at function 28; it said last: "one\ntwo""#]],
    )
    .await;
    let panicked = r#"(data (i32.const 0) "panicked at src/lib.rs:7:5: no cheese")
        (func (export "f") (result i32) (call $log_error (call $put (i32.const 0) (i32.const 37))) (unreachable))"#;
    check(panicked, "", expect!["broken: the plugin panicked: no cheese (src/lib.rs:7:5)"]).await;
}

#[tokio::test]
async fn initialisers_run_once_and_in_order() {
    let trace = r#"
        (global $seen (mut i32) (i32.const 0))
        (func $see (param i32) (global.set $seen (i32.add (i32.mul (global.get $seen) (i32.const 10)) (local.get 0))))
        (func (export "f") (result i32) (global.get $seen))"#;
    let initialize = r#"(func (export "_initialize") (call $see (i32.const 1)))"#;
    let constructors = r#"(func (export "__wasm_call_ctors") (call $see (i32.const 2)))"#;
    let haskell = r#"(func (export "hs_init") (param i32 i32) (call $see (i32.const 3)))"#;
    for (initialisers, seen) in [
        (initialize.to_owned(), 1),
        (constructors.to_owned(), 2),
        (format!("{initialize} {constructors}"), 2),
        (format!("{initialize} {haskell}"), 13),
        (format!("{constructors} {haskell}"), 3),
        (r#"(func (export "_initialize") (result i32) (unreachable))"#.to_owned(), 0),
    ] {
        let mut plugin =
            started(spec(), &format!("(module {PRELUDE} {trace} {initialisers})")).await.expect("a plugin");
        for _ in 0..2 {
            let said = plugin.call("f", Encoding::Json, br#"{"input":""}"#).await;
            let expected = match seen {
                0 => r#"ok """#.to_owned(),
                _ => format!("refused: it returned {seen}, without an error text"),
            };
            assert_eq!(said, expected, "{initialisers}");
        }
    }
}

#[tokio::test]
async fn a_start_that_does_not_end_is_ended() {
    let limits = Limits { start_timeout: Duration::from_millis(50), ..Limits::default() };
    let spec = Spec { limits, ..spec() };
    let forever = r#"(func (export "_initialize") (loop $again (br $again))) (func (export "f"))"#;
    check_in(spec, forever, "", expect!["not started: its start failed: no answer after 50ms"]).await;
}

#[tokio::test]
async fn a_program_is_run_once() {
    // Imports stand before what is defined.
    let wat = format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) {PRELUDE}
            (func (export "_start") (call $give (call $input)) (call $exit (i32.const 0)))
            (func (export "fails") (call $exit (i32.const 3))))"#
    );
    let mut plugin = started(spec(), &wat).await.expect("a plugin");
    assert!(!plugin.live.spent());
    assert_eq!(plugin.call("start", Encoding::Json, br#"{"input":"x"}"#).await, r#"ok "x""#);
    assert!(plugin.live.spent());
    let mut plugin = started(spec(), &wat).await.expect("a plugin");
    let said = plugin.call("fails", Encoding::Json, br#"{"input":"x"}"#).await;
    assert_eq!(said, "broken: the plugin crashed: it ended with exit code 3");
}

async fn direct(call: &str) -> Result<Started, WasmError> {
    started(spec(), &sdk_module(call)).await
}

#[tokio::test]
async fn a_module_of_the_sdk_says_what_it_is_and_is_called_directly() {
    // Its answer is its arguments, behind the status.
    let echo = r#"
        (i32.store (i32.const 4096) (i32.const 0))
        (memory.copy (i32.const 4100) (local.get $at) (local.get $len))
        (call $block (i32.const 4096) (i32.add (local.get $len) (i32.const 4)))"#;
    let mut plugin = direct(echo).await.expect("a plugin");
    let About { name, version, interfaces, speaks, .. } = &plugin.about;
    assert_eq!((&**name, &**version, &**speaks), ("d", "1.2.3", "Extism ABI, guest ABI 1"));
    assert!(interfaces[0].binary);
    assert_eq!(plugin.call("echo", Encoding::Binary, b"\x05hello").await, "ok \u{5}hello");
    assert_eq!(plugin.call("echo", Encoding::Binary, b"").await, "ok ");
    // It has no export for it, so JSON goes the same way.
    assert_eq!(plugin.call("echo", Encoding::Json, br#"{"x":"hello"}"#).await, r#"ok {"x":"hello"}"#);
}

#[tokio::test]
async fn what_a_module_of_the_sdk_claims_is_checked() {
    let said = async |call: &str| {
        let mut plugin = direct(call).await.expect("a plugin");
        plugin.call("echo", Encoding::Binary, b"\x05hello").await
    };
    for (call, expected) in [
        (
            "(i64.const -1)",
            "broken: the plugin broke the protocol: it gave 4294967295 bytes at 4294967295, which are not within its memory of 131072 bytes",
        ),
        (
            "(call $block (i32.const 131072) (i32.const 4))",
            "broken: the plugin broke the protocol: it gave 4 bytes at 131072, which are not within its memory of 131072 bytes",
        ),
        (
            "(call $block (i32.const 131070) (i32.const 4))",
            "broken: the plugin broke the protocol: it gave 4 bytes at 131070, which are not within its memory of 131072 bytes",
        ),
        ("(i64.const 0)", "broken: the plugin broke the protocol: its answer has 0 bytes, and the status alone has 4"),
        (
            "(i32.store (i32.const 0) (i32.const 77)) (call $block (i32.const 0) (i32.const 4))",
            "broken: the plugin broke the protocol: it answered with status 77",
        ),
        ("(i32.store (i32.const 0) (i32.const 1)) (call $block (i32.const 0) (i32.const 5))", "own error \0"),
        (
            "(i32.store (i32.const 0) (i32.const 2)) (call $block (i32.const 0) (i32.const 4))",
            "the plugin has no such function",
        ),
        (
            "(i32.store (i32.const 0) (i32.const 0x2121_0003)) (i32.store16 (i32.const 2) (i32.const 0)) (i32.store (i32.const 4) (i32.const 0x216f6e)) (call $block (i32.const 0) (i32.const 7))",
            "refused: no!",
        ),
        (
            "(i32.store (i32.const 0) (i32.const 6)) (i32.store (i32.const 4) (i32.const 0x216f6e)) (call $block (i32.const 0) (i32.const 7))",
            "refused: it could not answer: no!",
        ),
    ] {
        assert_eq!(said(call).await, expected, "{call}");
    }
    let len = ABOUT_JSON.len();
    let (good, shorter) = (format!("(i32.const {len})"), format!("(i32.const {})", len - 1));
    for (truth, lie, expected) in [
        ("(i32.const 1))", "(i32.const 2))", "it speaks guest ABI 2, this host speaks 1"),
        (&good, "(i32.const -1)", "it gave 4294967295 bytes at 1024, which are not within its memory of 131072 bytes"),
        (&good, &shorter, "what it says of itself cannot be read: EOF while parsing an object at line 1 column"),
        (&good, "(i32.const 0)", "it cannot say what it is; it said last: \"\""),
        ("1.0\\\"", "2.0\\\"", "it speaks protocol 2.0, this host speaks 1.0"),
        ("t:t/t@1.0.0", "1:t/t@1.0.0", "each part is kebab-case"),
    ] {
        let wat = sdk_module("(i64.const 0)").replacen(truth, lie, 1);
        let error = started(spec(), &wat).await.err().expect("a lie").to_string();
        assert!(error.contains(expected), "{error}");
    }
    // Room that is not there.
    let wat = sdk_module("(i64.const 0)").replacen("(i32.const 8192)", "(i32.const 131068)", 1);
    let mut plugin = started(spec(), &wat).await.expect("a plugin");
    assert_eq!(
        plugin.call("echo", Encoding::Binary, b"\x05hello").await,
        "broken: the plugin broke the protocol: it gave room at 131068 for 6 bytes, which is not within its memory"
    );
    let mut short = spec();
    short.limits.answer_bytes_max = 200;
    let wat = sdk_module("(call $block (i32.const 0) (i32.const 205))");
    let mut plugin = started(short, &wat).await.expect("a plugin");
    assert_eq!(
        plugin.call("echo", Encoding::Binary, b"").await,
        "limit `answer_bytes`: the answer is 201 bytes of 200 allowed"
    );
}

mod user;

#[cfg(not(feature = "wasm-http"))]
#[tokio::test]
async fn a_host_without_http_says_so() {
    let get =
        r#"(func (export "f") (result i32) (drop (call $http_request (call $input) (i64.const 0))) (i32.const 0))"#;
    check(
        get,
        "{}",
        expect!["broken: refused: it makes an HTTP request, and this host was built without the feature `wasm-http`"],
    )
    .await;
}

#[cfg(feature = "wasm-http")]
mod http {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Asks for what its input says; gives the body, and behind it the headers if the status is 201.
    const GET: &str = r#"(func (export "f") (result i32)
        (local $body i64)
        (local.set $body (call $http_request (call $input) (i64.const 0)))
        (if (i32.eq (call $http_status_code) (i32.const 201)) (then (local.set $body (call $http_headers))))
        (if (i32.eq (call $http_status_code) (i32.const 404)) (then (return (i32.const 404))))
        (call $give (local.get $body)) (i32.const 0))"#;

    /// A server on this machine, for as long as the test runs. Gives its port.
    fn serve() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer(stream, port));
            }
        });
        port
    }

    fn answer(mut stream: TcpStream, port: u16) {
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).expect("the body");
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (status, headers, body) = match path {
            "/hello" => ("200 OK", String::new(), b"hello".to_vec()),
            "/headers" => ("201 Created", "X-One: 1\r\nX-One: 2\r\n".to_owned(), b"x".to_vec()),
            "/none" => ("404 Not Found", String::new(), b"none".to_vec()),
            "/big" => ("200 OK", String::new(), vec![b'x'; 1 << 20]),
            "/echo" => (
                "200 OK",
                String::new(),
                [head.split("\r\n").next().unwrap_or_default().as_bytes(), b" ", &body].concat(),
            ),
            "/here" => ("302 Found", format!("Location: http://127.0.0.1:{port}/hello\r\n"), Vec::new()),
            "/round" => ("302 Found", "Location: /round\r\n".to_owned(), Vec::new()),
            "/there" => ("302 Found", format!("Location: http://localhost:{port}/hello\r\n"), Vec::new()),
            "/slow" => {
                // Until the other side has gone.
                let _ = reader.read(&mut [0]);
                return;
            }
            _ => return,
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }

    fn granted(port: u16) -> Spec {
        let mut spec = spec();
        spec.wasm.grants.hosts = vec![format!("127.0.0.1:{port}")];
        spec
    }

    async fn get(spec: Spec, request: &str) -> String {
        let mut plugin = started(spec, &format!("(module {PRELUDE} {GET})")).await.expect("a plugin");
        let arguments = serde_json::json!({ "input": request }).to_string();
        plugin.call("f", Encoding::Json, arguments.as_bytes()).await
    }

    fn url(port: u16, path: &str) -> String {
        format!(r#"{{"url": "http://127.0.0.1:{port}{path}"}}"#)
    }

    #[tokio::test]
    async fn a_granted_host_answers() {
        let port = serve();
        assert_eq!(get(granted(port), &url(port, "/hello")).await, r#"ok "hello""#);
        assert_eq!(get(granted(port), &url(port, "/here")).await, r#"ok "hello""#);
        assert_eq!(get(granted(port), &url(port, "/none")).await, "refused: it returned 404, without an error text");
        let headers = get(granted(port), &url(port, "/headers")).await;
        assert!(headers.contains(r#"\"x-one\":\"1, 2\""#), "{headers}");
        let posted =
            format!(r#"{{"url": "http://127.0.0.1:{port}/echo", "method": "put", "headers": {{"X-Y": "z"}}}}"#);
        assert_eq!(get(granted(port), &posted).await, r#"ok "PUT /echo HTTP/1.1 ""#);
    }

    #[tokio::test]
    async fn a_body_is_sent() {
        let port = serve();
        let request = format!(r#"{{\"url\":\"http://127.0.0.1:{port}/echo\",\"method\":\"POST\"}}"#);
        let len = request.len() - request.matches('\\').count();
        let exports = format!(
            r#"(data (i32.const 0) "{request}")
            (func (export "f") (result i32)
                (call $give (call $http_request (call $put (i32.const 0) (i32.const {len})) (call $input))) (i32.const 0))"#
        );
        check_in(granted(port), &exports, "the body", expect![[r#"ok "POST /echo HTTP/1.1 the body""#]]).await;
    }

    #[tokio::test]
    async fn a_host_that_is_not_granted_is_named() {
        let port = serve();
        let said = get(spec(), r#"{"url": "https://example.org/x"}"#).await;
        expect!["broken: refused: it may not reach `example.org:443`: grant it in the manifest by `net.hosts` in `[sandbox]`"].assert_eq(&said);
        // Nor by a redirect.
        let said = get(granted(port), &url(port, "/there")).await;
        assert!(said.contains(&format!("it may not reach `localhost:{port}`")), "{said}");
        let said = get(granted(port), &url(port, "/round")).await;
        assert!(said.contains("/round: more than 10 redirects"), "{said}");
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_made_ends_the_call() {
        let port = serve();
        for (request, expected) in [
            ("hello", "the request cannot be read: expected value at line 1 column 1"),
            (r#"{"url": "/x"}"#, "the request cannot be read: `/x` has no host"),
            (r#"{"url": "http://a/", "headers": {"a\nb": "x"}}"#, r#"the request cannot be read: header "a\nb": "x""#),
            (
                r#"{"url": "http://a/", "headers": {"a": "x\r\ny: z"}}"#,
                r#"the request cannot be read: header "a": "x\r\ny: z""#,
            ),
        ] {
            let said = get(granted(port), request).await;
            assert!(said.contains(expected), "{said}");
        }
        // A port that nobody listens at.
        let closed =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let said = get(granted(closed), &url(closed, "/hello")).await;
        assert!(said.contains(&format!("GET http://127.0.0.1:{closed}/hello: ")), "{said}");
    }

    #[tokio::test]
    async fn a_response_is_bounded() {
        let port = serve();
        let mut spec = granted(port);
        spec.limits.answer_bytes_max = 1000;
        let said = get(spec, &url(port, "/big")).await;
        assert!(said.contains("the response is longer than 1000 bytes"), "{said}");
    }

    #[tokio::test]
    async fn a_slow_server_has_the_time_of_the_call() {
        let port = serve();
        let mut spec = granted(port);
        spec.limits.call_timeout = Duration::from_millis(100);
        assert_eq!(get(spec, &url(port, "/slow")).await, "broken: no answer after 100ms");
    }
}
