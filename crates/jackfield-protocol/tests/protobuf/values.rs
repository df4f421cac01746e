//! Values there and back, and read by others.

#[path = "../../../../fixtures/api/arbitrary.rs"]
#[allow(dead_code, reason = "animals are compared as bytes here")]
mod arbitrary;

use std::sync::LazyLock;

use arbitrary::animals;
use fixtures_api::zoo::{Animal, Shape, Zoo};
use jackfield_protocol::call::Described;
use jackfield_protocol::protobuf::ProtoSchema;
use jackfield_protocol::{Encoding, Type};
use proptest::collection::vec;
use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};

use crate::{pool, schema};

static ZOO: LazyLock<ProtoSchema> = LazyLock::new(|| schema(<dyn Zoo>::interface().expect("an interface")));

/// What a compiler makes of the text.
static COMPILED: LazyLock<DescriptorPool> = LazyLock::new(|| pool(&ZOO));

const ECHO: usize = 0;
const JOIN: usize = 1;
const DECIDE: usize = 3;
const NOTHING: usize = 4;

fn encoded<T: Type>(encoding: Encoding, value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoding.encode(value, &mut bytes).expect("every value can be written");
    bytes
}

/// The arguments of `echo`, in JSON.
fn echo_json(animal: &Animal) -> Vec<u8> {
    [b"{\"animal\":", &*encoded(Encoding::Json, animal), b"}"].concat()
}

