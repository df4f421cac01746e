//! A component's imports: WASI 0.2, as far as the manifest grants it, and nothing else.
//!
//! All that is missing is named at once, with the reason where something of the name is there.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, InstancePre, Linker, LinkerInstance, ResourceType};

use crate::wasm::WasmError;
use crate::wasm::guest::Guest;

/// Links a component with what the host offers.
pub(super) fn link(engine: &Engine, component: &Component) -> Result<InstancePre<Guest>, WasmError> {
    let broken = |error: wasmtime::Error| WasmError::Engine { what: format!("{error:#}") };
    let mut linker = Linker::<Guest>::new(engine);
    let ty = component.component_type();
    if ty.imports(engine).len() > 0 {
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(broken)?;
    }
    let mut missing = Vec::new();
    let mut stubbed = None;
    loop {
        let error = match stubbed.as_ref().unwrap_or(&linker).instantiate_pre(component) {
            Ok(linked) if missing.is_empty() => return Ok(linked),
            Ok(_) => break,
            Err(error) => error,
        };
        // wasmtime stops at the first import that it cannot satisfy. So that all are named, that one is given
        // a function that is never called, on a linker that is thrown away, until there are no more.
        let head = error.to_string();
        let named = |name: &str| head.contains(&format!("`{name}`"));
        let next = ty.imports(engine).find(|(name, _)| named(name) && !missing.iter().any(|(known, _)| known == name));
        let Some((name, import)) = next else {
            missing.push((head, String::new()));
            break;
        };
        let why: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
        missing.push((name.to_owned(), why.join(": ")));
        let mut stubs = stubbed.unwrap_or_else(|| linker.clone());
        stubs.allow_shadowing(true);
        let earlier = resources_before(&ty, engine, name);
        stub(&mut stubs.root(), engine, name, &import.ty, &earlier).map_err(broken)?;
        stubbed = Some(stubs);
    }
    Err(refusal(missing))
}

fn refusal(missing: Vec<(String, String)>) -> WasmError {
    let is_wasi = |name: &str| name.starts_with("wasi:");
    let mut hints = Vec::new();
    if missing.iter().any(|(name, _)| name.starts_with("wasi:http/")) {
        hints.push("this host gives no `wasi:http`");
    }
    if missing.iter().any(|(name, _)| is_wasi(name) && !name.contains("@0.2.")) {
        hints.push("of WASI it gives version 0.2");
    }
    if missing.iter().any(|(name, _)| !is_wasi(name)) {
        hints.push("a component that imports an interface other than WASI has to be composed with one that exports it");
    }
    let hint = hints.iter().map(|hint| format!("; {hint}")).collect();
    // Of an interface that is there, it matters what of it is not; of one that is not, its name is enough.
    let in_part = |name: &str| is_wasi(name) && name.contains("@0.2.") && !name.starts_with("wasi:http/");
    let text = |(name, why): (String, String)| match why.is_empty() || !in_part(&name) {
        true => format!("`{name}`"),
        false => format!("`{name}` ({why})"),
    };
    let missing: Vec<_> = missing.into_iter().map(text).collect();
    WasmError::Imports { missing: missing.join(", "), hint }
}

/// The resources of the imports before one: they are known by then, and must not be defined anew.
fn resources_before(ty: &wasmtime::component::types::Component, engine: &Engine, name: &str) -> Vec<ResourceType> {
    let before = ty.imports(engine).take_while(|(other, _)| *other != name);
    let mut resources = Vec::new();
    for (_, import) in before {
        match import.ty {
            ComponentItem::Resource(resource) => resources.push(resource),
            ComponentItem::ComponentInstance(instance) => resources.extend(resources_of(&instance, engine)),
            _ => {}
        }
    }
    resources
}

fn resources_of(instance: &ComponentInstance, engine: &Engine) -> Vec<ResourceType> {
    let resource = |item| if let ComponentItem::Resource(resource) = item { Some(resource) } else { None };
    instance.exports(engine).filter_map(|(_, export)| resource(export.ty)).collect()
}

/// Defines an import so that the check of the others goes on.
fn stub(
    linker: &mut LinkerInstance<'_, Guest>,
    engine: &Engine,
    name: &str,
    item: &ComponentItem,
    earlier: &[ResourceType],
) -> wasmtime::Result<()> {
    match item {
        ComponentItem::ComponentFunc(_) => {
            linker.func_new(name, |_, _, _, _| Err(wasmtime::Error::msg("it is never called")))
        }
        ComponentItem::Resource(resource) if !earlier.contains(resource) => {
            linker.resource(name, ResourceType::host::<()>(), |_, _| Ok(()))
        }
        ComponentItem::ComponentInstance(instance) => {
            let mut linker = linker.instance(name)?;
            instance.exports(engine).try_for_each(|(name, export)| stub(&mut linker, engine, name, &export.ty, earlier))
        }
        _ => Ok(()),
    }
}
