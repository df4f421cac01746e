//! Functions of the application's own, good and bad.

use std::convert::Infallible;
use std::time::Instant;

use super::*;
use crate::host_function::{HostFunction, HostFunctionError, Number, NumberType};

/// The input goes to `ask`, and what it gives is the output.
const ASK: &str = r#"
    (import "extism:host/user" "ask" (func $ask (param i64) (result i64)))"#;
const F: &str = r#"(func (export "f") (result i32) (call $give (call $ask (call $input))) (i32.const 0))"#;

fn granting(functions: Vec<HostFunction>) -> Spec {
    let mut spec = spec();
    spec.wasm.grants.host_functions = functions.iter().map(HostFunction::grant).collect();
    spec.wasm.functions = functions.into();
    spec
}

/// What a module says that asks.
async fn asked(spec: Spec, input: &str) -> String {
    let wat = format!("(module {ASK} {PRELUDE} {F})");
    let mut plugin = match started(spec, &wat).await {
        Ok(plugin) => plugin,
        Err(error) => return format!("not started: {error}"),
    };
    let arguments = serde_json::json!({ "input": input }).to_string();
    let here = plugin.live.runs_here();
    let said = plugin.call("f", Encoding::Json, arguments.as_bytes()).await;
    if here {
        assert_eq!(plugin.call_here("f", arguments.as_bytes()), said, "on this thread it is the same");
    }
    said
}

impl Started {
    fn call_here(&mut self, function: &str, arguments: &[u8]) -> String {
        let name = FunctionName { name: function.into(), position: None };
        let function = self.plugin.function(0, &name).expect("a function");
        let timeout = self.spec.limits.call_timeout;
        self.live.watch().begin_here(timeout);
        let arguments = Passed::Encoded(arguments);
        let (encoding, answer_bytes_max) = (Encoding::Json, 1 << 20);
        let request = Request { function, encoding, arguments, answer_bytes_max, timeout, trace: None };
        let ended = self.live.call_here(&request);
        shown(ended, &self.live.watch, timeout)
    }
}

