//! JSON-RPC 2.0, one message a line: what the `process` mechanism speaks.
//!
//! Both sides send requests, notifications and answers; ids are numbers, each side counts its own.
//! `docs/protocol.md` is this page for people who write a plugin without an SDK.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::encoding::Encoding;
use crate::interface::Interface;
use crate::name::{Capability, InterfaceId, NameError};

/// Method names that are the protocol's own.
pub mod method {
    /// Host → plugin, request: the first message.
    pub const HELLO: &str = "jackfield/hello";
    /// Host → plugin, request: are you there?
    pub const PING: &str = "jackfield/ping";
    /// Host → plugin, notification: nobody waits for this answer any more. `{"id": 7}`
    pub const CANCEL: &str = "jackfield/cancel";
    /// Host → plugin, notification: finish what you do and exit.
    pub const SHUTDOWN: &str = "jackfield/shutdown";
    /// Plugin → host, notification: a line for the host's log. `{"level": "info", "message": "…"}`
    pub const LOG: &str = "jackfield/log";
    /// Plugin → host, notification, if both offered [`feature::SPANS`](super::feature::SPANS): a span that is over ([`crate::span`]).
    pub const SPAN: &str = "jackfield/span";
}

/// Error codes. Those of JSON-RPC and ours lie in its reserved range, −32768 to −32000; every other
/// code is the plugin's own error, whose value is `data`.
pub mod code {
    /// JSON-RPC: the line is not JSON.
    pub const PARSE: i64 = -32700;
    /// JSON-RPC: the line is JSON, but no message.
    pub const INVALID_REQUEST: i64 = -32600;
    /// JSON-RPC: no such function.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// JSON-RPC: wrong arguments.
    pub const INVALID_PARAMS: i64 = -32602;
    /// JSON-RPC: the plugin could not, for a reason that is not the caller's.
    pub const INTERNAL: i64 = -32603;
    /// The plugin's code panicked.
    pub const PANICKED: i64 = -32001;
    /// The call was cancelled, and the plugin stopped working on it.
    pub const CANCELLED: i64 = -32002;
    /// The plugin gave up at the call's deadline.
    pub const TIMEOUT: i64 = -32003;
    /// A limit was hit.
    pub const LIMIT: i64 = -32004;
    /// The plugin cannot take calls now.
    pub const UNAVAILABLE: i64 = -32005;
    /// `hello` cannot be answered: the plugin does not speak the host's protocol.
    pub const UNSUPPORTED_PROTOCOL: i64 = -32022;
    /// The plugin's own error, where an SDK needs a number for it.
    pub const OWN_ERROR: i64 = 1;

    /// Whether a code says that the plugin answered with its own error.
    pub fn is_own_error(code: i64) -> bool {
        !(-32768..=-32000).contains(&code)
    }
}

/// A feature both sides may offer in `hello`; it is used when both did.
pub mod feature {
    /// Calls may travel as binary frames ([`crate::frame`]).
    pub const FRAMES: &str = "frames";
    /// The host takes the plugin's spans home ([`super::method::SPAN`]).
    pub const SPANS: &str = "spans";
}

/// `major.minor` of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ProtocolVersion {
    /// Equal majors understand each other.
    pub major: u32,
    /// A higher minor knows more, all of it optional.
    pub minor: u32,
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ProtocolVersion {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let number = |text: &str| text.parse::<u32>().ok();
        let parts = text.split_once('.').and_then(|(a, b)| Some((number(a)?, number(b)?)));
        let (major, minor) = parts.ok_or_else(|| NameError::new(text, "a protocol version is `major.minor`"))?;
        Ok(Self { major, minor })
    }
}

impl From<ProtocolVersion> for String {
    fn from(version: ProtocolVersion) -> String {
        version.to_string()
    }
}

impl TryFrom<String> for ProtocolVersion {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

/// `params` of `jackfield/hello`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// What the host speaks.
    pub protocol: ProtocolVersion,
    /// `jackfield/0.1.0`: for logs.
    pub host: String,
    /// Encodings the host can use, the preferred one last. Unknown ones are passed over.
    #[serde(default, deserialize_with = "known_encodings")]
    pub encodings: Vec<Encoding>,
    /// Features the host offers ([`feature`]).
    #[serde(default)]
    pub features: Vec<String>,
}

