//! The file a manifest starts: which one on this platform, and where it may lie.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::document::{Named, Value};
use super::error::{Fault, ManifestProblem, did_you_mean};

/// Operating systems and architectures, as Rust calls them; anything else in an `entry` is a typo.
const SYSTEMS: [&str; 10] =
    ["linux", "macos", "windows", "android", "ios", "freebsd", "netbsd", "openbsd", "dragonfly", "illumos"];
const ARCHITECTURES: [&str; 11] =
    ["x86_64", "aarch64", "x86", "arm", "riscv64", "riscv32", "powerpc64", "powerpc", "s390x", "loongarch64", "mips64"];

/// A platform: operating system and architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Platform {
    pub(super) os: &'static str,
    pub(super) arch: &'static str,
}

impl Platform {
    pub(super) const HERE: Platform = Platform { os: std::env::consts::OS, arch: std::env::consts::ARCH };
}

/// The `entry`, or its `sha256`, for a platform: the only one, or of a table the most specific that fits.
pub(super) fn for_platform(entry: Named, platform: Platform) -> Result<Named, Fault> {
    let Value::Table(table) = &entry.value.value else {
        // Whether a string or something else: the caller wants a string from here on.
        return Ok(entry);
    };
    let whole = &entry.key;
    // As in the header of a native library and in its errors: `x86_64-linux`.
    let exact = format!("{}-{}", platform.arch, platform.os);
    let mut written = Vec::new();
    for (key, _) in table {
        let name = &key.value;
        let (arch, os) = name.split_once('-').unwrap_or((ARCHITECTURES[0], name));
        let hint = match (SYSTEMS.contains(&os), ARCHITECTURES.contains(&arch)) {
            (true, true) => None,
            (false, true) if name.contains('-') => Some(did_you_mean(&format!("{whole}.{arch}-"), os, SYSTEMS)),
            (false, _) => Some(did_you_mean(&format!("{whole}."), os, SYSTEMS)),
            (true, false) => Some(
                jackfield_protocol::nearest(arch, ARCHITECTURES)
                    .map_or_else(String::new, |near| format!("; did you mean `{whole}.{near}-{os}`?")),
            ),
        };
        if let Some(hint) = hint {
            let problem = ManifestProblem::UnknownKey { key: format!("{whole}.{name}"), hint };
            return Err(Fault::at(key.at, problem));
        }
        written.push(format!("`{name}`"));
    }
    let find = |name: &str| table.iter().find(|(key, _)| key.value == name);
    match find(&exact).or_else(|| find(platform.os)) {
        Some((key, value)) => Ok(Named { key: format!("{whole}.{}", key.value), value: value.clone() }),
        None => {
            written.sort_unstable();
            let written = match written.is_empty() {
                true => "no platform".to_owned(),
                false => written.join(", "),
            };
            Err(entry.fault(ManifestProblem::OtherPlatforms { key: whole.clone(), written, here: exact }))
        }
    }
}

/// The file that `written` names, which must be in `directory`, symbolic links followed.
///
/// The answer is `directory` joined with what was written, not its target: when a link is set to
/// another file, the plugin is the other file.
pub(super) fn inside(directory: &Path, written: &Named) -> Result<PathBuf, Fault> {
    let text = written.text()?;
    let fault = |why: String| {
        let (key, path) = (written.key.clone(), text.to_owned());
        written.fault(ManifestProblem::Path { key, path, why })
    };
    let mut depth = 0_usize;
    let mut inner = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => {
                depth += 1;
                inner.push(name);
            }
            Component::CurDir => {}
            Component::ParentDir => {
                let climbs = || fault("climbs out of the directory of the manifest".to_owned());
                depth = depth.checked_sub(1).ok_or_else(climbs)?;
                inner.push("..");
            }
            Component::RootDir | Component::Prefix(_) => {
                return Err(fault("is not relative to the directory of the manifest".to_owned()));
            }
        }
    }
    if depth == 0 {
        return Err(fault("is not a file".to_owned()));
    }
    let path = directory.join(inner);
    let target = path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => fault("does not exist".to_owned()),
        _ => fault(format!("cannot be found: {error}")),
    })?;
    let home = directory.canonicalize().map_err(|error| fault(format!("cannot be found: {error}")))?;
    if !target.starts_with(&home) {
        let target = target.display();
        return Err(fault(format!("leads out of the directory of the manifest, to `{target}`")));
    }
    if !target.is_file() {
        return Err(fault("is not a file".to_owned()));
    }
    Ok(path)
}

/// Extensions of dynamic libraries, and the systems that load them.
const LIBRARIES: [(&str, &str); 3] = [("so", "linux"), ("dylib", "macos"), ("dll", "windows")];

/// A file that is called like a dynamic library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LibraryName<'a> {
    /// The name without extension: `libresize`.
    pub(crate) stem: &'a str,
    /// `so`, `dylib` or `dll`.
    pub(crate) extension: &'static str,
    /// A system that loads such files; `linux` stands for each that calls them `.so`.
    pub(crate) system: &'static str,
}

impl<'a> LibraryName<'a> {
    /// Takes the name of a library apart; none if it is not called like one.
    ///
    /// `.so` may be followed by version numbers: `libresize.so.1.2`.
    pub(crate) fn of(file: &'a Path) -> Option<Self> {
        let name = file.file_name()?.to_str()?;
        let unversioned = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        LIBRARIES.into_iter().find_map(|(extension, system)| {
            let name = if extension == "so" { unversioned } else { name };
            let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
            Some(Self { stem, extension, system })
        })
    }
}

/// Whether a file is called like WebAssembly.
pub(crate) fn is_wasm(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "wasm")
}
