//! The plugin as a shared library: `jackfield_register` and the tables it adds.
//!
//! `include/jackfield.h` is the contract. Every entry the host calls goes through the panic guard
//! of `instance.rs`; the state behind a table is never freed, for a library is never unloaded.

#![expect(unsafe_code, reason = "the entries of a shared library")]

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jackfield_protocol::Encoding;
use jackfield_protocol::dispatch::{Called, Dispatched, Incoming};
use jackfield_protocol::native::{
    ABI_MAJOR, About, Call, Host, NO_INDEX, Registry, Sink, Str, TABLE_ANY_THREAD, TABLE_BINARY, Table, size_1_0, status,
};

use crate::instance::{Export, Outcome, Served, interfaces, panic_message};
use crate::log::{Level, send_to};

/// What `jackfield_register` does: says who the plugin is and adds its interfaces. 0, or why not.
///
/// # Safety
/// `host` and `registry` are tables as `jackfield.h` describes them: `host` lives as long as the
/// process, `registry` as long as this call.
pub unsafe fn register(export: &'static Export, host: *const Host, registry: *const Registry) -> i32 {
    // SAFETY: the caller passes a table that lives as long as the process, or null.
    let host = unsafe { host.as_ref() };
    // SAFETY: the caller passes a table that lives while this runs, or null.
    let registry = unsafe { registry.as_ref() };
    let (Some(host), Some(registry)) = (host, registry) else { return status::FAILED };
    let known = host.abi_major == ABI_MAJOR
        && host.size as usize >= size_1_0::HOST
        && registry.size as usize >= size_1_0::REGISTRY;
    if !known {
        return status::FAILED;
    }
    let lent = Lent { context: host.context, log: host.log };
    send_to(move |level, message| lent.log(level, message));
    // AssertUnwindSafe: nothing of this call is looked at again after a panic.
    match catch_unwind(AssertUnwindSafe(|| add(export, registry))) {
        Ok(status) => status,
        Err(payload) => {
            crate::log(Level::Error, &format!("panic while registering: {}", panic_message(&*payload)));
            status::PANICKED
        }
    }
}

/// The host's table, as far as it is used after `register`.
struct Lent {
    context: *mut c_void,
    log: Option<unsafe extern "C" fn(*mut c_void, i32, Str)>,
}

// SAFETY: `jf_host` lives as long as the process, and its functions are `[any-thread]`.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    fn log(&self, level: Level, message: &str) {
        if let Some(log) = self.log {
            // SAFETY: the host's own function and context; the text is valid while it runs, and copied.
            unsafe { log(self.context, level as i32, Str::of(message)) };
        }
    }
}

/// One interface as the host sees it. Never freed.
struct Entry {
    served: Arc<Served>,
    interface: usize,
}

fn add(export: &'static Export, registry: &Registry) -> i32 {
    let (Some(about), Some(add)) = (registry.about, registry.add) else { return status::FAILED };
    let described = match interfaces(export) {
        Ok(described) => described,
        Err(error) => {
            crate::log(Level::Error, &error.to_string());
            return status::FAILED;
        }
    };
    let capabilities = export.capabilities.join(" ");
    let table = About {
        size: size_of::<About>() as u32,
        reserved: 0,
        name: Str::of(export.name),
        version: Str::of(export.version),
        capabilities: Str::of(&capabilities),
    };
    // SAFETY: the registry's own function and context; the table and its texts outlive the call.
    let refused = unsafe { about(registry.context, &table) };
    if refused != status::OK {
        return refused;
    }
    let served = Arc::new(Served::new(export));
    for (position, interface) in described.into_iter().enumerate() {
        let id = interface.id.to_string();
        let description = serde_json::to_string(interface).unwrap_or_default();
        let entry = Box::leak(Box::new(Entry { served: Arc::clone(&served), interface: position }));
        let table = Table {
            size: size_of::<Table>() as u32,
            flags: TABLE_ANY_THREAD | TABLE_BINARY,
            id: Str::of(&id),
            description: Str::of(&description),
            state: std::ptr::from_mut(entry).cast(),
            call: Some(call),
            stop: Some(stop),
        };
        // SAFETY: the registry's own function and context; the table and its texts outlive the call,
        // which copies them, and `state` lives for ever.
        let refused = unsafe { add(registry.context, &table) };
        if refused != status::OK {
            return refused;
        }
    }
    status::OK
}

thread_local! {
    /// Room for an answer, kept from call to call.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Largest room that a thread keeps.
const SCRATCH_BYTES_MAX: usize = 256 * 1024;

/// `jf_interface.call`, `[any-thread]`.
unsafe extern "C" fn call(state: *mut c_void, call: *const Call, sink: *const Sink) -> i32 {
    // SAFETY: `state` is the leaked `Entry` that was put beside this function in the table.
    let entry = unsafe { &*state.cast::<Entry>() };
    // SAFETY: the host passes a table that lives while this call runs.
    let call = unsafe { &*call };
    // SAFETY: as above.
    let sink = unsafe { &*sink };
    // SAFETY: the host promises that the arguments are valid while this call runs.
    let arguments = unsafe { call.arguments.bytes() };
    // SAFETY: as above, for the name.
    let name = unsafe { call.function.bytes() };
    let encoding = if call.encoding == Encoding::Binary as u32 { Encoding::Binary } else { Encoding::Json };
    let function = match (encoding, call.index, std::str::from_utf8(name)) {
        (Encoding::Binary, index, _) if index != NO_INDEX => Called::Position(index as usize),
        (_, _, Ok(name)) => Called::Name(name),
        (_, _, Err(_)) => return status::UNIMPLEMENTED,
    };
    let mut answer = SCRATCH.try_with(Cell::take).unwrap_or_default();
    let outcome = entry.served.call(entry.interface, Incoming { function, encoding, arguments }, &mut answer);
    let (status, text) = match outcome {
        Outcome::Dispatched(Dispatched::Ok) => (status::OK, None),
        Outcome::Dispatched(Dispatched::OwnError) => (status::OWN_ERROR, None),
        Outcome::Dispatched(Dispatched::Unimplemented) => return status::UNIMPLEMENTED,
        Outcome::Dispatched(Dispatched::BadArguments(why)) => (status::BAD_ARGUMENTS, Some(why)),
        Outcome::Dispatched(Dispatched::Failed(why)) => (status::FAILED, Some(why)),
        Outcome::Panicked(message) => (status::PANICKED, Some(message)),
        Outcome::Stopped => (status::FAILED, Some("the plugin was stopped".to_owned())),
    };
    let bytes = text.as_ref().map_or(&*answer, |text| text.as_bytes());
    let written = match sink.write {
        // SAFETY: the sink's own function and context; the bytes outlive the call and are copied.
        Some(write) => unsafe { write(sink.context, Str { data: bytes.as_ptr(), len: bytes.len() }) },
        None => status::FAILED,
    };
    if answer.capacity() <= SCRATCH_BYTES_MAX {
        answer.clear();
        let _ = SCRATCH.try_with(|scratch| scratch.set(answer));
    }
    if written == 0 { status } else { status::ANSWER_TOO_LARGE }
}

/// `jf_interface.stop`, `[one-thread]`.
unsafe extern "C" fn stop(state: *mut c_void) {
    // SAFETY: `state` is the leaked `Entry` that was put beside this function in the table.
    let entry = unsafe { &*state.cast::<Entry>() };
    entry.served.stop();
}
