//! What went wrong with a connection or one call of it, as gRPC's status.

use std::io::ErrorKind;
use std::sync::Arc;

use h2::Reason;
use tonic::{Code, Status};

/// The source of a status that this side made of what it saw. One that was received has no source.
#[derive(Debug, thiserror::Error)]
#[error("seen by this side of the connection")]
struct SeenHere;

/// What gRPC calls an error of HTTP/2, and what was seen. It has a source, as no status has that was received.
pub(crate) fn of_h2(error: &h2::Error) -> Status {
    let code = match error.reason() {
        _ if error.is_io() || error.is_go_away() => Code::Unavailable,
        Some(Reason::CANCEL) => Code::Cancelled,
        Some(Reason::REFUSED_STREAM) => Code::Unavailable,
        Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(_) => Code::Internal,
        // Of a connection that is gone already nothing more is known.
        None => Code::Unavailable,
    };
    let what = match error {
        // What rustls and tokio say of it differs, and neither is what somebody wants to read.
        error if error.get_io().is_some_and(|error| error.kind() == ErrorKind::UnexpectedEof) => {
            "the connection broke: it ended in the middle".to_owned()
        }
        error if error.is_io() => format!("the connection broke: {error}"),
        error if error.is_go_away() && error.is_remote() => format!("the other side closed the connection: {error}"),
        error if error.is_reset() && error.is_remote() => format!("the other side ended the call: {error}"),
        error => error.to_string(),
    };
    seen_here(code, what)
}

/// A status of this side's making.
pub(crate) fn seen_here(code: Code, what: impl Into<String>) -> Status {
    let mut status = Status::new(code, what);
    status.set_source(Arc::new(SeenHere));
    status
}
