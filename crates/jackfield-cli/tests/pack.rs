//! `jackfield pack --component`, and what it makes, in a runtime for components that is not Jackfield's.

#![cfg(feature = "wasm")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::{Expect, expect};
use tempfile::TempDir;
use wasm_encoder::{
    CodeSection, Component, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{self, Linker, ResourceTable, Type, Val};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

const JACKFIELD: &str = env!("CARGO_BIN_EXE_jackfield");

/// A module that `cargo xtask plugins` builds.
fn module(dir: &str, name: &str) -> PathBuf {
    let target = Path::new(JACKFIELD).ancestors().nth(2).expect("target/<profile>/jackfield");
    let path = target.join(dir).join(format!("{name}-wasm/{name}.wasm"));
    assert!(path.is_file(), "`{}` is missing: run `cargo xtask plugins` first", path.display());
    path
}

/// Runs `jackfield pack --component` in `dir`, where the module is, and says what it said.
fn pack_in(dir: &TempDir, words: &[&str]) -> String {
    let command = Command::new(JACKFIELD).args(["pack", "--component"]).args(words).current_dir(dir.path()).output();
    let output = command.expect("the command starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    format!("{}{}exit {}\n", text(&output.stdout), text(&output.stderr), output.status.code().expect("it exits"))
}

struct Wasi {
    limits: StoreLimits,
    ctx: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Wasi {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }
}

/// Memory of a component. None of the tests needs more.
const MEMORY_BYTES_MAX: usize = 24 << 20;

/// A running component.
struct Running {
    component: component::Component,
    store: Store<Wasi>,
    instance: component::Instance,
    stderr: MemoryOutputPipe,
}

impl Running {
    /// Packs a module and starts what comes of it.
    fn start(module: &Path) -> Self {
        let dir = TempDir::new().expect("a directory");
        let file = dir.path().join("packed.wasm");
        let packed = pack_in(&dir, &[module.to_str().expect("UTF-8"), "-o", "packed.wasm"]);
        assert!(packed.ends_with("exit 0\n"), "{packed}");
        let engine = Engine::default();
        let component = component::Component::from_file(&engine, &file).expect("a component");
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("WASI");
        let stderr = MemoryOutputPipe::new(1 << 20);
        let ctx = WasiCtx::builder().stderr(stderr.clone()).build();
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY_BYTES_MAX).build();
        let mut store = Store::new(&engine, Wasi { limits, ctx, table: ResourceTable::new() });
        store.limiter(|wasi| &mut wasi.limits);
        let instance = linker.instantiate(&mut store, &component).expect("it starts");
        Self { component, store, instance, stderr }
    }

    fn function(&mut self, interface: &str, function: &str) -> component::Func {
        let interface = self.instance.get_export_index(&mut self.store, None, interface).expect("the interface");
        let found = self.instance.get_export_index(&mut self.store, Some(&interface), function);
        self.instance.get_func(&mut self.store, found.expect("the function")).expect("a function")
    }

    fn call(&mut self, interface: &str, function: &str, params: &[Val]) -> wasmtime::Result<Option<Val>> {
        let function = self.function(interface, function);
        let mut results = vec![Val::Bool(false); function.ty(&self.store).results().len()];
        function.call(&mut self.store, params, &mut results)?;
        Ok(results.into_iter().next())
    }

    /// What it has written to stderr.
    fn said(&self) -> String {
        String::from_utf8(self.stderr.contents().to_vec()).expect("UTF-8")
    }
}

fn text(text: &str) -> Val {
    Val::String(text.to_owned())
}

const GREETER: &str = "demo:greeter/greeter@1.0.0";
const ZOO: &str = "test:zoo/zoo@1.0.0";
const COUNTER: &str = "test:zoo/counter@0.2.1";
const TRACING: &str = "jackfield:plugin/tracing@1.0.0";
const MISBEHAVE: &str = "test:misbehave/misbehave@1.0.0";

// ---- What a component does ----------------------------------------------------------------------

#[test]
fn a_component_greets() {
    let mut english = Running::start(&module("plugins", "english"));
    let greeting = english.call(GREETER, "greet", &[text("Ada")]).expect("an answer");
    assert_eq!(greeting, Some(Val::Result(Ok(Some(Box::new(text("Hello, Ada!")))))));
    let refusal = english.call(GREETER, "greet", &[text("")]).expect("an answer");
    let why = Val::Variant("empty-name".to_owned(), None);
    assert_eq!(refusal, Some(Val::Result(Err(Some(Box::new(why))))));
    let refusal = english.call(GREETER, "greet", &[text(&"x".repeat(101))]).expect("an answer");
    let why = Val::Variant("too-long".to_owned(), Some(Box::new(Val::U32(101))));
    assert_eq!(refusal, Some(Val::Result(Err(Some(Box::new(why))))));
}

#[test]
fn a_component_imports_a_log_and_exports_its_interfaces_and_the_one_of_traces() {
    let zoo = Running::start(&module("fixtures", "zoo"));
    let engine = zoo.component.engine().clone();
    let ty = zoo.component.component_type();
    let names = |items: Vec<(&str, ComponentItem)>| {
        items.into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>().join(" ")
    };
    let imports = names(ty.imports(&engine).map(|(name, item)| (name, item.ty)).collect());
    let exports = names(ty.exports(&engine).map(|(name, item)| (name, item.ty)).collect());
    assert_eq!(imports, "wasi:io/error@0.2.0 wasi:io/streams@0.2.0 wasi:cli/stderr@0.2.0");
    assert_eq!(exports, format!("{ZOO} {COUNTER} {TRACING}"));
}

#[test]
fn a_component_gives_the_spans_of_a_traced_call_once_and_has_none_of_others() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut english = Running::start(&module("plugins", "english"));
    let mut spans_of = |told: Option<(&str, bool)>| {
        if let Some((parent, home)) = told {
            english.call(TRACING, "begin", &[text(parent), Val::Bool(home)]).expect("it takes it");
        }
        english.call(GREETER, "greet", &[text("Ada")]).expect("an answer");
        match english.call(TRACING, "spans", &[]).expect("its spans") {
            Some(Val::String(spans)) => spans,
            other => panic!("{other:?}"),
        }
    };
    let span = spans_of(Some((PARENT, true)));
    let span: serde_json::Value = serde_json::from_str(&span).unwrap_or_else(|error| panic!("{error}: {span}"));
    assert_eq!(span["parent"], "00f067aa0ba902b7");
    assert_eq!(span["name"], "greeter.greet");
    assert!(span["span"].as_str().is_some_and(|own| own.starts_with(&PARENT[..36]) && own != PARENT), "{span}");
    for told in [None, Some((PARENT, false)), Some((&PARENT.replace("-01", "-00"), true)), Some(("no trace", true))] {
        assert_eq!(spans_of(told), "", "{told:?}");
    }
}

