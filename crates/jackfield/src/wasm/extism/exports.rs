//! Which export is which function.
//!
//! An interface says `set-level`; plugins export `set_level`, `set-level` or `setLevel`, alone or behind the
//! interface's name and a dot. An Extism function takes nothing and gives nothing or a number.

use std::borrow::Cow;
use std::sync::Arc;

use jackfield_protocol::{Function, Interface, InterfaceId, Param, TypeRef, is_kebab};
use semver::Version;
use serde::Deserialize;
use wasmtime::{ExternType, FuncType, Module, ModuleExport, ValType};

use super::super::WasmError;
use super::{ABOUT, SPANS, TRACE};
use crate::mechanism::{About, FunctionName, Offered, Spec};

/// The parameter of a function from text to text.
const INPUT: &str = "input";

/// What a module exports.
pub(super) struct Exports {
    /// Those that can be called as functions of a plugin.
    pub(super) callable: Vec<Callable>,
    pub(super) start: Start,
    /// Whether the module is one of our SDK's.
    pub(super) direct: bool,
    /// Functions that cannot be called so, with their signatures.
    others: Vec<(String, String)>,
}

/// An export that takes nothing.
pub(super) struct Callable {
    pub(super) name: String,
    pub(super) at: ModuleExport,
    pub(super) gives: Gives,
    /// Whether running it ends the instance: nothing of a program is left after its `main`.
    pub(super) starts: bool,
}

/// What an export gives.
#[derive(Clone, Copy)]
pub(super) enum Gives {
    /// 0 is success.
    Code,
    Nothing,
}

/// What runs once, when an instance is made.
#[derive(Clone, Copy)]
pub(super) enum Start {
    Nothing,
    /// `_initialize`
    Initialize,
    /// `__wasm_call_ctors`
    Constructors,
    /// `hs_init`, after `_initialize` where there is one.
    Haskell {
        initialize: bool,
    },
}

/// Which function is which, by its number.
pub(super) struct Described {
    functions: Vec<Called>,
    /// By position in `About::interfaces`.
    interfaces: Vec<Numbers>,
    /// Callable exports, which have the numbers behind those of `functions`.
    exports: usize,
}

/// The numbers of an interface's functions.
enum Numbers {
    Known {
        first: usize,
        count: usize,
        interface: Arc<Interface>,
    },
    /// Nobody described it: functions are found by the name they are called by.
    Named {
        id: InterfaceId,
    },
}

/// How a function is called.
#[derive(Clone, Copy)]
pub(super) struct Called {
    /// Position in [`Exports::callable`].
    pub(super) export: Option<usize>,
    /// For `jackfield_call`.
    pub(super) direct: Option<Direct>,
    /// Whether input and output are text and not JSON.
    pub(super) text: bool,
    /// Whether it has an error of its own.
    pub(super) own_error: bool,
}

/// A function, as `jackfield_call` knows it.
#[derive(Clone, Copy)]
pub(super) struct Direct {
    /// Position of the interface, and of the function within it.
    pub(super) position: (i32, i32),
    /// Whether it takes nothing but a string or bytes, which need not be encoded before they come here.
    pub(super) takes_whole: bool,
    /// What its success and its own error are.
    pub(super) ok: Content,
    pub(super) err: Content,
}

/// What a value is to those who pass it on: strings and bytes need not be encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Text,
    Bytes,
    Other,
}

impl Direct {
    fn of(interface: usize, number: usize, function: &Function) -> Option<Self> {
        let content = |ty: &TypeRef| match ty {
            TypeRef::String => Content::Text,
            TypeRef::Bytes => Content::Bytes,
            _ => Content::Other,
        };
        Some(Self {
            position: (i32::try_from(interface).ok()?, i32::try_from(number).ok()?),
            takes_whole: matches!(&*function.params, [param] if content(&param.ty) != Content::Other),
            ok: content(&function.ok()),
            err: function.err().map_or(Content::Other, content),
        })
    }
}

