//! The description of an interface, read off a component's own types.
//!
//! Types get the names under which the interface exports them. One that has none gets a name made of the
//! place where it is used first, the same in each reading. A function that uses what a description has no
//! word for (resources, streams, futures, names that are not kebab-case) is left out, with the reason.
//!
//! Not here: whether a description that somebody else wrote fits (`shape.rs`).

use std::collections::{BTreeMap, BTreeSet};

use jackfield_protocol::{Case, Field, Function, Interface, InterfaceId, Param, TypeDef, TypeRef, is_kebab};
use wasmtime::Engine;
use wasmtime::component::Type;
use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem};

use super::shape::{DEPTH_MAX, wit};

/// Types that are looked at in one interface. What is larger was not written by hand.
const TYPES_MAX: usize = 10_000;

/// Flags in one set.
const FLAGS_MAX: usize = 64;

/// An interface as it was read.
pub(super) struct Reflected {
    pub(super) interface: Interface,
    /// The functions left out, each with the reason.
    pub(super) left_out: Vec<String>,
}

/// Describes an exported instance.
pub(super) fn instance(id: InterfaceId, engine: &Engine, exported: &ComponentInstance) -> Result<Reflected, String> {
    let (mut names, mut functions) = (Vec::new(), Vec::new());
    for (name, export) in exported.exports(engine) {
        match export.ty {
            ComponentItem::Type(ty) => names.push((name.to_owned(), ty)),
            ComponentItem::ComponentFunc(function) => functions.push((name.to_owned(), function)),
            _ => {}
        }
    }
    describe(id, &names, &functions)
}

/// Describes functions, given the names of types.
pub(super) fn describe(
    id: InterfaceId,
    names: &[(String, Type)],
    functions: &[(String, ComponentFunc)],
) -> Result<Reflected, String> {
    let named = |(name, ty): &&(String, Type)| {
        is_kebab(name)
            && name.parse() == Ok(TypeRef::Named(name.clone()))
            && matches!(ty, Type::Record(_) | Type::Variant(_) | Type::Enum(_) | Type::Flags(_))
    };
    let names: Vec<_> = names.iter().filter(named).cloned().collect();
    let mut reflector = Reflector { names, types: BTreeMap::new(), looked_at: 0 };
    let (mut described, mut left_out) = (Vec::new(), Vec::new());
    for (name, function) in functions {
        match reflector.function(name, function) {
            Ok(function) => described.push(function),
            Err(why) => left_out.push(format!("`{name}` of `{id}`: {why}")),
        }
    }
    // What only functions that were left out use.
    let mut used = BTreeSet::new();
    let ends = described.iter().flat_map(|f| f.params.iter().map(|param| &param.ty).chain(&f.result));
    ends.for_each(|ty| reflector.reach(ty, &mut used));
    let mut types = std::mem::take(&mut reflector.types);
    types.retain(|name, _| used.contains(name));
    let empty = Interface::new(id, String::new(), |_| Vec::new()).map_err(|error| error.to_string())?;
    let interface = empty.edited(|interface| {
        interface.types = types;
        interface.functions = described;
    });
    let interface = interface.checked().map_err(|error| error.to_string())?;
    Ok(Reflected { interface, left_out })
}

struct Reflector {
    /// Names under which the interface exports types that have one in WIT; then those that were made up.
    names: Vec<(String, Type)>,
    types: BTreeMap<String, TypeDef>,
    looked_at: usize,
}

impl Reflector {
    fn function(&mut self, name: &str, function: &ComponentFunc) -> Result<Function, String> {
        if name.starts_with('[') {
            return Err("it belongs to a resource".to_owned());
        }
        if function.async_() {
            return Err("it is async".to_owned());
        }
        kebab(name)?;
        let mut params = Vec::new();
        for (param, ty) in function.params() {
            kebab(param)?;
            let ty = self.type_of(&ty, &format!("{name}-{param}"), 0)?;
            params.push(Param { name: param.to_owned(), ty });
        }
        let result = match function.results().next() {
            None => None,
            Some(ty) => Some(self.type_of(&ty, &format!("{name}-result"), 0)?),
        };
        Ok(Function { name: name.to_owned(), docs: String::new(), params, result, idempotent: false })
    }

