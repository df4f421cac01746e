//! Modules of our own SDK, called through their own memory: fast, and in the binary encoding.
//!
//! They are Extism plugins as well, and JSON goes that way. What crosses here, `jackfield-plugin/src/wasm`
//! says; an `i64` is `pointer << 32 | length`.
//!
//! Everything that the guest gives is a claim. One that is not so ends the instance.

use std::sync::Arc;

use jackfield_protocol::call::{Answer, Buffer, Cause, Whole};
use jackfield_protocol::message::HelloAnswer;
use jackfield_protocol::native::status;
use jackfield_protocol::span::SPANS_MAX;
use jackfield_protocol::{Encoding, TraceContext, Type as _};
use wasmtime::{Instance, Memory, Store, TypedFunc};

use super::super::WasmError;
use super::super::command::believe;
use super::super::guest::Guest;
use super::super::kind::{Ended, Request};
use super::super::trap;
use super::exports::{self, Content};
use super::state::too_large;
use super::{ABOUT, Broke, Live, SPANS, TRACE};
use crate::mechanism::{About, Spec};

/// The version of these exports that this host calls.
const ABI: i32 = 1;

/// Bytes of an answer that are not the answer.
const STATUS_BYTES: usize = 4;

/// Room for arguments that the guest keeps where it is, and that is therefore asked for once.
const ROOM_KEPT: usize = 16 << 10;

/// The exports.
pub(super) struct Direct {
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    call: TypedFunc<(i32, i32, u32, u32, u32), u64>,
    /// Where arguments of up to a length can be written.
    room: Option<(u32, usize)>,
}

impl Direct {
    fn of(instance: &Instance, store: &mut Store<Guest>) -> wasmtime::Result<Self> {
        let memory = instance.get_memory(&mut *store, "memory");
        Ok(Self {
            memory: memory.ok_or_else(|| wasmtime::format_err!("it exports no `memory`"))?,
            alloc: instance.get_typed_func(&mut *store, "jackfield_alloc")?,
            call: instance.get_typed_func(&mut *store, "jackfield_call")?,
            room: None,
        })
    }

    /// The room to ask for before arguments of a length can be written; none if there is enough.
    fn lacks(&self, len: usize) -> wasmtime::Result<Option<u32>> {
        match self.room {
            _ if len == 0 => Ok(None),
            Some((_, room)) if len <= room => Ok(None),
            _ => Ok(Some(u32::try_from(len.max(ROOM_KEPT))?)),
        }
    }

    /// Writes the arguments, of this length, where there is room for them, and says how the function is called.
    #[inline]
    fn write(
        &mut self,
        store: &mut Store<Guest>,
        (interface, function): (i32, i32),
        request: &Request<'_>,
        len: usize,
    ) -> wasmtime::Result<(i32, i32, u32, u32, u32)> {
        let at = self.room.map_or(0, |(at, _)| at);
        let rest = self.memory.data_mut(store).get_mut(usize::try_from(at)?..);
        let Some(room) = rest.and_then(|rest| rest.get_mut(..len)) else {
            return Err(lie(format!("it gave room at {at} for {len} bytes, which is not within its memory")));
        };
        request.arguments.encode_to(room);
        // Larger room is its arguments' alone.
        self.room = self.room.filter(|(_, room)| *room <= ROOM_KEPT);
        // As long as what was just written, which is within a memory of 32 bits.
        Ok((interface, function, request.encoding as u32, at, len as u32))
    }