impl Exports {
    pub(super) fn of(module: &Module) -> Self {
        let (mut callable, mut others) = (Vec::new(), Vec::new());
        let takes_and_gives_nothing = |name: &str| match module.get_export(name) {
            Some(ExternType::Func(ty)) => ty.params().len() == 0 && ty.results().len() == 0,
            _ => false,
        };
        let haskell = match module.get_export("hs_init") {
            Some(ExternType::Func(ty)) => {
                ty.params().len() == 2 && ty.params().all(|ty| ty.is_i32()) && ty.results().len() == 0
            }
            _ => false,
        };
        let start = match () {
            () if haskell => Start::Haskell { initialize: takes_and_gives_nothing("_initialize") },
            () if takes_and_gives_nothing("__wasm_call_ctors") => Start::Constructors,
            () if takes_and_gives_nothing("_initialize") => Start::Initialize,
            () => Start::Nothing,
        };
        for export in module.exports() {
            let (name, ExternType::Func(ty)) = (export.name(), export.ty()) else { continue };
            if is_machinery(name) {
                continue;
            }
            match (gives(&ty), module.get_export_index(name)) {
                (Some(gives), Some(at)) => {
                    callable.push(Callable { name: name.to_owned(), at, gives, starts: name == "_start" });
                }
                _ => others.push((name.to_owned(), signature(&ty))),
            }
        }
        Self { callable, start, direct: module.get_export(ABOUT).is_some(), others }
    }

    /// For a module of our SDK, which has described itself. All its functions are called directly, and those
    /// that are exported also as any Extism host calls them.
    pub(super) fn of_sdk(&self, about: &About) -> Result<Described, WasmError> {
        let mut described = self.nothing_described();
        for (at, offered) in about.interfaces.iter().enumerate() {
            let Some(interface) = &offered.description else {
                described.interfaces.push(Numbers::Named { id: offered.id.clone() });
                continue;
            };
            let alone = |function: &Function| {
                let mut others = about.interfaces.iter().take(at).filter_map(|other| other.description.as_ref());
                others.all(|other| other.function(&function.name).is_none())
            };
            described.add(interface, |number, function| Called {
                export: self.find(&interface.id, &function.name, alone(function)),
                direct: Direct::of(at, number, function),
                text: false,
                own_error: function.err().is_some(),
            });
        }
        Ok(described)
    }

    /// For a module that the manifest describes. Every function must be there.
    pub(super) fn declared(&self, spec: &Spec) -> Result<(About, Described), WasmError> {
        let declared = &spec.declared;
        let mut described = self.nothing_described();
        let mut interfaces = Vec::new();
        let descriptions = declared.descriptions.iter();
        let named = declared.interfaces.iter().filter(|id| descriptions.clone().all(|other| other.id != **id));
        for description in descriptions.clone() {
            let interface = Arc::new(description.clone());
            let mut unknown = None;
            described.add(&interface, |_, function| {
                let others = descriptions.clone().filter(|other| other.id != description.id);
                let alone = others.into_iter().all(|other| other.function(&function.name).is_none());
                let export = self.find(&description.id, &function.name, alone);
                if export.is_none() && unknown.is_none() {
                    unknown = Some(self.not_exported(&description.id, &function.name, alone));
                }
                Called { export, direct: None, text: false, own_error: function.err().is_some() }
            });
            if let Some(what) = unknown {
                return Err(WasmError::Describe { what });
            }
            interfaces.push(Offered { id: description.id.clone(), description: Some(interface), binary: false });
        }
        for id in named {
            described.interfaces.push(Numbers::Named { id: id.clone() });
            interfaces.push(Offered { id: id.clone(), description: None, binary: false });
        }
        Ok((about(spec, interfaces), described))
    }

    /// For a module that nobody describes: every export is a function from text to text.
    pub(super) fn text(&self, spec: &Spec) -> Result<(About, Described), WasmError> {
        let mut functions: Vec<(Function, usize)> = Vec::new();
        for (at, export) in self.callable.iter().enumerate() {
            let name = kebab(&export.name);
            match is_kebab(&name) && functions.iter().all(|(other, _)| other.name != name) {
                true => functions.push((from_text_to_text(name, &export.name), at)),
                false => {
                    let (plugin, export) = (&spec.name, &export.name);
                    tracing::warn!(target: "jackfield::wasm", plugin, "no name can be made of the export `{export}`");
                }
            }
        }
        if functions.is_empty() {
            let what = format!("it exports no function that an Extism host can call; it exports {}", self.list());
            return Err(WasmError::Describe { what });
        }
        let plugin = Some(kebab(&spec.name)).filter(|name| is_kebab(name)).unwrap_or_else(|| "plugin".to_owned());
        let id = InterfaceId {
            package: format!("extism:{plugin}"),
            name: "exports".to_owned(),
            version: Version::new(0, 0, 0),
        };
        let docs = "The exports of an Extism plugin that says nothing of itself: text in, text out.".to_owned();
        let (functions, exports): (Vec<_>, Vec<_>) = functions.into_iter().unzip();
        let interface =
            Interface::new(id, docs, |_| functions).map_err(|error| WasmError::Describe { what: error.to_string() })?;
        let interface = Arc::new(interface);
        let mut described = self.nothing_described();
        described.add(&interface, |number, _| Called {
            export: exports.get(number).copied(),
            direct: None,
            text: true,
            own_error: false,
        });
        let offered = Offered { id: interface.id.clone(), description: Some(interface), binary: false };
        Ok((about(spec, vec![offered]), described))
    }

