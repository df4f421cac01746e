//! An interface as JSON Schema, for tools that check or write canonical JSON.

use serde_json::{Map, Value, json};

use crate::interface::{Function, Interface};
use crate::types::{TypeDef, TypeRef};
use crate::value::EXACT_MAX;

/// The interface as a JSON Schema (2020-12) of the *canonical* JSON of its values.
///
/// Each function is a property with the properties `params`, `result` and, if it can fail with an
/// error of its own, `error`: `#/properties/greet/properties/params` is the schema of the arguments
/// of `greet`, as an object by name. Defined types are in `$defs`. Of what a plugin accepts beyond the
/// canonical form (other spellings of names, 64-bit integers as strings), the schema allows only the
/// absence of what may be null.
///
/// ```
/// use jackfield_protocol::{Interface, export};
/// let greeter = Interface::from_json(r#"{
///     "interface": "demo:greeter/greeter@1.0.0",
///     "functions": [{"name": "greet", "params": [{"name": "name", "type": "string"}], "result": "string"}]
/// }"#)?;
/// let schema: serde_json::Value = serde_json::from_str(&export::json_schema(&greeter))?;
/// let params = schema.pointer("/properties/greet/properties/params").expect("a schema");
/// assert_eq!(params["properties"]["name"]["type"], "string");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn json_schema(interface: &Interface) -> String {
    let functions = interface.functions.iter().map(|function| (function.name.clone(), of_function(function)));
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": interface.id.to_string(),
        "type": "object",
        "properties": functions.collect::<Map<_, _>>(),
        "additionalProperties": false,
    });
    describe(&mut schema, &interface.docs);
    if !interface.types.is_empty() {
        let definitions = interface.types.iter().map(|(name, ty)| (name.clone(), of_definition(ty)));
        schema["$defs"] = definitions.collect::<Map<_, _>>().into();
    }
    format!("{schema:#}\n")
}

fn of_function(function: &Function) -> Value {
    let params = function.params.iter().map(|param| (&*param.name, &param.ty));
    let mut outcomes = json!({ "params": of_members(params), "result": of_type(&function.ok()) });
    if let Some(error) = function.err() {
        outcomes["error"] = of_type(error);
    }
    let mut schema = json!({ "type": "object", "properties": outcomes, "additionalProperties": false });
    describe(&mut schema, &function.docs);
    schema
}

fn describe(schema: &mut Value, docs: &str) {
    if !docs.is_empty() {
        schema["description"] = docs.into();
    }
}

fn of_definition(definition: &TypeDef) -> Value {
    match definition {
        TypeDef::Record(fields) => of_members(fields.iter().map(|field| (&*field.name, &field.ty))),
        TypeDef::Enum(names) => json!({ "enum": names }),
        TypeDef::Flags(names) => {
            json!({ "type": "array", "items": { "enum": names }, "uniqueItems": true })
        }
        TypeDef::Variant(cases) => {
            let cases = cases.iter().map(|case| match &case.ty {
                None => of_object([("tag", json!({ "const": case.name }))]),
                Some(ty) => of_object([("tag", json!({ "const": case.name })), ("val", of_type(ty))]),
            });
            json!({ "oneOf": cases.collect::<Vec<_>>() })
        }
    }
}

