//! Values without a Rust type: JSON checked against an interface, with the path to what is wrong.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};

use crate::hint::did_you_mean;
use crate::interface::{Function, Interface};
use crate::name::spells;
use crate::types::{TypeDef, TypeRef};
use crate::value::{EXACT_MAX, not_finite};

/// What is wrong with a value, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// Where: `greet(person).address.zip`.
    pub path: String,
    /// What stands there and what should.
    pub what: String,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path, self.what)
    }
}

impl std::error::Error for ValueError {}

/// Checks the arguments of a call and gives them in canonical form.
///
/// They are an object by parameter name, in any accepted spelling, or an array by position.
pub fn check_arguments(interface: &Interface, function: &Function, arguments: &Value) -> Result<Value, ValueError> {
    let wrong = |what: String| ValueError { path: function.name.clone(), what };
    let by_name = match arguments {
        Value::Object(members) => members.clone(),
        Value::Null if function.params.is_empty() => Map::new(),
        Value::Array(items) if items.len() == function.params.len() => {
            let names = function.params.iter().map(|param| param.name.clone());
            names.zip(items.iter().cloned()).collect()
        }
        Value::Array(items) => {
            let (want, got) = (function.params.len(), items.len());
            return Err(wrong(format!("takes {want} arguments, got {got}")));
        }
        other => return Err(wrong(format!("arguments are an object or an array, got {}", kind(other)))),
    };
    let members: Vec<_> = function.params.iter().map(|param| (&*param.name, &param.ty)).collect();
    let path = |name: &str| format!("{}({name})", function.name);
    check_members(interface, &by_name, &members, &function.name, "argument", &path)
}

/// Checks one value and gives it in canonical form.
pub fn check_value(interface: &Interface, ty: &TypeRef, value: &Value, path: &str) -> Result<Value, ValueError> {
    let wrong = |what: String| ValueError { path: path.to_owned(), what };
    let mismatch = || wrong(format!("is a `{ty}`, got {}", kind(value)));
    let integer = |min: i128, max: i128| -> Result<Value, ValueError> {
        let written = match value {
            Value::Number(number) => number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)),
            Value::String(text) if max > i128::from(u32::MAX) => text.parse::<i128>().ok(),
            _ => None,
        };
        let number = written.ok_or_else(mismatch)?;
        if number < min || number > max {
            return Err(wrong(format!("{number} is out of range for `{ty}` ({min} to {max})")));
        }
        Ok(canonical_integer(number))
    };
    match ty {
        TypeRef::Bool => value.is_boolean().then(|| value.clone()).ok_or_else(mismatch),
        TypeRef::S8 => integer(i8::MIN.into(), i8::MAX.into()),
        TypeRef::S16 => integer(i16::MIN.into(), i16::MAX.into()),
        TypeRef::S32 => integer(i32::MIN.into(), i32::MAX.into()),
        TypeRef::S64 => integer(i64::MIN.into(), i64::MAX.into()),
        TypeRef::U8 => integer(0, u8::MAX.into()),
        TypeRef::U16 => integer(0, u16::MAX.into()),
        TypeRef::U32 => integer(0, u32::MAX.into()),
        TypeRef::U64 => integer(0, u64::MAX.into()),
        TypeRef::F32 | TypeRef::F64 => check_float(ty, value).map_err(|what| match what {
            Some(what) => wrong(what),
            None => mismatch(),
        }),
        TypeRef::Char => match value {
            Value::String(text) if text.chars().count() == 1 => Ok(value.clone()),
            Value::String(text) => {
                Err(wrong(format!("is a `char`, got a string of {} characters", text.chars().count())))
            }
            _ => Err(mismatch()),
        },
        TypeRef::String => value.is_string().then(|| value.clone()).ok_or_else(mismatch),
        TypeRef::Bytes => match value {
            Value::String(text) => match BASE64.decode(text) {
                Ok(_) => Ok(value.clone()),
                Err(error) => Err(wrong(format!("bytes are not base64: {error}"))),
            },
            Value::Array(items) => {
                let byte = |(at, item): (usize, &Value)| {
                    let number = item.as_u64().and_then(|number| u8::try_from(number).ok());
                    let what = || format!("is a `u8`, got {}", shown(item));
                    number.ok_or_else(|| ValueError { path: format!("{path}[{at}]"), what: what() })
                };
                let bytes: Vec<u8> = items.iter().enumerate().map(byte).collect::<Result<_, _>>()?;
                Ok(Value::String(BASE64.encode(bytes)))
            }
            _ => Err(mismatch()),
        },
        TypeRef::List(item) => {
            let items = value.as_array().ok_or_else(mismatch)?.iter().enumerate();
            items.map(|(at, value)| check_value(interface, item, value, &format!("{path}[{at}]"))).collect()
        }
        TypeRef::Tuple(types) if types.is_empty() => value.is_null().then_some(Value::Null).ok_or_else(mismatch),
        TypeRef::Tuple(types) => {
            let items = value.as_array().ok_or_else(mismatch)?;
            if items.len() != types.len() {
                return Err(wrong(format!("is a `{ty}`, got an array of {}", items.len())));
            }
            let pairs = types.iter().zip(items).enumerate();
            pairs.map(|(at, (ty, value))| check_value(interface, ty, value, &format!("{path}.{at}"))).collect()
        }
        TypeRef::Map(key, item) => {
            let mut entries = Map::new();
            for (name, value) in value.as_object().ok_or_else(mismatch)? {
                let here = format!("{path}[{name:?}]");
                let name = check_key(key, name).ok_or_else(|| ValueError {
                    path: here.clone(),
                    what: format!("the key is a `{key}`, got {name:?}"),
                })?;
                entries.insert(name, check_value(interface, item, value, &here)?);
            }
            Ok(Value::Object(entries))
        }
        TypeRef::Option(_) if value.is_null() => Ok(Value::Null),
        TypeRef::Option(some) if some.is_nullable() => match single(value) {
            Some(("some", inner)) => {
                let inner = check_value(interface, some, inner, &format!("{path}?"))?;
                Ok(object([("some", inner)]))
            }
            _ => Err(wrong(format!("is a `{ty}`: `null` or `{{\"some\": value}}`, got {}", kind(value)))),
        },
        TypeRef::Option(some) => check_value(interface, some, value, path),
        TypeRef::Result(ok, err) => {
            let (name, ty, inner) = match single(value) {
                Some(("ok", inner)) => ("ok", ok, inner),
                Some(("err", inner)) => ("err", err, inner),
                _ => {
                    let got = kind(value);
                    return Err(wrong(format!("is `{{\"ok\": value}}` or `{{\"err\": value}}`, got {got}")));
                }
            };
            Ok(object([(name, check_value(interface, ty, inner, &format!("{path}.{name}"))?)]))
        }
        TypeRef::Named(name) => match interface.types.get(name) {
            Some(definition) => check_named(interface, name, definition, value, path),
            None => Err(wrong(format!("type `{name}` is not defined"))),
        },
    }
}