    /// The bytes that a guest says are there.
    #[inline]
    fn claimed<'a>(&self, store: &'a Store<Guest>, claim: u64) -> wasmtime::Result<&'a [u8]> {
        let (at, len) = (claim >> 32, claim & u64::from(u32::MAX));
        let memory = self.memory.data(store);
        // Two numbers of 32 bits: their sum has room in 64.
        let range = usize::try_from(at)?..usize::try_from(at + len)?;
        memory.get(range).ok_or_else(|| beyond(at, len, memory.len()))
    }

    /// What a call has come to, as the guest claims.
    #[inline]
    fn answer(&self, store: &Store<Guest>, claim: u64, function: exports::Direct, request: &Request<'_>) -> Ended {
        let block = match self.claimed(store, claim) {
            Ok(block) => block,
            Err(error) => return Ended::Broken(error),
        };
        let Some((status, answer)) = block.split_first_chunk::<STATUS_BYTES>() else {
            let what = format!("its answer has {} bytes, and the status alone has {STATUS_BYTES}", block.len());
            return Ended::Broken(lie(what));
        };
        if answer.len() > request.answer_bytes_max {
            return Ended::Well(Err(too_large(answer.len() as u64, request.answer_bytes_max)));
        }
        match i32::from_le_bytes(*status) {
            status::OK => Ended::Well(Ok(value(true, request.encoding, function.ok, answer))),
            status::OWN_ERROR => Ended::Well(Ok(value(false, request.encoding, function.err, answer))),
            other => failed(other, answer),
        }
    }
}

/// What a call has come to that has no value.
#[cold]
fn failed(status: i32, text: &[u8]) -> Ended {
    let text = String::from_utf8_lossy(text);
    Ended::Well(Err(match status {
        status::UNIMPLEMENTED => Cause::Unimplemented { hint: String::new() },
        status::BAD_ARGUMENTS => Cause::Refused { why: text.into_owned() },
        status::FAILED => Cause::Refused { why: format!("it could not answer: {text}") },
        other => return Ended::Broken(lie(format!("it answered with status {other}"))),
    }))
}

impl Live {
    /// What a module says of itself.
    pub(super) async fn about(&mut self, spec: &Spec) -> Result<About, WasmError> {
        let json = match self.about_json(spec.limits.answer_bytes_max).await {
            Ok(json) => json,
            Err(error) => {
                let cause = trap::cause(&error, self.watch.take_notes(), spec.limits.start_timeout);
                return Err(WasmError::Start { cause });
            }
        };
        if json.is_empty() {
            let said = self.watch.take_notes().lines.join("\n");
            return Err(WasmError::Describe { what: format!("it cannot say what it is; it said last: {said:?}") });
        }
        let answer: HelloAnswer = serde_json::from_slice(&json)
            .map_err(|error| WasmError::Describe { what: format!("what it says of itself cannot be read: {error}") })?;
        let mut about = believe(answer, true)?;
        about.speaks = format!("Extism ABI, guest ABI {ABI}");
        Ok(about)
    }

    /// Calls a function, on this thread's stack.
    #[inline]
    pub(super) fn call_direct_here(&mut self, function: exports::Direct, request: &Request<'_>) -> Ended {
        match self.run_here(function, request) {
            Ok((store, direct, claim)) => direct.answer(store, claim, function, request),
            Err(error) => Ended::Broken(error),
        }
    }

    /// Calls a function, on a stack of its own.
    pub(super) async fn call_direct(&mut self, function: exports::Direct, request: &Request<'_>) -> Ended {
        match self.run(function, request).await {
            Ok((store, direct, claim)) => direct.answer(store, claim, function, request),
            Err(error) => Ended::Broken(error),
        }
    }

    #[inline]
    fn run_here(
        &mut self,
        function: exports::Direct,
        request: &Request<'_>,
    ) -> wasmtime::Result<(&Store<Guest>, &Direct, u64)> {
        let (store, direct) = self.direct()?;
        let len = request.arguments.encoded_len();
        if let Some(wanted) = direct.lacks(len)? {
            let at = direct.alloc.call(&mut *store, wanted)?;
            direct.room = Some((at, usize::try_from(wanted)?));
        }
        let parameters = direct.write(store, function.position, request, len)?;
        let claim = direct.call.call(&mut *store, parameters)?;
        Ok((store, direct, claim))
    }

    async fn run(
        &mut self,
        function: exports::Direct,
        request: &Request<'_>,
    ) -> wasmtime::Result<(&Store<Guest>, &Direct, u64)> {
        let (store, direct) = self.direct()?;
        let len = request.arguments.encoded_len();
        if let Some(wanted) = direct.lacks(len)? {
            let at = direct.alloc.call_async(&mut *store, wanted).await?;
            direct.room = Some((at, usize::try_from(wanted)?));
        }
        let parameters = direct.write(store, function.position, request, len)?;
        let claim = direct.call.call_async(&mut *store, parameters).await?;
        Ok((store, direct, claim))
    }

