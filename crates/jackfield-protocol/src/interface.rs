//! The description of an interface: what is compared at load, exported as WIT, and fingerprinted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::hint::did_you_mean;
use crate::name::{InterfaceId, is_kebab};
use crate::types::{TypeDef, TypeRef, Types, is_reserved};

/// A named, versioned set of functions, with the types they use.
///
/// The JSON of it is the form in which a plugin reports it (`docs/protocol.md`). The *canonical
/// form* is that JSON without documentation, marks and spaces; its SHA-256 is the [`Fingerprint`]. Members
/// that are not known here are passed over, so that a later version may add some.
///
/// ```
/// let greeter = jackfield_protocol::Interface::from_json(r#"{
///     "interface": "demo:greeter/greeter@1.0.0",
///     "functions": [{"name": "greet", "params": [{"name": "name", "type": "string"}], "result": "string"}]
/// }"#)?;
/// assert_eq!(greeter.functions[0].signature(), "greet(name: string) -> string");
/// # Ok::<(), jackfield_protocol::InterfaceError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// Name and version.
    #[serde(rename = "interface")]
    pub id: InterfaceId,
    /// What it is for. Not part of the fingerprint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docs: String,
    /// The types it defines, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, TypeDef>,
    /// The functions, in the order in which they were declared. A position is a function's number
    /// in the binary encoding.
    pub functions: Vec<Function>,
    #[serde(skip)]
    fingerprint: OnceLock<Fingerprint>,
}

impl PartialEq for Interface {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

/// A function of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Kebab-case name.
    pub name: String,
    /// What it does. Not part of the fingerprint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docs: String,
    /// Parameters, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Param>,
    /// What it gives; nothing when absent. A `result` here is the call's success or the plugin's
    /// own error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TypeRef>,
    /// Whether calling it twice does what calling it once does, so that a failed call may be repeated.
    /// Not part of the fingerprint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// Kebab-case name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: TypeRef,
}

impl Function {
    /// The type of a success.
    pub fn ok(&self) -> TypeRef {
        match &self.result {
            None => TypeRef::UNIT,
            Some(TypeRef::Result(ok, _)) => (**ok).clone(),
            Some(plain) => plain.clone(),
        }
    }

    /// The type of the plugin's own error, if it can give one.
    pub fn err(&self) -> Option<&TypeRef> {
        match &self.result {
            Some(TypeRef::Result(_, err)) => Some(err),
            _ => None,
        }
    }

    /// The function as a line: `greet(name: string) -> result<string, greet-error>`.
    pub fn signature(&self) -> String {
        let params: Vec<_> = self.params.iter().map(|param| format!("{}: {}", param.name, param.ty)).collect();
        let result = self.result.as_ref().map_or_else(String::new, |ty| format!(" -> {ty}"));
        format!("{}({}){result}", self.name, params.join(", "))
    }
}

/// SHA-256 of an interface's canonical form. Equal fingerprints mean that both sides know the same
/// schema, so that values can travel in the binary encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Defined types that may stand in each other. What reads a description, and values of its types, does so by
/// recursion, and a plugin that describes itself must not decide how much stack that takes.
const NESTING_MAX: usize = 64;

impl Interface {
    /// Builds and checks a description. Generated code calls it with what `describe` collects.
    pub fn new(
        id: InterfaceId,
        docs: String,
        describe: impl FnOnce(&mut Types) -> Vec<Function>,
    ) -> Result<Self, InterfaceError> {
        let mut types = Types::default();
        let functions = describe(&mut types);
        if let Some(what) = types.problems.into_iter().next() {
            return Err(InterfaceError::Unsound { interface: id.to_string(), what });
        }
        let interface = Self { id, docs, types: types.defined, functions, fingerprint: OnceLock::new() };
        interface.checked()
    }

    /// The description, if it is sound, with one way to say each thing.
    pub fn checked(mut self) -> Result<Self, InterfaceError> {
        for function in &mut self.functions {
            // `-> ()` is no result at all.
            function.result = function.result.take().filter(|result| *result != TypeRef::UNIT);
        }
        self.check()?;
        Ok(self)
    }

    /// Reads a description that somebody else wrote, and checks it.
    pub fn from_json(json: &str) -> Result<Self, InterfaceError> {
        let interface: Self =
            serde_json::from_str(json).map_err(|error| InterfaceError::Unreadable { what: error.to_string() })?;
        interface.checked()
    }

    /// The function of this name, in any accepted spelling, with its position.
    pub fn function(&self, name: &str) -> Option<(usize, &Function)> {
        let mut functions = self.functions.iter().enumerate();
        functions.find(|(_, function)| crate::name::spells(name, &function.name))
    }

