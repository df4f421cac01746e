//! WASI commands: programs that speak the process protocol on the stdin and stdout of a sandbox.
//!
//! The same source may be a program of the operating system and a command here; what it says is
//! `docs/protocol.md`, as JSON lines, one call at a time. `_start` runs for the life of the instance, but only
//! while a call is waited for: between calls a command stands still wherever it is, at the latest where it
//! reads its next message.
//!
//! Guaranteed: what a command prints is bounded and read as it comes; an end of it, by a return, an exit or a
//! trap, ends the call it happened in, with its reason; dropped, it is gone with all it held.
//!
//! Not here: binary frames, which are not offered; shutting down, for nothing of a command outlives it.

mod methods;
mod pipe;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jackfield_protocol::call::{Answer, Buffer, Cause};
use jackfield_protocol::frame::{Piece, Splitter};
use jackfield_protocol::message::{Hello, HelloAnswer, Message, Meta, RpcError, method, write_request};
use jackfield_protocol::{Encoding, PROTOCOL};
use wasmtime::{Engine, InstancePre, Linker, Module, Store};
use wasmtime_wasi::I32Exit;

use super::extism::{Broke, imports};
use super::guest::{Guest, Watch};
use super::kind::{Ended, Request};
use super::{WasmError, grants, trap};
use crate::json_rpc::{self, id_in};
use crate::mechanism::{About, FunctionName, Spec, answer, too_large};

use methods::Methods;
use pipe::Pipe;

/// Id of the hello; calls have higher ones.
const HELLO_ID: u64 = 1;

/// Bytes that a command may print before it is read.
const OUTPUT_BYTES: usize = 64 << 10;

/// Bytes that are no message before `hello` is answered, after which the command is given up.
const NOISE_BYTES_MAX: usize = 64 << 10;

/// Room for the envelope of a line around an answer of the largest size.
const ENVELOPE_BYTES: usize = 4096;

/// Bytes of a line that is passed over which are logged.
const PASSED_SHOWN: usize = 80;

/// What all instances share.
pub(super) struct Plugin {
    pre: InstancePre<Guest>,
    spec: Arc<Spec>,
    methods: Arc<Methods>,
}

/// One instance.
pub(super) struct Live {
    run: Run,
    input: Pipe,
    output: Pipe,
    splitter: Splitter,
    methods: Arc<Methods>,
    watch: Arc<Watch>,
    next_id: u64,
    /// Bytes of stdout that were no message, since the last message.
    noise: usize,
}

/// `_start`, which owns the store.
enum Run {
    Running(Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send>>),
    Over,
}

/// What a command says to a request.
enum Reply {
    /// JSON.
    Value(Buffer),
    Error(Failed),
    /// A line that is longer than an answer may be.
    TooLong {
        bytes: u64,
    },
    Unreadable {
        what: String,
    },
}

/// JSON-RPC's error object, owned.
struct Failed {
    code: i64,
    message: String,
    data: Option<String>,
}

impl Plugin {
    pub(super) fn link(engine: &Engine, module: &Module, spec: &Spec) -> Result<Self, WasmError> {
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, |guest: &mut Guest| &mut guest.wasi)
            .map_err(|error| WasmError::Engine { what: format!("{error:#}") })?;
        let pre = imports::link(&linker, module, spec)?;
        Ok(Self { pre, spec: Arc::new(spec.clone()), methods: Arc::default() })
    }

    pub(super) async fn instantiate(&self, mut store: Store<Guest>) -> wasmtime::Result<Live> {
        let watch = Arc::clone(&store.data().watch);
        let (input, output) = (Pipe::new(OUTPUT_BYTES), Pipe::new(OUTPUT_BYTES));
        let mut wasi = grants::wasi(&self.spec, &watch)?;
        store.data_mut().wasi = wasi.stdin(input.clone()).stdout(output.clone()).build_p1();
        let instance = self.pre.instantiate_async(&mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        let run = Box::pin(async move { start.call_async(&mut store, ()).await });
        let answer_bytes_max = usize::try_from(self.spec.limits.answer_bytes_max).unwrap_or(usize::MAX);
        Ok(Live {
            run: Run::Running(run),
            input,
            output,
            splitter: Splitter::new(answer_bytes_max.saturating_add(ENVELOPE_BYTES)),
            methods: Arc::clone(&self.methods),
            watch,
            next_id: HELLO_ID,
            noise: 0,
        })
    }

    pub(super) async fn describe(&mut self, live: &mut Live, spec: &Spec) -> Result<About, WasmError> {
        let about = live.hello(spec.limits.start_timeout).await?;
        self.methods.learn(&about);
        Ok(about)
    }

    pub(super) fn function(&self, interface: usize, function: &FunctionName) -> Option<usize> {
        self.methods.number(interface, function)
    }
}