    #[inline]
    fn direct(&mut self) -> wasmtime::Result<(&mut Store<Guest>, &mut Direct)> {
        let direct = match &mut self.direct {
            Some(direct) => direct,
            none => none.insert(Direct::of(&self.instance, &mut self.store)?),
        };
        Ok((&mut self.store, direct))
    }

    /// Tells a module of our SDK which span its next call is made in. False for any other, which may ask.
    pub(super) async fn tell_trace(&mut self, trace: &TraceContext) -> wasmtime::Result<bool> {
        if self.instance.get_func(&mut self.store, TRACE).is_none() {
            return Ok(false);
        }
        let tell: TypedFunc<(u64, u64, u64, u32), ()> = self.instance.get_typed_func(&mut self.store, TRACE)?;
        let number = u128::from_be_bytes(trace.trace_id);
        let flags = u32::from(trace.sampled) | u32::from(self.watch.recorder().takes_spans()) << 1;
        // The upper half, and the lower one.
        let (high, low) = ((number >> 64) as u64, number as u64);
        tell.call_async(&mut self.store, (high, low, u64::from_be_bytes(trace.span_id), flags)).await?;
        Ok(true)
    }

    /// Takes the spans of the call that is just over: JSON objects, a line each.
    pub(super) async fn take_spans(&mut self) -> wasmtime::Result<()> {
        let give: TypedFunc<(), u64> = self.instance.get_typed_func(&mut self.store, SPANS)?;
        let claim = give.call_async(&mut self.store, ()).await?;
        let recorder = Arc::clone(self.watch.recorder());
        let (store, direct) = self.direct()?;
        let given = direct.claimed(store, claim)?;
        let lines = given.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.take(SPANS_MAX).for_each(|span| recorder.take(span));
        Ok(())
    }

    async fn about_json(&mut self, bytes_max: u64) -> wasmtime::Result<Vec<u8>> {
        let abi: TypedFunc<(), i32> = self.instance.get_typed_func(&mut self.store, "jackfield_abi")?;
        let abi = abi.call_async(&mut self.store, ()).await?;
        if abi != ABI {
            return Err(lie(format!("it speaks guest ABI {abi}, this host speaks {ABI}")));
        }
        let about: TypedFunc<(), u64> = self.instance.get_typed_func(&mut self.store, ABOUT)?;
        let direct = Direct::of(&self.instance, &mut self.store)?;
        let claim = about.call_async(&mut self.store, ()).await?;
        let json = direct.claimed(&self.store, claim)?;
        if json.len() as u64 > bytes_max {
            return Err(lie(format!("it says {} bytes of itself, of {bytes_max} allowed", json.len())));
        }
        let json = json.to_vec();
        self.direct = Some(direct);
        Ok(json)
    }
}

/// A value that the guest wrote: out of its memory at once, if it is a string or bytes.
fn value(ok: bool, encoding: Encoding, content: Content, written: &[u8]) -> Answer {
    let whole = match (encoding, content) {
        (Encoding::Binary, Content::Text) => String::read_binary(written).map(Whole::Text),
        (Encoding::Binary, Content::Bytes) => Vec::read_binary(written).map(Whole::Bytes),
        (Encoding::Binary, Content::Other) | (Encoding::Json, _) => None,
    };
    match whole {
        Some(whole) => Answer::whole(ok, whole),
        // Of another type, or not as it should be: whoever decodes it says what is wrong with it.
        None => {
            let mut bytes = Buffer::new();
            bytes.extend_from_slice(written);
            Answer::encoded(ok, encoding, bytes)
        }
    }
}

#[cold]
fn beyond(at: u64, len: u64, memory: usize) -> wasmtime::Error {
    lie(format!("it gave {len} bytes at {at}, which are not within its memory of {memory} bytes"))
}

#[cold]
fn lie(what: String) -> wasmtime::Error {
    Broke(Cause::Protocol { what }).into()
}
