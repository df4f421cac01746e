//! Functions that an application lends to its plugins: what an Extism plugin imports from `extism:host/user`.
//!
//! A function is called with numbers. Whatever else it takes and gives lies in the plugin's memory, and the
//! numbers are handles of blocks there; [`HostFunction::bytes`] and [`HostFunction::json`] read and write them.
//! A plugin gets a function only if its manifest grants it, by `host_functions` in `[sandbox]`.
//!
//! Not here: who links and calls them (`wasm/extism/user.rs`).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The module that Extism plugins import an application's functions from, unless they say another.
pub(crate) const NAMESPACE: &str = "extism:host/user";

/// Why a function of the application's gave nothing. It ends the call of the plugin that called it, with its
/// text in the failure.
pub type HostFunctionError = Box<dyn Error + Send + Sync>;

/// A function of the application's that Extism plugins may call, where their manifests grant it:
///
/// ```toml
/// [sandbox]
/// host_functions = ["kv_read"]
/// ```
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
/// use jackfield::{Host, HostFunction};
///
/// let store = Arc::new(Mutex::new(HashMap::<Vec<u8>, Vec<u8>>::new()));
/// let reads = Arc::clone(&store);
/// let builder = Host::builder()
///     .host_function(HostFunction::bytes("kv_read", move |[key]| {
///         reads.lock().unwrap().get(key).cloned().ok_or("no such key")
///     }))
///     .host_function(HostFunction::bytes("kv_write", move |[key, value]| {
///         store.lock().unwrap().insert(key.to_vec(), value.to_vec());
///         Ok::<_, std::convert::Infallible>(())
///     }));
/// ```
///
/// It runs on the thread of the call, which may be one of the application's runtime: what waits is made by
/// [`HostFunction::bytes_async`] or [`HostFunction::json_async`]. An error or a panic of it ends the call of
/// the plugin as `refused`, with the text; the plugin's instance is thrown away, and the next call gets a new one.
///
/// A deadline of the call holds here as well: a future is dropped at it; a function that is not async cannot
/// be interrupted, and when it comes back too late, the call ends then. It must not call the plugin that calls
/// it, unless that one has other `instances`: it would wait for itself.
#[derive(Clone)]
pub struct HostFunction {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) params: Arc<[NumberType]>,
    pub(crate) results: Arc<[NumberType]>,
    pub(crate) run: Run,
}

/// What a function does.
#[derive(Clone)]
pub(crate) enum Run {
    Now(Arc<Now>),
    /// With the bytes of its parameters, all of which are handles; it gives those of its result, if it has one.
    Later(Arc<Later>),
}

