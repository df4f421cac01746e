//! The plugins and fixtures that `cargo xtask plugins` builds.
//!
//! A new one is one entry here and one `<name>.plugin.toml` in its source directory.

use Kind::{
    AssemblyScript, C, CModule, GoCommand, GoLibrary, GoProgram, JavaScript, Python, PythonComponent, RustCommand,
    RustComponent, RustGrpc, RustLibrary, RustModule, RustProgram,
};

/// One plugin, built into the directory of its name.
pub(crate) struct Plugin {
    pub(crate) name: &'static str,
    /// Relative to the root of the repository. For Rust its last part is the package's name.
    pub(crate) source: &'static str,
    pub(crate) kind: Kind,
    /// A file that its manifest names as the description of its interface, since it cannot tell.
    pub(crate) description: Option<&'static str>,
}

/// What a plugin is built from, and into what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The `cdylib` of the package.
    RustLibrary,
    /// The only program of the package.
    RustProgram,
    /// One of the programs of the package, with its feature `grpc`.
    RustGrpc { program: &'static str },
    /// A shared library from one C file that knows only `jackfield.h`.
    C { file: &'static str },
    /// `go build` of one package of the module, without C.
    GoProgram { package: &'static str },
    /// `go build -buildmode=c-shared`; the C compiler finds `jackfield.h`.
    GoLibrary,
    /// A script, copied; it needs Python when it runs.
    Python { file: &'static str },
    /// WebAssembly: the `cdylib` of the package, for `wasm32-unknown-unknown`.
    RustModule,
    /// WebAssembly: the same, packed as a component.
    RustComponent,
    /// WebAssembly: the only program of the package, for `wasm32-wasip1`.
    RustCommand,
    /// WebAssembly: one C file without a library; with debug information, or with nothing that is not run.
    CModule { file: &'static str, debug: bool },
    /// WebAssembly: `go build` for `wasip1`.
    GoCommand,
    /// WebAssembly, with the packages of a `package-lock.json`.
    AssemblyScript { file: &'static str },
    /// WebAssembly: a component, with the packages of a `package-lock.json`.
    JavaScript { file: &'static str, wit: &'static str },
    /// WebAssembly: a component that has Python in it.
    PythonComponent { file: &'static str, wit: &'static str },
}

const GREETER_WIT: &str = "examples/greeter-api/wit";
const GREETER: &str = "examples/greeter-api/greeter.json";
const LIBRARY: &str = "examples/library-api/library.json";

const fn plugin(name: &'static str, source: &'static str, kind: Kind) -> Plugin {
    Plugin { name, source, kind, description: None }
}

impl Plugin {
    const fn described_in(self, file: &'static str) -> Plugin {
        Plugin { description: Some(file), ..self }
    }
}

/// The examples, in the order a reader meets them, then the fixtures.
pub(crate) const PLUGINS: &[Plugin] = &[
    plugin("english", "examples/english", RustLibrary),
    plugin("uzbek", "examples/uzbek", RustLibrary),
    plugin("english-process", "examples/english", RustProgram),
    plugin("uzbek-process", "examples/uzbek", RustProgram),
    plugin("greeter-python", "examples/greeter-python", Python { file: "greeter.py" }),
    plugin("greeter-c", "examples/greeter-c", C { file: "greeter.c" }),
    plugin("greeter-go", "examples/greeter-go", GoProgram { package: "." }),
    plugin("greeter-go-native", "examples/greeter-go", GoLibrary),
    plugin("english-wasm", "examples/english", RustModule),
    plugin("english-component", "examples/english", RustComponent),
    plugin("english-wasi", "examples/english", RustCommand),
    plugin("uzbek-wasm", "examples/uzbek", RustModule),
    plugin("greeter-c-wasm", "examples/greeter-c-wasm", CModule { file: "greeter.c", debug: false })
        .described_in(GREETER),
    plugin("greeter-go-wasm", "examples/greeter-go", GoCommand).described_in(GREETER),
    plugin("greeter-assemblyscript", "examples/greeter-assemblyscript", AssemblyScript { file: "greeter.ts" })
        .described_in(GREETER),
    plugin("greeter-js", "examples/greeter-js", JavaScript { file: "greeter.js", wit: GREETER_WIT }),
    plugin("greeter-py-wasm", "examples/greeter-py-wasm", PythonComponent { file: "app.py", wit: GREETER_WIT }),
    plugin("library-rust-wasm", "examples/library", RustModule),
    plugin("library-go-wasm", "examples/library-go", GoCommand).described_in(LIBRARY),
    plugin("english-grpc", "examples/english", RustGrpc { program: "english-grpc" }),
    plugin("greeter-go-grpc", "examples/greeter-go-grpc", GoProgram { package: "." }).described_in(GREETER),
    plugin("counter", "examples/counter", RustLibrary),
    plugin("counter-process", "examples/counter", RustProgram),
    plugin("counter-wasm", "examples/counter", RustModule),
    plugin("kv-rust", "examples/kv", RustGrpc { program: "kv-rust" }),
    plugin("counter-rust", "examples/kv", RustGrpc { program: "counter-rust" }),
    plugin("kv-go", "examples/kv-go", GoProgram { package: "./plugin" }),
    plugin("zoo", "fixtures/zoo", RustLibrary),
    plugin("zoo-process", "fixtures/zoo", RustProgram),
    plugin("zoo-grpc", "fixtures/zoo", RustGrpc { program: "zoo-grpc" }),
    plugin("zoo-wasm", "fixtures/zoo", RustModule),
    plugin("zoo-component", "fixtures/zoo", RustComponent),
    plugin("zoo-wasi", "fixtures/zoo", RustCommand),
    plugin("misbehave", "fixtures/misbehave", RustLibrary),
    plugin("misbehave-process", "fixtures/misbehave", RustProgram),
    plugin("misbehave-grpc", "fixtures/misbehave", RustGrpc { program: "misbehave-grpc" }),
    plugin("misbehave-wasm", "fixtures/misbehave", RustModule),
    plugin("misbehave-component", "fixtures/misbehave", RustComponent),
    plugin("misbehave-wasi", "fixtures/misbehave", RustCommand),
    plugin("skewed", "fixtures/skewed", RustLibrary),
    plugin("skewed-process", "fixtures/skewed", RustProgram),
    plugin("skewed-grpc", "fixtures/skewed", RustGrpc { program: "skewed-grpc" }),
    plugin("skewed-wasm", "fixtures/skewed", RustModule),
    plugin("skewed-component", "fixtures/skewed", RustComponent),
    plugin("skewed-wasi", "fixtures/skewed", RustCommand),
    plugin("versioned", "fixtures/versioned", RustLibrary),
    plugin("versioned-process", "fixtures/versioned", RustProgram),
    plugin("versioned-grpc", "fixtures/versioned", RustGrpc { program: "versioned-grpc" }),
    plugin("versioned-wasm", "fixtures/versioned", RustModule),
    plugin("versioned-component", "fixtures/versioned", RustComponent),
    plugin("versioned-wasi", "fixtures/versioned", RustCommand),
    plugin("panics", "fixtures/panics", RustLibrary),
    plugin("guest-c-wasm", "fixtures/guest-c", CModule { file: "guest.c", debug: true }),
    plugin("matrix-rust", "fixtures/grpc/rust/matrix", RustGrpc { program: "matrix-rust" }),
    plugin("matrix-go", "fixtures/grpc/go", GoProgram { package: "./matrix-plugin" }),
];

/// A program that is no plugin: one that plugins of ours are tried against.
pub(crate) struct GoTool {
    pub(crate) name: &'static str,
    /// The module, relative to the root of the repository, and the package in it.
    pub(crate) source: &'static str,
    pub(crate) package: &'static str,
}

const fn tool(name: &'static str, source: &'static str, package: &'static str) -> GoTool {
    GoTool { name, source, package }
}

/// Hosts of go-plugin, and a client that none of them invited. They go to `target/fixtures/grpc`.
pub(crate) const GO_TOOLS: &[GoTool] = &[
    tool("kv-go-host", "examples/kv-go", "./host"),
    tool("matrix-host", "fixtures/grpc/go", "./matrix-host"),
    tool("rogue", "fixtures/grpc/go", "./rogue"),
];

impl Plugin {
    /// Fixtures go to a directory of their own: no host should find them by accident.
    pub(crate) fn is_fixture(&self) -> bool {
        self.source.starts_with("fixtures/")
    }

    /// The package of a plugin in Rust. Its directory has its name.
    pub(crate) fn package(&self) -> &'static str {
        self.source.rsplit('/').next().unwrap_or(self.source)
    }
}

/// The packages of the plugins that are of one of `kinds`.
pub(crate) fn packages(kinds: &[Kind]) -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().filter(|plugin| kinds.contains(&plugin.kind)).map(Plugin::package)
}

#[cfg(test)]
mod tests {
    use super::PLUGINS;

    #[test]
    fn each_plugin_has_a_name_of_its_own_and_a_manifest() {
        let mut names: Vec<_> = PLUGINS.iter().map(|plugin| plugin.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PLUGINS.len());
        for plugin in PLUGINS {
            let manifest = crate::plugins::manifest_of(plugin);
            assert!(manifest.is_file(), "`{}` is missing", manifest.display());
        }
    }

    #[test]
    fn a_manifest_names_the_description_that_is_put_beside_it() {
        for plugin in PLUGINS {
            let manifest = crate::plugins::manifest_of(plugin);
            let text = std::fs::read_to_string(&manifest).expect("a manifest");
            let named = text.lines().find_map(|line| line.strip_prefix("descriptions = "));
            let put = plugin.description.and_then(|file| file.rsplit('/').next()).map(|file| format!("[\"{file}\"]"));
            assert_eq!(named, put.as_deref(), "{}", manifest.display());
        }
    }
}