    /// Whether the function at this position may be called again when a call of it failed.
    pub fn is_idempotent(&self, position: usize) -> bool {
        self.functions.get(position).is_some_and(|function| function.idempotent)
    }

    /// The canonical form: JSON without documentation, marks and spaces.
    pub fn canonical(&self) -> String {
        let mut bare = self.clone();
        bare.docs.clear();
        for function in &mut bare.functions {
            function.docs.clear();
            function.idempotent = false;
        }
        serde_json::to_string(&bare).unwrap_or_default()
    }

    /// SHA-256 of the canonical form.
    pub fn fingerprint(&self) -> Fingerprint {
        *self.fingerprint.get_or_init(|| Fingerprint(hmac_sha256::Hash::hash(self.canonical().as_bytes())))
    }

    /// The same description under another set of functions or types; its fingerprint is new.
    #[must_use]
    pub fn edited(&self, edit: impl FnOnce(&mut Self)) -> Self {
        let mut edited = self.clone();
        edited.fingerprint = OnceLock::new();
        edit(&mut edited);
        edited
    }

    /// Checks that names are well-formed, unique and defined, map keys are keys, and no type
    /// contains itself.
    fn check(&self) -> Result<(), InterfaceError> {
        let unsound = |what: String| InterfaceError::Unsound { interface: self.id.to_string(), what };
        let kebab = |name: &str| match is_kebab(name) {
            true => Ok(()),
            false => Err(unsound(format!("`{name}` is not kebab-case"))),
        };
        for (name, definition) in &self.types {
            kebab(name)?;
            if is_reserved(name) {
                return Err(unsound(format!("type `{name}` has the name of a WIT type")));
            }
            let members = definition.members();
            if members.is_empty() || matches!(definition, TypeDef::Flags(_)) && members.len() > 64 {
                let few = format!("{} `{name}` has {} members", definition.kind(), members.len());
                return Err(unsound(few));
            }
            members.iter().try_for_each(|member| kebab(member))?;
            unique(&members).map_err(|twice| unsound(format!("`{name}` has `{twice}` twice")))?;
        }
        let names: Vec<_> = self.functions.iter().map(|function| &*function.name).collect();
        unique(&names).map_err(|twice| unsound(format!("function `{twice}` is there twice")))?;
        for function in &self.functions {
            kebab(&function.name)?;
            let params: Vec<_> = function.params.iter().map(|param| &*param.name).collect();
            params.iter().try_for_each(|param| kebab(param))?;
            unique(&params).map_err(|twice| unsound(format!("`{}` has `{twice}` twice", function.name)))?;
        }
        self.all_types().try_for_each(|ty| self.check_type(ty).map_err(unsound))?;
        let mut settled = BTreeSet::new();
        for name in self.types.keys() {
            self.check_finite(name, &mut Vec::new(), &mut settled).map_err(unsound)?;
        }
        Ok(())
    }

    fn all_types(&self) -> impl Iterator<Item = &TypeRef> {
        let of_functions = self
            .functions
            .iter()
            .flat_map(|function| function.params.iter().map(|param| &param.ty).chain(&function.result));
        of_functions.chain(self.types.values().flat_map(TypeDef::uses))
    }

    fn check_type(&self, ty: &TypeRef) -> Result<(), String> {
        match ty {
            TypeRef::Named(name) if !self.types.contains_key(name) => {
                let hint = did_you_mean(name, self.types.keys().map(String::as_str));
                Err(format!("type `{name}` is not defined{hint}"))
            }
            TypeRef::List(item) | TypeRef::Option(item) => self.check_type(item),
            TypeRef::Map(key, _) if !key.is_key() => Err(format!("`{key}` is not a map key")),
            TypeRef::Map(key, value) => {
                self.check_type(key)?;
                self.check_type(value)
            }
            TypeRef::Result(ok, err) => {
                let mut carried = [ok, err].into_iter().filter(|ty| ***ty != TypeRef::UNIT);
                carried.try_for_each(|ty| self.check_type(ty))
            }
            // A list of them is a length without bytes behind it, which would keep a reader busy for ever.
            TypeRef::Tuple(items) if items.is_empty() => {
                Err("`_` stands only in a `result`: it is no value of its own".to_owned())
            }
            TypeRef::Tuple(items) => items.iter().try_for_each(|item| self.check_type(item)),
            _ => Ok(()),
        }
    }

