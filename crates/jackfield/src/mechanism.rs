//! What every mechanism gives: a session that says who the plugin is, makes calls, and ends.
//!
//! `native/`, `process/`, `grpc/` and `wasm/` are siblings with the same rooms: `mod.rs` says what is guaranteed and
//! what is not, `session.rs` talks, the rest is what is special. Nothing above them knows which one
//! it has.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jackfield_protocol::call::{Answer, Buffer, Cause, Whole};
use jackfield_protocol::runner::{Enforced, Profile};
use jackfield_protocol::{Capability, Encoding, Interface, InterfaceId, TraceContext};
use semver::Version;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::limits::Limits;
use crate::log::PluginLog;
use crate::manifest::{Confinement, Grants, GrpcSpec, Instances, WasmAbi};

/// A future on the heap.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is started.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The plugin's name in this host.
    pub(crate) name: String,
    /// The library, program or WebAssembly file.
    pub(crate) entry: PathBuf,
    /// What is loaded instead, if it had to be checked what lies there.
    pub(crate) checked: Option<Checked>,
    /// Arguments of the program.
    pub(crate) args: Vec<String>,
    /// Variables added to the program's environment.
    pub(crate) env: Vec<(String, String)>,
    /// Its limits.
    pub(crate) limits: Limits,
    /// Where private copies of libraries and compiled code are kept.
    pub(crate) cache_dir: PathBuf,
    /// What the manifest declares, for plugins that cannot say it themselves.
    pub(crate) declared: Declared,
    /// How a WebAssembly plugin is run.
    pub(crate) wasm: WasmSpec,
    /// What is said to a gRPC plugin.
    pub(crate) grpc: GrpcSpec,
    /// How a program is shut in.
    pub(crate) confine: Confine,
    /// Where its lines go.
    pub(crate) log: Arc<PluginLog>,
}

/// What was checked of an entry, and is loaded in its place: whatever lies there by then is another matter.
#[derive(Clone, Debug)]
pub(crate) enum Checked {
    /// Its bytes, for a mechanism that reads it.
    Bytes(Arc<[u8]>),
    /// A private copy of them, for a program: the operating system reads it, and of a script the interpreter.
    Copy(PathBuf),
}

impl Spec {
    /// The bytes of the entry, if they were read and checked.
    pub(crate) fn checked_bytes(&self) -> Option<Arc<[u8]>> {
        match &self.checked {
            Some(Checked::Bytes(bytes)) => Some(Arc::clone(bytes)),
            Some(Checked::Copy(_)) | None => None,
        }
    }
}

/// How the process of a plugin is kept in bounds; its limits are in [`Limits::process`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Confine {
    pub(crate) profile: Profile,
    pub(crate) grants: Confinement,
    /// What may be missing where the platform does not have it.
    pub(crate) best_effort: Vec<String>,
    /// Whether the entry is a library that the runner is to host.
    pub(crate) library: bool,
    /// The directory that the plugin came in, which it may read.
    pub(crate) home: PathBuf,
    /// Where the runner is, if the host says so.
    pub(crate) runner: Option<PathBuf>,
    /// A delegated cgroup, if the host has one.
    pub(crate) cgroup: Option<PathBuf>,
}

/// What a manifest says of a plugin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared {
    pub(crate) version: Option<Version>,
    pub(crate) interfaces: Vec<InterfaceId>,
    pub(crate) descriptions: Vec<Interface>,
    pub(crate) capabilities: Vec<Capability>,
}

/// What only WebAssembly plugins have.
#[derive(Clone, Debug, Default)]
pub(crate) struct WasmSpec {
    pub(crate) instances: Instances,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) abi: Option<WasmAbi>,
    pub(crate) grants: Grants,
    /// What the application offers, granted or not.
    #[cfg(feature = "wasm")]
    pub(crate) functions: Arc<[crate::host_function::HostFunction]>,
}

/// Who a plugin says it is.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// Its own name, for people; the host's name for it may differ.
    pub(crate) name: String,
    /// Semantic version, as it says.
    pub(crate) version: String,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) interfaces: Vec<Offered>,
    /// What it offers beside them, described by somebody else's means.
    pub(crate) services: Vec<ServiceInfo>,
    /// What it speaks and was built with: `protocol 1.0`, `ABI 1.0, jackfield-plugin/0.1.0`.
    pub(crate) speaks: String,
}

