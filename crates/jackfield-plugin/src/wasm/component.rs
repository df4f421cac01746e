//! What a component is made of: the entries that `jackfield pack --component` puts between the
//! canonical ABI and the plugin.
//!
//! | export | |
//! |---|---|
//! | `jackfield_canonical_call(interface: i32, function: i32, slots: i64 × 16) -> i64` | makes a call |
//! | `jackfield_canonical_realloc(old: i32, old_size: i32, align: i32, size: i32) -> i32` | room for arguments |
//! | `jackfield_canonical_free()` | the host has read the result |
//! | `jackfield_canonical_trace(at: i32, len: i32, home: i32)` | before a call that is traced: its `traceparent`, and whether the host takes spans |
//! | `jackfield_canonical_spans() -> i32` | after it: where pointer and length of its spans stand, the JSON objects of `jackfield/span`, a line each |
//!
//! The last two are the functions `begin` and `spans` of the interface `jackfield:plugin/tracing`, as they are.
//!
//! A slot has the bits of one flat value, in its lower bits, or the first one has the pointer to all
//! parameters where they are more than 16. The result is the bits of the flat value, or a pointer
//! where there are several. A call that fails, other than by the plugin's own error, is a trap, after
//! its reason was logged.
//!
//! Not here: how values are laid out (`canonical.rs`).

use std::cell::{Cell, OnceCell};

use jackfield_protocol::dispatch::Dispatched;
use jackfield_protocol::{Encoding, TraceContext};

use super::{SPANS, abi, address, dispatch, prepare, set_trace};
use crate::canonical::{FLAT_MAX, Memory, Signature};
use crate::instance::{Export, interfaces};
use crate::log::{Level, log};
use crate::trace::Carried;

thread_local! {
    static SIGNATURES: OnceCell<Vec<Vec<Signature>>> = const { OnceCell::new() };
    /// Arguments before a call, its result after it.
    static KEPT: Cell<Vec<Vec<u8>>> = const { Cell::new(Vec::new()) };
}

/// What any type of the component model may want of an address.
const ALIGN: usize = 8;

/// `jackfield_canonical_call`.
pub fn canonical_call(export: &'static Export, interface: u32, function: u32, slots: &[u64; FLAT_MAX]) -> u64 {
    prepare();
    SIGNATURES.with(|signatures| {
        let signatures = signatures.get_or_init(|| signatures_of(export));
        let signature = signatures.get(interface as usize).and_then(|functions| functions.get(function as usize));
        let Some(signature) = signature else { give_up("there is no such function") };
        let arguments = match signature.lift(slots, &Module) {
            Ok(arguments) => arguments,
            Err(why) => give_up(&why.to_string()),
        };
        free();
        let mut answer = signature.begin_answer();
        let dispatched = dispatch(export, interface, function, Encoding::Binary, &arguments, &mut answer);
        let is_error = match dispatched {
            Dispatched::Ok => false,
            Dispatched::OwnError => true,
            Dispatched::Unimplemented => give_up("there is no such function"),
            Dispatched::BadArguments(why) | Dispatched::Failed(why) => give_up(&why),
        };
        signature.lower(answer, is_error, &mut Module).unwrap_or_else(|why| give_up(&why.to_string()))
    })
}

/// `jackfield_canonical_trace`.
pub fn canonical_trace(at: u32, len: u32, home: u32) {
    let context = TraceContext::parse(Module.read(at, len as usize));
    free();
    // What is none is no reason to fail the call.
    set_trace(Carried { context, home: home != 0, ..Carried::default() });
}

/// `jackfield_canonical_spans`.
pub fn canonical_spans() -> u32 {
    let spans = SPANS.take();
    let len = spans.len() as u32;
    let at = Module.keep(spans);
    Module.keep([at.to_le_bytes(), len.to_le_bytes()].concat())
}

/// `jackfield_canonical_realloc`.
pub fn realloc(old: u32, old_size: u32, size: u32) -> u32 {
    let mut bytes = Module.read(old, old_size.min(size) as usize).to_vec();
    bytes.resize(size as usize, 0);
    Module.keep(bytes)
}

/// `jackfield_canonical_free`.
pub fn free() {
    KEPT.set(Vec::new());
}

fn signatures_of(export: &'static Export) -> Vec<Vec<Signature>> {
    let described = interfaces(export).unwrap_or_else(|error| give_up(&error.to_string()));
    let functions = described
        .into_iter()
        .map(|interface| interface.functions.iter().map(|function| Signature::of(interface, function)).collect());
    functions.collect()
}

fn give_up(why: &str) -> ! {
    log(Level::Error, why);
    std::process::abort()
}

/// The memory of this module.
struct Module;

impl Memory for Module {
    fn read(&self, at: u32, len: usize) -> &[u8] {
        if len == 0 { &[] } else { abi::memory(at, len) }
    }

    fn keep(&mut self, mut bytes: Vec<u8>) -> u32 {
        if bytes.is_empty() {
            return ALIGN as u32;
        }
        let mut start = 0;
        // The allocator of this target aligns everything to 8, but does not promise it.
        if !(address(&bytes) as usize).is_multiple_of(ALIGN) {
            let mut room = Vec::with_capacity(bytes.len() + ALIGN);
            start = (address(&room) as usize).next_multiple_of(ALIGN) - address(&room) as usize;
            room.resize(start, 0);
            room.append(&mut bytes);
            bytes = room;
        }
        let at = address(&bytes) + start as u32;
        let mut kept = KEPT.take();
        kept.push(bytes);
        KEPT.set(kept);
        at
    }
}
