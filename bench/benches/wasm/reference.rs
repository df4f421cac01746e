//! The reference runtime of Extism, by its C interface: the peer, and in tests the oracle.
//!
//! `cargo xtask bench` fetches it (PyPI's `extism-sys`) and names the library in `JACKFIELD_LIBEXTISM`.

use std::error::Error;
use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::rc::Rc;

use libloading::Library;

type New = unsafe extern "C" fn(*const u8, u64, *const *const c_void, u64, bool, *mut *mut c_char) -> *mut c_void;
type Call = unsafe extern "C" fn(*mut c_void, *const c_char, *const u8, u64) -> i32;
type OutputLength = unsafe extern "C" fn(*mut c_void) -> u64;

/// A plugin in the reference runtime.
#[derive(Clone)]
pub(crate) struct Plugin(Rc<Loaded>);

struct Loaded {
    plugin: *mut c_void,
    call: Call,
    output_length: OutputLength,
    _library: Library,
}

impl Plugin {
    /// Loads the `.wasm` file in a directory; none where the runtime is not at hand.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, Box<dyn Error>> {
        let Some(library) = std::env::var_os("JACKFIELD_LIBEXTISM") else { return Ok(None) };
        let files = std::fs::read_dir(dir)?.filter_map(Result::ok).map(|file| file.path());
        let wasm = files.into_iter().find(|file| file.extension().is_some_and(|end| end == "wasm")).ok_or("no wasm")?;
        let wasm = std::fs::read(wasm)?;
        // SAFETY: the library is Extism's, whose initialisers are Rust's and Go's own.
        let library = unsafe { Library::new(library) }?;
        // SAFETY: the types are those of extism.h 1.x.
        let new = *unsafe { library.get::<New>(b"extism_plugin_new\0") }?;
        // SAFETY: as above.
        let call = *unsafe { library.get::<Call>(b"extism_plugin_call\0") }?;
        // SAFETY: as above.
        let output_length = *unsafe { library.get::<OutputLength>(b"extism_plugin_output_length\0") }?;
        let mut error = std::ptr::null_mut();
        // SAFETY: the bytes outlive the call, there are no host functions, and `error` is ours to fill.
        let plugin = unsafe { new(wasm.as_ptr(), wasm.len() as u64, std::ptr::null(), 0, true, &raw mut error) };
        if plugin.is_null() {
            return Err("the reference runtime would not load the plugin".into());
        }
        Ok(Some(Self(Rc::new(Loaded { plugin, call, output_length, _library: library }))))
    }

    /// Calls, and gives the length of the answer; none if it failed.
    pub(crate) fn call(&self, function: &str, input: &[u8]) -> Option<u64> {
        let function = CString::new(function).ok()?;
        // SAFETY: the plugin lives as long as `self`; name and input outlive the call; one thread has it.
        let code = unsafe { (self.0.call)(self.0.plugin, function.as_ptr(), input.as_ptr(), input.len() as u64) };
        // SAFETY: as above.
        let length = unsafe { (self.0.output_length)(self.0.plugin) };
        (code == 0).then_some(length)
    }
}
