//! Manifests: what a plugin says of itself before anything of it runs, in `plugin.toml` or `plugin.json`.
//!
//! Everything written is checked here, with its line and column: keys, types, names, limits that the
//! mechanism cannot hold, files that must exist. What the plugin later reports is compared with it by
//! the host.
//!
//! Not here: finding manifests (`discover.rs`), starting what they name (`native/`, `process/`, `grpc/`, `wasm/`).

mod confinement;
mod document;
mod entry;
mod error;
mod grpc;
mod instances;
mod lifecycle;
mod limits;
mod sandbox;
mod service;
mod trust;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::regular_file;
use jackfield_protocol::{Capability, Interface, InterfaceId};
use semver::Version;
use sha2::{Digest as _, Sha256};

use document::{Keys, Named, Table};
use entry::Platform;
use error::{Fault, did_you_mean};

pub use confinement::{Confinement, Isolation, NetGrant};
pub(crate) use entry::{LibraryName, is_wasm};
pub use error::{ManifestError, ManifestProblem, Position};
pub use grpc::{Cookie, GrpcSpec, Reattach, ReattachAddress};
pub use instances::{Instances, PoolSpec};
pub use lifecycle::LifecycleSpec;
pub use limits::{LimitRefusal, LimitsSpec};
pub use sandbox::Grants;
pub use service::{Address, AddressError, LogFormat, ServiceConfig, UnknownLogFormat};
pub use trust::{Exposure, Signatures, TrustSpec};
pub use units::{UnitError, parse_duration};

/// A plugin's manifest, `plugin.toml` or `plugin.json`.
///
/// Only `name` and `entry` are required. A key that is not listed here is refused.
///
/// ```toml
/// name = "resize"
/// version = "1.4.0"
/// entry = { linux = "libresize.so", macos = "libresize.dylib", windows = "resize.dll" }
/// capabilities = ["batch@2"]
///
/// [limits]
/// answer_bytes = "64MiB"
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Manifest {
    /// `name`, required: 1 to 64 of `a` to `z`, `0` to `9` and `-`, the first not `-`.
    pub name: String,
    /// `version`: semantic version. Default: what the plugin reports.
    pub version: Option<Version>,
    /// `description`: a line for people. Default: empty.
    pub description: String,
    /// `mechanism`: `"native"`, `"process"`, `"grpc"` or `"wasm"`. Default: told from `entry`, `native` for
    /// the name of a dynamic library (`.so`, `.dylib`, `.dll`), `wasm` for `.wasm`, else `process`: that a
    /// program speaks gRPC cannot be seen.
    pub mechanism: MechanismKind,
    /// `entry`, required: the library, program or WebAssembly file, as a path from the manifest's
    /// directory, which it must not leave, symbolic links followed. Either one string, or a table from
    /// platforms, `linux` or `aarch64-linux`, to strings, of which the most specific counts.
    ///
    /// Here it is joined with the directory.
    pub entry: PathBuf,
    /// `sha256` of the entry, in hexadecimal digits, or a table like that of `entry`. What is loaded is what was
    /// hashed; other bytes are refused. Default: not checked.
    pub sha256: Option<[u8; 32]>,
    /// `args`: arguments of the program, or of a WASI command, after its name. Default: none.
    /// All but `native`.
    pub args: Vec<String>,
    /// `env`: for `process` and `grpc`, variables added to the program's environment; for `wasm`, the whole
    /// environment of the guest. Default: none. All but `native`.
    pub env: BTreeMap<String, String>,
    /// `config`: a table of strings, the configuration that an Extism plugin asks for by key.
    /// Default: none. `wasm` only.
    pub config: BTreeMap<String, String>,
    /// `abi`: `"extism"` if a core module is an Extism plugin although it imports nothing that says
    /// so. Default: told from the module. `wasm` only.
    pub abi: Option<WasmAbi>,
    /// `instances`: `"shared"`, `"fresh"` or `{ pool = { max = 8, idle = "60s", max_calls = 10000 } }`.
    /// Default: shared. `wasm` only.
    pub instances: Instances,
    /// `[sandbox]` of a WebAssembly plugin: directories and hosts that the guest may reach. Default: nothing.
    pub sandbox: Grants,
    /// `[sandbox]` of a program, and of a native plugin with `isolation = "process"`: how far it is shut in, and
    /// what it may reach all the same. Default: what the host says ([`HostBuilder::sandbox`](crate::HostBuilder::sandbox)).
    pub confinement: Confinement,
    /// `isolation`: `"process"` to load the library in a process of its own, `"none"` to load it into the
    /// host's. Default: what the host says. `native` only.
    pub isolation: Option<Isolation>,
    /// `best_effort`: limits and parts of the sandbox, by name, that may be missing where the platform does not
    /// have them; [`PluginInfo::enforced`](crate::PluginInfo::enforced) says so then. Default: none may.
    pub best_effort: Vec<String>,
    /// `[grpc]`: what go-plugin leaves to the application. Default: what a plugin of Jackfield's own SDK
    /// expects. `grpc` only.
    pub grpc: GrpcSpec,
    /// `interfaces`: names with versions, `demo:greeter/greeter@1.0.0`. Default: not declared. The
    /// plugin must report each of them.
    pub interfaces: Vec<InterfaceId>,
    /// `descriptions`: files with interface descriptions as JSON, under the rules of `entry`, for a
    /// plugin that reports only names. Default: none. Here they are read.
    pub descriptions: Vec<Interface>,
    /// Where they were read.
    description_files: Vec<PathBuf>,
    /// SHA-256 of the bytes that all this was read from, if it was.
    pub(crate) own_sha256: Option<[u8; 32]>,
    /// `capabilities`: `batch@2`. Default: not declared. The plugin must report each of them.
    pub capabilities: Vec<Capability>,
    /// `[limits]`. Default: those of the host. One that the mechanism cannot enforce is refused.
    pub limits: LimitsSpec,
    /// `[lifecycle]` and `[reload]`. Default: those of the host. One that the mechanism has no use for is
    /// refused.
    pub lifecycle: LifecycleSpec,
}

