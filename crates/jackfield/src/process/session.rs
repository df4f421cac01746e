//! Talks to a program: calls out, answers in, in any order.
//!
//! One task reads, one writes what senders could not, one watches for the end. A call is a number,
//! an entry in `pending`, and a message; the reader hands the answer to whoever waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use jackfield_protocol::Encoding;
use jackfield_protocol::call::{Answer, Buffer, Cause};
use jackfield_protocol::frame::{HEADER_LEN, Header, Kind, Piece};
use jackfield_protocol::message::{self, Message, Meta, method};
use jackfield_protocol::runner::Enforced;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use super::hello::Greeted;
use super::lines::{Reader, Writer};
use crate::json_rpc::{self, id_in};
use crate::limits::Limits;
use crate::log::PluginLog;
use crate::mechanism::{self, About, Boxed, Death, Inbound, Outbound, Session, Spec, too_large};
use crate::pending::{Answered, Pending};
use crate::program::{Child, Evidence, Overtime, PIPE_GRACE, ended};
use crate::room::{Room, Taken};
use crate::trace;

/// Lines of stderr that a crash shows.
const STDERR_SHOWN: usize = 5;

/// Calls in flight up to which each is written at once; beyond it, writes are shared.
const WRITE_NOW_MAX: usize = 2;

pub(super) struct ProcessSession {
    about: About,
    /// Method of each function, by interface: `greeter.greet`, or in full where two are alike.
    prefixes: Vec<String>,
    /// Whether it knows that a frame's trace may have a second line.
    takes_state: bool,
    child: Child,
    shared: Arc<Shared>,
    limits: Limits,
    runtime: Handle,
    enforced: Vec<Enforced>,
    /// What is done to it when a call takes too long.
    on_timeout: Option<Arc<Overtime>>,
}

/// What calls and the reading task share.
struct Shared {
    log: Arc<PluginLog>,
    writer: Writer,
    pending: Pending,
    next_id: AtomicU64,
    room: Room,
    over: mechanism::Over,
    answer_bytes_max: usize,
}

impl ProcessSession {
    pub(super) fn new(
        spec: &Spec,
        greeted: Greeted,
        child: Child,
        enforced: Vec<Enforced>,
        log: Arc<PluginLog>,
        runtime: &Handle,
    ) -> Self {
        let limits = spec.limits.clone();
        let room = Room::new(&limits).metered(log.meters());
        let Greeted { about, reader, writer, spans: takes_state } = greeted;
        let names: Vec<_> = about.interfaces.iter().map(|offered| offered.id.name.clone()).collect();
        let alike = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
        let prefixes = about.interfaces.iter().map(|offered| match alike(&offered.id.name) {
            true => offered.id.unversioned(),
            false => offered.id.name.clone(),
        });
        let shared = Arc::new(Shared {
            log,
            writer,
            pending: Pending::new(),
            next_id: AtomicU64::new(super::hello::HELLO_ID + 1),
            room,
            over: mechanism::Over::new(None),
            answer_bytes_max: usize::try_from(limits.answer_bytes_max).unwrap_or(usize::MAX),
        });
        let prefixes = prefixes.collect();
        let end = End { exit: child.exit_receiver(), stderr: child.stderr_receiver(), evidence: child.evidence() };
        let on_timeout = child.on_timeout(&limits);
        runtime.spawn(read(reader, Arc::clone(&shared), end, child.killer()));
        Self { about, prefixes, takes_state, child, shared, limits, runtime: runtime.clone(), enforced, on_timeout }
    }

