//! Extism plugins: core modules that pass everything through a memory that is not theirs.
//!
//! A call puts the canonical JSON of its arguments where the guest asks for its input, runs the export of the
//! function's name, and reads what the guest has set as its output or as its error. Plugins that were
//! published for other hosts run unchanged; one that says nothing of its functions offers each as
//! `name(input: string) -> string`, and then input and output are text as it is.
//!
//! Modules of our own SDK are Extism plugins, and have a second face: `direct.rs`.
//!
//! Guaranteed: an offset, a length or a handle that a guest names is checked before a byte is touched; that
//! memory is bounded by `memory_bytes`; HTTP goes where the manifest says and nowhere
//! else, and a slow server keeps no thread of the application's; of the functions of the application's own
//! (`extism:host/user`) it gets those that its manifest grants (`user.rs`).

mod direct;
mod exports;
mod functions;
#[cfg(feature = "wasm-http")]
mod http;
pub(super) mod imports;
pub(super) mod kernel;
mod memory;
mod state;
mod user;

use std::sync::{Arc, OnceLock};

use jackfield_protocol::Encoding;
use jackfield_protocol::call::Cause;
use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Store, TypedFunc};
use wasmtime_wasi::I32Exit;

use super::WasmError;
use super::guest::{Guest, Watch};
use super::kind::{Ended, Request};
use crate::mechanism::{About, FunctionName, Spec};

use direct::Direct;
use exports::{Called, Described, Exports, Gives, Start};
use kernel::{Beside, Kernel};
use memory::Arena;

pub(super) use state::State;

/// The module that an Extism plugin imports the host's functions from.
pub(super) const ENV: &str = "extism:host/env";

/// The module that it imports functions of an application from.
pub(super) use crate::host_function::NAMESPACE as USER;

/// The export by which a module of our SDK says what it is.
pub(super) const ABOUT: &str = "jackfield_about";

/// The exports, of a module of our SDK, by which it learns the span of its next call, and gives those of its last.
pub(super) const TRACE: &str = "jackfield_trace";
pub(super) const SPANS: &str = "jackfield_spans";

/// An end of a call that is not a trap of the guest's own: what it is to be reported as.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::wasm) struct Broke(pub(in crate::wasm) Cause);

/// What all instances share.
pub(super) struct Plugin {
    linked: Linked,
    state: State,
    shared: Arc<Shared>,
}

/// All of it but its instances.
enum Linked {
    /// It sees nothing of Extism's memory.
    Alone(InstancePre<Guest>),
    Beside(Box<Beside>),
}

/// What is known of the module.
struct Shared {
    exports: Exports,
    /// Which function is which, once it is described.
    described: OnceLock<Described>,
    /// Nothing that it imports waits.
    alone: bool,
}

/// One instance.
pub(super) struct Live {
    store: Store<Guest>,
    instance: Instance,
    shared: Arc<Shared>,
    /// As [`Exports::callable`]; found when first called.
    functions: Vec<Option<Function>>,
    /// Found when first called.
    direct: Option<Direct>,
    watch: Arc<Watch>,
    spent: bool,
}

enum Function {
    Code(TypedFunc<(), i32>),
    Nothing(TypedFunc<(), ()>),
}

impl Plugin {
    pub(super) fn link(engine: &Engine, module: &Module, spec: &Spec) -> Result<Self, WasmError> {
        let mut linker = Linker::new(engine);
        let own = |error: wasmtime::Error| WasmError::Engine { what: format!("{error:#}") };
        functions::add(&mut linker).map_err(own)?;
        // Its functions take a while to define, and most plugins of this kind want none of them.
        if module.imports().any(|import| import.module().starts_with("wasi")) {
            wasmtime_wasi::p1::add_to_linker_async(&mut linker, |guest: &mut Guest| &mut guest.wasi).map_err(own)?;
        }
        let lent = user::add(&mut linker, module, spec)?;
        let linked = match kernel::is_wanted(module) {
            false => Linked::Alone(imports::link(&linker, module, spec)?),
            true => {
                let kernel = Kernel::link(engine).map_err(own)?;
                kernel.announce(&mut linker).map_err(own)?;
                imports::link(&linker, module, spec)?;
                Linked::Beside(Box::new(Beside::new(kernel, linker, module)))
            }
        };
        let http = imports::wants_http(module);
        let alone = !http && !lent.waits && module.imports().all(|import| !import.module().starts_with("wasi"));
        let shared = Shared { exports: Exports::of(module), described: OnceLock::new(), alone };
        Ok(Self { linked, state: State::new(spec, http || lent.any), shared: Arc::new(shared) })
    }