/// Most bytes of a manifest or of an interface description that are read.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Manifest {
    /// Reads a manifest: as JSON if it is called `*.json`, else as TOML. Starts nothing.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let directory = tempfile::tempdir()?;
    /// let file = directory.path().join("plugin.toml");
    /// std::fs::write(directory.path().join("libresize.so"), "")?;
    ///
    /// std::fs::write(&file, "name = 'resize'\nentry = 'libresize.so'")?;
    /// let manifest = jackfield::Manifest::read(&file)?;
    /// assert_eq!(manifest.mechanism, jackfield::MechanismKind::Native);
    ///
    /// std::fs::write(&file, "name = 'resize'\nentri = 'libresize.so'")?;
    /// let error = jackfield::Manifest::read(&file).unwrap_err().to_string();
    /// assert!(error.ends_with("plugin.toml:2:1: unknown key `entri`; did you mean `entry`?"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(file: &Path) -> Result<Self, ManifestError> {
        Self::read_on(Platform::HERE, file)
    }

    fn read_on(platform: Platform, file: &Path) -> Result<Self, ManifestError> {
        let read = read_located(file, |table, directory| Self::from_table(table, directory, platform));
        read.map(|(manifest, hash)| Self { own_sha256: Some(hash), ..manifest })
    }

    fn from_table(table: Table, directory: &Path, platform: Platform) -> Result<Self, Fault> {
        const KEYS: [&str; 21] = [
            "name",
            "version",
            "description",
            "mechanism",
            "entry",
            "sha256",
            "args",
            "env",
            "config",
            "abi",
            "instances",
            "sandbox",
            "isolation",
            "best_effort",
            "grpc",
            "interfaces",
            "descriptions",
            "capabilities",
            "limits",
            "lifecycle",
            "reload",
        ];
        let mut keys = Keys::new("", table, &KEYS)?;
        // What is absent has no place; the start of the file is where an editor opens it.
        let missing = |key| Fault::at(0, ManifestProblem::Missing { key });

        let name = plugin_name(&keys.take("name").ok_or_else(|| missing("name"))?)?;
        let version = keys.take("version").map(|written| version(&written)).transpose()?;
        let description = keys.take("description").map(|text| text.text().map(str::to_owned));
        let entry = keys.take("entry").ok_or_else(|| missing("entry"))?;
        let entry = entry::inside(directory, &entry::for_platform(entry, platform)?)?;
        let pinned = keys.take("sha256").map(|written| entry::for_platform(written, platform)).transpose()?;
        let mechanism = match keys.take("mechanism") {
            Some(written) => written.text()?.parse().map_err(|error: UnknownMechanism| written.fault(error))?,
            None => MechanismKind::of_file(&entry),
        };
        let mut fitting = |key| match (keys.take(key), mechanism.no_use_for(key)) {
            (Some(written), Some(why)) => Err(written.fault(ManifestProblem::NoUse { key, mechanism, why })),
            (written, _) => Ok(written),
        };
        let (args, env, config) = (fitting("args")?, fitting("env")?, fitting("config")?);
        let (abi, instances) = (fitting("abi")?, fitting("instances")?);
        let grpc = fitting("grpc")?;
        let best_effort = fitting("best_effort")?;
        let isolation: Option<Isolation> = fitting("isolation")?.map(|written| written.parsed()).transpose()?;
        // What is in a process of its own is a program to the operating system.
        let confined_as = match isolation {
            Some(Isolation::Process) => MechanismKind::Process,
            _ => mechanism,
        };
        let (sandbox, confinement) = match (keys.take("sandbox"), confined_as) {
            (None, _) => (Grants::default(), Confinement::default()),
            (Some(written), MechanismKind::Wasm) => (Grants::read(written, directory)?, Confinement::default()),
            (Some(written), MechanismKind::Native) => {
                let why = "nothing keeps a native plugin from what the host itself may reach, unless it says \
                           `isolation = \"process\"`";
                return Err(written.fault(ManifestProblem::NoUse { key: "sandbox", mechanism, why }));
            }
            (Some(written), MechanismKind::Process | MechanismKind::Grpc) => {
                (Grants::default(), Confinement::read(written, directory)?)
            }
        };
        let limits = keys.take("limits").map(|limits| LimitsSpec::read(limits.table()?, confined_as));
        let described = list(keys.take("descriptions"), |item| described(directory, item))?;
        let (description_files, descriptions) = described.into_iter().unzip();
        let lifecycle = keys.take("lifecycle").map(Named::table).transpose()?;
        let reload = keys.take("reload").map(Named::table).transpose()?;
        Ok(Self {
            name,
            version,
            description: description.transpose()?.unwrap_or_default(),
            mechanism,
            entry,
            sha256: pinned.map(|digits| sha256(&digits)).transpose()?,
            args: list(args, |item| item.text().map(str::to_owned))?,
            env: env.map(environment).transpose()?.unwrap_or_default(),
            config: config.map(|config| texts(config, |_| None)).transpose()?.unwrap_or_default(),
            abi: abi.map(|written| written.parsed()).transpose()?,
            instances: instances.map(Instances::read).transpose()?.unwrap_or_default(),
            sandbox,
            confinement,
            isolation,
            best_effort: list(best_effort, confinement::part)?,
            grpc: grpc.map(|grpc| GrpcSpec::read(grpc, directory)).transpose()?.unwrap_or_default(),
            interfaces: list(keys.take("interfaces"), Named::parsed)?,
            descriptions,
            description_files,
            own_sha256: None,
            capabilities: list(keys.take("capabilities"), Named::parsed)?,
            limits: limits.transpose()?.unwrap_or_default(),
            lifecycle: LifecycleSpec::read(lifecycle, reload, mechanism)?,
        })
    }

    /// What a file without a manifest is taken for.
    pub(crate) fn bare(name: String, file: &Path) -> Self {
        Self {
            name,
            version: None,
            description: String::new(),
            mechanism: MechanismKind::of_file(file),
            entry: file.to_owned(),
            sha256: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            config: BTreeMap::new(),
            abi: None,
            instances: Instances::default(),
            sandbox: Grants::default(),
            confinement: Confinement::default(),
            isolation: None,
            best_effort: Vec::new(),
            grpc: GrpcSpec::default(),
            interfaces: Vec::new(),
            descriptions: Vec::new(),
            description_files: Vec::new(),
            own_sha256: None,
            capabilities: Vec::new(),
            limits: LimitsSpec::default(),
            lifecycle: LifecycleSpec::default(),
        }
    }

    /// The files that a plugin is made of beside its manifest: its entry, and what else the manifest names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let GrpcSpec { descriptor_set, lock, .. } = &self.grpc;
        let more = self.description_files.iter().chain(descriptor_set).chain(lock);
        [&self.entry].into_iter().chain(more).map(PathBuf::as_path)
    }
}

