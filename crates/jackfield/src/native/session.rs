//! Talks to a loaded library: on the caller's thread, with nothing in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jackfield_native::{NativeError, Registered, Registration};
use jackfield_protocol::call::{Answer, Buffer, Cause};
use jackfield_protocol::name::NameError;
use jackfield_protocol::native::{ABI_MAJOR, ABI_MINOR, Call, NO_DEADLINE, NO_INDEX, Str, status};

use super::LibraryError;
use crate::mechanism::{About, Boxed, Inbound, Offered, Outbound, Session};
use crate::trace;

pub(super) struct NativeSession {
    about: About,
    registrations: Vec<Registration>,
    answer_bytes_max: usize,
    stopped: AtomicBool,
}

impl NativeSession {
    /// Believes what a library registered, if it makes sense.
    pub(super) fn new(registered: Registered, answer_bytes_max: u64) -> Result<Self, LibraryError> {
        let Registered { name, version, capabilities, interfaces } = registered;
        let senseless = |what: String| LibraryError::Register { what };
        let offered = interfaces.iter().map(|registration| {
            let (id, description) = registration.described().map_err(|error| match error {
                NativeError::Register { what } => senseless(what),
                other => LibraryError::Load { what: other.to_string() },
            })?;
            Ok(Offered { id, description: description.map(Arc::new), binary: registration.binary })
        });
        let capabilities = capabilities.iter().map(|capability| {
            capability.parse().map_err(|error: NameError| senseless(format!("offered a capability: {error}")))
        });
        let about = About {
            interfaces: offered.collect::<Result<_, LibraryError>>()?,
            capabilities: capabilities.collect::<Result<_, _>>()?,
            name,
            version,
            services: Vec::new(),
            speaks: format!("ABI {ABI_MAJOR}.{ABI_MINOR}"),
        };
        Ok(Self {
            about,
            registrations: interfaces,
            answer_bytes_max: usize::try_from(answer_bytes_max).unwrap_or(usize::MAX),
            stopped: AtomicBool::new(false),
        })
    }

    fn call_now(&self, outbound: &Outbound<'_>) -> Result<Answer, Cause> {
        if let Some(why) = self.ended() {
            return Err(Cause::Unavailable { why });
        }
        let encoding = outbound.encoding;
        let arguments = outbound.arguments.bytes();
        let trace = outbound.trace.map(|trace| trace.text());
        let state = outbound.trace.and_then(|_| trace::state());
        let call = Call {
            size: size_of::<Call>() as u32,
            encoding: encoding as u32,
            function: Str::of(&outbound.function.name),
            index: outbound.function.position.unwrap_or(NO_INDEX),
            reserved: 0,
            arguments: Str { data: arguments.as_ptr(), len: arguments.len() },
            deadline_us: u64::try_from(outbound.timeout.as_micros()).unwrap_or(NO_DEADLINE),
            traceparent: trace.as_deref().map_or(Str::EMPTY, Str::of),
            tracestate: state.as_deref().map_or(Str::EMPTY, Str::of),
        };
        let mut bytes = Buffer::new();
        let mut make = || self.registrations[outbound.interface].call(&call, &mut bytes, self.answer_bytes_max);
        let ended = match outbound.trace {
            None => make(),
            // What it logs on this thread is of this call.
            Some(context) => trace::traced_blocking(*context, make),
        };
        let text = |bytes: &Buffer| String::from_utf8_lossy(bytes).into_owned();
        match ended {
            status::OK => Ok(Answer::encoded(true, encoding, bytes)),
            status::OWN_ERROR => Ok(Answer::encoded(false, encoding, bytes)),
            status::UNIMPLEMENTED => Err(Cause::Unimplemented { hint: String::new() }),
            status::BAD_ARGUMENTS => Err(Cause::Refused { why: text(&bytes) }),
            status::PANICKED => Err(Cause::Panicked { message: text(&bytes) }),
            status::ANSWER_TOO_LARGE => Err(Cause::Limit {
                limit: "answer_bytes",
                what: format!("the answer is longer than {} bytes", self.answer_bytes_max),
            }),
            status::FAILED => Err(Cause::Refused { why: format!("it could not answer: {}", text(&bytes)) }),
            other => Err(Cause::Protocol { what: format!("it answered with status {other}") }),
        }
    }
}

impl Session for NativeSession {
    fn about(&self) -> &About {
        &self.about
    }

    fn call(&self, outbound: Outbound<'_>) -> Inbound {
        Inbound::Now(self.call_now(&outbound))
    }

    fn ended(&self) -> Option<String> {
        self.stopped.load(Ordering::Acquire).then(|| "it was stopped".to_owned())
    }

    fn stop(&self, idle: bool) -> Boxed<'_, ()> {
        Box::pin(async move {
            // A call that does not end keeps the plugin's state in use: then it stays as it is.
            if !self.stopped.swap(true, Ordering::AcqRel) && idle {
                self.registrations.iter().for_each(Registration::stop);
            }
        })
    }

    fn kill(&self, _: Cause) {
        self.stopped.store(true, Ordering::Release);
    }

    fn process(&self) -> Option<u32> {
        None
    }
}