#[test]
fn a_value_of_every_type_comes_back_unchanged() {
    let mut zoo = Running::start(&module("fixtures", "zoo"));
    for function in ["echo", "bytes", "decide"] {
        let (_, ty) = zoo
            .function(ZOO, function)
            .ty(&zoo.store)
            .params()
            .next()
            .map(|(name, ty)| (name.to_owned(), ty))
            .expect("one parameter");
        for seed in 0..200 {
            let value = Any { seed: seed * 7919 }.value(&ty);
            let back = zoo.call(ZOO, function, std::slice::from_ref(&value)).expect("an answer");
            assert_eq!(back.as_ref(), Some(&value), "`{function}`, seed {seed}");
        }
    }
}

#[test]
fn the_interfaces_of_a_component_share_an_instance() {
    let mut zoo = Running::start(&module("fixtures", "zoo"));
    assert_eq!(zoo.call(COUNTER, "add", &[Val::U64(40)]).expect("an answer"), Some(Val::U64(40)));
    assert_eq!(zoo.call(COUNTER, "add", &[Val::U64(2)]).expect("an answer"), Some(Val::U64(42)));
    assert_eq!(zoo.call(ZOO, "sum", &[]).expect("an answer"), Some(Val::U64(42)));
    assert_eq!(zoo.call(ZOO, "nothing", &[]).expect("an answer"), None);
    let joined = zoo.call(ZOO, "join", &[text("a"), Val::U32(3), Val::Option(Some(Box::new(text("é"))))]);
    assert_eq!(joined.expect("an answer"), Some(text("aééé")));
}

#[test]
fn what_a_component_logs_goes_to_stderr() {
    let mut misbehave = Running::start(&module("fixtures", "misbehave"));
    // Longer than one page of memory, and than WASI takes at once.
    let long = "long ".repeat(20_000);
    for (level, said) in [("error", "disk full"), ("warn", ""), ("info", &*long), ("debug", "é"), ("trace", "12345678")]
    {
        misbehave.call(MISBEHAVE, "log", &[Val::Enum(level.to_owned()), text(said)]).expect("an answer");
    }
    let said = misbehave.said();
    assert_eq!(said, format!("[ERROR] disk full\n[WARN] \n[INFO] {long}\n[DEBUG] é\n[TRACE] 12345678\n"));
}