    fn check_finite<'a>(
        &'a self,
        name: &'a str,
        open: &mut Vec<&'a str>,
        settled: &mut BTreeSet<&'a str>,
    ) -> Result<(), String> {
        if open.contains(&name) {
            return Err(format!("type `{name}` contains itself; WIT has no recursive types"));
        }
        if open.len() == NESTING_MAX {
            return Err(format!("type `{}` is nested too deep: more than {NESTING_MAX} types", open[0]));
        }
        if settled.contains(name) {
            return Ok(());
        }
        open.push(name);
        let uses = self.types.get(name).map(TypeDef::uses).unwrap_or_default();
        for inner in uses.into_iter().flat_map(TypeRef::named) {
            self.check_finite(inner, open, settled)?;
        }
        open.pop();
        settled.insert(name);
        Ok(())
    }
}

fn unique<'a>(names: &[&'a str]) -> Result<(), &'a str> {
    let mut seen = BTreeSet::new();
    names.iter().try_for_each(|name| if seen.insert(name) { Ok(()) } else { Err(*name) })
}

/// A description that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    /// It is not the JSON of a description.
    #[error("not an interface description: {what}")]
    Unreadable {
        /// Where and why.
        what: String,
    },
    /// It contradicts itself or leaves the value model.
    #[error("interface `{interface}`: {what}")]
    Unsound {
        /// The interface's name.
        interface: String,
        /// What is wrong.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(json: &str, expected: Expect) {
        expected.assert_eq(&match Interface::from_json(json) {
            Ok(interface) => interface.canonical(),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn the_canonical_form_has_no_documentation_and_no_marks_and_sorted_types() {
        check(
            r#"{"docs": "x", "functions": [{"name": "f", "docs": "y", "params": [], "result": "b", "idempotent": true}],
                "types": {"b": {"enum": ["x"]}, "a": {"record": [{"type": "u8", "name": "n"}]}},
                "interface": "t:t/t@1.0.0"}"#,
            expect![[
                r#"{"interface":"t:t/t@1.0.0","types":{"a":{"record":[{"name":"n","type":"u8"}]},"b":{"enum":["x"]}},"functions":[{"name":"f","result":"b"}]}"#
            ]],
        );
    }

    #[test]
    fn a_mark_is_told_in_the_description_and_no_other_interface() {
        let described = |mark: &str| {
            let json = format!(r#"{{"interface":"t:t/t@1.0.0","functions":[{{"name":"f"{mark}}},{{"name":"g"}}]}}"#);
            (Interface::from_json(&json).expect("a description"), json)
        };
        let (marked, json) = described(r#","idempotent":true"#);
        let (plain, _) = described("");
        assert_eq!(serde_json::to_string(&marked).expect("JSON"), json);
        assert_eq!([marked.is_idempotent(0), marked.is_idempotent(1), plain.is_idempotent(0)], [true, false, false]);
        assert!(!marked.is_idempotent(2));
        assert_eq!(marked.fingerprint(), plain.fingerprint());
        assert_eq!(crate::compare(&plain, &marked, &[]), crate::Comparison::Exact);
    }

    #[test]
    fn a_description_that_contradicts_itself_is_refused() {
        let with_types = |types: &str| format!(r#"{{"interface":"t:t/t@1.0.0","types":{types},"functions":[]}}"#);
        check(
            &with_types(r#"{"a":{"record":[{"name":"x","type":"b"}]},"b":{"record":[{"name":"y","type":"list<a>"}]}}"#),
            expect!["interface `t:t/t@1.0.0`: type `a` contains itself; WIT has no recursive types"],
        );
        check(
            &with_types(r#"{"person":{"record":[{"name":"x","type":"adress"}]},"address":{"enum":["y"]}}"#),
            expect!["interface `t:t/t@1.0.0`: type `adress` is not defined; did you mean `address`?"],
        );
        check(
            &with_types(r#"{"a":{"record":[{"name":"x","type":"map<f64, u8>"}]}}"#),
            expect!["interface `t:t/t@1.0.0`: `f64` is not a map key"],
        );
        check(&with_types(r#"{"a":{"enum":["x","x"]}}"#), expect!["interface `t:t/t@1.0.0`: `a` has `x` twice"]);
        check(
            &with_types(r#"{"string":{"enum":["x"]}}"#),
            expect!["interface `t:t/t@1.0.0`: type `string` has the name of a WIT type"],
        );
        check(
            &with_types(r#"{"a":{"record":[{"name":"x","type":"list<_>"}]}}"#),
            expect!["interface `t:t/t@1.0.0`: `_` stands only in a `result`: it is no value of its own"],
        );
        check("{}", expect!["not an interface description: missing field `interface` at line 1 column 2"]);
    }
}
