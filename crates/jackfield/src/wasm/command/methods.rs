//! The functions of a command by number, and what each is called in a message.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::mechanism::{About, FunctionName};

/// Names of functions that nobody described which are remembered.
const NAMES_MAX: usize = 4096;

/// Which method is which function.
#[derive(Default)]
pub(super) struct Methods(RwLock<Known>);

#[derive(Default)]
struct Known {
    /// By position in `About::interfaces`.
    interfaces: Vec<Interface>,
    /// By number: `greeter.greet`.
    methods: Vec<Arc<str>>,
}

struct Interface {
    prefix: String,
    described: bool,
    numbers: BTreeMap<Box<str>, usize>,
}

impl Methods {
    /// Learns the functions of what a plugin offers.
    pub(super) fn learn(&self, about: &About) {
        let names: Vec<_> = about.interfaces.iter().map(|offered| offered.id.name.as_str()).collect();
        let alike = |name: &str| names.iter().filter(|other| **other == name).count() > 1;
        let mut known = Known::default();
        for offered in &about.interfaces {
            let prefix = match alike(&offered.id.name) {
                true => offered.id.unversioned(),
                false => offered.id.name.clone(),
            };
            let described = offered.description.is_some();
            let at = known.interfaces.len();
            known.interfaces.push(Interface { prefix, described, numbers: BTreeMap::new() });
            let functions = offered.description.iter().flat_map(|description| &description.functions);
            functions.for_each(|function| {
                known.add(at, &function.name);
            });
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// The number of a function. One that nobody described gets its number when it is first asked for.
    pub(super) fn number(&self, interface: usize, function: &FunctionName) -> Option<usize> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let offered = known.interfaces.get(interface)?;
        if let Some(number) = offered.numbers.get(&function.name) {
            return Some(*number);
        }
        if offered.described || known.methods.len() >= NAMES_MAX {
            return None;
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Some(known.add(interface, &function.name))
    }

    /// What a function is called in a message.
    pub(super) fn method(&self, number: usize) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).methods.get(number).cloned()
    }
}

impl Known {
    fn add(&mut self, interface: usize, function: &str) -> usize {
        let next = self.methods.len();
        let interface = &mut self.interfaces[interface];
        let number = *interface.numbers.entry(function.into()).or_insert(next);
        if number == next {
            self.methods.push(format!("{}.{function}", interface.prefix).into());
        }
        number
    }
}