/// `result` of `jackfield/hello`. Only `protocol`, `plugin` and `interfaces` are required.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HelloAnswer {
    /// What the plugin speaks.
    pub protocol: ProtocolVersion,
    /// Who it is.
    pub plugin: PluginName,
    /// Encodings the plugin understands; JSON always. Unknown ones are passed over.
    #[serde(default, deserialize_with = "known_encodings")]
    pub encodings: Vec<Encoding>,
    /// Features the plugin offers.
    #[serde(default)]
    pub features: Vec<String>,
    /// What it promises.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// What it offers.
    pub interfaces: Vec<Offer>,
}

fn known_encodings<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Encoding>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let known = [Encoding::Json, Encoding::Binary];
    Ok(names.iter().filter_map(|name| known.into_iter().find(|known| known.as_str() == name)).collect())
}

/// Name and version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginName {
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(default = "zero")]
    pub version: String,
}

fn zero() -> String {
    "0.0.0".to_owned()
}

/// An interface that a plugin offers: by description, or, where it has none, by name alone.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Offer {
    /// `"demo:greeter/greeter@1.0.0"`: what its types are is not known.
    Named(InterfaceId),
    /// The whole description.
    Described(Box<Interface>),
}

impl Offer {
    /// Name and version.
    pub fn id(&self) -> &InterfaceId {
        match self {
            Offer::Named(id) => id,
            Offer::Described(interface) => &interface.id,
        }
    }

    /// The description, if there is one.
    pub fn described(&self) -> Option<&Interface> {
        match self {
            Offer::Named(_) => None,
            Offer::Described(interface) => Some(interface),
        }
    }
}

// By hand: serde's untagged enums say only that nothing matched, and not what is wrong with it.
impl<'de> Deserialize<'de> for Offer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Offer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an interface or its description")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Offer, E> {
                name.parse().map(Offer::Named).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Offer, A::Error> {
                let description = Interface::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Offer::Described(Box::new(description)))
            }
        }
        from.deserialize_any(Either)
    }
}

/// Context of a call, beside its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Meta {
    /// Milliseconds that are left for the call when it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// W3C trace context of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// W3C trace state of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

/// One line, read.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants an answer with this id.
    Request {
        /// The sender's number for it.
        id: u64,
        /// What is called.
        method: Cow<'a, str>,
        /// Arguments, as they stand in the line.
        params: Option<&'a RawValue>,
        /// Context.
        meta: Meta,
    },
    /// Wants no answer.
    Notification {
        /// What is told.
        method: Cow<'a, str>,
        /// With what.
        params: Option<&'a RawValue>,
    },
    /// A success.
    Answer {
        /// The id of the request.
        id: u64,
        /// The value, as it stands in the line.
        result: &'a RawValue,
    },
    /// An error.
    Error {
        /// The id of the request; none when it could not be read.
        id: Option<u64>,
        /// What went wrong.
        error: RpcError<'a>,
    },
}

/// JSON-RPC's error object.
#[derive(Debug, Deserialize)]
pub struct RpcError<'a> {
    /// See [`code`].
    pub code: i64,
    /// For people.
    #[serde(borrow, default)]
    pub message: Cow<'a, str>,
    /// For programs. `null` is a value; absent is none.
    #[serde(borrow, default, deserialize_with = "present")]
    pub data: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    /// Reads one line. An error says why it is no message; the line is then noise.
    pub fn parse(line: &'a [u8]) -> Result<Self, NotAMessage> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(default)]
            id: Option<u64>,
            #[serde(borrow, default)]
            method: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            params: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "present")]
            result: Option<&'a RawValue>,
            #[serde(borrow, default)]
            error: Option<RpcError<'a>>,
            #[serde(default, rename = "_meta")]
            meta: Meta,
        }
        if line.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(NotAMessage { why: "not a JSON object".to_owned() });
        }
        let line: Line<'a> = serde_json::from_slice(line).map_err(|error| NotAMessage { why: error.to_string() })?;
        match line {
            Line { method: Some(method), id: Some(id), params, meta, .. } => {
                Ok(Message::Request { id, method, params, meta })
            }
            Line { method: Some(method), id: None, params, .. } => Ok(Message::Notification { method, params }),
            Line { error: Some(error), id, .. } => Ok(Message::Error { id, error }),
            Line { result: Some(result), id: Some(id), .. } => Ok(Message::Answer { id, result }),
            Line { id: Some(_), .. } => {
                Err(NotAMessage { why: "neither `method` nor `result` nor `error`".to_owned() })
            }
            _ => Err(NotAMessage { why: "neither `method` nor `id`".to_owned() }),
        }
    }
}

