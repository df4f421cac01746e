//! Why a plugin was not loaded, or cannot be had. Why a call failed is
//! [`CallError`](jackfield_protocol::CallError).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jackfield_protocol::{Capability, InterfaceError, InterfaceId, Mismatch};

use crate::manifest::ManifestError;
use crate::trust::TrustError;

/// A file that wanted to be a plugin and was set aside.
#[derive(Debug)]
pub struct Refused {
    /// The name it would have had.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Why.
    pub reason: LoadError,
}

impl Refused {
    /// Whether the other is the same thing, refused for the same reason.
    pub(crate) fn is(&self, other: &Refused) -> bool {
        self.path == other.path && in_full(&self.reason) == in_full(&other.reason)
    }
}

/// The name and the reason, with its causes, on one line.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, in_full(&self.reason))
    }
}

/// An error with its causes, on one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Why a plugin was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The file cannot be a plugin: not executable, of another platform, or not to be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing vouches for it that should, or others can change it.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The shared library was not loaded.
    #[cfg(feature = "native")]
    #[error(transparent)]
    Native(#[from] crate::native::LibraryError),
    /// The program did not start.
    #[cfg(feature = "process")]
    #[error(transparent)]
    Start(#[from] crate::process::StartError),
    /// The gRPC plugin did not start.
    #[cfg(feature = "grpc")]
    #[error(transparent)]
    Grpc(#[from] crate::grpc::GrpcError),
    /// The WebAssembly file was not loaded.
    #[cfg(feature = "wasm")]
    #[error(transparent)]
    Wasm(#[from] crate::wasm::WasmError),
    /// The mechanism is not built into this host.
    #[error("mechanism `{mechanism}` is not built into this host")]
    NotBuiltIn {
        /// The mechanism.
        mechanism: &'static str,
    },
    /// A limit that cannot be enforced for this plugin.
    #[error("limit `{limit}` cannot be enforced: {why}")]
    Unenforceable {
        /// The limit's name in the manifest.
        limit: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// The plugin is not what its manifest says.
    #[error("the manifest says {what} {manifest}, the plugin says {plugin}")]
    NotAsDeclared {
        /// What differs: `version`, `interface`, `capability`.
        what: &'static str,
        /// What the manifest says.
        manifest: String,
        /// What the plugin says.
        plugin: String,
    },
    /// A capability that the host requires of every plugin is missing or too old.
    #[error("it lacks a capability: the host requires `{required}`, the plugin {}", offers(*offered))]
    Capability {
        /// What is required.
        required: Capability,
        /// The version that the plugin offers, if any.
        offered: Option<u32>,
    },
    /// A description that the plugin reports, or that its manifest names, cannot be used.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// It offers one interface twice, in two versions say.
    #[error("the plugin offers `{interface}` twice")]
    OfferedTwice {
        /// The interface, without a version.
        interface: String,
    },
    /// It offers nothing.
    #[error("the plugin offers no interface")]
    NoInterface,
    /// The new build of a plugin lacks an interface of the one it would replace, or has another.
    #[error("it cannot take the place of the old build: {what}")]
    Replaces {
        /// What differs, with both sides.
        what: String,
    },
    /// It says that it is not ready to serve, or did not answer when it was asked.
    #[error("it is not well: {why}")]
    Unhealthy {
        /// What it says.
        why: String,
    },
    /// It was refused, and is listed with the reason.
    #[error("{}", in_full(&refused.reason))]
    Refused {
        /// As it is listed.
        refused: Arc<Refused>,
    },
    /// What lies there now has another name: it is another plugin.
    #[error("it is called `{now}` now, and was called `{before}`")]
    Renamed {
        /// The plugin's name.
        before: String,
        /// The one in the manifest.
        now: String,
    },
}

/// Why a file or a directory cannot be a plugin, whatever is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A plugin directory, or something in it, cannot be read.
    #[error("cannot be read")]
    Unreadable {
        /// Why.
        source: io::Error,
    },
    /// It would have to be guessed which one counts.
    #[error("has both a `plugin.toml` and a `plugin.json`")]
    TwoManifests,
    /// A library that another system loads.
    #[error("a `.{extension}` file is a library of {system}; this platform is {here}")]
    OtherPlatform {
        /// `dll`.
        extension: &'static str,
        /// The system whose libraries are called like this.
        system: &'static str,
        /// This one.
        here: &'static str,
    },
    /// A script that nobody made executable.
    #[error("begins with `#!`, but is not executable")]
    NotExecutable,
    /// The file has no manifest to name the plugin, and its own name does not serve.
    #[error("{name:?} is not a plugin's name: 1 to 64 of `a` to `z`, `0` to `9` and `-`, the first not `-`")]
    Name {
        /// What was made of the file's name.
        name: String,
    },
    /// A path that was given as a plugin, and is none.
    #[error("neither a library, nor a program, nor WebAssembly, nor a directory with a manifest")]
    NoPlugin,
}

/// There is no plugin of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no plugin is called `{name}`{hint}")]
pub struct UnknownPlugin {
    /// The name asked for.
    pub name: String,
    /// What is near, or why it was refused.
    pub hint: String,
}

/// Why a plugin cannot be had as an interface.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// There is no plugin of this name.
    #[error(transparent)]
    Unknown(#[from] UnknownPlugin),
    /// The trait is no interface: it has a recursive type, say.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The plugin does not offer the interface.
    #[error("plugin `{plugin}` does not offer `{wanted}`; it offers {offered}")]
    NotOffered {
        /// The plugin.
        plugin: String,
        /// The host's interface.
        wanted: InterfaceId,
        /// What the plugin offers.
        offered: String,
    },
    /// Host and plugin differ in the interface.
    #[error("plugin `{plugin}` has another `{wanted}`: {}", list(mismatches))]
    Incompatible {
        /// The plugin.
        plugin: String,
        /// The host's interface.
        wanted: InterfaceId,
        /// Every difference, with both sides.
        mismatches: Vec<Mismatch>,
    },
    /// A capability the host requires is missing or too old.
    #[error("plugin `{plugin}` lacks a capability: the host requires `{required}`, the plugin {}", offers(*offered))]
    Capability {
        /// The plugin.
        plugin: String,
        /// What is required.
        required: Capability,
        /// The version that the plugin offers, if any.
        offered: Option<u32>,
    },
    /// The name of a requirement is not well-formed.
    #[error(transparent)]
    Name(#[from] jackfield_protocol::name::NameError),
    /// The plugin is not running.
    #[error("plugin `{plugin}` is not running: {why}")]
    Unavailable {
        /// The plugin.
        plugin: String,
        /// Its state, with the reason.
        why: String,
    },
}

fn list(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn offers(version: Option<u32>) -> String {
    version.map_or_else(|| "does not offer it".to_owned(), |version| format!("offers version {version}"))
}

/// Why a plugin was not replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// There is no plugin of this name.
    #[error(transparent)]
    Unknown(#[from] UnknownPlugin),
    /// The new build was not taken.
    #[error("plugin `{plugin}` was not replaced: {step}{}", kept_in_words(*kept))]
    Failed {
        /// The plugin.
        plugin: String,
        /// The step that failed.
        step: ReloadStep,
        /// The generation that goes on, if one ran.
        kept: Option<u64>,
        /// Why.
        source: LoadError,
    },
    /// It is disabled or quarantined, or its host is stopping.
    #[error("plugin `{plugin}` is not replaced: it is {state}")]
    NotNow {
        /// The plugin.
        plugin: String,
        /// Its state.
        state: String,
    },
}

fn kept_in_words(kept: Option<u64>) -> String {
    kept.map(|generation| format!("; generation {generation} goes on")).unwrap_or_default()
}

/// A step of replacing a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReloadStep {
    /// Its manifest or file was read again.
    Find,
    /// Pin, lock, signature and place of the new build were checked.
    Trust,
    /// The new build was started.
    Start,
    /// What it says was compared with its manifest, and with what the old one offers.
    Check,
    /// It was asked whether it is well.
    Health,
    /// It was given a first call.
    Canary,
    /// It was given the old one's state.
    State,
}

impl ReloadStep {
    /// Where a plugin failed that was looked at and not started.
    pub(crate) fn of_discovery(reason: &LoadError) -> Self {
        match reason {
            LoadError::Trust(_) => ReloadStep::Trust,
            _ => ReloadStep::Find,
        }
    }

    /// `find`, `trust`, `start`, `check`, `health`, `canary`, `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            ReloadStep::Find => "find",
            ReloadStep::Trust => "trust",
            ReloadStep::Start => "start",
            ReloadStep::Check => "check",
            ReloadStep::Health => "health",
            ReloadStep::Canary => "canary",
            ReloadStep::State => "state",
        }
    }
}

/// What went wrong, for a sentence.
impl fmt::Display for ReloadStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReloadStep::Find => "its files cannot be used",
            ReloadStep::Trust => "the new build is not trusted",
            ReloadStep::Start => "the new build does not start",
            ReloadStep::Check => "the new build is not what is wanted",
            ReloadStep::Health => "the new build is not well",
            ReloadStep::Canary => "the new build failed its canary call",
            ReloadStep::State => "the state was not handed over",
        })
    }
}

/// Why a plugin was not started again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnableError {
    /// There is no plugin of this name.
    #[error(transparent)]
    Unknown(#[from] UnknownPlugin),
    /// It is quarantined, which has to be lifted first.
    #[error("plugin `{plugin}` is quarantined: {why}")]
    Quarantined {
        /// The plugin.
        plugin: String,
        /// Why.
        why: String,
    },
    /// It is not quarantined.
    #[error("plugin `{plugin}` is not quarantined: it is {state}")]
    NotQuarantined {
        /// The plugin.
        plugin: String,
        /// Its state.
        state: String,
    },
    /// It did not start.
    #[error("plugin `{plugin}` does not start")]
    Start {
        /// The plugin.
        plugin: String,
        /// Why.
        source: Box<LoadError>,
    },
    /// What is to be remembered could not be written.
    #[error("plugin `{plugin}`: cannot remember that")]
    Store {
        /// The plugin.
        plugin: String,
        /// Why.
        source: io::Error,
    },
    /// Its host is stopping.
    #[error("plugin `{plugin}`: its host is stopping")]
    Stopping {
        /// The plugin.
        plugin: String,
    },
}
