//! Extism's memory, and a call that comes through it.
//!
//! Not here: the imports themselves (`abi.rs`).

use jackfield_protocol::Encoding;
use jackfield_protocol::dispatch::Dispatched;

use super::abi::host;
use super::dispatch;
use crate::instance::Export;
use crate::log::Level;

/// The export of a function.
pub fn call(export: &'static Export, interface: u32, function: u32) -> i32 {
    let arguments = input();
    let mut answer = Vec::new();
    let (result, text) = match dispatch(export, interface, function, Encoding::Json, &arguments, &mut answer) {
        Dispatched::Ok => {
            let (handle, len) = copy(&answer);
            host::output_set(handle, len);
            return 0;
        }
        Dispatched::OwnError => {
            // JSON is UTF-8, whoever wrote it.
            (1, format!(r#"{{"err":{}}}"#, String::from_utf8_lossy(&answer)))
        }
        Dispatched::Unimplemented => (2, "there is no such function".to_owned()),
        Dispatched::BadArguments(why) | Dispatched::Failed(why) => (2, why),
    };
    let (handle, _) = copy(text.as_bytes());
    host::error_set(handle);
    result
}

/// A line for the host's log.
pub(super) fn log(level: Level, message: &str) {
    let (handle, _) = copy(message.as_bytes());
    match level {
        Level::Error => host::log_error(handle),
        Level::Warn => host::log_warn(handle),
        Level::Info => host::log_info(handle),
        Level::Debug => host::log_debug(handle),
        Level::Trace => host::log_trace(handle),
    }
}

fn input() -> Vec<u8> {
    let len = host::input_length();
    let mut input = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    let words = len / 8 * 8;
    (0..words).step_by(8).for_each(|at| input.extend_from_slice(&host::input_load_u64(at).to_le_bytes()));
    // The value of a byte.
    (words..len).for_each(|at| input.push(host::input_load_u8(at) as u8));
    input
}

/// Copies bytes into a new block of Extism's memory: its handle, and its length. No bytes are no block.
fn copy(bytes: &[u8]) -> (u64, u64) {
    let len = bytes.len() as u64;
    let handle = host::alloc(len);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut at = handle;
    for word in words {
        host::store_u64(at, u64::from_le_bytes(*word));
        at += 8;
    }
    for byte in rest {
        host::store_u8(at, u32::from(*byte));
        at += 1;
    }
    (handle, len)
}
