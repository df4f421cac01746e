//! `jackfield pack`: a component of a module, without any other tool.
//!
//! The module is asked what it offers (`about.rs`); that becomes a WIT world (`world.rs`); the module
//! gets an entry for each function of that world, in place of its Extism exports, and code in place of
//! its Extism imports (`module.rs`, `stderr.rs`); wit-component wraps it. The SDK in the module does the
//! rest at each call (`canonical.rs` of `jackfield-plugin`).
//!
//! In a component a map is a `list<tuple<K, V>>`, as WIT's `map` is in no released runtime by default.
//! What the plugin says of itself, with the maps, stands in the component's section `jackfield:about`.

mod about;
mod module;
mod stderr;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use wasm_encoder::{CustomSection, Encode as _, Section as _};
use wit_component::{ComponentEncoder, StringEncoding};

use crate::Outcome;
use crate::args::Pack;
use crate::fault::Kind;
use crate::output::Out;
use crate::report::Told;
use about::About;
use module::Module;
use world::World;

/// The section that has what the plugin says of itself: JSON, as a program answers `jackfield/hello`.
const ABOUT_SECTION: &str = "jackfield:about";

pub(crate) fn run(pack: &Pack, out: &Out) -> Result<Outcome> {
    let input = &pack.input;
    let output = pack.output.clone().unwrap_or_else(|| beside(input));
    let bytes = fs::read(input).with_context(|| format!("cannot read `{}`", input.display()))?;
    let packed = component(&bytes).with_context(|| format!("cannot pack `{}`", input.display()))?;
    fs::write(&output, &packed.bytes).with_context(|| format!("cannot write `{}`", output.display()))?;
    match out.json {
        true => out.value(&json!({
            "component": output,
            "bytes": packed.bytes.len(),
            "plugin": packed.plugin,
            "interfaces": packed.interfaces,
        }))?,
        false => {
            let size = packed.bytes.len().div_ceil(1000);
            let exports = packed.interfaces.join(", ");
            out.text(&format!("{}: {size} kB, exports {exports}\n", output.display()))?;
        }
    }
    Ok(Outcome::Done)
}

/// A component, and what it is.
struct Packed {
    bytes: Vec<u8>,
    plugin: String,
    interfaces: Vec<String>,
}

fn component(bytes: &[u8]) -> Result<Packed> {
    let module = Module::read(bytes)?;
    let about = About::ask(bytes)?;
    let world = World::of(&about.interfaces, module.traces())?;
    let mut core = module.with_entries(&world)?;
    wit_component::embed_component_metadata(&mut core, &world.resolve, world.id, StringEncoding::UTF8)?;
    let mut encoder = ComponentEncoder::default().validate(true).module(&core)?;
    let mut bytes = encoder.encode()?;
    let section = CustomSection { name: ABOUT_SECTION.into(), data: about.json.as_slice().into() };
    bytes.push(section.id());
    section.encode(&mut bytes);
    let interfaces = about.interfaces.iter().map(|interface| interface.id.to_string()).collect();
    Ok(Packed { bytes, plugin: about.plugin, interfaces })
}

fn beside(input: &Path) -> PathBuf {
    input.with_extension("component.wasm")
}

/// What is wrong with a module, and what would be right.
fn unfit(text: impl Into<String>, hint: &str) -> anyhow::Error {
    Told::new(Kind::Internal, text).hint(hint).into()
}

const BUILD: &str = "build it with `jackfield_plugin::export!` and `cargo build --lib --target wasm32-unknown-unknown`";
