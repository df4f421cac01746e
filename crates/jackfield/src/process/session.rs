//! Talks to a program: calls out, answers in, in any order.
//!
//! One task reads, one writes what senders could not, one watches for the end. A call is a number,
//! an entry in `pending`, and a message; the reader hands the answer to whoever waits.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use jackfield_protocol::Encoding;
use jackfield_protocol::call::{Answer, Buffer, Cause};
use jackfield_protocol::frame::{HEADER_LEN, Header, Kind, Piece};
use jackfield_protocol::message::{self, Message, Meta, RpcError, code, method};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, Sleep};

use super::child::{Child, ended};
use super::hello::Greeted;
use super::lines::{Reader, Writer};
use super::output::PIPE_GRACE;
use crate::limits::Limits;
use crate::log::{PluginLog, level_named};
use crate::mechanism::{About, Boxed, Inbound, Outbound, Session, Spec};

/// Lines of stderr that a crash shows.
const STDERR_SHOWN: usize = 5;

/// Calls in flight up to which each is written at once; beyond it, writes are shared.
const WRITE_NOW_MAX: usize = 2;

pub(super) struct ProcessSession {
    about: About,
    /// Method of each function, by interface: `greeter.greet`, or in full where two are alike.
    prefixes: Vec<String>,
    child: Child,
    shared: Arc<Shared>,
    limits: Limits,
    runtime: Handle,
}

/// What calls and the reading task share.
struct Shared {
    log: Arc<PluginLog>,
    writer: Writer,
    pending: Mutex<Pending>,
    next_id: AtomicU64,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    answer_bytes_max: usize,
}

/// The calls that wait, or why there can be none.
enum Pending {
    Open(HashMap<u64, oneshot::Sender<Result<Answer, Cause>>>),
    Ended(Cause),
}

