//! What a core module imports that this host does not offer: all of it, with what would provide it.

use wasmtime::{InstancePre, Linker, Module};

use super::super::WasmError;
use super::{ENV, user};
use crate::mechanism::Spec;

/// Links a module, or names everything that is missing.
pub(in super::super) fn link<T: Send + 'static>(
    linker: &Linker<T>,
    module: &Module,
    spec: &Spec,
) -> Result<InstancePre<T>, WasmError> {
    let mut missing: Vec<(&str, &str)> = Vec::new();
    // What can be defined beside all that is offered is not among it.
    let mut offered = linker.clone();
    for import in module.imports() {
        if offered.func_wrap(import.module(), import.name(), || {}).is_ok() {
            missing.push((import.module(), import.name()));
        }
    }
    if missing.is_empty() {
        // What is left to be wrong is a type.
        return linker.instantiate_pre(module).map_err(|error| WasmError::Describe { what: format!("{error:#}") });
    }
    let hint = |(module, name): &(&str, &str)| {
        user::hint(spec, module, name).or_else(|| hint(module, name).map(str::to_owned))
    };
    let mut hints: Vec<String> = missing.iter().filter_map(hint).collect();
    hints.dedup();
    let missing: Vec<_> = missing.iter().map(|(module, name)| format!("`{name}` of `{module}`")).collect();
    let hint = hints.iter().map(|hint| format!("; {hint}")).collect();
    Err(WasmError::Imports { missing: missing.join(", "), hint })
}

/// Whether a module can make HTTP requests.
pub(super) fn wants_http(module: &Module) -> bool {
    module.imports().any(|import| import.module() == ENV && import.name() == "http_request")
}

fn hint(module: &str, name: &str) -> Option<&'static str> {
    Some(match (module, name) {
        (ENV, _) => "the plugin was built for a later Extism than this host knows",
        ("env", "abort") => "`abort` is AssemblyScript's: compile with `--use abort=`",
        ("env", _) => "what is imported from `env` was left undefined when the module was linked",
        ("wasi_unstable", _) => "`wasi_unstable` is older than WASI preview 1: build with a newer toolchain",
        ("wasi_snapshot_preview1", _) => "it is not part of WASI preview 1",
        ("gojs" | "go", _) => "it was built for a browser: build with `GOOS=wasip1`",
        ("wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__", _) => {
            "it was built for a browser by wasm-bindgen: build without it"
        }
        (module, _) if module.starts_with("wasi:") => {
            "it is the core of a component: make the component of it, by `wasm-tools component new`"
        }
        _ => return None,
    })
}
