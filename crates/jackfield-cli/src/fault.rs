//! What went wrong, as the HTTP API says it: a kind from a closed set, with its status code, and the words.
//!
//! The set is documented in `docs/api.md`, which a test compares.

use anyhow::Error;
use http::StatusCode;
use jackfield::{Cause, EnableError, Failure, ReloadError, UnknownPlugin};
use serde::{Deserialize, Serialize};

use crate::report::{self, Told};

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", from = "String")]
pub(crate) enum Kind {
    // The request.
    BadRequest,
    Unauthorized,
    UnknownRoute,
    MethodNotAllowed,
    BodyTooLarge,
    Busy,
    Stopping,
    // What is asked of a plugin, beside calls.
    UnknownPlugin,
    PluginRefused,
    ReloadFailed,
    NotStarted,
    NotQuarantined,
    // A call, by the status under which it is counted.
    UnknownFunction,
    Timeout,
    Cancelled,
    Crashed,
    Panicked,
    Limit,
    Unavailable,
    Refused,
    Protocol,
    /// Nobody thought of it. Also whatever a later version of the host may say.
    Internal,
}

impl Kind {
    /// In the order of the discriminants: its name, and the status code of an answer that says so.
    pub(crate) const ALL: [(Kind, &'static str, StatusCode); 22] = [
        (Kind::BadRequest, "bad_request", StatusCode::BAD_REQUEST),
        (Kind::Unauthorized, "unauthorized", StatusCode::UNAUTHORIZED),
        (Kind::UnknownRoute, "unknown_route", StatusCode::NOT_FOUND),
        (Kind::MethodNotAllowed, "method_not_allowed", StatusCode::METHOD_NOT_ALLOWED),
        (Kind::BodyTooLarge, "body_too_large", StatusCode::PAYLOAD_TOO_LARGE),
        (Kind::Busy, "busy", StatusCode::SERVICE_UNAVAILABLE),
        (Kind::Stopping, "stopping", StatusCode::SERVICE_UNAVAILABLE),
        (Kind::UnknownPlugin, "unknown_plugin", StatusCode::NOT_FOUND),
        (Kind::PluginRefused, "plugin_refused", StatusCode::CONFLICT),
        (Kind::ReloadFailed, "reload_failed", StatusCode::CONFLICT),
        (Kind::NotStarted, "not_started", StatusCode::CONFLICT),
        (Kind::NotQuarantined, "not_quarantined", StatusCode::NOT_FOUND),
        (Kind::UnknownFunction, "unknown_function", StatusCode::NOT_FOUND),
        (Kind::Timeout, "timeout", StatusCode::GATEWAY_TIMEOUT),
        (Kind::Cancelled, "cancelled", StatusCode::SERVICE_UNAVAILABLE),
        (Kind::Crashed, "crashed", StatusCode::BAD_GATEWAY),
        (Kind::Panicked, "panicked", StatusCode::BAD_GATEWAY),
        (Kind::Limit, "limit", StatusCode::BAD_GATEWAY),
        (Kind::Unavailable, "unavailable", StatusCode::SERVICE_UNAVAILABLE),
        (Kind::Refused, "refused", StatusCode::BAD_REQUEST),
        (Kind::Protocol, "protocol", StatusCode::BAD_GATEWAY),
        (Kind::Internal, "internal", StatusCode::INTERNAL_SERVER_ERROR),
    ];

    pub(crate) fn status(self) -> StatusCode {
        Self::ALL[self as usize].2
    }

    fn of_cause(cause: &Cause) -> Self {
        match cause {
            Cause::Timeout { .. } => Kind::Timeout,
            Cause::Cancelled => Kind::Cancelled,
            Cause::Crashed { .. } => Kind::Crashed,
            Cause::Panicked { .. } => Kind::Panicked,
            Cause::Limit { .. } => Kind::Limit,
            Cause::Unavailable { .. } => Kind::Unavailable,
            Cause::Unimplemented { .. } => Kind::UnknownFunction,
            Cause::Refused { .. } => Kind::Refused,
            Cause::Protocol { .. } => Kind::Protocol,
            _ => Kind::Internal,
        }
    }

    fn of_reload(error: &ReloadError) -> Self {
        match error {
            ReloadError::Unknown(_) => Kind::UnknownPlugin,
            _ => Kind::ReloadFailed,
        }
    }

    fn of_enable(error: &EnableError) -> Self {
        match error {
            EnableError::Unknown(_) => Kind::UnknownPlugin,
            EnableError::NotQuarantined { .. } => Kind::NotQuarantined,
            EnableError::Stopping { .. } => Kind::Stopping,
            EnableError::Quarantined { .. } | EnableError::Start { .. } => Kind::NotStarted,
            _ => Kind::Internal,
        }
    }

    fn of(error: &Error) -> Self {
        let kind = error.chain().find_map(|cause| {
            let told = || Some(cause.downcast_ref::<Told>()?.kind);
            let failure = || Some(Kind::of_cause(&cause.downcast_ref::<Failure>()?.cause));
            let unknown = || cause.downcast_ref::<UnknownPlugin>().map(|_| Kind::UnknownPlugin);
            let reload = || cause.downcast_ref::<ReloadError>().map(Kind::of_reload);
            let enable = || cause.downcast_ref::<EnableError>().map(Kind::of_enable);
            told().or_else(failure).or_else(unknown).or_else(reload).or_else(enable)
        });
        kind.unwrap_or(Kind::Internal)
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> Self {
        Kind::ALL[kind as usize].1
    }
}

impl From<String> for Kind {
    fn from(name: String) -> Self {
        let known = Kind::ALL.into_iter().find(|(_, known, _)| *known == name);
        known.map_or(Kind::Internal, |(kind, _, _)| kind)
    }
}

/// The body of an answer that is an error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) error: Fault,
}

/// An error in an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// The causes, the nearest first.
    #[serde(default)]
    pub(crate) chain: Vec<String>,
    /// What a person may do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), chain: Vec::new(), hint: None }
    }

    pub(crate) fn of(error: &Error) -> Self {
        let hint = error.chain().find_map(|cause| cause.downcast_ref::<Told>()?.hint.clone());
        let mut chain = report::chain(error.as_ref());
        let message = chain.remove(0);
        Self { kind: Kind::of(error), message, chain, hint }
    }

    /// The same error, here.
    pub(crate) fn told(self) -> Told {
        let causes = self.chain.into_iter().rev();
        let source =
            causes.fold(None, |source, text| Some(Box::new(Told { source, ..Told::new(Kind::Internal, text) })));
        Told { kind: self.kind, text: self.message, hint: self.hint, source }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::output::Paint;

    #[test]
    fn an_error_is_told_the_same_here_and_there() {
        let cause = Told::new(Kind::Internal, "permission denied");
        let refused = Told::new(Kind::PluginRefused, "plugin `resize` was refused").hint("make it executable");
        let error = Error::from(Told { source: Some(Box::new(cause)), ..refused });
        let here = report::text(&error, Paint::PLAIN);
        let json = serde_json::to_string(&Body { error: Fault::of(&error) }).expect("JSON");
        expect![[
            r#"{"error":{"kind":"plugin_refused","message":"plugin `resize` was refused","chain":["permission denied"],"hint":"make it executable"}}"#
        ]]
        .assert_eq(&json);
        let there: Body = serde_json::from_str(&json).expect("an error");
        assert_eq!(report::text(&there.error.told().into(), Paint::PLAIN), here);
    }

    #[test]
    fn a_call_that_failed_has_its_status_as_its_kind_and_the_same_hint() {
        let cause = Cause::Timeout { after: std::time::Duration::from_secs(1) };
        let error = Error::from(Failure::new("english", "greet", cause));
        let fault = Fault::of(&error);
        assert_eq!((fault.kind, fault.kind.status().as_u16()), (Kind::Timeout, 504));
        assert_eq!(report::text(&fault.told().into(), Paint::PLAIN), report::text(&error, Paint::PLAIN));
    }

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        assert!(Kind::ALL.iter().enumerate().all(|(at, (kind, _, _))| *kind as usize == at));
    }

    #[test]
    fn what_a_later_host_says_is_an_error_all_the_same() {
        let body: Body = serde_json::from_str(r#"{"error":{"kind":"moon_phase","message":"no"}}"#).expect("an error");
        assert_eq!(body.error.kind, Kind::Internal);
    }
}
