//! One conversation with a host, for a library: what its messages are answered with.
//!
//! A library that takes one call at a time gets one at a time: the others wait for its turn.
//!
//! Not here: reading messages, and the threads (`jackfield_serve`).

use std::cell::RefCell;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jackfield_native::{NativeError, Registered, Registration};
use jackfield_protocol::call::Buffer;
use jackfield_protocol::frame::{HEADER_LEN, Header, Kind};
use jackfield_protocol::message::{self, Hello, HelloAnswer, Message, Meta, Offer, PluginName, code, feature, method};
use jackfield_protocol::native::{Call, NO_DEADLINE, NO_INDEX, Str, status};
use jackfield_protocol::span::SpanRecord;
use jackfield_protocol::{Encoding, Interface, InterfaceId, PROTOCOL, nearest};
use jackfield_serve::{Serve, Server, Then, Work};

/// Longest answer taken from the library. The host has a bound of its own; this is what a frame can say.
const ANSWER_BYTES_MAX: usize = u32::MAX as usize - HEADER_LEN;

/// Calls that the library makes at once. In process it would be as many as there are callers.
const WORKERS: usize = 64;

/// Time that running calls are given to end once the host is gone.
const END_GRACE: Duration = Duration::from_secs(2);

/// The pipe to the host.
pub(super) struct Output {
    to: Mutex<File>,
    /// Whether the host takes spans.
    spans: AtomicBool,
}

impl Output {
    pub(super) fn new(to: File) -> Self {
        Self { to: Mutex::new(to), spans: AtomicBool::new(false) }
    }

    /// Passes a span of the library's on, if the host wants it. What is no JSON on one line the host would take for noise.
    pub(super) fn send_span(&self, json: &[u8]) {
        if self.spans.load(Ordering::Acquire)
            && let Ok(span) = SpanRecord::from_json(json)
        {
            self.send(|out| message::write_notification(out, method::SPAN, span.to_json().as_bytes()));
        }
    }

    pub(super) fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Buffer::new();
        write(&mut out);
        self.write(&out);
    }

    fn write(&self, bytes: &[u8]) {
        // Nobody reads any more: the end of our input comes next.
        let _ = lock(&self.to).write_all(bytes);
    }
}

pub(super) struct Session {
    about: HelloAnswer,
    interfaces: Vec<Served>,
    output: Arc<Output>,
    stopped: AtomicBool,
}

struct Served {
    id: InterfaceId,
    description: Option<Interface>,
    registration: Registration,
}

impl Session {
    pub(super) fn new(registered: Registered, output: Arc<Output>) -> Result<Self, NativeError> {
        let Registered { name, version, capabilities, interfaces } = registered;
        let senseless = |what: String| NativeError::Register { what };
        // Encodings are those of a plugin here, and of an interface in the library.
        let binary = interfaces.iter().all(|registration| registration.binary);
        let served = interfaces.into_iter().map(|registration| {
            let (id, description) = registration.described()?;
            Ok(Served { id, description, registration })
        });
        let interfaces = served.collect::<Result<Vec<_>, NativeError>>()?;
        let offers = interfaces.iter().map(|served| match &served.description {
            Some(description) => Offer::Described(Box::new(description.clone())),
            None => Offer::Named(served.id.clone()),
        });
        let capabilities = capabilities
            .iter()
            .map(|capability| capability.parse().map_err(|error| senseless(format!("offered a capability: {error}"))));
        let about = HelloAnswer {
            protocol: PROTOCOL,
            plugin: PluginName { name, version },
            encodings: if binary { vec![Encoding::Json, Encoding::Binary] } else { vec![Encoding::Json] },
            features: match binary {
                true => vec![feature::FRAMES.to_owned(), feature::SPANS.to_owned()],
                false => vec![feature::SPANS.to_owned()],
            },
            capabilities: capabilities.collect::<Result<_, _>>()?,
            interfaces: offers.collect(),
        };
        Ok(Self { about, interfaces, output, stopped: AtomicBool::new(false) })
    }

    /// Serves until the host is done with us. Calls that are still running then have [`END_GRACE`].
    pub(super) fn run(self, input: File) {
        Server::run(self, Box::new(input), WORKERS, END_GRACE);
    }

