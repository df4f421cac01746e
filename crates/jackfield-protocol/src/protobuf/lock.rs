//! The lock: which number each name has in protobuf, for as long as the interface keeps its major version.
//!
//! A number says on the wire what a name says in the interface. Without a lock it is the name's position,
//! and a name that is put between two others, or taken away, moves those behind it. With a lock a name keeps
//! the number it had, a new one gets the next that was never used, and one that is gone leaves its number
//! reserved. What would make old bytes mean something else is refused.
//!
//! Not here: which names there are in protobuf (`layout.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::interface::{Function, Interface};
use crate::name::InterfaceId;
use crate::types::{TypeDef, TypeRef};

/// The numbers of an interface's parameters, fields, cases, enum values and flags.
///
/// Its text is JSON with one line for each name, the same for equal locks, made to stand in version control
/// beside the `.proto` file.
///
/// ```
/// use jackfield_protocol::{Interface, protobuf::Lock};
/// let interface = |params: &str| Interface::from_json(&format!(
///     r#"{{"interface": "demo:greeter/greeter@1.0.0", "functions": [{{"name": "greet", "params": [{params}]}}]}}"#
/// ));
/// let lock = Lock::new(&interface(r#"{"name": "name", "type": "string"}"#)?)?;
/// let later = lock.update(&interface(r#"{"name": "title", "type": "string"}, {"name": "name", "type": "string"}"#)?)?;
/// assert!(later.to_string().contains(r#"{"number":2,"name":"title","type":"string"}"#));
/// let refused = lock.update(&interface(r#"{"name": "name", "type": "u32"}"#)?);
/// assert_eq!(refused.unwrap_err().to_string(), "`greet(name)` is locked as `string`, the interface has `u32`");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The interface, with what of its version promises compatibility: `demo:greeter/greeter@1`.
    interface: String,
    #[serde(default)]
    functions: BTreeMap<String, LockedFunction>,
    #[serde(default)]
    types: BTreeMap<String, LockedType>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedFunction {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<TypeRef>,
    params: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedType {
    kind: String,
    members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    pub(super) number: u32,
    pub(super) name: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    ty: Option<TypeRef>,
    /// Whether the interface no longer has it, so that its number is reserved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
}

/// A lock that cannot be read, or that the interface contradicts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// It is not the text of a lock.
    #[error("not a lock of field numbers: {what}")]
    Unreadable {
        /// Where and why.
        what: String,
    },
    /// Its numbers contradict each other, or are none that protobuf has.
    #[error("the lock gives `{path}` the number {number}, {what}")]
    Number {
        /// The member: `person.zip`, `greet(name)`.
        path: String,
        /// Its number.
        number: u32,
        /// Why it cannot be that.
        what: String,
    },
    /// It is another interface's, or another major version's.
    #[error("the lock is of `{locked}`, the interface is `{interface}`")]
    OtherInterface {
        /// What the lock is of.
        locked: String,
        /// What it was to be used for.
        interface: String,
    },
    /// What it locked has another type, result or kind now. Bytes that were written before would be read as
    /// something else.
    #[error("`{path}` is locked as `{locked}`, the interface has `{now}`")]
    Changed {
        /// What changed: `greet(name)`, `greet() result`, `person.zip`, `person`.
        path: String,
        /// What it was when it was locked.
        locked: String,
        /// What it is now.
        now: String,
    },
    /// The interface has a name that the lock does not know.
    #[error("the lock has no number for `{path}`: the interface has come further than it")]
    Missing {
        /// The member: `person.zip`, `greet(name)`.
        path: String,
    },
}

/// Numbers that protobuf has for fields, but keeps to itself.
const RESERVED: std::ops::RangeInclusive<u32> = 19_000..=19_999;
const NUMBER_MAX: u32 = (1 << 29) - 1;

impl Lock {
    /// The lock of an interface that had none: each name has its position, from 1.
    pub fn new(interface: &Interface) -> Result<Self, LockError> {
        Lock { interface: line(&interface.id), functions: BTreeMap::new(), types: BTreeMap::new() }.update(interface)
    }

