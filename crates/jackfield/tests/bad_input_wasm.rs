//! WebAssembly that is broken, hostile or not what it should be: each is refused, or fails one call, and
//! says why; the host and the other plugins go on.

#![cfg(feature = "wasm")]

mod suite;

use std::future::Future as _;
use std::task::Poll;
use std::time::Duration;

use jackfield::{CallOptions, Host, Plugin};
use serde_json::{Value, json};

use suite::{Plugins, ended, in_time, refused, says};

/// A good plugin, to see that the others do not hurt it.
const MATH: &str =
    r#"(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;

async fn host(plugins: &Plugins) -> Host {
    plugins.add_wat("math", MATH, "");
    let host = plugins.host().await;
    assert_eq!(host.plugin("math").expect("math").call("add", json!([2, 3])).await, Ok(json!(5)));
    host
}

async fn call(plugin: &Plugin, function: &str) -> String {
    ended(in_time(plugin.call(function, json!({"input": "x"}))).await)
}

// ---- Refused at load ----------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_plugin_are_refused_with_what_was_seen() {
    let plugins = Plugins::new();
    let good = wat::parse_str(MATH).expect("a module");
    let mut later = good.clone();
    later[4] = 2;
    let (half, broken) = (good[..good.len() / 2].to_vec(), [&good[..], b"\xff\xff\xff"].concat());
    let cases: [(&str, &[u8], &[&str]); 10] = [
        ("empty", b"", &["the file is empty"]),
        ("short", b"\0asm", &["the file is cut off: it has 4 bytes"]),
        ("text", b"milk, bread, eggs\n", &["not WebAssembly, but text that begins with \"milk, br\""]),
        ("wat", b"(module)          ", &["not WebAssembly, but text"]),
        ("elf", b"\x7fELF\x02\x01\x01\0\0\0\0\0", &["not WebAssembly, but a library or program (ELF)"]),
        ("noise", b"\xde\xad\xbe\xef\xde\xad\xbe\xef\x80", &["it begins with de ad be ef"]),
        ("tomorrow", &later, &["version 02 00 00 00, which this host does not know"]),
        ("half", &half, &["unexpected end"]),
        ("broken", &broken, &["the compiler refuses it"]),
        ("nothing", b"\0asm\x01\0\0\0", &["neither a component", "it exports nothing and imports from nothing"]),
    ];
    for (name, bytes, _) in cases {
        plugins.add_wasm(name, bytes, "");
    }
    plugins.add_wasm("large", &good, "[limits]\nmodule_bytes = 16");
    let host = host(&plugins).await;
    for (name, _, parts) in cases {
        says(&refused(&host, name), parts);
    }
    says(&refused(&host, "large"), &["limit `module_bytes`: the file is longer than 16 bytes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_unknown_import_is_named_with_what_would_grant_it() {
    let plugins = Plugins::new();
    plugins.add_wat(
        "wants",
        r#"(module
            (import "env" "fork" (func))
            (import "env" "telephone" (func (param i32)))
            (func (export "f") (result i32) (i32.const 0)))"#,
        "",
    );
    plugins.add_wat(
        "user",
        r#"(module (import "extism:host/user" "kv_read" (func (param i64) (result i64))) (func (export "f") (result i32) (i32.const 0)))"#,
        "",
    );
    plugins.add_wat(
        "component",
        r#"(component (import "acme:db/sql@1.0.0" (instance (export "query" (func (param "q" string) (result string))))))"#,
        "",
    );
    let host = host(&plugins).await;
    says(&refused(&host, "wants"), &["it imports what this host does not offer", "env", "fork", "telephone"]);
    says(&refused(&host, "user"), &["extism:host/user", "kv_read"]);
    says(&refused(&host, "component"), &["acme:db/sql@1.0.0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_traps_loops_or_eats_memory_is_refused_in_time() {
    let plugins = Plugins::new();
    let with_start = |start: &str| {
        format!(
            r#"(module (memory (export "memory") 1)
                (func $start {start}) (start $start)
                (func (export "f") (result i32) (i32.const 0)))"#
        )
    };
    plugins.add_wat("traps", &with_start("unreachable"), "");
    plugins.add_wat("loops", &with_start("(loop (br 0))"), "[limits]\nstart_timeout = \"200ms\"");
    let grow = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    plugins.add_wat("grows", &with_start(grow), "[limits]\nmemory = \"8MiB\"");
    plugins.add_wat("huge", r#"(module (memory 65536) (func (export "f") (result i32) (i32.const 0)))"#, "");
    let recursion =
        r#"(module (func $f (call $f) (call $f)) (start $f) (func (export "f") (result i32) (i32.const 0)))"#;
    plugins.add_wat("recurses", recursion, "");
    let host = host(&plugins).await;
    says(&refused(&host, "traps"), &["its start failed: the plugin crashed: wasm trap: wasm `unreachable`"]);
    says(&refused(&host, "loops"), &["its start failed: no answer after 200ms"]);
    says(&refused(&host, "grows"), &["its start failed: limit `memory`", "of 8388608 allowed"]);
    says(&refused(&host, "huge"), &["its start failed: limit `memory`", "of 268435456 allowed"]);
    says(&refused(&host, "recurses"), &["its start failed: limit `stack`"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_of_another_interface_is_refused_with_both_sides() {
    let greeter = |ty: &str| {
        format!(
            r#"(component
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                    (func (export "greet") (param i32 i32) (result i32) (i32.const 16)))
                (core instance $i (instantiate $m))
                (func $greet (param "name" string) (result {ty})
                    (canon lift (core func $i "greet") (memory (core memory $i "memory"))
                        (realloc (core func $i "realloc"))))
                (instance $greeter (export "greet" (func $greet)))
                (export "demo:greeter/greeter@1.0.0" (instance $greeter)))"#
        )
    };
    let plugins = Plugins::new();
    plugins.add_wat("other-type", &greeter("(list u32)"), "");
    plugins.add_wat("declared", &greeter("string"), "interfaces = [\"demo:greeter/farewell@1.0.0\"]");
    let host = host(&plugins).await;
    let error = host.get::<dyn greeter_api::Greeter>("other-type").expect_err("another type").to_string();
    says(&error, &["`greet() result`", "result<string, greet-error>", "list<u32>"]);
    says(&refused(&host, "declared"), &["demo:greeter/farewell@1.0.0", "demo:greeter/greeter@1.0.0"]);
}

// ---- Failing one call ---------------------------------------------------------------------------

/// An Extism plugin each of whose exports lies in its own way.
const LIAR: &str = r#"(module
    (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
    (import "extism:host/env" "load_u8" (func $load_u8 (param i64) (result i32)))
    (import "extism:host/env" "store_u64" (func $store_u64 (param i64 i64)))
    (import "extism:host/env" "input_load_u64" (func $input_load_u64 (param i64) (result i64)))
    (import "extism:host/env" "length" (func $length (param i64) (result i64)))
    (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
    (import "extism:host/env" "error_set" (func $error_set (param i64)))
    (import "extism:host/env" "log_info" (func $log_info (param i64)))
    (memory (export "memory") 1)
    (func (export "fine") (result i32) (i32.const 0))
    (func (export "far_output") (result i32) (call $output_set (i64.const 4096) (i64.const 1099511627776)) (i32.const 0))
    (func (export "negative_output") (result i32) (call $output_set (i64.const 8) (i64.const -1)) (i32.const 0))
    (func (export "far_load") (result i32) (call $load_u8 (i64.const -8)))
    (func (export "far_store") (result i32) (call $store_u64 (i64.const 9223372036854775800) (i64.const 7)) (i32.const 0))
    (func (export "far_input") (result i32) (drop (call $input_load_u64 (i64.const 1000000))) (i32.const 0))
    (func (export "no_handle") (result i32) (i32.wrap_i64 (call $length (i64.const 12345))))
    (func (export "no_error") (result i32) (call $error_set (i64.const 999999)) (i32.const 1))
    (func (export "huge_block") (result i32)
        (if (i64.eqz (call $alloc (i64.const 1099511627776))) (then (return (i32.const 7)))) (i32.const 0))
    (func (export "no_text") (result i32) (local $block i64)
        (local.set $block (call $alloc (i64.const 8)))
        (call $store_u64 (local.get $block) (i64.const -1))
        (call $output_set (local.get $block) (i64.const 8))
        (i32.const 0))
    (func (export "odd_code") (result i32) (i32.const 42))
    (func $deep (export "deep") (result i32) (i32.add (call $deep) (call $deep)))
    (func (export "nothing") (unreachable))
)"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_lies_about_its_memory_fails_that_call_alone() {
    let plugins = Plugins::new();
    plugins.add_wat("liar", LIAR, "");
    let host = host(&plugins).await;
    let liar = host.plugin("liar").expect("the liar");
    for (function, parts) in [
        ("far-output", &["output"][..]),
        ("negative-output", &["output"]),
        ("far-load", &["are not within"]),
        ("far-store", &["are not within"]),
        ("no-text", &["UTF-8"]),
        ("odd-code", &["42"]),
        ("huge-block", &["7"]),
        ("deep", &["limit: ", "limit `stack`"]),
        ("nothing", &["crashed: ", "unreachable"]),
    ] {
        let answer = call(&liar, function).await;
        assert!(!answer.starts_with("ok"), "{function}: {answer}");
        says(&answer, parts);
        says(&call(&liar, "fine").await, &["ok: "]);
    }
    for function in ["far-input", "no-handle", "no-error"] {
        // Extism's kernel answers these with 0 or nothing; what matters is that the host is well.
        let _ = call(&liar, function).await;
        says(&call(&liar, "fine").await, &["ok: "]);
    }
    assert_eq!(host.plugin("math").expect("math").call("add", json!([2, 3])).await, Ok(json!(5)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_at_once_find_a_bounded_queue() {
    let plugins = Plugins::new();
    let spin = r#"(module (func (export "spin") (loop (br 0))))"#;
    plugins.add_wat("spin", spin, "instances = \"fresh\"\n[limits]\ncalls_in_flight = 100\nmemory = \"1MiB\"");
    let host = host(&plugins).await;
    let plugin = host.plugin("spin").expect("spin");
    let options = CallOptions { timeout: Some(Duration::from_millis(500)) };
    // On one task, so that all of them are begun before the first one is over.
    let mut calls: Vec<_> = (0..10_000).map(|_| Box::pin(plugin.call_with(&options, "spin", Value::Null))).collect();
    let (mut full, mut late) = (0, 0);
    let all = std::future::poll_fn(|context| {
        calls.retain_mut(|call| match call.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                match ended(answer).split(':').next() {
                    Some("limit") => full += 1,
                    Some("timeout") => late += 1,
                    other => panic!("{other:?}"),
                }
                false
            }
        });
        if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    in_time(all).await;
    assert_eq!((full, late), (9_900, 100));
    assert_eq!(host.plugin("math").expect("math").call("add", json!([2, 3])).await, Ok(json!(5)));
}
