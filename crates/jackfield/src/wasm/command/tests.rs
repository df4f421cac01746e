//! Programs for a sandbox, written by hand, most of them hostile.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::super::extism::State;
use super::super::extism::tests::{compile, shown, spec, store};
use super::super::kind::Passed;
use super::*;

/// What a test's program begins with.
const PRELUDE: &str = r#"
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2)
    ;; Reads a line, to 32768 and on. Gives its length, 0 at the end.
    (func $line (result i32) (local $at i32)
        (local.set $at (i32.const 32768))
        (loop $next
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (i32.const 1))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (if (i32.eqz (i32.load (i32.const 8))) (then (return (i32.const 0))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.ne (i32.load8_u (i32.sub (local.get $at) (i32.const 1))) (i32.const 10))))
        (i32.sub (local.get $at) (i32.const 32768)))
    (func $write (param $fd i32) (param $at i32) (param $len i32)
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $len))
        (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
"#;

/// What it answers hello with.
const HELLO: &str = r#"{"id":1,"result":{"protocol":"1.0","plugin":{"name":"c","version":"1.0.0"},"interfaces":["t:t/t@1.0.0"]}}
"#;

/// A program that answers each line with the next of `answers`, and ends when there is none.
fn program(answers: &[&str]) -> String {
    let (mut data, mut start, mut at) = (String::new(), String::new(), 256);
    for answer in answers {
        // A text in the text form of a module.
        let text: String = answer.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let len = answer.len();
        writeln!(data, r#"(data (i32.const {at}) "{text}")"#).expect("text");
        writeln!(start, "(drop (call $line)) (call $write (i32.const 1) (i32.const {at}) (i32.const {len}))")
            .expect("text");
        at += len;
    }
    format!(r#"(module {PRELUDE} {data} (func (export "_start") {start}))"#)
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
    let mut live = plugin.instantiate(store(&engine, &spec, State::default())).await.expect("an instance");
    let about = plugin.describe(&mut live, &spec).await?;
    Ok(Started { plugin, live, about, spec })
}

impl Started {
    async fn call(&mut self, arguments: &[u8]) -> String {
        let name = FunctionName { name: "f".into(), position: None };
        let function = self.plugin.function(0, &name).expect("a function");
        let timeout = self.spec.limits.call_timeout;
        self.live.watch().begin(timeout);
        let answer_bytes_max = usize::try_from(self.spec.limits.answer_bytes_max).expect("a size");
        let arguments = Passed::Encoded(arguments);
        let encoding = Encoding::Json;
        let request = Request { function, encoding, arguments, answer_bytes_max, timeout, trace: None };
        let ended = self.live.call(&request).await;
        shown(ended, &self.live.watch, timeout)
    }
}

/// What each call of a program comes to, up to the one that ends it.
async fn said_in(spec: Spec, answers: &[&str]) -> Vec<String> {
    let mut plugin = match started(spec, &program(answers)).await {
        Ok(plugin) => plugin,
        Err(error) => return vec![format!("not started: {error}")],
    };
    let mut said = Vec::new();
    while said.last().is_none_or(|last: &String| !last.starts_with("broken")) {
        said.push(plugin.call(b"{}").await);
    }
    said
}

async fn said(answers: &[&str]) -> Vec<String> {
    said_in(spec(), answers).await
}

#[tokio::test]
async fn a_command_is_greeted_and_called_line_by_line() {
    let wat = program(&[HELLO, "{\"id\":2,\"result\":\"one\"}\n", "{\"id\":3,\"result\":[2]}\n"]);
    let mut plugin = started(spec(), &wat).await.expect("a plugin");
    let About { name, version, interfaces, speaks, .. } = &plugin.about;
    assert_eq!((&**name, &**version, &**speaks), ("c", "1.0.0", "WASI command, protocol 1.0"));
    assert_eq!((interfaces[0].id.to_string(), interfaces[0].binary), ("t:t/t@1.0.0".to_owned(), false));
    assert_eq!(plugin.call(b"{}").await, r#"ok "one""#);
    assert!(!plugin.live.spent());
    assert_eq!(plugin.call(b"{}").await, "ok [2]");
    // It returned from `_start` then.
    assert!(plugin.live.spent());
    assert_eq!(plugin.call(b"{}").await, "broken: the plugin crashed: it had ended, after its last answer");
}

#[tokio::test]
async fn it_gets_what_a_program_gets() {
    // Answers hello, and then gives back what it is sent, as its answer.
    let echo = format!(
        r#"(module {PRELUDE} (data (i32.const 256) "{}") (data (i32.const 1024) "{{\"id\":2,\"result\":")
            (func (export "_start") (local $len i32)
                (drop (call $line)) (call $write (i32.const 1) (i32.const 256) (i32.const {}))
                (local.set $len (call $line))
                (call $write (i32.const 1) (i32.const 1024) (i32.const 17))
                (call $write (i32.const 1) (i32.const 32768) (i32.sub (local.get $len) (i32.const 1)))
                (i32.store16 (i32.const 1024) (i32.const 0x0a7d))
                (call $write (i32.const 1) (i32.const 1024) (i32.const 2))
                (drop (call $line))))"#,
        HELLO.trim_end().replace('"', "\\\"") + "\\n",
        HELLO.len()
    );
    let mut plugin = started(spec(), &echo).await.expect("a plugin");
    assert_eq!(
        plugin.call(br#"{"name":"Ada"}"#).await,
        r#"ok {"jsonrpc":"2.0","id":2,"method":"t.f","params":{"name":"Ada"},"_meta":{"deadline-ms":30000}}"#
    );
    assert!(!plugin.live.spent());
}

#[tokio::test]
async fn each_instance_is_greeted() {
    let (engine, module) = compile(&program(&[HELLO, "{\"id\":2,\"result\":1}\n"]));
    let spec = spec();
    let mut first = started(spec.clone(), &program(&[HELLO, "{\"id\":2,\"result\":1}\n"])).await.expect("a plugin");
    assert_eq!(first.call(b"{}").await, "ok 1");
    let mut second = Plugin::link(&engine, &module, &spec).expect("a plugin");
    second.methods = Arc::clone(&first.plugin.methods);
    let live = second.instantiate(store(&engine, &spec, State::default())).await.expect("an instance");
    let mut second = Started { plugin: second, live, about: first.about.clone(), spec };
    assert_eq!(second.call(b"{}").await, "ok 1");
}

#[tokio::test]
async fn an_error_is_what_its_code_says() {
    let error = |code: &str| format!("{{\"id\":2,\"error\":{{\"code\":{code}}}}}\n");
    for (code, expected) in [
        (r#"1,"message":"no","data":{"tag":"no"}"#, r#"own error {"tag":"no"}"#),
        (r#"1,"message":"no""#, r#"own error "no""#),
        (r#"-32601,"message":"no""#, "the plugin has no such function (no)"),
        (r#"-32602,"message":"no""#, "refused: no"),
        (r#"-32001,"message":"no""#, "the plugin panicked: no"),
        (r#"-32002,"message":"no""#, "cancelled"),
        (r#"-32003,"message":"no""#, "no answer after 30s"),
        (r#"-32603,"message":"no""#, "refused: it could not answer: no (code -32603)"),
    ] {
        assert_eq!(said(&[HELLO, &error(code)]).await[0], expected);
    }
}

#[tokio::test]
async fn what_is_no_message_goes_to_the_log() {
    let stray = "starting\n{\"method\":\"jackfield/log\",\"params\":{\"level\":\"warn\",\"message\":\"hm\"}}\n\
        {\"id\":77,\"result\":1}\n\n\u{0}\n{\"method\":\"later\"}\n";
    let hello = format!("{stray}{HELLO}");
    let answer = format!("{stray}{{\"id\":2,\"result\":1}}\n");
    assert_eq!(
        said(&[&hello, &answer]).await,
        ["ok 1", "broken: the plugin crashed: it had ended, after its last answer"]
    );
    // A request of its own is answered, and nothing else comes of it.
    let asks = "{\"id\":1,\"method\":\"who\"}\n".to_owned();
    let said = said(&[HELLO, &asks, "{\"id\":2,\"result\":1}\n"]).await;
    assert_eq!(said[0], "ok 1");
}

#[tokio::test]
async fn an_answer_is_bounded_and_must_be_readable() {
    let mut small = spec();
    small.limits.answer_bytes_max = 10;
    let long = format!("{{\"id\":2,\"result\":\"{}\"}}\n", "x".repeat(20));
    assert_eq!(
        said_in(small.clone(), &[HELLO, &long]).await[0],
        "limit `answer_bytes`: the answer is 22 bytes of 10 allowed"
    );
    // Longer than what is kept of a line, and then it goes on.
    let longer = format!("{{\"id\":2,\"result\":\"{}\"}}\n", "x".repeat(9000));
    let said_of_longer = said_in(small, &[HELLO, &longer, "{\"id\":3,\"result\":1}\n"]).await;
    assert_eq!(said_of_longer[..2], ["limit `answer_bytes`: the answer is 9020 bytes of 10 allowed", "ok 1"]);
    assert_eq!(
        said(&[HELLO, "{\"id\":2,\"result\":nothing}\n"]).await[0],
        "the plugin broke the protocol: its answer cannot be read: expected ident at line 1 column 19"
    );
    // No text begins with the first byte of a frame.
    let frame = program(&[HELLO, &format!("F{}", "x".repeat(23))]).replacen("\\46\\78", "\\f5\\78", 1);
    let said = started(spec(), &frame).await.expect("a plugin").call(b"{}").await;
    assert_eq!(said, "broken: the plugin broke the protocol: it sent a binary frame, which this host did not offer");
}

#[tokio::test]
async fn more_output_than_there_is_room_for_is_read_as_it_comes() {
    // 200,000 bytes of lines, in pieces of 20,000.
    let line = format!("{}\n", "x".repeat(19_999));
    let wat = format!(
        r#"(module {PRELUDE} (data (i32.const 256) "{}") (data (i32.const 2048) "{}") (data (i32.const 1024) "{{\"id\":2,\"result\":1}}\n")
            (func (export "_start") (local $i i32)
                (drop (call $line)) (call $write (i32.const 1) (i32.const 256) (i32.const {}))
                (drop (call $line))
                (loop $next
                    (call $write (i32.const 1) (i32.const 2048) (i32.const 20000))
                    (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10))))
                (call $write (i32.const 1) (i32.const 1024) (i32.const 20))
                (drop (call $line))))"#,
        HELLO.trim_end().replace('"', "\\\"") + "\\n",
        line.trim_end().to_owned() + "\\n",
        HELLO.len()
    );
    let mut plugin = started(spec(), &wat).await.expect("a plugin");
    assert_eq!(plugin.call(b"{}").await, "ok 1");
}

#[tokio::test]
async fn an_end_is_reported_with_its_reason() {
    let ends = async |end: &str| {
        let wat = format!(
            r#"(module {PRELUDE} (data (i32.const 256) "{}") (data (i32.const 1024) "oh no\n")
                (func (export "_start")
                    (drop (call $line)) (call $write (i32.const 1) (i32.const 256) (i32.const {}))
                    (drop (call $line)) (call $write (i32.const 2) (i32.const 1024) (i32.const 6)) {end}))"#,
            HELLO.trim_end().replace('"', "\\\"") + "\\n",
            HELLO.len()
        );
        let mut spec = spec();
        spec.limits.call_timeout = Duration::from_millis(100);
        started(spec, &wat).await.expect("a plugin").call(b"{}").await
    };
    assert_eq!(ends("").await, r#"broken: the plugin crashed: it ended with exit code 0; it said last: "oh no""#);
    assert_eq!(
        ends("(call $exit (i32.const 3))").await,
        r#"broken: the plugin crashed: it ended with exit code 3; it said last: "oh no""#
    );
    let trapped = ends("(unreachable)").await;
    assert!(trapped.starts_with("broken: the plugin crashed: wasm trap: wasm `unreachable` instruction"), "{trapped}");
    assert!(trapped.ends_with(r#"it said last: "oh no""#), "{trapped}");
    assert_eq!(ends("(loop $again (br $again))").await, "broken: no answer after 100ms");
    // Nor by printing for ever.
    let printing = "(loop $again (call $write (i32.const 1) (i32.const 1024) (i32.const 6)) (br $again))";
    assert_eq!(ends(printing).await, "broken: no answer after 100ms");
}

#[tokio::test]
async fn a_hello_that_cannot_be_used_is_refused() {
    let noise = format!("{}\n", "x".repeat(30_000));
    for (answer, expected) in [
        ("{\"id\":1,\"result\":{}}\n", "its answer to `hello` cannot be used: missing field `protocol`"),
        (
            "{\"id\":1,\"result\":{\"protocol\":\"2.0\",\"plugin\":{\"name\":\"c\"},\"interfaces\":[]}}\n",
            "it speaks protocol 2.0, this host speaks 1.0",
        ),
        ("{\"id\":1,\"error\":{\"code\":-32022,\"message\":\"no\"}}\n", "it refused `hello`: no (code -32022)"),
        ("hello?\n", r#"its start failed: the plugin crashed: it ended with exit code 0; it said last: "hello?""#),
        (&noise, "its start failed: the plugin crashed: it ended with exit code 0"),
    ] {
        let said = said(&[answer]).await;
        assert!(said[0].starts_with("not started: ") && said[0].contains(expected), "{said:?}");
    }
    let wat = format!(
        r#"(module {PRELUDE} (data (i32.const 1024) "noise, \n")
            (func (export "_start") (loop $again (call $write (i32.const 1) (i32.const 1024) (i32.const 8)) (br $again))))"#
    );
    let error = started(spec(), &wat).await.err().expect("noise").to_string();
    assert!(error.contains("bytes that are no message before it answered `hello`"), "{error}");
}

#[tokio::test]
async fn what_it_imports_and_nobody_offers_is_named() {
    let wat = r#"(module (import "env" "spawn" (func)) (memory (export "memory") 1) (func (export "_start")))"#;
    let error = started(spec(), wat).await.err().expect("an import").to_string();
    assert_eq!(
        error,
        "it imports what this host does not offer: `spawn` of `env`; what is imported from `env` was left undefined \
         when the module was linked"
    );
}
