//! Limits: what a plugin may use, and how long it may take.
//!
//! Here they are only values, with their units and defaults; `docs/guarantees.md` says who enforces
//! each for which mechanism. A limit that a mechanism cannot enforce is refused when the plugin is
//! loaded, so that none is believed to hold where it does not.

use std::str::FromStr;
use std::time::Duration;

use jackfield_protocol::runner::ProcessLimits;

/// The limits of one plugin.
///
/// ```
/// let limits = jackfield::Limits::default();
/// assert_eq!(limits.answer_bytes_max, 16 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Time from the start of the program to its answer to `hello`, or for a WebAssembly plugin to be
    /// instantiated and initialised, once it is compiled. Default: 10 s.
    ///
    /// Enforced for `process` and `wasm`: the program or instance is ended. A native library is loaded
    /// by the operating system, which cannot be interrupted.
    pub start_timeout: Duration,
    /// Time for a call, from the moment it is made, waiting in a queue included. Default: 30 s.
    ///
    /// Enforced for `process`: the call ends with `timeout`, the plugin is told, and keeps running.
    /// Enforced for `wasm`: the same, and its instance is thrown away. A native call runs on the
    /// caller's thread and cannot be stopped.
    pub call_timeout: Duration,
    /// Time that a plugin is given at each step of stopping: for its calls to end; and a program, to
    /// end by itself after its input was closed, and again after SIGTERM, before it is killed.
    /// Default: 2 s.
    pub stop_grace: Duration,
    /// Largest answer, in bytes as it is encoded. Default: 16 MiB.
    ///
    /// A longer one ends the call with `limit`; the plugin keeps running. A native plugin shares
    /// our memory: more than this is not copied, but nothing stops it from allocating.
    pub answer_bytes_max: u64,
    /// Calls that a plugin is given at once; more wait their turn until their time is over.
    /// Default: 256. Enforced for `process` and `wasm`; for the latter, a call that waits for an
    /// instance counts.
    pub calls_in_flight_max: usize,
    /// Bytes of arguments sent and not yet answered, of all calls of a plugin together. Default:
    /// 64 MiB. A call with more waits, and smaller ones that fit go before it for a while; a single call above
    /// it is refused. Enforced for
    /// `process` and `wasm`.
    pub call_bytes_in_flight_max: usize,
    /// What becomes of a program whose call reached `call_timeout`. Default: it is told, and runs on.
    pub on_timeout: OnTimeout,
    /// What the operating system keeps of a program, and of a native plugin with a process of its own: memory,
    /// processor time, processes, files. Default: nothing. One that cannot be kept is an error at load, unless
    /// the manifest's `best_effort` names it. Enforced by the runner for `process`, `grpc` and isolated `native`.
    pub process: ProcessLimits,
    /// Bytes of all linear memories of one instance together. Default: 256 MiB.
    ///
    /// Growing beyond it fails inside the plugin, as it does when memory is short. The blocks of an Extism plugin,
    /// which lie in a memory of the host's, may have as much again, and its input comes on top. Enforced for `wasm`.
    pub memory_bytes_max: u64,
    /// Elements of all tables of one instance together. Default: 1,000,000. Growing beyond it fails
    /// inside the plugin. Enforced for `wasm`.
    pub table_elements_max: u64,
    /// Bytes of stack that a call may use, of the stack that WebAssembly itself does not see.
    /// Default: 512 KiB; what is above 64 MiB counts as 64 MiB. More ends the call. Enforced for `wasm`.
    pub stack_bytes_max: usize,
    /// Work that one call may do, in units of wasmtime's fuel, about one for each instruction.
    /// Default: without end. More ends the call with `limit`. Enforced for `wasm`, where counting costs
    /// some speed, and so is left out when this is `None`.
    pub fuel_max: Option<u64>,
    /// Bytes that one call may log or print. Default: 1 MiB. What is more is passed over. Enforced for
    /// `wasm`.
    pub log_bytes_max: u64,
    /// Size of the WebAssembly file, in bytes. Default: 64 MiB. A plugin with a larger one is refused.
    /// Enforced for `wasm`.
    pub module_bytes_max: u64,
    /// Time to compile a plugin whose code is not in the cache, waiting for other compilations
    /// included. Default: 120 s. A plugin that takes longer is refused. Enforced for `wasm`.
    pub compile_timeout: Duration,
}

/// What becomes of a program whose call takes longer than it may. The call ends with `timeout` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnTimeout {
    /// `"cancel"`: it is told that nobody waits any more, and its other calls go on.
    #[default]
    Cancel,
    /// `"kill"`: it is killed, and its other calls end. For a plugin that hangs.
    Kill,
}

impl OnTimeout {
    /// `cancel`, `kill`.
    pub const fn as_str(self) -> &'static str {
        match self {
            OnTimeout::Cancel => "cancel",
            OnTimeout::Kill => "kill",
        }
    }
}

impl FromStr for OnTimeout {
    type Err = UnknownOnTimeout;

    fn from_str(text: &str) -> Result<Self, UnknownOnTimeout> {
        match text {
            "cancel" => Ok(OnTimeout::Cancel),
            "kill" => Ok(OnTimeout::Kill),
            _ => Err(UnknownOnTimeout { name: text.to_owned() }),
        }
    }
}

/// An `on_timeout` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is neither `cancel` nor `kill`")]
pub struct UnknownOnTimeout {
    name: String,
}

/// Most that `stack_bytes_max` may be: each instance that runs keeps a stack of this size.
pub(crate) const STACK_BYTES_MAX: usize = 64 << 20;

impl Limits {
    /// The limits of its process that are set, by their names in a manifest.
    pub(crate) fn in_force(&self) -> Vec<(&'static str, String)> {
        let ProcessLimits { memory, address_space, cpu_time, cpu_rate: _, processes, files, file_size } = &self.process;
        let set = [
            ("memory", memory.or(*address_space).map(|bytes| format!("{bytes} bytes"))),
            ("cpu", cpu_time.map(|seconds| format!("{seconds} s"))),
            ("processes", processes.map(|processes| processes.to_string())),
            ("files", files.map(|files| files.to_string())),
            ("file_size", file_size.map(|bytes| format!("{bytes} bytes"))),
        ];
        set.into_iter().filter_map(|(limit, value)| Some((limit, value?))).collect()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(2),
            answer_bytes_max: 16 << 20,
            calls_in_flight_max: 256,
            call_bytes_in_flight_max: 64 << 20,
            on_timeout: OnTimeout::Cancel,
            process: ProcessLimits::default(),
            memory_bytes_max: 256 << 20,
            table_elements_max: 1_000_000,
            stack_bytes_max: 512 << 10,
            fuel_max: None,
            log_bytes_max: 1 << 20,
            module_bytes_max: 64 << 20,
            compile_timeout: Duration::from_secs(120),
        }
    }
}