type Now = dyn Fn(&mut HostCall<'_>, &[Number], &mut [Number]) -> Result<(), HostFunctionError> + Send + Sync;
type Later = dyn Fn(Vec<Vec<u8>>) -> Answering + Send + Sync;
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Vec<u8>, HostFunctionError>> + Send>>;

impl HostFunction {
    /// A function of numbers, with the plugin's memory at hand.
    ///
    /// The results come as zeros, of the types that are said here, and are to be of them still when it returns.
    ///
    /// ```
    /// use jackfield::{HostFunction, NumberType::I64};
    ///
    /// let upper = HostFunction::new("upper", [I64], [I64], |call, params, results| {
    ///     let text = call.read(params[0])?.to_ascii_uppercase();
    ///     results[0] = call.put(&text)?;
    ///     Ok(())
    /// });
    /// ```
    pub fn new(
        name: impl Into<Arc<str>>,
        params: impl Into<Arc<[NumberType]>>,
        results: impl Into<Arc<[NumberType]>>,
        run: impl Fn(&mut HostCall<'_>, &[Number], &mut [Number]) -> Result<(), HostFunctionError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            namespace: NAMESPACE.into(),
            name: name.into(),
            params: params.into(),
            results: results.into(),
            run: Run::Now(Arc::new(run)),
        }
    }

    /// A function from bytes to bytes: its parameters, `N` of them, are handles, and so is its result. With `()`
    /// in place of bytes it has none.
    pub fn bytes<const N: usize, A, E>(
        name: impl Into<Arc<str>>,
        run: impl Fn([&[u8]; N]) -> Result<A, E> + Send + Sync + 'static,
    ) -> Self
    where
        A: HostAnswer,
        E: Into<HostFunctionError>,
    {
        Self::new(name, [NumberType::I64; N], A::results(), move |call, params, results| {
            let mut taken: [&[u8]; N] = [&[]; N];
            for (bytes, handle) in taken.iter_mut().zip(params) {
                *bytes = call.read(*handle)?;
            }
            let answer = run(taken).map_err(failed)?.into_bytes();
            if let [result] = results {
                *result = call.put(&answer)?;
            }
            Ok(())
        })
    }

    /// A function from a value to a value, both as JSON: one handle in, one out.
    pub fn json<P, A, E>(name: impl Into<Arc<str>>, run: impl Fn(P) -> Result<A, E> + Send + Sync + 'static) -> Self
    where
        P: DeserializeOwned,
        A: Serialize,
        E: Into<HostFunctionError>,
    {
        Self::bytes(name, move |[json]| {
            let answer = run(read_json(json)?).map_err(failed)?;
            Ok::<_, HostFunctionError>(serde_json::to_vec(&answer)?)
        })
    }

    /// As [`HostFunction::bytes`], for what waits. The future is dropped at the deadline of the call.
    pub fn bytes_async<const N: usize, F, A, E>(
        name: impl Into<Arc<str>>,
        run: impl Fn([Vec<u8>; N]) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<A, E>> + Send + 'static,
        A: HostAnswer,
        E: Into<HostFunctionError>,
    {
        let run = move |taken: Vec<Vec<u8>>| -> Answering {
            match taken.try_into() {
                Ok(taken) => {
                    let answering = run(taken);
                    Box::pin(async move { Ok(answering.await.map_err(failed)?.into_bytes()) })
                }
                // As many are read as there are parameters.
                Err(_) => unreachable!("there is a handle for each parameter"),
            }
        };
        Self {
            namespace: NAMESPACE.into(),
            name: name.into(),
            params: [NumberType::I64; N].into(),
            results: A::results().into(),
            run: Run::Later(Arc::new(run)),
        }
    }

    /// As [`HostFunction::json`], for what waits. The future is dropped at the deadline of the call.
    pub fn json_async<P, F, A, E>(name: impl Into<Arc<str>>, run: impl Fn(P) -> F + Send + Sync + 'static) -> Self
    where
        P: DeserializeOwned + 'static,
        F: Future<Output = Result<A, E>> + Send + 'static,
        A: Serialize + 'static,
        E: Into<HostFunctionError> + 'static,
    {
        Self::bytes_async(name, move |[json]| {
            let begun = read_json(&json).map(&run);
            async move {
                let answer = begun?.await.map_err(failed)?;
                Ok::<_, HostFunctionError>(serde_json::to_vec(&answer)?)
            }
        })
    }

    /// Offers it in another module than `extism:host/user`. In `host_functions` of a manifest it is then called
    /// `module.name`.
    #[must_use]
    pub fn namespace(mut self, module: impl Into<Arc<str>>) -> Self {
        self.namespace = module.into();
        self
    }

    /// What a manifest calls it.
    pub(crate) fn grant(&self) -> String {
        grant(&self.namespace, &self.name)
    }
}

/// What a manifest calls a function that is imported from `namespace`.
pub(crate) fn grant(namespace: &str, name: &str) -> String {
    match namespace == NAMESPACE {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

impl fmt::Debug for HostFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostFunction({}: {})", self.grant(), signature(&self.params, &self.results))
    }
}

/// `(i64, i64) -> i64`
pub(crate) fn signature(params: &[NumberType], results: &[NumberType]) -> String {
    let list = |types: &[NumberType]| types.iter().map(|ty| ty.as_str()).collect::<Vec<_>>().join(", ");
    match results {
        [] => format!("({})", list(params)),
        _ => format!("({}) -> {}", list(params), list(results)),
    }
}

fn failed<E: Into<HostFunctionError>>(error: E) -> HostFunctionError {
    error.into()
}

fn read_json<P: DeserializeOwned>(json: &[u8]) -> Result<P, HostFunctionError> {
    serde_json::from_slice(json).map_err(|error| format!("its parameter is not what it takes: {error}").into())
}

/// What a function of bytes can give.
pub trait HostAnswer: sealed::Answer {}

impl HostAnswer for () {}
impl HostAnswer for Vec<u8> {}
impl HostAnswer for String {}

mod sealed {
    use super::NumberType;

    pub trait Answer {
        fn results() -> &'static [NumberType];
        fn into_bytes(self) -> Vec<u8>;
    }

    impl Answer for () {
        fn results() -> &'static [NumberType] {
            &[]
        }

        fn into_bytes(self) -> Vec<u8> {
            Vec::new()
        }
    }

    impl Answer for Vec<u8> {
        fn results() -> &'static [NumberType] {
            &[NumberType::I64]
        }

        fn into_bytes(self) -> Vec<u8> {
            self
        }
    }

    impl Answer for String {
        fn results() -> &'static [NumberType] {
            &[NumberType::I64]
        }

        fn into_bytes(self) -> Vec<u8> {
            self.into_bytes()
        }
    }
}

/// The type of a [`Number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberType {
    /// 32 bits, with or without sign.
    I32,
    /// 64 bits, with or without sign; or a handle.
    I64,
    /// A float of 32 bits.
    F32,
    /// A float of 64 bits.
    F64,
}

