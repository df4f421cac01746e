//! An interface as WIT, the text form of the component model.

use std::fmt::Write as _;

use super::{ExportError, comment};
use crate::interface::{Function, Interface};
use crate::types::{TypeDef, TypeRef};

/// The interface as a WIT file: its package, and in it the interface alone.
///
/// ```
/// use jackfield_protocol::{Interface, export};
/// let greeter = Interface::from_json(r#"{
///     "interface": "demo:greeter/greeter@1.0.0",
///     "functions": [{"name": "greet", "docs": "Greets one person.",
///                    "params": [{"name": "name", "type": "string"}], "result": "string"}]
/// }"#)?;
/// assert_eq!(export::wit(&greeter)?, "package demo:greeter@1.0.0;
///
/// interface greeter {
///   /// Greets one person.
///   greet: func(name: string) -> string;
/// }
/// ");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wit(interface: &Interface) -> Result<String, ExportError> {
    let mut functions = interface.functions.iter();
    if let Some(shared) = functions.find(|function| interface.types.contains_key(&function.name)) {
        return Err(ExportError::SharedName { name: shared.name.clone() });
    }
    let (namespace, package) = interface.id.package.split_once(':').unwrap_or(("", &interface.id.package));
    let mut text = format!("package {}:{}@{};\n\n", word(namespace), word(package), interface.id.version);
    comment(&mut text, "", "///", &interface.docs);
    let _ = writeln!(text, "interface {} {{", word(&interface.id.name));
    let mut first = true;
    let mut apart = |text: &mut String| {
        if !std::mem::take(&mut first) {
            text.push('\n');
        }
    };
    for (name, definition) in &interface.types {
        apart(&mut text);
        write_definition(&mut text, name, definition)?;
    }
    for function in &interface.functions {
        apart(&mut text);
        write_function(&mut text, function)?;
    }
    text.push_str("}\n");
    Ok(text)
}

fn write_definition(text: &mut String, name: &str, definition: &TypeDef) -> Result<(), ExportError> {
    let _ = writeln!(text, "  {} {} {{", definition.kind(), word(name));
    match definition {
        TypeDef::Record(fields) => {
            for field in fields {
                let ty = type_text(&field.ty, &|| format!("{name}.{}", field.name))?;
                let _ = writeln!(text, "    {}: {ty},", word(&field.name));
            }
        }
        TypeDef::Variant(cases) => {
            for case in cases {
                let _ = match &case.ty {
                    None => writeln!(text, "    {},", word(&case.name)),
                    Some(ty) => {
                        let ty = type_text(ty, &|| format!("{name}.{}", case.name))?;
                        writeln!(text, "    {}({ty}),", word(&case.name))
                    }
                };
            }
        }
        TypeDef::Enum(names) | TypeDef::Flags(names) => {
            names.iter().for_each(|member| {
                let _ = writeln!(text, "    {},", word(member));
            });
        }
    }
    text.push_str("  }\n");
    Ok(())
}

fn write_function(text: &mut String, function: &Function) -> Result<(), ExportError> {
    comment(text, "  ", "///", &function.docs);
    if function.idempotent {
        // WIT has no word for it; a comment that is no documentation says that it was known.
        text.push_str("  // idempotent\n");
    }
    let param = |param: &crate::Param| {
        let ty = type_text(&param.ty, &|| format!("{}({})", function.name, param.name))?;
        Ok(format!("{}: {ty}", word(&param.name)))
    };
    let params: Vec<String> = function.params.iter().map(param).collect::<Result<_, ExportError>>()?;
    let result = match function.result.as_ref().filter(|ty| **ty != TypeRef::UNIT) {
        None => String::new(),
        Some(ty) => {
            let ty = type_text(ty, &|| format!("{}() result", function.name))?;
            format!(" -> {ty}")
        }
    };
    let _ = writeln!(text, "  {}: func({}){result};", word(&function.name), params.join(", "));
    Ok(())
}