/// How a host reaches a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MechanismKind {
    /// A shared library in the host's process: fastest, and not isolated at all.
    Native,
    /// A program that speaks JSON lines on its standard input and output.
    Process,
    /// A program that speaks hashicorp/go-plugin's gRPC protocol.
    Grpc,
    /// A WebAssembly component or module, compiled into the host's process and kept in a sandbox.
    Wasm,
}

impl MechanismKind {
    /// All of them.
    pub const ALL: [MechanismKind; 4] =
        [MechanismKind::Native, MechanismKind::Process, MechanismKind::Grpc, MechanismKind::Wasm];

    /// `native`, `process`, `grpc`, `wasm`.
    pub const fn as_str(self) -> &'static str {
        match self {
            MechanismKind::Native => "native",
            MechanismKind::Process => "process",
            MechanismKind::Grpc => "grpc",
            MechanismKind::Wasm => "wasm",
        }
    }

    /// What a file is by its name.
    fn of_file(file: &Path) -> Self {
        match LibraryName::of(file) {
            Some(_) => MechanismKind::Native,
            None if is_wasm(file) => MechanismKind::Wasm,
            None => MechanismKind::Process,
        }
    }

    /// Why a key means nothing for this mechanism; `None` if it does. Limits apart.
    fn no_use_for(self, key: &str) -> Option<&'static str> {
        match (self, key) {
            (MechanismKind::Native, "args" | "env") => Some("a native plugin is not started as a program"),
            (MechanismKind::Native, "instances") => Some("a native plugin has the instance that its library makes"),
            (MechanismKind::Process | MechanismKind::Grpc, "instances") => Some("a program is one instance"),
            (MechanismKind::Native | MechanismKind::Process | MechanismKind::Grpc, "config" | "abi") => {
                Some("only WebAssembly can be an Extism plugin")
            }
            (MechanismKind::Process | MechanismKind::Grpc, "isolation") => Some("a program has a process of its own"),
            (MechanismKind::Wasm, "isolation") => Some("a guest is isolated by the memory of its own"),
            (MechanismKind::Wasm, "best_effort") => Some("all that WebAssembly is limited by is there everywhere"),
            (MechanismKind::Native | MechanismKind::Process | MechanismKind::Wasm, "grpc") => {
                Some("only a program that speaks go-plugin's protocol has what it is for")
            }
            _ => None,
        }
    }
}

