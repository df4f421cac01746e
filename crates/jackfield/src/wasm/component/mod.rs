//! Components: called by their own types, whatever language they were written in.
//!
//! What a component exports is what it offers; no SDK has to be in it. Where it says more of itself
//! (`about.rs`), or the manifest describes an interface, that description is compared with the component's
//! types when it is loaded, and is what hosts see. Otherwise the description is read off the types
//! (`reflect.rs`).
//!
//! A call reads its arguments by the function's [`Signature`], through Rust types where that is possible
//! (`fast.rs`) and untyped where not (`lower.rs`, `lift.rs`). Arguments that cannot be read never reach the
//! instance; after an error of wasmtime's the instance is not used again.
//!
//! Not here: how long a call may take and which instance makes it (`instances.rs`).

mod about;
mod fast;
mod imports;
mod lift;
mod lower;
mod reflect;
mod shape;
mod traced;

use std::sync::Arc;

use jackfield_protocol::call::Cause;
use jackfield_protocol::message::Offer;
use jackfield_protocol::{Interface, InterfaceId};
use semver::Version;
use tracing::Level;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, Func, Instance, InstancePre, Val};
use wasmtime::{Engine, Store};

use fast::{Fast, Given, Here, Later};
use shape::{Joiner, Returned};
use traced::Tracing;

pub(super) use lift::answer;
pub(super) use lower::{Plain, arguments};
pub(super) use shape::{Member, Shape, Signature};

use super::WasmError;
use super::guest::{Guest, Watch};
use super::kind::{Ended, Request};
use crate::mechanism::{About, FunctionName, Offered, Spec};

/// What all instances share.
pub(super) struct Plugin {
    linked: InstancePre<Guest>,
    about: About,
    /// What was left out, and why: for the log of the first instance.
    left_out: Vec<String>,
    /// Number of the first function of each interface.
    first: Vec<usize>,
    functions: Arc<[Function]>,
    tracing: Option<Tracing>,
    /// Bytes that a guest may make the host copy in one call.
    copied_bytes_max: usize,
}

/// A function, found once.
struct Function {
    export: ComponentExportIndex,
    signature: Signature,
}

/// Bytes that wasmtime lets a guest make the host copy, by default.
const COPIED_BYTES: usize = 128 << 20;

impl Plugin {
    pub(super) fn link(engine: &Engine, code: &Component, spec: &Spec, bytes: &[u8]) -> Result<Self, WasmError> {
        let linked = imports::link(engine, code)?;
        let found = Found::of(engine, code, spec, bytes).map_err(|what| WasmError::Describe { what })?;
        // An answer of so many bytes may be that many values, where it is not called through Rust types.
        let answer_bytes = usize::try_from(spec.limits.answer_bytes_max).unwrap_or(usize::MAX);
        let copied_bytes_max = answer_bytes.saturating_mul(size_of::<Val>()).max(COPIED_BYTES);
        Ok(Self {
            linked,
            about: found.about,
            left_out: found.left_out,
            first: found.first,
            functions: found.functions.into(),
            tracing: found.tracing,
            copied_bytes_max,
        })
    }

    pub(super) async fn instantiate(&self, mut store: Store<Guest>) -> wasmtime::Result<Live> {
        let alone = self.linked.component().component_type().imports(store.engine()).next().is_none();
        store.set_hostcall_fuel(self.copied_bytes_max);
        let instance = self.linked.instantiate_async(&mut store).await?;
        let bound = self.functions.iter().map(|_| Bound::NotYet).collect();
        let (functions, tracing) = (Arc::clone(&self.functions), self.tracing);
        Ok(Live { store, instance, functions, bound, alone, tracing })
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
        (position < description.functions.len()).then(|| self.first[interface] + position)
    }

    pub(super) fn takes_whole(&self, function: usize) -> bool {
        let params = self.functions.get(function).map(|function| &*function.signature.params);
        matches!(params, Some([Member { shape: Shape::String | Shape::Bytes, .. }]))
    }
}

