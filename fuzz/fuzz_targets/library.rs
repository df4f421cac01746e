//! The bytes of a file that wants to be a native plugin, before any of its code runs.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = jackfield::native::check_library(bytes);
});
