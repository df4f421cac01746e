//! The kinds of WebAssembly plugin, told apart by what is in the file, behind one face.
//!
//! Each kind has the same rooms: a `Plugin`, which is what all instances share (linked code, and where each
//! function is), and a `Live`, one instance that makes one call at a time. How many there are, how long a
//! call may take and what happens after a failure is `instances.rs`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jackfield_protocol::call::{Answer, Cause, Whole};
use jackfield_protocol::{Encoding, TraceContext};
use wasmtime::{Engine, ExternType, Module, Store};

use super::compile::Code;
use super::guest::{Guest, Watch};
use super::{WasmError, command, component, core, extism};
use crate::mechanism::{About, Arguments, FunctionName, Spec};

/// What all instances of a plugin share.
pub(super) enum Plugin {
    Component(component::Plugin),
    Extism(extism::Plugin),
    Core(core::Plugin),
    Command(command::Plugin),
}

/// One instance.
pub(super) enum Live {
    Component(component::Live),
    Extism(extism::Live),
    Core(core::Live),
    Command(command::Live),
}

/// How a call in an instance ended.
pub(super) enum Ended {
    /// With an answer, or with a failure that has left the instance as it was.
    Well(Result<Answer, Cause>),
    /// The instance trapped, or left the protocol: it is not used again.
    Broken(wasmtime::Error),
}

/// A call, ready to go to an instance.
pub(super) struct Request<'a> {
    /// As [`Plugin::function`] numbered it.
    pub(super) function: usize,
    pub(super) encoding: Encoding,
    pub(super) arguments: Passed<'a>,
    /// Largest answer, in bytes as it is encoded, or of its content where it is passed as it is. A longer one
    /// is `Cause::Limit { limit: "answer_bytes" }`.
    pub(super) answer_bytes_max: usize,
    pub(super) timeout: Duration,
    /// The span it is made in. Bare modules have no place for it.
    pub(super) trace: Option<TraceContext>,
}

/// The arguments of a call, lent to an instance.
#[derive(Clone, Copy)]
pub(super) enum Passed<'a> {
    Encoded(&'a [u8]),
    /// The only argument, as it is. Only to what [takes](Plugin::takes_whole) it.
    Whole(&'a Whole),
}

impl<'a> Passed<'a> {
    #[inline]
    pub(super) fn of(arguments: &'a Arguments) -> Self {
        match arguments {
            Arguments::Encoded(bytes) => Passed::Encoded(bytes),
            Arguments::Whole(whole) => Passed::Whole(whole),
        }
    }

    /// Their length, as they are encoded.
    #[inline]
    pub(super) fn encoded_len(self) -> usize {
        match self {
            Passed::Encoded(bytes) => bytes.len(),
            Passed::Whole(whole) => whole.length().len() + whole.content().len(),
        }
    }

    /// Writes them, encoded, to where [that much room](Passed::encoded_len) is.
    #[inline]
    pub(super) fn encode_to(self, room: &mut [u8]) {
        match self {
            Passed::Encoded(bytes) => room.copy_from_slice(bytes),
            Passed::Whole(whole) => {
                let length = whole.length();
                let (head, content) = room.split_at_mut(length.len());
                head.copy_from_slice(&length);
                content.copy_from_slice(whole.content());
            }
        }
    }

    /// As they are encoded.
    pub(super) fn bytes(self) -> Cow<'a, [u8]> {
        match self {
            Passed::Encoded(bytes) => Cow::Borrowed(bytes),
            Passed::Whole(whole) => Cow::Owned(whole.binary()),
        }
    }
}

impl Plugin {
    /// Links the code of the file `bytes` with what the host offers. What it imports beyond that is named in the error.
    pub(super) fn link(engine: &Engine, code: Code, spec: &Spec, bytes: &[u8]) -> Result<Self, WasmError> {
        match code {
            Code::Component(code) => Ok(Plugin::Component(component::Plugin::link(engine, &code, spec, bytes)?)),
            Code::Module(module) => match ModuleKind::of(&module, spec)? {
                ModuleKind::Extism => Ok(Plugin::Extism(extism::Plugin::link(engine, &module, spec)?)),
                ModuleKind::Core => Ok(Plugin::Core(core::Plugin::link(engine, &module, spec)?)),
                ModuleKind::Command => Ok(Plugin::Command(command::Plugin::link(engine, &module, spec)?)),
            },
        }
    }