    /// Reads the text of a lock.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let mut lock: Self =
            serde_json::from_str(text).map_err(|error| LockError::Unreadable { what: error.to_string() })?;
        for (name, function) in &mut lock.functions {
            check_numbers(&mut function.params, &|param| format!("{name}({param})"))?;
        }
        for (name, locked) in &mut lock.types {
            check_numbers(&mut locked.members, &|member| format!("{name}.{member}"))?;
        }
        Ok(lock)
    }

    /// The lock of an interface that came further: what was locked stays, what is new gets a number.
    pub fn update(&self, interface: &Interface) -> Result<Self, LockError> {
        self.check_interface(interface)?;
        let mut updated = self.clone();
        let functions: HashSet<&str> = interface.functions.iter().map(|function| &*function.name).collect();
        for (name, function) in &mut updated.functions {
            if !functions.contains(&**name) {
                function.params.iter_mut().for_each(|param| param.removed = true);
            }
        }
        for (name, locked) in &mut updated.types {
            if !interface.types.contains_key(name) {
                locked.members.iter_mut().for_each(|member| member.removed = true);
            }
        }
        for function in &interface.functions {
            let known = updated.functions.remove(&function.name);
            if let Some(known) = &known {
                same_result(known, function)?;
            }
            let params = known.map(|known| known.params).unwrap_or_default();
            let params = merged(params, &params_of(function), &|param| format!("{}({param})", function.name))?;
            updated.functions.insert(function.name.clone(), LockedFunction { result: function.result.clone(), params });
        }
        for (name, definition) in &interface.types {
            let known = updated.types.remove(name);
            if let Some(known) = &known {
                same_kind(name, known, definition)?;
            }
            let members = known.map(|known| known.members).unwrap_or_default();
            let members = merged(members, &members_of(definition), &|member| format!("{name}.{member}"))?;
            updated.types.insert(name.clone(), LockedType { kind: definition.kind().to_owned(), members });
        }
        Ok(updated)
    }

    /// Whether it is a lock of this interface, in a version that is compatible.
    pub fn is_of(&self, interface: &InterfaceId) -> bool {
        self.interface == line(interface)
    }

    /// Refuses an interface that it does not know whole. One that is behind it is well: what it lacks is reserved.
    pub(super) fn check(&self, interface: &Interface) -> Result<(), LockError> {
        self.update(interface)?;
        for function in &interface.functions {
            let known = self.params(&function.name);
            has_all(known, &params_of(function), &|param| format!("{}({param})", function.name))?;
        }
        for (name, definition) in &interface.types {
            has_all(self.members(name), &members_of(definition), &|member| format!("{name}.{member}"))?;
        }
        Ok(())
    }

    /// The parameters of a function, those that are gone among them.
    pub(super) fn params(&self, function: &str) -> &[Member] {
        self.functions.get(function).map_or(&[], |function| &function.params)
    }

    /// The members of a type, those that are gone among them.
    pub(super) fn members(&self, name: &str) -> &[Member] {
        self.types.get(name).map_or(&[], |locked| &locked.members)
    }

    fn check_interface(&self, interface: &Interface) -> Result<(), LockError> {
        match self.is_of(&interface.id) {
            true => Ok(()),
            false => {
                Err(LockError::OtherInterface { locked: self.interface.clone(), interface: interface.id.to_string() })
            }
        }
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let members = |f: &mut fmt::Formatter<'_>, members: &[Member]| {
            for (at, member) in members.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                write!(f, "{comma}\n        {}", serde_json::to_string(member).unwrap_or_default())?;
            }
            f.write_str(if members.is_empty() { "]" } else { "\n      ]" })
        };
        write!(f, "{{\n  \"interface\": {},\n  \"functions\": {{", quoted(&self.interface))?;
        for (at, (name, function)) in self.functions.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}\n    {}: {{", quoted(name))?;
            if let Some(result) = &function.result {
                write!(f, "\n      \"result\": {},", quoted(&result.to_string()))?;
            }
            f.write_str("\n      \"params\": [")?;
            members(f, &function.params)?;
            f.write_str("\n    }")?;
        }
        write!(f, "{}}},\n  \"types\": {{", if self.functions.is_empty() { "" } else { "\n  " })?;
        for (at, (name, locked)) in self.types.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}\n    {}: {{\n      \"kind\": {},", quoted(name), quoted(&locked.kind))?;
            f.write_str("\n      \"members\": [")?;
            members(f, &locked.members)?;
            f.write_str("\n    }")?;
        }
        writeln!(f, "{}}}\n}}", if self.types.is_empty() { "" } else { "\n  " })
    }
}