#[test]
fn a_panic_in_a_component_is_logged_and_is_a_trap() {
    let mut misbehave = Running::start(&module("fixtures", "misbehave"));
    let ended = misbehave.call(MISBEHAVE, "panic", &[text("on demand")]).expect_err("a trap");
    assert!(ended.downcast_ref() == Some(&wasmtime::Trap::UnreachableCodeReached), "{ended:?}");
    let said = misbehave.said();
    assert!(said.starts_with("[ERROR] panicked at ") && said.ends_with(": on demand\n"), "{said}");
}

#[test]
fn memory_is_given_back_after_each_call() {
    let mut zoo = Running::start(&module("fixtures", "zoo"));
    let data = Val::List(vec![Val::U8(7); 1 << 20]);
    for _ in 0..2 * (MEMORY_BYTES_MAX >> 20) {
        let back = zoo.call(ZOO, "bytes", std::slice::from_ref(&data)).expect("an answer");
        assert!(back.as_ref() == Some(&data));
    }
}

/// Any value of a type, by a seed.
struct Any {
    seed: u64,
}

impl Any {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ self.seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Small numbers, too, and those at the ends.
        (mixed ^ mixed >> 31) >> [0, 1, 20, 40, 57, 62][(mixed % 6) as usize]
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    fn value(&mut self, ty: &Type) -> Val {
        let payload = |any: &mut Self, ty: Option<Type>| ty.map(|ty| Box::new(any.value(&ty)));
        match ty {
            Type::Bool => Val::Bool(self.next() & 1 == 1),
            Type::S8 => Val::S8(self.next() as i8),
            Type::U8 => Val::U8(self.next() as u8),
            Type::S16 => Val::S16(self.next() as i16),
            Type::U16 => Val::U16(self.next() as u16),
            Type::S32 => Val::S32(self.next() as i32),
            Type::U32 => Val::U32(self.next() as u32),
            Type::S64 => Val::S64(self.next() as i64),
            Type::U64 => Val::U64(self.next()),
            Type::Float32 => Val::Float32(f32::from_bits(self.next() as u32)),
            Type::Float64 => Val::Float64(f64::from_bits(self.next())),
            Type::Char => Val::Char(self.letter()),
            Type::String => Val::String((0..self.below(9)).map(|_| self.letter()).collect()),
            Type::List(list) => {
                let len = self.below(4);
                // In these interfaces, a list of pairs is a map: its keys differ, and come in order.
                let item = |any: &mut Self, at: usize| match (list.ty(), any.value(&list.ty())) {
                    (Type::Tuple(_), Val::Tuple(mut pair)) => {
                        pair[0] = key(&pair[0], at);
                        Val::Tuple(pair)
                    }
                    (_, item) => item,
                };
                let is_map_of_bool = matches!(list.ty(), Type::Tuple(pair) if pair.types().next() == Some(Type::Bool));
                let len = if is_map_of_bool { len.min(2) } else { len };
                Val::List((0..len).map(|at| item(self, at)).collect())
            }
            Type::Record(record) => {
                let fields = record.fields().map(|field| (field.name.to_owned(), self.value(&field.ty)));
                Val::Record(fields.collect())
            }
            Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|ty| self.value(&ty)).collect()),
            Type::Variant(variant) => {
                let case = variant.cases().nth(self.below(variant.cases().len())).expect("a case");
                Val::Variant(case.name.to_owned(), payload(self, case.ty))
            }
            Type::Enum(names) => {
                Val::Enum(names.names().nth(self.below(names.names().len())).expect("a name").to_owned())
            }
            Type::Option(option) => Val::Option((self.next() & 1 == 1).then(|| Box::new(self.value(&option.ty())))),
            Type::Result(result) => match self.next() & 1 {
                0 => Val::Result(Ok(payload(self, result.ok()))),
                _ => Val::Result(Err(payload(self, result.err()))),
            },
            Type::Flags(flags) => {
                Val::Flags(flags.names().filter(|_| self.next() & 1 == 1).map(str::to_owned).collect())
            }
            other => panic!("no interface of ours has a {other:?}"),
        }
    }

    fn letter(&mut self) -> char {
        char::from_u32((self.next() % 0x11_0000) as u32).unwrap_or('\u{1F980}')
    }
}

fn key(like: &Val, at: usize) -> Val {
    match like {
        Val::Bool(_) => Val::Bool(at == 1),
        Val::Char(_) => Val::Char(char::from(b'a' + at as u8)),
        Val::String(_) => Val::String(format!("key {at}")),
        Val::U64(_) => Val::U64(at as u64 * 1000),
        other => panic!("no map of ours has {other:?} for a key"),
    }
}

