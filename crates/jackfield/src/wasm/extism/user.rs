//! Functions of the application's, linked to the plugins whose manifests grant them.
//!
//! Guaranteed: an error or a panic of one ends the call in which it was called, and no other; so does one that
//! comes back after the deadline; one that is async is dropped there.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use jackfield_protocol::call::Cause;
use wasmtime::{Caller, Engine, ExternType, FuncType, Linker, Module, Val, ValType};

use super::super::WasmError;
use super::super::guest::{DeadlineReached, Guest};
use super::memory::Arena;
use super::{Broke, ENV, USER, exports};
use crate::host_function::{HostCall, HostFunction, HostFunctionError, MemoryError, Number, NumberType, Run};
use crate::mechanism::Spec;

/// What is known of the functions that a module imports.
#[derive(Default)]
pub(super) struct Linked {
    /// Whether there are any.
    pub(super) any: bool,
    /// Whether one of them waits.
    pub(super) waits: bool,
}

/// Links the functions that the module imports, the application offers and the manifest grants.
pub(super) fn add(linker: &mut Linker<Guest>, module: &Module, spec: &Spec) -> Result<Linked, WasmError> {
    let mut linked = Linked::default();
    for import in module.imports() {
        let offered = offered(spec, import.module(), import.name());
        let Some(function) = offered.filter(|function| is_granted(spec, function)) else { continue };
        let ExternType::Func(wanted) = import.ty() else { continue };
        let own = |error: wasmtime::Error| WasmError::Engine { what: format!("{error:#}") };
        let ty = function_type(linker.engine(), function);
        if !FuncType::eq(&ty, &wanted) {
            let what = format!(
                "`{}` of `{}` is {} in this host, and the plugin imports it as {}",
                function.name,
                function.namespace,
                exports::signature(&ty),
                exports::signature(&wanted)
            );
            return Err(WasmError::Describe { what });
        }
        linked.any = true;
        match &function.run {
            Run::Now(_) => {
                let (function, plugin) = (function.clone(), Arc::<str>::from(&*spec.name));
                linker
                    .func_new(import.module(), import.name(), ty, move |mut caller, params, results| {
                        call(&mut caller, &plugin, &function, params, results)
                    })
                    .map_err(own)?;
            }
            Run::Later(_) => {
                linked.waits = true;
                let function = function.clone();
                linker
                    .func_new_async(import.module(), import.name(), ty, move |mut caller, params, results| {
                        let function = function.clone();
                        Box::new(async move { call_async(&mut caller, &function, params, results).await })
                    })
                    .map_err(own)?;
            }
        }
    }
    Ok(linked)
}

/// What would give a module an import that it was not given.
pub(super) fn hint(spec: &Spec, module: &str, name: &str) -> Option<String> {
    if let Some(function) = offered(spec, module, name) {
        return Some(format!(
            "`{name}` is for plugins whose manifest grants it, by `host_functions = [{:?}]` in `[sandbox]`",
            function.grant()
        ));
    }
    if module != USER {
        return None;
    }
    let names = || spec.wasm.functions.iter().filter(|function| &*function.namespace == USER).map(|known| &*known.name);
    Some(match (jackfield_protocol::nearest(name, names()), names().next()) {
        (_, None) => format!("functions of `{USER}` are an application's own, and this one has none"),
        (Some(near), _) => {
            format!("functions of `{USER}` are an application's own, and this one has no `{name}`; it has `{near}`")
        }
        (None, Some(_)) => {
            let names: Vec<_> = names().map(|name| format!("`{name}`")).collect();
            let names = names.join(", ");
            format!("functions of `{USER}` are an application's own, and this one has no `{name}`; it has {names}")
        }
    })
}

/// The function of a name, the one that was added last. What Extism and WASI have cannot be replaced.
fn offered<'a>(spec: &'a Spec, module: &str, name: &str) -> Option<&'a HostFunction> {
    let own = module == ENV || module.starts_with("wasi");
    let mut functions = spec.wasm.functions.iter().rev().filter(|_| !own);
    functions.find(|function| &*function.namespace == module && &*function.name == name)
}

fn is_granted(spec: &Spec, function: &HostFunction) -> bool {
    spec.wasm.grants.host_functions.contains(&function.grant())
}