    fn nothing_described(&self) -> Described {
        Described { functions: Vec::new(), interfaces: Vec::new(), exports: self.callable.len() }
    }

    /// The export of a function; `alone`: it may be called without the interface.
    fn find(&self, interface: &InterfaceId, function: &str, alone: bool) -> Option<usize> {
        let names = spellings(function);
        let in_full = self.callable.iter().position(|export| {
            let Some((before, name)) = export.name.rsplit_once('.') else { return false };
            names.iter().any(|known| known == name) && spellings(&interface.name).iter().any(|known| known == before)
        });
        let by_itself = || self.callable.iter().position(|export| names.contains(&export.name));
        in_full.or_else(|| by_itself().filter(|_| alone))
    }

    fn not_exported(&self, interface: &InterfaceId, function: &str, alone: bool) -> String {
        let names = spellings(function);
        let wrong = self.others.iter().find(|(name, _)| {
            names.contains(name)
                || name.rsplit_once('.').is_some_and(|(_, name)| names.iter().any(|known| known == name))
        });
        if let Some((name, signature)) = wrong {
            return format!(
                "`{function}` of `{interface}` is exported as `{name}: {signature}`, and an Extism function takes \
                 nothing and gives nothing or an i32"
            );
        }
        let snake = function.replace('-', "_");
        let in_full = format!("`{}.{snake}`", interface.name.replace('-', "_"));
        let wanted = if alone { format!("`{snake}` or {in_full}") } else { in_full };
        format!("`{function}` of `{interface}` is not exported as {wanted}; it exports {}", self.list())
    }

    fn list(&self) -> String {
        let names = self.callable.iter().map(|export| &export.name).chain(self.others.iter().map(|(name, _)| name));
        let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        if names.is_empty() { "no function".to_owned() } else { names.join(", ") }
    }
}

impl Described {
    /// The number of a function.
    pub(super) fn function(&self, exports: &Exports, interface: usize, function: &FunctionName) -> Option<usize> {
        match self.interfaces.get(interface)? {
            Numbers::Known { first, count, interface } => {
                let position = match function.position {
                    Some(position) => position as usize,
                    None => interface.function(&function.name)?.0,
                };
                (position < *count).then_some(first + position)
            }
            Numbers::Named { id } => Some(self.functions.len() + exports.find(id, &function.name, true)?),
        }
    }

    /// How `jackfield_call` knows the function of a number.
    #[inline]
    pub(super) fn direct(&self, number: usize) -> Option<Direct> {
        self.functions.get(number)?.direct
    }

    /// How the function of a number is called.
    pub(super) fn called(&self, number: usize) -> Option<Called> {
        if let Some(called) = self.functions.get(number) {
            return Some(*called);
        }
        let export = Some(number - self.functions.len()).filter(|export| *export < self.exports);
        // What an undescribed function gives, nobody knows better than the plugin.
        Some(Called { export: Some(export?), direct: None, text: false, own_error: true })
    }

    fn add(&mut self, interface: &Arc<Interface>, mut called: impl FnMut(usize, &Function) -> Called) {
        let (first, count) = (self.functions.len(), interface.functions.len());
        self.functions
            .extend(interface.functions.iter().enumerate().map(|(number, function)| called(number, function)));
        self.interfaces.push(Numbers::Known { first, count, interface: Arc::clone(interface) });
    }
}

/// The input of a function from text to text, out of its arguments.
pub(super) fn text_in(arguments: &[u8]) -> Result<Cow<'_, str>, String> {
    #[derive(Deserialize)]
    struct Arguments<'a> {
        #[serde(borrow)]
        input: Cow<'a, str>,
    }
    match serde_json::from_slice(arguments) {
        Ok(Arguments { input }) => Ok(input),
        Err(error) => Err(format!("the arguments are not `{{\"{INPUT}\": \"…\"}}`: {error}")),
    }
}