    fn line(&self, line: &[u8]) -> Then {
        match Message::parse(line) {
            Ok(Message::Request { id, method: name, params, meta }) => {
                let params = params.map_or(&[][..], |params| params.get().as_bytes());
                match &*name {
                    method::HELLO => self.hello(id, params),
                    method::PING => self.output.send(|out| message::write_answer(out, id, b"null")),
                    name => self.call(id, name, params, &meta),
                }
            }
            Ok(Message::Notification { method: name, .. }) if name == method::SHUTDOWN => return Then::Leave,
            // A call that runs cannot be stopped from outside; its answer comes and is dropped.
            Ok(_) => {}
            Err(error) => {
                let why = error.to_string();
                self.output.send(|out| message::write_error(out, None, code::PARSE, &why, b""));
            }
        }
        Then::GoOn
    }

    fn hello(&self, id: u64, params: &[u8]) {
        let refuse =
            |code: i64, why: String| self.output.send(|out| message::write_error(out, Some(id), code, &why, b""));
        let hello: Hello = match serde_json::from_slice(params) {
            Ok(hello) => hello,
            Err(error) => return refuse(code::INVALID_PARAMS, error.to_string()),
        };
        if hello.protocol.major != PROTOCOL.major {
            let why = format!("the host speaks protocol {}, this runner speaks {PROTOCOL}", hello.protocol);
            return refuse(code::UNSUPPORTED_PROTOCOL, why);
        }
        let spans = hello.features.iter().any(|offered| offered == feature::SPANS);
        self.output.spans.store(spans, Ordering::Release);
        match serde_json::to_vec(&self.about) {
            Ok(answer) => self.output.send(|out| message::write_answer(out, id, &answer)),
            Err(error) => refuse(code::INTERNAL, error.to_string()),
        }
    }

    /// A call in JSON: `greeter.greet` or `demo:greeter/greeter.greet`.
    fn call(&self, id: u64, name: &str, arguments: &[u8], meta: &Meta) {
        let found = name.rsplit_once('.').and_then(|(interface, function)| {
            let named = |served: &&Served| served.id.name == interface || served.id.unversioned() == interface;
            self.interfaces.iter().find(named).map(|served| (served, function))
        });
        let Some((served, function)) = found else { return self.fail(id, name, status::UNIMPLEMENTED, b"") };
        let mut functions = served.description.iter().flat_map(|description| &description.functions);
        let index = functions.position(|known| known.name == function).and_then(|at| u32::try_from(at).ok());
        let mut answer = Buffer::new();
        let deadline = meta.deadline_ms.map(|ms| ms.saturating_mul(1000));
        let arguments = if arguments.is_empty() { &b"{}"[..] } else { arguments };
        let state = meta.tracestate.as_deref().unwrap_or_default();
        let trace = Trace { parent: meta.traceparent.as_deref().unwrap_or_default(), state };
        match served.make(function, index, Encoding::Json, arguments, deadline, trace, &mut answer) {
            status::OK => self.output.send(|out| message::write_answer(out, id, &answer)),
            status::OWN_ERROR => {
                let text = "the plugin's own error";
                self.output.send(|out| message::write_error(out, Some(id), code::OWN_ERROR, text, &answer));
            }
            failed => self.fail(id, name, failed, &answer),
        }
    }

