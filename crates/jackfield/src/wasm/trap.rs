//! How a call that broke its instance is reported: which limit, which panic, which trap, and where.

use std::time::Duration;

use jackfield_protocol::call::Cause;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::extism;
use super::guest::{DeadlineReached, Notes};

/// Frames of the guest's stack that are shown.
const FRAMES_SHOWN: usize = 8;

/// Names a failure by what explains it best: the end of its time, the limit it hit, its panic, its exit, and
/// last the trap with the guest's backtrace and last lines.
pub(super) fn cause(error: &wasmtime::Error, notes: Notes, timeout: Duration) -> Cause {
    // What our side of the border found out says it best.
    if let Some(extism::Broke(cause)) = error.downcast_ref() {
        return cause.clone();
    }
    if error.is::<DeadlineReached>() {
        return Cause::Timeout { after: timeout };
    }
    let trap = error.downcast_ref::<Trap>();
    match trap {
        Some(Trap::StackOverflow) => {
            return Cause::Limit { limit: "stack", what: format!("its stack is full{}", place(error)) };
        }
        Some(Trap::OutOfFuel) => {
            return Cause::Limit { limit: "fuel", what: format!("the call has used up its fuel{}", place(error)) };
        }
        _ => {}
    }
    if let Some((limit, what)) = notes.limit {
        return Cause::Limit { limit, what };
    }
    if let Some(message) = notes.panic {
        return Cause::Panicked { message };
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Cause::Crashed { how: format!("it ended with exit code {}{}", exit.0, last_lines(&notes.lines)) };
    }
    let what = match trap {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    Cause::Crashed { how: format!("{what}{}{}", place(error), last_lines(&notes.lines)) }
}

/// The guest's stack, innermost first: ` at greeter::greet (src/lib.rs:7:5) < …`.
fn place(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let own = backtrace.frames().iter().filter(|frame| !extism::kernel::is_kernel(frame.module()));
    let frames = own.map(|frame| {
        let symbol = frame.symbols().iter().find(|symbol| symbol.name().is_some() || symbol.file().is_some());
        let of_module = frame.func_name().map(demangled);
        let named = symbol.and_then(|symbol| symbol.name().map(demangled)).or(of_module);
        let name = named.unwrap_or_else(|| format!("function {}", frame.func_index()));
        match symbol.and_then(|symbol| Some((symbol.file()?, symbol.line()?))) {
            Some((file, line)) => format!("{name} ({file}:{line})"),
            None => name,
        }
    });
    let shown: Vec<_> = frames.take(FRAMES_SHOWN).collect();
    match shown.is_empty() {
        true => String::new(),
        false => format!(", at {}", shown.join(" < ")),
    }
}

fn last_lines(lines: &[String]) -> String {
    match lines.is_empty() {
        true => String::new(),
        false => format!("; it said last: {:?}", lines.join("\n")),
    }
}

/// A name as it was written, without the hash that Rust adds.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
