//! The plugin as a WebAssembly module (`wasm32-unknown-unknown`, crate type `cdylib`).
//!
//! One module has two faces, side by side:
//!
//! *Any Extism host* calls an export for each function, without parameters and with a result `i32`. It
//! is called `interface.function` in snake_case (`counter.add`); the functions of the plugin's first
//! interface also have the name `function` alone (`greet`), but for a name that a module has for
//! something else (`log`, `exp` and the rest of C's mathematics, `memory`, `main`). The input is the
//! canonical JSON of the arguments, a record of the parameters; an empty input is a call without any.
//!
//! | result | |
//! |---|---|
//! | 0 | the output is the canonical JSON of the success value, `null` where there is none |
//! | 1 | the plugin's own error; the error text is `{"err":…}` with the canonical JSON of it |
//! | 2 | anything else: wrong arguments, a value that cannot be written; the error text is a sentence |
//!
//! *Jackfield's host* calls four exports that pass bytes through the module's own memory, since Extism
//! passes eight bytes a call:
//!
//! | export | |
//! |---|---|
//! | `jackfield_abi() -> i32` | 1; a module with another number is not called |
//! | `jackfield_about() -> i64` | what the plugin is: the JSON that a program answers `jackfield/hello` with |
//! | `jackfield_alloc(len: i32) -> i32` | room for the arguments of a call, never 0; of at most 16 KiB, it stays until other room is asked for |
//! | `jackfield_call(interface: i32, function: i32, encoding: i32, arguments: i32, len: i32) -> i64` | makes a call |
//!
//! Two more are for calls that are traced, and are called only then:
//!
//! | export | |
//! |---|---|
//! | `jackfield_trace(trace_high: i64, trace_low: i64, span: i64, flags: i32)` | before the call: its W3C context as numbers; of the flags, 1 is that it is recorded, 2 that the host takes spans |
//! | `jackfield_spans() -> i64` | after it: its spans, the JSON objects of `jackfield/span`, a line each |
//!
//! An `i64` is `pointer << 32 | length`; `jackfield_about` gives 0 when the interfaces contradict
//! themselves, and logs why. `interface` and `function` are positions in the descriptions, `encoding`
//! is 0 for JSON and 1 for binary, `arguments` is what `jackfield_alloc` gave, `len` at most what it was
//! asked for. The block that `jackfield_call` gives holds a status, four bytes, little-endian, as
//! `jf_status` of `jackfield.h` (0 ok, 1 own error, 2 unimplemented, 3 bad arguments, 6 failed), then
//! the answer or the text. It is valid until the next call of any export.
//!
//! A panic is logged as an error, `panicked at FILE:LINE:COLUMN: MESSAGE`, and is then a trap: the
//! instance of the module is not to be used again. What the plugin prints is lost on this target.
//!
//! A third face is for `jackfield pack --component` alone (`component.rs`).
//!
//! Not here: WASI commands, which are programs (`process`).

mod abi;
mod component;
mod extism;

use std::any::Any;
use std::cell::{Cell, OnceCell};
use std::sync::Once;

use jackfield_protocol::dispatch::{Called, Dispatched, Incoming};
use jackfield_protocol::native::status;
use jackfield_protocol::span::SpanRecord;
use jackfield_protocol::{Encoding, TraceContext};

use crate::about::about;
use crate::instance::{Export, Instance, error_of, function_name, interfaces};
use crate::log::{Level, log, send_to};
use crate::trace::{Carried, Serving, take_spans, within};

pub use component::{canonical_call, canonical_spans, canonical_trace, free, realloc};
pub use extism::call as call_extism;

/// Version of the exports `jackfield_*`.
pub const ABI: i32 = 1;

/// Largest room that is kept from call to call.
const KEPT_BYTES_MAX: usize = 64 * 1024;

