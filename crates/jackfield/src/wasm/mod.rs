//! `wasm`: a plugin as a WebAssembly file, in a sandbox of the host's process.
//!
//! Three kinds are told apart by their bytes: a component, whose functions are called by its own types; an
//! Extism plugin, a core module that imports `extism:host/env`; a WASI command, which speaks the process
//! protocol on its stdin and stdout. Besides, the functions of a bare core module can be called with numbers.
//!
//! Guaranteed: a guest reaches nothing that its manifest does not grant: no file, no variable, no host; its
//! memory, tables, stack and time are bounded; a trap ends the call it happened in, and the next call gets a
//! new instance; ending one call never ends another, whatever they share. What a guest says of its memory is
//! checked before a byte of it is read. Compiling is bounded in time and in the size of the file, and never
//! keeps the application's threads. Compiled code that is kept on disk is used only if this user wrote it.
//!
//! Not guaranteed: that compiling a hostile file costs little before its time is over; that a guest cannot
//! learn what the processor's caches tell about its host.
//!
//! Order: read, compile or take from the cache (`compile`, `cache`), find the kind and link (`kind`), make
//! the first instance and ask who it is (`instances`), talk (`session`).

mod cache;
mod command;
mod compile;
mod component;
mod core;
mod engine;
mod extism;
mod grants;
mod guest;
mod instances;
mod kind;
mod output;
mod session;
mod slot;
mod trap;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use wasmtime::Engine;

pub use compile::CompileError;

use crate::manifest::Instances as Policy;
use crate::mechanism::{Spec, Started};

use compile::{Code, Shape};
use engine::EngineKey;

/// Why a WebAssembly file was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WasmError {
    /// It cannot be read.
    #[error("cannot read the file")]
    Read {
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than `module_bytes`.
    #[error("limit `module_bytes`: the file is longer than {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// Its bytes are no WebAssembly.
    #[error("{what}")]
    NotWasm {
        /// What was seen.
        what: String,
    },
    /// It could not be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The engine would not start, which is the host's fault or the machine's.
    #[error("cannot make an engine: {what}")]
    Engine {
        /// Its words.
        what: String,
    },
    /// A module that is none of the kinds.
    #[error(
        "neither a component, nor an Extism plugin, nor a WASI command, nor a module with numeric functions: \
         it exports {exported} and imports from {imported}"
    )]
    NoPlugin {
        /// Names of its exports.
        exported: String,
        /// Modules it imports from.
        imported: String,
    },
    /// It imports what this host does not offer.
    #[error("it imports what this host does not offer: {missing}{hint}")]
    Imports {
        /// All of it.
        missing: String,
        /// What grants or provides it, or nothing.
        hint: String,
    },
    /// A directory that the manifest grants cannot be opened.
    #[error("cannot grant `{}`", path.display())]
    Grant {
        /// The directory.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// Its first instance could not be made, or trapped at its start.
    #[error("its start failed: {cause}")]
    Start {
        /// How: a trap, a limit, the end of its time.
        cause: jackfield_protocol::call::Cause,
    },
    /// What it says of itself, or what the manifest says of it, is not what it is.
    #[error("{what}")]
    Describe {
        /// What was seen, and what was expected.
        what: String,
    },
}

/// Loads a WebAssembly file and makes its first instance.
pub(crate) async fn start(spec: Spec, runtime: &Handle) -> Result<Started, WasmError> {
    let spec = Arc::new(spec);
    let log = Arc::clone(&spec.log);
    let bytes = match spec.checked_bytes() {
        Some(checked) => checked,
        None => read(&spec.entry, spec.limits.module_bytes_max, runtime).await?,
    };
    let shape = shape(&bytes)?;
    let (engine, code) = code(&spec, &bytes, shape).await?;
    let mut plugin = kind::Plugin::link(&engine, code, &spec, &bytes)?;
    let maker = instances::Maker::new(engine, Arc::clone(&spec), Arc::clone(&log), &plugin, runtime);
    let first = maker.first(&mut plugin).await?;
    let session = session::WasmSession::new(spec, plugin, maker, first);
    Ok(Started { session: Arc::new(session), log })
}

