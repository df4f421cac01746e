//! Components written by hand, called as the session calls them.

use std::fmt::Write as _;
use std::time::Duration;

use expect_test::{Expect, expect};
use fixtures_api::zoo::{Animal, Zoo};
use jackfield_protocol::call::{Answer, AnswerValue, Described, Whole};
use jackfield_protocol::{Encoding, TraceContext, TypeDef, TypeRef};
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::limits::Limits;
use crate::log::PluginLog;
use crate::mechanism::{Declared, WasmSpec};
use crate::wasm::engine::{EngineKey, engine};
use crate::wasm::kind::Passed;
use crate::wasm::{extism, grants};

#[path = "../../../../../fixtures/api/arbitrary.rs"]
mod arbitrary;

/// An allocator that only grows until the call is over, and functions that give back what they take.
const CORE: &str = r#"
    (core module $m
        (memory (export "mem") 1)
        (global $top (mut i32) (i32.const 1024))
        (func (export "realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and
                (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
                (i32.sub (i32.const 0) (local.get $align))))
            (global.set $top (i32.add (local.get $at) (local.get $size)))
            (block $enough (loop $more
                (br_if $enough (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
                (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
                (br $more)))
            (local.get $at))
        ;; Overwrites what was given, as an allocator may: whoever reads it later reads this.
        (func (export "done") (param i32)
            (if (local.get 0) (then (memory.fill (i32.const 1024) (i32.const 0x58) (i32.const 4096))))
            (global.set $top (i32.const 1024)))
        (func (export "nothing"))
        (func (export "same") (param i32) (result i32) (local.get 0))
        (func (export "pair") (param i32 i32) (result i32)
            (i32.store (i32.const 16) (local.get 0))
            (i32.store (i32.const 20) (local.get 1))
            (i32.const 16))
        ;; The error of a `result` with two strings.
        (func (export "no") (param i32 i32) (result i32)
            (i32.store (i32.const 16) (i32.const 1))
            (i32.store (i32.const 20) (local.get 0))
            (i32.store (i32.const 24) (local.get 1))
            (i32.const 16))
        ;; The success of one.
        (func (export "yes") (param i32 i32) (result i32)
            (i32.store (i32.const 16) (i32.const 0))
            (i32.store (i32.const 20) (local.get 0))
            (i32.store (i32.const 24) (local.get 1))
            (i32.const 16))
        (func (export "trap") (result i32) unreachable)
        ;; A string that does not lie in its memory.
        (func (export "lie") (result i32)
            (i32.store (i32.const 16) (i32.const 0x7fffffff))
            (i32.store (i32.const 20) (i32.const 0x7fffffff))
            (i32.const 16))
        ;; Four million values of a byte each.
        (func (export "much") (result i32)
            (drop (memory.grow (i32.const 64)))
            (i32.store (i32.const 16) (i32.const 1024))
            (i32.store (i32.const 20) (i32.const 0x400000))
            (i32.const 16))
        ;; Gives back less than it was given.
        (func (export "shorten") (param i32 i32 i32) (result i32)
            (i32.store (i32.const 16) (local.get 0))
            (i32.store (i32.const 20) (i32.sub (local.get 1) (local.get 2)))
            (i32.const 16))
        (func (export "zeros") (param i64) (result i32)
            (i32.store (i32.const 16) (i32.const 65536))
            (i32.store (i32.const 20) (i32.wrap_i64 (local.get 0)))
            (drop (memory.grow (i32.const 200)))
            (i32.const 16))
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
        (func (export "add64") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
        (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2))))
    (core instance $i (instantiate $m))
"#;

const OPTIONS: &str = r#"(memory (core memory $i "mem")) (realloc (core func $i "realloc"))"#;

/// A component with one interface: types, then each function with the core function behind it.
fn component(types: &[&str], id: &str, functions: &[(&str, &str, &str)]) -> String {
    let mut text = format!("(component {CORE}");
    let mut exports = String::new();
    for ty in types {
        let (name, definition) = ty.split_once(' ').expect("a name and a type");
        write!(text, "(type ${name} {definition})").expect("text");
        write!(exports, "(export \"{name}\" (type ${name}))").expect("text");
    }
    for (at, (name, signature, core)) in functions.iter().enumerate() {
        let done = if matches!(*core, "pair" | "yes" | "no") { r#"(post-return (core func $i "done"))"# } else { "" };
        write!(text, "(func $f{at} {signature} (canon lift (core func $i \"{core}\") {OPTIONS} {done}))")
            .expect("text");
        write!(exports, "(export \"{name}\" (func $f{at}))").expect("text");
    }
    match id {
        "" => write!(text, "{})", exports.replace("(export \"", "\n(export \"")).expect("text"),
        id => write!(text, "(instance $x {exports})(export \"{id}\" (instance $x)))").expect("text"),
    }
    text
}

fn spec() -> Spec {
    Spec {
        name: "greeter_x".to_owned(),
        entry: "greeter.wasm".into(),
        checked: None,
        args: Vec::new(),
        env: Vec::new(),
        limits: Limits::default(),
        cache_dir: "none".into(),
        declared: Declared::default(),
        wasm: WasmSpec::default(),
        grpc: Default::default(),
        confine: Default::default(),
        log: Arc::new(PluginLog::new("greeter_x")),
    }
}

/// A plugin with an instance.
struct Rig {
    plugin: Plugin,
    live: Live,
    about: About,
    log: Arc<PluginLog>,
}

async fn rig(bytes: &[u8], spec: &Spec) -> Result<Rig, WasmError> {
    let engine = engine(EngineKey { stack_bytes: 256 << 10, fuel: false, pooled: false }).expect("an engine");
    let code = Component::new(&engine, bytes).unwrap_or_else(|error| panic!("{error:?}"));
    let mut plugin = Plugin::link(&engine, &code, spec, bytes)?;
    let log = Arc::new(PluginLog::new("greeter"));
    let watch = Watch::new(Arc::clone(&log), 1 << 20);
    let wasi = grants::wasi(spec, &watch)?.build_p1();
    watch.begin(Duration::from_secs(60));
    let store = Guest::store(&engine, &spec.limits, wasi, extism::State::default(), watch).expect("a store");
    let mut live = plugin.instantiate(store).await.expect("an instance");
    let about = plugin.describe(&mut live, spec).await?;
    Ok(Rig { plugin, live, about, log })
}

async fn wat(text: &str) -> Rig {
    rig(&wat::parse_str(text).expect("WAT"), &spec()).await.expect("a plugin")
}

async fn refused(text: &str, spec: &Spec) -> String {
    match rig(&wat::parse_str(text).expect("WAT"), spec).await {
        Ok(_) => "loaded".to_owned(),
        Err(error) => error.to_string(),
    }
}

impl Rig {
    async fn ended(&mut self, function: &str, encoding: Encoding, arguments: &[u8], answer_bytes_max: usize) -> Ended {
        let number = self.number(function);
        self.passed(number, encoding, Passed::Encoded(arguments), answer_bytes_max).await
    }

    /// Makes a call with one argument as it is, in the way of a client.
    async fn whole(&mut self, function: &str, whole: &Whole) -> Ended {
        let number = self.number(function);
        assert!(self.plugin.takes_whole(number), "{function}");
        self.passed(number, Encoding::Binary, Passed::Whole(whole), usize::MAX).await
    }

    fn number(&self, function: &str) -> usize {
        let found = self.about.interfaces.iter().enumerate().find_map(|(at, offered)| {
            let (position, _) = offered.description.as_ref()?.function(function)?;
            Some((at, u32::try_from(position).ok()))
        });
        let (interface, position) = found.unwrap_or_else(|| panic!("no function `{function}`"));
        let name = FunctionName { name: function.into(), position };
        self.plugin.function(interface, &name).expect("a number")
    }

    async fn passed(
        &mut self,
        function: usize,
        encoding: Encoding,
        arguments: Passed<'_>,
        answer_bytes_max: usize,
    ) -> Ended {
        let timeout = Duration::from_secs(60);
        self.live.call(&Request { function, encoding, arguments, answer_bytes_max, timeout, trace: None }).await
    }

    async fn call(&mut self, function: &str, arguments: &str) -> String {
        shown(self.ended(function, Encoding::Json, arguments.as_bytes(), 1 << 24).await)
    }

    /// Makes a call in the binary encoding, for a value that fills the answer.
    async fn binary<T: jackfield_protocol::Type>(&mut self, function: &str, arguments: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoding::Binary.encode(arguments, &mut bytes).expect("arguments");
        match self.ended(function, Encoding::Binary, &bytes, usize::MAX).await {
            Ended::Well(Ok(answer)) => answer.bytes().into_owned(),
            ended => panic!("{}", shown(ended)),
        }
    }

    fn described(&self) -> String {
        let interfaces = self.about.interfaces.iter().filter_map(|offered| offered.description.as_ref());
        let mut lines: Vec<_> = interfaces.map(|interface| interface.canonical()).collect();
        lines.extend(self.log.tail(100));
        lines.join("\n")
    }
}

fn shown(ended: Ended) -> String {
    match ended {
        Ended::Well(Ok(answer)) => {
            format!("{}: {}", if answer.ok { "ok" } else { "error" }, String::from_utf8_lossy(&answer.bytes()))
        }
        Ended::Well(Err(cause)) => cause.to_string(),
        Ended::Broken(error) => format!("broken: {}", error.root_cause()),
    }
}

// ---- Calls ----------------------------------------------------------------------------------------

/// One function for each member of the fast set, and some that are not of it.
fn texts() -> String {
    let functions = [
        ("nothing", "", "nothing"),
        ("text", r#"(param "x" string) (result string)"#, "pair"),
        ("bytes", r#"(param "x" (list u8)) (result (list u8))"#, "pair"),
        ("text-or", r#"(param "x" string) (result (result string (error string)))"#, "no"),
        ("bytes-or", r#"(param "x" (list u8)) (result (result (list u8) (error string)))"#, "yes"),
        ("numbers", r#"(param "x" (list u16)) (result (list u16))"#, "pair"),
        ("add", r#"(param "a" u32) (param "b" u32) (result u32)"#, "add"),
        ("add-small", r#"(param "a" u8) (param "b" u16) (result u32)"#, "add"),
        ("add-large", r#"(param "a" s64) (param "b" s64) (result s64)"#, "add64"),
        ("half", r#"(param "x" f64) (result f64)"#, "half"),
        ("trap", "(result string)", "trap"),
        ("lie", "(result string)", "lie"),
        ("much", "(result (list bool))", "much"),
        ("shorten", r#"(param "x" (list u8)) (param "by" u32) (result (list u8))"#, "shorten"),
        ("zeros", r#"(param "count" u64) (result (list u8))"#, "zeros"),
    ];
    component(&[], "test:texts/texts@1.0.0", &functions)
}

#[tokio::test]
async fn an_argument_alone_and_an_answer_are_passed_as_they_are() {
    let mut rig = wat(&texts()).await;
    let text = Whole::Text("a 🦀\n".repeat(2000));
    let bytes = Whole::Bytes([0, 0xff, 7].repeat(2000));
    let empty = Whole::Text(String::new());
    for (function, given, ok) in [
        ("text", &text, true),
        ("text", &empty, true),
        ("bytes", &bytes, true),
        ("text-or", &text, false),
        ("bytes-or", &bytes, true),
    ] {
        match rig.whole(function, given).await {
            Ended::Well(Ok(Answer { ok: said, value: AnswerValue::Whole(whole), .. })) => {
                assert!(said == ok && whole == *given, "{function}");
            }
            ended => panic!("{function}: {}", shown(ended)),
        }
    }
    for several in ["nothing", "numbers", "add", "shorten", "zeros"] {
        assert!(!rig.plugin.takes_whole(rig.number(several)), "{several}");
    }
    for (function, given) in [("text", &bytes), ("bytes", &text)] {
        assert_eq!(shown(rig.whole(function, given).await), "refused: its argument is of another type", "{function}");
    }
    assert_eq!(rig.call("text", r#"{"x": "still here"}"#).await, r#"ok: "still here""#);
}

#[tokio::test]
async fn an_argument_alone_reaches_a_function_without_rust_types_too() {
    let functions = [
        ("letters", r#"(param "x" string) (result (list s8))"#, "pair"),
        ("signed", r#"(param "x" (list u8)) (result (list s8))"#, "pair"),
    ];
    let mut rig = wat(&component(&[], "test:texts/texts@1.0.0", &functions)).await;
    for (function, given, expected) in [
        ("letters", Whole::Text("Ada".to_owned()), b"\x03Ada".to_vec()),
        ("signed", Whole::Bytes(vec![1, 0xff]), vec![2, 1, 0xff]),
    ] {
        match rig.whole(function, &given).await {
            Ended::Well(Ok(answer)) => assert_eq!(answer.bytes(), expected, "{function}"),
            ended => panic!("{function}: {}", shown(ended)),
        }
    }
}

#[tokio::test]
async fn strings_bytes_and_numbers_come_back_as_they_went() {
    let mut rig = wat(&texts()).await;
    for (function, arguments, expected) in [
        ("nothing", "", "ok: null"),
        ("nothing", "{}", "ok: null"),
        ("text", r#"{"x": "a \"quoted\" 🦀\n"}"#, r#"ok: "a \"quoted\" 🦀\n""#),
        ("text", r#"{"x": ""}"#, r#"ok: """#),
        ("bytes", r#"{"x": "AQL/"}"#, r#"ok: "AQL/""#),
        ("bytes", r#"{"x": [1, 2, 255]}"#, r#"ok: "AQL/""#),
        ("text-or", r#"{"x": "never"}"#, r#"error: "never""#),
        ("bytes-or", r#"{"x": "AQL/"}"#, r#"ok: "AQL/""#),
        ("numbers", r#"{"x": [1, 65535]}"#, "ok: [1,65535]"),
        ("shorten", r#"{"by": 1, "x": "AQL/"}"#, r#"ok: "AQI=""#),
        ("zeros", r#"{"count": 3}"#, r#"ok: "AAAA""#),
        ("add", r#"{"b": 2, "a": 4294967295}"#, "ok: 1"),
        ("add-small", r#"{"a": 255, "b": 65535}"#, "ok: 65790"),
        ("add-large", r#"{"a": "9007199254740991", "b": 1}"#, r#"ok: "9007199254740992""#),
        ("half", r#"{"x": "NaN"}"#, r#"ok: "NaN""#),
        ("half", r#"{"x": 3}"#, "ok: 1.5"),
    ] {
        assert_eq!(rig.call(function, arguments).await, expected, "{function} {arguments}");
    }
}

#[tokio::test]
async fn large_values_are_whole_in_both_encodings() {
    let mut rig = wat(&texts()).await;
    for length in [0, 1, 127, 128, 4095, 4096, 16384, 1 << 20] {
        let bytes: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let answer: Vec<u8> = Encoding::Binary.decode(&rig.binary("bytes", &bytes).await).expect("bytes");
        assert!(answer == bytes, "{length} bytes");
        let answer: Vec<u8> = Encoding::Binary.decode(&rig.binary("bytes-or", &bytes).await).expect("bytes");
        assert!(answer == bytes, "{length} bytes or an error");
        let text = "é".repeat(length as usize / 2);
        let answer: String = Encoding::Binary.decode(&rig.binary("text", &text).await).expect("a string");
        assert!(answer == text, "{length} bytes of text");
        let answer = rig.call("text", &format!("{{\"x\": \"{text}\"}}")).await;
        assert!(answer == format!("ok: \"{text}\""), "{length} bytes of text in JSON");
    }
}

#[tokio::test]
async fn arguments_that_are_not_the_functions_never_reach_it() {
    let mut rig = wat(&texts()).await;
    for (function, arguments, expected) in [
        ("text", r#"{"x": 1}"#, "refused: invalid type: integer `1`, expected a string at line 1 column 7"),
        ("text", "", "refused: missing argument `x` at line 1 column 2"),
        ("text", r#"{"other": 1}"#, "refused: there is no argument `other` at line 1 column 8"),
        ("text", r#"{"y": 1}"#, "refused: there is no argument `y`; did you mean `x`? at line 1 column 4"),
        ("text", r#"{"x": "a", "x": "b"}"#, "refused: argument `x` is there twice at line 1 column 20"),
        ("text", r#"{"x": "a"} x"#, "refused: trailing characters at line 1 column 12"),
        ("text", r#"{"x": "\ud800"}"#, "refused: unexpected end of hex escape at line 1 column 14"),
        ("add", r#"{"a": -1, "b": 1}"#, "refused: invalid value: integer `-1`, expected u32 at line 1 column 8"),
        ("numbers", r#"{"x": [65536]}"#, "refused: invalid value: integer `65536`, expected u16 at line 1 column 12"),
    ] {
        assert_eq!(rig.call(function, arguments).await, expected, "{function} {arguments}");
    }
    for (bytes, expected) in [
        (&b"\x05abc"[..], "refused: Hit the end of buffer, expected more data"),
        (b"\x03abcd", "refused: 1 bytes follow the arguments"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "refused: Hit the end of buffer, expected more data"),
        (b"\x01\xff", "refused: Tried to parse invalid utf-8"),
    ] {
        assert_eq!(shown(rig.ended("text", Encoding::Binary, bytes, 100).await), expected);
    }
    assert_eq!(rig.call("text", r#"{"x": "still here"}"#).await, r#"ok: "still here""#);
}

#[tokio::test]
async fn an_answer_that_is_too_long_ends_the_call_and_not_the_instance() {
    let mut rig = wat(&texts()).await;
    let long = "x".repeat(5000);
    let mut binary = Vec::new();
    Encoding::Binary.encode(&long, &mut binary).expect("a string");
    for (function, encoding, max) in [
        ("text", Encoding::Binary, 4999),
        ("bytes", Encoding::Binary, 4999),
        ("text", Encoding::Binary, 4),
        ("numbers", Encoding::Binary, 4999),
    ] {
        let arguments = if function == "numbers" { [&binary[..], &[1; 5000]].concat() } else { binary.clone() };
        let arguments = if function == "numbers" { &arguments[..2 + 5000] } else { &arguments[..] };
        let expected = format!("limit `answer_bytes`: the answer is longer than {max} bytes");
        assert_eq!(shown(rig.ended(function, encoding, arguments, max).await), expected, "{function}");
    }
    assert!(shown(rig.ended("text", Encoding::Binary, &binary, 5000).await).starts_with("ok: "));
}

#[tokio::test]
async fn a_trap_and_a_lie_break_the_instance() {
    let mut rig = wat(&texts()).await;
    assert_eq!(rig.call("trap", "{}").await, "broken: wasm trap: wasm `unreachable` instruction executed");
    let mut rig = wat(&texts()).await;
    assert_eq!(rig.call("lie", "{}").await, "broken: string pointer/length out of bounds of memory");
}

#[tokio::test]
async fn what_a_guest_makes_the_host_copy_is_bounded() {
    let mut spec = spec();
    spec.limits.answer_bytes_max = 1 << 20;
    let mut rig = rig(&wat::parse_str(texts()).expect("WAT"), &spec).await.expect("a plugin");
    let answer = rig.call("much", "{}").await;
    assert!(answer.starts_with("broken: too much data is being copied"), "{answer}");
    let (limit, _) = rig.live.watch().take_notes().limit.expect("the limit is noted");
    assert_eq!(limit, "answer_bytes");
}

// ---- Every type -------------------------------------------------------------------------------------

/// A type of the description as WAT writes it; maps as they are or as lists of pairs.
fn wat_type(ty: &TypeRef, pairs: bool) -> String {
    let inner = |ty: &TypeRef| wat_type(ty, pairs);
    let side = |ty: &TypeRef| if *ty == TypeRef::UNIT { String::new() } else { inner(ty) };
    match ty {
        TypeRef::Bytes => "(list u8)".to_owned(),
        TypeRef::List(item) => format!("(list {})", inner(item)),
        TypeRef::Map(key, value) if pairs => format!("(list (tuple {} {}))", inner(key), inner(value)),
        TypeRef::Map(key, value) => format!("(map {} {})", inner(key), inner(value)),
        TypeRef::Option(some) => format!("(option {})", inner(some)),
        TypeRef::Result(ok, err) if **err == TypeRef::UNIT => format!("(result {})", side(ok)),
        TypeRef::Result(ok, err) => format!("(result {} (error {}))", side(ok), inner(err)),
        TypeRef::Tuple(items) => format!("(tuple {})", items.iter().map(inner).collect::<Vec<_>>().join(" ")),
        TypeRef::Named(name) => format!("${name}"),
        primitive => primitive.to_string(),
    }
}

fn wat_definition(name: &str, definition: &TypeDef, pairs: bool) -> String {
    let parts: Vec<String> = match definition {
        TypeDef::Record(fields) => {
            fields.iter().map(|field| format!("(field \"{}\" {})", field.name, wat_type(&field.ty, pairs))).collect()
        }
        TypeDef::Variant(cases) => {
            let carried = |ty: &Option<TypeRef>| ty.as_ref().map_or(String::new(), |ty| wat_type(ty, pairs));
            cases.iter().map(|case| format!("(case \"{}\" {})", case.name, carried(&case.ty))).collect()
        }
        TypeDef::Enum(names) | TypeDef::Flags(names) => names.iter().map(|name| format!("\"{name}\"")).collect(),
    };
    format!("{name} ({} {})", definition.kind(), parts.join(" "))
}

/// The zoo's `echo`. An animal does not fit into sixteen values, so it goes and comes through memory, and to
/// give back the address is to give back the animal.
fn zoo(pairs: bool) -> String {
    let interface = <dyn Zoo>::interface().expect("an interface");
    let order = ["address", "color", "shape", "skills", "animal"];
    let types: Vec<_> = order.iter().map(|name| wat_definition(name, &interface.types[*name], pairs)).collect();
    let types: Vec<_> = types.iter().map(String::as_str).collect();
    component(&types, "test:zoo/zoo@1.0.0", &[("echo", r#"(param "animal" $animal) (result $animal)"#, "same")])
}

/// The description of the zoo's `echo` alone.
fn echo() -> Interface {
    let interface = <dyn Zoo>::interface().expect("an interface");
    interface.edited(|interface| interface.functions.truncate(1))
}

fn zoo_spec() -> Spec {
    Spec { declared: Declared { descriptions: vec![echo()], ..Declared::default() }, ..spec() }
}

#[test]
fn every_value_of_every_type_comes_back_in_both_encodings() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for pairs in [true, false] {
        let bytes = wat::parse_str(zoo(pairs)).expect("WAT");
        let mut runner = TestRunner::new(Config { cases: 64, ..Config::default() });
        let rig = std::cell::RefCell::new(runtime.block_on(rig(&bytes, &zoo_spec())).expect("a plugin"));
        let checked = runner.run(&arbitrary::animals(), |animal| {
            let mut rig = rig.borrow_mut();
            for encoding in [Encoding::Binary, Encoding::Json] {
                let (mut sent, mut arguments) = (Vec::new(), Vec::new());
                encoding.encode(&animal, &mut sent).expect("an animal");
                match encoding {
                    Encoding::Binary => arguments.clone_from(&sent),
                    Encoding::Json => {
                        arguments.extend_from_slice(b"{\"animal\":");
                        arguments.extend_from_slice(&sent);
                        arguments.push(b'}');
                    }
                }
                let ended = runtime.block_on(rig.ended("echo", encoding, &arguments, usize::MAX));
                let Ended::Well(Ok(answer)) = ended else { panic!("{}", shown(ended)) };
                let back: Animal = encoding.decode(&answer.bytes()).expect("an animal");
                assert!(arbitrary::same(&animal, &back), "{animal:?}\n{back:?}");
                // To the byte, and in the order in which the host itself writes.
                assert_eq!(String::from_utf8_lossy(&answer.bytes()), String::from_utf8_lossy(&sent));
            }
            Ok(())
        });
        checked.expect("every animal comes back");
    }
}

#[tokio::test]
async fn json_is_accepted_in_every_spelling() {
    let types = [
        r#"color (enum "red" "dark-green")"#,
        r#"shape (variant (case "circle" f64) (case "no-shape"))"#,
        r#"perms (flags "read" "write-all")"#,
        r#"all (record (field "zip-code" u32) (field "color" $color) (field "shape" $shape) (field "perms" $perms)
            (field "note" (option (option string))) (field "outcome" (result u8 (error string)))
            (field "by-name" (list (tuple string u64))))"#,
    ];
    let text = component(&types, "test:x/x@1.0.0", &[("same", r#"(param "x" $all) (result $all)"#, "same16")]);
    // Sixteen values are still handed over one by one, and this record is sixteen: a function that takes one
    // more finds them in memory.
    let text = text.replace(r#"(param "x" $all)"#, r#"(param "x" $all) (param "more" (option string))"#);
    let mut rig = wat(&text.replace("same16", "same")).await;
    let rest = r#""color": "red", "shape": "no-shape", "perms": [], "outcome": {"ok": 1}, "by-name": []"#;
    for (member, expected) in [(r#""zipCode": 1"#, r#""zip-code":1,"#), (r#""zip_code": 1"#, r#""zip-code":1,"#)] {
        let answer = rig.call("same", &format!("{{\"x\": {{{member}, {rest}}}}}")).await;
        assert!(answer.contains(expected), "{answer}");
    }
    let mut member = async |replaced: &str, by: &str| {
        let all = format!("{{\"x\": {{\"zip-code\": 1, {}}}}}", rest.replace(replaced, by));
        rig.call("same", &all).await
    };
    for (replaced, by, expected) in [
        (r#""red""#, r#""darkGreen""#, r#""color":"dark-green""#),
        (r#""no-shape""#, r#"{"noShape": null}"#, r#""shape":{"tag":"no-shape"}"#),
        (r#""no-shape""#, r#"{"circle": 2}"#, r#""shape":{"tag":"circle","val":2.0}"#),
        (r#""no-shape""#, r#"{"val": 2, "tag": "circle"}"#, r#""shape":{"tag":"circle","val":2.0}"#),
        (r#""no-shape""#, r#"{"tag": "no-shape", "val": null}"#, r#""shape":{"tag":"no-shape"}"#),
        (r#""perms": []"#, r#""perms": ["write_all", "read"]"#, r#""perms":["read","write-all"]"#),
        (r#"{"ok": 1}"#, r#"{"err": "no"}"#, r#""outcome":{"err":"no"}"#),
        (r#""perms""#, r#""note": {"some": null}, "perms""#, r#""note":{"some":null}"#),
        (r#""perms""#, r#""note": {"some": "x"}, "perms""#, r#""note":{"some":"x"}"#),
        (r#"[]}"#, r#"[["b", 1], ["a", "2"]]}"#, r#""by-name":[]"#),
    ] {
        let answer = member(replaced, by).await;
        assert!(answer.contains(expected), "{by}: {answer}");
    }
    for (replaced, by, expected) in [
        (r#""red""#, r#""rde""#, "`color` has no `rde`; did you mean `red`?"),
        (r#""no-shape""#, r#""circle""#, "`circle` of `shape` wants a value"),
        (r#""no-shape""#, r#"{"tag": "circle", "vla": 1}"#, "unexpected member `vla`"),
        (r#"{"ok": 1}"#, r#"{"okay": 1}"#, "`result` has no `okay`"),
        (r#"{"ok": 1}"#, r#"{"ok": 1, "err": "x"}"#, "unexpected member `err`"),
        (r#""color": "red", "#, "", "missing field `color`"),
    ] {
        let answer = member(replaced, by).await;
        assert!(answer.starts_with("refused: ") && answer.contains(expected), "{by}: {answer}");
    }
}

// ---- Descriptions -----------------------------------------------------------------------------------

#[tokio::test]
async fn the_description_is_read_off_the_types_as_the_macro_would_write_it() {
    let rig = rig(&wat::parse_str(zoo(false)).expect("WAT"), &spec()).await.expect("a plugin");
    let read = rig.about.interfaces[0].description.as_ref().expect("a description");
    assert_eq!(read.canonical(), echo().canonical());
    assert_eq!(read.fingerprint(), echo().fingerprint());
}

#[tokio::test]
async fn types_without_a_name_are_named_by_their_place() {
    let text = component(
        &[],
        "test:x/x",
        &[
            ("greet", r#"(param "who" (list (tuple u8 (option u8)))) (result (result (error string)))"#, "no"),
            ("nothing", "", "nothing"),
        ],
    );
    check_described(&text, expect![[r#"{"interface":"test:x/x@0.0.0","functions":[{"name":"greet","params":[{"name":"who","type":"list<tuple<u8, option<u8>>>"}],"result":"result<_, string>"},{"name":"nothing"}]}"#]]).await;
}

#[tokio::test]
async fn functions_of_the_world_itself_are_an_interface_of_the_plugin() {
    let text = component(
        &[],
        "",
        &[("nothing", "", "nothing"), ("add", r#"(param "a" u32) (param "b" u32) (result u32)"#, "add")],
    );
    check_described(&text, expect![[r#"{"interface":"wasm:greeter-x/exports@0.0.0","functions":[{"name":"nothing"},{"name":"add","params":[{"name":"a","type":"u32"},{"name":"b","type":"u32"}],"result":"u32"}]}"#]]).await;
    let mut rig = wat(&text).await;
    assert_eq!(rig.call("add", r#"{"a": 2, "b": 3}"#).await, "ok: 5");
}

#[tokio::test]
async fn what_no_description_has_a_word_for_is_left_out_and_logged() {
    let text = r#"(component
        (core module $m (func (export "new") (param i32) (result i32) unreachable) (func (export "f")))
        (core instance $i (instantiate $m))
        (type $file (resource (rep i32)))
        (component $c
            (import "file" (type $file' (sub resource)))
            (import "new" (func $new (result (own $file'))))
            (import "f" (func $f))
            (export $exported "file" (type $file'))
            (export "[constructor]file" (func $new) (func (result (own $exported))))
            (export "open" (func $new) (func (result (own $exported))))
            (export "f" (func $f))
            (export "GO" (func $f)))
        (core func $make (canon resource.new $file))
        (core module $n (import "" "make" (func $make (param i32) (result i32)))
            (func (export "new") (result i32) (call $make (i32.const 0))))
        (core instance $j (instantiate $n (with "" (instance (export "make" (func $make))))))
        (func $new (result (own $file)) (canon lift (core func $j "new")))
        (func $f (canon lift (core func $i "f")))
        (instance $x (instantiate $c (with "file" (type $file)) (with "new" (func $new)) (with "f" (func $f))))
        (export "test:x/x@1.0.0" (instance $x)))"#;
    check_described(
        text,
        expect![[r#"
            {"interface":"test:x/x@1.0.0","functions":[{"name":"f"}]}
            not offered: `[constructor]file` of `test:x/x@1.0.0`: it belongs to a resource
            not offered: `open` of `test:x/x@1.0.0`: it uses a resource, which no interface of a plugin has
            not offered: `GO` of `test:x/x@1.0.0`: `GO` is not kebab-case of lower-case words"#]],
    )
    .await;
}

/// A component that is told traces, and says what it was told last. `begin` is that function's type.
fn told(begin: &str) -> String {
    format!(
        r#"(component
            (core module $m
                (memory (export "memory") 17)
                (global $next (mut i32) (i32.const 64))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                    (global.set $next (i32.add (global.get $next) (local.get 3)))
                    (i32.sub (global.get $next) (local.get 3)))
                (func (export "begin") (param i32 i32 i32)
                    (i32.store (i32.const 0) (local.get 0))
                    (i32.store (i32.const 4) (i32.sub (local.get 1) (local.get 2))))
                (func (export "spans") (result i32)
                    (i32.store (i32.const 8) (i32.const 64))
                    (i32.store (i32.const 12) (i32.const 1050000))
                    (i32.const 8))
                (func (export "last") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $begin {begin}
                (canon lift (core func $i "begin") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
            (func $spans (result string) (canon lift (core func $i "spans") (memory (core memory $i "memory"))))
            (func $last (result string) (canon lift (core func $i "last") (memory (core memory $i "memory"))))
            (instance $tracing (export "begin" (func $begin)) (export "spans" (func $spans)))
            (instance $x (export "last" (func $last)))
            (export "jackfield:plugin/tracing@1.0.0" (instance $tracing))
            (export "test:x/x@1.0.0" (instance $x)))"#
    )
}

#[tokio::test]
async fn a_component_that_wants_to_know_is_told_the_trace_of_a_call() {
    let context: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("a context");
    let mut rig = wat(&told(r#"(param "traceparent" string) (param "home" bool)"#)).await;
    // The interface is not one to call, and nobody has to take spans.
    assert_eq!(rig.described(), r#"{"interface":"test:x/x@1.0.0","functions":[{"name":"last","result":"string"}]}"#);
    assert_eq!(rig.call("last", "{}").await, r#"ok: """#);
    let request = Request {
        function: rig.number("last"),
        encoding: Encoding::Json,
        arguments: Passed::Encoded(b""),
        answer_bytes_max: 1 << 20,
        timeout: Duration::from_secs(60),
        trace: Some(context),
    };
    assert_eq!(shown(rig.live.call(&request).await), format!("ok: \"{context}\""));
    assert_eq!(rig.call("last", "{}").await, format!("ok: \"{context}\""), "it is told nothing of others");
}

#[tokio::test]
async fn spans_that_are_too_many_bytes_are_not_copied() {
    let mut rig = wat(&told(r#"(param "traceparent" string) (param "home" bool)"#)).await;
    let Live { store, instance, tracing, .. } = &mut rig.live;
    let error = tracing.expect("its functions").take_spans(store, *instance).await.expect_err("too much");
    assert_eq!(error.to_string(), "the plugin broke the protocol: its spans have more than 1048704 bytes");
}

#[tokio::test]
async fn a_component_whose_way_to_be_told_is_another_is_told_nothing() {
    check_described(
        &told(r#"(param "parent" string) (param "home" u32)"#),
        expect![[r#"
            {"interface":"test:x/x@1.0.0","functions":[{"name":"last","result":"string"}]}
            not offered: `jackfield:plugin/tracing@1.0.0`, whose `begin` is not `func(traceparent: string, home: bool)`: its calls carry no trace"#]],
    )
    .await;
}

async fn check_described(text: &str, expected: Expect) {
    expected.assert_eq(&wat(text).await.described());
}

#[tokio::test]
async fn a_component_that_is_not_what_the_manifest_describes_is_refused_with_both_sides() {
    let described = |edit: fn(&mut Interface)| {
        let mut spec = zoo_spec();
        spec.declared.descriptions[0] = spec.declared.descriptions[0].edited(edit);
        spec
    };
    check_refused(&zoo(true), &described(|_| {}), expect!["loaded"]).await;
    check_refused(
        &zoo(true),
        &described(|interface| {
            let Some(TypeDef::Record(fields)) = interface.types.get_mut("address") else { panic!("a record") };
            fields[1].ty = TypeRef::Option(Box::new(TypeRef::String));
        }),
        expect!["not the interface that the manifest describes: `test:zoo/zoo@1.0.0`: at `echo(animal).shape.lives.zip?` the description has `string`, the component `u32`; at `echo(animal).shapes[].lives.zip?` the description has `string`, the component `u32`; at `echo(animal).home.zip?` the description has `string`, the component `u32`; at `echo() result.shape.lives.zip?` the description has `string`, the component `u32`; and 2 more"],
    )
    .await;
    check_refused(
        &zoo(true),
        &described(|interface| {
            let Some(TypeDef::Enum(names)) = interface.types.get_mut("color") else { panic!("an enum") };
            names.pop();
            interface.functions[0].result = None;
        }),
        expect!["not the interface that the manifest describes: `test:zoo/zoo@1.0.0`: at `echo(animal).color` the description has names (red, dark-green), the component names (red, dark-green, blue); at `echo() result` the description has nothing, the component `record { tame, s8, s16, s32, s64, u8, … }`"],
    )
    .await;
    check_refused(
        &zoo(true),
        &described(|interface| interface.functions[0].name = "ecco".to_owned()),
        expect!["not the interface that the manifest describes: `test:zoo/zoo@1.0.0`: at `ecco` the description has `ecco(animal: animal) -> animal`, the component no such function"],
    )
    .await;
    check_refused(
        &zoo(true),
        &described(|interface| interface.id.version = Version::new(2, 0, 0)),
        expect!["the manifest describes `test:zoo/zoo@2.0.0`, and the component exports `test:zoo/zoo@1.0.0`"],
    )
    .await;
}

async fn check_refused(text: &str, spec: &Spec, expected: Expect) {
    expected.assert_eq(&refused(text, spec).await);
}

#[tokio::test]
async fn what_a_component_says_of_itself_comes_first() {
    let said = serde_json::json!({
        "protocol": "1.0",
        "plugin": {"name": "the zoo", "version": "1.2.3"},
        "capabilities": ["feeding@2"],
        "interfaces": [echo().edited(|interface| interface.docs = "Said by itself.".to_owned())],
    });
    let with =
        |said: &str| zoo(true).replacen("(component", &format!("(component (@custom \"jackfield:about\" {said:?})"), 1);
    let rig = wat(&with(&said.to_string())).await;
    let About { name, version, capabilities, interfaces, .. } = &rig.about;
    assert_eq!((&**name, &**version, capabilities[0].to_string()), ("the zoo", "1.2.3", "feeding@2".to_owned()));
    assert_eq!(interfaces[0].description.as_ref().expect("a description").docs, "Said by itself.");

    let wrong = said.to_string().replace("\"list<u8>\"", "\"string\"");
    check_refused(
        &with(&wrong),
        &spec(),
        expect!["not the interface that its section `jackfield:about` describes: `test:zoo/zoo@1.0.0`: at `echo(animal).photo` the description has `string`, the component `list<u8>`; at `echo() result.photo` the description has `string`, the component `list<u8>`"],
    )
    .await;
}

// ---- Imports ----------------------------------------------------------------------------------------

#[tokio::test]
async fn everything_that_is_missing_is_named_at_once() {
    check_refused(
        r#"(component
            (import "wasi:cli/environment@0.2.0" (instance (export "get-arguments" (func (result (list string))))))
            (import "wasi:http/types@0.2.0" (instance
                (export "fields" (type (sub resource)))
                (export "http-error-code" (func))))
            (import "wasi:clocks/monotonic-clock@0.3.0" (instance (export "now" (func (result u64)))))
            (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result string)))))
            (import "acme:db/store@1.0.0" (instance (export "get" (func (result string)))))
            (import "log" (func (param "line" string))))"#,
        &spec(),
        expect!["it imports what this host does not offer: `wasi:http/types@0.2.0`, `wasi:clocks/monotonic-clock@0.3.0`, `wasi:random/random@0.2.0` (instance export `get-random-u64` has the wrong type: type mismatch with results: expected `u64` found `string`), `acme:db/store@1.0.0`, `log`; this host gives no `wasi:http`; of WASI it gives version 0.2; a component that imports an interface other than WASI has to be composed with one that exports it"],
    )
    .await;
    check_refused(
        r#"(component (import "wasi:cli/environment@0.2.0" (instance (export "get-arguments" (func (result (list string)))))))"#,
        &spec(),
        expect!["loaded"],
    )
    .await;
}

#[test]
fn a_name_in_another_spelling_becomes_kebab_case_or_none() {
    for (name, expected) in [
        ("add", Some("add")),
        ("add_one", Some("add-one")),
        ("addOne", Some("add-one")),
        ("Add", Some("add")),
        ("add2", Some("add2")),
        ("my.plugin", Some("my-plugin")),
        ("add_2", None),
        ("2add", None),
        ("add one", None),
        ("größe", None),
        ("", None),
    ] {
        assert_eq!(kebab(name).as_deref(), expected, "{name}");
    }
}