/// One instance.
pub(super) struct Live {
    store: Store<Guest>,
    instance: Instance,
    functions: Arc<[Function]>,
    /// By number, as the functions are.
    bound: Box<[Bound]>,
    /// It imports nothing, so nothing in it ever waits.
    alone: bool,
    tracing: Option<Tracing>,
}

/// A function in this instance, looked up when it is first called.
#[derive(Clone, Copy)]
enum Bound {
    NotYet,
    Fast(Fast),
    Untyped(Func),
}

impl Live {
    pub(super) fn call_here(&mut self, request: &Request<'_>) -> Ended {
        let mut read = fast::NONE;
        if let Some(ended) = self.begin(request, &mut read) {
            return ended;
        }
        match &self.bound[request.function] {
            Bound::Fast(fast) => {
                let given = fast.call(Here, &mut self.store, &read);
                self.end_fast(given, request)
            }
            _ => self.call_untyped_here(request),
        }
    }

    // Apart, so that a fast call has no room for it to make.
    #[inline(never)]
    fn call_untyped_here(&mut self, request: &Request<'_>) -> Ended {
        match self.begin_untyped(request) {
            Err(ended) => ended,
            Ok((func, arguments, mut given)) => {
                let run = func.call(&mut self.store, &arguments, given.as_mut_slice());
                self.end_untyped(run, &given, request)
            }
        }
    }

    pub(super) async fn call(&mut self, request: &Request<'_>) -> Ended {
        let (Some(trace), Some(tracing)) = (request.trace, self.tracing) else {
            return self.call_untraced(request).await;
        };
        let home = trace.sampled && self.watch().recorder().takes_spans();
        if let Err(error) = tracing.begin(&mut self.store, self.instance, &trace, home).await {
            return Ended::Broken(error);
        }
        match self.call_untraced(request).await {
            Ended::Well(answer) if home => match tracing.take_spans(&mut self.store, self.instance).await {
                Ok(()) => Ended::Well(answer),
                Err(error) => Ended::Broken(error),
            },
            ended => ended,
        }
    }

    async fn call_untraced(&mut self, request: &Request<'_>) -> Ended {
        let mut read = fast::NONE;
        if let Some(ended) = self.begin(request, &mut read) {
            return ended;
        }
        match &self.bound[request.function] {
            Bound::Fast(fast) => {
                let given = fast.call(Later, &mut self.store, &read).await;
                self.end_fast(given, request)
            }
            _ => match self.begin_untyped(request) {
                Err(ended) => ended,
                Ok((func, arguments, mut given)) => {
                    let run = func.call_async(&mut self.store, &arguments, given.as_mut_slice()).await;
                    self.end_untyped(run, &given, request)
                }
            },
        }
    }

