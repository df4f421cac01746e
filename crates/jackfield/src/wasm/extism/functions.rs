//! The functions that an Extism host lends: `extism:host/env`.
//!
//! Those that a guest calls once for every eight bytes that it reads or writes are the kernel's (`kernel.rs`).
//! Numbers are unsigned here: a negative one is a very large one.

use tracing::Level;
use wasmtime::{Caller, Linker};

use super::super::guest::Guest;
use super::ENV;
use super::memory::Arena;
use crate::host_function::Blocks as _;

type Call<'a> = Caller<'a, Guest>;

/// Lends all of them.
pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_blocks(linker)?;
    add_output(linker)?;
    add_settings(linker)?;
    add_http(linker)?;
    add_log(linker)
}

fn add_blocks(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .func_wrap(ENV, "alloc", |call: Call, len: u64| alloc(&mut Arena(call), len))?
        .func_wrap(ENV, "free", |mut call: Call, handle: u64| call.data_mut().extism.memory.free(handle))?
        .func_wrap(ENV, "length", |call: Call, handle: u64| call.data().extism.memory.length(handle))?
        .func_wrap(ENV, "length_unsafe", |call: Call, handle: u64| call.data().extism.memory.length(handle))?;
    Ok(())
}

fn add_output(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .func_wrap(ENV, "output_set", |mut call: Call, at: u64, len: u64| {
            let state = &mut call.data_mut().extism;
            state.memory.check(at, len)?;
            state.output = (at, len);
            Ok(())
        })?
        .func_wrap(ENV, "error_set", |mut call: Call, handle: u64| {
            let state = &mut call.data_mut().extism;
            let len = state.memory.length(handle);
            if handle != 0 && len == 0 {
                wasmtime::bail!("`error_set` got {handle}, which is no block");
            }
            state.error = (handle != 0).then_some((handle, len));
            Ok(())
        })?;
    Ok(())
}

fn add_settings(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .func_wrap(ENV, "config_get", |call: Call, key: u64| {
            let mut arena = Arena(call);
            let key = take(&mut arena, key);
            let state = &arena.0.data().extism;
            let settings = std::sync::Arc::clone(&state.settings);
            let value = str::from_utf8(&key).ok().and_then(|key| settings.config.get(key));
            if let (None, b"traceparent") = (value, &key[..])
                && !state.traceparent.is_empty()
            {
                let traceparent = state.traceparent.clone();
                return put(&mut arena, traceparent.as_bytes());
            }
            value.map_or(0, |value| put(&mut arena, value.as_bytes()))
        })?
        .func_wrap(ENV, "var_get", |call: Call, name: u64| {
            let mut arena = Arena(call);
            let name = take(&mut arena, name);
            let value = arena.0.data().extism.variable(&name).map(<[u8]>::to_vec);
            value.map_or(0, |value| put(&mut arena, &value))
        })?
        .func_wrap(ENV, "var_set", |call: Call, name: u64, value: u64| {
            let mut arena = Arena(call);
            let name = take(&mut arena, name);
            let value = (value != 0).then(|| take(&mut arena, value));
            arena.0.data_mut().extism.set_variable(name, value)?;
            Ok(())
        })?;
    Ok(())
}

fn add_http(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "http_status_code", |call: Call| u32::from(call.data().extism.response.status))?.func_wrap(
        ENV,
        "http_headers",
        |mut call: Call| {
            let headers = std::mem::take(&mut call.data_mut().extism.response.headers);
            let mut arena = Arena(call);
            let handle = put(&mut arena, &headers);
            arena.0.data_mut().extism.response.headers = headers;
            handle
        },
    )?;
    #[cfg(feature = "wasm-http")]
    linker.func_wrap_async(ENV, "http_request", |call: Call, (request, body): (u64, u64)| {
        Box::new(http_request(Arena(call), request, body))
    })?;
    #[cfg(not(feature = "wasm-http"))]
    linker.func_wrap(ENV, "http_request", |_: u64, _: u64| -> wasmtime::Result<u64> {
        let why = "it makes an HTTP request, and this host was built without the feature `wasm-http`".to_owned();
        Err(super::Broke(jackfield_protocol::call::Cause::Refused { why }).into())
    })?;
    Ok(())
}

#[cfg(feature = "wasm-http")]
async fn http_request(mut arena: Arena<Call<'_>>, request: u64, body: u64) -> wasmtime::Result<u64> {
    let settings = std::sync::Arc::clone(&arena.0.data().extism.settings);
    let request = take(&mut arena, request);
    let body = (body != 0).then(|| take(&mut arena, body));
    let request = super::http::Request::read(&request, body)?;
    let until = arena.0.data().extism.until;
    let (status, headers, body) = settings.agent.fetch(request, until).await?;
    arena.0.data_mut().extism.response = super::state::Response { status, headers };
    Ok(put(&mut arena, &body))
}

fn add_log(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let levels = [
        ("log_trace", Level::TRACE),
        ("log_debug", Level::DEBUG),
        ("log_info", Level::INFO),
        ("log_warn", Level::WARN),
        ("log_error", Level::ERROR),
    ];
    for (name, level) in levels {
        linker.func_wrap(ENV, name, move |call: Call, message: u64| log(&mut Arena(call), level, message))?;
    }
    linker.func_wrap(ENV, "get_log_level", || -> u32 {
        // 0 is the lowest. A guest that asks saves itself the lines that nobody would see.
        match () {
            () if tracing::enabled!(target: "jackfield::plugin", Level::TRACE) => 0,
            () if tracing::enabled!(target: "jackfield::plugin", Level::DEBUG) => 1,
            () => 2,
        }
    })?;
    Ok(())
}

/// A new block; 0, and a note of the limit, if there is no room.
fn alloc(arena: &mut Arena<Call<'_>>, len: u64) -> u64 {
    arena.alloc(len).unwrap_or_else(|| no_room(arena, len))
}

#[cold]
fn no_room(arena: &Arena<Call<'_>>, len: u64) -> u64 {
    let what = format!("it wanted {len} bytes more of Extism memory, which has {} at most", arena.bytes_max());
    arena.0.data().watch.note_limit("memory", what);
    0
}

/// A new block with these bytes; 0 as above.
fn put(arena: &mut Arena<Call<'_>>, bytes: &[u8]) -> u64 {
    arena.put(bytes).unwrap_or_else(|| no_room(arena, bytes.len() as u64))
}

/// The bytes of a block, which is then free. What is no block is empty.
fn take(arena: &mut Arena<Call<'_>>, handle: u64) -> Vec<u8> {
    let bytes = arena.block(handle).unwrap_or_default().to_vec();
    arena.free(handle);
    bytes
}

/// Logs the lines of a block, which is then free.
fn log(arena: &mut Arena<Call<'_>>, level: Level, message: u64) {
    let block = arena.block(message).unwrap_or_default();
    let guest = arena.0.data();
    // What is behind the limit would not be logged anyway.
    let max = usize::try_from(guest.extism.settings.log_bytes_max.saturating_add(1)).unwrap_or(usize::MAX);
    let text = String::from_utf8_lossy(&block[..block.len().min(max)]);
    text.lines().filter(|line| !line.is_empty()).for_each(|line| guest.watch.logged(level, line));
    arena.free(message);
}
