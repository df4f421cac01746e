//! A value that a plugin sent, in both encodings: what is read is written and read again as the same.

#![no_main]

use fixtures_api::zoo::Animal;
use jackfield_protocol::Encoding;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for encoding in [Encoding::Json, Encoding::Binary] {
        let Ok(animal) = encoding.decode::<Animal>(bytes) else { continue };
        let mut written = Vec::new();
        encoding.encode(&animal, &mut written).expect("what was read can be written");
        let again: Animal = encoding.decode(&written).expect("what was written can be read");
        // NaN is not equal to itself; its text is.
        assert_eq!(format!("{animal:?}"), format!("{again:?}"));
    }
});