    /// Finds the function and, if it is a fast one, reads its arguments; gives how the call ended if it did.
    ///
    /// They are written to where they are used: arguments that are moved just after they were written make the
    /// processor wait until they have reached memory, each time.
    #[inline]
    fn begin<'a>(&mut self, request: &Request<'a>, read: &mut fast::Arguments<'a>) -> Option<Ended> {
        let Some(function) = self.functions.get(request.function) else {
            return Some(Ended::Well(Err(Cause::Unimplemented { hint: String::new() })));
        };
        let bound = &mut self.bound[request.function];
        if let Bound::NotYet = bound {
            match bind(&mut self.store, self.instance, function) {
                Ok(found) => *bound = found,
                Err(error) => return Some(Ended::Broken(error)),
            }
        }
        if let Bound::Untyped(_) = bound {
            return None;
        }
        arguments(request.encoding, request.arguments, &function.signature.params, read).err().map(refused)
    }

    /// The same for a function that is none of the fast ones: it, its arguments, and room for what it gives.
    fn begin_untyped(&self, request: &Request<'_>) -> Result<(Func, Vec<Val>, Vec<Val>), Ended> {
        let Bound::Untyped(func) = self.bound[request.function] else { unreachable!("it was bound before") };
        let Signature { params, result } = &self.functions[request.function].signature;
        let room = if let Returned::Nothing = result { 0 } else { 1 };
        let arguments = lower::values(request.encoding, request.arguments, params).map_err(refused)?;
        Ok((func, arguments, vec![Val::Bool(false); room]))
    }

    fn end_fast(&self, given: wasmtime::Result<Given>, request: &Request<'_>) -> Ended {
        match given {
            Ok(given) => Ended::Well(given.answer(request.encoding, request.answer_bytes_max)),
            Err(error) => self.broken(error, request.answer_bytes_max),
        }
    }

    fn end_untyped(&self, run: wasmtime::Result<()>, given: &[Val], request: &Request<'_>) -> Ended {
        let result = &self.functions[request.function].signature.result;
        match run {
            Ok(()) => Ended::Well(lift::value_answer(request.encoding, request.answer_bytes_max, result, given)),
            Err(error) => self.broken(error, request.answer_bytes_max),
        }
    }

    pub(super) fn runs_here(&self) -> bool {
        self.alone
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.store.data().watch
    }

    pub(super) fn store(&mut self) -> &mut Store<Guest> {
        &mut self.store
    }

    /// Names the limit where wasmtime would not copy any more.
    fn broken(&self, error: wasmtime::Error, answer_bytes_max: usize) -> Ended {
        if is_too_much_copied(&error) {
            let copied = self.store.hostcall_fuel();
            let what = format!("the answer takes more than {copied} bytes to copy, of {answer_bytes_max} allowed");
            self.watch().note_limit("answer_bytes", what);
        }
        Ended::Broken(error)
    }
}

/// Whether wasmtime would not copy any more out of the guest: it has no type for that error.
fn is_too_much_copied(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().starts_with("too much data is being copied")
}

fn refused(why: String) -> Ended {
    Ended::Well(Err(Cause::Refused { why }))
}

fn bind(store: &mut Store<Guest>, instance: Instance, function: &Function) -> wasmtime::Result<Bound> {
    let func = instance.get_func(&mut *store, function.export);
    let func = func.ok_or_else(|| wasmtime::Error::msg("the instance lacks a function that its component has"))?;
    Ok(match Fast::bind(&func, store, &function.signature)? {
        Some(fast) => Bound::Fast(fast),
        None => Bound::Untyped(func),
    })
}

/// Differences between a description and a component that are shown: a type that differs does so wherever it
/// is used.
const DIFFERENCES_SHOWN: usize = 4;

/// What a component offers, by itself and by what is said of it.
struct Found {
    about: About,
    left_out: Vec<String>,
    first: Vec<usize>,
    functions: Vec<Function>,
    tracing: Option<Tracing>,
}

/// An exported interface.
struct Exported {
    id: InterfaceId,
    /// The export that is the instance; none for the functions of the world itself.
    instance: Option<ComponentExportIndex>,
    functions: Vec<(String, ComponentFunc)>,
    reflected: Interface,
}