    /// What the store of each instance begins with.
    pub(super) fn state(&self) -> State {
        self.state.clone()
    }

    pub(super) async fn instantiate(&self, mut store: Store<Guest>) -> wasmtime::Result<Live> {
        let watch = Arc::clone(&store.data().watch);
        store.data_mut().extism.begin(None);
        let instance = match &self.linked {
            Linked::Alone(pre) => pre.instantiate_async(&mut store).await?,
            Linked::Beside(beside) => beside.instantiate(&mut store).await?,
        };
        if matches!(self.shared.exports.start, Start::Initialize | Start::Haskell { initialize: true }) {
            instance.get_typed_func::<(), ()>(&mut store, "_initialize")?.call_async(&mut store, ()).await?;
        }
        match self.shared.exports.start {
            Start::Constructors => {
                let constructors = instance.get_typed_func::<(), ()>(&mut store, "__wasm_call_ctors")?;
                constructors.call_async(&mut store, ()).await?;
            }
            Start::Haskell { .. } => {
                let runtime = instance.get_typed_func::<(i32, i32), ()>(&mut store, "hs_init")?;
                runtime.call_async(&mut store, (0, 0)).await?;
            }
            Start::Initialize | Start::Nothing => {}
        }
        let functions = self.shared.exports.callable.iter().map(|_| None).collect();
        Ok(Live { store, instance, shared: Arc::clone(&self.shared), functions, direct: None, watch, spent: false })
    }

    /// A module of our SDK says it all; of another, the manifest may; else each export is a function from
    /// text to text.
    pub(super) async fn describe(&mut self, live: &mut Live, spec: &Spec) -> Result<About, WasmError> {
        let exports = &self.shared.exports;
        let (about, described) = if exports.direct {
            let about = live.about(spec).await?;
            let described = exports.of_sdk(&about)?;
            (about, described)
        } else if !spec.declared.interfaces.is_empty() || !spec.declared.descriptions.is_empty() {
            exports.declared(spec)?
        } else {
            exports.text(spec)?
        };
        // It is described once: what it is does not change while it is linked.
        let _ = self.shared.described.set(described);
        Ok(about)
    }

    pub(super) fn function(&self, interface: usize, function: &FunctionName) -> Option<usize> {
        self.shared.described.get()?.function(&self.shared.exports, interface, function)
    }
}

impl Shared {
    /// How `jackfield_call` knows a function, by its number.
    #[inline]
    fn direct(&self, function: usize) -> Option<exports::Direct> {
        self.described.get()?.direct(function)
    }
}

impl Plugin {
    pub(super) fn takes_whole(&self, function: usize) -> bool {
        self.shared.direct(function).is_some_and(|direct| direct.takes_whole)
    }
}

/// A call, on one of the two ways into a plugin.
enum Way {
    /// By the Extism ABI: an export, whose input is there.
    Export(usize, Called),
    Direct(exports::Direct),
}

impl Live {
    #[inline]
    pub(super) fn call_here(&mut self, request: &Request<'_>) -> Ended {
        if let (Encoding::Binary, Some(function)) = (request.encoding, self.shared.direct(request.function)) {
            self.begin_direct(request);
            return self.call_direct_here(function, request);
        }
        self.call_export_here(request)
    }

    fn call_export_here(&mut self, request: &Request<'_>) -> Ended {
        match self.begin(request) {
            Err(ended) => ended,
            Ok(Way::Direct(function)) => self.call_direct_here(function, request),
            Ok(Way::Export(export, called)) => {
                let run = match &self.functions[export] {
                    Some(Function::Code(function)) => function.call(&mut self.store, ()),
                    Some(Function::Nothing(function)) => function.call(&mut self.store, ()).map(|()| 0),
                    None => unreachable!("it was found"),
                };
                self.end_export(export, called, run, request)
            }
        }
    }

