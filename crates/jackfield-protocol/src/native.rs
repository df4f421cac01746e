//! `jackfield.h` in Rust: the tables that cross the border of a shared library.
//!
//! `crates/jackfield-plugin/include/jackfield.h` is the same for C, with the contract of each
//! function; a test compares the sizes and offsets of both. Every table starts with its `size` and
//! only ever grows at its end, so that either side may be the older one.

#![expect(unsafe_code, reason = "reads what a pointer and a length from the other side claim")]

use std::ffi::c_void;

/// Major version of the ABI. Different majors do not understand each other.
pub const ABI_MAJOR: u16 = 1;
/// Minor version of the ABI. A higher one has longer tables.
pub const ABI_MINOR: u16 = 1;

/// Exported function that a host calls once on each load: `jf_register_fn`.
pub const REGISTER_SYMBOL: &str = "jackfield_register";
/// Exported data that a host reads before it runs any code of the library: `jf_header`.
pub const HEADER_SYMBOL: &str = "jackfield_header";
/// First bytes of the header.
pub const HEADER_MAGIC: [u8; 8] = *b"JACKFLD\0";

/// `jf_str`: borrowed UTF-8, not terminated. Valid as long as the function it was passed to runs,
/// unless that function says otherwise.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Str {
    /// First byte; may be null when `len` is 0.
    pub data: *const u8,
    /// Length in bytes.
    pub len: usize,
}

impl Str {
    /// Nothing.
    pub const EMPTY: Str = Str { data: std::ptr::null(), len: 0 };

    /// Borrows `text` for as long as the other side may look at it.
    pub const fn of(text: &str) -> Self {
        Self { data: text.as_ptr(), len: text.len() }
    }

    /// The bytes it points to.
    ///
    /// # Safety
    /// `data` must be valid for reads of `len` bytes for the lifetime `'a`, or `len` must be 0.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.len == 0 || self.data.is_null() {
            return &[];
        }
        // SAFETY: not null, and the caller promises `len` readable bytes for `'a`.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// `jf_header`: what a library says of itself before any of its code runs. Fixed bytes, no
/// pointers, so that a host can read it from the file.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    /// [`HEADER_MAGIC`].
    pub magic: [u8; 8],
    /// `sizeof(jf_header)` where the library was built.
    pub size: u32,
    /// [`ABI_MAJOR`] there.
    pub abi_major: u16,
    /// [`ABI_MINOR`] there.
    pub abi_minor: u16,
    /// [`HEADER_PANIC_ABORT`] and bits to come.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// `x86_64-linux`, padded with NUL.
    pub target: [u8; 32],
    /// `jackfield-plugin/0.1.0`, padded with NUL.
    pub sdk: [u8; 32],
}

/// A panic of this library aborts the process: it was built with `panic = "abort"`.
pub const HEADER_PANIC_ABORT: u32 = 1;

impl Header {
    /// The header of a library that this crate is compiled into.
    pub const fn new(sdk: &str, panic_aborts: bool) -> Self {
        Self {
            magic: HEADER_MAGIC,
            size: size_of::<Header>() as u32,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            flags: if panic_aborts { HEADER_PANIC_ABORT } else { 0 },
            reserved: 0,
            target: padded(&[std::env::consts::ARCH, "-", std::env::consts::OS]),
            sdk: padded(&[sdk]),
        }
    }

    /// Reads a header from bytes of a file; none if they are too few or not one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..at + 2)?.first_chunk()?));
        let u32_at = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..at + 4)?.first_chunk()?));
        let magic: [u8; 8] = *bytes.first_chunk()?;
        let header = Self {
            magic,
            size: u32_at(8)?,
            abi_major: u16_at(12)?,
            abi_minor: u16_at(14)?,
            flags: u32_at(16)?,
            reserved: u32_at(20)?,
            target: *bytes.get(24..56)?.first_chunk()?,
            sdk: *bytes.get(56..88)?.first_chunk()?,
        };
        (magic == HEADER_MAGIC).then_some(header)
    }

    /// `x86_64-linux`.
    pub fn target(&self) -> String {
        unpadded(&self.target)
    }

    /// `jackfield-plugin/0.1.0`.
    pub fn sdk(&self) -> String {
        unpadded(&self.sdk)
    }
}

const fn padded(parts: &[&str]) -> [u8; 32] {
    let mut padded = [0; 32];
    let (mut part, mut at) = (0, 0);
    while part < parts.len() {
        let bytes = parts[part].as_bytes();
        let mut byte = 0;
        while byte < bytes.len() && at < 31 {
            padded[at] = bytes[byte];
            byte += 1;
            at += 1;
        }
        part += 1;
    }
    padded
}

fn unpadded(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// `jf_status`: how a call went, as an `int32_t`.
pub mod status {
    /// The sink holds the value.
    pub const OK: i32 = 0;
    /// The sink holds the plugin's own error.
    pub const OWN_ERROR: i32 = 1;
    /// No such function.
    pub const UNIMPLEMENTED: i32 = 2;
    /// Wrong arguments; the sink holds why, as UTF-8.
    pub const BAD_ARGUMENTS: i32 = 3;
    /// A panic was caught; the sink holds its message, as UTF-8.
    pub const PANICKED: i32 = 4;
    /// The sink would take no more.
    pub const ANSWER_TOO_LARGE: i32 = 5;
    /// Anything else; the sink holds why, as UTF-8.
    pub const FAILED: i32 = 6;
}

/// `jf_level`: how much a line of the log matters, as an `int32_t`: 0 error to 4 trace.
pub mod level {
    /// Something failed.
    pub const ERROR: i32 = 0;
    /// Something is odd.
    pub const WARN: i32 = 1;
    /// Something happened.
    pub const INFO: i32 = 2;
    /// For whoever looks for a mistake.
    pub const DEBUG: i32 = 3;
    /// Everything.
    pub const TRACE: i32 = 4;
}

/// `jf_host`: what a host lends to a library, for as long as the process lives.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Host {
    /// `sizeof(jf_host)` in the host.
    pub size: u32,
    /// The host's ABI.
    pub abi_major: u16,
    /// The host's ABI.
    pub abi_minor: u16,
    /// To be passed to the host's functions.
    pub context: *mut c_void,
    /// `[any-thread]` A line for the host's log; the text is copied.
    pub log: Option<unsafe extern "C" fn(context: *mut c_void, level: i32, message: Str)>,
    /// `[any-thread]` Since ABI 1.1: a span that is over, as the JSON of [`crate::span`], which is copied. To be called
    /// before the call ends that the span belongs to. Null where nobody wants spans.
    pub span: Option<unsafe extern "C" fn(context: *mut c_void, json: Str)>,
}

