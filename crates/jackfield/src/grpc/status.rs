//! What a gRPC status means: the plugin's own error, or why there is none of its own.

use std::error::Error as _;
use std::time::Duration;

use jackfield_protocol::call::Cause;
use serde_json::json;
use tonic::{Code, Status};

use crate::mechanism::Told;

/// Metadata in which an SDK plugin says how a call ended, where gRPC has no code for it.
const OUTCOME: &str = "jackfield-outcome";

/// What is taken of a plugin: a message of this size, with an answer of that size in it.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    pub(super) message_bytes_max: usize,
    pub(super) answer_bytes_max: usize,
}

/// What a status says.
pub(super) enum Said {
    /// The connection failed, and the plugin perhaps with it.
    Disconnected,
    Told(Told),
}

/// Reads the status of a method of the plugin's own: most codes are the application's.
pub(super) fn said(status: &Status, timeout: Duration, taken: Taken) -> Said {
    let cause = match failed(status, timeout, taken) {
        Failed::Disconnected => return Said::Disconnected,
        Failed::Cause(cause) => cause,
        Failed::Other => {
            let code = name(status.code());
            return Said::Told(Told::Own(json!({ "code": code, "message": status.message() })));
        }
    };
    Said::Told(Told::Failed(cause))
}

/// Reads the status of a function of an interface, whose own errors are answers and no status.
pub(super) fn cause(status: &Status, timeout: Duration, taken: Taken) -> Option<Cause> {
    let why = || status.message().to_owned();
    Some(match failed(status, timeout, taken) {
        Failed::Disconnected => return None,
        Failed::Cause(cause) => cause,
        Failed::Other => match status.code() {
            Code::InvalidArgument => Cause::Refused { why: why() },
            Code::Unavailable => Cause::Unavailable { why: why() },
            code => Cause::Refused { why: format!("it could not answer: {} (code {})", why(), name(code)) },
        },
    })
}

enum Failed {
    Disconnected,
    Cause(Cause),
    Other,
}

fn failed(status: &Status, timeout: Duration, taken: Taken) -> Failed {
    let message = status.message();
    let cause = match status.code() {
        // Of this side's making: what is received has no source.
        _ if status.source().is_some() => return Failed::Disconnected,
        // What tonic says of a message that is larger than it takes. A plugin with the SDK says it of ours, in
        // the same words: only the limit tells who it was.
        Code::OutOfRange if message.contains("message length too large") => match sizes(message) {
            Some((found, limit)) if limit == taken.message_bytes_max.to_string() => {
                let what = format!("the answer is {found} bytes of {} allowed", taken.answer_bytes_max);
                Cause::Limit { limit: "answer_bytes", what }
            }
            Some((found, limit)) => {
                let what = format!("the message is {found} bytes of {limit} allowed");
                Cause::Limit { limit: "of the plugin's own", what }
            }
            None => Cause::Limit { limit: "of the plugin's own", what: message.to_owned() },
        },
        // What grpc-go says.
        Code::ResourceExhausted => Cause::Limit { limit: "of the plugin's own", what: message.to_owned() },
        Code::Unimplemented => Cause::Unimplemented { hint: hint(message) },
        Code::DeadlineExceeded => Cause::Timeout { after: timeout },
        Code::Cancelled => Cause::Cancelled,
        Code::Internal if status.metadata().get(OUTCOME).is_some_and(|outcome| outcome == "panicked") => {
            Cause::Panicked { message: message.to_owned() }
        }
        _ => return Failed::Other,
    };
    Failed::Cause(cause)
}

/// What a plugin says of a function that it does not have.
pub(super) fn hint(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

/// The numbers of `found 5 bytes, the limit is: 4 bytes`.
fn sizes(message: &str) -> Option<(&str, &str)> {
    let mut numbers = message.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    Some((numbers.next()?, numbers.next()?))
}

/// `NOT_FOUND`, as gRPC's documents write it.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Status, expected: &str) {
        let told = match said(&status, Duration::from_secs(1), Taken { message_bytes_max: 4, answer_bytes_max: 3 }) {
            Said::Disconnected => "disconnected".to_owned(),
            Said::Told(Told::Own(error)) => format!("its own error: {error}"),
            Said::Told(Told::Failed(cause)) => format!("{}: {cause}", cause.status()),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn the_codes_of_an_application_are_its_own_errors() {
        check(Status::not_found("no `a`"), r#"its own error: {"code":"NOT_FOUND","message":"no `a`"}"#);
        check(Status::unknown("x"), r#"its own error: {"code":"UNKNOWN","message":"x"}"#);
    }

    #[test]
    fn what_grpc_itself_says_is_no_error_of_the_application() {
        check(Status::unimplemented("unknown method X"), "refused: the plugin has no such function (unknown method X)");
        check(Status::deadline_exceeded(""), "timeout: no answer after 1s");
        check(
            Status::resource_exhausted("grpc: received message larger than max (5 vs. 4)"),
            "limit: limit `of the plugin's own`: grpc: received message larger than max (5 vs. 4)",
        );
        check(
            Status::out_of_range("Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes"),
            "limit: limit `answer_bytes`: the answer is 9 bytes of 3 allowed",
        );
        check(
            Status::out_of_range("Error, decoded message length too large: found 9 bytes, the limit is: 5 bytes"),
            "limit: limit `of the plugin's own`: the message is 9 bytes of 5 allowed",
        );
    }
}