impl About {
    /// The first of `required` that it does not have in that version or a later one, and the latest that it has.
    pub(crate) fn lacks<'a>(&self, required: &'a [Capability]) -> Option<(&'a Capability, Option<u32>)> {
        let satisfied = |required: &Capability| self.capabilities.iter().any(|offered| offered.satisfies(required));
        let missing = required.iter().find(|required| !satisfied(required))?;
        let named = self.capabilities.iter().filter(|offered| offered.name == missing.name);
        Some((missing, named.map(|offered| offered.version).max()))
    }
}

/// An interface that a plugin offers.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) id: InterfaceId,
    /// Its description; without one, only names are known.
    pub(crate) description: Option<Arc<Interface>>,
    /// Whether it understands the binary encoding.
    pub(crate) binary: bool,
}

/// A service that a plugin offers without an interface of Jackfield's: a gRPC service, found by reflection or
/// in a descriptor set. It is called with JSON alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// Its full name, `proto.KV`.
    pub name: String,
    /// What can be called.
    pub methods: Vec<MethodInfo>,
}

/// A method of a [`ServiceInfo`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodInfo {
    /// `Get`.
    pub name: String,
    /// Full name of the message it takes, `proto.GetRequest`.
    pub input: String,
    /// Full name of the message it answers with.
    pub output: String,
    /// Whether it takes a stream of them.
    pub client_streaming: bool,
    /// Whether it answers with a stream of them.
    pub server_streaming: bool,
}

/// A call of a method of a service.
pub(crate) struct Exchange {
    /// Position in [`About::services`].
    pub(crate) service: usize,
    /// Position in [`ServiceInfo::methods`].
    pub(crate) method: usize,
    /// What is sent. Its end is the end of what is sent.
    pub(crate) messages: mpsc::Receiver<Value>,
    /// Time for each message of the answer.
    pub(crate) timeout: Duration,
    /// The span it is made in.
    pub(crate) trace: Option<TraceContext>,
}

/// What comes back of an [`Exchange`]. Dropping it cancels the call.
pub(crate) trait Messages: Send {
    /// The next message; none at the end. After an error there is no other.
    fn next(&mut self) -> Boxed<'_, Option<Result<Value, Told>>>;
}

/// Why no further message comes.
#[derive(Debug)]
pub(crate) enum Told {
    /// The plugin's own error.
    Own(Value),
    Failed(Cause),
}

/// A call, ready to go to the plugin.
#[derive(Debug)]
pub(crate) struct Outbound<'a> {
    /// Position of the interface in [`About::interfaces`].
    pub(crate) interface: usize,
    pub(crate) function: &'a FunctionName,
    pub(crate) encoding: Encoding,
    pub(crate) arguments: Arguments,
    /// Time for the call, from now.
    pub(crate) timeout: Duration,
    /// The span it is made in.
    pub(crate) trace: Option<&'a TraceContext>,
    /// Whether the caller waits on this thread: then it may be kept until the call is over.
    pub(crate) blocking: bool,
}

/// The arguments of a call.
#[derive(Debug)]
pub(crate) enum Arguments {
    /// In the encoding of the call.
    Encoded(Buffer),
    /// The only one, as it is. Only in the binary encoding, and to a session that [takes](Session::takes_whole) it.
    Whole(Whole),
}

impl Arguments {
    /// Their length in bytes; of a whole one that of its content.
    pub(crate) fn len(&self) -> usize {
        match self {
            Arguments::Encoded(bytes) => bytes.len(),
            Arguments::Whole(whole) => whole.content().len(),
        }
    }

    /// As they are encoded.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Arguments::Encoded(bytes) => Cow::Borrowed(bytes),
            Arguments::Whole(whole) => Cow::Owned(whole.binary()),
        }
    }
}

/// A function as the plugin knows it.
#[derive(Clone, Debug)]
pub(crate) struct FunctionName {
    pub(crate) name: Box<str>,
    /// Position in the plugin's description; none when it gave none.
    pub(crate) position: Option<u32>,
}

/// The answer to an [`Outbound`], now or later.
pub(crate) enum Inbound {
    Now(Result<Answer, Cause>),
    /// Dropping it cancels the call.
    Later(Boxed<'static, Result<Answer, Cause>>),
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether it left a core dump.
    pub core_dumped: bool,
}

impl Exit {
    /// Nobody knows how: it is gone.
    pub(crate) const UNKNOWN: Exit = Exit { code: None, signal: None, core_dumped: false };
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit status {code}"),
            (None, Some(signal)) => match signal_name(signal) {
                Some(name) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
            (None, None) => f.write_str("it is gone"),
        }
    }
}

