//! One conversation with a host, on any pair of streams.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jackfield_protocol::call::Buffer;
use jackfield_protocol::dispatch::{Called, Dispatched, Incoming};
use jackfield_protocol::frame::{HEADER_LEN, Header, Kind, Piece, Splitter, split_trace};
use jackfield_protocol::message::{self, Hello, Message, code, feature, method};
use jackfield_protocol::{Encoding, Interface, PROTOCOL, nearest};

use super::turns::{Turn, Turns};
use crate::about::about;
use crate::instance::{Export, Outcome, Served};
use crate::log::{Level, log};
use crate::trace::{Carried, take_spans, within};

/// Longest message taken from a host. The host bounds what it sends; this bounds a broken host.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Bytes asked of the pipe at once: what a Linux pipe holds.
const READ_BYTES: usize = 64 * 1024;

pub(crate) struct Session {
    export: &'static Export,
    described: Vec<&'static Interface>,
    served: Served,
    input: Mutex<Input>,
    output: Mutex<Box<dyn Write + Send>>,
    frames: AtomicBool,
    /// Whether the host takes spans.
    spans: AtomicBool,
    /// Whether the host has said `jackfield/shutdown`.
    leaving: AtomicBool,
    turns: Turns<Work>,
}

struct Input {
    from: Box<dyn Read + Send>,
    splitter: Splitter,
    ended: bool,
}

/// A message, owned, so that the pipe can go to the next thread.
enum Work {
    Line(Buffer),
    Call { header: Header, trace: Vec<u8>, body: Buffer },
}

impl Session {
    pub(crate) fn new(
        export: &'static Export,
        described: Vec<&'static Interface>,
        served: Served,
        input: Box<dyn Read + Send>,
        output: Box<dyn Write + Send>,
    ) -> Arc<Self> {
        let splitter = Splitter::new(MESSAGE_BYTES_MAX);
        Arc::new(Self {
            export,
            described,
            served,
            input: Mutex::new(Input { from: input, splitter, ended: false }),
            output: Mutex::new(output),
            frames: AtomicBool::new(false),
            spans: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            turns: Turns::new(export.workers),
        })
    }

    /// Serves on this thread, and on more as calls overlap, until the host is done with us. Calls
    /// that are still running then have `grace` to end; after it, the process ends without them.
    pub(crate) fn run(self: &Arc<Self>, grace: Duration) {
        self.find_relief(grace);
        self.serve(self.turns.first(), grace);
        self.turns.wait_for_end();
        self.turns.wait_for_relieved(grace);
        self.served.stop();
    }

    /// Starts a thread that takes over when a call takes long.
    fn find_relief(self: &Arc<Self>, grace: Duration) {
        if cfg!(target_family = "wasm") {
            // One thread is all there is, and no reason for a warning: calls come one after the other.
            return;
        }
        let session = Arc::clone(self);
        let relief = move || {
            if let Some(turn) = session.turns.relieve() {
                session.find_relief(grace);
                session.serve(turn, grace);
            }
        };
        if std::thread::Builder::new().name("jackfield".to_owned()).spawn(relief).is_err() {
            log(Level::Warn, "no thread for calls that overlap: they are made one after the other");
        }
    }

    /// Reads and makes calls, until there are no more or another thread has the turn.
    fn serve(&self, mut turn: Turn, grace: Duration) {
        loop {
            let Some(work) = lock(&self.input).next() else { return self.end(grace) };
            let Some(work) = self.turns.accept(work) else { continue };
            self.turns.begin(&mut turn);
            self.make(&work);
            if !self.turns.end(&mut turn) {
                break;
            }
            if self.leaving.load(Ordering::Acquire) {
                return self.leave();
            }
        }
        while let Some(work) = self.turns.next_of_backlog() {
            self.make(&work);
        }
        if self.leaving.load(Ordering::Acquire) {
            self.leave();
        }
    }

    /// What the thread does that sees the end: calls that are under way get `grace`. The main thread may
    /// be among those that do not come back from theirs.
    fn end(&self, grace: Duration) {
        self.turns.finish();
        if !self.turns.wait_for_relieved(grace) {
            log(Level::Warn, "ended while calls were unanswered");
            std::process::exit(0);
        }
    }