fn function_type(engine: &Engine, function: &HostFunction) -> FuncType {
    let types = |types: &[NumberType]| -> Vec<ValType> {
        let one = |ty: &NumberType| match ty {
            NumberType::I32 => ValType::I32,
            NumberType::I64 => ValType::I64,
            NumberType::F32 => ValType::F32,
            NumberType::F64 => ValType::F64,
        };
        types.iter().map(one).collect()
    };
    FuncType::new(engine, types(&function.params), types(&function.results))
}

fn call(
    caller: &mut Caller<'_, Guest>,
    plugin: &str,
    function: &HostFunction,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let Run::Now(run) = &function.run else { unreachable!("it was linked as what it is") };
    let until = caller.data().extism.until;
    let params: Vec<Number> = params.iter().map(number).collect();
    let mut given: Vec<Number> = function.results.iter().map(|ty| ty.zero()).collect();
    let mut arena = Arena(caller);
    let mut call = HostCall::new(plugin, until, &mut arena);
    let made = catch_unwind(AssertUnwindSafe(|| run(&mut call, &params, &mut given)));
    made.unwrap_or_else(|panic| Err(panicked(&*panic))).map_err(|error| broke(function, error))?;
    if until.is_some_and(|until| until <= Instant::now()) {
        return Err(DeadlineReached.into());
    }
    for ((number, ty), result) in given.into_iter().zip(&*function.results).zip(results) {
        if number.ty() != *ty {
            let why = format!("it gave an {} for an {}", number.ty().as_str(), ty.as_str());
            return Err(broke(function, why.into()));
        }
        *result = val(number);
    }
    Ok(())
}

async fn call_async(
    caller: &mut Caller<'_, Guest>,
    function: &HostFunction,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let Run::Later(run) = &function.run else { unreachable!("it was linked as what it is") };
    let taken: Result<Vec<_>, _> = {
        // Nothing of the application's looks at who calls, or at the time.
        let mut arena = Arena(&mut *caller);
        let call = HostCall::new("", None, &mut arena);
        params.iter().map(|param| call.read(number(param)).map(<[u8]>::to_vec)).collect()
    };
    let taken = taken.map_err(|error| broke(function, error.into()))?;
    let begun = catch_unwind(AssertUnwindSafe(|| run(taken)));
    let mut answering = begun.map_err(|panic| broke(function, panicked(&*panic)))?;
    let answer = poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| std::task::Poll::Ready(Err(panicked(&*panic))))
    });
    let answer = answer.await.map_err(|error| broke(function, error))?;
    if let [result] = results {
        let mut arena = Arena(caller);
        let mut call = HostCall::new("", None, &mut arena);
        *result = val(call.put(&answer).map_err(|error| broke(function, error.into()))?);
    }
    Ok(())
}

/// Of a function that fails, how the call of the plugin ends.
#[cold]
fn broke(function: &HostFunction, error: HostFunctionError) -> wasmtime::Error {
    let cause = match error.downcast_ref() {
        Some(MemoryError::NoRoom { .. }) => {
            Cause::Limit { limit: "memory", what: format!("the host function `{}` wanted {error}", function.name) }
        }
        _ => Cause::Refused { why: format!("the host function `{}` failed: {error}", function.name) },
    };
    Broke(cause).into()
}

#[cold]
fn panicked(panic: &(dyn std::any::Any + Send)) -> HostFunctionError {
    let message = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", message.unwrap_or("a value that is no text")).into()
}

fn number(val: &Val) -> Number {
    match val {
        Val::I32(number) => Number::I32(*number),
        Val::I64(number) => Number::I64(*number),
        Val::F32(bits) => Number::F32(f32::from_bits(*bits)),
        Val::F64(bits) => Number::F64(f64::from_bits(*bits)),
        // A function has no others in its type.
        _ => unreachable!("a number"),
    }
}

fn val(number: Number) -> Val {
    match number {
        Number::I32(number) => Val::I32(number),
        Number::I64(number) => Val::I64(number),
        Number::F32(number) => Val::F32(number.to_bits()),
        Number::F64(number) => Val::F64(number.to_bits()),
    }
}
