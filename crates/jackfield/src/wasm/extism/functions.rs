//! The functions that an Extism host lends: `extism:host/env`.
//!
//! A guest calls some of them once for every eight bytes that it reads or writes, so they do nothing but
//! check and copy. Numbers are unsigned here: a negative one is a very large one.

use tracing::Level;
use wasmtime::{Caller, Linker};

use super::super::guest::Guest;
use super::ENV;

type Call<'a> = Caller<'a, Guest>;

/// Lends all of them.
pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_input(linker)?;
    add_memory(linker)?;
    add_output(linker)?;
    add_settings(linker)?;
    add_http(linker)?;
    add_log(linker)
}

fn add_input(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .func_wrap(ENV, "input_length", |call: Call| call.data().extism.input.len() as u64)?
        .func_wrap(ENV, "input_load_u8", |call: Call, at: u64| input::<1>(&call, at).map(|[byte]| u32::from(byte)))?
        .func_wrap(ENV, "input_load_u64", |call: Call, at: u64| input(&call, at).map(u64::from_le_bytes))?;
    Ok(())
}

fn add_memory(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .func_wrap(ENV, "alloc", |mut call: Call, len: u64| alloc(call.data_mut(), len))?
        .func_wrap(ENV, "free", |mut call: Call, handle: u64| call.data_mut().extism.memory.free(handle))?
        .func_wrap(ENV, "length", |call: Call, handle: u64| call.data().extism.memory.length(handle))?
        .func_wrap(ENV, "length_unsafe", |call: Call, handle: u64| call.data().extism.memory.length(handle))?
        .func_wrap(ENV, "load_u8", |call: Call, at: u64| {
            let [byte] = call.data().extism.memory.load(at)?;
            Ok(u32::from(byte))
        })?
        .func_wrap(ENV, "load_u64", |call: Call, at: u64| Ok(u64::from_le_bytes(call.data().extism.memory.load(at)?)))?
        .func_wrap(ENV, "store_u8", |mut call: Call, at: u64, byte: u32| {
            // The value of a byte.
            Ok(call.data_mut().extism.memory.store(at, [byte as u8])?)
        })?
        .func_wrap(ENV, "store_u64", |mut call: Call, at: u64, word: u64| {
            Ok(call.data_mut().extism.memory.store(at, word.to_le_bytes())?)
        })?;
    Ok(())
}

fn add_output(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .func_wrap(ENV, "output_set", |mut call: Call, at: u64, len: u64| {
            let state = &mut call.data_mut().extism;
            state.memory.range(at, len)?;
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
        .func_wrap(ENV, "config_get", |mut call: Call, key: u64| {
            let guest = call.data_mut();
            let settings = std::sync::Arc::clone(&guest.extism.settings);
            let key = take(guest, key);
            let value = str::from_utf8(&key).ok().and_then(|key| settings.config.get(key));
            if let (None, b"traceparent") = (value, &key[..])
                && !guest.extism.traceparent.is_empty()
            {
                let traceparent = guest.extism.traceparent.clone();
                return put(guest, traceparent.as_bytes());
            }
            value.map_or(0, |value| put(guest, value.as_bytes()))
        })?
        .func_wrap(ENV, "var_get", |mut call: Call, name: u64| {
            let guest = call.data_mut();
            let name = take(guest, name);
            let value = guest.extism.variable(&name).map(<[u8]>::to_vec);
            value.map_or(0, |value| put(guest, &value))
        })?
        .func_wrap(ENV, "var_set", |mut call: Call, name: u64, value: u64| {
            let guest = call.data_mut();
            let name = take(guest, name);
            let value = (value != 0).then(|| take(guest, value));
            guest.extism.set_variable(name, value)?;
            Ok(())
        })?;
    Ok(())
}

fn add_http(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "http_status_code", |call: Call| u32::from(call.data().extism.response.status))?.func_wrap(
        ENV,
        "http_headers",
        |mut call: Call| {
            let guest = call.data_mut();
            let headers = std::mem::take(&mut guest.extism.response.headers);
            let handle = put(guest, &headers);
            guest.extism.response.headers = headers;
            handle
        },
    )?;
    #[cfg(feature = "wasm-http")]
    linker.func_wrap_async(ENV, "http_request", |mut call: Call, (request, body): (u64, u64)| {
        Box::new(async move { http_request(call.data_mut(), request, body).await })
    })?;
    #[cfg(not(feature = "wasm-http"))]
    linker.func_wrap(ENV, "http_request", |_: u64, _: u64| -> wasmtime::Result<u64> {
        let why = "it makes an HTTP request, and this host was built without the feature `wasm-http`".to_owned();
        Err(super::Broke(jackfield_protocol::call::Cause::Refused { why }).into())
    })?;
    Ok(())
}

#[cfg(feature = "wasm-http")]
async fn http_request(guest: &mut Guest, request: u64, body: u64) -> wasmtime::Result<u64> {
    let settings = std::sync::Arc::clone(&guest.extism.settings);
    let request = take(guest, request);
    let body = (body != 0).then(|| take(guest, body));
    let request = super::http::Request::read(&request, body)?;
    let (status, headers, body) = settings.agent.fetch(request, guest.extism.until).await?;
    guest.extism.response = super::state::Response { status, headers };
    Ok(put(guest, &body))
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
        linker.func_wrap(ENV, name, move |mut call: Call, message: u64| log(call.data_mut(), level, message))?;
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

#[inline]
fn input<const N: usize>(call: &Call, at: u64) -> wasmtime::Result<[u8; N]> {
    let input = &call.data().extism.input;
    let bytes = usize::try_from(at).ok().and_then(|at| input.get(at..)?.first_chunk());
    match bytes {
        Some(bytes) => Ok(*bytes),
        None => Err(wasmtime::format_err!("{N} bytes at {at} are not within the {} bytes of input", input.len())),
    }
}

/// A new block; 0, and a note of the limit, if there is no room.
fn alloc(guest: &mut Guest, len: u64) -> u64 {
    let memory = &mut guest.extism.memory;
    memory.alloc(len).unwrap_or_else(|| {
        let what = format!("it wanted {len} bytes more of Extism memory, which has {} at most", memory.bytes_max());
        guest.watch.note_limit("memory", what);
        0
    })
}

/// A new block with these bytes; 0 as above.
fn put(guest: &mut Guest, bytes: &[u8]) -> u64 {
    guest.extism.memory.put(bytes).unwrap_or_else(|| alloc(guest, bytes.len() as u64))
}

/// The bytes of a block, which is then free. What is no block is empty.
fn take(guest: &mut Guest, handle: u64) -> Vec<u8> {
    let bytes = guest.extism.memory.block(handle).to_vec();
    guest.extism.memory.free(handle);
    bytes
}

/// Logs the lines of a block, which is then free.
fn log(guest: &mut Guest, level: Level, message: u64) {
    let block = guest.extism.memory.block(message);
    // What is behind the limit would not be logged anyway.
    let max = usize::try_from(guest.extism.settings.log_bytes_max.saturating_add(1)).unwrap_or(usize::MAX);
    let text = String::from_utf8_lossy(&block[..block.len().min(max)]);
    text.lines().filter(|line| !line.is_empty()).for_each(|line| guest.watch.logged(level, line));
    guest.extism.memory.free(message);
}
