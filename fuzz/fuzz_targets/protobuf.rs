//! Protobuf that a plugin sent: what is accepted is a value of its type, and is written and read again as
//! the same, in both of our encodings.

#![no_main]

use std::sync::LazyLock;

use fixtures_api::zoo::{Animal, Shape, Zoo};
use jackfield_protocol::Encoding;
use jackfield_protocol::call::Described;
use jackfield_protocol::protobuf::ProtoSchema;
use libfuzzer_sys::fuzz_target;

static ZOO: LazyLock<ProtoSchema> =
    LazyLock::new(|| ProtoSchema::new(<dyn Zoo>::interface().expect("an interface")).expect("a schema"));

const ECHO: usize = 0;
const DECIDE: usize = 3;
const FUNCTIONS: usize = 6;

fuzz_target!(|proto: &[u8]| {
    for function in 0..FUNCTIONS {
        let read = ZOO.arguments_to_binary(function, proto);
        assert_eq!(read.is_ok(), ZOO.arguments_to_json(function, proto).is_ok());
        if let Ok(binary) = read {
            let written = ZOO.arguments_to_proto(function, &binary).expect("what was read can be written");
            let again = ZOO.arguments_to_binary(function, &written);
            assert_eq!(again.as_ref(), Ok(&binary));
            let json = ZOO.arguments_to_json(function, proto).expect("read");
            let written = ZOO.json_arguments_to_proto(function, &json).expect("what was read can be written");
            assert_eq!(ZOO.arguments_to_json(function, &written), Ok(json));
            if function == ECHO {
                Encoding::Binary.decode::<Animal>(&binary).expect("what was accepted is an animal");
            }
        }
        let Ok((ok, binary)) = ZOO.answer_to_binary(function, proto) else { continue };
        let written = ZOO.answer_to_proto(function, ok, &binary).expect("what was read can be written");
        assert_eq!(ZOO.answer_to_binary(function, &written).as_ref(), Ok(&(ok, binary.clone())));
        if function == DECIDE && !ok {
            Encoding::Binary.decode::<Shape>(&binary).expect("what was accepted is a shape");
        }
    }
    // The same bytes as ours, on their way into protobuf.
    if let Ok(written) = ZOO.arguments_to_proto(ECHO, proto) {
        ZOO.arguments_to_binary(ECHO, &written).expect("what was written can be read");
    }
    if let Ok(written) = ZOO.json_arguments_to_proto(ECHO, proto) {
        ZOO.arguments_to_json(ECHO, &written).expect("what was written can be read");
    }
});
