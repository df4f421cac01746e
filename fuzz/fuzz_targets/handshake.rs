//! The first line of a go-plugin program: what is accepted is written and read again as the same.

#![no_main]

use jackfield_grpc::handshake::Line;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let Ok(line) = Line::parse(line) else { return };
    assert_eq!(Line::parse(&line.to_string()), Ok(line.clone()), "{line}");
});