/// A member that is there, even if it is `null`: a success may have no value.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Why a line is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotAMessage {
    why: String,
}

/// Appends a call or another request as a line. `params` is JSON.
pub fn write_request(out: &mut Vec<u8>, id: u64, method: &str, params: &[u8], meta: &Meta) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    write_json(out, &id);
    out.extend_from_slice(br#","method":"#);
    write_json(out, method);
    if !params.is_empty() {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params);
    }
    if *meta != Meta::default() {
        out.extend_from_slice(br#","_meta":"#);
        write_json(out, meta);
    }
    out.extend_from_slice(b"}\n");
}

/// Appends a notification as a line. `params` is JSON.
pub fn write_notification(out: &mut Vec<u8>, method: &str, params: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
    write_json(out, method);
    if !params.is_empty() {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params);
    }
    out.extend_from_slice(b"}\n");
}

/// Appends a success as a line. `result` is JSON.
pub fn write_answer(out: &mut Vec<u8>, id: u64, result: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    write_json(out, &id);
    out.extend_from_slice(br#","result":"#);
    out.extend_from_slice(result);
    out.extend_from_slice(b"}\n");
}

/// Appends an error as a line. `data` is JSON, or empty.
pub fn write_error(out: &mut Vec<u8>, id: Option<u64>, code: i64, message: &str, data: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    write_json(out, &id);
    out.extend_from_slice(br#","error":{"code":"#);
    write_json(out, &code);
    out.extend_from_slice(br#","message":"#);
    write_json(out, message);
    if !data.is_empty() {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data);
    }
    out.extend_from_slice(b"}}\n");
}

fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Numbers, strings and our own records into memory: nothing in it can fail.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(line: &str, expected: Expect) {
        expected.assert_eq(&match Message::parse(line.as_bytes()) {
            Ok(message) => format!("{message:?}"),
            Err(error) => format!("noise: {error}"),
        });
    }

    #[test]
    fn a_line_is_a_request_a_notification_an_answer_or_noise() {
        check(
            r#"{"id":7,"method":"greeter.greet","params":{"name":"Ada"},"_meta":{"deadline-ms":5}}"#,
            expect![[
                r#"Request { id: 7, method: "greeter.greet", params: Some(RawValue({"name":"Ada"})), meta: Meta { deadline_ms: Some(5), traceparent: None, tracestate: None } }"#
            ]],
        );
        check(
            r#"{"jsonrpc":"2.0","method":"jackfield/shutdown"}"#,
            expect![[r#"Notification { method: "jackfield/shutdown", params: None }"#]],
        );
        check(r#"{"id":7,"result":null}"#, expect!["Answer { id: 7, result: RawValue(null) }"]);
        check(
            r#"{"id":7,"error":{"code":1,"message":"no"}}"#,
            expect![[r#"Error { id: Some(7), error: RpcError { code: 1, message: "no", data: None } }"#]],
        );
        check("starting up ...", expect!["noise: not a JSON object"]);
        check("[1]", expect!["noise: not a JSON object"]);
        check(r#"{"id":7}"#, expect!["noise: neither `method` nor `result` nor `error`"]);
        check(
            r#"{"id":7,"error":{"code":1,"data":null}}"#,
            expect![[r#"Error { id: Some(7), error: RpcError { code: 1, message: "", data: Some(RawValue(null)) } }"#]],
        );
        check("{}", expect!["noise: neither `method` nor `id`"]);
        check(
            r#"{"id":-1,"result":1}"#,
            expect!["noise: invalid value: integer `-1`, expected u64 at line 1 column 8"],
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        write_request(&mut out, 1, "a.b", br#"{"x":"\n"}"#, &Meta { deadline_ms: Some(3), ..Meta::default() });
        write_error(&mut out, Some(2), code::OWN_ERROR, "a \"quoted\"\nline", b"[1]");
        write_answer(&mut out, 3, b"null");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(text.lines().count(), 3, "one message a line: {text}");
        for line in text.lines() {
            Message::parse(line.as_bytes()).expect(line);
        }
    }
}
