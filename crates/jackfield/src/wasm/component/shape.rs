//! A value's shape: what the description says it is, joined with what the component takes it as.
//!
//! Joining is the check: where the two differ, there is a [`Difference`] with the path to it, worded as
//! `jackfield_protocol::compare` does. What was joined converts without looking at names again.
//!
//! A `map` of the description may be a `list<tuple<key, value>>` of the component, since most guest
//! toolchains know no other.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jackfield_protocol::{Function, Interface, TypeDef, TypeRef};
use wasmtime::component::Type;
use wasmtime::component::types::ComponentFunc;

/// Deepest nesting of values. Guards the stack of what reads and writes them.
pub(super) const DEPTH_MAX: usize = 64;

/// How a value is read and written.
#[derive(Clone, Debug)]
pub(in crate::wasm) enum Shape {
    Bool,
    S8,
    S16,
    S32,
    S64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
    Char,
    String,
    Bytes,
    List(Arc<Shape>),
    Map(Arc<MapShape>),
    Option(Arc<OptionShape>),
    /// Success and error; what carries nothing has no shape.
    Result(Arc<[Option<Shape>; 2]>),
    Tuple(Arc<[Shape]>),
    Record(Arc<[Member<Shape>]>),
    Variant(Arc<Cases<Option<Shape>>>),
    Enum(Arc<Cases<()>>),
    Flags(Arc<Cases<()>>),
}

#[derive(Debug)]
pub(in crate::wasm) struct MapShape {
    pub(super) key: Shape,
    pub(super) value: Shape,
    /// Whether the component takes it as a list of pairs.
    pub(super) pairs: bool,
}

#[derive(Debug)]
pub(in crate::wasm) struct OptionShape {
    pub(super) some: Shape,
    /// Whether JSON wraps what it holds.
    pub(super) wrapped: bool,
}

/// A named part: a parameter, a field, a case.
#[derive(Clone, Debug)]
pub(in crate::wasm) struct Member<S> {
    pub(in crate::wasm) name: String,
    pub(in crate::wasm) shape: S,
}

/// The cases of a variant, the names of an enum or of flags.
#[derive(Debug)]
pub(in crate::wasm) struct Cases<S> {
    /// The type's name, for errors.
    pub(super) of: String,
    pub(super) cases: Vec<Member<S>>,
}

/// A function's values.
#[derive(Debug)]
pub(in crate::wasm) struct Signature {
    pub(in crate::wasm) params: Vec<Member<Shape>>,
    pub(in crate::wasm) result: Returned,
}

/// What a function gives.
#[derive(Debug)]
pub(in crate::wasm) enum Returned {
    Nothing,
    Plain(Shape),
    /// A success or the plugin's own error.
    Either(Option<Shape>, Option<Shape>),
}

/// Where a description and a component part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) path: String,
    pub(super) described: String,
    pub(super) actual: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at `{}` the description has {}, the component {}", self.path, self.described, self.actual)
    }
}

/// Joins the functions of one interface.
pub(super) struct Joiner<'a> {
    interface: &'a Interface,
    /// Named types that were joined, with what the component has for them.
    known: HashMap<&'a str, (Type, Shape)>,
    differences: Vec<Difference>,
}

impl<'a> Joiner<'a> {
    pub(super) fn new(interface: &'a Interface) -> Self {
        Self { interface, known: HashMap::new(), differences: Vec::new() }
    }

    /// The shapes of a function's values, or every place where the two sides differ.
    pub(super) fn function(
        &mut self,
        function: &'a Function,
        actual: &ComponentFunc,
    ) -> Result<Signature, Vec<Difference>> {
        let name = &function.name;
        let described: Vec<_> = function.params.iter().map(|param| param.name.as_str()).collect();
        let names: Vec<_> = actual.params().map(|(name, _)| name.to_owned()).collect();
        let mut params = Vec::with_capacity(described.len());
        if self.members(&format!("{name}()"), "parameters", &described, &names) {
            for (param, (_, actual)) in function.params.iter().zip(actual.params()) {
                let shape = self.join(&format!("{name}({})", param.name), &param.ty, &actual, 0);
                params.extend(shape.map(|shape| Member { name: param.name.clone(), shape }));
            }
        }
        let result = self.returned(&format!("{name}() result"), function.result.as_ref(), actual.results().next());
        match (result, self.differences.is_empty()) {
            (Some(result), true) => Ok(Signature { params, result }),
            _ => Err(std::mem::take(&mut self.differences)),
        }
    }