    /// `component`, `Extism ABI`, …: what `inspect` shows.
    pub(super) fn speaks(&self) -> &'static str {
        match self {
            Plugin::Component(_) => "component model",
            Plugin::Extism(_) => "Extism ABI",
            Plugin::Core(_) => "core module",
            Plugin::Command(_) => "WASI command",
        }
    }

    /// What the store of each instance begins with, for an Extism plugin.
    pub(super) fn extism_state(&self) -> extism::State {
        match self {
            Plugin::Extism(plugin) => plugin.state(),
            _ => extism::State::default(),
        }
    }

    /// Makes an instance and runs what it runs at its start. The caller sets the deadline.
    pub(super) async fn instantiate(&self, store: Store<Guest>) -> wasmtime::Result<Live> {
        match self {
            Plugin::Component(plugin) => Ok(Live::Component(plugin.instantiate(store).await?)),
            Plugin::Extism(plugin) => Ok(Live::Extism(plugin.instantiate(store).await?)),
            Plugin::Core(plugin) => Ok(Live::Core(plugin.instantiate(store).await?)),
            Plugin::Command(plugin) => Ok(Live::Command(plugin.instantiate(store).await?)),
        }
    }

    /// Who the plugin says it is, asked of its first instance; and from then on which function is which.
    pub(super) async fn describe(&mut self, live: &mut Live, spec: &Spec) -> Result<About, WasmError> {
        match (self, live) {
            (Plugin::Component(plugin), Live::Component(live)) => plugin.describe(live, spec).await,
            (Plugin::Extism(plugin), Live::Extism(live)) => plugin.describe(live, spec).await,
            (Plugin::Core(plugin), Live::Core(live)) => plugin.describe(live, spec).await,
            (Plugin::Command(plugin), Live::Command(live)) => plugin.describe(live, spec).await,
            _ => unreachable!("an instance is of its plugin's kind"),
        }
    }

    /// The number of a function of an interface, by its position in [`About::interfaces`]; none if the
    /// plugin does not have it.
    pub(super) fn function(&self, interface: usize, function: &FunctionName) -> Option<usize> {
        match self {
            Plugin::Component(plugin) => plugin.function(interface, function),
            Plugin::Extism(plugin) => plugin.function(interface, function),
            Plugin::Core(plugin) => plugin.function(interface, function),
            Plugin::Command(plugin) => plugin.function(interface, function),
        }
    }

    /// Whether the only argument of a function, by its number, may come as it is.
    pub(super) fn takes_whole(&self, function: usize) -> bool {
        match self {
            Plugin::Component(plugin) => plugin.takes_whole(function),
            Plugin::Extism(plugin) => plugin.takes_whole(function),
            // What goes to these is written to their stdin, encoded, or is numbers.
            Plugin::Core(_) | Plugin::Command(_) => false,
        }
    }
}

impl Live {
    /// Makes a call that keeps this thread until it is over: the caller waits, and the instance
    /// [runs here](Live::runs_here).
    #[inline]
    pub(super) fn call_here(&mut self, request: &Request<'_>) -> Ended {
        match self {
            Live::Component(live) => live.call_here(request),
            Live::Extism(live) => live.call_here(request),
            Live::Core(_) | Live::Command(_) => unreachable!("its calls may be left for a while"),
        }
    }

    /// Makes a call that can be left for a while, on a stack of its own.
    pub(super) async fn call(&mut self, request: &Request<'_>) -> Ended {
        match self {
            Live::Component(live) => live.call(request).await,
            Live::Extism(live) => live.call(request).await,
            Live::Core(live) => live.call(request).await,
            // Its future is large and its calls are not the quick ones; the others are moved with each call.
            Live::Command(live) => Box::pin(live.call(request)).await,
        }
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        match self {
            Live::Component(live) => live.watch(),
            Live::Extism(live) => live.watch(),
            Live::Core(live) => live.watch(),
            Live::Command(live) => live.watch(),
        }
    }

    /// Whether it is over although its call ended well: a command that has exited, say.
    pub(super) fn spent(&self) -> bool {
        match self {
            Live::Component(_) | Live::Core(_) => false,
            Live::Extism(live) => live.spent(),
            Live::Command(live) => live.spent(),
        }
    }

    /// Whether nothing that it imports waits, so that a call needs no stack of its own to wait on.
    pub(super) fn runs_here(&self) -> bool {
        match self {
            Live::Component(live) => live.runs_here(),
            Live::Extism(live) => live.runs_here(),
            Live::Core(_) | Live::Command(_) => false,
        }
    }

    /// Gives the next call the fuel it may use.
    pub(super) fn refuel(&mut self, fuel: u64) -> wasmtime::Result<()> {
        match self {
            Live::Component(live) => live.store().set_fuel(fuel),
            Live::Extism(live) => live.store().set_fuel(fuel),
            Live::Core(live) => live.store().set_fuel(fuel),
            Live::Command(live) => live.refuel(fuel),
        }
    }
}

/// The kinds of core module.
enum ModuleKind {
    Extism,
    Core,
    Command,
}

impl ModuleKind {
    /// By imports and exports, or as the manifest says.
    fn of(module: &Module, spec: &Spec) -> Result<Self, WasmError> {
        let imports = |name: &str| module.imports().any(|import| import.module() == name);
        let exports = |name: &str| module.get_export(name).is_some();
        if spec.wasm.abi.is_some() || imports(extism::ENV) || imports(extism::USER) || exports(extism::ABOUT) {
            return Ok(ModuleKind::Extism);
        }
        if exports("_start") {
            return Ok(ModuleKind::Command);
        }
        let numeric = module.exports().any(|export| match export.ty() {
            ExternType::Func(ty) => core::is_numeric(&ty),
            _ => false,
        });
        if numeric {
            return Ok(ModuleKind::Core);
        }
        let exported: Vec<_> = module.exports().map(|export| format!("`{}`", export.name())).collect();
        let imported: Vec<_> = module.imports().map(|import| format!("`{}`", import.module())).collect();
        let list = |names: Vec<String>| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        Err(WasmError::NoPlugin { exported: list(exported), imported: list(imported) })
    }
}