// ---- What is no module of a plugin --------------------------------------------------------------

fn check(bytes: &[u8], expected: Expect) {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("p.wasm"), bytes).expect("written");
    expected.assert_eq(&pack_in(&dir, &["p.wasm"]));
    assert!(!dir.path().join("p.component.wasm").exists());
}

/// A module of imports `() -> ()` and exports of the first of its functions.
fn hand_made(imports: &[(&str, &str)], exports: &[&str]) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [ValType::I32]);
    let mut imported = ImportSection::new();
    imports.iter().for_each(|(module, name)| _ = imported.import(module, name, EntityType::Function(0)));
    let mut functions = FunctionSection::new();
    functions.function(1);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut exported = ExportSection::new();
    exported.export("memory", ExportKind::Memory, 0);
    exports.iter().for_each(|name| _ = exported.export(name, ExportKind::Func, imports.len() as u32));
    let mut code = CodeSection::new();
    let mut body = Function::new([]);
    body.instructions().i32_const(1).end();
    code.function(&body);
    let mut module = Module::new();
    module.section(&types).section(&imported).section(&functions).section(&memories).section(&exported).section(&code);
    module.finish()
}

#[test]
fn what_is_no_module_of_a_plugin_is_refused() {
    check(
        b"(module)",
        expect![[r#"
        error: cannot pack `p.wasm`
          caused by: it is no WebAssembly: it begins with `(module)`

          hint: build it with `jackfield_plugin::export!` and `cargo build --lib --target wasm32-unknown-unknown`
        exit 2
    "#]],
    );
    check(
        b"\0asm\x01\0\0\0\x01",
        expect![[r#"
        error: cannot pack `p.wasm`
          caused by: it is no valid module
          caused by: unexpected end-of-file (at offset 0x9)
        exit 2
    "#]],
    );
    check(
        &Component::new().finish(),
        expect![[r#"
        error: cannot pack `p.wasm`
          caused by: it is a component already
        exit 2
    "#]],
    );
    check(
        &hand_made(&[], &["greet"]),
        expect![[r#"
        error: cannot pack `p.wasm`
          caused by: it was not built with the SDK for Rust: it exports no `jackfield_abi`

          hint: build it with `jackfield_plugin::export!` and `cargo build --lib --target wasm32-unknown-unknown`
        exit 2
    "#]],
    );
    check(
        &hand_made(&[("wasi_snapshot_preview1", "fd_write")], &["_start"]),
        expect![[r#"
        error: cannot pack `p.wasm`
          caused by: it imports `fd_write` from `wasi_snapshot_preview1`

          hint: build it with `jackfield_plugin::export!` and `cargo build --lib --target wasm32-unknown-unknown`
        exit 2
    "#]],
    );
    check(
        &hand_made(&[("env", "now")], &["jackfield_abi"]),
        expect![[r#"
        error: cannot pack `p.wasm`
          caused by: it imports `now` from `env`

          hint: a component of the SDK has no imports of its own
        exit 2
    "#]],
    );
    check(
        &hand_made(&[], &["jackfield_abi"]),
        expect![[r#"
        error: cannot pack `p.wasm`
          caused by: it exports no function `jackfield_canonical_call`

          hint: build it with the SDK of this command's version
        exit 2
    "#]],
    );
}

#[test]
fn a_component_says_what_it_is_and_lies_beside_its_module() {
    let dir = TempDir::new().expect("a directory");
    fs::copy(module("plugins", "english"), dir.path().join("english.wasm")).expect("copied");
    let said = pack_in(&dir, &["english.wasm", "--json"]);
    let said: serde_json::Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    assert_eq!(said["component"], "english.component.wasm");
    assert_eq!(said["interfaces"], serde_json::json!([GREETER]));
    let bytes = fs::read(dir.path().join("english.component.wasm")).expect("written");
    assert_eq!(said["bytes"], bytes.len());
    let about = wasmparser::Parser::new(0).parse_all(&bytes).filter_map(|payload| match payload.expect("sound") {
        wasmparser::Payload::CustomSection(section) if section.name() == "jackfield:about" => {
            Some(section.data().to_vec())
        }
        _ => None,
    });
    let about: Vec<serde_json::Value> = about.map(|json| serde_json::from_slice(&json).expect("JSON")).collect();
    assert_eq!(about.len(), 1, "one, at the outermost level");
    assert_eq!(about[0]["plugin"]["name"], "english");
    assert_eq!(about[0]["interfaces"][0]["interface"], GREETER);
}
