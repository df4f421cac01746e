//! Loads a library, lets it register, and calls through its tables.
//!
//! Used where a native plugin shares the host's process (`jackfield`) and where it has one of its own
//! (`jackfield-runner`). Whoever loads has checked the file: code of the library runs from here on.
//!
//! Not here: the check of the file, the private copy, and what is said to whom.

#![expect(unsafe_code, reason = "calls into a shared library")]

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jackfield_protocol::name::NameError;
use jackfield_protocol::native::{
    ABI_MAJOR, ABI_MINOR, About, Call, Host, REGISTER_SYMBOL, RegisterFn, Registry, Sink, Str, TABLE_ANY_THREAD,
    TABLE_BINARY, Table, size_1_0, status,
};
use jackfield_protocol::{Interface, InterfaceId};

static LOADED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Libraries that this process has loaded. None is ever unloaded, so it only grows: by one for each
/// plugin file, and for each new build of one. A file with the same bytes is the same library.
pub fn libraries_loaded() -> usize {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Takes the lines that a library logs, with their `jf_level`. Called from any of its threads.
pub type Log = dyn Fn(i32, &str) + Send + Sync;

/// Takes the spans that a library records, as JSON. Called from any of its threads.
pub type Spans = dyn Fn(&[u8]) + Send + Sync;

/// What a library is lent.
pub struct Lent {
    /// Where its lines go.
    pub log: Box<Log>,
    /// Where its spans go, if anybody wants them.
    pub spans: Option<Box<Spans>>,
}

/// Why a library is no plugin, once its code runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NativeError {
    /// The operating system would not load it.
    #[error("the operating system will not load it: {what}")]
    Load {
        /// Its words.
        what: String,
    },
    /// `jackfield_register` refused or failed.
    #[error("`jackfield_register` {what}")]
    Register {
        /// How.
        what: String,
    },
}

/// What a library registered.
#[derive(Debug)]
pub struct Registered {
    /// What the plugin calls itself.
    pub name: String,
    /// Its version, as it says.
    pub version: String,
    /// `batch@2` each.
    pub capabilities: Vec<String>,
    /// At least one.
    pub interfaces: Vec<Registration>,
}

/// An interface that a library registered.
#[derive(Debug)]
pub struct Registration {
    id: String,
    /// JSON, or empty.
    description: String,
    /// Whether it understands the binary encoding.
    pub binary: bool,
    table: Table,
    /// Held during a call of a table that takes one at a time: the plugin's, not the table's.
    one_at_a_time: Option<Arc<Mutex<()>>>,
}

/// Loads the library at `path`, which must be a checked, private copy, and lets it register.
///
/// The library is never unloaded, and what it is lent lives as long.
pub fn load(path: &Path, lent: Lent) -> Result<Registered, NativeError> {
    let failed = |error: &dyn std::fmt::Display| NativeError::Load { what: error.to_string() };
    // SAFETY: `open` runs the library's initialisers. That they behave is what whoever puts a native
    // plugin into a plugin directory vouches for; the file itself was checked.
    let opened = unsafe { open(path) };
    let library = opened.map_err(|error| failed(&error))?;
    // SAFETY: if the library has the symbol, `jackfield.h` gives it this type.
    let found = unsafe { library.get::<RegisterFn>(REGISTER_SYMBOL.as_bytes()) };
    let register = *found.map_err(|error| failed(&error))?;
    // Never unloaded: threads, thread-locals and exit handlers of a library outlive `dlclose`. From here on every pointer into the library stays valid.
    std::mem::forget(library);
    LOADED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());

    let host = Box::leak(Box::new(Host {
        size: size_of::<Host>() as u32,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        span: lent.spans.is_some().then_some(host_span as unsafe extern "C" fn(*mut c_void, Str)),
        context: Box::into_raw(Box::new(lent)).cast(),
        log: Some(host_log),
    }));
    let collected = Mutex::new(Collected::default());
    let registry = Registry {
        size: size_of::<Registry>() as u32,
        reserved: 0,
        context: std::ptr::from_ref(&collected).cast_mut().cast(),
        about: Some(registry_about),
        add: Some(registry_add),
    };
    // SAFETY: `register` has the ABI that whoever calls this has checked; `host` lives for ever, `registry` and the
    // `Mutex` behind it until the call returns, which is all that `jackfield.h` promises.
    let answered = unsafe { register(host, &registry) };
    let collected = collected.into_inner().unwrap_or_else(PoisonError::into_inner);
    collected.finish(answered)
}