#[tokio::test]
async fn a_function_of_bytes_takes_and_gives_blocks() {
    let upper = || HostFunction::bytes("ask", |[text]| Ok::<_, Infallible>(text.to_ascii_uppercase()));
    assert_eq!(asked(granting(vec![upper()]), "hello").await, r#"ok "HELLO""#);
    assert_eq!(asked(granting(vec![upper()]), "").await, r#"ok """#);
    let text = HostFunction::bytes("ask", |[text]| str::from_utf8(text).map(|text| format!("<{text}>")));
    assert_eq!(asked(granting(vec![text]), "ö").await, r#"ok "<ö>""#);
    // The later one of a name is the one that is offered.
    let other = HostFunction::bytes("ask", |[_]| Ok::<_, Infallible>(b"other".to_vec()));
    assert_eq!(asked(granting(vec![upper(), other]), "hello").await, r#"ok "other""#);
}

#[tokio::test]
async fn a_function_of_json_takes_and_gives_values() {
    let sum = || HostFunction::json("ask", |numbers: Vec<i64>| Ok::<_, Infallible>(numbers.iter().sum::<i64>()));
    assert_eq!(asked(granting(vec![sum()]), "[1, 2, 39]").await, r#"ok "42""#);
    let said = asked(granting(vec![sum()]), "[1, true]").await;
    expect!["broken: refused: the host function `ask` failed: its parameter is not what it takes: invalid type: boolean `true`, expected i64 at line 1 column 8"].assert_eq(&said);
    let later = HostFunction::json_async("ask", async |name: String| Ok::<_, Infallible>(format!("Dear {name}")));
    assert_eq!(asked(granting(vec![later]), r#""Ada""#).await, r#"ok "\"Dear Ada\"""#);
}

#[tokio::test]
async fn a_function_that_waits_keeps_no_thread_and_ends_with_the_call() {
    let (ready, wait) = tokio::sync::watch::channel(false);
    let later = HostFunction::bytes_async("ask", move |[bytes]: [Vec<u8>; 1]| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|ready| *ready).await?;
            Ok::<_, HostFunctionError>(bytes)
        }
    });
    let mut spec = granting(vec![later]);
    let (said, ()) = tokio::join!(asked(spec.clone(), "hello"), async {
        tokio::task::yield_now().await;
        ready.send_replace(true);
    });
    assert_eq!(said, r#"ok "hello""#);
    ready.send_replace(false);
    spec.limits.call_timeout = Duration::from_millis(50);
    let wat = format!("(module {ASK} {PRELUDE} {F})");
    let mut plugin = started(spec, &wat).await.expect("a plugin");
    assert!(!plugin.live.runs_here());
    let within = tokio::time::timeout(Duration::from_millis(50), plugin.call("f", Encoding::Json, br#"{"input": ""}"#));
    assert!(within.await.is_err(), "it waits, and lets go of it");
}

#[tokio::test]
async fn a_function_of_numbers_has_the_memory_at_hand() {
    use NumberType::{F32, F64, I32, I64};
    let mix = HostFunction::new("mix", [I32, I64, F32, F64], [F64, I32], |call, params, results| {
        let [Number::I32(a), Number::I64(b), Number::F32(c), Number::F64(d)] = *params else { panic!("{params:?}") };
        assert_eq!(call.plugin(), "p");
        assert!(call.time_left().is_some_and(|left| left > Duration::ZERO));
        results[0] = Number::F64(f64::from(a) + b as f64 + f64::from(c) + d);
        results[1] = Number::I32(-a);
        Ok(())
    });
    let wat = format!(
        r#"(module
            (import "extism:host/user" "mix" (func $mix (param i32 i64 f32 f64) (result f64 i32))) {PRELUDE}
            (func (export "f") (result i32)
                (call $mix (i32.const -3) (i64.const -4) (f32.const 0.5) (f64.const 10.5))
                (i32.const 3) (i32.ne) (if (then (unreachable)))
                (f64.const 4) (f64.ne) (if (then (unreachable)))
                (i32.const 0)))"#
    );
    let mut plugin = started(granting(vec![mix]), &wat).await.expect("a plugin");
    assert_eq!(plugin.call("f", Encoding::Json, br#"{"input":""}"#).await, r#"ok """#);

    let ask = HostFunction::new("ask", [I64], [I64], |call, params, results| {
        call.write(params[0])?[0] = b'J';
        let both = [call.read(params[0])?, b"!"].concat();
        let unneeded = call.put(b"unneeded")?;
        call.free(unneeded)?;
        results[0] = call.put(&both)?;
        Ok(())
    });
    assert_eq!(asked(granting(vec![ask]), "hello").await, r#"ok "Jello!""#);
}

#[tokio::test]
async fn a_function_that_fails_or_panics_ends_its_call() {
    let fails = HostFunction::bytes("ask", |[_]| Err::<(), _>("the store is shut"));
    // Its type is another now: it gives nothing.
    let said = asked(granting(vec![fails]), "x").await;
    expect![
        "not started: `ask` of `extism:host/user` is (i64) in this host, and the plugin imports it as (i64) -> i64"
    ]
    .assert_eq(&said);
    let fails = HostFunction::bytes("ask", |[_]| Err::<Vec<u8>, _>("the store is shut"));
    let said = asked(granting(vec![fails]), "x").await;
    expect!["broken: refused: the host function `ask` failed: the store is shut"].assert_eq(&said);
    let fails = HostFunction::bytes_async("ask", async |[_]: [Vec<u8>; 1]| Err::<Vec<u8>, _>("the store is shut"));
    let said = asked(granting(vec![fails]), "x").await;
    expect!["broken: refused: the host function `ask` failed: the store is shut"].assert_eq(&said);
    let panics = HostFunction::bytes("ask", |[text]| -> Result<Vec<u8>, Infallible> { panic!("{}", text.len()) });
    let said = asked(granting(vec![panics]), "x").await;
    expect!["broken: refused: the host function `ask` failed: it panicked: 1"].assert_eq(&said);
    let panics = HostFunction::bytes_async("ask", async |[_]: [Vec<u8>; 1]| -> Result<Vec<u8>, Infallible> {
        tokio::task::yield_now().await;
        panic!("late")
    });
    let said = asked(granting(vec![panics]), "x").await;
    expect!["broken: refused: the host function `ask` failed: it panicked: late"].assert_eq(&said);
    let wrong = HostFunction::new("ask", [NumberType::I64], [NumberType::I64], |_, _, results| {
        results[0] = Number::I32(7);
        Ok(())
    });
    let said = asked(granting(vec![wrong]), "x").await;
    expect!["broken: refused: the host function `ask` failed: it gave an i32 for an i64"].assert_eq(&said);
}

#[tokio::test]
async fn what_a_guest_says_of_its_memory_is_checked_here_as_well() {
    let rest = r#"(func (export "f") (result i32) (call $give (call $ask (i64.const 4096))) (i32.const 0))"#;
    let wat = format!("(module {ASK} {PRELUDE} {rest})");
    for function in [
        HostFunction::bytes("ask", |[text]| Ok::<_, Infallible>(text.to_vec())),
        HostFunction::bytes_async("ask", async |[text]: [Vec<u8>; 1]| Ok::<_, Infallible>(text)),
    ] {
        let mut plugin = started(granting(vec![function]), &wat).await.expect("a plugin");
        let said = plugin.call("f", Encoding::Json, br#"{"input":""}"#).await;
        expect!["broken: refused: the host function `ask` failed: 4096 is no block of the plugin's memory"]
            .assert_eq(&said);
    }
}

#[tokio::test]
async fn an_answer_that_has_no_room_is_the_plugins_limit() {
    fn large() -> Vec<u8> {
        vec![7; 1 << 20]
    }
    for function in [
        HostFunction::bytes("ask", |[_]| Ok::<_, Infallible>(large())),
        HostFunction::bytes_async("ask", async |[_]: [Vec<u8>; 1]| Ok::<_, Infallible>(large())),
    ] {
        let mut spec = granting(vec![function]);
        spec.limits.memory_bytes_max = 128 << 10;
        let said = asked(spec, "x").await;
        expect!["broken: limit `memory`: the host function `ask` wanted 1048576 bytes more of Extism memory, which has 131072 at most"].assert_eq(&said);
    }
}

#[tokio::test]
async fn a_function_that_comes_back_too_late_ends_the_call_there() {
    let slow = HostFunction::new("ask", [NumberType::I64], [NumberType::I64], |call, params, results| {
        // What it waits for is the end of the call's own time.
        let begun = Instant::now();
        while call.time_left().is_some_and(|left| left > Duration::ZERO) {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        results[0] = params[0];
        Ok(())
    });
    let mut spec = granting(vec![slow]);
    spec.limits.call_timeout = Duration::from_millis(20);
    assert_eq!(asked(spec, "x").await, "broken: no answer after 20ms");
}

#[tokio::test]
async fn nothing_is_linked_that_is_not_granted_and_the_refusal_says_what_would() {
    let upper = |name: &str| HostFunction::bytes(name, |[text]| Ok::<_, Infallible>(text.to_ascii_uppercase()));
    let mut spec = granting(vec![upper("ask"), upper("asks")]);
    spec.wasm.grants.host_functions = vec!["asks".to_owned()];
    let said = asked(spec, "x").await;
    expect![[r#"not started: it imports what this host does not offer: `ask` of `extism:host/user`; `ask` is for plugins whose manifest grants it, by `host_functions = ["ask"]` in `[sandbox]`"#]].assert_eq(&said);
    let said = asked(granting(vec![upper("asks"), upper("tell")]), "x").await;
    expect!["not started: it imports what this host does not offer: `ask` of `extism:host/user`; functions of `extism:host/user` are an application's own, and this one has no `ask`; it has `asks`"].assert_eq(&said);
    let said = asked(granting(vec![upper("telephone"), upper("write")]), "x").await;
    expect!["not started: it imports what this host does not offer: `ask` of `extism:host/user`; functions of `extism:host/user` are an application's own, and this one has no `ask`; it has `telephone`, `write`"].assert_eq(&said);
    // What the manifest grants and the application lacks.
    let mut spec = granting(Vec::new());
    spec.wasm.grants.host_functions = vec!["ask".to_owned()];
    let said = asked(spec, "x").await;
    expect!["not started: it imports what this host does not offer: `ask` of `extism:host/user`; functions of `extism:host/user` are an application's own, and this one has none"].assert_eq(&said);
    // The same name in another module is another function.
    let said = asked(granting(vec![upper("ask").namespace("acme")]), "x").await;
    assert!(said.starts_with("not started: it imports what this host does not offer"), "{said}");
    let wat = format!("(module {} {PRELUDE} {F})", ASK.replace("extism:host/user", "acme"));
    let mut plugin = started(granting(vec![upper("ask").namespace("acme")]), &wat).await.expect("a plugin");
    assert_eq!(plugin.call("f", Encoding::Json, br#"{"input":"x"}"#).await, r#"ok "X""#);
}

#[tokio::test]
async fn what_extism_and_wasi_have_is_not_replaced() {
    let stolen = HostFunction::bytes("config_get", |[_]| Ok::<_, Infallible>(b"stolen".to_vec())).namespace(ENV);
    let mut spec = granting(vec![stolen]);
    spec.wasm.config.insert("key".to_owned(), "mine".to_owned());
    let rest = r#"(func (export "f") (result i32) (call $give (call $config_get (call $input))) (i32.const 0))"#;
    check_in(spec, rest, "key", expect![[r#"ok "mine""#]]).await;
}
