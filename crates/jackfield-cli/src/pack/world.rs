//! The world of a component: it exports a plugin's interfaces, and imports what a log needs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use jackfield::protocol::{TypeDef, TypeRef, export};
use jackfield::{Interface, InterfaceId};
use wit_parser::abi::{AbiVariant, WasmSignature};
use wit_parser::{Resolve, WorldId, WorldItem};

/// As much of WASI as a log needs. Of the first version, so that hosts of any later 0.2 have it.
const WASI: [&str; 2] = [
    "package wasi:io@0.2.0;
    interface error {
        resource error;
    }
    interface streams {
        use error.{error};
        variant stream-error {
            last-operation-failed(error),
            closed,
        }
        resource output-stream {
            blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
        }
    }",
    "package wasi:cli@0.2.0;
    interface stderr {
        use wasi:io/streams@0.2.0.{output-stream};
        get-stderr: func() -> output-stream;
    }",
];

/// The interface by which a component takes the trace of a call, and gives spans.
pub(super) const TRACING: &str = "jackfield:plugin/tracing@1.0.0";

const TRACING_PACKAGE: &str = "jackfield:plugin@1.0.0";
const TRACING_BODY: &str = "
interface tracing {
  begin: func(traceparent: string, home: bool);
  spans: func() -> string;
}
";

/// Most flags in a set of the component model.
const FLAGS_MAX: usize = 32;

pub(super) struct World {
    pub(super) resolve: Resolve,
    pub(super) id: WorldId,
    pub(super) entries: Vec<Entry>,
}

/// A function that the component exports, and where it stands in the plugin's descriptions.
pub(super) struct Entry {
    pub(super) interface: u32,
    pub(super) function: u32,
    /// `demo:greeter/greeter@1.0.0#greet`
    pub(super) name: String,
    pub(super) signature: WasmSignature,
}

impl World {
    pub(super) fn of(interfaces: &[Interface], traces: bool) -> Result<Self> {
        let mut resolve = Resolve::default();
        for package in WASI {
            resolve.push_str("wasi.wit", package)?;
        }
        for (name, text) in packages(interfaces, traces)? {
            let path = format!("{name}.wit");
            resolve.push_str(&path, &text).with_context(|| format!("package `{name}`"))?;
        }
        let mut text = "package jackfield:packed;\nworld plugin {\n".to_owned();
        text += "  import wasi:cli/stderr@0.2.0;\n  import wasi:io/streams@0.2.0;\n";
        for interface in interfaces {
            text += &format!("  export {};\n", escaped(&interface.id));
        }
        if traces {
            text += &format!("  export {TRACING};\n");
        }
        text += "}\n";
        let package = resolve.push_str("world.wit", &text)?;
        let id = resolve.select_world(&[package], Some("plugin"))?;
        let mut entries = Vec::new();
        for (position, interface) in interfaces.iter().enumerate() {
            entries_of(&resolve, id, position, interface, &mut entries)?;
        }
        Ok(Self { resolve, id, entries })
    }
}

fn entries_of(
    resolve: &Resolve,
    world: WorldId,
    position: usize,
    interface: &Interface,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let name = interface.id.to_string();
    let exported = resolve.worlds[world].exports.values().find_map(|item| match item {
        WorldItem::Interface { id, .. } if resolve.id_of(*id).as_ref() == Some(&name) => Some(*id),
        _ => None,
    });
    let exported = &resolve.interfaces[exported.with_context(|| format!("`{name}` is no export of the world"))?];
    for (number, function) in interface.functions.iter().enumerate() {
        let function = exported.functions.get(&function.name);
        let function = function.with_context(|| format!("`{name}` has lost a function"))?;
        entries.push(Entry {
            interface: u32::try_from(position)?,
            function: u32::try_from(number)?,
            name: function.legacy_core_export_name(Some(&name)).into_owned(),
            signature: resolve.wasm_signature(AbiVariant::GuestExport, function),
        });
    }
    Ok(())
}

/// The packages as WIT. Interfaces of one package and version stand in one text.
fn packages(interfaces: &[Interface], traces: bool) -> Result<BTreeMap<String, String>> {
    let mut packages = BTreeMap::new();
    if traces {
        packages.insert(TRACING_PACKAGE.to_owned(), format!("package {TRACING_PACKAGE};\n{TRACING_BODY}"));
    }
    for interface in interfaces {
        let large = interface.types.iter().find_map(|(name, definition)| match definition {
            TypeDef::Flags(names) if names.len() > FLAGS_MAX => Some((name, names.len())),
            _ => None,
        });
        if let Some((name, len)) = large {
            bail!("`{name}` of `{}` has {len} flags; a component has at most {FLAGS_MAX} in a set", interface.id);
        }
        let text = export::wit(&without_maps(interface)).with_context(|| format!("interface `{}`", interface.id))?;
        let (header, body) = text.split_once("\n\n").context("the WIT of an interface has a head")?;
        let package = packages.entry(format!("{}@{}", interface.id.package, interface.id.version));
        let package: &mut String = package.or_insert_with(|| format!("{header}\n"));
        package.push('\n');
        package.push_str(body);
    }
    Ok(packages)
}

