//! Compares the interface a host wants with the one a plugin has: at load, not at the first call.
//!
//! Functions may be added on either side; everything else must be equal, name by name. Types are
//! compared through their names to the bottom, so that a difference in a nested record is reported
//! with the path to it and with what stands on each side.

use std::fmt;

use crate::interface::{Function, Interface};
use crate::types::{TypeDef, TypeRef};

/// What came of comparing a host's interface with a plugin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The same canonical form: values may travel in the binary encoding.
    Exact,
    /// They understand each other, in JSON.
    Compatible {
        /// Functions the host marked optional and the plugin lacks: calling one is `unimplemented`.
        missing: Vec<String>,
        /// Functions the plugin has and the host does not know.
        extra: Vec<String>,
    },
    /// They do not understand each other.
    Incompatible {
        /// Every difference found, in the host's order; never empty.
        mismatches: Vec<Mismatch>,
    },
}

/// One difference, with both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where: `greet(person).address.zip`.
    pub path: String,
    /// What the host has there.
    pub host: String,
    /// What the plugin has there.
    pub plugin: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at `{}` the host has {}, the plugin {}", self.path, self.host, self.plugin)
    }
}

/// Compares what the host wants with what the plugin has. `optional` names functions whose absence
/// the host accepts.
pub fn compare(host: &Interface, plugin: &Interface, optional: &[String]) -> Comparison {
    if host.fingerprint() == plugin.fingerprint() {
        return Comparison::Exact;
    }
    let mut sides = Sides { host, plugin, mismatches: Vec::new() };
    if !host.id.same_name(&plugin.id) {
        sides.differ("interface", &host.id.unversioned(), &plugin.id.unversioned());
    } else if !host.id.same_major(&plugin.id) {
        let version = |interface: &Interface| format!("version {}", interface.id.version);
        sides.differ("interface", &version(host), &version(plugin));
    }
    let mut missing = Vec::new();
    for wanted in &host.functions {
        match plugin.functions.iter().find(|function| function.name == wanted.name) {
            Some(found) => sides.functions(wanted, found),
            None if optional.contains(&wanted.name) => missing.push(wanted.name.clone()),
            None => sides.differ(&wanted.name, &format!("`{}`", wanted.signature()), "no such function"),
        }
    }
    if !sides.mismatches.is_empty() {
        return Comparison::Incompatible { mismatches: sides.mismatches };
    }
    let known = |name: &str| host.functions.iter().any(|function| function.name == name);
    let extra = plugin.functions.iter().filter(|function| !known(&function.name));
    Comparison::Compatible { missing, extra: extra.map(|function| function.name.clone()).collect() }
}

struct Sides<'a> {
    host: &'a Interface,
    plugin: &'a Interface,
    mismatches: Vec<Mismatch>,
}

impl Sides<'_> {
    fn differ(&mut self, path: &str, host: &str, plugin: &str) {
        let mismatch = Mismatch { path: path.to_owned(), host: host.to_owned(), plugin: plugin.to_owned() };
        if !self.mismatches.contains(&mismatch) {
            self.mismatches.push(mismatch);
        }
    }

    fn functions(&mut self, host: &Function, plugin: &Function) {
        let names =
            |function: &Function| -> Vec<String> { function.params.iter().map(|param| param.name.clone()).collect() };
        let path = format!("{}()", host.name);
        self.members(&path, "parameters", &names(host), &names(plugin));
        for ours in &host.params {
            if let Some(theirs) = plugin.params.iter().find(|param| param.name == ours.name) {
                self.types(&format!("{}({})", host.name, ours.name), &ours.ty, &theirs.ty);
            }
        }
        let result = |function: &Function| function.result.clone().unwrap_or(TypeRef::UNIT);
        self.types(&format!("{}() result", host.name), &result(host), &result(plugin));
    }

    fn types(&mut self, path: &str, host: &TypeRef, plugin: &TypeRef) {
        match (host, plugin) {
            (TypeRef::List(ours), TypeRef::List(theirs)) => {
                self.types(&format!("{path}[]"), ours, theirs);
            }
            (TypeRef::Option(ours), TypeRef::Option(theirs)) => {
                self.types(&format!("{path}?"), ours, theirs);
            }
            (TypeRef::Map(key, value), TypeRef::Map(their_key, their_value)) => {
                self.types(&format!("{path}{{key}}"), key, their_key);
                self.types(&format!("{path}{{}}"), value, their_value);
            }
            (TypeRef::Result(ok, err), TypeRef::Result(their_ok, their_err)) => {
                self.types(&format!("{path}.ok"), ok, their_ok);
                self.types(&format!("{path}.err"), err, their_err);
            }
            (TypeRef::Tuple(ours), TypeRef::Tuple(theirs)) if ours.len() == theirs.len() => {
                for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                    self.types(&format!("{path}.{at}"), ours, theirs);
                }
            }
            (TypeRef::Named(ours), TypeRef::Named(theirs)) => self.named(path, ours, theirs),
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => self.differ(path, &format!("`{ours}`"), &format!("`{theirs}`")),
        }
    }

    fn named(&mut self, path: &str, ours: &str, theirs: &str) {
        // A type's own name is for people; only its shape crosses the border.
        let (host, plugin) = (self.host.types.get(ours), self.plugin.types.get(theirs));
        match (host, plugin) {
            (Some(TypeDef::Record(fields)), Some(TypeDef::Record(their_fields))) => {
                self.members(path, "fields", &host.members(), &plugin.members());
                for ours in fields {
                    if let Some(theirs) = their_fields.iter().find(|field| field.name == ours.name) {
                        self.types(&format!("{path}.{}", ours.name), &ours.ty, &theirs.ty);
                    }
                }
            }
            (Some(TypeDef::Variant(cases)), Some(TypeDef::Variant(their_cases))) => {
                self.members(path, "cases", &host.members(), &plugin.members());
                let payload = |ty: &Option<TypeRef>| ty.clone().unwrap_or(TypeRef::UNIT);
                for ours in cases {
                    if let Some(theirs) = their_cases.iter().find(|case| case.name == ours.name) {
                        let path = format!("{path}.{}", ours.name);
                        self.types(&path, &payload(&ours.ty), &payload(&theirs.ty));
                    }
                }
            }
            (Some(TypeDef::Enum(_)), Some(TypeDef::Enum(_))) | (Some(TypeDef::Flags(_)), Some(TypeDef::Flags(_))) => {
                self.members(path, "names", &host.members(), &plugin.members());
            }
            (Some(host), Some(plugin)) => {
                let (host, plugin) = (host.kind(), plugin.kind());
                self.differ(path, &format!("{host} `{ours}`"), &format!("{plugin} `{theirs}`"));
            }
            _ => self.differ(path, &format!("`{ours}`"), &format!("`{theirs}`")),
        }
    }

    /// Both sides must have the same members in the same order.
    fn members<N: AsRef<str>>(&mut self, path: &str, what: &str, host: &[N], plugin: &[N]) {
        let list = |names: &[N]| -> String {
            let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
            format!("{what} ({})", names.join(", "))
        };
        let (host, plugin) = (list(host), list(plugin));
        if host != plugin {
            self.differ(path, &host, &plugin);
        }
    }
}