    fn returned(&mut self, path: &str, described: Option<&'a TypeRef>, actual: Option<Type>) -> Option<Returned> {
        match (described, actual) {
            (None, None) => Some(Returned::Nothing),
            (Some(TypeRef::Result(ok, err)), Some(Type::Result(actual))) => {
                let ok = self.carried(&format!("{path}.ok"), Some(ok), actual.ok(), 1);
                let err = self.carried(&format!("{path}.err"), Some(err), actual.err(), 1);
                Some(Returned::Either(ok?, err?))
            }
            (Some(described), Some(actual)) => self.join(path, described, &actual, 0).map(Returned::Plain),
            (described, actual) => {
                let described = described.map_or("nothing".to_owned(), |ty| format!("`{ty}`"));
                self.differ(path, described, actual.map_or("nothing".to_owned(), |ty| format!("`{}`", wit(&ty))))
            }
        }
    }

    /// A part of a `result` or the value of a case, where nothing may stand.
    fn carried(
        &mut self,
        path: &str,
        described: Option<&'a TypeRef>,
        actual: Option<Type>,
        depth: usize,
    ) -> Option<Option<Shape>> {
        match (described.filter(|ty| **ty != TypeRef::UNIT), actual) {
            (None, None) => Some(None),
            (Some(described), Some(actual)) => self.join(path, described, &actual, depth).map(Some),
            (described, actual) => {
                let described = format!("`{}`", described.unwrap_or(&TypeRef::UNIT));
                self.differ(path, described, format!("`{}`", actual.map_or("_".to_owned(), |ty| wit(&ty))))
            }
        }
    }

    fn join(&mut self, path: &str, described: &'a TypeRef, actual: &Type, depth: usize) -> Option<Shape> {
        if depth > DEPTH_MAX {
            let limit = format!("more than {DEPTH_MAX} types in each other");
            return self.differ(path, limit.clone(), limit);
        }
        let depth = depth + 1;
        Some(match (described, actual) {
            (TypeRef::Bool, Type::Bool) => Shape::Bool,
            (TypeRef::S8, Type::S8) => Shape::S8,
            (TypeRef::S16, Type::S16) => Shape::S16,
            (TypeRef::S32, Type::S32) => Shape::S32,
            (TypeRef::S64, Type::S64) => Shape::S64,
            (TypeRef::U8, Type::U8) => Shape::U8,
            (TypeRef::U16, Type::U16) => Shape::U16,
            (TypeRef::U32, Type::U32) => Shape::U32,
            (TypeRef::U64, Type::U64) => Shape::U64,
            (TypeRef::F32, Type::Float32) => Shape::F32,
            (TypeRef::F64, Type::Float64) => Shape::F64,
            (TypeRef::Char, Type::Char) => Shape::Char,
            (TypeRef::String, Type::String) => Shape::String,
            (TypeRef::Bytes, Type::List(list)) if list.ty() == Type::U8 => Shape::Bytes,
            (TypeRef::List(item), Type::List(list)) => {
                Shape::List(Arc::new(self.join(&format!("{path}[]"), item, &list.ty(), depth)?))
            }
            (TypeRef::Map(key, value), Type::Map(map)) => {
                self.map(path, (key, value), (map.key(), map.value()), false, depth)?
            }
            (TypeRef::Map(key, value), Type::List(list)) => match pair(&list.ty()) {
                Some(entry) => self.map(path, (key, value), entry, true, depth)?,
                None => return self.differ_types(path, described, actual),
            },
            (TypeRef::Option(some), Type::Option(option)) => {
                let shape = self.join(&format!("{path}?"), some, &option.ty(), depth)?;
                Shape::Option(Arc::new(OptionShape { some: shape, wrapped: some.is_nullable() }))
            }
            (TypeRef::Result(ok, err), Type::Result(result)) => {
                let ok = self.carried(&format!("{path}.ok"), Some(ok), result.ok(), depth);
                let err = self.carried(&format!("{path}.err"), Some(err), result.err(), depth);
                Shape::Result(Arc::new([ok?, err?]))
            }
            (TypeRef::Tuple(items), Type::Tuple(tuple)) if items.len() == tuple.types().len() => {
                let items = items.iter().zip(tuple.types()).enumerate();
                let shapes: Vec<_> =
                    items.map(|(at, (item, ty))| self.join(&format!("{path}.{at}"), item, &ty, depth)).collect();
                Shape::Tuple(shapes.into_iter().collect::<Option<_>>()?)
            }
            (TypeRef::Named(name), actual) => self.named(path, name, actual, depth)?,
            (described, actual) => return self.differ_types(path, described, actual),
        })
    }