    /// A call in the binary encoding.
    fn frame(&self, header: Header, trace: &[u8], body: &[u8]) {
        let id = header.id;
        let text = std::str::from_utf8(trace).unwrap_or_default();
        let (parent, state) = text.split_once('\n').unwrap_or((text, ""));
        let trace = Trace { parent, state };
        let unknown = || format!("function {} of interface {}", header.function, header.interface);
        let found = self.interfaces.get(usize::from(header.interface)).and_then(|served| {
            let function = served.description.as_ref()?.functions.get(usize::from(header.function))?;
            Some((served, &*function.name))
        });
        let Some((served, function)) = found else { return self.fail(id, &unknown(), status::UNIMPLEMENTED, b"") };
        let mut answer = Buffer::new();
        answer.resize(HEADER_LEN, 0);
        let deadline = (header.deadline_ms > 0).then(|| u64::from(header.deadline_ms) * 1000);
        let index = Some(u32::from(header.function));
        let kind = match served.make(function, index, Header::ENCODING, body, deadline, trace, &mut answer) {
            status::OK => Kind::Answer,
            status::OWN_ERROR => Kind::OwnError,
            failed => return self.fail(id, function, failed, answer.get(HEADER_LEN..).unwrap_or_default()),
        };
        let body_len = u32::try_from(answer.len() - HEADER_LEN).unwrap_or(u32::MAX);
        answer[..HEADER_LEN].copy_from_slice(&Header::answer(kind, id, body_len).to_bytes());
        self.output.write(&answer);
    }

    fn fail(&self, id: u64, name: &str, ended: i32, said: &[u8]) {
        let said = String::from_utf8_lossy(said).into_owned();
        let (code, why) = match ended {
            status::UNIMPLEMENTED => (code::METHOD_NOT_FOUND, format!("no function `{name}`{}", self.hint(name))),
            status::BAD_ARGUMENTS => (code::INVALID_PARAMS, said),
            status::PANICKED => (code::PANICKED, said),
            status::ANSWER_TOO_LARGE => (code::LIMIT, "the answer is longer than 4 GiB".to_owned()),
            status::FAILED => (code::INTERNAL, said),
            other => (code::INTERNAL, format!("it answered with status {other}")),
        };
        self.output.send(|out| message::write_error(out, Some(id), code, &why, b""));
    }

    fn hint(&self, name: &str) -> String {
        let functions = self.interfaces.iter().flat_map(|served| {
            let functions = served.description.iter().flat_map(|description| &description.functions);
            functions.map(move |function| format!("{}.{}", served.id.name, function.name))
        });
        let functions: Vec<_> = functions.collect();
        nearest(name, functions.iter().map(String::as_str))
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
    }
}

impl Serve for Session {
    fn answer(&self, work: &Work) -> Then {
        match work {
            Work::Line(line) => self.line(line),
            Work::Call { header, trace, body } => {
                self.frame(*header, trace, body);
                Then::GoOn
            }
        }
    }

    fn complain(&self, what: &str) {
        eprintln!("[WARN] {what}");
    }

    /// Tells the library.
    fn stop(&self) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.interfaces.iter().for_each(|served| served.registration.stop());
        }
    }
}

/// The trace context of a call, as it came.
#[derive(Clone, Copy)]
struct Trace<'a> {
    parent: &'a str,
    state: &'a str,
}

thread_local! {
    /// The `traceparent` of the call that this thread makes; empty if it has none.
    static PARENT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Hands over the `traceparent` of the call on this thread, if there is one.
pub(super) fn with_parent(take: impl FnOnce(&str)) {
    // A thread that is at its end has no call.
    let _ = PARENT.try_with(|parent| match parent.borrow().as_str() {
        "" => {}
        parent => take(parent),
    });
}

impl Served {
    #[expect(clippy::too_many_arguments, reason = "they are the fields of a call")]
    fn make(
        &self,
        function: &str,
        index: Option<u32>,
        encoding: Encoding,
        arguments: &[u8],
        deadline_us: Option<u64>,
        trace: Trace<'_>,
        answer: &mut Vec<u8>,
    ) -> i32 {
        let call = Call {
            size: size_of::<Call>() as u32,
            encoding: encoding as u32,
            function: Str::of(function),
            index: index.unwrap_or(NO_INDEX),
            reserved: 0,
            arguments: Str { data: arguments.as_ptr(), len: arguments.len() },
            deadline_us: deadline_us.unwrap_or(NO_DEADLINE),
            traceparent: Str::of(trace.parent),
            tracestate: Str::of(trace.state),
        };
        if !trace.parent.is_empty() {
            PARENT.with_borrow_mut(|parent| trace.parent.clone_into(parent));
        }
        let status = self.registration.call(&call, answer, ANSWER_BYTES_MAX);
        PARENT.with_borrow_mut(String::clear);
        status
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