/// `jf_registry`: where a library adds what it is and what it offers, while `register` runs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Registry {
    /// `sizeof(jf_registry)` in the host.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// To be passed to the functions below.
    pub context: *mut c_void,
    /// `[register]` Says who the plugin is. The strings are copied. 0, or the host's refusal.
    pub about: Option<unsafe extern "C" fn(context: *mut c_void, about: *const About) -> i32>,
    /// `[register]` Adds an interface. The table and its texts are copied. 0, or refusal.
    pub add: Option<unsafe extern "C" fn(context: *mut c_void, interface: *const Table) -> i32>,
}

/// `jf_about`: who a plugin is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct About {
    /// `sizeof(jf_about)` in the library.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Name.
    pub name: Str,
    /// Semantic version.
    pub version: Str,
    /// Capabilities, joined by spaces: `batch@2 greeting@1`.
    pub capabilities: Str,
}

/// `jf_interface`: one interface of a plugin.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Table {
    /// `sizeof(jf_interface)` in the library.
    pub size: u32,
    /// [`TABLE_ANY_THREAD`], [`TABLE_BINARY`] and bits to come.
    pub flags: u32,
    /// `demo:greeter/greeter@1.0.0`.
    pub id: Str,
    /// The description as JSON, or empty.
    pub description: Str,
    /// To be passed to the functions below.
    pub state: *mut c_void,
    /// Makes a call; required. See `jackfield.h` for the contract.
    pub call: Option<unsafe extern "C" fn(state: *mut c_void, call: *const Call, sink: *const Sink) -> i32>,
    /// `[one-thread]` The last call is over and no other will come; may be null.
    pub stop: Option<unsafe extern "C" fn(state: *mut c_void)>,
}

/// `call` may run on any number of threads at once. Without it the host makes one call at a time.
pub const TABLE_ANY_THREAD: u32 = 1;
/// `call` understands the binary encoding.
pub const TABLE_BINARY: u32 = 2;

/// `jf_call`: one call, valid while it runs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Call {
    /// `sizeof(jf_call)` in the host.
    pub size: u32,
    /// 0 JSON, 1 binary: of the arguments, and of the answer.
    pub encoding: u32,
    /// Name of the function: `greet`.
    pub function: Str,
    /// Position of the function in the description; `UINT32_MAX` when there is none.
    pub index: u32,
    /// Zero.
    pub reserved: u32,
    /// The arguments, a record of the parameters.
    pub arguments: Str,
    /// Microseconds that are left for the call; `UINT64_MAX` when nobody counts.
    pub deadline_us: u64,
    /// W3C `traceparent`, or empty.
    pub traceparent: Str,
    /// Since ABI 1.1: W3C `tracestate`, or empty.
    pub tracestate: Str,
}

/// No position.
pub const NO_INDEX: u32 = u32::MAX;
/// No deadline.
pub const NO_DEADLINE: u64 = u64::MAX;

/// `jf_sink`: where an answer is written. It belongs to the host, so no allocator crosses the border.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sink {
    /// `sizeof(jf_sink)` in the host.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// To be passed to `write`.
    pub context: *mut c_void,
    /// `[thread of the call]` Appends a copy of the bytes. 0, or nonzero when the answer is too large.
    pub write: Option<unsafe extern "C" fn(context: *mut c_void, bytes: Str) -> i32>,
}

/// Sizes of the tables of ABI 1.0: the least that any library of ABI 1 has. They never change.
pub mod size_1_0 {
    use super::{About, Call, Host, Registry, Sink, Table};

    /// Of `jf_host`.
    pub const HOST: usize = std::mem::offset_of!(Host, log) + size_of::<usize>();
    /// Of `jf_registry`.
    pub const REGISTRY: usize = std::mem::offset_of!(Registry, add) + size_of::<usize>();
    /// Of `jf_about`.
    pub const ABOUT: usize = std::mem::offset_of!(About, capabilities) + 2 * size_of::<usize>();
    /// Of `jf_interface`.
    pub const TABLE: usize = std::mem::offset_of!(Table, stop) + size_of::<usize>();
    /// Of `jf_call`.
    pub const CALL: usize = std::mem::offset_of!(Call, traceparent) + 2 * size_of::<usize>();
    /// Of `jf_sink`.
    pub const SINK: usize = std::mem::offset_of!(Sink, write) + size_of::<usize>();
}

/// `jf_register_fn`.
pub type RegisterFn = unsafe extern "C" fn(host: *const Host, registry: *const Registry) -> i32;

// SAFETY: a table is data; the contract of each function pointer in it says which threads may call.
unsafe impl Send for Table {}
// SAFETY: as above; nothing in a table changes after `add`.
unsafe impl Sync for Table {}