fn check_named(
    interface: &Interface,
    name: &str,
    definition: &TypeDef,
    value: &Value,
    path: &str,
) -> Result<Value, ValueError> {
    let wrong = |what: String| ValueError { path: path.to_owned(), what };
    let mismatch = || wrong(format!("is a {} `{name}`, got {}", definition.kind(), kind(value)));
    let members = definition.members();
    let member = |written: &str| -> Result<usize, ValueError> {
        members.iter().position(|member| spells(written, member)).ok_or_else(|| {
            let hint = did_you_mean(written, members.iter().copied());
            wrong(format!("`{name}` has no `{written}`{hint}"))
        })
    };
    match definition {
        TypeDef::Record(fields) => {
            let written = value.as_object().ok_or_else(mismatch)?;
            let fields: Vec<_> = fields.iter().map(|field| (&*field.name, &field.ty)).collect();
            let inner = |name: &str| format!("{path}.{name}");
            check_members(interface, written, &fields, path, "field", &inner)
        }
        TypeDef::Enum(_) => {
            let written = value.as_str().ok_or_else(mismatch)?;
            Ok(Value::from(members[member(written)?]))
        }
        TypeDef::Flags(_) => {
            let mut set = vec![false; members.len()];
            for item in value.as_array().ok_or_else(mismatch)? {
                set[member(item.as_str().ok_or_else(mismatch)?)?] = true;
            }
            let named = members.iter().zip(set).filter(|(_, set)| *set);
            Ok(named.map(|(name, _)| Value::from(*name)).collect())
        }
        TypeDef::Variant(cases) => {
            let (written, inner) = match (value, value.get("tag").and_then(Value::as_str)) {
                (Value::String(written), _) => (&**written, None),
                (Value::Object(whole), Some(tag)) => {
                    let known = |key: &&String| !["tag", "val"].contains(&key.as_str());
                    if let Some(extra) = whole.keys().find(known) {
                        return Err(wrong(format!("unexpected member `{extra}`")));
                    }
                    (tag, whole.get("val"))
                }
                _ => single(value).map(|(tag, inner)| (tag, Some(inner))).ok_or_else(mismatch)?,
            };
            let case = &cases[member(written)?];
            let here = format!("{path}.{}", case.name);
            match (&case.ty, inner.filter(|inner| case.ty.is_some() || !inner.is_null())) {
                (None, None) => Ok(object([("tag", Value::from(&*case.name))])),
                (Some(ty), Some(inner)) => {
                    let inner = check_value(interface, ty, inner, &here)?;
                    Ok(object([("tag", Value::from(&*case.name)), ("val", inner)]))
                }
                (Some(ty), None) => Err(wrong(format!("`{}` of `{name}` wants a `{ty}`", case.name))),
                (None, Some(_)) => Err(wrong(format!("`{}` of `{name}` carries nothing", case.name))),
            }
        }
    }
}