fn about(spec: &Spec, interfaces: Vec<Offered>) -> About {
    let version = spec.declared.version.as_ref().map_or_else(|| "0.0.0".to_owned(), ToString::to_string);
    let capabilities = spec.declared.capabilities.clone();
    About {
        name: spec.name.clone(),
        version,
        capabilities,
        interfaces,
        services: Vec::new(),
        speaks: "Extism ABI".to_owned(),
    }
}

fn from_text_to_text(name: String, export: &str) -> Function {
    Function {
        name,
        docs: format!("The export `{export}`."),
        params: vec![Param { name: INPUT.to_owned(), ty: TypeRef::String }],
        result: Some(TypeRef::String),
        idempotent: false,
    }
}

/// What compilers export for themselves, or for the host that makes the instance.
fn is_machinery(name: &str) -> bool {
    const OWN: [&str; 7] = ["jackfield_abi", ABOUT, "jackfield_alloc", "jackfield_call", TRACE, SPANS, "hs_init"];
    (name.starts_with('_') && name != "_start") || name.starts_with("asyncify_") || OWN.contains(&name)
}

fn gives(ty: &FuncType) -> Option<Gives> {
    let mut results = ty.results();
    match (ty.params().len(), results.next(), results.next()) {
        (0, None, None) => Some(Gives::Nothing),
        (0, Some(ValType::I32), None) => Some(Gives::Code),
        _ => None,
    }
}

pub(super) fn signature(ty: &FuncType) -> String {
    let list = |types: &mut dyn Iterator<Item = ValType>| types.map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ");
    match ty.results().len() {
        0 => format!("({})", list(&mut ty.params())),
        _ => format!("({}) -> {}", list(&mut ty.params()), list(&mut ty.results())),
    }
}

/// `set_level`, `set-level` and `setLevel`.
fn spellings(kebab: &str) -> [String; 3] {
    let mut camel = String::with_capacity(kebab.len());
    for (at, word) in kebab.split('-').enumerate() {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if at > 0 => camel.push(first.to_ascii_uppercase()),
            Some(first) => camel.push(first),
            None => {}
        }
        camel.push_str(letters.as_str());
    }
    [kebab.replace('-', "_"), kebab.to_owned(), camel]
}

/// `count_vowels`, `countVowels` and `_start` as `count-vowels` and `start`. It may not be a name even then.
fn kebab(name: &str) -> String {
    let mut kebab = String::with_capacity(name.len());
    let mut lower_before = false;
    for letter in name.chars() {
        match letter {
            '_' | '-' | '.' | ' ' => kebab.push('-'),
            letter if letter.is_ascii_uppercase() && lower_before => kebab.extend(['-', letter.to_ascii_lowercase()]),
            letter => kebab.push(letter.to_ascii_lowercase()),
        }
        lower_before = letter.is_ascii_lowercase() || letter.is_ascii_digit();
    }
    // A word does not begin with a digit: `sha_256` is `sha256`.
    let words = kebab.split('-').filter(|word| !word.is_empty());
    words.fold(String::new(), |name, word| match name.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
        true => name + word,
        false => name + "-" + word,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_three_spellings() {
        assert_eq!(spellings("set-max-level"), ["set_max_level", "set-max-level", "setMaxLevel"]);
        assert_eq!(spellings("add"), ["add", "add", "add"]);
    }

    #[test]
    fn a_name_is_made_of_an_export() {
        for (export, name) in [
            ("count_vowels", "count-vowels"),
            ("countVowels", "count-vowels"),
            ("_start", "start"),
            ("sha_256", "sha256"),
            ("HTTPGet", "httpget"),
            ("counter.add", "counter-add"),
            ("run2Times", "run2-times"),
        ] {
            assert_eq!(kebab(export), name);
            assert!(is_kebab(name));
        }
        assert!(!is_kebab(&kebab("2fast")) && !is_kebab(&kebab("ö")) && !is_kebab(&kebab("")));
    }

    #[test]
    fn the_input_of_a_text_function_is_its_one_argument() {
        assert_eq!(text_in(br#"{"input":"hello \u00e9"}"#).expect("text"), "hello é");
        assert_eq!(
            text_in(b"{}").expect_err("no text"),
            r#"the arguments are not `{"input": "…"}`: missing field `input` at line 1 column 2"#
        );
    }
}