/// Names of the signals that end programs. The numbers are those of Linux and macOS alike.
pub(crate) fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        7 if cfg!(target_os = "linux") => "SIGBUS",
        10 if cfg!(target_os = "macos") => "SIGBUS",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 if cfg!(target_os = "linux") => "SIGSYS",
        _ => return None,
    })
}

/// Why a session can make no calls any more.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    pub(crate) cause: Cause,
    /// How its program ended, where it has one and it is known.
    pub(crate) exit: Option<Exit>,
}

impl From<Cause> for Death {
    fn from(cause: Cause) -> Self {
        Self { cause, exit: None }
    }
}

/// Where a session says why it is over.
pub(crate) type Over = watch::Sender<Option<Death>>;

/// Says why a session is over, unless that is known already.
pub(crate) fn finish(over: &Over, death: Death) {
    over.send_if_modified(|known| match known {
        Some(_) => false,
        None => {
            *known = Some(death);
            true
        }
    });
}

/// Waits until it is known why a session is over.
pub(crate) fn over(over: &Over) -> Boxed<'static, Death> {
    let mut over = over.subscribe();
    Box::pin(async move {
        let seen = over.wait_for(Option::is_some).await.ok().and_then(|death| death.clone());
        seen.unwrap_or_else(|| Cause::Unavailable { why: "it is gone".to_owned() }.into())
    })
}

/// One live conversation with a loaded plugin.
pub(crate) trait Session: Send + Sync {
    fn about(&self) -> &About;

    fn call(&self, call: Outbound<'_>) -> Inbound;

    /// Whether a function's only argument, a string or bytes, may come as it is in a call in the binary
    /// encoding. Asked once for each client.
    fn takes_whole(&self, _interface: usize, _function: &FunctionName) -> bool {
        false
    }

    /// Begins a call of a method of [`About::services`].
    fn exchange(&self, _exchange: Exchange) -> Result<Box<dyn Messages>, Cause> {
        Err(Cause::Unimplemented { hint: String::new() })
    }

    /// The connection itself, for an application that has services of its own to call over it.
    #[cfg(feature = "grpc")]
    fn connection(&self) -> Option<jackfield_grpc::Connection> {
        None
    }

    /// Why no call can be made any more, once that is so.
    fn ended(&self) -> Option<String>;

    /// Waits until no call can be made any more, and says why. Without end where nothing but its host ends it.
    fn over(&self) -> Boxed<'static, Death> {
        Box::pin(std::future::pending())
    }

    /// Waits for a sign of life, beside its calls and without end: whoever asks knows how long. A session that
    /// makes its calls on its callers' threads has no life of its own, and is well as long as it is there.
    fn ping(&self) -> Boxed<'_, Result<(), Cause>> {
        let ended = self.ended();
        Box::pin(async { ended.map_or(Ok(()), |why| Err(Cause::Unavailable { why })) })
    }

    /// Ends it, within the plugin's `stop_grace`; nothing of it is left afterwards, except what
    /// `docs/guarantees.md` says of native libraries. `idle`: no call of it is under way.
    fn stop(&self, idle: bool) -> Boxed<'_, ()>;

    /// Ends it at once, without waiting. Calls under way end now, for this reason.
    fn kill(&self, cause: Cause);

    /// What keeps it in bounds beside the host, one by one, and whether it is really in force.
    fn enforced(&self) -> Vec<Enforced> {
        Vec::new()
    }

    /// Operating system's number of the plugin's process, where it has one of its own.
    fn process(&self) -> Option<u32>;
}

/// A session that has just begun, with the log it writes to.
pub(crate) struct Started {
    pub(crate) session: Arc<dyn Session>,
    pub(crate) log: Arc<PluginLog>,
}

/// An answer's value, unless it is larger than it may be.
pub(crate) fn answer(ok: bool, encoding: Encoding, value: Buffer, bytes_max: usize) -> Result<Answer, Cause> {
    match value.len() > bytes_max {
        true => Err(too_large(value.len() as u64, bytes_max)),
        false => Ok(Answer::encoded(ok, encoding, value)),
    }
}

pub(crate) fn too_large(bytes: u64, bytes_max: usize) -> Cause {
    Cause::Limit { limit: "answer_bytes", what: format!("the answer is {bytes} bytes of {bytes_max} allowed") }
}