fn check_members(
    interface: &Interface,
    written: &Map<String, Value>,
    members: &[(&str, &TypeRef)],
    owner: &str,
    what: &str,
    path: &dyn Fn(&str) -> String,
) -> Result<Value, ValueError> {
    let wrong = |what: String| ValueError { path: owner.to_owned(), what };
    let mut found: Vec<Option<&Value>> = vec![None; members.len()];
    for (name, value) in written {
        let Some(at) = members.iter().position(|(member, _)| spells(name, member)) else {
            let hint = did_you_mean(name, members.iter().map(|(member, _)| *member));
            return Err(wrong(format!("has no {what} `{name}`{hint}")));
        };
        if found[at].replace(value).is_some() {
            return Err(wrong(format!("has {what} `{}` twice", members[at].0)));
        }
    }
    let mut canonical = Map::new();
    for ((name, ty), value) in members.iter().zip(found) {
        let value = match value {
            Some(value) => check_value(interface, ty, value, &path(name))?,
            None if ty.is_nullable() => Value::Null,
            None => return Err(wrong(format!("wants the {what} `{name}` of type `{ty}`"))),
        };
        canonical.insert((*name).to_owned(), value);
    }
    Ok(Value::Object(canonical))
}

/// `Err(None)`: not a float at all. `Err(Some(…))`: not one this type holds.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn check_float(ty: &TypeRef, value: &Value) -> Result<Value, Option<String>> {
    let float = match value {
        Value::String(text) => {
            let known = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            let known = known.into_iter().find(|float| not_finite(*float) == Some(text));
            return known.map(|_| value.clone()).ok_or(None);
        }
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) if (integer as f64) as i128 != i128::from(integer) => {
                return Err(Some(format!("{integer} is no `{ty}` exactly")));
            }
            (None, Some(integer), _) if (integer as f64) as i128 != i128::from(integer) => {
                return Err(Some(format!("{integer} is no `{ty}` exactly")));
            }
            (_, _, float) => float.ok_or(None)?,
        },
        _ => return Err(None),
    };
    match ty {
        TypeRef::F32 if (float as f32).is_infinite() => Err(Some(format!("{float} is out of range for `f32`"))),
        _ => Ok(value.clone()),
    }
}

fn canonical_integer(number: i128) -> Value {
    match i64::try_from(number) {
        Ok(number) if number.unsigned_abs() <= EXACT_MAX => Value::from(number),
        _ => Value::String(number.to_string()),
    }
}

fn check_key(ty: &TypeRef, name: &str) -> Option<String> {
    let in_range = |min: i128, max: i128| {
        let number = name.parse::<i128>().ok().filter(|number| (min..=max).contains(number));
        number.map(|number| number.to_string())
    };
    match ty {
        TypeRef::String => Some(name.to_owned()),
        TypeRef::Bool => matches!(name, "true" | "false").then(|| name.to_owned()),
        TypeRef::Char => (name.chars().count() == 1).then(|| name.to_owned()),
        TypeRef::S8 => in_range(i8::MIN.into(), i8::MAX.into()),
        TypeRef::S16 => in_range(i16::MIN.into(), i16::MAX.into()),
        TypeRef::S32 => in_range(i32::MIN.into(), i32::MAX.into()),
        TypeRef::S64 => in_range(i64::MIN.into(), i64::MAX.into()),
        TypeRef::U8 => in_range(0, u8::MAX.into()),
        TypeRef::U16 => in_range(0, u16::MAX.into()),
        TypeRef::U32 => in_range(0, u32::MAX.into()),
        TypeRef::U64 => in_range(0, u64::MAX.into()),
        _ => None,
    }
}