    /// Appends the message of a call.
    fn write_call(&self, outbound: &Outbound<'_>, id: u64, out: &mut Vec<u8>) {
        let left = u64::try_from(outbound.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let arguments = outbound.arguments.bytes();
        match (outbound.encoding, outbound.function.position) {
            (Encoding::Binary, Some(position)) => {
                let number = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
                let text = outbound.trace.map(|trace| trace.text());
                let trace = text.as_deref().unwrap_or_default();
                let state = outbound.trace.filter(|_| self.takes_state).and_then(|_| trace::state());
                let state = state.as_deref().unwrap_or_default();
                let state_len = if state.is_empty() { 0 } else { state.len() + 1 };
                let header = Header {
                    kind: Kind::Call,
                    interface: number(outbound.interface),
                    function: number(position as usize),
                    trace_len: number(trace.len() + state_len),
                    id,
                    deadline_ms: u32::try_from(left).unwrap_or(u32::MAX),
                    body_len: u32::try_from(arguments.len()).unwrap_or(u32::MAX),
                };
                out.reserve(HEADER_LEN + trace.len() + state_len + arguments.len());
                out.extend_from_slice(&header.to_bytes());
                out.extend_from_slice(trace.as_bytes());
                if state_len > 0 {
                    out.push(b'\n');
                    out.extend_from_slice(state.as_bytes());
                }
                out.extend_from_slice(&arguments);
            }
            _ => {
                let method = format!("{}.{}", self.prefixes[outbound.interface], outbound.function.name);
                let meta = json_rpc::meta(left, outbound.trace.copied());
                message::write_request(out, id, &method, &arguments, &meta);
            }
        }
    }
}

impl Session for ProcessSession {
    fn about(&self) -> &About {
        &self.about
    }

    fn call(&self, outbound: Outbound<'_>) -> Inbound {
        let bytes = outbound.arguments.len();
        if let Err(cause) = self.shared.room.admits(bytes) {
            return Inbound::Now(Err(cause));
        }
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let mut message = Buffer::new();
        self.write_call(&outbound, id, &mut message);
        let timeout = outbound.timeout;
        // Made here, since whoever polls the call may be on a thread without a runtime.
        let entered = self.runtime.enter();
        let deadline = Box::pin(tokio::time::sleep(timeout));
        drop(entered);
        let shared = Arc::clone(&self.shared);
        let made = shared.start(id, &message, bytes);
        let inbound = match made {
            Started::Sent(call) => Inbound::Later(Box::pin(Waiting { call, deadline, timeout })),
            Started::Ended(cause) => Inbound::Now(Err(cause)),
            Started::Full => Inbound::Later(Box::pin(async move {
                let mut deadline = deadline;
                let room = tokio::select! {
                    room = shared.room.take(bytes) => room,
                    () = &mut deadline => return Err(Cause::Timeout { after: timeout }),
                };
                match shared.send(id, &message, room) {
                    Ok(call) => Waiting { call, deadline, timeout }.await,
                    Err(cause) => Err(cause),
                }
            })),
        };
        Overtime::bounds(&self.on_timeout, inbound)
    }

    fn ended(&self) -> Option<String> {
        self.shared.pending.ended()
    }

    fn over(&self) -> Boxed<'static, Death> {
        mechanism::over(&self.shared.over)
    }

    fn ping(&self) -> Boxed<'_, Result<(), Cause>> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let made = self.shared.pending.add(id).map(|(answered, _)| {
            let mut message = Vec::new();
            message::write_request(&mut message, id, method::PING, b"", &Meta::default());
            self.shared.writer.send(&message, true);
            Pinged { id, answered, shared: Arc::clone(&self.shared) }
        });
        Box::pin(async {
            let mut pinged = made?;
            match (&mut pinged.answered).await {
                Ok(Err(dead @ (Cause::Crashed { .. } | Cause::Unavailable { .. }))) => Err(dead),
                // One that does not know what a ping is has read it all the same.
                _ => Ok(()),
            }
        })
    }

    fn stop(&self, _idle: bool) -> Boxed<'_, ()> {
        Box::pin(async {
            let mut goodbye = Vec::new();
            message::write_notification(&mut goodbye, method::SHUTDOWN, b"");
            self.shared.writer.send(&goodbye, true);
            self.shared.writer.close();
            self.child.end(self.limits.stop_grace).await;
        })
    }

    fn kill(&self, cause: Cause) {
        self.shared.end(cause.into());
        self.shared.writer.close();
        self.child.killer()();
    }

    fn enforced(&self) -> Vec<Enforced> {
        self.enforced.clone()
    }

    fn process(&self) -> Option<u32> {
        Some(self.child.id)
    }
}

