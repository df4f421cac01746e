//! What a plugin says in JSON lines, taken the same way whether a program says it or a WASI command.
//!
//! Not here: how lines come and go (`process/lines.rs`, `wasm/command/pipe.rs`), and the messages
//! themselves ([`jackfield_protocol::message`]).

use std::time::Duration;

use jackfield_protocol::call::{Answer, Buffer, Cause};
use jackfield_protocol::frame::{HEADER_LEN, Header, MAGIC};
use jackfield_protocol::message::{HelloAnswer, Meta, Offer, ProtocolVersion, code, feature, write_error};
use jackfield_protocol::{Encoding, InterfaceError, PROTOCOL, TraceContext};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::Level;

use crate::log::level_named;
use crate::mechanism::{About, Offered, answer};
use crate::spans::Recorder;
use crate::trace;

/// Why an answer to `hello` is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unbelieved {
    #[error("it speaks protocol {plugin}, this host speaks {host}")]
    Protocol { plugin: ProtocolVersion, host: ProtocolVersion },
    #[error(transparent)]
    Description(#[from] InterfaceError),
}

/// What a plugin says of itself, checked. `binary`: a described interface may be called in the binary encoding.
pub(crate) fn believe(answer: HelloAnswer, binary: bool) -> Result<About, Unbelieved> {
    if answer.protocol.major != PROTOCOL.major {
        return Err(Unbelieved::Protocol { plugin: answer.protocol, host: PROTOCOL });
    }
    let offered = |offer| match offer {
        Offer::Named(id) => Ok(Offered { id, description: None, binary: false }),
        Offer::Described(description) => {
            let description = description.checked()?;
            let id = description.id.clone();
            Ok(Offered { id, description: Some(description.into()), binary })
        }
    };
    Ok(About {
        name: answer.plugin.name,
        version: answer.plugin.version,
        capabilities: answer.capabilities,
        interfaces: answer.interfaces.into_iter().map(offered).collect::<Result<_, InterfaceError>>()?,
        services: Vec::new(),
        speaks: format!("protocol {}", answer.protocol),
    })
}

/// What a call has beside its arguments.
pub(crate) fn meta(deadline_ms: u64, trace: Option<TraceContext>) -> Meta {
    let state = trace.and_then(|_| trace::state()).map(|state| state.to_string());
    let traceparent = trace.map(|trace| trace.to_string());
    Meta { deadline_ms: Some(deadline_ms), traceparent, tracestate: state }
}

/// What is offered to a plugin: these, and to take its spans home, if anybody wants them.
pub(crate) fn features(others: &[&str], recorder: &Recorder) -> Vec<String> {
    let spans = recorder.takes_spans().then_some(feature::SPANS);
    others.iter().copied().chain(spans).map(str::to_owned).collect()
}

/// Hands the line of a `log` notification to `take`; false if its parameters are something else.
pub(crate) fn take_log_line(params: Option<&RawValue>, take: impl FnOnce(Level, &str)) -> bool {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        message: String,
        #[serde(default)]
        traceparent: Option<String>,
    }
    let line = params.and_then(|params| serde_json::from_str(params.get()).ok());
    let Some(Line { level, message, traceparent }) = line else { return false };
    let taken = || take(level_named(&level), &message);
    match traceparent.and_then(|trace| trace.parse().ok()) {
        None => taken(),
        Some(context) => trace::traced_blocking(context, taken),
    }
    true
}

/// The refusal of a plugin's request. It may ask its host one day; whoever asks today learns that nobody answers.
pub(crate) fn refusal(id: u64, method: &str) -> Vec<u8> {
    let mut refusal = Vec::new();
    let why = format!("this host offers no `{method}`");
    write_error(&mut refusal, Some(id), code::METHOD_NOT_FOUND, &why, b"");
    refusal
}

/// What an error that a plugin answered with means: its own error, or why there is none of its own.
pub(crate) fn failed(
    number: i64,
    why: String,
    data: Option<&str>,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Answer, Cause> {
    Err(match number {
        own if code::is_own_error(own) => {
            let mut value = Buffer::new();
            match data {
                Some(data) => value.extend_from_slice(data.as_bytes()),
                // A plugin without an SDK may give a message alone.
                None => value.extend_from_slice(serde_json::Value::from(why).to_string().as_bytes()),
            }
            return answer(false, Encoding::Json, value, bytes_max);
        }
        code::METHOD_NOT_FOUND => Cause::Unimplemented { hint: format!(" ({why})") },
        code::INVALID_PARAMS | code::INVALID_REQUEST | code::PARSE => Cause::Refused { why },
        code::PANICKED => Cause::Panicked { message: why },
        code::CANCELLED => Cause::Cancelled,
        code::TIMEOUT => Cause::Timeout { after: timeout },
        code::LIMIT => Cause::Limit { limit: "of the plugin's own", what: why },
        code::UNAVAILABLE => Cause::Unavailable { why },
        other => Cause::Refused { why: format!("it could not answer: {why} (code {other})") },
    })
}

/// The id of an answer that was too long to be kept or cannot be read, from its first bytes.
pub(crate) fn id_in(head: &[u8]) -> Option<u64> {
    if let Some(Ok(header)) = head.get(..HEADER_LEN).map(<&[u8; HEADER_LEN]>::try_from)
        && head[0] == MAGIC
    {
        return Header::from_bytes(header).map(|header| header.id);
    }
    let text =
        str::from_utf8(head).unwrap_or_else(|error| str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default());
    let after = text.split_once("\"id\"")?.1.trim_start().strip_prefix(':')?.trim_start();
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use jackfield_protocol::frame::Kind;

    use super::*;

    #[test]
    fn the_id_of_an_answer_is_found_in_its_first_bytes() {
        assert_eq!(id_in(br#"{"jsonrpc":"2.0","id":17,"result":"xxxx"#), Some(17));
        assert_eq!(id_in(br#"{ "id" : 4, "result":[1,"#), Some(4));
        assert_eq!(id_in(&Header::answer(Kind::Answer, 9, u32::MAX).to_bytes()), Some(9));
        assert_eq!(id_in("xxxxxxxxxé".as_bytes()), None);
        assert_eq!(id_in(&[0xF5; 10]), None);
    }
}
