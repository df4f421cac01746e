//! Bare core modules: functions of numbers, which can be called without any SDK or interface.
//!
//! All exports that take and give numbers alone are one interface, `wasm:<plugin>/exports@0.0.0`, with the
//! parameters `a`, `b`, `c` and so on. A module may import WASI preview 1, and nothing else.
//!
//! Not here: modules that are plugins of another kind (`extism/`, `command.rs`).

use std::sync::Arc;

use jackfield_protocol::call::{Answer, Cause};
use jackfield_protocol::value::Encode;
use jackfield_protocol::{Encoding, Function, Interface, Param, TypeRef, is_kebab};
use semver::Version;
use tracing::Level;
use wasmtime::{Engine, ExternType, Func, FuncType, InstancePre, Linker, Module, Store, Val, ValType};

use super::WasmError;
use super::component::{Member, Plain, Shape, answer, arguments, kebab, own_interface};
use super::guest::{Guest, Watch};
use super::kind::{Ended, Request};
use crate::mechanism::{About, FunctionName, Offered, Spec};

/// What of WASI a core module may import from.
const WASI: &str = "wasi_snapshot_preview1";

/// Called once after instantiation, if a module exports it.
const INITIALIZE: &str = "_initialize";

/// Most parameters of a function: as many as there are letters for them.
const PARAMS_MAX: usize = 26;

/// Whether a function can be called with numbers alone.
pub(super) fn is_numeric(ty: &FuncType) -> bool {
    ty.params().len() <= PARAMS_MAX
        && ty.results().len() <= 1
        && ty.params().chain(ty.results()).all(|ty| Number::of(&ty).is_some())
}

/// What all instances share.
pub(super) struct Plugin {
    linked: InstancePre<Guest>,
    about: About,
    left_out: Vec<String>,
    functions: Arc<[Numeric]>,
    initialize: bool,
}

/// A function of numbers.
struct Numeric {
    /// As the module exports it.
    export: String,
    params: Vec<Member<Shape>>,
    result: Option<Number>,
}

#[derive(Clone, Copy)]
enum Number {
    S32,
    S64,
    F32,
    F64,
}

impl Plugin {
    pub(super) fn link(engine: &Engine, module: &Module, spec: &Spec) -> Result<Self, WasmError> {
        let linked = link(engine, module)?;
        let (mut functions, mut described, mut left_out) = (Vec::new(), Vec::<Function>::new(), Vec::new());
        for export in module.exports() {
            let ExternType::Func(ty) = export.ty() else { continue };
            // What begins with `_` is the toolchain's.
            if export.name().starts_with('_') {
                continue;
            }
            let mut leave_out = |why: &str| left_out.push(format!("`{}`: {why}", export.name()));
            let Some(name) = kebab(export.name()).filter(|name| is_kebab(name)) else {
                leave_out("its name cannot be written in kebab-case");
                continue;
            };
            if !is_numeric(&ty) {
                leave_out("it takes or gives what is no number");
                continue;
            }
            if described.iter().any(|other| other.name == name) {
                leave_out("another function has this name in kebab-case");
                continue;
            }
            let numbers: Vec<_> = ty.params().filter_map(|ty| Number::of(&ty)).collect();
            let letters = ('a'..='z').map(String::from);
            let result = ty.results().next().and_then(|ty| Number::of(&ty));
            described.push(Function {
                name,
                docs: String::new(),
                params: letters.clone().zip(&numbers).map(|(name, ty)| Param { name, ty: ty.type_ref() }).collect(),
                result: result.map(Number::type_ref),
                idempotent: false,
            });
            functions.push(Numeric {
                export: export.name().to_owned(),
                params: letters.zip(&numbers).map(|(name, ty)| Member { name, shape: ty.shape() }).collect(),
                result,
            });
        }
        let id = own_interface(&spec.name, Version::new(0, 0, 0));
        let describe = |error: jackfield_protocol::InterfaceError| WasmError::Describe { what: error.to_string() };
        let interface = Interface::new(id.clone(), String::new(), |_| described).map_err(describe)?;
        let version = spec.declared.version.clone().unwrap_or(Version::new(0, 0, 0));
        let about = About {
            name: spec.name.clone(),
            version: version.to_string(),
            capabilities: spec.declared.capabilities.clone(),
            interfaces: vec![Offered { id, description: Some(Arc::new(interface)), binary: true }],
            services: Vec::new(),
            speaks: String::new(),
        };
        let initialize = matches!(module.get_export(INITIALIZE), Some(ExternType::Func(ty))
            if ty.params().len() == 0 && ty.results().len() == 0);
        Ok(Self { linked, about, left_out, functions: functions.into(), initialize })
    }