enum Started {
    Sent(Call),
    Full,
    Ended(Cause),
}

impl Shared {
    /// Ends every call, and says why.
    fn end(&self, death: Death) {
        self.pending.end(death.cause.clone());
        mechanism::finish(&self.over, death);
    }

    fn start(self: &Arc<Self>, id: u64, message: &[u8], bytes: usize) -> Started {
        let Some(room) = self.room.try_take(bytes) else { return Started::Full };
        match self.send(id, message, room) {
            Ok(call) => Started::Sent(call),
            Err(cause) => Started::Ended(cause),
        }
    }

    fn send(self: &Arc<Self>, id: u64, message: &[u8], room: Taken) -> Result<Call, Cause> {
        let (answered, waiting) = self.pending.add(id)?;
        let mark = self.writer.send(message, waiting <= WRITE_NOW_MAX);
        Ok(Call { id, answered, shared: Arc::clone(self), over: false, mark, room: Some(room) })
    }
}

/// A call in flight. Dropped before it is over, it is cancelled.
struct Call {
    id: u64,
    answered: Answered,
    shared: Arc<Shared>,
    over: bool,
    /// Where its message ends in the pipe.
    mark: u64,
    room: Option<Taken>,
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.shared.pending.forget(self.id);
        // A plugin that reads nothing must not fill our memory with calls that nobody waits for.
        self.shared.writer.hold_until_written(self.mark, self.room.take());
        let mut cancel = Vec::new();
        let params = format!("{{\"id\":{}}}", self.id);
        message::write_notification(&mut cancel, method::CANCEL, params.as_bytes());
        self.shared.writer.send(&cancel, true);
    }
}

/// A ping that waits for its answer.
struct Pinged {
    id: u64,
    answered: Answered,
    shared: Arc<Shared>,
}

impl Drop for Pinged {
    fn drop(&mut self) {
        self.shared.pending.forget(self.id);
    }
}

/// Waits for the answer, or for the deadline.
struct Waiting {
    call: Call,
    deadline: Pin<Box<Sleep>>,
    timeout: Duration,
}

impl Future for Waiting {
    type Output = Result<Answer, Cause>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = Pin::new(&mut self.call.answered).poll(context) {
            self.call.over = true;
            let gone = || Err(Cause::Unavailable { why: "the host gave it up".to_owned() });
            return Poll::Ready(match answer.unwrap_or_else(|_| gone()) {
                Err(Cause::Timeout { .. }) => Err(Cause::Timeout { after: self.timeout }),
                answer => answer,
            });
        }
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Cause::Timeout { after: self.timeout }));
        }
        Poll::Pending
    }
}

/// Sees the end of a program.
struct End {
    exit: tokio::sync::watch::Receiver<Option<crate::program::Exit>>,
    stderr: tokio::sync::watch::Receiver<()>,
    evidence: Evidence,
}

/// Reads until the program has ended or breaks the protocol; then ends every call.
async fn read(mut reader: Reader, shared: Arc<Shared>, mut end: End, kill: impl FnOnce()) {
    let mut exited = false;
    let broken = loop {
        if let Some(broken) = take_pieces(&mut reader, &shared) {
            break Some(broken);
        }
        tokio::select! {
            read = reader.fill() => match read {
                Ok(0) | Err(_) => break None,
                Ok(_) => {}
            },
            _ = ended(&mut end.exit), if !exited => exited = true,
            // Its last words have been read; a grandchild may hold the pipe open for ever.
            () = tokio::time::sleep(PIPE_GRACE), if exited => break None,
        }
    };
    if let Some(what) = broken {
        // Nothing it says can be believed any more.
        kill();
        shared.end(Cause::Protocol { what }.into());
        return;
    }
    let deadline = Instant::now() + PIPE_GRACE;
    let (how, exit) = match tokio::time::timeout_at(deadline, ended(&mut end.exit)).await {
        Ok(exit) => {
            let _ = tokio::time::timeout(PIPE_GRACE, end.stderr.changed()).await;
            (exit.to_string(), Some(exit))
        }
        Err(_) => {
            kill();
            ("it closed stdout, and was ended".to_owned(), None)
        }
    };
    let said = shared.log.tail(STDERR_SHOWN);
    let how = match said.is_empty() {
        true => how,
        false => format!("{how}; last on stderr: {:?}", said.join("\n")),
    };
    shared.end(Death { cause: end.evidence.of_death(exit, how), exit });
}