impl fmt::Display for MechanismKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MechanismKind {
    type Err = UnknownMechanism;

    fn from_str(text: &str) -> Result<Self, UnknownMechanism> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| UnknownMechanism {
            name: text.to_owned(),
            hint: did_you_mean("", text, Self::ALL.map(Self::as_str)),
        })
    }
}

/// The name of no mechanism.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mechanism is called {name:?}{hint}")]
pub struct UnknownMechanism {
    /// What was written.
    pub name: String,
    /// The nearest mechanism, or nothing.
    pub hint: String,
}

/// What a core module speaks, where it cannot be told from the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WasmAbi {
    /// `"extism"`: its exported functions without parameters are Extism's.
    Extism,
}

impl FromStr for WasmAbi {
    type Err = UnknownAbi;

    fn from_str(text: &str) -> Result<Self, UnknownAbi> {
        match text {
            "extism" => Ok(WasmAbi::Extism),
            _ => Err(UnknownAbi { name: text.to_owned() }),
        }
    }
}

/// An `abi` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not an ABI that a module may be said to have; there is `extism`")]
pub struct UnknownAbi {
    name: String,
}

/// Whether a plugin may be called `name`.
pub(crate) fn is_plugin_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 64 && name.starts_with(plain) && name.chars().all(|c| plain(c) || c == '-')
}