fn type_text(ty: &TypeRef, path: &dyn Fn() -> String) -> Result<String, ExportError> {
    let inner = |ty: &TypeRef| type_text(ty, path);
    Ok(match ty {
        TypeRef::Named(name) => word(name),
        TypeRef::List(item) => format!("list<{}>", inner(item)?),
        TypeRef::Option(some) => format!("option<{}>", inner(some)?),
        TypeRef::Map(key, value) => format!("map<{}, {}>", inner(key)?, inner(value)?),
        TypeRef::Result(ok, err) => match (**ok == TypeRef::UNIT, **err == TypeRef::UNIT) {
            (true, true) => "result".to_owned(),
            (true, false) => format!("result<_, {}>", inner(err)?),
            (false, true) => format!("result<{}>", inner(ok)?),
            (false, false) => format!("result<{}, {}>", inner(ok)?, inner(err)?),
        },
        TypeRef::Tuple(items) if items.is_empty() => {
            return Err(ExportError::Unit { path: path() });
        }
        TypeRef::Tuple(items) => {
            let items: Vec<String> = items.iter().map(inner).collect::<Result<_, _>>()?;
            format!("tuple<{}>", items.join(", "))
        }
        primitive => primitive.to_string(),
    })
}

/// Words that mean something in WIT, so that a name like one is written `%record`.
const KEYWORDS: [&str; 46] = [
    "as",
    "async",
    "bool",
    "borrow",
    "char",
    "constructor",
    "enum",
    "error-context",
    "export",
    "f32",
    "f64",
    "flags",
    "from",
    "func",
    "future",
    "import",
    "include",
    "interface",
    "list",
    "map",
    "option",
    "own",
    "package",
    "record",
    "resource",
    "result",
    "s16",
    "s32",
    "s64",
    "s8",
    "static",
    "stream",
    "string",
    "tuple",
    "type",
    "u16",
    "u32",
    "u64",
    "u8",
    "use",
    "variant",
    "with",
    "world",
    "float32",
    "float64",
    "union",
];