/// Takes what has arrived. Some: what it is that breaks the protocol for good.
fn take_pieces(reader: &mut Reader, shared: &Arc<Shared>) -> Option<String> {
    while let Some(piece) = reader.next_piece() {
        match piece {
            Piece::Line(line) => take_line(line, shared),
            Piece::Frame { header, body, .. } => {
                let ok = match header.kind {
                    Kind::Answer => true,
                    Kind::OwnError => false,
                    Kind::Call => return Some("it sent a call as a frame".to_owned()),
                };
                let answer = answer(shared, ok, Encoding::Binary, body);
                shared.pending.settle(header.id, answer);
            }
            Piece::TooLong { head, bytes } => match id_in(&head) {
                Some(id) => {
                    shared.pending.settle(id, Err(too_large(bytes, shared.answer_bytes_max)));
                }
                None => {
                    let start = String::from_utf8_lossy(&head[..head.len().min(80)]).into_owned();
                    shared.log.stray(&format!("{start}… ({bytes} bytes that are no message)"));
                }
            },
            Piece::Broken => return Some("it sent a frame of an unknown kind".to_owned()),
        }
    }
    None
}

fn take_line(line: &[u8], shared: &Arc<Shared>) {
    match Message::parse(line) {
        Ok(Message::Answer { id, result }) => {
            shared.pending.settle(id, answer(shared, true, Encoding::Json, result.get().as_bytes()));
        }
        Ok(Message::Error { id: Some(id), error }) => {
            let data = error.data.map(|data| data.get());
            // How long it had, whoever waits for it knows.
            let (why, timeout) = (error.message.into_owned(), Duration::ZERO);
            shared.pending.settle(id, json_rpc::failed(error.code, why, data, shared.answer_bytes_max, timeout));
        }
        Ok(Message::Error { id: None, error }) => {
            shared.log.stray(&format!("could not read a message: {} (code {})", error.message, error.code));
        }
        Ok(Message::Notification { method: name, params }) if name == method::LOG => {
            if !json_rpc::take_log_line(params, |level, message| shared.log.logged(level, message)) {
                shared.log.stray(&String::from_utf8_lossy(line));
            }
        }
        Ok(Message::Notification { method: name, params: Some(params) }) if name == method::SPAN => {
            shared.log.recorder().take(params.get().as_bytes());
        }
        Ok(Message::Notification { .. }) => shared.log.stray(&String::from_utf8_lossy(line)),
        Ok(Message::Request { id, method: name, .. }) => {
            shared.writer.send(&json_rpc::refusal(id, &name), true);
        }
        Err(error) => {
            // A broken answer ends the call it names, which would otherwise wait for its deadline.
            let what = format!("its answer cannot be read: {error}");
            if id_in(line).is_some_and(|id| shared.pending.settle(id, Err(Cause::Protocol { what }))) {
                return;
            }
            let text = String::from_utf8_lossy(line);
            if !text.trim().is_empty() {
                shared.log.stray(&text);
            }
        }
    }
}

fn answer(shared: &Shared, ok: bool, encoding: Encoding, value: &[u8]) -> Result<Answer, Cause> {
    if value.len() > shared.answer_bytes_max {
        return Err(too_large(value.len() as u64, shared.answer_bytes_max));
    }
    let mut bytes = Buffer::new();
    bytes.extend_from_slice(value);
    Ok(Answer::encoded(ok, encoding, bytes))
}
