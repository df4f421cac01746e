//! One conversation with a host: what its messages are answered with.
//!
//! Not here: reading them, and the threads (`jackfield_serve`).

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jackfield_protocol::call::Buffer;
use jackfield_protocol::dispatch::{Called, Dispatched, Incoming};
use jackfield_protocol::frame::{HEADER_LEN, Header, Kind, split_trace};
use jackfield_protocol::message::{self, Hello, Message, code, feature, method};
use jackfield_protocol::{Encoding, Interface, PROTOCOL, nearest};
use jackfield_serve::{Serve, Then, Work};

use crate::about::about;
use crate::instance::{Export, Outcome, Served};
use crate::log::{Level, log};
use crate::trace::{Carried, take_spans, within};

pub(crate) struct Session {
    export: &'static Export,
    described: Vec<&'static Interface>,
    served: Served,
    output: Mutex<Box<dyn Write + Send>>,
    frames: AtomicBool,
    /// Whether the host takes spans.
    spans: AtomicBool,
}

impl Session {
    pub(crate) fn new(
        export: &'static Export,
        described: Vec<&'static Interface>,
        served: Served,
        output: Box<dyn Write + Send>,
    ) -> Self {
        let [frames, spans] = [false; 2].map(AtomicBool::new);
        Self { export, described, served, output: Mutex::new(output), frames, spans }
    }

    fn line(&self, line: &[u8]) -> Then {
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
                return Then::Leave;
            }
            Ok(_) => {}
            Err(error) => {
                let why = error.to_string();
                self.send(|out| message::write_error(out, None, code::PARSE, &why, b""));
            }
        }
        Then::GoOn
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

impl Serve for Session {
    fn answer(&self, work: &Work) -> Then {
        match work {
            Work::Line(line) => self.line(line),
            Work::Call { header, trace, body } => {
                within(self.carried(trace), || self.frame(*header, body));
                Then::GoOn
            }
        }
    }

    fn complain(&self, what: &str) {
        log(Level::Warn, what);
    }

    fn stop(&self) {
        self.served.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