impl Found {
    fn of(engine: &Engine, code: &Component, spec: &Spec, bytes: &[u8]) -> Result<Self, String> {
        let said = about::read(bytes)?;
        let declared = &spec.declared;
        let plugin = said.as_ref().map(|said| said.plugin.clone());
        let version = plugin.as_ref().map(|plugin| plugin.version.clone());
        let version = version.or_else(|| declared.version.as_ref().map(Version::to_string));
        let about = About {
            name: plugin.map_or_else(|| spec.name.clone(), |plugin| plugin.name),
            version: version.unwrap_or_else(|| "0.0.0".to_owned()),
            capabilities: said.as_ref().map_or_else(|| declared.capabilities.clone(), |said| said.capabilities.clone()),
            interfaces: Vec::new(),
            services: Vec::new(),
            speaks: String::new(),
        };
        let mut found = Found { about, left_out: Vec::new(), first: Vec::new(), functions: Vec::new(), tracing: None };
        let mut exported = found.exports(engine, code, spec);
        let itself = format!("its section `{}`", about::SECTION);
        let fits = |exported: &[Exported], who: &str, interface: &Interface| {
            let at = exported.iter().position(|exported| exported.id == interface.id);
            let at = at.ok_or_else(|| lacks(who, &interface.id, exported))?;
            let functions = exported[at].join(code, interface);
            let functions = functions.map_err(|what| format!("not the interface that {who} describes: {what}"))?;
            Ok::<_, String>((at, functions))
        };
        // Both may describe an interface. Then both have to fit, and what the component says is what hosts see.
        let mut described = Vec::new();
        for interface in &declared.descriptions {
            fits(&exported, "the manifest", interface)?;
            described.push(("the manifest", interface.clone()));
        }
        for offer in said.map(|said| said.interfaces).unwrap_or_default() {
            match offer {
                Offer::Described(interface) => {
                    let interface = interface.checked().map_err(|error| error.to_string())?;
                    described.retain(|(_, other)| other.id != interface.id);
                    described.push((&itself, interface));
                }
                Offer::Named(id) if exported.iter().any(|exported| exported.id == id) => {}
                Offer::Named(id) => return Err(lacks(&itself, &id, &exported)),
            }
        }
        for (who, interface) in described {
            let (at, functions) = fits(&exported, who, &interface)?;
            exported.remove(at);
            found.add(interface, functions);
        }
        for exported in exported {
            let reflected = exported.reflected.clone();
            // An interface of types alone is nothing to call.
            if !reflected.functions.is_empty() {
                let functions = exported.join(code, &reflected)?;
                found.add(reflected, functions);
            }
        }
        Ok(found)
    }

    /// All interfaces that the component exports, each with a description of its own.
    fn exports(&mut self, engine: &Engine, code: &Component, spec: &Spec) -> Vec<Exported> {
        let ty = code.component_type();
        let mut exported = Vec::new();
        let (mut functions, mut types) = (Vec::new(), Vec::new());
        for (name, export) in ty.exports(engine) {
            match export.ty {
                ComponentItem::ComponentFunc(function) => functions.push((name.to_owned(), function)),
                ComponentItem::Type(ty) => types.push((name.to_owned(), ty)),
                ComponentItem::ComponentInstance(instance) if name == traced::INTERFACE => {
                    match Tracing::of(engine, code, &instance) {
                        Ok(tracing) => self.tracing = Some(tracing),
                        Err(why) => self.left_out.push(why),
                    }
                }
                ComponentItem::ComponentInstance(instance) => {
                    let Some(id) = interface_id(name, spec) else {
                        self.left_out.push(format!("`{name}`, which is not the name of an interface"));
                        continue;
                    };
                    let of_instance =
                        |(name, export): (&str, wasmtime::component::types::ComponentExtern<'_>)| match export.ty {
                            ComponentItem::ComponentFunc(function) => Some((name.to_owned(), function)),
                            _ => None,
                        };
                    let functions: Vec<_> = instance.exports(engine).filter_map(of_instance).collect();
                    let instance_index = code.get_export_index(None, name);
                    let reflected = reflect::instance(id.clone(), engine, &instance);
                    exported.extend(self.reflected(id, instance_index, functions, reflected));
                }
                _ => {}
            }
        }
        if !functions.is_empty() {
            let version = spec.declared.version.clone().unwrap_or(Version::new(0, 0, 0));
            let id = own_interface(&spec.name, version);
            let reflected = reflect::describe(id.clone(), &types, &functions);
            exported.extend(self.reflected(id, None, functions, reflected));
        }
        exported
    }

