//! The exports and imports of the module.

#![expect(unsafe_code, reason = "the imports and exports of a WebAssembly module")]

/// What an Extism host lends: functions on its own memory, which nothing of ours can be hurt by.
pub(super) mod host {
    // SAFETY: the types are those of Extism's kernel. Each takes and gives numbers, and touches the
    // host's memory alone: a wrong number is the host's to refuse.
    #[link(wasm_import_module = "extism:host/env")]
    unsafe extern "C" {
        pub(in super::super) safe fn input_length() -> u64;
        pub(in super::super) safe fn input_load_u8(at: u64) -> u32;
        pub(in super::super) safe fn input_load_u64(at: u64) -> u64;
        pub(in super::super) safe fn alloc(len: u64) -> u64;
        pub(in super::super) safe fn store_u8(at: u64, byte: u32);
        pub(in super::super) safe fn store_u64(at: u64, word: u64);
        pub(in super::super) safe fn output_set(handle: u64, len: u64);
        pub(in super::super) safe fn error_set(handle: u64);
        pub(in super::super) safe fn log_error(handle: u64);
        pub(in super::super) safe fn log_warn(handle: u64);
        pub(in super::super) safe fn log_info(handle: u64);
        pub(in super::super) safe fn log_debug(handle: u64);
        pub(in super::super) safe fn log_trace(handle: u64);
    }
}

/// What a host of components has put into this module's memory.
pub(super) fn memory<'a>(at: u32, len: usize) -> &'a [u8] {
    let at = std::ptr::with_exposed_provenance(at as usize);
    // SAFETY: `at` and `len` come from the runtime of components, which has put that many bytes, and so
    // initialised them, where `jackfield_canonical_realloc` had room for them. That room is freed after
    // the last use of the slice: by `free` in `canonical_call`, once the arguments are copied.
    unsafe { std::slice::from_raw_parts(at, len) }
}

/// The exports that every plugin has. Used by `export!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __wasm_exports {
    ($export:ident) => {
        const _: () = {
            use $crate::wasm;

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_abi() -> i32 {
                wasm::ABI
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_about() -> u64 {
                wasm::about_block(&$export)
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_alloc(len: u32) -> u32 {
                wasm::room_for_arguments(len)
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_call(interface: u32, function: u32, encoding: u32, at: u32, len: u32) -> u64 {
                wasm::call(&$export, interface, function, encoding, at, len)
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_trace(trace_high: u64, trace_low: u64, span: u64, flags: u32) {
                wasm::trace(trace_high, trace_low, span, flags)
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_spans() -> u64 {
                wasm::spans()
            }

            #[allow(unsafe_code, clippy::too_many_arguments)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_canonical_call(
                interface: u32,
                function: u32,
                s0: u64,
                s1: u64,
                s2: u64,
                s3: u64,
                s4: u64,
                s5: u64,
                s6: u64,
                s7: u64,
                s8: u64,
                s9: u64,
                s10: u64,
                s11: u64,
                s12: u64,
                s13: u64,
                s14: u64,
                s15: u64,
            ) -> u64 {
                let slots = [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15];
                wasm::canonical_call(&$export, interface, function, &slots)
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_canonical_realloc(old: u32, old_size: u32, _align: u32, size: u32) -> u32 {
                wasm::realloc(old, old_size, size)
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_canonical_free() {
                wasm::free()
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_canonical_trace(at: u32, len: u32, home: u32) {
                wasm::canonical_trace(at, len, home)
            }

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn jackfield_canonical_spans() -> u32 {
                wasm::canonical_spans()
            }
        };
    };
}

/// The exports of one interface. Called by the macro that `#[interface]` leaves beside the trait.
#[doc(hidden)]
#[macro_export]
macro_rules! __wasm_functions {
    ([0 $export:ident] $($function:literal [$($plain:literal)?] $qualified:literal;)*) => {
        $($crate::__wasm_functions! { @ 0 $function $export $($plain)? $qualified })*
    };
    ([$interface:literal $export:ident] $($function:literal [$($plain:literal)?] $qualified:literal;)*) => {
        $($crate::__wasm_functions! { @ $interface $function $export $qualified })*
    };
    (@ $interface:literal $function:literal $export:ident $($name:literal)*) => {
        $(const _: () = {
            #[allow(unsafe_code)]
            #[unsafe(export_name = $name)]
            extern "C" fn call() -> i32 {
                $crate::wasm::call_extism(&$export, $interface, $function)
            }
        };)*
    };
}