    fn map(
        &mut self,
        path: &str,
        (key, value): (&'a TypeRef, &'a TypeRef),
        (actual_key, actual_value): (Type, Type),
        pairs: bool,
        depth: usize,
    ) -> Option<Shape> {
        let key = self.join(&format!("{path}{{key}}"), key, &actual_key, depth);
        let value = self.join(&format!("{path}{{}}"), value, &actual_value, depth);
        Some(Shape::Map(Arc::new(MapShape { key: key?, value: value?, pairs })))
    }

    fn named(&mut self, path: &str, name: &'a str, actual: &Type, depth: usize) -> Option<Shape> {
        // Once for each type, however often it stands in others: a description of a few lines can unfold to
        // a million fields.
        if let Some((joined, shape)) = self.known.get(name)
            && joined == actual
        {
            return Some(shape.clone());
        }
        let Some(definition) = self.interface.types.get(name) else {
            return self.differ(path, format!("`{name}`"), format!("`{}`", wit(actual)));
        };
        let members = definition.members();
        let of = || name.to_owned();
        let bare = |names: &[&str]| -> Vec<Member<()>> {
            names.iter().map(|name| Member { name: (*name).to_owned(), shape: () }).collect()
        };
        let shape = match (definition, actual) {
            (TypeDef::Record(fields), Type::Record(record)) => {
                let names: Vec<_> = record.fields().map(|field| field.name.to_owned()).collect();
                if !self.members(path, "fields", &members, &names) {
                    return None;
                }
                let joined: Vec<_> = fields
                    .iter()
                    .zip(record.fields())
                    .map(|(field, actual)| {
                        let shape = self.join(&format!("{path}.{}", field.name), &field.ty, &actual.ty, depth)?;
                        Some(Member { name: field.name.clone(), shape })
                    })
                    .collect();
                Shape::Record(joined.into_iter().collect::<Option<_>>()?)
            }
            (TypeDef::Variant(cases), Type::Variant(variant)) => {
                let names: Vec<_> = variant.cases().map(|case| case.name.to_owned()).collect();
                if !self.members(path, "cases", &members, &names) {
                    return None;
                }
                let joined: Vec<_> = cases
                    .iter()
                    .zip(variant.cases())
                    .map(|(case, actual)| {
                        let path = format!("{path}.{}", case.name);
                        let shape = self.carried(&path, case.ty.as_ref(), actual.ty, depth)?;
                        Some(Member { name: case.name.clone(), shape })
                    })
                    .collect();
                Shape::Variant(Arc::new(Cases { of: of(), cases: joined.into_iter().collect::<Option<_>>()? }))
            }
            (TypeDef::Enum(_), Type::Enum(actual)) => {
                let names: Vec<_> = actual.names().map(str::to_owned).collect();
                if !self.members(path, "names", &members, &names) {
                    return None;
                }
                Shape::Enum(Arc::new(Cases { of: of(), cases: bare(&members) }))
            }
            (TypeDef::Flags(_), Type::Flags(actual)) => {
                let names: Vec<_> = actual.names().map(str::to_owned).collect();
                if !self.members(path, "names", &members, &names) {
                    return None;
                }
                Shape::Flags(Arc::new(Cases { of: of(), cases: bare(&members) }))
            }
            (definition, actual) => {
                return self.differ(path, format!("{} `{name}`", definition.kind()), format!("`{}`", wit(actual)));
            }
        };
        self.known.insert(name, (actual.clone(), shape.clone()));
        Some(shape)
    }