    /// `place` becomes the name of a type that has none.
    fn type_of(&mut self, ty: &Type, place: &str, depth: usize) -> Result<TypeRef, String> {
        self.looked_at += 1;
        if depth == DEPTH_MAX || self.looked_at > TYPES_MAX {
            return Err(format!("its types are more than {TYPES_MAX}, or more than {DEPTH_MAX} in each other"));
        }
        let depth = depth + 1;
        Ok(match ty {
            Type::Bool => TypeRef::Bool,
            Type::S8 => TypeRef::S8,
            Type::S16 => TypeRef::S16,
            Type::S32 => TypeRef::S32,
            Type::S64 => TypeRef::S64,
            Type::U8 => TypeRef::U8,
            Type::U16 => TypeRef::U16,
            Type::U32 => TypeRef::U32,
            Type::U64 => TypeRef::U64,
            Type::Float32 => TypeRef::F32,
            Type::Float64 => TypeRef::F64,
            Type::Char => TypeRef::Char,
            Type::String => TypeRef::String,
            Type::List(list) => match self.type_of(&list.ty(), place, depth)? {
                TypeRef::U8 => TypeRef::Bytes,
                item => TypeRef::List(Box::new(item)),
            },
            Type::Map(map) => {
                let key = self.type_of(&map.key(), &format!("{place}-key"), depth)?;
                TypeRef::Map(Box::new(key), Box::new(self.type_of(&map.value(), place, depth)?))
            }
            Type::Option(some) => TypeRef::Option(Box::new(self.type_of(&some.ty(), place, depth)?)),
            Type::Result(result) => {
                let ok = self.optional(result.ok(), &format!("{place}-ok"), depth)?;
                let err = self.optional(result.err(), &format!("{place}-err"), depth)?;
                TypeRef::Result(Box::new(ok.unwrap_or(TypeRef::UNIT)), Box::new(err.unwrap_or(TypeRef::UNIT)))
            }
            Type::Tuple(tuple) => {
                let places = ["first", "second", "third"].into_iter().chain(std::iter::repeat("further"));
                let types = tuple.types().zip(places);
                let types = types.map(|(ty, which)| self.type_of(&ty, &format!("{place}-{which}"), depth));
                TypeRef::Tuple(types.collect::<Result<_, _>>()?)
            }
            Type::Record(_) | Type::Variant(_) | Type::Enum(_) | Type::Flags(_) => self.named(ty, place, depth)?,
            Type::Own(_) | Type::Borrow(_) | Type::Future(_) | Type::Stream(_) => return Err(unsupported(ty)),
            Type::ErrorContext | Type::FixedLengthList(_) => return Err(unsupported(ty)),
        })
    }

    fn optional(&mut self, ty: Option<Type>, place: &str, depth: usize) -> Result<Option<TypeRef>, String> {
        ty.map(|ty| self.type_of(&ty, place, depth)).transpose()
    }

    fn named(&mut self, ty: &Type, place: &str, depth: usize) -> Result<TypeRef, String> {
        let known = self.names.iter().find(|(_, named)| named == ty);
        let name = match known {
            Some((name, _)) => name.clone(),
            None => {
                let taken = |name: &str| self.names.iter().any(|(other, _)| other == name);
                let numbered = (2..).map(|number| format!("{place}-n{number}"));
                let mut free = std::iter::once(place.to_owned()).chain(numbered).filter(|name| !taken(name));
                let name = free.next().unwrap_or_default();
                self.names.push((name.clone(), ty.clone()));
                name
            }
        };
        if !self.types.contains_key(&name) {
            let definition = self.definition(ty, &name, depth)?;
            self.types.insert(name.clone(), definition);
        }
        Ok(TypeRef::Named(name))
    }

    fn definition(&mut self, ty: &Type, name: &str, depth: usize) -> Result<TypeDef, String> {
        Ok(match ty {
            Type::Record(record) => {
                let mut fields = Vec::new();
                for field in record.fields() {
                    kebab(field.name)?;
                    let ty = self.type_of(&field.ty, &format!("{name}-{}", field.name), depth)?;
                    fields.push(Field { name: field.name.to_owned(), ty });
                }
                TypeDef::Record(fields)
            }
            Type::Variant(variant) => {
                let mut cases = Vec::new();
                for case in variant.cases() {
                    kebab(case.name)?;
                    let ty = self.optional(case.ty, &format!("{name}-{}", case.name), depth)?;
                    cases.push(Case { name: case.name.to_owned(), ty });
                }
                TypeDef::Variant(cases)
            }
            Type::Enum(names) => TypeDef::Enum(all_kebab(names.names())?),
            Type::Flags(names) if names.names().len() > FLAGS_MAX => {
                return Err(format!("flags `{name}` are {}, more than {FLAGS_MAX}", names.names().len()));
            }
            Type::Flags(names) => TypeDef::Flags(all_kebab(names.names())?),
            other => return Err(unsupported(other)),
        })
    }

    /// The names of types that are reached from one.
    fn reach(&self, ty: &TypeRef, used: &mut BTreeSet<String>) {
        for name in ty.named() {
            if used.insert(name.to_owned())
                && let Some(definition) = self.types.get(name)
            {
                definition.uses().into_iter().for_each(|ty| self.reach(ty, used));
            }
        }
    }
}

fn unsupported(ty: &Type) -> String {
    format!("it uses {}, which no interface of a plugin has", wit(ty))
}

fn all_kebab<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<String>, String> {
    names.map(|name| kebab(name).map(|()| name.to_owned())).collect()
}

fn kebab(name: &str) -> Result<(), String> {
    match is_kebab(name) {
        true => Ok(()),
        false => Err(format!("`{name}` is not kebab-case of lower-case words")),
    }
}