/// Every part of the name behind a `%`, which says that it is no keyword.
fn escaped(id: &InterfaceId) -> String {
    let package = id.package.split(':').map(|part| format!("%{part}")).collect::<Vec<_>>().join(":");
    format!("{package}/%{}@{}", id.name, id.version)
}

/// The same interface with `list<tuple<K, V>>` for each `map<K, V>`.
fn without_maps(interface: &Interface) -> Interface {
    interface.edited(|interface| {
        for definition in interface.types.values_mut() {
            match definition {
                TypeDef::Record(fields) => fields.iter_mut().for_each(|field| without_map(&mut field.ty)),
                TypeDef::Variant(cases) => cases.iter_mut().filter_map(|case| case.ty.as_mut()).for_each(without_map),
                TypeDef::Enum(_) | TypeDef::Flags(_) => {}
            }
        }
        for function in &mut interface.functions {
            function.params.iter_mut().for_each(|param| without_map(&mut param.ty));
            function.result.iter_mut().for_each(without_map);
        }
    })
}

fn without_map(ty: &mut TypeRef) {
    match ty {
        TypeRef::Map(key, value) => {
            without_map(value);
            let pair = vec![(**key).clone(), (**value).clone()];
            *ty = TypeRef::List(Box::new(TypeRef::Tuple(pair)));
        }
        TypeRef::List(item) | TypeRef::Option(item) => without_map(item),
        TypeRef::Result(ok, err) => {
            without_map(ok);
            without_map(err);
        }
        TypeRef::Tuple(items) => items.iter_mut().for_each(without_map),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(descriptions: &[&str], expected: Expect) {
        let interfaces = descriptions.iter().map(|json| Interface::from_json(json).expect("a description"));
        expected.assert_eq(&match World::of(&interfaces.collect::<Vec<_>>(), true) {
            Ok(world) => world.entries.iter().map(line).collect(),
            Err(error) => format!("{error:#}"),
        });
    }

    fn line(entry: &Entry) -> String {
        let Entry { interface, function, name, signature } = entry;
        format!("{interface}.{function} {name} {:?} -> {:?}\n", signature.params, signature.results)
    }

    #[test]
    fn each_function_is_an_entry() {
        check(
            &[
                r#"{"interface": "a:b/c@1.0.0", "functions": [
                    {"name": "none"}, {"name": "say-hi", "params": [{"name": "x", "type": "string"}], "result": "f32"}]}"#,
                r#"{"interface": "a:b/d@1.0.0", "functions": [{"name": "f", "result": "list<u8>"}]}"#,
                r#"{"interface": "a:b/c@1.1.0-rc.1", "functions": [{"name": "g", "params": [{"name": "x", "type": "u64"}]}]}"#,
            ],
            expect![[r#"
                0.0 a:b/c@1.0.0#none [] -> []
                0.1 a:b/c@1.0.0#say-hi [Pointer, Length] -> [F32]
                1.0 a:b/d@1.0.0#f [] -> [Pointer]
                2.0 a:b/c@1.1.0-rc.1#g [I64] -> []
            "#]],
        );
    }

    #[test]
    fn names_may_be_keywords_of_wit() {
        check(
            &[r#"{"interface": "use:package/interface@1.0.0", "types": {"record": {"enum": ["from"]}},
                "functions": [{"name": "import", "params": [{"name": "func", "type": "record"}]}]}"#],
            expect![[r#"
                0.0 use:package/interface@1.0.0#import [I32] -> []
            "#]],
        );
    }

    #[test]
    fn a_map_is_a_list_of_pairs() {
        let json = r#"{"interface": "t:t/t@1.0.0",
            "types": {"r": {"record": [{"name": "x", "type": "map<u8, list<map<string, u8>>>"}]}},
            "functions": [{"name": "f", "params": [{"name": "x", "type": "option<map<char, r>>"}], "result": "result<map<u8, u8>, _>"}]}"#;
        let plain = without_maps(&Interface::from_json(json).expect("a description"));
        expect![[r#"{"interface":"t:t/t@1.0.0","types":{"r":{"record":[{"name":"x","type":"list<tuple<u8, list<list<tuple<string, u8>>>>>"}]}},"functions":[{"name":"f","params":[{"name":"x","type":"option<list<tuple<char, r>>>"}],"result":"result<list<tuple<u8, u8>>, _>"}]}"#]].assert_eq(&plain.canonical());
    }

    #[test]
    fn what_no_component_can_have_is_refused() {
        let names: Vec<_> = (0..33).map(|n| format!("\"f{n}\"")).collect();
        let flags = format!(
            r#"{{"interface": "t:t/t@1.0.0", "types": {{"perms": {{"flags": [{}]}}}}, "functions": []}}"#,
            names.join(",")
        );
        check(&[&flags], expect!["`perms` of `t:t/t@1.0.0` has 33 flags; a component has at most 32 in a set"]);
        check(
            &[r#"{"interface": "t:t/t@1.0.0", "functions": [{"name": "x"}], "types": {"x": {"enum": ["y"]}}}"#],
            expect!["interface `t:t/t@1.0.0`: WIT has no type and function of one name, as is `x`"],
        );
    }
}