impl Live {
    pub(super) async fn call(&mut self, request: &Request<'_>) -> Ended {
        let Some(method) = self.methods.method(request.function) else {
            return Ended::Well(Err(Cause::Unimplemented { hint: String::new() }));
        };
        if self.next_id == HELLO_ID {
            // Each instance is greeted, not only the first, which was asked who it is.
            match self.hello(request.timeout).await {
                Ok(_) => {}
                Err(WasmError::Start { cause }) => return Ended::Broken(Broke(cause).into()),
                Err(error) => return Ended::Broken(Broke(Cause::Protocol { what: error.to_string() }).into()),
            }
        }
        let left = u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let meta = json_rpc::meta(left, request.trace);
        match self.ask(&method, &request.arguments.bytes(), &meta).await {
            Ok(reply) => Ended::Well(answered(reply, request)),
            Err(error) => Ended::Broken(error),
        }
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// A command's fuel is for its life: what runs at a call and what runs at another cannot be told apart.
    pub(super) fn refuel(&mut self, _: u64) -> wasmtime::Result<()> {
        Ok(())
    }

    /// Whether it has ended, with its last answer.
    pub(super) fn spent(&self) -> bool {
        matches!(self.run, Run::Over)
    }

    async fn hello(&mut self, timeout: Duration) -> Result<About, WasmError> {
        let hello = Hello {
            protocol: PROTOCOL,
            host: crate::HOST.to_owned(),
            encodings: vec![Encoding::Json],
            features: json_rpc::features(&[], self.watch.recorder()),
        };
        let params = serde_json::to_vec(&hello).unwrap_or_default();
        let reply = match self.ask(method::HELLO, &params, &Meta::default()).await {
            Ok(reply) => reply,
            Err(error) => {
                return Err(WasmError::Start { cause: trap::cause(&error, self.watch.take_notes(), timeout) });
            }
        };
        let describe = |what: String| Err(WasmError::Describe { what });
        let unusable = |what: &dyn std::fmt::Display| describe(format!("its answer to `hello` cannot be used: {what}"));
        match reply {
            Reply::Value(json) => match serde_json::from_slice(&json) {
                Ok(answer) => believe(answer, false),
                Err(error) => unusable(&error),
            },
            Reply::Error(Failed { code, message, .. }) => {
                describe(format!("it refused `hello`: {message} (code {code})"))
            }
            Reply::TooLong { bytes } => unusable(&format_args!("it has {bytes} bytes")),
            Reply::Unreadable { what } => unusable(&what),
        }
    }

    /// Sends a request and waits for its answer. An error is the end of the instance.
    async fn ask(&mut self, method: &str, params: &[u8], meta: &Meta) -> wasmtime::Result<Reply> {
        let id = self.next_id;
        self.next_id += 1;
        self.noise = 0;
        let mut line = Buffer::new();
        write_request(&mut line, id, method, params, meta);
        self.input.push(&line);
        drop(line);
        poll_fn(|context| self.poll_reply(id, context)).await
    }

    /// Runs the command until it has answered, or has to wait for something else than its host.
    fn poll_reply(&mut self, id: u64, context: &mut Context<'_>) -> Poll<wasmtime::Result<Reply>> {
        loop {
            if let Some(reply) = self.read(id).transpose() {
                return Poll::Ready(reply);
            }
            let Run::Running(run) = &mut self.run else {
                let how = "it had ended, after its last answer".to_owned();
                return Poll::Ready(Err(Broke(Cause::Crashed { how }).into()));
            };
            let ran = run.as_mut().poll(context);
            // It has come to the end of the room for its output, which is made by reading.
            let full = self.output.is_full();
            if ran.is_ready() {
                self.run = Run::Over;
            }
            if let Some(reply) = self.read(id).transpose() {
                return Poll::Ready(reply);
            }
            match ran {
                Poll::Ready(Ok(())) => return Poll::Ready(Err(I32Exit(0).into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if !full => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }

    /// Reads what the command has written so far, up to the answer of a request.
    fn read(&mut self, id: u64) -> wasmtime::Result<Option<Reply>> {
        self.output.drain_into(self.splitter.room());
        let protocol = |what: String| Err(Broke(Cause::Protocol { what }).into());
        while let Some(piece) = self.splitter.next_piece() {
            let stray = match piece {
                Piece::Line(line) => match heard(line, id, &self.watch, &self.input) {
                    Heard::Reply(reply) => return Ok(Some(reply)),
                    Heard::Message => continue,
                    Heard::Stray => {
                        let text = String::from_utf8_lossy(line);
                        self.watch.printed(text.trim_end());
                        line.len() + 1
                    }
                },
                Piece::TooLong { head, bytes } => {
                    if id_in(&head) == Some(id) {
                        return Ok(Some(Reply::TooLong { bytes }));
                    }
                    let start = String::from_utf8_lossy(&head[..head.len().min(PASSED_SHOWN)]);
                    self.watch.printed(&format!("{start}… ({bytes} bytes that are no message)"));
                    usize::try_from(bytes).unwrap_or(usize::MAX)
                }
                Piece::Frame { .. } | Piece::Broken => {
                    return protocol("it sent a binary frame, which this host did not offer".to_owned());
                }
            };
            self.noise = self.noise.saturating_add(stray);
            if id == HELLO_ID && self.noise > NOISE_BYTES_MAX {
                let noise = self.noise;
                return protocol(format!("it wrote {noise} bytes that are no message before it answered `hello`"));
            }
        }
        Ok(None)
    }
}

/// What a line is.
enum Heard {
    /// The answer that is waited for.
    Reply(Reply),
    /// Another message, which was taken care of.
    Message,
    Stray,
}

fn heard(line: &[u8], id: u64, watch: &Watch, input: &Pipe) -> Heard {
    match Message::parse(line) {
        Ok(Message::Answer { id: answered, result }) if answered == id => {
            let mut value = Buffer::new();
            value.extend_from_slice(result.get().as_bytes());
            Heard::Reply(Reply::Value(value))
        }
        Ok(Message::Error { id: Some(answered), error: RpcError { code, message, data } }) if answered == id => {
            let data = data.map(|data| data.get().to_owned());
            Heard::Reply(Reply::Error(Failed { code, message: message.into_owned(), data }))
        }
        Ok(Message::Error { id: None, error }) => {
            watch.printed(&format!("could not read a message: {} (code {})", error.message, error.code));
            Heard::Message
        }
        Ok(Message::Notification { method: name, params }) if name == method::LOG => {
            match json_rpc::take_log_line(params, |level, message| watch.logged(level, message)) {
                true => Heard::Message,
                false => Heard::Stray,
            }
        }
        Ok(Message::Notification { method: name, params: Some(params) }) if name == method::SPAN => {
            watch.recorder().take(params.get().as_bytes());
            Heard::Message
        }
        Ok(Message::Request { id, method: name, .. }) => {
            input.push(&json_rpc::refusal(id, &name));
            Heard::Message
        }
        // Of a request that nobody made, or a notification of a later protocol.
        Ok(Message::Answer { .. } | Message::Error { .. } | Message::Notification { .. }) => Heard::Stray,
        // A broken answer ends the call it names, which would otherwise wait for its deadline.
        Err(error) if id_in(line) == Some(id) => {
            Heard::Reply(Reply::Unreadable { what: format!("its answer cannot be read: {error}") })
        }
        Err(_) => Heard::Stray,
    }
}

fn answered(reply: Reply, request: &Request<'_>) -> Result<Answer, Cause> {
    let max = request.answer_bytes_max;
    match reply {
        Reply::Value(value) => answer(true, Encoding::Json, value, max),
        Reply::TooLong { bytes } => Err(too_large(bytes, max)),
        Reply::Unreadable { what } => Err(Cause::Protocol { what }),
        Reply::Error(Failed { code, message, data }) => {
            json_rpc::failed(code, message, data.as_deref(), max, request.timeout)
        }
    }
}

/// What a guest says of itself, checked. `binary`: its functions can be called in the binary encoding.
pub(super) fn believe(answer: HelloAnswer, binary: bool) -> Result<About, WasmError> {
    let about = json_rpc::believe(answer, binary).map_err(|error| WasmError::Describe { what: error.to_string() })?;
    Ok(About { speaks: format!("WASI command, {}", about.speaks), ..about })
}

#[cfg(test)]
mod tests;
