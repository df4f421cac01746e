//! Modules of our own SDK, called through their own memory: fast, and in the binary encoding.
//!
//! They are Extism plugins as well, and JSON goes that way. What crosses here, `jackfield-plugin/src/wasm`
//! says; an `i64` is `pointer << 32 | length`.
//!
//! Everything that the guest gives is a claim. One that is not so ends the instance.

use jackfield_protocol::call::{Answer, Buffer, Cause};
use jackfield_protocol::message::HelloAnswer;
use jackfield_protocol::native::status;
use wasmtime::{Instance, Memory, Store, TypedFunc};

use super::super::WasmError;
use super::super::command::believe;
use super::super::guest::Guest;
use super::super::kind::{Ended, Request};
use super::super::trap;
use super::state::too_large;
use super::{ABOUT, Broke, Live, run};
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

    /// Where arguments of a length can be written, now and until other room is asked for.
    async fn room(&mut self, store: &mut Store<Guest>, len: usize, here: bool) -> wasmtime::Result<u32> {
        if len == 0 {
            return Ok(0);
        }
        if let Some((at, room)) = self.room
            && len <= room
        {
            return Ok(at);
        }
        let wanted = if len <= ROOM_KEPT { ROOM_KEPT } else { len };
        let at = run(&self.alloc, &mut *store, u32::try_from(wanted)?, here).await?;
        self.room = (len <= ROOM_KEPT).then_some((at, wanted));
        Ok(at)
    }

    /// The bytes that a guest says are there.
    fn claimed<'a>(&self, store: &'a Store<Guest>, claim: u64) -> wasmtime::Result<&'a [u8]> {
        let (at, len) = (claim >> 32, claim & u64::from(u32::MAX));
        let memory = self.memory.data(store);
        // Two numbers of 32 bits: their sum has room in 64.
        let range = usize::try_from(at)?..usize::try_from(at + len)?;
        memory.get(range).ok_or_else(|| {
            lie(format!("it gave {len} bytes at {at}, which are not within its memory of {} bytes", memory.len()))
        })
    }
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

    /// Calls a function by its position.
    pub(super) async fn call_direct(&mut self, position: (i32, i32), request: &Request<'_>) -> Ended {
        match self.called(position, request).await {
            Ok(answer) => Ended::Well(answer),
            Err(error) => Ended::Broken(error),
        }
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

    async fn called(&mut self, position: (i32, i32), request: &Request<'_>) -> wasmtime::Result<Result<Answer, Cause>> {
        // What it logs goes through Extism's memory.
        self.store.data_mut().extism.begin(b"", Some(request.timeout));
        let direct = match &mut self.direct {
            Some(direct) => direct,
            none => none.insert(Direct::of(&self.instance, &mut self.store)?),
        };
        let arguments = request.arguments.bytes();
        let at = direct.room(&mut self.store, arguments.len(), request.here).await?;
        let room = usize::try_from(at)?;
        let place =
            direct.memory.data_mut(&mut self.store).get_mut(room..).and_then(|rest| rest.get_mut(..arguments.len()));
        let Some(place) = place else {
            let what = format!("it gave room at {at} for {} bytes, which is not within its memory", arguments.len());
            return Err(lie(what));
        };
        place.copy_from_slice(&arguments);
        let (interface, function) = position;
        // As long as what was just written, which is within a memory of 32 bits.
        let len = arguments.len() as u32;
        let parameters = (interface, function, request.encoding as u32, at, len);
        let claim = run(&direct.call, &mut self.store, parameters, request.here).await?;
        let block = direct.claimed(&self.store, claim)?;
        let Some((status, answer)) = block.split_first_chunk::<STATUS_BYTES>() else {
            return Err(lie(format!("its answer has {} bytes, and the status alone has {STATUS_BYTES}", block.len())));
        };
        if answer.len() > request.answer_bytes_max {
            return Ok(Err(too_large(answer.len() as u64, request.answer_bytes_max)));
        }
        let encoding = request.encoding;
        let value = |ok: bool| {
            let mut bytes = Buffer::new();
            bytes.extend_from_slice(answer);
            Ok(Answer::encoded(ok, encoding, bytes))
        };
        let text = || String::from_utf8_lossy(answer).into_owned();
        Ok(match i32::from_le_bytes(*status) {
            status::OK => value(true),
            status::OWN_ERROR => value(false),
            status::UNIMPLEMENTED => Err(Cause::Unimplemented { hint: String::new() }),
            status::BAD_ARGUMENTS => Err(Cause::Refused { why: text() }),
            status::FAILED => Err(Cause::Refused { why: format!("it could not answer: {}", text()) }),
            other => return Err(lie(format!("it answered with status {other}"))),
        })
    }
}

fn lie(what: String) -> wasmtime::Error {
    Broke(Cause::Protocol { what }).into()
}