    pub(super) async fn instantiate(&self, mut store: Store<Guest>) -> wasmtime::Result<Live> {
        let instance = self.linked.instantiate_async(&mut store).await?;
        if self.initialize {
            instance.get_typed_func::<(), ()>(&mut store, INITIALIZE)?.call_async(&mut store, ()).await?;
        }
        let funcs = self.functions.iter().map(|function| instance.get_func(&mut store, &function.export));
        let funcs = funcs.collect::<Option<_>>();
        let funcs = funcs.ok_or_else(|| wasmtime::Error::msg("the instance lacks a function that its module has"))?;
        Ok(Live { store, funcs, functions: Arc::clone(&self.functions) })
    }

    pub(super) async fn describe(&mut self, live: &mut Live, _: &Spec) -> Result<About, WasmError> {
        for what in self.left_out.drain(..) {
            live.watch().logged(Level::WARN, &format!("not offered: {what}"));
        }
        Ok(self.about.clone())
    }

    pub(super) fn function(&self, interface: usize, function: &FunctionName) -> Option<usize> {
        let description = self.about.interfaces.get(interface)?.description.as_ref()?;
        let position = match function.position {
            Some(position) => usize::try_from(position).ok()?,
            None => description.function(&function.name)?.0,
        };
        (position < self.functions.len()).then_some(position)
    }
}

fn link(engine: &Engine, module: &Module) -> Result<InstancePre<Guest>, WasmError> {
    let broken = |error: wasmtime::Error| WasmError::Engine { what: format!("{error:#}") };
    let foreign = module.imports().filter(|import| import.module() != WASI);
    let foreign: Vec<_> = foreign.map(|import| format!("`{}` of `{}`", import.name(), import.module())).collect();
    if !foreign.is_empty() {
        let hint = format!("; a module of bare functions may import `{WASI}` alone");
        return Err(WasmError::Imports { missing: foreign.join(", "), hint });
    }
    let mut linker = Linker::<Guest>::new(engine);
    if module.imports().len() > 0 {
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, |guest| &mut guest.wasi).map_err(broken)?;
    }
    linker
        .instantiate_pre(module)
        .map_err(|error| WasmError::Imports { missing: error.root_cause().to_string(), hint: String::new() })
}

impl Number {
    fn of(ty: &ValType) -> Option<Self> {
        match ty {
            ValType::I32 => Some(Number::S32),
            ValType::I64 => Some(Number::S64),
            ValType::F32 => Some(Number::F32),
            ValType::F64 => Some(Number::F64),
            ValType::V128 | ValType::Ref(_) => None,
        }
    }

    fn type_ref(self) -> TypeRef {
        match self {
            Number::S32 => TypeRef::S32,
            Number::S64 => TypeRef::S64,
            Number::F32 => TypeRef::F32,
            Number::F64 => TypeRef::F64,
        }
    }

    fn shape(self) -> Shape {
        match self {
            Number::S32 => Shape::S32,
            Number::S64 => Shape::S64,
            Number::F32 => Shape::F32,
            Number::F64 => Shape::F64,
        }
    }
}

/// One instance.
pub(super) struct Live {
    store: Store<Guest>,
    funcs: Box<[Func]>,
    functions: Arc<[Numeric]>,
}