    /// Both sides must have the same members in the same order.
    fn members(&mut self, path: &str, what: &str, described: &[&str], actual: &[String]) -> bool {
        if described.iter().eq(actual) {
            return true;
        }
        let actual = format!("{what} ({})", actual.join(", "));
        self.differ::<()>(path, format!("{what} ({})", described.join(", ")), actual);
        false
    }

    fn differ_types(&mut self, path: &str, described: &TypeRef, actual: &Type) -> Option<Shape> {
        self.differ(path, format!("`{described}`"), format!("`{}`", wit(actual)))
    }

    fn differ<T>(&mut self, path: &str, described: String, actual: String) -> Option<T> {
        let difference = Difference { path: path.to_owned(), described, actual };
        if !self.differences.contains(&difference) {
            self.differences.push(difference);
        }
        None
    }
}

/// What stands in a `tuple` of two.
fn pair(ty: &Type) -> Option<(Type, Type)> {
    let Type::Tuple(tuple) = ty else { return None };
    let mut types = tuple.types();
    match (types.next(), types.next(), types.next()) {
        (Some(first), Some(second), None) => Some((first, second)),
        _ => None,
    }
}

/// Members of a type that are shown.
const MEMBERS_SHOWN: usize = 6;

/// A type of the component as WIT writes it, for people. What has a name in WIT is shown by its members.
pub(super) fn wit(ty: &Type) -> String {
    text(ty, 4)
}

fn text(ty: &Type, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "…".to_owned() };
    let optional = |ty: Option<Type>| ty.map_or("_".to_owned(), |ty| text(&ty, depth));
    let list = |mut names: Vec<String>| {
        if names.len() > MEMBERS_SHOWN {
            names.truncate(MEMBERS_SHOWN);
            names.push("…".to_owned());
        }
        names.join(", ")
    };
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::S8 => "s8".to_owned(),
        Type::U8 => "u8".to_owned(),
        Type::S16 => "s16".to_owned(),
        Type::U16 => "u16".to_owned(),
        Type::S32 => "s32".to_owned(),
        Type::U32 => "u32".to_owned(),
        Type::S64 => "s64".to_owned(),
        Type::U64 => "u64".to_owned(),
        Type::Float32 => "f32".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::Char => "char".to_owned(),
        Type::String => "string".to_owned(),
        Type::List(item) => format!("list<{}>", text(&item.ty(), depth)),
        Type::Map(map) => format!("map<{}, {}>", text(&map.key(), depth), text(&map.value(), depth)),
        Type::Record(record) => {
            format!("record {{ {} }}", list(record.fields().map(|field| field.name.to_owned()).collect()))
        }
        Type::Tuple(tuple) => format!("tuple<{}>", list(tuple.types().map(|ty| text(&ty, depth)).collect())),
        Type::Variant(variant) => {
            format!("variant {{ {} }}", list(variant.cases().map(|case| case.name.to_owned()).collect()))
        }
        Type::Enum(names) => format!("enum {{ {} }}", list(names.names().map(str::to_owned).collect())),
        Type::Flags(names) => format!("flags {{ {} }}", list(names.names().map(str::to_owned).collect())),
        Type::Option(some) => format!("option<{}>", text(&some.ty(), depth)),
        Type::Result(result) => format!("result<{}, {}>", optional(result.ok()), optional(result.err())),
        Type::Own(_) | Type::Borrow(_) => "a resource".to_owned(),
        Type::Future(_) => "a future".to_owned(),
        Type::Stream(_) => "a stream".to_owned(),
        Type::ErrorContext => "error-context".to_owned(),
        Type::FixedLengthList(_) => "a list of fixed length".to_owned(),
    }
}