// A module has one thread; a thread-local of it is a static.
thread_local! {
    static INSTANCE: OnceCell<Box<dyn Instance>> = const { OnceCell::new() };
    static ABOUT: OnceCell<Vec<u8>> = const { OnceCell::new() };
    static ARGUMENTS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static BLOCK: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// What the next call comes with, if it is traced.
    static TRACE: Cell<Option<Carried>> = const { Cell::new(None) };
    /// Whether it is: most calls are not, and then nothing is moved.
    static TRACED: Cell<bool> = const { Cell::new(false) };
    static SPANS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// `jackfield_about`.
pub fn about_block(export: &'static Export) -> u64 {
    prepare();
    ABOUT.with(|about_json| {
        let json = about_json.get_or_init(|| {
            let described = interfaces(export).map_err(|error| error.to_string());
            let json = described.and_then(|described| {
                serde_json::to_vec(&about(export, &described, &[])).map_err(|error| error.to_string())
            });
            json.unwrap_or_else(|error| {
                log(Level::Error, &error);
                Vec::new()
            })
        });
        match json.is_empty() {
            true => 0,
            false => block(json),
        }
    })
}

/// `jackfield_alloc`. The bytes are those of the call before: the host writes over them.
pub fn room_for_arguments(len: u32) -> u32 {
    let mut room = ARGUMENTS.take();
    let wanted = (len as usize).max(1);
    if room.capacity() > KEPT_BYTES_MAX && wanted <= KEPT_BYTES_MAX {
        room = Vec::new();
    }
    if room.len() < wanted {
        room.resize(wanted, 0);
    }
    let at = address(&room);
    ARGUMENTS.set(room);
    at
}

/// `jackfield_call`.
// A part of the export, of which a module has one: what it is called with would be handed on through memory.
#[inline(always)]
pub fn call(export: &'static Export, interface: u32, function: u32, encoding: u32, at: u32, len: u32) -> u64 {
    let room = ARGUMENTS.take();
    let mut answer = BLOCK.take();
    answer.clear();
    if answer.capacity() > KEPT_BYTES_MAX {
        answer = Vec::new();
    }
    answer.extend_from_slice(&[0; 4]);
    let arguments = room.get(..len as usize).filter(|_| len == 0 || at == address(&room));
    let dispatched = match (arguments, encoding) {
        (Some(arguments), 0) => dispatch(export, interface, function, Encoding::Json, arguments, &mut answer),
        (Some(arguments), 1) => dispatch(export, interface, function, Encoding::Binary, arguments, &mut answer),
        (Some(_), other) => Dispatched::BadArguments(format!("there is no encoding {other}")),
        (None, _) => Dispatched::Failed("the arguments are not where `jackfield_alloc` has room for them".to_owned()),
    };
    ARGUMENTS.set(if room.capacity() > KEPT_BYTES_MAX { Vec::new() } else { room });
    let (status, text) = match dispatched {
        Dispatched::Ok => (status::OK, None),
        Dispatched::OwnError => (status::OWN_ERROR, None),
        Dispatched::Unimplemented => (status::UNIMPLEMENTED, Some(String::new())),
        Dispatched::BadArguments(why) => (status::BAD_ARGUMENTS, Some(why)),
        Dispatched::Failed(why) => (status::FAILED, Some(why)),
    };
    if let Some(text) = text {
        answer.truncate(4);
        answer.extend_from_slice(text.as_bytes());
    }
    answer[..4].copy_from_slice(&status.to_le_bytes());
    let given = block(&answer);
    BLOCK.set(answer);
    given
}

/// `jackfield_trace`.
pub fn trace(high: u64, low: u64, span: u64, flags: u32) {
    let trace_id = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    let context = TraceContext { trace_id, span_id: span.to_be_bytes(), sampled: flags & 1 == 1 };
    set_trace(Carried { context: Some(context), home: flags & 2 == 2, ..Carried::default() });
}

/// The next call comes with this.
fn set_trace(carried: Carried) {
    TRACE.set(Some(carried));
    TRACED.set(true);
}

/// `jackfield_spans`.
pub fn spans() -> u64 {
    let spans = SPANS.take();
    let given = block(&spans);
    SPANS.set(spans);
    given
}

#[inline]
fn dispatch(
    export: &'static Export,
    interface: u32,
    function: u32,
    encoding: Encoding,
    arguments: &[u8],
    answer: &mut Vec<u8>,
) -> Dispatched {
    let call = Incoming { function: Called::Position(function as usize), encoding, arguments };
    match TRACED.take() {
        false => dispatch_untraced(export, interface as usize, call, answer),
        true => dispatch_traced(export, interface as usize, call, answer),
    }
}

#[cold]
fn dispatch_traced(export: &'static Export, interface: usize, call: Incoming<'_>, answer: &mut Vec<u8>) -> Dispatched {
    within(TRACE.take().unwrap_or_default(), || {
        let span = Serving::begin(|| function_name(export, interface, &call));
        let dispatched = dispatch_untraced(export, interface, call, answer);
        span.end(error_of(&dispatched));
        let lines: Vec<_> = take_spans().iter().map(SpanRecord::to_json).collect();
        SPANS.set(lines.join("\n").into_bytes());
        dispatched
    })
}

#[inline]
fn dispatch_untraced(
    export: &'static Export,
    interface: usize,
    call: Incoming<'_>,
    answer: &mut Vec<u8>,
) -> Dispatched {
    prepare();
    INSTANCE.with(|instance| instance.get_or_init(|| (export.make)()).dispatch(interface, call, answer))
}

/// Before the first line of the plugin's code: what it logs, and why it panics, goes to the host.
fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        send_to(extism::log);
        // The hook of std would write to stderr, which is nowhere.
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
            log(Level::Error, &format!("panicked at {place}: {}", text_of(info.payload())));
        }));
    });
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is no text")
}

/// Where bytes are, as the host sees it: a pointer has 32 bits here.
fn address(bytes: &[u8]) -> u32 {
    bytes.as_ptr().expose_provenance() as u32
}

fn block(bytes: &[u8]) -> u64 {
    u64::from(address(bytes)) << 32 | bytes.len() as u64
}
