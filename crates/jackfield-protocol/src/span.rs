//! A span that a plugin recorded, on its way home: plugins without an exporter send theirs through the host.
//!
//! It is one JSON object in every mechanism: the parameters of `jackfield/span`, what `jf_host.span` takes, a string of
//! `ChannelResponse.spans`, the metadata [`METADATA`] of a unary call.
//!
//! Not here: which spans a host takes (`jackfield`), how an author makes them (`jackfield-plugin`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::trace::{TraceContext, hex, write_hex};

/// Longest span that a host takes, in bytes of its JSON. A longer one is dropped and counted.
pub const SPAN_BYTES_MAX: usize = 8 * 1024;

/// Most spans that a host takes of one call. The others are dropped and counted.
pub const SPANS_MAX: usize = 128;

/// Metadata of a unary gRPC call's answer that carry spans, one each, as the JSON object.
pub const METADATA: &str = "jackfield-span-bin";

/// Metadata of a gRPC call by which a host says that it takes its spans home: `1`.
pub const METADATA_WANTED: &str = "jackfield-spans";

/// A span that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRecord {
    /// The span itself.
    pub span: TraceContext,
    /// The span it is in: the call's, as the host gave it, or another one of the plugin's.
    pub parent: [u8; 8],
    /// What was done: `greeter.greet` for the function that was called.
    pub name: String,
    /// When it began, in nanoseconds since 1970. 0 of a plugin that has no clock: the host puts the call's time.
    pub start: u64,
    /// When it was over, likewise.
    pub end: u64,
    /// In a word why it failed: a [`Status`](crate::Status) or the plugin's own; none if it went well.
    pub error: Option<String>,
    /// Further facts: strings, numbers, truth values. Others are passed over.
    pub attributes: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Json<'a> {
    #[serde(borrow)]
    span: Cow<'a, str>,
    #[serde(borrow)]
    parent: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    start: u64,
    #[serde(default)]
    end: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    attributes: Map<String, Value>,
}

/// Why bytes are no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASpan {
    /// They are more than [`SPAN_BYTES_MAX`].
    #[error("it is {0} bytes of {SPAN_BYTES_MAX} allowed")]
    TooLong(usize),
    /// They are no JSON of this form.
    #[error("{0}")]
    Unreadable(String),
    /// `span` is no `traceparent`.
    #[error("`span` is no `traceparent`: {0:?}")]
    NoSpan(String),
    /// `parent` is not the id of a span.
    #[error("`parent` is not 16 digits of a span's id: {0:?}")]
    NoParent(String),
}

impl SpanRecord {
    /// Reads one.
    pub fn from_json(json: &[u8]) -> Result<Self, NotASpan> {
        if json.len() > SPAN_BYTES_MAX {
            return Err(NotASpan::TooLong(json.len()));
        }
        let read: Json<'_> = serde_json::from_slice(json).map_err(|error| NotASpan::Unreadable(error.to_string()))?;
        let span = TraceContext::parse(read.span.as_bytes()).ok_or_else(|| NotASpan::NoSpan(read.span.to_string()))?;
        let parent: Option<[u8; 8]> = (read.parent.len() == 16).then(|| hex(read.parent.as_bytes())).flatten();
        let parent = parent.filter(|parent| *parent != [0; 8]);
        let parent = parent.ok_or_else(|| NotASpan::NoParent(read.parent.to_string()))?;
        Ok(Self {
            span,
            parent,
            name: read.name.into_owned(),
            start: read.start,
            end: read.end,
            error: read.error.map(Cow::into_owned),
            attributes: read.attributes,
        })
    }

    /// Writes it.
    pub fn to_json(&self) -> String {
        let text = self.span.text();
        let mut parent = [0; 16];
        write_hex(&self.parent, &mut parent);
        let json = Json {
            span: Cow::Borrowed(&*text),
            parent: String::from_utf8_lossy(&parent),
            name: Cow::Borrowed(&self.name),
            start: self.start,
            end: self.end,
            error: self.error.as_deref().map(Cow::Borrowed),
            attributes: self.attributes.clone(),
        };
        // Strings and numbers: nothing in it can fail.
        serde_json::to_string(&json).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"span":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","parent":"b7ad6b7169203331","name":"greeter.greet","start":1,"end":2,"error":"panicked","attributes":{"n":7}}"#;

    #[test]
    fn a_span_is_read_and_written() {
        let span = SpanRecord::from_json(JSON.as_bytes()).expect("a span");
        assert_eq!((span.parent[0], span.parent[7], &*span.name), (0xb7, 0x31, "greeter.greet"));
        assert_eq!((span.start, span.end, span.error.as_deref()), (1, 2, Some("panicked")));
        assert_eq!(span.to_json(), JSON);
    }

    #[test]
    fn what_is_optional_may_be_missing() {
        let json = r#"{"span":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","parent":"b7ad6b7169203331","name":"x","more":[]}"#;
        let span = SpanRecord::from_json(json.as_bytes()).expect("a span");
        assert_eq!((span.start, span.end, span.error), (0, 0, None));
    }

    #[test]
    fn what_is_no_span_is_refused_with_the_reason() {
        for (json, why) in [
            ("[]".to_owned(), "invalid type: sequence, expected a string at line 1 column 0"),
            (JSON.replace("00-4b", "00-"), "`span` is no `traceparent`"),
            (JSON.replace("b7ad", "xxxx"), "`parent` is not 16 digits of a span's id: \"xxxx6b7169203331\""),
            (JSON.replace("b7ad6b7169203331", "0000000000000000"), "`parent` is not 16 digits"),
            (JSON.replace("b7ad6b7169203331", "b7ad"), "`parent` is not 16 digits"),
            (JSON.replace("\"name\":\"greeter.greet\",", ""), "missing field `name`"),
            (JSON.replace("greeter.greet", &"x".repeat(SPAN_BYTES_MAX)), "it is 8"),
        ] {
            let refused = SpanRecord::from_json(json.as_bytes()).expect_err("no span").to_string();
            // What serde says of a sequence is its own business.
            assert!(json == "[]" || refused.starts_with(why), "{refused}");
        }
    }
}
