//! The memory kernel: a small module of our own (`kernel.wat`), instantiated beside each Extism plugin.
//!
//! Guests read and write Extism's memory by one call for every eight bytes. From WebAssembly to WebAssembly such
//! a call costs a tenth of one to the host. So the bytes are the kernel's linear memory, and the functions that
//! are called so often are its exports; all others are the host's (`functions.rs`), and so is the table of
//! blocks (`memory.rs`).
//!
//! It is compiled once for each engine, and is kept in the cache of compiled code like a plugin.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::{Caller, Engine, Extern, ExternType, Instance, InstancePre, Linker, Module, ModuleExport, Store};

use super::super::cache::Cache;
use super::super::compile::{self, Code, Shape};
use super::super::guest::Guest;
use super::ENV;

/// `kernel.wat`, assembled. A test says that it is.
const WASM: &[u8] = include_bytes!("kernel.wasm");

/// Its name, in backtraces.
const NAME: &str = "jackfield_extism_memory";

/// What it imports the host's functions from.
const HOST: &str = "host";

/// The compiled kernel of each engine. There are as few as there are engines.
static COMPILED: Mutex<Vec<Module>> = Mutex::new(Vec::new());

/// Takes the kernel for an engine from the cache, or compiles it and puts it there, if the module is one that
/// has use for it. If that fails, whoever links the module compiles it, or says why not.
pub(in super::super) async fn prepare(engine: &Engine, module: &Module, cache: &Cache, timeout: Duration) {
    if !is_wanted(module) || known(&compiled(), engine).is_some() {
        return;
    }
    match compile::code(engine, Shape::Module, WASM.into(), cache, timeout).await {
        Ok((Code::Module(module), _)) => remember(engine, module),
        Ok((Code::Component(_), _)) => unreachable!("it is a module"),
        Err(error) => tracing::warn!(target: "jackfield::wasm", "Extism's memory is not prepared: {error}"),
    }
}

/// Whether a module can see anything of Extism's memory: by Extism's functions, or by an application's.
pub(super) fn is_wanted(module: &Module) -> bool {
    module.imports().any(|import| !import.module().starts_with("wasi"))
}

/// Whether a frame of a stack is the kernel's, and so of no interest to who wrote the plugin.
pub(in super::super) fn is_kernel(module: &Module) -> bool {
    module.name() == Some(NAME)
}

fn of(engine: &Engine) -> wasmtime::Result<Module> {
    if let Some(module) = known(&compiled(), engine) {
        return Ok(module);
    }
    let module = compile::in_pool(|| compile::compile(engine, Shape::Module, WASM))?;
    let Code::Module(module) = module else { unreachable!("it is a module") };
    remember(engine, module.clone());
    Ok(module)
}

fn compiled() -> MutexGuard<'static, Vec<Module>> {
    COMPILED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn known(compiled: &[Module], engine: &Engine) -> Option<Module> {
    compiled.iter().find(|module| Engine::same(module.engine(), engine)).cloned()
}

fn remember(engine: &Engine, module: Module) {
    let mut compiled = compiled();
    // Two may have compiled it at the same time.
    if known(&compiled, engine).is_none() {
        compiled.push(module);
    }
}

/// The kernel, linked: all but its instances.
pub(super) struct Kernel {
    pre: InstancePre<Guest>,
    memory: ModuleExport,
    /// By name, the functions that it lends.
    functions: Vec<(String, ModuleExport)>,
}

impl Kernel {
    pub(super) fn link(engine: &Engine) -> wasmtime::Result<Self> {
        let module = of(engine)?;
        let mut linker = Linker::new(engine);
        linker
            .func_wrap(HOST, "out_of_range", |call: Caller<Guest>, at: u64, len: u32| -> wasmtime::Result<()> {
                Err(call.data().extism.memory.out_of_range(at, u64::from(len)).into())
            })?
            .func_wrap(
                HOST,
                "input_out_of_range",
                |call: Caller<Guest>, at: u64, len: u32| -> wasmtime::Result<()> {
                    let input = call.data().extism.memory.input();
                    Err(wasmtime::format_err!("{len} bytes at {at} are not within the {input} bytes of input"))
                },
            )?;
        let export = |name: &str| {
            module.get_export_index(name).ok_or_else(|| wasmtime::format_err!("the memory kernel exports no `{name}`"))
        };
        let lent = module.exports().filter(|known| matches!(known.ty(), ExternType::Func(_)));
        let functions = lent.map(|known| Ok((known.name().to_owned(), export(known.name())?)));
        let functions = functions.collect::<wasmtime::Result<_>>()?;
        Ok(Self { memory: export("memory")?, functions, pre: linker.instantiate_pre(&module)? })
    }