    fn make(&self, work: &Work) {
        match work {
            Work::Line(line) => self.line(line),
            Work::Call { header, trace, body } => {
                within(self.carried(trace), || self.frame(*header, body));
            }
        }
    }

    fn line(&self, line: &[u8]) {
        match Message::parse(line) {
            Ok(Message::Request { id, method: name, params, meta }) => {
                let params = params.map_or(&[][..], |params| params.get().as_bytes());
                match &*name {
                    method::HELLO => self.hello(id, params),
                    method::PING => self.send(|out| message::write_answer(out, id, b"null")),
                    name => {
                        let context = meta.traceparent.and_then(|trace| trace.parse().ok());
                        let state = meta.tracestate.unwrap_or_default();
                        let home = self.spans.load(Ordering::Acquire);
                        within(Carried { context, state, home }, || self.call(id, name, params));
                    }
                }
            }
            // A call that runs cannot be stopped from outside; its answer comes and is dropped.
            Ok(Message::Notification { method: name, .. }) if name == method::CANCEL => {}
            Ok(Message::Notification { method: name, .. }) if name == method::SHUTDOWN => {
                self.leaving.store(true, Ordering::Release);
            }
            Ok(_) => {}
            Err(error) => {
                let why = error.to_string();
                self.send(|out| message::write_error(out, None, code::PARSE, &why, b""));
            }
        }
    }

    /// Ends the process at the host's word, once the other calls are over.
    ///
    /// Not while its message is being dealt with: the relief may have taken the turn by then, as it does at once
    /// after a slow call, and this thread would be one of those that it waits for.
    fn leave(&self) {
        self.turns.finish();
        self.turns.wait_for_relieved(super::END_GRACE);
        self.served.stop();
        std::process::exit(0);
    }

    fn hello(&self, id: u64, params: &[u8]) {
        let refuse = |code: i64, why: String| self.send(|out| message::write_error(out, Some(id), code, &why, b""));
        let hello: Hello = match serde_json::from_slice(params) {
            Ok(hello) => hello,
            Err(error) => return refuse(code::INVALID_PARAMS, error.to_string()),
        };
        if hello.protocol.major != PROTOCOL.major {
            let why = format!("the host speaks protocol {}, this plugin speaks {PROTOCOL}", hello.protocol);
            return refuse(code::UNSUPPORTED_PROTOCOL, why);
        }
        let frames = hello.features.iter().any(|offered| offered == feature::FRAMES);
        self.frames.store(frames, Ordering::Release);
        self.spans.store(hello.features.iter().any(|offered| offered == feature::SPANS), Ordering::Release);
        let answer = about(self.export, &self.described, &[feature::FRAMES, feature::SPANS]);
        match serde_json::to_vec(&answer) {
            Ok(answer) => self.send(|out| message::write_answer(out, id, &answer)),
            Err(error) => refuse(code::INTERNAL, error.to_string()),
        }
    }

    /// A call in JSON: `greeter.greet` or `demo:greeter/greeter.greet`.
    fn call(&self, id: u64, name: &str, arguments: &[u8]) {
        let found = name.rsplit_once('.').and_then(|(interface, function)| {
            let names =
                |described: &&Interface| described.id.name == interface || described.id.unversioned() == interface;
            self.described.iter().position(names).map(|position| (position, function))
        });
        let mut answer = Buffer::new();
        let outcome = match found {
            None => Outcome::Dispatched(Dispatched::Unimplemented),
            Some((interface, function)) => {
                let call = Incoming { function: Called::Name(function), encoding: Encoding::Json, arguments };
                self.served.call(interface, call, &mut answer)
            }
        };
        self.send_spans();
        match outcome {
            Outcome::Dispatched(Dispatched::Ok) => self.send(|out| message::write_answer(out, id, &answer)),
            Outcome::Dispatched(Dispatched::OwnError) => {
                let text = "the plugin's own error";
                self.send(|out| message::write_error(out, Some(id), code::OWN_ERROR, text, &answer));
            }
            failed => self.fail(id, name, failed),
        }
    }