impl NumberType {
    /// `i32`, `i64`, `f32`, `f64`.
    pub const fn as_str(self) -> &'static str {
        match self {
            NumberType::I32 => "i32",
            NumberType::I64 => "i64",
            NumberType::F32 => "f32",
            NumberType::F64 => "f64",
        }
    }

    pub(crate) const fn zero(self) -> Number {
        match self {
            NumberType::I32 => Number::I32(0),
            NumberType::I64 => Number::I64(0),
            NumberType::F32 => Number::F32(0.0),
            NumberType::F64 => Number::F64(0.0),
        }
    }
}

/// What a plugin passes to a function, and gets back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// 32 bits.
    I32(i32),
    /// 64 bits; a handle of a block, where it is one.
    I64(i64),
    /// A float of 32 bits.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
}

impl Number {
    /// Its type.
    pub const fn ty(self) -> NumberType {
        match self {
            Number::I32(_) => NumberType::I32,
            Number::I64(_) => NumberType::I64,
            Number::F32(_) => NumberType::F32,
            Number::F64(_) => NumberType::F64,
        }
    }

    fn handle(self) -> Result<u64, MemoryError> {
        match self {
            // A handle has no sign.
            Number::I64(handle) => Ok(handle as u64),
            other => Err(MemoryError::NoHandle { ty: other.ty() }),
        }
    }
}

/// Why a block cannot be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// A number that is no handle by its type.
    #[error("a handle is an i64, got an {}", ty.as_str())]
    NoHandle {
        /// Its type.
        ty: NumberType,
    },
    /// There is no such block.
    #[error("{handle} is no block of the plugin's memory")]
    NoBlock {
        /// What was taken for its handle.
        handle: u64,
    },
    /// The plugin's limit `memory` has no room for it.
    #[error("{bytes} bytes more of Extism memory, which has {bytes_max} at most")]
    NoRoom {
        /// Bytes that were wanted.
        bytes: usize,
        /// Bytes of the limit.
        bytes_max: usize,
    },
}

/// The memory in which a plugin and its host pass blocks to each other.
pub(crate) trait Blocks {
    /// The bytes of a block; none if there is none of this handle.
    fn block(&self, handle: u64) -> Option<&[u8]>;
    fn block_mut(&mut self, handle: u64) -> Option<&mut [u8]>;
    /// A new block; none if there is no room.
    fn put(&mut self, bytes: &[u8]) -> Option<u64>;
    fn free(&mut self, handle: u64);
    fn bytes_max(&self) -> usize;
}

/// A call of a [`HostFunction`]: who makes it, how long it may take, and the memory of the plugin.
pub struct HostCall<'a> {
    plugin: &'a str,
    until: Option<Instant>,
    blocks: &'a mut dyn Blocks,
}

impl<'a> HostCall<'a> {
    pub(crate) fn new(plugin: &'a str, until: Option<Instant>, blocks: &'a mut dyn Blocks) -> Self {
        Self { plugin, until, blocks }
    }

    /// The name of the plugin that calls.
    pub fn plugin(&self) -> &str {
        self.plugin
    }

    /// Time that is left of the plugin's call; none if it has no end.
    pub fn time_left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// The bytes of a block, by its handle. That of no bytes is 0.
    pub fn read(&self, handle: Number) -> Result<&[u8], MemoryError> {
        match handle.handle()? {
            0 => Ok(&[]),
            handle => self.blocks.block(handle).ok_or(MemoryError::NoBlock { handle }),
        }
    }

    /// The same, to be written to.
    pub fn write(&mut self, handle: Number) -> Result<&mut [u8], MemoryError> {
        match handle.handle()? {
            0 => Ok(&mut []),
            handle => self.blocks.block_mut(handle).ok_or(MemoryError::NoBlock { handle }),
        }
    }

    /// Makes a block of these bytes and gives its handle. The plugin owns it then: it frees it, or the end of
    /// its call does.
    pub fn put(&mut self, bytes: &[u8]) -> Result<Number, MemoryError> {
        let no_room = MemoryError::NoRoom { bytes: bytes.len(), bytes_max: self.blocks.bytes_max() };
        let handle = self.blocks.put(bytes).ok_or(no_room)?;
        // A handle is an offset, and far smaller than half of all numbers.
        Ok(Number::I64(handle as i64))
    }

    /// Frees a block. What is none is let be.
    pub fn free(&mut self, handle: Number) -> Result<(), MemoryError> {
        self.blocks.free(handle.handle()?);
        Ok(())
    }
}

impl fmt::Debug for HostCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCall").field("plugin", &self.plugin).finish_non_exhaustive()
    }
}
