//! The plugin as a shared library: `jackfield_register` and the tables it adds.
//!
//! `include/jackfield.h` is the contract. Every entry the host calls goes through the panic guard
//! of `instance.rs`; the state behind a table is never freed, for a library is never unloaded.

#![expect(unsafe_code, reason = "the entries of a shared library")]

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jackfield_protocol::dispatch::{Called, Dispatched, Incoming};
use jackfield_protocol::native::{
    ABI_MAJOR, About, Call, Host, NO_INDEX, Registry, Sink, Str, TABLE_ANY_THREAD, TABLE_BINARY, Table, size_1_0,
    status,
};
use jackfield_protocol::{Encoding, TraceContext};

use crate::instance::{Export, Outcome, Served, interfaces, panic_message};
use crate::log::{Level, send_to};
use crate::trace::{Carried, take_spans, within};

/// What `jackfield_register` does: says who the plugin is and adds its interfaces. 0, or why not.
///
/// # Safety
/// `host` and `registry` are tables as `jackfield.h` describes them: `host` lives as long as the
/// process, `registry` as long as this call.
pub unsafe fn register(export: &'static Export, host: *const Host, registry: *const Registry) -> i32 {
    const NONE: Host =
        Host { size: 0, abi_major: 0, abi_minor: 0, context: std::ptr::null_mut(), log: None, span: None };
    if host.is_null() {
        return status::FAILED;
    }
    // SAFETY: the caller passes a table that lives as long as the process.
    let host = unsafe { whole(host, NONE) };
    // SAFETY: the caller passes a table that lives while this runs, or null.
    let registry = unsafe { registry.as_ref() };
    let Some(registry) = registry else { return status::FAILED };
    let known = host.abi_major == ABI_MAJOR
        && host.size as usize >= size_1_0::HOST
        && registry.size as usize >= size_1_0::REGISTRY;
    if !known {
        return status::FAILED;
    }
    let lent = Lent { context: host.context, log: host.log };
    send_to(move |level, message| lent.log(level, message));
    let spans = host.span.map(|take| Spans { context: host.context, take });
    // AssertUnwindSafe: nothing of this call is looked at again after a panic.
    match catch_unwind(AssertUnwindSafe(|| add(export, registry, spans))) {
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

/// Where the host takes spans.
#[derive(Clone, Copy)]
struct Spans {
    context: *mut c_void,
    take: unsafe extern "C" fn(*mut c_void, Str),
}

impl Spans {
    /// Sends the spans of the present call home.
    fn send(self) {
        for span in take_spans() {
            let json = span.to_json();
            // SAFETY: the host's own function and context, which live as long as the process; the text is valid while
            // it runs, and copied.
            unsafe { (self.take)(self.context, Str::of(&json)) };
        }
    }
}

/// A table of the other side's, which may be of another minor version: what that one lacks is as in `lacking`.
///
/// # Safety
/// `table` must be readable for as many bytes as the `u32` at its start says.
unsafe fn whole<T: Copy>(table: *const T, lacking: T) -> T {
    // SAFETY: every table begins with its size.
    let size = unsafe { table.cast::<u32>().read() } as usize;
    let mut whole = lacking;
    let to = std::ptr::from_mut(&mut whole).cast::<u8>();
    // SAFETY: both are readable, or writable, for that long, and do not overlap. A member is there or not: the sizes of
    // tables are the ends of members.
    unsafe { std::ptr::copy_nonoverlapping(table.cast::<u8>(), to, size.min(size_of::<T>())) };
    whole
}

/// One interface as the host sees it. Never freed.
struct Entry {
    served: Arc<Served>,
    interface: usize,
    /// Of the host that it was added for: a library that is loaded again has another.
    spans: Option<Spans>,
}

fn add(export: &'static Export, registry: &Registry, spans: Option<Spans>) -> i32 {
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
        let entry = Box::leak(Box::new(Entry { served: Arc::clone(&served), interface: position, spans }));
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
    const NONE: Call = Call {
        size: 0,
        encoding: 0,
        function: Str::EMPTY,
        index: NO_INDEX,
        reserved: 0,
        arguments: Str::EMPTY,
        deadline_us: 0,
        traceparent: Str::EMPTY,
        tracestate: Str::EMPTY,
    };
    // SAFETY: the host passes a table that lives while this call runs.
    let call = unsafe { whole(call, NONE) };
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
    // SAFETY: as above, for the trace context.
    let context = TraceContext::parse(unsafe { call.traceparent.bytes() });
    let mut carried = Carried { context, ..Carried::default() };
    if context.is_some() {
        // SAFETY: as above, for its state.
        carried.state = String::from_utf8_lossy(unsafe { call.tracestate.bytes() }).into_owned();
        carried.home = entry.spans.is_some();
    }
    let outcome = within(carried, || {
        let outcome = entry.served.call(entry.interface, Incoming { function, encoding, arguments }, &mut answer);
        if let Some(spans) = entry.spans {
            spans.send();
        }
        outcome
    });
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

#[cfg(test)]
mod tests {
    //! Plays the host, so that miri can look at every step.

    use std::ptr::from_ref;
    use std::sync::Mutex;

    use jackfield_protocol::native::NO_DEADLINE;
    use jackfield_protocol::{Interface, InterfaceError};

    use super::*;
    use crate::Instance;

    struct Rascal;

    impl Instance for Rascal {
        fn dispatch(&self, _: usize, call: Incoming<'_>, answer: &mut Vec<u8>) -> Dispatched {
            match call.position(&["echo", "panic", "own-error", "trace"]) {
                Some(0) => {
                    answer.extend_from_slice(call.arguments);
                    Dispatched::Ok
                }
                Some(1) => panic!("on demand"),
                Some(2) => {
                    answer.extend_from_slice(b"\"no\"");
                    Dispatched::OwnError
                }
                Some(3) => {
                    let trace = crate::trace_context().map_or_else(|| "none".to_owned(), |trace| trace.to_string());
                    let trace = trace + &crate::trace_state();
                    answer.extend_from_slice(trace.as_bytes());
                    Dispatched::Ok
                }
                _ => Dispatched::Unimplemented,
            }
        }
    }

    fn described() -> Result<&'static Interface, InterfaceError> {
        static DESCRIBED: std::sync::OnceLock<Interface> = std::sync::OnceLock::new();
        let json = r#"{"interface":"test:rascal/rascal@1.0.0","functions":[{"name":"echo"},{"name":"panic"},{"name":"own-error"},{"name":"trace"}]}"#;
        Ok(DESCRIBED.get_or_init(|| Interface::from_json(json).expect("a description")))
    }

    static EXPORT: Export = Export {
        name: "rascal",
        version: "1.2.3",
        capabilities: &["rascal@1", "batch@2"],
        workers: 1,
        interfaces: &[described],
        make: || Box::new(Rascal),
    };

    static BROKEN: Export = Export { make: || panic!("cannot be made"), ..EXPORT };

    #[derive(Default)]
    struct Heard {
        about: String,
        tables: Vec<Table>,
        ids: Vec<String>,
        log: Vec<String>,
        spans: Vec<String>,
    }

    fn text(text: Str) -> String {
        // SAFETY: the plugin under test passes texts that live while it calls us.
        String::from_utf8_lossy(unsafe { text.bytes() }).into_owned()
    }

    fn heard<'a>(context: *mut c_void) -> std::sync::MutexGuard<'a, Heard> {
        // SAFETY: every context here is the `Mutex` that `register_with` or the test holds.
        unsafe { &*context.cast::<Mutex<Heard>>() }.lock().expect("nobody panics with it")
    }

    unsafe extern "C" fn about(context: *mut c_void, about: *const About) -> i32 {
        // SAFETY: the plugin under test passes a table.
        let about = unsafe { &*about };
        heard(context).about = format!("{} {} {}", text(about.name), text(about.version), text(about.capabilities));
        0
    }

    unsafe extern "C" fn add(context: *mut c_void, table: *const Table) -> i32 {
        // SAFETY: the plugin under test passes a table.
        let table = unsafe { *table };
        heard(context).ids.push(text(table.id));
        heard(context).tables.push(table);
        0
    }

    unsafe extern "C" fn log(context: *mut c_void, _: i32, message: Str) {
        heard(context).log.push(text(message));
    }

    unsafe extern "C" fn span(context: *mut c_void, json: Str) {
        heard(context).spans.push(text(json));
    }

    fn register_with(export: &'static Export) -> (i32, &'static Mutex<Heard>) {
        let heard: &'static Mutex<Heard> = Box::leak(Box::default());
        let context: *mut c_void = from_ref(heard).cast_mut().cast();
        let host = Host {
            size: size_of::<Host>() as u32,
            abi_major: 1,
            abi_minor: 1,
            context,
            log: Some(log),
            span: Some(span),
        };
        let registry =
            Registry { size: size_of::<Registry>() as u32, reserved: 0, context, about: Some(about), add: Some(add) };
        let host = Box::leak(Box::new(host));
        // SAFETY: the tables are as `jackfield.h` describes them, and `host` lives for ever.
        (unsafe { register(export, host, &registry) }, heard)
    }

    struct Answer {
        bytes: Vec<u8>,
        bytes_max: usize,
    }

    unsafe extern "C" fn write(context: *mut c_void, bytes: Str) -> i32 {
        // SAFETY: the context is the `Answer` that `make_call` borrows while the plugin runs.
        let answer = unsafe { &mut *context.cast::<Answer>() };
        // SAFETY: the plugin under test passes bytes that live while it calls us.
        let bytes = unsafe { bytes.bytes() };
        answer.bytes.extend_from_slice(bytes);
        i32::from(answer.bytes.len() > answer.bytes_max)
    }

    fn make_call(table: &Table, function: &str, arguments: &[u8], bytes_max: usize) -> (i32, String) {
        make_call_in("", table, function, arguments, bytes_max)
    }

    fn make_call_in(
        traceparent: &str,
        table: &Table,
        function: &str,
        arguments: &[u8],
        bytes_max: usize,
    ) -> (i32, String) {
        let mut answer = Answer { bytes: Vec::new(), bytes_max };
        let sink = Sink {
            size: size_of::<Sink>() as u32,
            reserved: 0,
            context: std::ptr::from_mut(&mut answer).cast(),
            write: Some(write),
        };
        let call = Call {
            size: size_of::<Call>() as u32,
            encoding: 0,
            function: Str::of(function),
            index: NO_INDEX,
            reserved: 0,
            arguments: Str { data: arguments.as_ptr(), len: arguments.len() },
            deadline_us: NO_DEADLINE,
            traceparent: Str::of(traceparent),
            tracestate: Str::of("a=b"),
        };
        let function = table.call.expect("a table has a call");
        // SAFETY: the state is the table's, and call and sink live while the plugin runs.
        let status = unsafe { function(table.state, &call, &sink) };
        (status, String::from_utf8_lossy(&answer.bytes).into_owned())
    }

    #[test]
    fn a_plugin_registers_answers_panics_and_goes_on() {
        let (registered, heard) = register_with(&EXPORT);
        assert_eq!(registered, status::OK);
        let table = heard.lock().expect("unharmed").tables[0];
        assert_eq!(heard.lock().expect("unharmed").about, "rascal 1.2.3 rascal@1 batch@2");
        assert_eq!(heard.lock().expect("unharmed").ids, ["test:rascal/rascal@1.0.0"]);

        assert_eq!(make_call(&table, "echo", b"[1]", 100), (status::OK, "[1]".to_owned()));
        assert_eq!(make_call(&table, "own-error", b"", 100), (status::OWN_ERROR, "\"no\"".to_owned()));
        assert_eq!(make_call(&table, "sing", b"", 100), (status::UNIMPLEMENTED, String::new()));
        assert_eq!(make_call(&table, "echo", b"123456", 5).0, status::ANSWER_TOO_LARGE);
        let (panicked, message) = make_call(&table, "panic", b"", 1000);
        assert_eq!(panicked, status::PANICKED);
        assert!(message.starts_with("on demand ("), "{message}");
        assert_eq!(make_call(&table, "echo", b"after", 100), (status::OK, "after".to_owned()));

        let stop = table.stop.expect("ours has one");
        // SAFETY: no call is under way.
        unsafe { stop(table.state) };
        assert_eq!(make_call(&table, "echo", b"", 100).0, status::FAILED);
    }

    #[test]
    fn a_call_knows_the_span_it_is_made_in_and_the_next_one_does_not() {
        const SPAN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (_, heard) = register_with(&EXPORT);
        let table = heard.lock().expect("unharmed").tables[0];
        let (ended, trace) = make_call_in(SPAN, &table, "trace", b"", 100);
        // In a span of its own, within that of the caller.
        assert_eq!((ended, &trace[..36], &trace[52..]), (status::OK, &SPAN[..36], "-01a=b"));
        assert_ne!(trace[..55], *SPAN);
        assert_eq!(make_call(&table, "trace", b"", 100), (status::OK, "none".to_owned()));
        assert_eq!(make_call_in(SPAN, &table, "panic", b"", 1000).0, status::PANICKED);
        assert_eq!(make_call_in("nonsense", &table, "trace", b"", 100), (status::OK, "none".to_owned()));
        // Nobody records it: then it is handed on as it came.
        let unsampled = SPAN.replace("-01", "-00");
        assert_eq!(make_call_in(&unsampled, &table, "trace", b"", 100), (status::OK, unsampled.clone() + "a=b"));
    }

    #[test]
    fn the_span_of_a_call_is_home_when_the_call_ends() {
        const SPAN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for _ in 0..2 {
            let (_, heard) = register_with(&EXPORT);
            let table = heard.lock().expect("unharmed").tables[0];
            assert_eq!(make_call_in(SPAN, &table, "panic", b"", 1000).0, status::PANICKED);
            let spans = heard.lock().expect("unharmed").spans.clone();
            let [span] = &spans[..] else { panic!("{spans:?}") };
            assert!(span.contains(r#""name":"rascal.panic""#) && span.contains(r#""error":"panicked""#), "{span}");
            assert!(span.contains(r#""parent":"00f067aa0ba902b7""#), "{span}");
        }
    }

    #[test]
    fn a_host_of_an_older_version_is_understood() {
        const NONE: Host =
            Host { size: 0, abi_major: 0, abi_minor: 0, context: std::ptr::null_mut(), log: None, span: None };
        let mut older = [0; size_1_0::HOST];
        older[..4].copy_from_slice(&u32::try_from(size_1_0::HOST).expect("small").to_ne_bytes());
        older[4..6].copy_from_slice(&1u16.to_ne_bytes());
        // Aligned as a table is, and not a byte longer.
        let boxed: Box<[u64]> = older.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        // SAFETY: it is as long as it says.
        let read = unsafe { whole(boxed.as_ptr().cast::<Host>(), NONE) };
        assert_eq!((read.size as usize, read.abi_major, read.span.is_none()), (size_1_0::HOST, 1, true));
    }

    #[test]
    fn a_panic_while_registering_is_a_status() {
        assert_eq!(register_with(&BROKEN).0, status::PANICKED);
    }

    #[test]
    fn calls_on_several_threads_do_not_mix() {
        let (_, heard) = register_with(&EXPORT);
        let table = heard.lock().expect("unharmed").tables[0];
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    for call in 0..10 {
                        let text = format!("{thread}.{call}");
                        assert_eq!(make_call(table, "echo", text.as_bytes(), 100), (status::OK, text));
                    }
                });
            }
        });
    }
}
