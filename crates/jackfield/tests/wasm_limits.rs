//! The limits and grants of a WebAssembly plugin hold, and what happens when it hits one stays with it.

#![cfg(feature = "wasm")]

mod suite;

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jackfield::{CallOptions, Host, HostFunction, Plugin, Status, TraceContext};
use serde_json::{Value, json};

use suite::{Fixture, Mechanism, Plugins, ended, in_time, refused, says};

/// Each function uses up something.
const GREEDY: &str = r#"(module
    (memory (export "memory") 1)
    (table $table (export "table") 1 funcref)
    (global $calls (mut i32) (i32.const 0))
    (func (export "spin") (loop (br 0)))
    (func (export "count") (param i64) (result i64) (local $n i64)
        (loop $more
            (local.set $n (i64.add (local.get $n) (i64.const 1)))
            (br_if $more (i64.lt_u (local.get $n) (local.get 0))))
        (local.get $n))
    (func (export "bomb")
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        unreachable)
    (func (export "modest") (result i32) (memory.grow (i32.const 100000)))
    (func (export "tables")
        (loop $more (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
        unreachable)
    (func $deep (export "deep") (result i32) (i32.add (call $deep) (i32.const 1)))
    (func (export "calls") (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (global.get $calls))
    (func (export "trap") unreachable)
)"#;

async fn plugin(plugins: &Plugins, name: &str, manifest: &str) -> (jackfield::Host, Plugin) {
    plugins.add_wat(name, GREEDY, manifest);
    let host = plugins.host().await;
    assert!(host.refused().is_empty(), "{:?}", host.refused());
    let plugin = host.plugin(name).expect("the plugin");
    (host, plugin)
}

fn within(ms: u64) -> CallOptions {
    CallOptions { timeout: Some(Duration::from_millis(ms)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_without_end_ends_at_its_deadline_and_its_sibling_does_not() {
    let plugins = Plugins::new();
    let (_host, greedy) = plugin(&plugins, "greedy", "instances = { pool = { max = 2 } }").await;
    let sibling = {
        let greedy = greedy.clone();
        tokio::spawn(async move { greedy.call("count", json!([2_000_000_000_u64])).await })
    };
    for _ in 0..3 {
        let spun = in_time(greedy.call_with(&within(100), "spin", Value::Null)).await;
        assert_eq!(ended(spun), "timeout: call of `spin` of plugin `greedy`: no answer after 100ms");
    }
    assert_eq!(in_time(sibling).await.expect("it ran"), Ok(json!(2_000_000_000_u64)));
    assert_eq!(greedy.info().state.as_str(), "ready");
}

/// A component that never comes back from being told a trace, or, if it `comes_back`, traps.
fn stuck_when_told(comes_back: bool) -> String {
    let begin = if comes_back { "unreachable" } else { "(loop (br 0))" };
    format!(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                (func (export "begin") (param i32 i32 i32) {begin})
                (func (export "spans") (result i32) unreachable)
                (func (export "answer") (result i32) (i32.const 42)))
            (core instance $i (instantiate $m))
            (func $begin (param "traceparent" string) (param "home" bool)
                (canon lift (core func $i "begin") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
            (func $spans (result string) (canon lift (core func $i "spans") (memory (core memory $i "memory"))))
            (func $answer (result u32) (canon lift (core func $i "answer")))
            (instance $tracing (export "begin" (func $begin)) (export "spans" (func $spans)))
            (instance $x (export "answer" (func $answer)))
            (export "jackfield:plugin/tracing@1.0.0" (instance $tracing))
            (export "test:x/x@1.0.0" (instance $x)))"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_is_stuck_with_a_trace_loses_that_call_at_its_deadline_and_no_other() {
    let context: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("a context");
    let plugins = Plugins::new();
    plugins.add_wat("loops", &stuck_when_told(false), "");
    plugins.add_wat("traps", &stuck_when_told(true), "");
    let host = plugins.host().await;
    for (name, how) in [("loops", "timeout: "), ("traps", "crashed: ")] {
        let plugin = host.plugin(name).unwrap_or_else(|error| panic!("{error}: {:?}", host.refused()));
        assert_eq!(in_time(plugin.call("answer", json!([]))).await, Ok(json!(42)), "{name}");
        let options = within(50);
        let told = jackfield::traced(context, plugin.call_with(&options, "answer", json!([])));
        says(&ended(in_time(told).await), &[how]);
        assert_eq!(in_time(plugin.call("answer", json!([]))).await, Ok(json!(42)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_ends_no_other() {
    let plugins = Plugins::new();
    let (_host, greedy) = plugin(&plugins, "greedy", "instances = { pool = { max = 2 } }").await;
    let sibling = {
        let greedy = greedy.clone();
        tokio::spawn(async move { greedy.call("count", json!([1_000_000_000_u64])).await })
    };
    for _ in 0..10 {
        let cancelled = tokio::time::timeout(Duration::from_millis(20), greedy.call("spin", Value::Null)).await;
        assert!(cancelled.is_err(), "it never ends by itself");
    }
    assert_eq!(in_time(sibling).await.expect("it ran"), Ok(json!(1_000_000_000_u64)));
    assert_eq!(greedy.info().calls.ended(Status::Cancelled), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_guest_that_computes_leaves_the_thread_to_others() {
    let plugins = Plugins::new();
    let (_host, greedy) = plugin(&plugins, "greedy", "").await;
    let spinning = tokio::spawn(async move { greedy.call_with(&within(2_000), "spin", Value::Null).await });
    // On the runtime's only thread: were it held by the guest, no turn would come before its end.
    let mut turns = 0;
    while !spinning.is_finished() {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert!(turns > 20, "{turns} turns");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_may_use_is_bounded() {
    let plugins = Plugins::new();
    let limits = "[limits]\nmemory = \"1MiB\"\ntable_elements = 5000\nfuel = 1000000\nstack = \"64KiB\"";
    let (_host, greedy) = plugin(&plugins, "greedy", limits).await;
    for (function, parts) in [
        ("bomb", ["limit: ", "limit `memory`: it wanted 1114112 bytes of memory of 1048576 allowed"]),
        ("tables", ["limit: ", "limit `table_elements`: it wanted 5001 elements of tables of 5000 allowed"]),
        ("spin", ["limit: ", "limit `fuel`"]),
        ("deep", ["limit: ", "limit `stack`"]),
    ] {
        says(&ended(in_time(greedy.call(function, Value::Null)).await), &parts);
        assert_eq!(greedy.call("calls", Value::Null).await, Ok(json!(1)), "a new instance after `{function}`");
    }
    // A guest that takes no for an answer goes on.
    assert_eq!(greedy.call("modest", Value::Null).await, Ok(json!(-1)));
    assert_eq!(greedy.call("calls", Value::Null).await, Ok(json!(2)));
    // Fuel is for each call, not for all together.
    for _ in 0..5 {
        assert_eq!(greedy.call("count", json!([100_000])).await, Ok(json!(100_000)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_shared_fresh_or_pooled_as_the_manifest_says() {
    let plugins = Plugins::new();
    let (_shared, shared) = plugin(&plugins, "shared", "").await;
    let (_fresh, fresh) = plugin(&plugins, "fresh", "instances = \"fresh\"").await;
    let (_worn, worn) = plugin(&plugins, "worn", "instances = { pool = { max = 1, max_calls = 2 } }").await;
    for (plugin, counts) in [(shared, [1, 2, 3, 4]), (fresh, [1, 1, 1, 1]), (worn, [1, 2, 1, 2])] {
        for count in counts {
            assert_eq!(plugin.call("calls", Value::Null).await, Ok(json!(count)), "{}", plugin.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_trap_the_next_call_gets_a_new_instance() {
    let plugins = Plugins::new();
    let (_host, greedy) = plugin(&plugins, "greedy", "").await;
    assert_eq!(greedy.call("calls", Value::Null).await, Ok(json!(1)));
    says(&ended(greedy.call("trap", Value::Null).await), &["crashed: ", "wasm trap: wasm `unreachable`"]);
    assert_eq!(greedy.call("calls", Value::Null).await, Ok(json!(1)));
    assert_eq!(greedy.info().state.as_str(), "ready");
}

// ---- Grants -------------------------------------------------------------------------------------

/// Answers with WASI's error numbers: 0 is success, 8 a file descriptor that is none, 76 not capable.
const CURIOUS: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 100) "note.txt")
    (data (i32.const 120) "../note.txt")
    (func (export "read") (result i32)
        (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 8)
            (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0)))
    (func (export "climb") (result i32)
        (call $open (i32.const 3) (i32.const 0) (i32.const 120) (i32.const 11)
            (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0)))
    (func (export "write") (result i32)
        (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 8)
            (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 0)))
    (func (export "variables") (result i32)
        (drop (call $environ (i32.const 0) (i32.const 4))) (i32.load (i32.const 0))))"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_variables_are_there_when_they_are_granted_and_not_otherwise() {
    let plugins = Plugins::new();
    let data = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(data.path().join("inner")).expect("a directory");
    for file in ["note.txt", "inner/note.txt"] {
        std::fs::write(data.path().join(file), "a note").expect("a file");
    }
    let grant = |key: &str| format!("[sandbox]\n{key} = {{ \"/data\" = {:?} }}", data.path().join("inner"));
    plugins.add_wat("nothing", CURIOUS, "");
    plugins.add_wat("reader", CURIOUS, &grant("fs.read"));
    plugins.add_wat("writer", CURIOUS, &grant("fs.write"));
    plugins.add_wat("knower", CURIOUS, "env = { LANG = \"uz\" }");
    let host = plugins.host().await;
    assert!(host.refused().is_empty(), "{:?}", host.refused());
    for (name, function, expected) in [
        ("nothing", "read", false),
        ("nothing", "write", false),
        ("reader", "read", true),
        ("reader", "climb", false),
        ("reader", "write", false),
        ("writer", "read", true),
        ("writer", "climb", false),
        ("writer", "write", true),
    ] {
        let answer = host.plugin(name).expect("a plugin").call(function, Value::Null).await.expect("an answer");
        assert_eq!(answer == json!(0), expected, "{name} {function}: {answer}");
    }
    for (name, count) in [("nothing", 0), ("knower", 1)] {
        assert_eq!(host.plugin(name).expect("a plugin").call("variables", Value::Null).await, Ok(json!(count)));
    }
}

/// Calls that wait on their thread, large and small, that panic, and that are given up, from many threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_storm_of_calls_there_is_room_for_as_many_as_before() {
    const CALLS: usize = 8;
    const BYTES: usize = 256 << 10;
    // What the idle instance that lies ready has paid for.
    const PAID: usize = 4 << 10;
    for (name, instances, paid) in [
        ("shared", "\"shared\"", PAID),
        ("one", "{ pool = { max = 1 } }", PAID),
        ("some", "{ pool = { max = 3, idle = \"5ms\" } }", PAID),
        ("worn", "{ pool = { max = 2, max_calls = 3 } }", PAID),
        ("fresh", "\"fresh\"", 0),
    ] {
        let fixture = Fixture::new(Mechanism::Extism, "misbehave").named(name);
        let fixture = fixture.limit("calls_in_flight", &CALLS.to_string()).limit("call_bytes_in_flight", "\"256KiB\"");
        let plugins = Plugins::with(fixture.manifest(&format!("instances = {instances}")));
        let host = plugins.host().await;
        let client = suite::misbehave(&host, name);
        let plugin = host.plugin(name).expect("the plugin");
        let storm = (0..CALLS).map(|thread| {
            let (client, blocking, plugin) = (client.clone(), client.clone().blocking(), plugin.clone());
            tokio::task::spawn_blocking(move || {
                let (small, large) = ("x".repeat(16), "x".repeat(9_000));
                for round in 0..60 {
                    for text in [&small, &large] {
                        assert!(blocking.echo(text.clone()).is_ok_and(|echoed| echoed == *text), "{name}");
                    }
                    if (round + thread) % 16 == 0 {
                        says(&ended(blocking.panic("now".to_owned())), &["panicked: ", "now"]);
                    }
                    if (round + thread) % 20 == 10 {
                        assert!(poll_once(client.spin()).is_none(), "{name}: it is given up");
                    }
                    let asked = poll_once(plugin.call("echo", json!({ "text": large })));
                    assert!(asked.is_none_or(|echoed| echoed.is_ok()), "{name}");
                }
            })
        });
        for thread in storm.collect::<Vec<_>>() {
            in_time(thread).await.expect("no panic");
        }
        // To the byte.
        assert_eq!(client.echo("x".repeat(BYTES - paid)).await.map(|text| text.len()), Ok(BYTES - paid), "{name}");
        let more = ended(client.echo("x".repeat(BYTES + 1)).await);
        says(&more, &["limit `call_bytes_in_flight`", "of 262144 allowed"]);
        // And to the call.
        let mut spinning: Vec<_> = (0..CALLS).map(|_| Box::pin(plugin.call("spin", Value::Null))).collect();
        for call in &mut spinning {
            assert_eq!(poll_once(call), None, "{name}: it spins, or waits");
        }
        let more = ended(plugin.call("spin", Value::Null).await);
        says(&more, &["limit `calls_in_flight`", "8 calls run or wait already"]);
        drop(spinning);
        assert_eq!(client.echo("after".to_owned()).await.as_deref(), Ok("after"), "{name}");
    }
}

/// What a future gives when it is looked at once.
fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

// ---- What an application lends ------------------------------------------------------------------

/// `kv_read`, of a store that has one key, is out of order for another, and panics for a third.
fn kv_read() -> HostFunction {
    HostFunction::bytes("kv_read", |[key]| match key {
        b"hello" => Ok(b"world".to_vec()),
        b"panic" => panic!("out of milk"),
        _ => Err("no such key"),
    })
}

async fn with_kv_read(plugins: &Plugins) -> Host {
    in_time(plugins.builder().host_function(kv_read()).build()).await.expect("a host")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_in_c_calls_a_function_of_the_application() {
    let plugins =
        Plugins::with(Fixture::new(Mechanism::Extism, "guest-c").manifest("sandbox.host_functions = [\"kv_read\"]"));
    let host = with_kv_read(&plugins).await;
    assert!(host.refused().is_empty(), "{:?}", host.refused());
    let guest = host.plugin("guest-c").expect("the guest");
    let get = async |key: &str| ended(in_time(guest.call("get", json!({ "input": key }))).await);
    for _ in 0..3 {
        says(&get("hello").await, &["ok: String(\"world\")"]);
        says(&get("bye").await, &["refused: ", "the host function `kv_read` failed: no such key"]);
        says(&get("panic").await, &["refused: ", "the host function `kv_read` failed: it panicked: out of milk"]);
    }
    assert_eq!(guest.info().state.as_str(), "ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_the_manifest_does_not_grant_is_refused_with_what_would_grant_it() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Extism, "guest-c"));
    let refusal = refused(&with_kv_read(&plugins).await, "guest-c");
    says(&refusal, &["`kv_read` of `extism:host/user`", "`host_functions = [\"kv_read\"]` in `[sandbox]`"]);
    let plugins =
        Plugins::with(Fixture::new(Mechanism::Extism, "guest-c").manifest("sandbox.host_functions = [\"kv_read\"]"));
    let refusal = refused(&plugins.host().await, "guest-c");
    says(&refusal, &["`kv_read` of `extism:host/user`", "are an application's own, and this one has none"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_waits_ends_with_the_call_and_keeps_no_other_from_running() {
    let plugins = Plugins::with(
        Fixture::new(Mechanism::Extism, "guest-c")
            .manifest("sandbox.host_functions = [\"kv_read\"]\ninstances = { pool = { max = 4 } }"),
    );
    let waits = HostFunction::bytes_async("kv_read", async |[key]: [Vec<u8>; 1]| {
        if key == b"forever" {
            std::future::pending::<()>().await;
        }
        Ok::<_, std::convert::Infallible>(key)
    });
    let host = in_time(plugins.builder().host_function(waits).build()).await.expect("a host");
    let guest = host.plugin("guest-c").expect("the guest");
    let forever = {
        let guest = guest.clone();
        tokio::spawn(async move { ended(guest.call_with(&within(200), "get", json!({"input": "forever"})).await) })
    };
    for _ in 0..100 {
        assert_eq!(in_time(guest.call("get", json!({"input": "now"}))).await, Ok(json!("now")));
    }
    says(&in_time(forever).await.expect("it ran"), &["timeout: ", "no answer after 200ms"]);
    assert_eq!(in_time(guest.call("get", json!({"input": "now"}))).await, Ok(json!("now")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_says_in_which_file_and_line_it_was() {
    let plugins =
        Plugins::with(Fixture::new(Mechanism::Extism, "guest-c").manifest("sandbox.host_functions = [\"kv_read\"]"));
    let host = with_kv_read(&plugins).await;
    let guest = host.plugin("guest-c").expect("the guest");
    let fallen = ended(in_time(guest.call("fall", json!({"input": ""}))).await);
    let source = std::fs::read_to_string(suite::root().join("fixtures/guest-c/guest.c")).expect("the source");
    let line = |text: &str| source.lines().position(|line| line.contains(text)).expect("it is there") + 1;
    let (trap, second, fall) =
        (line("if (len < 1000)"), line("return third(len) + 2"), line("return second(input_length()) + 1"));
    let file = "./fixtures/guest-c/guest.c";
    let stack = format!("third ({file}:{trap}) < second ({file}:{second}) < fall ({file}:{fall})");
    says(&fallen, &["crashed: ", "wasm trap: wasm `unreachable`", &stack]);
}