/// The interface and what of its version promises compatibility.
fn line(id: &InterfaceId) -> String {
    match id.version.major {
        0 => format!("{}@0.{}", id.unversioned(), id.version.minor),
        major => format!("{}@{major}", id.unversioned()),
    }
}

fn params_of(function: &Function) -> Vec<(&str, Option<&TypeRef>)> {
    function.params.iter().map(|param| (&*param.name, Some(&param.ty))).collect()
}

fn members_of(definition: &TypeDef) -> Vec<(&str, Option<&TypeRef>)> {
    match definition {
        TypeDef::Record(fields) => fields.iter().map(|field| (&*field.name, Some(&field.ty))).collect(),
        TypeDef::Variant(cases) => cases.iter().map(|case| (&*case.name, case.ty.as_ref())).collect(),
        TypeDef::Enum(names) | TypeDef::Flags(names) => names.iter().map(|name| (&**name, None)).collect(),
    }
}

fn same_result(locked: &LockedFunction, function: &Function) -> Result<(), LockError> {
    changed(format!("{}() result", function.name), locked.result.as_ref(), function.result.as_ref())
}

fn same_kind(name: &str, locked: &LockedType, definition: &TypeDef) -> Result<(), LockError> {
    match locked.kind == definition.kind() {
        true => Ok(()),
        false => Err(LockError::Changed {
            path: name.to_owned(),
            locked: locked.kind.clone(),
            now: definition.kind().to_owned(),
        }),
    }
}

fn changed(path: String, locked: Option<&TypeRef>, now: Option<&TypeRef>) -> Result<(), LockError> {
    let text = |ty: Option<&TypeRef>| ty.unwrap_or(&TypeRef::UNIT).to_string();
    match locked == now {
        true => Ok(()),
        false => Err(LockError::Changed { path, locked: text(locked), now: text(now) }),
    }
}

/// The members of before with those of now, in the order of their numbers.
fn merged(
    mut members: Vec<Member>,
    now: &[(&str, Option<&TypeRef>)],
    path: &dyn Fn(&str) -> String,
) -> Result<Vec<Member>, LockError> {
    members.iter_mut().for_each(|member| member.removed = true);
    let known: HashMap<String, usize> = members.iter().map(|member| member.name.clone()).zip(0..).collect();
    let mut last = members.iter().map(|member| member.number).max().unwrap_or(0);
    for (name, ty) in now {
        if let Some(at) = known.get(*name) {
            changed(path(name), members[*at].ty.as_ref(), *ty)?;
            members[*at].removed = false;
            continue;
        }
        last = if last + 1 == *RESERVED.start() { RESERVED.end() + 1 } else { last + 1 };
        check_number(last, path(name))?;
        members.push(Member { number: last, name: (*name).to_owned(), ty: ty.cloned(), removed: false });
    }
    Ok(members)
}

fn has_all(known: &[Member], now: &[(&str, Option<&TypeRef>)], path: &dyn Fn(&str) -> String) -> Result<(), LockError> {
    let known: HashSet<&str> = known.iter().map(|member| &*member.name).collect();
    match now.iter().find(|(name, _)| !known.contains(name)) {
        None => Ok(()),
        Some((name, _)) => Err(LockError::Missing { path: path(name) }),
    }
}

fn check_number(number: u32, path: String) -> Result<(), LockError> {
    let wrong = |what: &str| Err(LockError::Number { path: path.clone(), number, what: what.to_owned() });
    match number {
        0 => wrong("and numbers begin with 1"),
        number if RESERVED.contains(&number) => wrong("which protobuf keeps to itself (19000 to 19999)"),
        number if number > NUMBER_MAX => wrong("and the last one is 536870911"),
        _ => Ok(()),
    }
}

/// Checks what somebody may have edited, and brings it in order.
fn check_numbers(members: &mut [Member], path: &dyn Fn(&str) -> String) -> Result<(), LockError> {
    let mut names = HashSet::new();
    members.sort_by_key(|member| member.number);
    for (at, member) in members.iter().enumerate() {
        let here = path(&member.name);
        check_number(member.number, here.clone())?;
        let number = member.number;
        if let Some(before) = at.checked_sub(1).map(|before| &members[before]).filter(|before| before.number == number)
        {
            let what = format!("which is that of `{}`", path(&before.name));
            return Err(LockError::Number { path: here, number, what });
        }
        if !names.insert(&member.name) {
            return Err(LockError::Number { path: here, number, what: "and another one before".to_owned() });
        }
    }
    Ok(())
}
