//! The fixture `versioned` in as many versions as a test wants, in every mechanism.
//!
//! Nothing is compiled: the marker in the built file is written over (`fixtures_api::versioned`).
//!
//! ```ignore
//! let plugins = Plugins::new();
//! versions::add(&plugins, "p", mechanism, "one", Mode::Ok);
//! let host = plugins.host().await;
//! versions::replace(&plugins, "p", &versions::build(mechanism, "two", Mode::Unhealthy));
//! ```

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fixtures_api::versioned::{MARKER, Mode, marker};
use jackfield::Manifest;

use super::{Fixture, Mechanism, Plugins, fixtures};

/// What every build offers, and what one with [`Mode::WrongInterface`] offers instead.
const ID: &[u8] = b"test:versioned/versioned@1.0.0";
const WRONG_ID: &[u8] = b"test:versioned/versioned@9.0.0";

/// The mechanisms of which this test has both the fixture and the host.
pub(crate) fn mechanisms() -> Vec<Mechanism> {
    let mut mechanisms = Vec::new();
    if cfg!(feature = "native") {
        mechanisms.push(Mechanism::Native);
    }
    if cfg!(feature = "process") {
        mechanisms.push(Mechanism::Process);
    }
    if cfg!(all(feature = "grpc", target_os = "linux")) {
        mechanisms.extend([Mechanism::Grpc, Mechanism::GrpcUnary]);
    }
    if cfg!(feature = "wasm") {
        mechanisms.extend([Mechanism::Extism, Mechanism::Component, Mechanism::Command]);
    }
    mechanisms
}

/// A file of the fixture with this label, which does wrong what the mode says.
pub(crate) fn build(mechanism: Mechanism, label: &str, mode: Mode) -> Vec<u8> {
    let cannot = mechanism == Mechanism::Native && mode == Mode::NoHello;
    assert!(!cannot, "a library that does not come back from its start has the host's thread for ever");
    let base = Base::of(mechanism);
    let mut bytes = base.bytes.clone();
    let mut write = |places: &[usize], new: &[u8]| {
        places.iter().for_each(|&at| bytes[at..at + new.len()].copy_from_slice(new));
    };
    write(&base.markers, &marker(label, mode));
    if mode == Mode::WrongInterface {
        write(&base.ids, WRONG_ID);
    }
    bytes
}

/// Adds a build as the plugin `name`.
pub(crate) fn add(plugins: &Plugins, name: &str, mechanism: Mechanism, label: &str, mode: Mode) {
    add_as(plugins, Fixture::new(mechanism, "versioned").named(name), label, mode);
}

/// Adds a build as this fixture says, which is one of `versioned`.
pub(crate) fn add_as(plugins: &Plugins, fixture: Fixture, label: &str, mode: Mode) {
    let (name, mechanism) = (fixture.name.clone(), fixture.mechanism);
    plugins.add(fixture);
    replace(plugins, &name, &build(mechanism, label, mode));
}

/// Replaces the file of a plugin as one should: the new one is written beside it and renamed over it.
pub(crate) fn replace(plugins: &Plugins, name: &str, build: &[u8]) {
    let file = entry(plugins, name);
    let beside = file.with_added_extension("new");
    write(&beside, build);
    fs::rename(&beside, &file).expect("in its place");
}

/// The file of a plugin.
pub(crate) fn entry(plugins: &Plugins, name: &str) -> PathBuf {
    Manifest::read(&plugins.path().join(name).join("plugin.toml")).expect("the plugin's manifest").entry
}

/// Writes a file that can be run at once. Another program writes it: a program that this process has open
/// for writing cannot be run, nor while a child that was just forked, on another thread, has inherited that.
#[cfg(unix)]
fn write(file: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(file).stdin(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell");
    shell.stdin.take().expect("its stdin").write_all(bytes).expect("all is taken");
    assert!(shell.wait().expect("its end").success(), "`{}` is written", file.display());
}

#[cfg(not(unix))]
fn write(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).expect("it is written");
}

/// A built file, and where in it is what makes the difference.
struct Base {
    bytes: Vec<u8>,
    markers: Vec<usize>,
    ids: Vec<usize>,
}

impl Base {
    /// Read and searched once for each file.
    fn of(mechanism: Mechanism) -> Arc<Self> {
        static READ: Mutex<Option<HashMap<PathBuf, Arc<Base>>>> = Mutex::new(None);
        let built = fixtures::built(mechanism, "versioned");
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        let base = read.get_or_insert_default().entry(built).or_insert_with_key(|built| {
            let entry = Manifest::read(&built.join("plugin.toml")).expect("the fixture's manifest").entry;
            let bytes = fs::read(&entry).expect("the fixture");
            let (markers, ids) = (places(&bytes, &MARKER), places(&bytes, ID));
            assert!(!markers.is_empty() && !ids.is_empty(), "`{}` has its marker and its interface", entry.display());
            Arc::new(Self { bytes, markers, ids })
        });
        Arc::clone(base)
    }
}

/// Where `part` stands.
fn places(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(part.len()).enumerate();
    windows.filter(|(_, window)| window[0] == part[0] && *window == part).map(|(at, _)| at).collect()
}