/// Compiles, for instances from the pool where many are made and the pool can hold them.
async fn code(spec: &Spec, bytes: &Arc<[u8]>, shape: Shape) -> Result<(Engine, Code), WasmError> {
    let cannot = |error: wasmtime::Error| WasmError::Engine { what: format!("{error:#}") };
    let cache = cache::Cache::open(spec.cache_dir.join("wasm"), cache::BYTES_MAX);
    let limits = &spec.limits;
    let key = EngineKey { stack_bytes: limits.stack_bytes_max, fuel: limits.fuel_max.is_some(), pooled: false };
    let compile = async |engine: Engine| {
        let (code, _) = compile::code(&engine, shape, Arc::clone(bytes), &cache, limits.compile_timeout).await?;
        if let Code::Module(module) = &code {
            extism::kernel::prepare(&engine, module, &cache, limits.compile_timeout).await;
        }
        Ok::<_, WasmError>((engine, code))
    };
    // One instance gains nothing from a pool, and in one that is shared by all it would wait for others.
    if !matches!(spec.wasm.instances, Policy::Shared)
        && let Ok(engine) = engine::engine(EngineKey { pooled: true, ..key })
    {
        match compile(engine).await {
            // What is larger than a slot of the pool is refused like what is broken; if it is broken, the other
            // engine says so, too.
            Err(error @ WasmError::Compile(CompileError::Invalid { .. })) => {
                tracing::debug!(target: "jackfield::wasm", plugin = spec.name, "not from the pool: {error}")
            }
            made => return made,
        }
    }
    compile(engine::engine(key).map_err(cannot)?).await
}

/// A file of so many bytes is read where it is wanted: to hand it to another thread takes longer.
const READ_HERE_BYTES: u64 = 1 << 20;

async fn read(path: &Path, max: u64, runtime: &Handle) -> Result<Arc<[u8]>, WasmError> {
    let small = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= READ_HERE_BYTES);
    let read = if small {
        // One that has grown by now is refused below, or read to its end.
        read_up_to(path, max)
    } else {
        let path = path.to_owned();
        let reading = runtime.spawn_blocking(move || read_up_to(&path, max));
        reading.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    };
    let bytes = read.map_err(|source| WasmError::Read { source })?;
    match bytes.len() as u64 > max {
        true => Err(WasmError::TooLarge { max }),
        false => Ok(bytes),
    }
}

/// The bytes of a file, and one more than may be if there are more.
fn read_up_to(path: &Path, max: u64) -> std::io::Result<Arc<[u8]>> {
    let mut file = std::fs::File::open(path)?.take(max.saturating_add(1));
    let expected = usize::try_from(file.get_ref().metadata()?.len().min(file.limit())).unwrap_or(0);
    // Where they stay: memory that is new costs more than what is read into it.
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, expected).collect();
    let mut read = 0;
    if let Some(room) = Arc::get_mut(&mut bytes) {
        while read < expected {
            match file.read(&mut room[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    // It may have been written to since, or be none of a known length.
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    match read == expected && rest.is_empty() {
        true => Ok(bytes),
        false => Ok([&bytes[..read], &rest].concat().into()),
    }
}

/// A module or a component, by the first eight bytes.
fn shape(bytes: &[u8]) -> Result<Shape, WasmError> {
    let not = |what: String| Err(WasmError::NotWasm { what });
    let Some((head, _)) = bytes.split_first_chunk::<8>() else {
        return match bytes.is_empty() {
            true => not("the file is empty".to_owned()),
            false => not(format!("the file is cut off: it has {} bytes", bytes.len())),
        };
    };
    match head {
        [0, b'a', b's', b'm', 1, 0, 0, 0] => Ok(Shape::Module),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0] => Ok(Shape::Component),
        [0, b'a', b's', b'm', a, b, c, d] => {
            not(format!("a WebAssembly file of version {a:02x} {b:02x} {c:02x} {d:02x}, which this host does not know"))
        }
        [0x7f, b'E', b'L', b'F', ..] => not("not WebAssembly, but a library or program (ELF)".to_owned()),
        [b'M', b'Z', ..] => not("not WebAssembly, but a library or program of Windows".to_owned()),
        head if str::from_utf8(bytes).is_ok() => {
            let text = String::from_utf8_lossy(head);
            not(format!("not WebAssembly, but text that begins with {text:?}"))
        }
        head => {
            let seen: Vec<_> = head.iter().map(|byte| format!("{byte:02x}")).collect();
            not(format!("not WebAssembly: it begins with {}", seen.join(" ")))
        }
    }
}

/// Time that has been spent is not given again.
fn left(timeout: Duration, since: std::time::Instant) -> Duration {
    timeout.saturating_sub(since.elapsed())
}