fn single(value: &Value) -> Option<(&str, &Value)> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    members.iter().next().map(|(name, value)| (&**name, value))
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => {
            let short: String = text.chars().take(40).collect();
            format!("the string {short:?}")
        }
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn shown(value: &Value) -> String {
    kind(value)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    const INTERFACE: &str = r#"{
        "interface": "t:t/t@1.0.0",
        "types": {
            "address": {"record": [{"name": "zip-code", "type": "u32"}, {"name": "note", "type": "option<option<string>>"}]},
            "shape": {"variant": [{"name": "circle", "type": "f64"}, {"name": "point"}]},
            "color": {"enum": ["red", "green"]},
            "perms": {"flags": ["read", "write"]}
        },
        "functions": [{"name": "f", "params": [
            {"name": "address", "type": "option<address>"}, {"name": "shape", "type": "option<shape>"},
            {"name": "big", "type": "option<u64>"}, {"name": "small", "type": "option<s8>"},
            {"name": "data", "type": "option<list<u8>>"}, {"name": "perms", "type": "option<perms>"},
            {"name": "map", "type": "option<map<u8, color>>"}, {"name": "real", "type": "option<f64>"}
        ]}]
    }"#;

    fn check(arguments: Value, expected: Expect) {
        let interface = Interface::from_json(INTERFACE).expect("a description");
        expected.assert_eq(&match check_arguments(&interface, &interface.functions[0], &arguments) {
            Ok(value) => {
                let mut members = value.as_object().expect("an object").clone();
                members.retain(|_, value| !value.is_null());
                Value::Object(members).to_string()
            }
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn every_accepted_spelling_becomes_canonical() {
        check(
            json!({"address": {"zipCode": 7, "note": {"some": null}}, "shape": {"circle": 1.5}}),
            expect![[r#"{"address":{"note":{"some":null},"zip-code":7},"shape":{"tag":"circle","val":1.5}}"#]],
        );
        check(json!({"shape": "point"}), expect![[r#"{"shape":{"tag":"point"}}"#]]);
        check(
            json!({"big": "9007199254740992", "small": -128}),
            expect![[r#"{"big":"9007199254740992","small":-128}"#]],
        );
        check(json!({"big": u64::MAX}), expect![[r#"{"big":"18446744073709551615"}"#]]);
        check(json!({"data": [1, 2, 255]}), expect![[r#"{"data":"AQL/"}"#]]);
        check(json!({"perms": ["write", "read"]}), expect![[r#"{"perms":["read","write"]}"#]]);
        check(json!({"map": {"1": "red"}, "real": "NaN"}), expect![[r#"{"map":{"1":"red"},"real":"NaN"}"#]]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path_and_the_nearest_name() {
        check(json!({"adress": null}), expect!["`f`: has no argument `adress`; did you mean `address`?"]);
        check(json!({"address": {"zip": 1}}), expect!["`f(address)`: has no field `zip`"]);
        check(json!({"address": {}}), expect!["`f(address)`: wants the field `zip-code` of type `u32`"]);
        check(json!({"small": 128}), expect!["`f(small)`: 128 is out of range for `s8` (-128 to 127)"]);
        check(json!({"small": 1.5}), expect!["`f(small)`: is a `s8`, got the number 1.5"]);
        check(json!({"small": "1"}), expect![[r#"`f(small)`: is a `s8`, got the string "1""#]]);
        check(json!({"shape": {"circel": 1}}), expect!["`f(shape)`: `shape` has no `circel`; did you mean `circle`?"]);
        check(json!({"shape": "circle"}), expect!["`f(shape)`: `circle` of `shape` wants a `f64`"]);
        check(json!({"shape": {"tag": "point", "val": 1}}), expect!["`f(shape)`: `point` of `shape` carries nothing"]);
        check(json!({"map": {"256": "red"}}), expect![[r#"`f(map)["256"]`: the key is a `u8`, got "256""#]]);
        check(json!({"real": 9_007_199_254_740_993_u64}), expect!["`f(real)`: 9007199254740993 is no `f64` exactly"]);
        check(json!({"data": "not base64!"}), expect!["`f(data)`: bytes are not base64: Invalid symbol 32, offset 3."]);
        check(json!([1]), expect!["`f`: takes 8 arguments, got 1"]);
        check(json!("x"), expect![[r#"`f`: arguments are an object or an array, got the string "x""#]]);
    }
}
