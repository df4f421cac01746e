//! The value model: WIT's types, as data.
//!
//! A type is written as in WIT (`list<option<string>>`), in a description as in an error text.
//! Named types stand beside it, in the interface that uses them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{NameError, is_kebab};

/// A type as it is used: a primitive, a container of types, or a name defined in the interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum TypeRef {
    /// `bool`
    Bool,
    /// `s8`
    S8,
    /// `s16`
    S16,
    /// `s32`
    S32,
    /// `s64`
    S64,
    /// `u8`
    U8,
    /// `u16`
    U16,
    /// `u32`
    U32,
    /// `u64`
    U64,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`: one Unicode scalar value.
    Char,
    /// `string`: UTF-8.
    String,
    /// `list<u8>`: bytes. Kept apart from other lists, for it never goes element by element.
    Bytes,
    /// `list<T>`
    List(Box<TypeRef>),
    /// `map<K, V>`; K is `bool`, `char`, `string` or an integer.
    Map(Box<TypeRef>, Box<TypeRef>),
    /// `option<T>`
    Option(Box<TypeRef>),
    /// `result<T, E>`
    Result(Box<TypeRef>, Box<TypeRef>),
    /// `tuple<A, B, …>`; the empty one is the unit, written `_`.
    Tuple(Vec<TypeRef>),
    /// A type defined by the interface.
    Named(String),
}

impl TypeRef {
    /// The unit type, written `_`: a success or a failure that carries nothing.
    pub const UNIT: TypeRef = TypeRef::Tuple(Vec::new());

    /// Whether this can be the key of a map.
    pub fn is_key(&self) -> bool {
        use TypeRef::*;
        matches!(self, Bool | Char | String | S8 | S16 | S32 | S64 | U8 | U16 | U32 | U64)
    }

    /// Whether JSON writes some value of it as `null`, so that an option of it must be wrapped.
    pub fn is_nullable(&self) -> bool {
        matches!(self, TypeRef::Option(_)) || *self == TypeRef::UNIT
    }

    /// The names of the defined types used here, at any depth.
    pub fn named(&self) -> Vec<&str> {
        match self {
            TypeRef::Named(name) => vec![name],
            TypeRef::List(item) | TypeRef::Option(item) => item.named(),
            TypeRef::Map(a, b) | TypeRef::Result(a, b) => {
                let mut names = a.named();
                names.extend(b.named());
                names
            }
            TypeRef::Tuple(items) => items.iter().flat_map(TypeRef::named).collect(),
            _ => Vec::new(),
        }
    }
}

/// The types that have a name of their own, and so names that no defined type can take.
const PRIMITIVES: [(&str, TypeRef); 13] = [
    ("bool", TypeRef::Bool),
    ("s8", TypeRef::S8),
    ("s16", TypeRef::S16),
    ("s32", TypeRef::S32),
    ("s64", TypeRef::S64),
    ("u8", TypeRef::U8),
    ("u16", TypeRef::U16),
    ("u32", TypeRef::U32),
    ("u64", TypeRef::U64),
    ("f32", TypeRef::F32),
    ("f64", TypeRef::F64),
    ("char", TypeRef::Char),
    ("string", TypeRef::String),
];

const CONTAINERS: [&str; 5] = ["list", "map", "option", "result", "tuple"];

/// Whether WIT uses the word for a type of its own.
pub(crate) fn is_reserved(name: &str) -> bool {
    CONTAINERS.contains(&name) || PRIMITIVES.iter().any(|(primitive, _)| *primitive == name)
}

impl fmt::Display for TypeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeRef::Bytes => f.write_str("list<u8>"),
            TypeRef::List(item) => write!(f, "list<{item}>"),
            TypeRef::Map(key, value) => write!(f, "map<{key}, {value}>"),
            TypeRef::Option(some) => write!(f, "option<{some}>"),
            TypeRef::Result(ok, err) => write!(f, "result<{ok}, {err}>"),
            TypeRef::Tuple(items) if items.is_empty() => f.write_str("_"),
            TypeRef::Tuple(items) => {
                f.write_str("tuple<")?;
                for (at, item) in items.iter().enumerate() {
                    let comma = if at > 0 { ", " } else { "" };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str(">")
            }
            TypeRef::Named(name) => f.write_str(name),
            primitive => {
                let named = PRIMITIVES.iter().find(|(_, ty)| ty == primitive);
                f.write_str(named.map_or("_", |(name, _)| name))
            }
        }
    }
}

impl FromStr for TypeRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut rest = text;
        let parsed = parse(&mut rest, 0)
            .ok_or_else(|| NameError::new(text, "a type is written as in WIT: `list<option<string>>`"))?;
        match rest.trim_start() {
            "" => Ok(parsed),
            _ => Err(NameError::new(text, "something follows the type")),
        }
    }
}

impl From<TypeRef> for String {
    fn from(ty: TypeRef) -> String {
        ty.to_string()
    }
}

impl TryFrom<String> for TypeRef {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

/// Deepest nesting of containers that a description may have. Guards the stack against a hostile one.
const DEPTH_MAX: usize = 64;

fn parse(rest: &mut &str, depth: usize) -> Option<TypeRef> {
    if depth > DEPTH_MAX {
        return None;
    }
    *rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix('_') {
        *rest = after;
        return Some(TypeRef::UNIT);
    }
    let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after.trim_start();
    let Some(inside) = rest.strip_prefix('<') else {
        if let Some((_, primitive)) = PRIMITIVES.iter().find(|(name, _)| *name == word) {
            return Some(primitive.clone());
        }
        let named = is_kebab(word) && !CONTAINERS.contains(&word);
        return named.then(|| TypeRef::Named(word.to_owned()));
    };
    *rest = inside;
    let mut items = vec![parse(rest, depth + 1)?];
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('>') {
            *rest = after;
            break;
        }
        *rest = rest.strip_prefix(',')?;
        items.push(parse(rest, depth + 1)?);
    }
    let mut items = items.into_iter();
    let (first, second, more) = (items.next()?, items.next(), items.len() > 0);
    match (word, second, more) {
        ("tuple", second, _) => Some(TypeRef::Tuple([first].into_iter().chain(second).chain(items).collect())),
        ("list", None, _) if first == TypeRef::U8 => Some(TypeRef::Bytes),
        ("list", None, _) => Some(TypeRef::List(Box::new(first))),
        ("option", None, _) => Some(TypeRef::Option(Box::new(first))),
        ("map", Some(value), false) => Some(TypeRef::Map(Box::new(first), Box::new(value))),
        ("result", Some(err), false) => Some(TypeRef::Result(Box::new(first), Box::new(err))),
        _ => None,
    }
}

/// A type with a name, as its interface defines it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TypeDef {
    /// Named fields, all present.
    Record(Vec<Field>),
    /// One of several cases, each with or without a value.
    Variant(Vec<Case>),
    /// One of several names.
    Enum(Vec<String>),
    /// A set of names; at most 64.
    Flags(Vec<String>),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Kebab-case name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: TypeRef,
}

/// A case of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
    /// Kebab-case name.
    pub name: String,
    /// What it carries, if anything.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub ty: Option<TypeRef>,
}

impl TypeDef {
    /// What it is, in WIT's word: `record`, `variant`, `enum`, `flags`.
    pub fn kind(&self) -> &'static str {
        match self {
            TypeDef::Record(_) => "record",
            TypeDef::Variant(_) => "variant",
            TypeDef::Enum(_) => "enum",
            TypeDef::Flags(_) => "flags",
        }
    }

    /// The names of its fields, cases or flags, in order.
    pub fn members(&self) -> Vec<&str> {
        match self {
            TypeDef::Record(fields) => fields.iter().map(|field| &*field.name).collect(),
            TypeDef::Variant(cases) => cases.iter().map(|case| &*case.name).collect(),
            TypeDef::Enum(names) | TypeDef::Flags(names) => names.iter().map(String::as_str).collect(),
        }
    }

    /// The types it mentions.
    pub fn uses(&self) -> Vec<&TypeRef> {
        match self {
            TypeDef::Record(fields) => fields.iter().map(|field| &field.ty).collect(),
            TypeDef::Variant(cases) => cases.iter().filter_map(|case| case.ty.as_ref()).collect(),
            TypeDef::Enum(_) | TypeDef::Flags(_) => Vec::new(),
        }
    }
}

/// Collects the defined types while an interface describes itself. Used by generated code.
#[derive(Debug, Default)]
pub struct Types {
    pub(crate) defined: BTreeMap<String, TypeDef>,
    pub(crate) problems: Vec<String>,
    open: Vec<(&'static str, &'static str)>,
    rust_names: BTreeMap<&'static str, &'static str>,
}

impl Types {
    /// Defines the type `name` once and refers to it. `rust_name` tells two Rust types of one name
    /// apart; a type that contains itself is noted as a problem, since WIT has no recursive types.
    pub fn define(
        &mut self,
        name: &'static str,
        rust_name: &'static str,
        define: impl FnOnce(&mut Types) -> TypeDef,
    ) -> TypeRef {
        if self.open.contains(&(name, rust_name)) {
            self.problems.push(format!("type `{name}` contains itself; WIT has no recursive types"));
        } else if let Some(known) = self.rust_names.get(name) {
            if *known != rust_name {
                self.problems.push(format!("two types are called `{name}`: `{known}` and `{rust_name}`"));
            }
        } else {
            self.rust_names.insert(name, rust_name);
            self.open.push((name, rust_name));
            let defined = define(self);
            self.open.pop();
            self.defined.insert(name.to_owned(), defined);
        }
        TypeRef::Named(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_read_as_it_is_written() {
        for text in [
            "bool",
            "list<u8>",
            "list<list<option<string>>>",
            "map<string, list<u8>>",
            "result<_, greet-error>",
            "tuple<u8, s64, f32, char>",
            "person",
        ] {
            assert_eq!(text.parse::<TypeRef>().expect(text).to_string(), text);
        }
        assert_eq!("list<u8>".parse(), Ok(TypeRef::Bytes));
    }

    #[test]
    fn what_is_not_a_type_is_refused() {
        let deep = "list<".repeat(100_000);
        for text in ["", "list", "list<", "list<u8", "list<u8,u8>", "map<u8>", "u8>", "Person", &deep, "a b"] {
            assert!(text.parse::<TypeRef>().is_err(), "{}", &text[..text.len().min(20)]);
        }
    }
}