impl ProcessSession {
    pub(super) fn new(spec: &Spec, greeted: Greeted, child: Child, log: Arc<PluginLog>, runtime: &Handle) -> Self {
        let limits = spec.limits.clone();
        let Greeted { about, reader, writer } = greeted;
        let names: Vec<_> = about.interfaces.iter().map(|offered| offered.id.name.clone()).collect();
        let alike = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
        let prefixes = about.interfaces.iter().map(|offered| match alike(&offered.id.name) {
            true => offered.id.unversioned(),
            false => offered.id.name.clone(),
        });
        let shared = Arc::new(Shared {
            log,
            writer,
            pending: Mutex::new(Pending::Open(HashMap::new())),
            next_id: AtomicU64::new(super::hello::HELLO_ID + 1),
            calls: Arc::new(Semaphore::new(limits.calls_in_flight_max.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(limits.call_bytes_in_flight_max.min(Semaphore::MAX_PERMITS))),
            answer_bytes_max: usize::try_from(limits.answer_bytes_max).unwrap_or(usize::MAX),
        });
        let prefixes = prefixes.collect();
        let end = End { exit: child.exit_receiver(), stderr: child.stderr_receiver() };
        runtime.spawn(read(reader, Arc::clone(&shared), end, child.killer()));
        Self { about, prefixes, child, shared, limits, runtime: runtime.clone() }
    }

    /// Appends the message of a call.
    fn write_call(&self, outbound: &Outbound<'_>, id: u64, out: &mut Vec<u8>) {
        let left = u64::try_from(outbound.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let arguments = outbound.arguments.bytes();
        match (outbound.encoding, outbound.function.position) {
            (Encoding::Binary, Some(position)) => {
                let number = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
                let header = Header {
                    kind: Kind::Call,
                    interface: number(outbound.interface),
                    function: number(position as usize),
                    trace_len: 0,
                    id,
                    deadline_ms: u32::try_from(left).unwrap_or(u32::MAX),
                    body_len: u32::try_from(arguments.len()).unwrap_or(u32::MAX),
                };
                out.reserve(HEADER_LEN + arguments.len());
                out.extend_from_slice(&header.to_bytes());
                out.extend_from_slice(&arguments);
            }
            _ => {
                let method = format!("{}.{}", self.prefixes[outbound.interface], outbound.function.name);
                let meta = Meta { deadline_ms: Some(left), ..Meta::default() };
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
        if bytes > self.limits.call_bytes_in_flight_max || u32::try_from(bytes).is_err() {
            return Inbound::Now(Err(Cause::Limit {
                limit: "call_bytes_in_flight",
                what: format!("the arguments are {bytes} bytes of {} allowed", self.limits.call_bytes_in_flight_max),
            }));
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
        match made {
            Started::Sent(call) => Inbound::Later(Box::pin(Waiting { call, deadline, timeout })),
            Started::Ended(cause) => Inbound::Now(Err(cause)),
            Started::Full => Inbound::Later(Box::pin(async move {
                let mut deadline = deadline;
                let room = tokio::select! {
                    room = shared.room(bytes) => room,
                    () = &mut deadline => return Err(Cause::Timeout { after: timeout }),
                };
                match shared.send(id, &message, room) {
                    Ok(call) => Waiting { call, deadline, timeout }.await,
                    Err(cause) => Err(cause),
                }
            })),
        }
    }

    fn ended(&self) -> Option<String> {
        match &*self.shared.pending() {
            Pending::Open(_) => None,
            Pending::Ended(cause) => Some(cause.to_string()),
        }
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

    fn abandon(&self) {
        self.shared.end(Cause::Unavailable { why: "its host is gone".to_owned() });
        self.shared.writer.close();
        self.child.killer()();
    }

    fn process(&self) -> Option<u32> {
        Some(self.child.id)
    }
}

/// Room that a call takes up while it is in flight.
type Room = (OwnedSemaphorePermit, OwnedSemaphorePermit);

enum Started {
    Sent(Call),
    Full,
    Ended(Cause),
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, id: u64, message: &[u8], bytes: usize) -> Started {
        let call = Arc::clone(&self.calls).try_acquire_owned();
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
        let (Ok(call), Ok(bytes)) = (call, bytes) else { return Started::Full };
        match self.send(id, message, (call, bytes)) {
            Ok(call) => Started::Sent(call),
            Err(cause) => Started::Ended(cause),
        }
    }

    async fn room(&self, bytes: usize) -> Room {
        // Bytes first: one large call must not hold back small ones by a number while it waits.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await;
        let call = Arc::clone(&self.calls).acquire_owned().await;
        match (call, bytes) {
            (Ok(call), Ok(bytes)) => (call, bytes),
            // Neither semaphore is ever closed.
            _ => std::future::pending().await,
        }
    }

    fn send(self: &Arc<Self>, id: u64, message: &[u8], room: Room) -> Result<Call, Cause> {
        let (answer, answered) = oneshot::channel();
        let waiting = match &mut *self.pending() {
            Pending::Ended(cause) => return Err(after_the_end(cause)),
            Pending::Open(calls) => {
                calls.insert(id, answer);
                calls.len()
            }
        };
        let mark = self.writer.send(message, waiting <= WRITE_NOW_MAX);
        Ok(Call { id, answered, shared: Arc::clone(self), over: false, mark, room: Some(room) })
    }

    fn settle(&self, id: u64, answer: Result<Answer, Cause>) -> bool {
        let waiting = match &mut *self.pending() {
            Pending::Open(calls) => calls.remove(&id),
            Pending::Ended(_) => None,
        };
        // A call that nobody waits for any more was cancelled or came too late: no news.
        waiting.is_some_and(|waiting| waiting.send(answer).is_ok())
    }

    /// Ends every call that waits, and every call to come.
    fn end(&self, cause: Cause) {
        let before = std::mem::replace(&mut *self.pending(), Pending::Ended(cause.clone()));
        match before {
            Pending::Open(calls) => {
                for waiting in calls.into_values() {
                    let _ = waiting.send(Err(cause.clone()));
                }
            }
            // The first reason is the one that counts.
            ended => *self.pending() = ended,
        }
    }
}

/// A call made after the end does not crash: there is nobody to make it.
fn after_the_end(cause: &Cause) -> Cause {
    Cause::Unavailable { why: cause.to_string() }
}

/// A call in flight. Dropped before it is over, it is cancelled.
struct Call {
    id: u64,
    answered: oneshot::Receiver<Result<Answer, Cause>>,
    shared: Arc<Shared>,
    over: bool,
    /// Where its message ends in the pipe.
    mark: u64,
    room: Option<Room>,
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if let Pending::Open(calls) = &mut *self.shared.pending() {
            calls.remove(&self.id);
        }
        // A plugin that reads nothing must not fill our memory with calls that nobody waits for.
        self.shared.writer.hold_until_written(self.mark, self.room.take());
        let mut cancel = Vec::new();
        let params = format!("{{\"id\":{}}}", self.id);
        message::write_notification(&mut cancel, method::CANCEL, params.as_bytes());
        self.shared.writer.send(&cancel, true);
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
    exit: tokio::sync::watch::Receiver<Option<super::Exit>>,
    stderr: tokio::sync::watch::Receiver<()>,
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
        shared.end(Cause::Protocol { what });
        return;
    }
    let deadline = Instant::now() + PIPE_GRACE;
    let how = match tokio::time::timeout_at(deadline, ended(&mut end.exit)).await {
        Ok(exit) => {
            let _ = tokio::time::timeout(PIPE_GRACE, end.stderr.changed()).await;
            exit.to_string()
        }
        Err(_) => {
            kill();
            "it closed stdout, and was ended".to_owned()
        }
    };
    let said = shared.log.tail(STDERR_SHOWN);
    let how = match said.is_empty() {
        true => how,
        false => format!("{how}; last on stderr: {:?}", said.join("\n")),
    };
    shared.end(Cause::Crashed { how });
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
                shared.settle(header.id, answer);
            }
            Piece::TooLong { head, bytes } => match id_in(&head) {
                Some(id) => {
                    shared.settle(id, Err(too_large(shared, bytes)));
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
            shared.settle(id, answer(shared, true, Encoding::Json, result.get().as_bytes()));
        }
        Ok(Message::Error { id: Some(id), error }) => {
            shared.settle(id, read_error(shared, &error));
        }
        Ok(Message::Error { id: None, error }) => {
            shared.log.stray(&format!("could not read a message: {} (code {})", error.message, error.code));
        }
        Ok(Message::Notification { method: name, params }) if name == method::LOG => {
            #[derive(Deserialize)]
            struct Line {
                #[serde(default)]
                level: String,
                message: String,
            }
            let read = params.map(|params| serde_json::from_str::<Line>(params.get()));
            match read {
                Some(Ok(Line { level, message })) => shared.log.logged(level_named(&level), &message),
                _ => shared.log.stray(&String::from_utf8_lossy(line)),
            }
        }
        Ok(Message::Notification { .. }) => shared.log.stray(&String::from_utf8_lossy(line)),
        // A plugin may ask its host one day; whoever asks today learns that nobody answers.
        Ok(Message::Request { id, method: name, .. }) => {
            let mut refusal = Vec::new();
            let why = format!("this host offers no `{name}`");
            message::write_error(&mut refusal, Some(id), code::METHOD_NOT_FOUND, &why, b"");
            shared.writer.send(&refusal, true);
        }
        Err(error) => {
            // A broken answer ends the call it names, which would otherwise wait for its deadline.
            let what = format!("its answer cannot be read: {error}");
            if id_in(line).is_some_and(|id| shared.settle(id, Err(Cause::Protocol { what }))) {
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
        return Err(too_large(shared, value.len() as u64));
    }
    let mut bytes = Buffer::new();
    bytes.extend_from_slice(value);
    Ok(Answer::encoded(ok, encoding, bytes))
}

fn too_large(shared: &Shared, bytes: u64) -> Cause {
    let what = format!("the answer is {bytes} bytes of {} allowed", shared.answer_bytes_max);
    Cause::Limit { limit: "answer_bytes", what }
}

fn read_error(shared: &Shared, error: &RpcError<'_>) -> Result<Answer, Cause> {
    let why = error.message.clone().into_owned();
    Err(match error.code {
        own if code::is_own_error(own) => {
            // A plugin without an SDK may give a message alone.
            let data = error.data.map(|data| data.get().to_owned());
            let data = data.unwrap_or_else(|| serde_json::Value::from(why).to_string());
            return answer(shared, false, Encoding::Json, data.as_bytes());
        }
        code::METHOD_NOT_FOUND => Cause::Unimplemented { hint: format!(" ({why})") },
        code::INVALID_PARAMS | code::INVALID_REQUEST | code::PARSE => Cause::Refused { why },
        code::PANICKED => Cause::Panicked { message: why },
        code::CANCELLED => Cause::Cancelled,
        // How long it had, whoever waits for it knows.
        code::TIMEOUT => Cause::Timeout { after: Duration::ZERO },
        code::LIMIT => Cause::Limit { limit: "of the plugin's own", what: why },
        code::UNAVAILABLE => Cause::Unavailable { why },
        other => Cause::Refused { why: format!("it could not answer: {why} (code {other})") },
    })
}

/// The id of an answer that was too long to be kept, from its first bytes.
fn id_in(head: &[u8]) -> Option<u64> {
    if let Some(Ok(header)) = head.get(..HEADER_LEN).map(<&[u8; HEADER_LEN]>::try_from)
        && head[0] == jackfield_protocol::frame::MAGIC
    {
        return Header::from_bytes(header).map(|header| header.id);
    }
    let text = std::str::from_utf8(head)
        .unwrap_or_else(|error| std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default());
    let after = text.split_once("\"id\"")?.1.trim_start().strip_prefix(':')?.trim_start();
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_answer_is_found_in_its_first_bytes() {
        assert_eq!(id_in(br#"{"jsonrpc":"2.0","id":17,"result":"xxxx"#), Some(17));
        assert_eq!(id_in(br#"{ "id" : 4, "result":[1,"#), Some(4));
        assert_eq!(id_in(&Header::answer(Kind::Answer, 9, u32::MAX).to_bytes()), Some(9));
        assert_eq!(id_in("xxxxxxxxxé".as_bytes()), None);
        assert_eq!(id_in(&[0xF5; 10]), None);
    }
}