#[cfg(unix)]
unsafe fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

    // NOW: a missing symbol fails here and not in the middle of a call. LOCAL: two plugins may
    // export the same names.
    // SAFETY: the caller's.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

#[cfg(not(unix))]
unsafe fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: the caller's.
    unsafe { libloading::Library::new(path) }
}

/// What a library said while `register` ran.
#[derive(Default)]
struct Collected {
    about: Option<(String, String, String)>,
    interfaces: Vec<Registration>,
    refusals: Vec<String>,
    turn: Arc<Mutex<()>>,
}

impl Collected {
    fn finish(self, answered: i32) -> Result<Registered, NativeError> {
        let refuse = |what: String| Err(NativeError::Register { what });
        if let Some(refusal) = self.refusals.into_iter().next() {
            return refuse(refusal);
        }
        match answered {
            status::OK => {}
            status::PANICKED => return refuse("panicked".to_owned()),
            other => return refuse(format!("failed with status {other}")),
        }
        let Some((name, version, capabilities)) = self.about else {
            return refuse("did not say who the plugin is".to_owned());
        };
        if self.interfaces.is_empty() {
            return refuse("added no interface".to_owned());
        }
        let capabilities = capabilities.split_whitespace().map(str::to_owned).collect();
        Ok(Registered { name, version, capabilities, interfaces: self.interfaces })
    }
}

impl Registration {
    /// Its name and its description, if what was registered makes sense. An error is what
    /// `jackfield_register` did.
    pub fn described(&self) -> Result<(InterfaceId, Option<Interface>), NativeError> {
        let senseless = |what: String| NativeError::Register { what };
        let id: InterfaceId = self
            .id
            .parse()
            .map_err(|error: NameError| senseless(format!("added an interface without a name: {error}")))?;
        let description = match &*self.description {
            "" => None,
            json => Some(
                Interface::from_json(json)
                    .map_err(|error| senseless(format!("described `{id}` in a way that cannot be used: {error}")))?,
            ),
        };
        match description.as_ref().filter(|described| described.id != id) {
            Some(described) => Err(senseless(format!("added `{id}` with the description of `{}`", described.id))),
            None => Ok((id, description)),
        }
    }

    /// Makes a call, on this thread. `answer` gets what the plugin writes, up to `answer_bytes_max`.
    pub fn call(&self, call: &Call, answer: &mut Vec<u8>, answer_bytes_max: usize) -> i32 {
        let mut state = SinkState { answer, bytes_max: answer_bytes_max, overflown: false };
        let sink = Sink {
            size: size_of::<Sink>() as u32,
            reserved: 0,
            context: std::ptr::from_mut(&mut state).cast(),
            write: Some(sink_write),
        };
        let Some(function) = self.table.call else { return status::FAILED };
        let turn = self.one_at_a_time.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        // SAFETY: `call` requires (1) a loaded library: it is never unloaded; (2) the state it was
        // registered with; (3) a call and a sink that live until it returns: both are borrowed here;
        // (4) no second thread unless the table says `[any-thread]`: then `turn` is held.
        let answered = unsafe { function(self.table.state, call, &sink) };
        drop(turn);
        if state.overflown { status::ANSWER_TOO_LARGE } else { answered }
    }

    /// Tells the plugin that no call will come any more. Its code stays.
    pub fn stop(&self) {
        if let Some(stop) = self.table.stop {
            // SAFETY: as in `call`; the session calls it once, when its last call is over.
            unsafe { stop(self.table.state) };
        }
    }
}

struct SinkState<'a> {
    answer: &'a mut Vec<u8>,
    bytes_max: usize,
    overflown: bool,
}