trait Members {
    fn members(&self) -> Vec<&str>;
}

impl Members for Option<&TypeDef> {
    fn members(&self) -> Vec<&str> {
        self.map(TypeDef::members).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const HOST: &str = r#"{
        "interface": "t:t/t@1.2.0",
        "types": {
            "address": {"record": [{"name": "street", "type": "string"}, {"name": "zip", "type": "u32"}]},
            "person": {"record": [{"name": "name", "type": "string"}, {"name": "address", "type": "option<address>"}]}
        },
        "functions": [
            {"name": "greet", "params": [{"name": "people", "type": "list<person>"}], "result": "result<string, string>"},
            {"name": "shout", "result": "string"}
        ]
    }"#;

    fn check(plugin: &str, optional: &[&str], expected: Expect) {
        let interface = |json: &str| Interface::from_json(json).expect("a description");
        let optional: Vec<_> = optional.iter().map(ToString::to_string).collect();
        let text = match compare(&interface(HOST), &interface(plugin), &optional) {
            Comparison::Exact => "exact".to_owned(),
            Comparison::Compatible { missing, extra } => {
                format!("compatible, missing {missing:?}, extra {extra:?}")
            }
            Comparison::Incompatible { mismatches } => {
                mismatches.iter().map(Mismatch::to_string).collect::<Vec<_>>().join("\n")
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn documentation_does_not_count() {
        check(&HOST.replace(r#""name": "shout","#, r#""name": "shout", "docs": "Loud.","#), &[], expect!["exact"]);
    }

    #[test]
    fn functions_may_be_added_on_either_side() {
        let without = HOST.replace(r#"{"name": "shout", "result": "string"}"#, r#"{"name": "sing"}"#);
        check(&without, &["shout"], expect![[r#"compatible, missing ["shout"], extra ["sing"]"#]]);
        check(&without, &[], expect!["at `shout` the host has `shout() -> string`, the plugin no such function"]);
        check(&HOST.replace("@1.2.0", "@1.0.0"), &[], expect!["compatible, missing [], extra []"]);
    }

    #[test]
    fn a_field_of_a_nested_record_is_named_by_its_path() {
        check(
            &HOST.replace(r#""zip", "type": "u32""#, r#""zip", "type": "string""#),
            &[],
            expect!["at `greet(people)[].address?.zip` the host has `u32`, the plugin `string`"],
        );
        check(
            &HOST.replace(r#", {"name": "zip", "type": "u32"}"#, ""),
            &[],
            expect!["at `greet(people)[].address?` the host has fields (street, zip), the plugin fields (street)"],
        );
    }

    #[test]
    fn every_difference_is_listed() {
        check(
            &HOST
                .replace("@1.2.0", "@2.0.0")
                .replace("result<string, string>", "result<string, u8>")
                .replace(r#""name": "people""#, r#""name": "persons""#),
            &[],
            expect![[r#"
                at `interface` the host has version 1.2.0, the plugin version 2.0.0
                at `greet()` the host has parameters (people), the plugin parameters (persons)
                at `greet() result.err` the host has `string`, the plugin `u8`"#]],
        );
    }
}