fn message(name: &str) -> MessageDescriptor {
    COMPILED.get_message_by_name(&format!("test.zoo.v1.{name}")).expect(name)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arguments_come_back_as_they_went(animal in animals()) {
        let (binary, json) = (encoded(Encoding::Binary, &animal), echo_json(&animal));
        let proto = ZOO.arguments_to_proto(ECHO, &binary).expect("written");
        prop_assert_eq!(ZOO.arguments_to_binary(ECHO, &proto), Ok(binary));
        prop_assert_eq!(ZOO.arguments_to_json(ECHO, &proto), Ok(json.clone()), "the same value in JSON");
        let proto = ZOO.json_arguments_to_proto(ECHO, &json).expect("written");
        prop_assert_eq!(ZOO.arguments_to_json(ECHO, &proto), Ok(json));
    }

    #[test]
    fn answers_come_back_as_they_went(animal in animals(), number: u64) {
        let (binary, json) = (encoded(Encoding::Binary, &animal), encoded(Encoding::Json, &animal));
        let proto = ZOO.answer_to_proto(ECHO, true, &binary).expect("written");
        prop_assert_eq!(ZOO.answer_to_binary(ECHO, &proto), Ok((true, binary)));
        prop_assert_eq!(ZOO.answer_to_json(ECHO, &proto), Ok((true, json)));
        // JSON has one NaN, and not those of other bits, which came back above.
        let shape = match animal.shape {
            Shape::Circle(radius) if radius.is_nan() => Shape::Circle(f64::NAN),
            shape => shape,
        };
        for verdict in [Ok(number), Err(shape)] {
            let ok = verdict.is_ok();
            let [binary, json] = [Encoding::Binary, Encoding::Json].map(|encoding| match &verdict {
                Ok(number) => encoded(encoding, number),
                Err(shape) => encoded(encoding, shape),
            });
            let proto = ZOO.answer_to_proto(DECIDE, ok, &binary).expect("written");
            prop_assert_eq!(&ZOO.json_answer_to_proto(DECIDE, ok, &json).expect("written"), &proto);
            prop_assert_eq!(ZOO.answer_to_binary(DECIDE, &proto), Ok((ok, binary)));
            prop_assert_eq!(ZOO.answer_to_json(DECIDE, &proto), Ok((ok, json)));
        }
    }

    /// Another implementation reads what we write, and we read what it writes of it.
    #[test]
    fn others_read_and_write_the_same(animal in animals()) {
        // That one takes minus zero for the zero that need not be written.
        let animal = Animal { f32: animal.f32 + 0.0, f64: animal.f64 + 0.0, ..animal };
        let binary = encoded(Encoding::Binary, &animal);
        let proto = ZOO.arguments_to_proto(ECHO, &binary).expect("written");
        let read = DynamicMessage::decode(message("EchoRequest"), &*proto).expect("what we write is protobuf");
        let written = read.encode_to_vec();
        prop_assert_eq!(ZOO.arguments_to_binary(ECHO, &written), Ok(binary));
        let Some(Value::Message(theirs)) = read.get_field_by_name("animal").map(|value| value.into_owned()) else {
            panic!("{read:?}");
        };
        prop_assert_eq!(theirs.unknown_fields().count(), 0);
        prop_assert_eq!(theirs.get_field_by_name("s8").expect("a field").as_i32(), Some(animal.s8.into()));
        prop_assert_eq!(theirs.get_field_by_name("letter").expect("a field").as_u32(), Some(animal.letter.into()));
        let photo = theirs.get_field_by_name("photo").expect("a field");
        prop_assert_eq!(photo.as_bytes().map(|bytes| &**bytes), Some(&*animal.photo));
        prop_assert_eq!(theirs.has_field_by_name("nick"), animal.nick.is_some());
        prop_assert_eq!(theirs.get_field_by_name("by_number").expect("a field").as_map().map(|map| map.len()), Some(animal.by_number.len()));
        let is_circle = matches!(animal.shape, Shape::Circle(_));
        let shape = theirs.get_field_by_name("shape").expect("a field");
        let shape = shape.as_message().map(|shape| shape.has_field_by_name("circle"));
        prop_assert_eq!(shape, Some(is_circle));
    }

    /// The order of fields is the sender's own.
    #[test]
    fn fields_come_in_any_order(animal in animals(), seed: u64) {
        let binary = encoded(Encoding::Binary, &animal);
        let proto = ZOO.answer_to_proto(ECHO, true, &binary).expect("written");
        let shuffled = shuffled(&proto, message("EchoResponse"), seed);
        prop_assert_eq!(ZOO.answer_to_binary(ECHO, &shuffled), Ok((true, binary)));
    }

    #[test]
    fn damaged_bytes_are_an_error_or_another_value(animal in animals(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let binary = encoded(Encoding::Binary, &animal);
        let proto = ZOO.arguments_to_proto(ECHO, &binary).expect("written");
        for whole in [&binary, &proto] {
            let mut bytes = whole.clone();
            let changed = at.index(bytes.len());
            bytes[changed] = byte;
            for bytes in [&bytes, &whole[..cut.index(whole.len())]] {
                if let Ok(read) = ZOO.arguments_to_binary(ECHO, bytes) {
                    Encoding::Binary.decode::<Animal>(&read).expect("what was accepted is an animal");
                    let again = ZOO.arguments_to_proto(ECHO, &read).expect("written");
                    prop_assert_eq!(ZOO.arguments_to_binary(ECHO, &again), Ok(read));
                }
                // More is written than is an animal: of a key that comes twice, protobuf's readers take the last.
                if let Ok(animal) = Encoding::Binary.decode::<Animal>(bytes) {
                    prop_assert!(ZOO.arguments_to_proto(ECHO, bytes).is_ok(), "{animal:?}");
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..300)) {
        for function in 0..8 {
            for read in [ZOO.arguments_to_binary(function, &bytes), ZOO.arguments_to_json(function, &bytes)] {
                prop_assert!(read.is_err() || function < 6);
            }
            let _ = (ZOO.answer_to_binary(function, &bytes), ZOO.answer_to_json(function, &bytes));
            let _ = (ZOO.arguments_to_proto(function, &bytes), ZOO.json_arguments_to_proto(function, &bytes));
            for ok in [true, false] {
                let _ = (ZOO.answer_to_proto(function, ok, &bytes), ZOO.json_answer_to_proto(function, ok, &bytes));
            }
        }
    }
}

/// The fields of a message and of those in it in another order, elements of lists apart.
fn shuffled(bytes: &[u8], of: MessageDescriptor, seed: u64) -> Vec<u8> {
    let mut parts: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let begin = rest;
        let tag = varint(&mut rest);
        let field = of.get_field((tag >> 3) as u32).expect("a field");
        let part = match tag & 7 {
            0 => {
                varint(&mut rest);
                begin[..begin.len() - rest.len()].to_vec()
            }
            2 => {
                let length = varint(&mut rest) as usize;
                let (content, after) = rest.split_at(length);
                rest = after;
                let content = match field.kind().as_message() {
                    Some(of) => shuffled(content, of.clone(), seed),
                    None => content.to_vec(),
                };
                [written_varint(tag), written_varint(content.len() as u64), content].concat()
            }
            kind => {
                rest = &rest[if kind == 1 { 8 } else { 4 }..];
                begin[..begin.len() - rest.len()].to_vec()
            }
        };
        // A field that nobody knows, too.
        parts.push((seed.rotate_left((tag >> 3) as u32).wrapping_mul(0x9e37_79b9_7f4a_7c15), part));
    }
    parts.push((seed, b"\xfa\x7f\x03abc".to_vec()));
    parts.sort_by_key(|(order, _)| *order);
    parts.into_iter().flat_map(|(_, part)| part).collect()
}

fn written_varint(value: u64) -> Vec<u8> {
    let length = (64 - value.leading_zeros()).div_ceil(7).max(1);
    let byte = |at: u32| (value >> (7 * at)) as u8 & 0x7f | if at + 1 < length { 0x80 } else { 0 };
    (0..length).map(byte).collect()
}

fn varint(rest: &mut &[u8]) -> u64 {
    let length = rest.iter().position(|byte| *byte < 0x80).expect("an end") + 1;
    let (bytes, after) = rest.split_at(length);
    *rest = after;
    bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

#[test]
fn nothing_is_an_empty_message() {
    assert_eq!(ZOO.answer_to_proto(NOTHING, true, b""), Ok(Vec::new()));
    assert_eq!(ZOO.json_answer_to_proto(NOTHING, true, b"null"), Ok(Vec::new()));
    assert_eq!(ZOO.answer_to_json(NOTHING, b"\x08\x01"), Ok((true, b"null".to_vec())));
    assert_eq!(ZOO.answer_to_binary(NOTHING, b""), Ok((true, Vec::new())));
    assert!(ZOO.answer_to_binary(NOTHING, b"\x08").is_err());
    assert!(ZOO.answer_to_proto(NOTHING, true, b"x").is_err());
    assert_eq!(ZOO.json_arguments_to_proto(NOTHING, b""), Ok(Vec::new()));
    let absent = ZOO.json_arguments_to_proto(JOIN, br#"{"left": "", "count": 0}"#).expect("written");
    assert_eq!(absent, b"", "what is zero or absent takes no room");
}