impl Live {
    pub(super) async fn call(&mut self, request: &Request<'_>) -> Ended {
        let (Some(function), Some(func)) = (self.functions.get(request.function), self.funcs.get(request.function))
        else {
            return Ended::Well(Err(Cause::Unimplemented { hint: String::new() }));
        };
        let mut room = [const { None::<Plain<'_>> }; PARAMS_MAX];
        let read = arguments(request.encoding, request.arguments, &function.params, &mut room);
        let values: Vec<_> = match read {
            Ok(()) => room.into_iter().flatten().filter_map(number).collect(),
            Err(why) => return Ended::Well(Err(Cause::Refused { why })),
        };
        let mut given = [Val::I32(0)];
        let given = if function.result.is_none() { &mut given[..0] } else { &mut given[..] };
        match func.call_async(&mut self.store, &values, given).await {
            Ok(()) => Ended::Well(written(request.encoding, request.answer_bytes_max, given)),
            Err(error) => Ended::Broken(error),
        }
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.store.data().watch
    }

    pub(super) fn store(&mut self) -> &mut Store<Guest> {
        &mut self.store
    }
}

fn number(argument: Plain<'_>) -> Option<Val> {
    match argument {
        Plain::S32(number) => Some(Val::I32(number)),
        Plain::S64(number) => Some(Val::I64(number)),
        Plain::F32(number) => Some(Val::F32(number.to_bits())),
        Plain::F64(number) => Some(Val::F64(number.to_bits())),
        _ => None,
    }
}

fn written(encoding: Encoding, bytes_max: usize, given: &[Val]) -> Result<Answer, Cause> {
    match given {
        [Val::I32(number)] => answer(encoding, bytes_max, true, &Encode(number)),
        [Val::I64(number)] => answer(encoding, bytes_max, true, &Encode(number)),
        [Val::F32(bits)] => answer(encoding, bytes_max, true, &Encode(&f32::from_bits(*bits))),
        [Val::F64(bits)] => answer(encoding, bytes_max, true, &Encode(&f64::from_bits(*bits))),
        _ => answer(encoding, bytes_max, true, &Encode(&())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::limits::Limits;
    use crate::log::PluginLog;
    use crate::mechanism::{Declared, WasmSpec};
    use crate::wasm::engine::{EngineKey, engine};
    use crate::wasm::kind::Passed;
    use crate::wasm::{extism, grants};

    const MATH: &str = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (global $ready (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $ready (i32.const 1)))
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
        (func (export "addLong") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
        (func (export "halve_f") (param f32) (result f32) (f32.div (local.get 0) (f32.const 2)))
        (func (export "is_ready") (result i32) (global.get $ready))
        (func (export "isReady"))
        (func (export "trap") unreachable)
        (func (export "größe"))
        (func (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
        (func (export "refer") (param funcref)))"#;

    struct Rig {
        plugin: Plugin,
        live: Live,
        about: About,
        log: Arc<PluginLog>,
    }

    async fn rig(text: &str) -> Result<Rig, WasmError> {
        let spec = Spec {
            name: "math".to_owned(),
            entry: "math.wasm".into(),
            checked: None,
            args: Vec::new(),
            env: Vec::new(),
            limits: Limits::default(),
            cache_dir: "none".into(),
            declared: Declared::default(),
            wasm: WasmSpec::default(),
            grpc: Default::default(),
            confine: Default::default(),
            log: Arc::new(PluginLog::new("math")),
        };
        let engine = engine(EngineKey { stack_bytes: 256 << 10, fuel: false, pooled: false }).expect("an engine");
        let module = Module::new(&engine, wat::parse_str(text).expect("WAT")).expect("a module");
        let mut plugin = Plugin::link(&engine, &module, &spec)?;
        let log = Arc::clone(&spec.log);
        let watch = Watch::new(Arc::clone(&log), 1 << 20);
        let wasi = grants::wasi(&spec, &watch)?.build_p1();
        watch.begin(Duration::from_secs(60));
        let store = Guest::store(&engine, &spec.limits, wasi, extism::State::default(), watch).expect("a store");
        let mut live = plugin.instantiate(store).await.expect("an instance");
        let about = plugin.describe(&mut live, &spec).await?;
        Ok(Rig { plugin, live, about, log })
    }

    async fn call(rig: &mut Rig, function: &str, arguments: &str) -> String {
        let name = FunctionName { name: function.into(), position: None };
        let function = rig.plugin.function(0, &name).expect("a number");
        let request = Request {
            function,
            encoding: Encoding::Json,
            arguments: Passed::Encoded(arguments.as_bytes()),
            answer_bytes_max: 100,
            timeout: Duration::from_secs(60),
            trace: None,
        };
        match rig.live.call(&request).await {
            Ended::Well(Ok(answer)) => String::from_utf8_lossy(&answer.bytes()).into_owned(),
            Ended::Well(Err(cause)) => cause.to_string(),
            Ended::Broken(error) => format!("broken: {}", error.root_cause()),
        }
    }

    #[tokio::test]
    async fn functions_of_numbers_are_called_with_numbers() {
        let mut rig = rig(MATH).await.expect("a plugin");
        for (function, arguments, expected) in [
            ("add", r#"{"a": 2, "b": 3}"#, "5"),
            ("add", r#"{"a": 2147483647, "b": 1}"#, "-2147483648"),
            ("add-long", r#"{"a": "9007199254740991", "b": 1}"#, r#""9007199254740992""#),
            ("halve-f", r#"{"a": 3}"#, "1.5"),
            ("halve-f", r#"{"a": "-Infinity"}"#, r#""-Infinity""#),
            ("is-ready", "", "1"),
            ("add", r#"{"a": 2}"#, "refused: missing argument `b` at line 1 column 8"),
            (
                "add",
                r#"{"a": 2.5, "b": 1}"#,
                "refused: invalid type: floating point `2.5`, expected i32 at line 1 column 9",
            ),
            ("trap", "{}", "broken: wasm trap: wasm `unreachable` instruction executed"),
        ] {
            assert_eq!(call(&mut rig, function, arguments).await, expected, "{function} {arguments}");
        }
    }

    #[tokio::test]
    async fn what_is_no_function_of_numbers_is_left_out_and_logged() {
        let rig = rig(MATH).await.expect("a plugin");
        let interface = rig.about.interfaces[0].description.as_ref().expect("a description");
        let mut lines: Vec<_> = interface.functions.iter().map(Function::signature).collect();
        lines.insert(0, interface.id.to_string());
        lines.extend(rig.log.tail(100));
        expect![[r#"
            wasm:math/exports@0.0.0
            add(a: s32, b: s32) -> s32
            add-long(a: s64, b: s64) -> s64
            halve-f(a: f32) -> f32
            is-ready() -> s32
            trap()
            not offered: `isReady`: another function has this name in kebab-case
            not offered: `größe`: its name cannot be written in kebab-case
            not offered: `two`: it takes or gives what is no number
            not offered: `refer`: it takes or gives what is no number"#]]
        .assert_eq(&lines.join("\n"));
    }

    async fn check_refused(text: &str, expected: Expect) {
        expected.assert_eq(&match rig(text).await {
            Ok(_) => "loaded".to_owned(),
            Err(error) => error.to_string(),
        });
    }

    #[tokio::test]
    async fn imports_other_than_wasi_are_all_named() {
        check_refused(
            r#"(module (import "env" "a" (func)) (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
                (import "js" "b" (memory 1)) (func (export "f")))"#,
            expect!["it imports what this host does not offer: `a` of `env`, `b` of `js`; a module of bare functions may import `wasi_snapshot_preview1` alone"],
        )
        .await;
        check_refused(
            r#"(module (import "wasi_snapshot_preview1" "fd_wriet" (func)) (func (export "f")))"#,
            expect!["it imports what this host does not offer: unknown import: `wasi_snapshot_preview1::fd_wriet` has not been defined"],
        )
        .await;
    }
}
