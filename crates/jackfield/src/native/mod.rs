//! `native`: a plugin as a shared library, behind the C ABI of `jackfield.h`.
//!
//! Guaranteed: the file is checked before any of its code runs (format, machine, completeness, ABI
//! version); what is loaded is a private copy of exactly the bytes that were checked; a panic of
//! Rust code behind the SDK is an error of that call; an answer is copied once, into memory of the
//! host's, and its size is bounded.
//!
//! Not guaranteed, since a library shares the host's memory and fate: an abort, a segmentation
//! fault or a stack overflow in it ends the host; a call cannot be stopped, so there is no time-out;
//! nothing keeps it from reading, writing or allocating. Whatever must be survived belongs into a
//! process.
//!
//! A library is never unloaded: thread-locals, threads and exit handlers of a library outlive every
//! `dlclose`, and it then either stays mapped or takes the host down. [`libraries_loaded`] counts.
//!
//! Order: read, check (`file`), copy (`private_copy`), load and register (`jackfield-native`), talk (`session`).

mod file;
mod session;

use std::path::PathBuf;
use std::sync::Arc;

pub use jackfield_native::libraries_loaded;
use jackfield_native::{Lent, NativeError};
use jackfield_protocol::native::level;
use tracing::Level;

use crate::log::PluginLog;
use crate::mechanism::{Spec, Started};
use crate::private_copy::{CopyError, Kind, private_copy};

/// Why a shared library was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// It cannot be read.
    #[error("cannot read the library")]
    Read {
        /// Why.
        source: std::io::Error,
    },
    /// Its bytes are no shared library for this host.
    #[error("{what}")]
    NotALibrary {
        /// What was seen.
        what: String,
    },
    /// It speaks another ABI.
    #[error("the plugin speaks ABI {plugin}, this host speaks {host}")]
    Abi {
        /// The plugin's `major.minor`.
        plugin: String,
        /// The host's.
        host: String,
    },
    /// It was built to abort when it panics, which would end the host.
    #[error("the library was built with `panic = \"abort\"`, so a panic in it would end the host")]
    PanicAborts,
    /// There is no private copy of it.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The operating system would not load it.
    #[error("the operating system will not load it: {what}")]
    Load {
        /// Its words.
        what: String,
    },
    /// `jackfield_register` refused or failed.
    #[error("`jackfield_register` {what}")]
    Register {
        /// How, with what the plugin logged meanwhile.
        what: String,
    },
}

/// Checks the bytes of a file without running any of them: whether they are a complete shared library
/// for this machine that can be a plugin of this host. The first thing that happens to a library.
pub fn check_library(bytes: &[u8]) -> Result<(), LibraryError> {
    file::check(bytes)
}

/// Loads a library. Blocks: call it where that is allowed.
pub(crate) fn start(spec: &Spec) -> Result<Started, LibraryError> {
    let copy = checked_copy(spec, file::check)?;
    let log = Arc::clone(&spec.log);
    let recorder = Arc::clone(log.recorder());
    let wanted = recorder.takes_spans();
    let spans = wanted.then(|| -> Box<jackfield_native::Spans> { Box::new(move |json: &[u8]| recorder.take(json)) });
    let lent = Lent { log: lines_into(&log), spans };
    let registered = jackfield_native::load(&copy, lent).map_err(|error| refused(error, &log))?;
    let session = session::NativeSession::new(registered, spec.limits.answer_bytes_max)?;
    Ok(Started { session: Arc::new(session), log })
}

/// The private copy of a library that is going to be loaded in another process. There it may abort.
/// Blocks.
#[cfg(feature = "process")]
pub(crate) fn copy_for_runner(spec: &Spec) -> Result<PathBuf, LibraryError> {
    checked_copy(spec, |bytes| match file::check(bytes) {
        Err(LibraryError::PanicAborts) => Ok(()),
        checked => checked,
    })
}

fn checked_copy(spec: &Spec, check: impl Fn(&[u8]) -> Result<(), LibraryError>) -> Result<PathBuf, LibraryError> {
    let bytes = match spec.checked_bytes() {
        Some(checked) => checked,
        None => std::fs::read(&spec.entry).map_err(|source| LibraryError::Read { source })?.into(),
    };
    check(&bytes)?;
    Ok(private_copy(&spec.cache_dir, Kind::Library, &bytes, &spec.entry)?)
}

/// What takes the lines of a library.
fn lines_into(log: &Arc<PluginLog>) -> Box<jackfield_native::Log> {
    let log = Arc::clone(log);
    Box::new(move |level, message| {
        let level = match level {
            level::ERROR => Level::ERROR,
            level::WARN => Level::WARN,
            level::DEBUG => Level::DEBUG,
            level::TRACE => Level::TRACE,
            _ => Level::INFO,
        };
        log.logged(level, message);
    })
}

/// The error, with what the library last said.
fn refused(error: NativeError, log: &PluginLog) -> LibraryError {
    let said = log.tail(3).join("; ");
    let said = if said.is_empty() { said } else { format!(": {said}") };
    match error {
        NativeError::Register { what } => LibraryError::Register { what: format!("{what}{said}") },
        NativeError::Load { what } => LibraryError::Load { what },
        other => LibraryError::Load { what: other.to_string() },
    }
}
