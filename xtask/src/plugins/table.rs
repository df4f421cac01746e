//! The plugins and fixtures that `cargo xtask plugins` builds.
//!
//! A new one is one entry here and one `<name>.plugin.toml` in its source directory.

use Kind::{C, GoLibrary, GoProgram, Python, RustLibrary, RustProgram};

/// One plugin, built into the directory of its name.
pub(crate) struct Plugin {
    pub(crate) name: &'static str,
    /// Relative to the root of the repository. For Rust its last part is the package's name.
    pub(crate) source: &'static str,
    pub(crate) kind: Kind,
}

/// What a plugin is built from, and into what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The `cdylib` of the package.
    RustLibrary,
    /// The only program of the package.
    RustProgram,
    /// A shared library from one C file that knows only `jackfield.h`.
    C { file: &'static str },
    /// `go build`, without C.
    GoProgram,
    /// `go build -buildmode=c-shared`; the C compiler finds `jackfield.h`.
    GoLibrary,
    /// A script, copied; it needs Python when it runs.
    Python { file: &'static str },
}

const fn plugin(name: &'static str, source: &'static str, kind: Kind) -> Plugin {
    Plugin { name, source, kind }
}

/// The examples, in the order a reader meets them, then the fixtures.
pub(crate) const PLUGINS: &[Plugin] = &[
    plugin("english", "examples/english", RustLibrary),
    plugin("uzbek", "examples/uzbek", RustLibrary),
    plugin("english-process", "examples/english", RustProgram),
    plugin("uzbek-process", "examples/uzbek", RustProgram),
    plugin("greeter-python", "examples/greeter-python", Python { file: "greeter.py" }),
    plugin("greeter-c", "examples/greeter-c", C { file: "greeter.c" }),
    plugin("greeter-go", "examples/greeter-go", GoProgram),
    plugin("greeter-go-native", "examples/greeter-go", GoLibrary),
    plugin("zoo", "fixtures/zoo", RustLibrary),
    plugin("zoo-process", "fixtures/zoo", RustProgram),
    plugin("misbehave", "fixtures/misbehave", RustLibrary),
    plugin("misbehave-process", "fixtures/misbehave", RustProgram),
    plugin("skewed", "fixtures/skewed", RustLibrary),
    plugin("skewed-process", "fixtures/skewed", RustProgram),
    plugin("panics", "fixtures/panics", RustLibrary),
];

impl Plugin {
    /// Fixtures go to a directory of their own: no host should find them by accident.
    pub(crate) fn is_fixture(&self) -> bool {
        self.source.starts_with("fixtures/")
    }

    /// The package of a plugin in Rust.
    pub(crate) fn package(&self) -> Option<&'static str> {
        match self.kind {
            RustLibrary | RustProgram => self.source.rsplit('/').next(),
            C { .. } | GoProgram | GoLibrary | Python { .. } => None,
        }
    }
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
}