fn word(name: &str) -> String {
    match KEYWORDS.contains(&name) {
        true => format!("%{name}"),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Also checks that WIT's own parser takes what is written.
    fn check(description: &str, expected: Expect) {
        let interface = Interface::from_json(description).expect("a description");
        expected.assert_eq(&match wit(&interface) {
            Ok(text) => {
                let parsed = wit_parser::UnresolvedPackageGroup::parse("exported.wit", &text);
                let mut resolve = wit_parser::Resolve::default();
                let group = parsed.unwrap_or_else(|error| panic!("{error:?}\n{text}"));
                resolve.push_group(group).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
                text
            }
            Err(error) => error.to_string(),
        });
    }

    fn check_function(function: &str, expected: Expect) {
        check(&format!(r#"{{"interface": "t:t/t@1.0.0", "functions": [{function}]}}"#), expected);
    }

    #[test]
    fn every_type_has_a_form() {
        check(
            r#"{
                "interface": "demo:zoo/zoo@1.2.3-rc.1",
                "types": {
                    "person": {"record": [{"name": "name", "type": "string"}, {"name": "tags", "type": "list<tuple<string, u8>>"}]},
                    "shape": {"variant": [{"name": "circle", "type": "f64"}, {"name": "point"}]},
                    "color": {"enum": ["red", "green"]},
                    "perms": {"flags": ["read", "write"]}
                },
                "functions": [
                    {"name": "all", "params": [
                        {"name": "a", "type": "bool"}, {"name": "b", "type": "list<u8>"}, {"name": "c", "type": "char"},
                        {"name": "d", "type": "map<string, option<color>>"}, {"name": "e", "type": "option<option<s64>>"}
                    ], "result": "result<person, shape>"},
                    {"name": "none"},
                    {"name": "set", "params": [{"name": "perms", "type": "perms"}], "result": "f32", "idempotent": true}
                ]
            }"#,
            expect![[r#"
                package demo:zoo@1.2.3-rc.1;

                interface zoo {
                  enum color {
                    red,
                    green,
                  }

                  flags perms {
                    read,
                    write,
                  }

                  record person {
                    name: string,
                    tags: list<tuple<string, u8>>,
                  }

                  variant shape {
                    circle(f64),
                    point,
                  }

                  all: func(a: bool, b: list<u8>, c: char, d: map<string, option<color>>, e: option<option<s64>>) -> result<person, shape>;

                  none: func();

                  // idempotent
                  set: func(perms: perms) -> f32;
                }
            "#]],
        );
    }

    #[test]
    fn documentation_is_kept_and_no_character_of_it_is_hidden() {
        check(
            r#"{"interface": "t:t/t@1.0.0", "docs": "Greets.\n\n  Politely.\n",
                "functions": [{"name": "f", "docs": "Red \u001b[31m, reversed \u202e, tabbed\t."}]}"#,
            expect![[r#"
                package t:t@1.0.0;

                /// Greets.
                ///
                ///   Politely.
                interface t {
                  /// Red \u{1b}[31m, reversed \u{202e}, tabbed	.
                  f: func();
                }
            "#]],
        );
    }

    #[test]
    fn a_name_that_is_a_keyword_is_escaped() {
        check(
            r#"{"interface": "use:package/interface@1.0.0",
                "types": {"record": {"record": [{"name": "type", "type": "enum"}]}, "enum": {"enum": ["from"]}},
                "functions": [{"name": "import", "params": [{"name": "func", "type": "record"}]}]}"#,
            expect![[r#"
                package %use:%package@1.0.0;

                interface %interface {
                  enum %enum {
                    %from,
                  }

                  record %record {
                    %type: %enum,
                  }

                  %import: func(%func: %record);
                }
            "#]],
        );
    }

    #[test]
    fn a_result_of_nothing_has_its_own_forms() {
        check_function(
            r#"{"name": "f", "result": "_"}"#,
            expect![[r#"
            package t:t@1.0.0;

            interface t {
              f: func();
            }
        "#]],
        );
        check_function(
            r#"{"name": "f", "result": "result<_, _>"}"#,
            expect![[r#"
            package t:t@1.0.0;

            interface t {
              f: func() -> result;
            }
        "#]],
        );
        check_function(
            r#"{"name": "f", "result": "result<u8, _>"}"#,
            expect![[r#"
            package t:t@1.0.0;

            interface t {
              f: func() -> result<u8>;
            }
        "#]],
        );
        check_function(
            r#"{"name": "f", "result": "result<_, list<result<_, u8>>>"}"#,
            expect![[r#"
            package t:t@1.0.0;

            interface t {
              f: func() -> result<_, list<result<_, u8>>>;
            }
        "#]],
        );
    }

    #[test]
    fn what_wit_cannot_say_is_refused() {
        // A description that was read has none; one that was edited may.
        let json =
            r#"{"interface": "t:t/t@1.0.0", "functions": [{"name": "f", "params": [{"name": "x", "type": "u8"}]}]}"#;
        let sound = Interface::from_json(json).expect("a description");
        let edited = sound.edited(|interface| interface.functions[0].params[0].ty = TypeRef::UNIT);
        let error = wit(&edited).expect_err("not in WIT").to_string();
        assert_eq!(error, "WIT has no `_` outside of a result, as at `f(x)`");
        check(
            r#"{"interface": "t:t/t@1.0.0", "functions": [{"name": "person"}], "types": {"person": {"enum": ["x"]}}}"#,
            expect!["WIT has no type and function of one name, as is `person`"],
        );
    }

    #[test]
    fn a_function_may_be_called_by_any_keyword() {
        for name in KEYWORDS {
            let json = format!(r#"{{"interface": "t:t/t@1.0.0", "functions": [{{"name": "{name}"}}]}}"#);
            let text = wit(&Interface::from_json(&json).expect(name)).expect(name);
            wit_parser::UnresolvedPackageGroup::parse("exported.wit", &text).expect(name);
        }
    }
}