    /// Says of what type its functions are, so that modules can be checked against them before there is a store.
    pub(super) fn announce(&self, linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
        for export in self.pre.module().exports() {
            let ExternType::Func(ty) = export.ty() else { continue };
            // Never called: an instance gets those of the kernel beside it.
            linker.func_new(ENV, export.name(), ty, |_, _, _| wasmtime::bail!("there is no memory kernel"))?;
        }
        Ok(())
    }

    /// Makes an instance, in whose memory Extism's lies from then on.
    pub(super) fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
        // It runs nothing, and so needs no stack.
        let instance = Guest::unlimited(store, |store| self.pre.instantiate(store))?;
        let memory = instance.get_module_export(&mut *store, &self.memory).and_then(Extern::into_memory);
        let memory = memory.ok_or_else(|| wasmtime::format_err!("the memory kernel has no memory"))?;
        store.data_mut().extism.memory.lies_in(memory);
        Ok(instance)
    }

    fn function(&self, module: &str, name: &str) -> Option<ModuleExport> {
        let mut known = self.functions.iter().filter(|_| module == ENV);
        known.find(|(known, _)| known == name).map(|(_, export)| *export)
    }
}

/// A module with a kernel beside each of its instances.
pub(super) struct Beside {
    kernel: Kernel,
    linker: Linker<Guest>,
    module: Module,
    imports: Vec<Import>,
}

/// Where an import comes from.
enum Import {
    Kernel(ModuleExport),
    Linker { module: Arc<str>, name: Arc<str> },
}

impl Beside {
    /// Of a module that was found to [link](super::imports::link).
    pub(super) fn new(kernel: Kernel, linker: Linker<Guest>, module: &Module) -> Self {
        let import = |import: wasmtime::ImportType<'_>| match kernel.function(import.module(), import.name()) {
            Some(export) => Import::Kernel(export),
            None => Import::Linker { module: import.module().into(), name: import.name().into() },
        };
        let imports = module.imports().map(import).collect();
        Self { kernel, linker, module: module.clone(), imports }
    }

    pub(super) async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
        let kernel = self.kernel.instantiate(store)?;
        let mut imports = Vec::with_capacity(self.imports.len());
        for import in &self.imports {
            imports.push(match import {
                Import::Kernel(export) => kernel
                    .get_module_export(&mut *store, export)
                    .ok_or_else(|| wasmtime::format_err!("the memory kernel lacks a function"))?,
                Import::Linker { module, name } => self.linker.get(&mut *store, module, name)?,
            });
        }
        Instance::new_async(store, &self.module, &imports).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::compile::Origin;
    use super::super::super::engine::{EngineKey, engine};
    use super::*;

    #[tokio::test]
    async fn it_is_compiled_once_and_then_comes_from_the_cache() {
        // No other test has this engine.
        let engine = engine(EngineKey { stack_bytes: 196 << 10, fuel: false, pooled: false }).expect("an engine");
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(directory.path().join("wasm"), 1 << 20);
        let long = Duration::from_secs(60);
        let module = |wat: &str| Module::new(&engine, wat::parse_str(wat).expect("a module")).expect("a module");
        prepare(&engine, &module("(module)"), &cache, long).await;
        assert!(known(&compiled(), &engine).is_none(), "who has no use for it does not wait for it");
        let wants = module(r#"(module (import "extism:host/env" "input_length" (func (result i64))))"#);
        prepare(&engine, &wants, &cache, long).await;
        assert!(known(&compiled(), &engine).is_some());
        // As another process would.
        let (_, origin) = compile::code(&engine, Shape::Module, WASM.into(), &cache, long).await.expect("code");
        assert_eq!(origin, Origin::Cached);
    }

    #[test]
    fn what_is_embedded_is_what_is_written() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wasm/extism/kernel");
        let made = wat::parse_file(format!("{path}.wat")).expect("it assembles");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(format!("{path}.wasm"), &made).expect("written");
        }
        assert!(made == WASM, "`kernel.wasm` is not `kernel.wat`: run this test with UPDATE_EXPECT=1, and again");
    }
}
