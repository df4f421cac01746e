//! What the host keeps of an Extism plugin's instance: its memory, its variables, and the call it makes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jackfield_protocol::Encoding;
use jackfield_protocol::call::{Answer, Buffer, Cause};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::memory::Memory;
use crate::mechanism::Spec;

/// Bytes of all variables of an instance, names included. As in other hosts.
const VARIABLES_BYTES_MAX: usize = 1 << 20;

/// The state of an instance. Empty, for what is no Extism plugin.
#[derive(Clone, Default)]
pub(in super::super) struct State {
    pub(super) settings: Arc<Settings>,
    pub(super) memory: Memory,
    /// Offset and length, which were within the memory when they were set.
    pub(super) output: (u64, u64),
    /// The same.
    pub(super) error: Option<(u64, u64)>,
    variables: BTreeMap<Vec<u8>, Vec<u8>>,
    variables_bytes: usize,
    pub(super) response: Response,
    /// The span of the call, or empty.
    pub(super) traceparent: String,
    /// When the call has to be over; known only where the guest may wait for its host.
    pub(super) until: Option<Instant>,
}

/// What is the same for all instances.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) config: BTreeMap<String, String>,
    pub(super) log_bytes_max: u64,
    /// Time before the first call.
    start_timeout: Duration,
    /// Whether it asks for HTTP, or for functions of the application's: what looks at the time.
    waits: bool,
    #[cfg(feature = "wasm-http")]
    pub(super) agent: super::http::Agent,
}

/// What is left of the last HTTP request, when its body has been given.
#[derive(Clone, Debug, Default)]
pub(super) struct Response {
    pub(super) status: u16,
    /// A JSON object; empty before the first request.
    pub(super) headers: Vec<u8>,
}

/// More variables than there is room for.
#[derive(Debug, thiserror::Error)]
#[error("Variable store is full: {bytes} bytes of {VARIABLES_BYTES_MAX} allowed")]
pub(super) struct Full {
    bytes: usize,
}

impl State {
    pub(super) fn new(spec: &Spec, waits: bool) -> Self {
        let settings = Settings {
            config: spec.wasm.config.clone(),
            log_bytes_max: spec.limits.log_bytes_max,
            start_timeout: spec.limits.start_timeout,
            waits,
            #[cfg(feature = "wasm-http")]
            agent: super::http::Agent::new(spec),
        };
        let memory = Memory::new(spec.limits.memory_bytes_max);
        Self { settings: Arc::new(settings), memory, ..Self::default() }
    }

    /// Begins a call, or with no time given the start of an instance. Its memory begins by itself.
    #[inline]
    pub(super) fn begin(&mut self, timeout: Option<Duration>) {
        self.output = (0, 0);
        self.error = None;
        if self.settings.waits {
            self.response = Response::default();
            self.until = Instant::now().checked_add(timeout.unwrap_or(self.settings.start_timeout));
        }
    }

    pub(super) fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.variables.get(name).map(|value| &**value)
    }

    pub(super) fn set_variable(&mut self, name: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), Full> {
        let old = self.variables.get(&name).map_or(0, |old| name.len() + old.len());
        let new = value.as_ref().map_or(0, |value| name.len() + value.len());
        let bytes = self.variables_bytes - old + new;
        if bytes > VARIABLES_BYTES_MAX && new > old {
            return Err(Full { bytes });
        }
        self.variables_bytes = bytes;
        match value {
            Some(value) => self.variables.insert(name, value),
            None => self.variables.remove(&name),
        };
        Ok(())
    }

    /// What the call has come to. `linear` is all that its memory lies in; `code` is what the export gave; `text`:
    /// the output is text and not JSON.
    pub(super) fn answer(
        &self,
        linear: &[u8],
        code: i32,
        text: bool,
        own_error: bool,
        bytes_max: usize,
    ) -> Result<Answer, Cause> {
        if let Some((at, len)) = self.error {
            return self.failed(self.range(linear, (at, len), bytes_max)?, own_error);
        }
        if code != 0 {
            return Err(Cause::Refused { why: format!("it returned {code}, without an error text") });
        }
        let output = self.range(linear, self.output, bytes_max)?;
        let mut bytes = Buffer::new();
        if text {
            let output = str::from_utf8(output).map_err(|error| {
                let what = format!("its output is not text: byte {} is not UTF-8", error.valid_up_to());
                Cause::Protocol { what }
            })?;
            // A string into memory: nothing in it can fail.
            let written = serde_json::to_writer(&mut *bytes, output);
            debug_assert!(written.is_ok());
        } else if output.is_empty() {
            bytes.extend_from_slice(b"null");
        } else {
            bytes.extend_from_slice(output);
        }
        Ok(Answer::encoded(true, Encoding::Json, bytes))
    }

    fn failed(&self, error: &[u8], own_error: bool) -> Result<Answer, Cause> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Own<'a> {
            #[serde(borrow)]
            err: &'a RawValue,
        }
        if own_error && let Ok(Own { err }) = serde_json::from_slice(error) {
            let bytes = err.get().as_bytes().to_vec().into();
            return Ok(Answer::encoded(false, Encoding::Json, bytes));
        }
        Err(Cause::Refused { why: String::from_utf8_lossy(error).into_owned() })
    }

    fn range<'a>(&self, linear: &'a [u8], (at, len): (u64, u64), bytes_max: usize) -> Result<&'a [u8], Cause> {
        if len > bytes_max as u64 {
            return Err(too_large(len, bytes_max));
        }
        self.memory.range(linear, at, len).map_err(|error| Cause::Protocol { what: error.to_string() })
    }
}

pub(super) fn too_large(bytes: u64, bytes_max: usize) -> Cause {
    Cause::Limit { limit: "answer_bytes", what: format!("the answer is {bytes} bytes of {bytes_max} allowed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_bounded_and_their_room_is_given_back() {
        let mut state = State::default();
        let half = vec![b'x'; VARIABLES_BYTES_MAX / 2 - 1];
        state.set_variable(b"a".to_vec(), Some(half.clone())).expect("room");
        state.set_variable(b"b".to_vec(), Some(half.clone())).expect("room");
        let full = state.set_variable(b"c".to_vec(), Some(b"x".to_vec())).expect_err("no room");
        assert_eq!(full.to_string(), "Variable store is full: 1048578 bytes of 1048576 allowed");
        state.set_variable(b"a".to_vec(), Some(b"less".to_vec())).expect("less than before");
        state.set_variable(b"c".to_vec(), Some(b"x".to_vec())).expect("room again");
        state.set_variable(b"b".to_vec(), None).expect("room is not needed");
        assert_eq!(state.variables_bytes, 7);
        assert_eq!((state.variable(b"a"), state.variable(b"b")), (Some(&b"less"[..]), None));
    }
}