    fn reflected(
        &mut self,
        id: InterfaceId,
        instance: Option<ComponentExportIndex>,
        functions: Vec<(String, ComponentFunc)>,
        reflected: Result<reflect::Reflected, String>,
    ) -> Option<Exported> {
        match reflected {
            Ok(reflected) => {
                self.left_out.extend(reflected.left_out);
                Some(Exported { id, instance, functions, reflected: reflected.interface })
            }
            Err(why) => {
                self.left_out.push(format!("`{id}`: {why}"));
                None
            }
        }
    }

    fn add(&mut self, interface: Interface, functions: Vec<Function>) {
        self.first.push(self.functions.len());
        self.functions.extend(functions);
        let id = interface.id.clone();
        self.about.interfaces.push(Offered { id, description: Some(Arc::new(interface)), binary: true });
    }
}

impl Exported {
    /// Finds the functions of a description, each with the types it describes.
    fn join(&self, code: &Component, interface: &Interface) -> Result<Vec<Function>, String> {
        let mut joiner = Joiner::new(interface);
        let (mut functions, mut differences) = (Vec::new(), Vec::new());
        for function in &interface.functions {
            let actual = self.functions.iter().find(|(name, _)| *name == function.name);
            let export = code.get_export_index(self.instance.as_ref(), &*function.name);
            let (Some((_, actual)), Some(export)) = (actual, export) else {
                let (path, described) = (function.name.clone(), format!("`{}`", function.signature()));
                differences.push(shape::Difference { path, described, actual: "no such function".to_owned() });
                continue;
            };
            match joiner.function(function, actual) {
                Ok(signature) => functions.push(Function { export, signature }),
                Err(found) => differences.extend(found),
            }
        }
        if differences.is_empty() {
            return Ok(functions);
        }
        let mut shown: Vec<_> = differences.iter().take(DIFFERENCES_SHOWN).map(ToString::to_string).collect();
        if differences.len() > shown.len() {
            shown.push(format!("and {} more", differences.len() - shown.len()));
        }
        Err(format!("`{}`: {}", self.id, shown.join("; ")))
    }
}

fn lacks(who: &str, id: &InterfaceId, exported: &[Exported]) -> String {
    let names: Vec<_> = exported.iter().map(|exported| format!("`{}`", exported.id)).collect();
    let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    format!("{who} describes `{id}`, and the component exports {names}")
}

/// The interface that an export's name is: with its version, or without one as the manifest has it.
fn interface_id(name: &str, spec: &Spec) -> Option<InterfaceId> {
    if let Ok(id) = name.parse() {
        return Some(id);
    }
    if name.contains('@') {
        return None;
    }
    let declared = &spec.declared;
    let known = declared.interfaces.iter().chain(declared.descriptions.iter().map(|described| &described.id));
    if let Some(id) = known.into_iter().find(|id| id.unversioned() == name) {
        return Some(id.clone());
    }
    if name.contains(':') {
        return format!("{name}@0.0.0").parse().ok();
    }
    // An interface that its world wrote inline has no package.
    let own = own_interface(&spec.name, Version::new(0, 0, 0));
    format!("{}/{name}@0.0.0", own.package).parse().ok()
}

/// The interface of functions that are exported without one: `wasm:<plugin>/exports`.
pub(super) fn own_interface(plugin: &str, version: Version) -> InterfaceId {
    let package = kebab(plugin).unwrap_or_else(|| "plugin".to_owned());
    InterfaceId { package: format!("wasm:{package}"), name: "exports".to_owned(), version }
}

/// A name in kebab-case: `add_one` and `addOne` are `add-one`. None where that is not possible.
pub(super) fn kebab(name: &str) -> Option<String> {
    let mut kebab = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for letter in name.chars() {
        match letter {
            '_' | '-' | '.' => kebab.push('-'),
            'A'..='Z' => {
                if after_lower {
                    kebab.push('-');
                }
                kebab.push(letter.to_ascii_lowercase());
            }
            'a'..='z' | '0'..='9' => kebab.push(letter),
            _ => return None,
        }
        after_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
    }
    jackfield_protocol::is_kebab(&kebab).then_some(kebab)
}

#[cfg(test)]
mod tests;