fn plugin_name(written: &Named) -> Result<String, Fault> {
    let name = written.text()?;
    match is_plugin_name(name) {
        true => Ok(name.to_owned()),
        false => Err(written.bad(format_args!(
            "{name:?} is not a plugin's name: 1 to 64 of `a` to `z`, `0` to `9` and `-`, the first not `-`"
        ))),
    }
}

fn version(written: &Named) -> Result<Version, Fault> {
    let text = written.text()?;
    Version::parse(text).map_err(|error| written.bad(format_args!("{text:?} is not a semantic version: {error}")))
}

fn sha256(written: &Named) -> Result<[u8; 32], Fault> {
    let text = written.text()?;
    let wrong = || written.bad(format_args!("{text:?} is not a SHA-256: 64 hexadecimal digits"));
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

fn list<T>(written: Option<Named>, item: impl Fn(&Named) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    let items = written.map(Named::list).transpose()?.unwrap_or_default();
    items.iter().map(item).collect()
}

fn environment(written: Named) -> Result<BTreeMap<String, String>, Fault> {
    // The operating system would take a part of such a name for the value.
    let is_none = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    texts(written, |name| is_none(name).then(|| format!("{name:?} is not the name of a variable")))
}

/// A table of strings. `wrong` says what is wrong with a key of it.
fn texts(written: Named, wrong: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>, Fault> {
    let mut texts = BTreeMap::new();
    let table = written.key.clone();
    for (name, value) in written.table()? {
        let value = Named { key: format!("{table}.{}", name.value), value };
        if let Some(why) = wrong(&name.value) {
            return Err(Fault::at(name.at, ManifestProblem::BadValue { key: table, why }));
        }
        if texts.insert(name.value, value.text()?.to_owned()).is_some() {
            return Err(Fault::at(name.at, ManifestProblem::Twice { key: value.key }));
        }
    }
    Ok(texts)
}

fn described(directory: &Path, written: &Named) -> Result<(PathBuf, Interface), Fault> {
    let file = entry::inside(directory, written)?;
    let path = || written.text().unwrap_or_default().to_owned();
    let fault = |why: String| written.fault(ManifestProblem::Path { key: written.key.clone(), path: path(), why });
    let bytes = read_bytes(&file).map_err(|problem| match problem {
        ManifestProblem::Unreadable { source } => fault(format!("cannot be read: {source}")),
        problem => fault(problem.to_string()),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| fault("is not UTF-8".to_owned()))?;
    match Interface::from_json(&text) {
        Ok(described) => Ok((file, described)),
        Err(source) => Err(written.fault(ManifestProblem::Description { path: path(), source })),
    }
}

/// Reads a file as JSON if it is called `*.json`, else as TOML, and makes something of its table and its
/// directory. What is wrong gets the place where it stands. With it comes the SHA-256 of what was read.
fn read_located<T>(
    file: &Path,
    make: impl FnOnce(Table, &Path) -> Result<T, Fault>,
) -> Result<(T, [u8; 32]), ManifestError> {
    let whole = |problem| ManifestError { file: file.to_owned(), position: None, problem };
    let bytes = read_bytes(file).map_err(whole)?;
    let text = str::from_utf8(&bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let position = Some(Position::of(&valid, valid.len()));
        ManifestError { position, ..whole(ManifestProblem::NotUtf8) }
    })?;
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    let table = if is_json { document::from_json(text) } else { document::from_toml(text) };
    let directory = file.parent().unwrap_or(Path::new(""));
    let made = table.and_then(|table| make(table, directory)).map_err(|fault| {
        let position = Some(Position::of(text, fault.at));
        ManifestError { position, ..whole(fault.problem) }
    })?;
    Ok((made, Sha256::digest(&bytes).into()))
}

fn read_bytes(file: &Path) -> Result<Vec<u8>, ManifestProblem> {
    let mut bytes = Vec::new();
    regular_file::open(file)
        .and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| ManifestProblem::Unreadable { source })?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(ManifestProblem::TooLong { bytes_max: FILE_BYTES_MAX }),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