/// `jf_sink.write`, on the thread of the call.
unsafe extern "C" fn sink_write(context: *mut c_void, bytes: Str) -> i32 {
    // SAFETY: `context` is the `SinkState` that `Registration::call` holds while the plugin runs, and
    // `jackfield.h` allows no other thread to use it.
    let state = unsafe { &mut *context.cast::<SinkState<'_>>() };
    // The length is only claimed: it is checked before a byte is read.
    if state.overflown || bytes.len > state.bytes_max - state.answer.len() {
        state.overflown = true;
        return status::ANSWER_TOO_LARGE;
    }
    // SAFETY: the plugin promises `len` readable bytes at `data` while it calls this.
    state.answer.extend_from_slice(unsafe { bytes.bytes() });
    status::OK
}

/// `jf_host.log`, `[any-thread]`.
unsafe extern "C" fn host_log(context: *mut c_void, level: i32, message: Str) {
    // SAFETY: `context` is the `Lent` that `load` leaked into the table.
    let lent = unsafe { &*context.cast::<Lent>() };
    // SAFETY: the plugin promises `len` readable bytes at `data` while it calls this.
    let message = String::from_utf8_lossy(unsafe { message.bytes() });
    // A subscriber of the application's may panic, which must not run through the plugin's frames.
    let _ = catch_unwind(AssertUnwindSafe(|| (lent.log)(level, &message)));
}

/// `jf_host.span`, `[any-thread]`.
unsafe extern "C" fn host_span(context: *mut c_void, json: Str) {
    // SAFETY: `context` is the `Lent` that `load` leaked into the table.
    let lent = unsafe { &*context.cast::<Lent>() };
    let Some(spans) = &lent.spans else { return };
    // SAFETY: the plugin promises `len` readable bytes at `data` while it calls this.
    let json = unsafe { json.bytes() };
    let _ = catch_unwind(AssertUnwindSafe(|| spans(json)));
}

/// `jf_registry.about`, while `register` runs.
unsafe extern "C" fn registry_about(context: *mut c_void, about: *const About) -> i32 {
    // SAFETY: `context` is the `Mutex` that `load` holds while `register` runs.
    let collected = unsafe { &*context.cast::<Mutex<Collected>>() };
    let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the plugin passes a table that lives while this runs, or null.
    let Some(about) = (unsafe { about.as_ref() }) else {
        collected.refusals.push("gave a null table to `about`".to_owned());
        return status::FAILED;
    };
    if (about.size as usize) < size_1_0::ABOUT {
        collected.refusals.push(too_small("jf_about", about.size, size_1_0::ABOUT));
        return status::FAILED;
    }
    match [about.name, about.version, about.capabilities].map(text) {
        [Some(name), Some(version), Some(capabilities)] => {
            collected.about = Some((name, version, capabilities));
            status::OK
        }
        _ => {
            collected.refusals.push("gave `about` a text that is not UTF-8".to_owned());
            status::FAILED
        }
    }
}

/// `jf_registry.add`, while `register` runs.
unsafe extern "C" fn registry_add(context: *mut c_void, interface: *const Table) -> i32 {
    // SAFETY: `context` is the `Mutex` that `load` holds while `register` runs.
    let collected = unsafe { &*context.cast::<Mutex<Collected>>() };
    let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
    if interface.is_null() {
        collected.refusals.push("added a null table".to_owned());
        return status::FAILED;
    }
    // SAFETY: not null; the plugin passes a table that lives while this runs, and every table starts
    // with its size.
    let size = unsafe { interface.cast::<u32>().read() };
    if (size as usize) < size_1_0::TABLE {
        collected.refusals.push(too_small("jf_interface", size, size_1_0::TABLE));
        return status::FAILED;
    }
    // SAFETY: the table is at least as long as that of ABI 1.0, which is all that is read of it.
    let table = unsafe { *interface };
    if table.call.is_none() {
        collected.refusals.push("added a table without `call`".to_owned());
        return status::FAILED;
    }
    let (Some(id), Some(description)) = (text(table.id), text(table.description)) else {
        collected.refusals.push("added a table with a text that is not UTF-8".to_owned());
        return status::FAILED;
    };
    let registration = Registration {
        id,
        description,
        binary: table.flags & TABLE_BINARY != 0,
        table,
        one_at_a_time: (table.flags & TABLE_ANY_THREAD == 0).then(|| Arc::clone(&collected.turn)),
    };
    collected.interfaces.push(registration);
    status::OK
}

fn too_small(table: &str, plugin: u32, host: usize) -> String {
    format!("gave a `{table}` of {plugin} bytes, this host wants {host}")
}

fn text(text: Str) -> Option<String> {
    // SAFETY: the plugin promises `len` readable bytes at `data` while it calls us.
    let bytes = unsafe { text.bytes() };
    String::from_utf8(bytes.to_vec()).ok()
}

/// A table of ours is a table of ABI 1.0. When it grows, `registry_add` must copy what is there.
const _: () = assert!(size_of::<Table>() == size_1_0::TABLE && size_of::<About>() == size_1_0::ABOUT);