    pub(super) async fn call(&mut self, request: &Request<'_>) -> Ended {
        let Some(trace) = request.trace else { return self.call_untraced(request).await };
        self.store.data_mut().extism.traceparent = trace.to_string();
        let wanted = match self.tell_trace(&trace).await {
            Ok(told) => told && trace.sampled && self.watch.recorder().takes_spans(),
            Err(error) => return Ended::Broken(error),
        };
        let ended = self.call_untraced(request).await;
        self.store.data_mut().extism.traceparent.clear();
        match ended {
            Ended::Well(answer) if wanted => match self.take_spans().await {
                Ok(()) => Ended::Well(answer),
                Err(error) => Ended::Broken(error),
            },
            ended => ended,
        }
    }

    async fn call_untraced(&mut self, request: &Request<'_>) -> Ended {
        match self.begin(request) {
            Err(ended) => ended,
            Ok(Way::Direct(function)) => self.call_direct(function, request).await,
            Ok(Way::Export(export, called)) => {
                let run = match &self.functions[export] {
                    Some(Function::Code(function)) => function.call_async(&mut self.store, ()).await,
                    Some(Function::Nothing(function)) => function.call_async(&mut self.store, ()).await.map(|()| 0),
                    None => unreachable!("it was found"),
                };
                self.end_export(export, called, run, request)
            }
        }
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    pub(super) fn store(&mut self) -> &mut Store<Guest> {
        &mut self.store
    }

    pub(super) fn runs_here(&self) -> bool {
        self.shared.alone
    }

    /// Whether it ended well and can nevertheless not be called again: its `_start` has run, or it exited.
    pub(super) fn spent(&self) -> bool {
        self.spent
    }

    fn begin(&mut self, request: &Request<'_>) -> Result<Way, Ended> {
        let called = self.shared.described.get().and_then(|described| described.called(request.function));
        let Some(called) = called else {
            return Err(Ended::Well(Err(Cause::Unimplemented { hint: String::new() })));
        };
        let refused = |why: String| Ended::Well(Err(Cause::Refused { why }));
        match (request.encoding, called.export, called.direct) {
            (Encoding::Json, Some(export), _) => {
                let arguments = request.arguments.bytes();
                self.store.data_mut().extism.begin(Some(request.timeout));
                let begun = match called.text {
                    false => Arena(&mut self.store).begin(&arguments),
                    true => {
                        let input = exports::text_in(&arguments).map_err(refused)?;
                        Arena(&mut self.store).begin(input.as_bytes())
                    }
                };
                begun.map_err(|cause| Ended::Well(Err(cause)))?;
                self.find(export).map_err(Ended::Broken)?;
                Ok(Way::Export(export, called))
            }
            (_, _, Some(function)) => {
                self.begin_direct(request);
                Ok(Way::Direct(function))
            }
            (encoding, ..) => Err(refused(format!("an Extism function takes JSON, not {encoding}"))),
        }
    }

    #[inline]
    fn begin_direct(&mut self, request: &Request<'_>) {
        let state = &mut self.store.data_mut().extism;
        state.begin(Some(request.timeout));
        // What it logs goes through Extism's memory; most calls have left nothing there.
        if state.memory.is_used() {
            Arena(&mut self.store).clear();
        }
    }

    fn end_export(
        &mut self,
        export: usize,
        called: Called,
        run: wasmtime::Result<i32>,
        request: &Request<'_>,
    ) -> Ended {
        let code = match run {
            Ok(code) => code,
            // An exit that says that all is well, which is how a `_start` ends.
            Err(error) if error.downcast_ref::<I32Exit>().is_some_and(|exit| exit.0 == 0) => {
                self.spent = true;
                0
            }
            Err(error) => return Ended::Broken(error),
        };
        self.spent |= self.shared.exports.callable[export].starts;
        let Called { text, own_error, .. } = called;
        let state = &self.store.data().extism;
        let linear = state.memory.linear(&self.store);
        Ended::Well(state.answer(linear, code, text, own_error, request.answer_bytes_max))
    }

    fn find(&mut self, export: usize) -> wasmtime::Result<()> {
        if self.functions[export].is_some() {
            return Ok(());
        }
        let known = &self.shared.exports.callable[export];
        let function = self.instance.get_module_export(&mut self.store, &known.at).and_then(|found| found.into_func());
        let function = function.ok_or_else(|| wasmtime::format_err!("`{}` is no function", known.name))?;
        self.functions[export] = Some(match known.gives {
            Gives::Code => Function::Code(function.typed(&self.store)?),
            Gives::Nothing => Function::Nothing(function.typed(&self.store)?),
        });
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
