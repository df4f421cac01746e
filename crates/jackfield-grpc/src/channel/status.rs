//! What went wrong with a connection or one call of it, as gRPC's status.

use h2::Reason;
use tonic::{Code, Status};

/// What gRPC calls an error of HTTP/2, and what was seen.
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
        error if error.is_io() => format!("the connection broke: {error}"),
        error if error.is_go_away() && error.is_remote() => format!("the other side closed the connection: {error}"),
        error if error.is_reset() && error.is_remote() => format!("the other side ended the call: {error}"),
        error => error.to_string(),
    };
    Status::new(code, what)
}