/// An object with these members, of which those that may be null may be absent.
fn of_members<'a>(members: impl Iterator<Item = (&'a str, &'a TypeRef)>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, ty) in members {
        properties.insert(name.to_owned(), of_type(ty));
        if !ty.is_nullable() {
            required.push(name);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// An object with exactly these members.
fn of_object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let required = members.each_ref().map(|(name, _)| *name);
    let required = json!(&required[..]);
    let properties: Map<_, _> = members.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn of_type(ty: &TypeRef) -> Value {
    let integer = |min: i64, max: i64| json!({ "type": "integer", "minimum": min, "maximum": max });
    let exact = EXACT_MAX as i64;
    match ty {
        TypeRef::Bool => json!({ "type": "boolean" }),
        TypeRef::S8 => integer(i8::MIN.into(), i8::MAX.into()),
        TypeRef::S16 => integer(i16::MIN.into(), i16::MAX.into()),
        TypeRef::S32 => integer(i32::MIN.into(), i32::MAX.into()),
        TypeRef::U8 => integer(0, u8::MAX.into()),
        TypeRef::U16 => integer(0, u16::MAX.into()),
        TypeRef::U32 => integer(0, u32::MAX.into()),
        TypeRef::S64 => json!({ "anyOf": [
            integer(-exact, exact),
            { "type": "string", "pattern": "^-?[1-9][0-9]{15,18}$" },
        ] }),
        TypeRef::U64 => json!({ "anyOf": [
            integer(0, exact),
            { "type": "string", "pattern": "^[1-9][0-9]{15,19}$" },
        ] }),
        TypeRef::F32 | TypeRef::F64 => {
            json!({ "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
        }
        TypeRef::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        TypeRef::String => json!({ "type": "string" }),
        TypeRef::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        TypeRef::List(item) => json!({ "type": "array", "items": of_type(item) }),
        TypeRef::Map(key, value) => {
            let mut schema = json!({ "type": "object", "additionalProperties": of_type(value) });
            if let Some(names) = of_key(key) {
                schema["propertyNames"] = names;
            }
            schema
        }
        TypeRef::Option(some) if some.is_nullable() => {
            json!({ "anyOf": [of_object([("some", of_type(some))]), { "type": "null" }] })
        }
        TypeRef::Option(some) => json!({ "anyOf": [of_type(some), { "type": "null" }] }),
        TypeRef::Result(ok, err) => {
            json!({ "oneOf": [of_object([("ok", of_type(ok))]), of_object([("err", of_type(err))])] })
        }
        TypeRef::Tuple(items) if items.is_empty() => json!({ "type": "null" }),
        TypeRef::Tuple(items) => {
            let prefix: Vec<_> = items.iter().map(of_type).collect();
            json!({ "type": "array", "prefixItems": prefix, "items": false, "minItems": items.len() })
        }
        TypeRef::Named(name) => json!({ "$ref": format!("#/$defs/{name}") }),
    }
}

/// The names that a map with this key has as a JSON object; any, when that is so. For integers the
/// sign and the digits are checked; their range is not, for a pattern cannot count.
fn of_key(key: &TypeRef) -> Option<Value> {
    match key {
        TypeRef::String => None,
        TypeRef::Bool => Some(json!({ "enum": ["true", "false"] })),
        TypeRef::Char => Some(json!({ "minLength": 1, "maxLength": 1 })),
        TypeRef::U8 | TypeRef::U16 | TypeRef::U32 | TypeRef::U64 => Some(json!({ "pattern": "^(0|[1-9][0-9]*)$" })),
        _ => Some(json!({ "pattern": "^(0|-?[1-9][0-9]*)$" })),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// The schema of a parameter of type `ty`, on one line.
    fn check_type(ty: &str, expected: Expect) {
        expected.assert_eq(&of_type(&ty.parse().expect(ty)).to_string());
    }

    #[test]
    fn a_function_has_its_params_its_result_and_its_error() {
        let interface = Interface::from_json(
            r#"{
                "interface": "demo:greeter/greeter@1.0.0",
                "docs": "Greets people.",
                "types": {
                    "person": {"record": [{"name": "first-name", "type": "string"}, {"name": "title", "type": "option<string>"}]},
                    "greet-error": {"variant": [{"name": "unknown", "type": "person"}, {"name": "asleep"}]},
                    "mood": {"enum": ["good", "bad"]},
                    "ways": {"flags": ["loud", "kind"]}
                },
                "functions": [
                    {"name": "greet", "docs": "Greets one.", "params": [
                        {"name": "person", "type": "person"}, {"name": "ways", "type": "option<ways>"}
                    ], "result": "result<string, greet-error>"},
                    {"name": "mood", "result": "mood"},
                    {"name": "stop"}
                ]
            }"#,
        );
        expect![[r##"
            {
              "$defs": {
                "greet-error": {
                  "oneOf": [
                    {
                      "additionalProperties": false,
                      "properties": {
                        "tag": {
                          "const": "unknown"
                        },
                        "val": {
                          "$ref": "#/$defs/person"
                        }
                      },
                      "required": [
                        "tag",
                        "val"
                      ],
                      "type": "object"
                    },
                    {
                      "additionalProperties": false,
                      "properties": {
                        "tag": {
                          "const": "asleep"
                        }
                      },
                      "required": [
                        "tag"
                      ],
                      "type": "object"
                    }
                  ]
                },
                "mood": {
                  "enum": [
                    "good",
                    "bad"
                  ]
                },
                "person": {
                  "additionalProperties": false,
                  "properties": {
                    "first-name": {
                      "type": "string"
                    },
                    "title": {
                      "anyOf": [
                        {
                          "type": "string"
                        },
                        {
                          "type": "null"
                        }
                      ]
                    }
                  },
                  "required": [
                    "first-name"
                  ],
                  "type": "object"
                },
                "ways": {
                  "items": {
                    "enum": [
                      "loud",
                      "kind"
                    ]
                  },
                  "type": "array",
                  "uniqueItems": true
                }
              },
              "$schema": "https://json-schema.org/draft/2020-12/schema",
              "additionalProperties": false,
              "description": "Greets people.",
              "properties": {
                "greet": {
                  "additionalProperties": false,
                  "description": "Greets one.",
                  "properties": {
                    "error": {
                      "$ref": "#/$defs/greet-error"
                    },
                    "params": {
                      "additionalProperties": false,
                      "properties": {
                        "person": {
                          "$ref": "#/$defs/person"
                        },
                        "ways": {
                          "anyOf": [
                            {
                              "$ref": "#/$defs/ways"
                            },
                            {
                              "type": "null"
                            }
                          ]
                        }
                      },
                      "required": [
                        "person"
                      ],
                      "type": "object"
                    },
                    "result": {
                      "type": "string"
                    }
                  },
                  "type": "object"
                },
                "mood": {
                  "additionalProperties": false,
                  "properties": {
                    "params": {
                      "additionalProperties": false,
                      "properties": {},
                      "required": [],
                      "type": "object"
                    },
                    "result": {
                      "$ref": "#/$defs/mood"
                    }
                  },
                  "type": "object"
                },
                "stop": {
                  "additionalProperties": false,
                  "properties": {
                    "params": {
                      "additionalProperties": false,
                      "properties": {},
                      "required": [],
                      "type": "object"
                    },
                    "result": {
                      "type": "null"
                    }
                  },
                  "type": "object"
                }
              },
              "title": "demo:greeter/greeter@1.0.0",
              "type": "object"
            }
        "##]]
        .assert_eq(&json_schema(&interface.expect("a description")));
    }

    #[test]
    fn each_type_has_the_form_of_its_canonical_json() {
        check_type("bool", expect![[r#"{"type":"boolean"}"#]]);
        check_type("u8", expect![[r#"{"maximum":255,"minimum":0,"type":"integer"}"#]]);
        check_type(
            "s64",
            expect![[
                r#"{"anyOf":[{"maximum":9007199254740991,"minimum":-9007199254740991,"type":"integer"},{"pattern":"^-?[1-9][0-9]{15,18}$","type":"string"}]}"#
            ]],
        );
        check_type(
            "u64",
            expect![[
                r#"{"anyOf":[{"maximum":9007199254740991,"minimum":0,"type":"integer"},{"pattern":"^[1-9][0-9]{15,19}$","type":"string"}]}"#
            ]],
        );
        check_type("f32", expect![[r#"{"anyOf":[{"type":"number"},{"enum":["NaN","Infinity","-Infinity"]}]}"#]]);
        check_type("char", expect![[r#"{"maxLength":1,"minLength":1,"type":"string"}"#]]);
        check_type("list<u8>", expect![[r#"{"contentEncoding":"base64","type":"string"}"#]]);
        check_type("list<string>", expect![[r#"{"items":{"type":"string"},"type":"array"}"#]]);
        check_type("map<string, bool>", expect![[r#"{"additionalProperties":{"type":"boolean"},"type":"object"}"#]]);
        check_type(
            "map<s8, bool>",
            expect![[
                r#"{"additionalProperties":{"type":"boolean"},"propertyNames":{"pattern":"^(0|-?[1-9][0-9]*)$"},"type":"object"}"#
            ]],
        );
        check_type(
            "map<bool, char>",
            expect![[
                r#"{"additionalProperties":{"maxLength":1,"minLength":1,"type":"string"},"propertyNames":{"enum":["true","false"]},"type":"object"}"#
            ]],
        );
        check_type("option<string>", expect![[r#"{"anyOf":[{"type":"string"},{"type":"null"}]}"#]]);
        check_type(
            "option<option<string>>",
            expect![[
                r#"{"anyOf":[{"additionalProperties":false,"properties":{"some":{"anyOf":[{"type":"string"},{"type":"null"}]}},"required":["some"],"type":"object"},{"type":"null"}]}"#
            ]],
        );
        check_type(
            "option<_>",
            expect![[
                r#"{"anyOf":[{"additionalProperties":false,"properties":{"some":{"type":"null"}},"required":["some"],"type":"object"},{"type":"null"}]}"#
            ]],
        );
        check_type(
            "result<_, string>",
            expect![[
                r#"{"oneOf":[{"additionalProperties":false,"properties":{"ok":{"type":"null"}},"required":["ok"],"type":"object"},{"additionalProperties":false,"properties":{"err":{"type":"string"}},"required":["err"],"type":"object"}]}"#
            ]],
        );
        check_type(
            "tuple<u8, string>",
            expect![[
                r#"{"items":false,"minItems":2,"prefixItems":[{"maximum":255,"minimum":0,"type":"integer"},{"type":"string"}],"type":"array"}"#
            ]],
        );
        check_type("person", expect![[r##"{"$ref":"#/$defs/person"}"##]]);
    }
}