    /// A call in the binary encoding.
    fn frame(&self, header: Header, body: &[u8]) {
        let id = header.id;
        let mut answer = Buffer::new();
        answer.resize(HEADER_LEN, 0);
        let call = Incoming {
            function: Called::Position(usize::from(header.function)),
            encoding: Header::ENCODING,
            arguments: body,
        };
        let outcome = self.served.call(usize::from(header.interface), call, &mut answer);
        self.send_spans();
        let kind = match outcome {
            Outcome::Dispatched(Dispatched::Ok) => Kind::Answer,
            Outcome::Dispatched(Dispatched::OwnError) => Kind::OwnError,
            failed => return self.fail(id, &format!("function {}", header.function), failed),
        };
        let Ok(body_len) = u32::try_from(answer.len() - HEADER_LEN) else {
            let why = "the answer is longer than 4 GiB";
            return self.send(|out| message::write_error(out, Some(id), code::LIMIT, why, b""));
        };
        answer[..HEADER_LEN].copy_from_slice(&Header::answer(kind, id, body_len).to_bytes());
        self.write(&answer);
    }

    fn fail(&self, id: u64, name: &str, outcome: Outcome) {
        let (code, why) = match outcome {
            Outcome::Dispatched(Dispatched::Unimplemented) => {
                (code::METHOD_NOT_FOUND, format!("no function `{name}`{}", self.hint(name)))
            }
            Outcome::Dispatched(Dispatched::BadArguments(why)) => (code::INVALID_PARAMS, why),
            Outcome::Dispatched(Dispatched::Failed(why)) => (code::INTERNAL, why),
            Outcome::Panicked(message) => (code::PANICKED, message),
            Outcome::Stopped => (code::UNAVAILABLE, "the plugin was stopped".to_owned()),
            Outcome::Dispatched(Dispatched::Ok | Dispatched::OwnError) => (code::INTERNAL, String::new()),
        };
        self.send(|out| message::write_error(out, Some(id), code, &why, b""));
    }

    fn hint(&self, name: &str) -> String {
        let functions = self.described.iter().flat_map(|interface| {
            interface.functions.iter().map(move |function| format!("{}.{}", interface.id.name, function.name))
        });
        let functions: Vec<_> = functions.collect();
        nearest(name, functions.iter().map(String::as_str))
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
    }

    /// What came with a frame: a `traceparent`, and behind it, on a line of its own, a `tracestate`.
    fn carried(&self, trace: &[u8]) -> Carried {
        if trace.is_empty() {
            return Carried::default();
        }
        let (context, state) = split_trace(trace);
        Carried { context, state: state.to_owned(), home: self.spans.load(Ordering::Acquire) }
    }

    /// Sends the spans of the present call home, before its answer: afterwards the host takes none of it.
    fn send_spans(&self) {
        let spans = take_spans();
        if !spans.is_empty() {
            self.send(|out| {
                spans.iter().for_each(|span| {
                    message::write_notification(out, method::SPAN, span.to_json().as_bytes());
                });
            });
        }
    }

    fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Buffer::new();
        write(&mut out);
        self.write(&out);
    }

    fn write(&self, bytes: &[u8]) {
        let mut output = lock(&self.output);
        if output.write_all(bytes).and_then(|()| output.flush()).is_err() {
            // Nobody reads any more: the end of our input comes next.
            log(Level::Debug, "the host reads no answers any more");
        }
    }
}

impl Input {
    fn next(&mut self) -> Option<Work> {
        loop {
            if self.ended {
                return None;
            }
            match self.splitter.next_piece() {
                Some(Piece::Line(line)) if line.iter().all(u8::is_ascii_whitespace) => continue,
                Some(Piece::Line(line)) => {
                    let mut owned = Buffer::new();
                    owned.extend_from_slice(line);
                    return Some(Work::Line(owned));
                }
                Some(Piece::Frame { header, trace, body }) => {
                    let trace = trace.to_vec();
                    let mut owned = Buffer::new();
                    owned.extend_from_slice(body);
                    return Some(Work::Call { header, trace, body: owned });
                }
                Some(Piece::TooLong { bytes, .. }) => {
                    log(Level::Error, &format!("the host sent a message of {bytes} bytes, which is too long"));
                }
                Some(Piece::Broken) => {
                    log(Level::Error, "the host sent a frame of an unknown kind");
                    self.ended = true;
                }
                None => self.read(),
            }
        }
    }

    fn read(&mut self) {
        let room = self.splitter.room();
        let filled = room.len();
        room.resize(filled + READ_BYTES, 0);
        let read = loop {
            match self.from.read(&mut room[filled..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = read.unwrap_or(0);
        room.truncate(filled + read);
        self.ended = read == 0;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
